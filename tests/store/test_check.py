import os
import subprocess
import sys

import pytest

from freehold.core.digest import Digest
from freehold.core.errors import Damaged
from freehold.core.manifest import Lineage, Manifest, Part
from freehold.store import Store
from freehold.store.check import Finding, fsck, prune
from freehold.store.processes import alive, birth, me
from tests.store.models import assert_whole, blob_count, leftovers, name


def part(store, content):
    return Part("other", store.add_bytes(content), len(content), "part")


@pytest.fixture
def model(store):
    made = Manifest(parts=(part(store, b"weights"),), evidence=(store.add_bytes(b"proof"),))
    store.put(name("model"), made)
    return made


def spoil(store, digest, data):
    path = store.blobs.path(digest)
    path.chmod(0o644)
    path.write_bytes(data)
    return path


def test_a_clean_store(store, model):
    assert fsck(store) == fsck(store, deep=True) == []


def test_an_empty_store(store):
    assert fsck(store) == []
    assert prune(store).size == 0


def test_a_missing_part(store, model):
    store.blobs.path(model.parts[0].digest).unlink()
    found = fsck(store)
    assert [(f.kind, f.subject) for f in found] == [("missing", "model")]
    assert "part" in found[0].detail


def test_a_missing_proof_and_manifest(store, model):
    store.blobs.path(model.evidence[0]).unlink()
    assert [(f.kind, f.subject) for f in fsck(store)] == [("missing", "model")]
    store.blobs.path(model.digest).unlink()
    assert [(f.kind, f.subject) for f in fsck(store)] == [("missing", "model")]


def test_changed_content(store, model):
    spoil(store, model.parts[0].digest, b"WEIGHTS")
    found = fsck(store)
    assert [(f.kind, f.subject) for f in found] == [("damaged", str(model.parts[0].digest)), ("damaged", "model")]


def test_a_changed_manifest(store, model):
    spoil(store, model.digest, b"{}")
    assert ("damaged", "model") in [(f.kind, f.subject) for f in fsck(store)]


def test_silent_change_is_found_by_reading_everything(store, model):
    """Same size, time and inode: what a bad disk does."""
    path = store.blobs.path(model.parts[0].digest)
    times = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(b"W")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert fsck(store) == []
    assert ("damaged", "model") in [(f.kind, f.subject) for f in fsck(store, deep=True)]


def test_files_that_do_not_belong(store, model):
    stray = store.blobs.root / "ab" / "notes.txt"
    stray.parent.mkdir(exist_ok=True)
    stray.write_text("x")
    misplaced = store.blobs.root / "ab" / ("cd" * 32)
    misplaced.write_text("x")
    link = store.blobs.root / "zz"
    link.symlink_to("/etc")
    assert {(f.kind, f.subject) for f in fsck(store)} == {("foreign", str(p)) for p in (stray, misplaced, link)}


def test_a_step_without_its_blob(store):
    digest = store.add_bytes(b"output")
    store.runs.remember_step("key", b"1", [digest])
    assert fsck(store) == []
    store.blobs.path(digest).unlink()
    assert fsck(store) == [Finding("missing", "step key", f"blob {digest.short} is not in the store")]


def test_a_damaged_catalog(store, model):
    data = bytearray(store.catalog.path.read_bytes())
    for page in range(4096, len(data), 4096):
        data[page : page + 100] = b"\xff" * 100
    store.catalog.path.write_bytes(data)
    found = fsck(store)
    assert [(f.kind, f.subject) for f in found] == [("catalog", str(store.catalog.path))]
    with pytest.raises(Damaged, match="catalog"):
        store.list()


def test_garbage_is_not_damage_and_can_be_pruned(store, model):
    with store.lease():
        store.add_bytes(b"garbage")
    (store.blobs.incoming / "1234567890-99-0123456789abcdef.part").write_bytes(b"half")
    assert fsck(store, deep=True) == []
    count = blob_count(store)
    planned = prune(store, dry_run=True)
    assert blob_count(store) == count
    assert len(leftovers(store)) == 1
    done = prune(store)
    assert done == planned
    assert done.blobs == (Digest.of_bytes(b"garbage"),)
    assert done.temporary == 1
    assert done.size == len(b"garbage") + len(b"half")
    assert leftovers(store) == []
    assert prune(store).blobs == ()
    assert_whole(store)


def test_removed_models_are_pruned_but_not_what_others_share(store, model):
    other = Manifest(parts=(model.parts[0], part(store, b"more")))
    store.put(name("other"), other)
    store.remove(name("model"))
    assert set(prune(store).blobs) == {model.digest, model.evidence[0]}
    assert_whole(store)
    store.remove(name("other"))
    prune(store)
    assert blob_count(store) == 0


def test_lineage_is_kept(store):
    with store.lease():
        base = Manifest(parts=(part(store, b"base"),))
        store.put(name("base"), base)
        recipe, data, unused = (store.add_bytes(b) for b in (b"recipe", b"data", b"unused"))
        lineage = Lineage(base=base.digest, recipe=recipe, data=(data, Digest.of_bytes(b"never stored")))
        store.put(name("tuned"), Manifest(parts=(part(store, b"tuned"),), lineage=lineage))
    store.remove(name("base"))
    assert set(prune(store).blobs) == {unused, base.parts[0].digest}
    assert store.manifest(base.digest) == base
    assert_whole(store)


def test_what_was_added_outside_a_lease_is_kept_until_the_store_is_closed(store):
    digest = store.add_bytes(b"x")
    assert prune(store).blobs == ()
    store.close()
    assert prune(store).blobs == (digest,)


def test_a_name_ends_the_hold_on_what_was_added(store, model):
    store.remove(name("model"))
    prune(store)
    assert blob_count(store) == 0


def test_a_lease_keeps_a_removed_model_whole(store, model):
    with store.lease(model.digest):
        store.remove(name("model"))
        assert prune(store).blobs == ()
        assert store.path(model.parts[0].digest)
    assert len(prune(store).blobs) == 3


def test_leases_nest_and_threads_have_their_own(store):
    with store.lease():
        inner = None
        with store.lease():
            inner = store.add_bytes(b"inner")
        outer = store.add_bytes(b"outer")
        assert prune(store).blobs == (inner,)
        assert store.path(outer)


def test_a_lease_on_what_is_not_there(store):
    with store.lease(Digest.of_bytes(b"absent")):
        assert prune(store).blobs == ()


def test_the_lease_of_another_process_counts_while_it_lives(store, tmp_path):
    digest = store.add_bytes(b"x")
    store.close()
    script = (
        "import sys; from pathlib import Path\n"
        "from freehold.store import Store; from freehold.core.digest import Digest\n"
        "with Store.open(Path(sys.argv[1])).lease(Digest.parse(sys.argv[2])):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(store.folder), str(digest)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"held\n"
        assert prune(store).blobs == ()
        child.kill()
        child.wait()
        assert prune(store).blobs == (digest,)
    with store.catalog.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM leases").scalar_one() == 0


def test_nothing_is_pruned_when_a_manifest_cannot_be_read(store, model):
    store.close()
    with store.lease():
        store.add_bytes(b"garbage")
    spoil(store, model.digest, b"{}")
    count = blob_count(store)
    with pytest.raises(Damaged, match="nothing was pruned"):
        prune(store)
    store.blobs.path(model.digest).unlink()
    with pytest.raises(Damaged, match="nothing was pruned"):
        prune(store)
    assert blob_count(store) == count - 1
    store.remove(name("model"))
    prune(store)
    assert blob_count(store) == 0


def test_the_temporary_file_of_a_living_process_stays(store):
    pid, born = me()
    mine = store.blobs.incoming / f"{pid}-{born}-0123456789abcdef.part"
    other = store.blobs.incoming / f"{pid}-{int(born) - 1}-0123456789abcdef.part"
    unknown = store.blobs.incoming / "something"
    for path in (mine, other, unknown):
        path.touch()
    assert prune(store).temporary == 1
    assert sorted(leftovers(store)) == sorted([mine, unknown])


def test_processes_are_told_apart():
    pid, born = me()
    assert alive(pid, born)
    assert not alive(pid, "1")
    assert not alive(pid, "")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        theirs = birth(child.pid)
        assert alive(child.pid, theirs)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not alive(child.pid, theirs), "a zombie holds nothing"
        child.wait()
    assert not alive(child.pid, theirs)


def test_fsck_of_a_store_that_another_object_uses(store, model):
    with Store.open(store.folder) as other:
        assert fsck(other, deep=True) == []


def put_in_place(kind, path):
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"lost link": "nowhere", "link to a device": "/dev/full"}[kind])


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("kind", ["folder", "pipe", "lost link", "link to a device"])
@pytest.mark.parametrize("which", ["part", "evidence", "manifest", "step"])
def test_what_is_no_file_in_a_blobs_place_is_damage(store, model, which, kind, deep):
    """It is there, so it is not missing; and nobody waits for a pipe or reads a device to its end."""
    output = store.add_bytes(b"output")
    store.runs.remember_step("key", b"1", [output])
    digests = {"part": model.parts[0].digest, "evidence": model.evidence[0], "manifest": model.digest, "step": output}
    put_in_place(kind, store.blobs.path(digests[which]))
    found = fsck(store, deep=deep)
    assert {finding.kind for finding in found} == {"damaged"}
    assert all("not a regular file" in finding.detail for finding in found)
    named = {finding.subject for finding in found}
    assert named & {str(digests[which]), "step key" if which == "step" else "model"}
    assert kind == "folder" or str(digests[which]) in named


@pytest.mark.parametrize("kind", ["folder", "pipe", "lost link", "link to a device"])
def test_nothing_is_pruned_when_something_else_has_a_manifests_name(store, model, kind):
    with store.lease():
        store.add_bytes(b"garbage")
    path = store.blobs.path(model.digest)
    data = path.read_bytes()
    put_in_place(kind, path)
    with pytest.raises(Damaged, match=r"nothing was pruned: .* is not a regular file"):
        prune(store)
    path.rmdir() if kind == "folder" else path.unlink()
    path.write_bytes(data)
    assert prune(store).blobs == (Digest.of_bytes(b"garbage"),)
    assert_whole(store)


def test_a_chain_of_bases_is_kept_as_documents_and_a_circle_ends(store):
    """Of a model's ancestors the manifests stay; one that is named as its own ancestor is looked at once."""
    base = None
    for number in range(4):
        base = Manifest(parts=(part(store, b"%d" % number),), lineage=Lineage(base=base))
        store.put(name(f"m{number}"), base)
        base = base.digest
    for number in range(3):
        store.remove(name(f"m{number}"))
    assert {store.blobs.path(digest).name for digest in prune(store).blobs} == {
        Digest.of_bytes(b"%d" % number).hex for number in range(3)
    }
    found = store.get(name("m3"))
    for _ in range(3):
        found = store.manifest(found.lineage.base)
    assert found.lineage.base is None
    assert prune(store).blobs == ()


def test_a_base_that_is_lost_or_spoilt_keeps_nothing_else_from_being_pruned(store):
    base = Manifest(parts=(part(store, b"base"),))
    store.put(name("base"), base)
    store.put(name("made"), Manifest(parts=(part(store, b"made"),), lineage=Lineage(base=base.digest)))
    store.remove(name("base"))
    store.blobs.path(base.digest).unlink()
    assert prune(store).blobs == (base.parts[0].digest,)
    assert fsck(store) == []


def test_a_catalog_that_is_gone_while_the_store_is_open(store, model):
    store.catalog.path.write_bytes(b"not a database at all" * 300)
    (found,) = fsck(store)
    assert (found.kind, found.subject) == ("catalog", str(store.catalog.path))
