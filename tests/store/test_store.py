import contextvars
import os
import shutil
import sqlite3
import stat
import subprocess
import sys

import pytest
from sqlalchemy import select

from freehold.core.digest import Digest
from freehold.core.errors import BadInput, Damaged, DiskFull, NotFound, UnknownModel, Unsupported
from freehold.core.manifest import Lineage, Manifest, Part
from freehold.store import Store
from freehold.store.check import prune
from freehold.store.tables import leases
from tests.store.models import assert_whole, blob_count, leftovers, name


def manifest_of(store, *contents, **more):
    parts = [Part("other", store.add_bytes(c), len(c), f"part{i}") for i, c in enumerate(contents)]
    return Manifest(parts=tuple(parts), **more)


def test_bytes_come_back(store):
    digest = store.add_bytes(b"weights")
    assert digest == Digest.of_bytes(b"weights")
    assert store.path(digest).read_bytes() == b"weights"
    assert store.path(digest).parent.name == digest.hex[:2]
    assert leftovers(store) == []


def test_a_file_is_copied(store, tmp_path):
    source = tmp_path / "file"
    source.write_bytes(b"x" * 3_000_000)
    digest, size = store.add_file(source)
    assert (digest, size) == (Digest.of_file(source), 3_000_000)
    source.write_bytes(b"changed later")
    assert store.path(digest).stat().st_size == 3_000_000
    assert store.path(digest).stat().st_mode & 0o222 == 0
    assert leftovers(store) == []


def test_a_file_is_moved(store, tmp_path):
    source = tmp_path / "file"
    source.write_bytes(b"content")
    inode = source.stat().st_ino
    digest, size = store.add_file(source, move=True)
    assert not source.exists()
    assert size == 7
    assert store.path(digest).stat().st_ino == inode
    source.write_bytes(b"content")
    assert store.add_file(source, move=True)[0] == digest
    assert not source.exists()
    assert store.path(digest).stat().st_nlink == 1


def test_a_file_with_a_second_name_is_copied_even_when_moved(store, tmp_path):
    source, other = tmp_path / "file", tmp_path / "other"
    source.write_bytes(b"content")
    os.link(source, other)
    digest, _ = store.add_file(source, move=True)
    assert not source.exists()
    other.write_bytes(b"CHANGED")
    assert store.path(digest).read_bytes() == b"content"


def test_an_empty_file(store, tmp_path):
    (tmp_path / "empty").touch()
    digest, size = store.add_file(tmp_path / "empty")
    assert size == 0
    assert store.path(digest).read_bytes() == b""


def test_what_is_no_file(store, tmp_path):
    with pytest.raises(NotFound):
        store.add_file(tmp_path / "none")
    with pytest.raises(BadInput):
        store.add_file(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadInput):
        store.add_file(tmp_path / "pipe")
    assert leftovers(store) == []


def test_a_link_to_a_file_is_followed(store, tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert store.path(store.add_file(tmp_path / "link")[0]).read_bytes() == b"content"
    store.add_file(tmp_path / "link", move=True)
    assert (tmp_path / "file").exists()


def test_unknown_content(store):
    with pytest.raises(NotFound):
        store.path(Digest.of_bytes(b"never seen"))


def change(path, data):
    path.chmod(0o644)
    path.write_bytes(data)


def test_changed_content_is_noticed_when_asked_for(store):
    digest = store.add_bytes(b"content")
    change(store.path(digest), b"CONTENT")
    with pytest.raises(Damaged, match="changed"):
        store.path(digest)
    change(store.blobs.path(digest), b"short")
    with pytest.raises(Damaged):
        store.path(digest)


def test_content_that_only_looks_changed_is_read_once_and_believed(store):
    digest = store.add_bytes(b"content")
    os.utime(store.path(digest), (1, 1))
    assert store.path(digest).read_bytes() == b"content"
    assert store.catalog.stamp(digest) == store.blobs.stamp(digest)


def test_lost_content_is_noticed_and_replaced_by_adding_it_again(store):
    digest = store.add_bytes(b"content")
    store.blobs.path(digest).unlink()
    with pytest.raises(Damaged, match="missing"):
        store.path(digest)
    store.add_bytes(b"content")
    assert store.path(digest).read_bytes() == b"content"


def test_damaged_content_is_repaired_by_adding_it_again(store):
    digest = store.add_bytes(b"content")
    change(store.path(digest), b"CONTENT")
    store.add_bytes(b"content")
    assert store.path(digest).read_bytes() == b"content"


def test_a_link_in_place_of_a_blob_is_refused(store, tmp_path):
    digest = store.add_bytes(b"content")
    shutil.copy(store.path(digest), tmp_path / "elsewhere")
    store.blobs.path(digest).unlink()
    store.blobs.path(digest).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Damaged, match="regular"):
        store.path(digest)


def test_content_without_a_catalog_row_is_read_before_it_is_believed(store):
    digest = Digest.of_bytes(b"content")
    store.blobs.path(digest).parent.mkdir()
    store.blobs.path(digest).write_bytes(b"content")
    assert store.path(digest).read_bytes() == b"content"


def test_models_by_name(store):
    first, second = manifest_of(store, b"one"), manifest_of(store, b"two", licence="MIT")
    assert store.put(name("b"), first) == first.digest
    store.put(name("a:v1"), second)
    store.put(name("org/a"), second)
    assert store.get(name("b")) == first
    assert store.resolve(name("b:latest")) == first.digest
    assert [str(e.name) for e in store.list()] == ["a:v1", "b", "org/a"]
    assert [e.manifest for e in store.list()] == [second, first, second]
    assert all(e.modified > 1_700_000_000 for e in store.list())
    store.put(name("b"), second)
    assert store.get(name("b")) == second
    store.remove(name("b"))
    assert [str(e.name) for e in store.list()] == ["a:v1", "org/a"]
    assert_whole(store)


def test_an_unknown_model_suggests_the_nearest(store):
    with pytest.raises(UnknownModel, match="helpdesk") as caught:
        store.get(name("helpdesk"))
    assert "empty" in caught.value.remedy
    store.put(name("helpdesk"), manifest_of(store, b"x"))
    with pytest.raises(UnknownModel) as caught:
        store.get(name("helpdsk"))
    assert "Did you mean helpdesk?" in caught.value.remedy
    with pytest.raises(UnknownModel) as caught:
        store.remove(name("zzz"))
    assert "There are: helpdesk" in caught.value.remedy


def test_a_manifest_needs_its_parts_and_evidence(store):
    absent = Digest.of_bytes(b"absent")
    with pytest.raises(NotFound):
        store.put(name("a"), Manifest(parts=(Part("other", absent, 6, "x"),)))
    with pytest.raises(NotFound):
        store.put(name("a"), manifest_of(store, b"x", evidence=(absent,)))
    store.put(name("a"), manifest_of(store, b"x", lineage=Lineage(data=(absent,), base=absent)))
    assert [str(e.name) for e in store.list()] == ["a"]


def test_a_manifest_that_cannot_be_read_names_the_model(store):
    store.put(name("a"), manifest_of(store, b"x"))
    change(store.path(store.resolve(name("a"))), b"{}")
    with pytest.raises(Damaged, match="model a") as caught:
        store.list()
    assert "freehold rm a" in caught.value.remedy
    with pytest.raises(Damaged):
        store.get(name("a"))
    store.remove(name("a"))
    assert store.list() == []


def test_opened_again(store):
    manifest = manifest_of(store, b"one")
    store.put(name("a"), manifest)
    store.close()
    with Store.open(store.folder) as again:
        assert again.get(name("a")) == manifest
        assert_whole(again)


def test_only_the_owner_may_look(store):
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises((BadInput, NotADirectoryError)):
        Store.open(tmp_path / "file" / "store")


def test_a_catalog_from_the_future(store):
    with sqlite3.connect(store.catalog.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(Unsupported, match="newer"):
        Store.open(store.folder)


def test_a_catalog_that_is_none(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "catalog.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(Damaged, match="catalog"):
        Store.open(tmp_path / "store")


def test_the_catalog_is_as_durable_as_it_says(store):
    with store.catalog.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "delete"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 3


def test_no_room_is_found_before_anything_is_written(store, tmp_path):
    source = tmp_path / "sparse"
    with source.open("wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(DiskFull, match="TB needed") as caught:
        store.add_file(source)
    assert caught.value.remedy
    assert leftovers(store) == []
    store.add_bytes(b"still works")


def test_steps_are_remembered(store):
    digest = store.add_bytes(b"output")
    assert store.runs.recall_step("k") is None
    store.runs.remember_step("k", b'{"loss": 1}', [digest])
    assert store.runs.recall_step("k") == b'{"loss": 1}'
    store.runs.remember_step("k", b"2")
    assert store.runs.recall_step("k") == b"2"
    assert store.runs.forget("k")
    assert not store.runs.forget("k")
    assert store.runs.recall_step("k") is None


def test_a_step_keeps_what_it_refers_to(store):
    digest = store.add_bytes(b"output")
    store.runs.remember_step("k", b"1", [digest])
    prune(store)
    assert store.path(digest).read_bytes() == b"output"
    store.runs.forget("k")
    prune(store)
    assert blob_count(store) == 0


def test_a_step_whose_output_is_lost_has_to_be_done_again(store):
    digest = store.add_bytes(b"output")
    store.runs.remember_step("k", b"1", [digest])
    store.blobs.path(digest).unlink()
    assert store.runs.recall_step("k") is None
    with pytest.raises(NotFound):
        store.runs.remember_step("j", b"1", [Digest.of_bytes(b"absent")])


def test_nothing_heavy_is_loaded_before_a_store_is_opened():
    script = (
        "import sys, freehold.store, freehold.store.importing, freehold.store.check; print('sqlalchemy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"


def test_an_open_store_takes_little_memory(tmp_path):
    script = (
        "import sys; from pathlib import Path; from freehold.store import Store\n"
        "Store.open(Path(sys.argv[1])).list()\n"
        # Not getrusage: its peak is inherited from the process that started this one.
        "peak = Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0]\n"
        "print('numpy' in sys.modules, 'gguf' in sys.modules, peak)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "s")], capture_output=True, text=True)
    numpy, package, kilobytes = done.stdout.split()
    assert (numpy, package) == ("False", "False")
    assert int(kilobytes) < 80_000


def test_a_lease_that_ends_in_another_context_ends(store):
    def holders():
        with store.catalog.reading() as connection:
            return set(connection.execute(select(leases.c.holder)).scalars())

    digest = store.add_bytes(b"data")
    before = holders()
    lease = store.lease(digest)
    contextvars.copy_context().run(lease.__enter__)
    assert len(holders() - before) == 1
    lease.__exit__(None, None, None)
    assert holders() == before
