"""Mending damaged and missing blobs from other tools' stores, from files a person names, and from healers given."""

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from freehold.core.digest import Digest
from freehold.core.errors import Damaged, NotFound, SourceFailed
from freehold.core.reference import parse
from freehold.core.settings import Settings
from freehold.formats.bundle.layout import PIECE
from freehold.store import Store, pulling
from freehold.store.adopting import adopt
from freehold.store.bundles import export, pack
from freehold.store.check import fsck
from freehold.store.healers import Bundles, Given, Origins, OtherTools
from freehold.store.importing import import_folder, import_gguf
from freehold.store.neighbours import lookup
from freehold.store.outbound import Outbound
from freehold.store.repair import Wanted, broken, repair
from tests.store import models
from tests.store import neighbour_folders as make
from tests.store.models import assert_whole, name
from tests.store.servers import Repo, registry, serving


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return make.user(tmp_path, monkeypatch)


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    return models.gguf(tmp_path / "elsewhere" / "tiny.gguf")


def spoil(path: Path, *, quietly: bool = False) -> None:
    """Change a byte; quietly as a disk does, without a trace in size and times."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.chmod(0o600)
    path.write_bytes(data)
    if quietly:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def blob(store: Store, model: str) -> Path:
    return store.blobs.path(store.get(name(model)).parts[0].digest)


def test_from_a_file_that_a_person_names(store: Store, user: Path, gguf: Path, tmp_path: Path):
    import_gguf(store, gguf, name("tiny"))
    spoil(blob(store, "tiny"))
    assert {finding.kind for finding in fsck(store)} == {"damaged"}
    decoy = tmp_path / "decoy.gguf"
    decoy.write_bytes(bytes(gguf.stat().st_size))
    assert repair(store, [Given([decoy])]) == []
    assert fsck(store) != []
    (done,) = repair(store, [Given([decoy]), Given([gguf.parent])])
    assert (done.model, done.origin) == ("tiny", str(gguf))
    assert_whole(store)
    assert gguf.exists()


def test_from_another_tool(store: Store, user: Path, gguf: Path):
    import_gguf(store, gguf, name("tiny"))
    blob(store, "tiny").unlink()
    make.ollama(user / ".ollama" / "models", gguf.read_bytes())
    assert {finding.kind for finding in fsck(store)} == {"missing"}
    (done,) = repair(store, [OtherTools()])
    assert "sha256-" in done.origin
    assert_whole(store)


def test_what_was_adopted_is_not_mended_from_the_same_damaged_file(store: Store, user: Path, gguf: Path):
    studio = make.lmstudio(user / ".lmstudio", gguf)
    adopt(store, lookup("lmstudio::acme"))
    spoil(studio)
    assert repair(store, [OtherTools()]) == []
    assert fsck(store) != []
    assert len(repair(store, [OtherTools(), Given([gguf])])) == 1
    assert_whole(store)


def test_decay_that_leaves_no_trace_is_found_by_reading_and_stays_found(store: Store, user: Path, gguf: Path):
    import_gguf(store, gguf, name("tiny"))
    spoil(blob(store, "tiny"), quietly=True)
    assert fsck(store) == [], "size and times are as they were"
    assert fsck(store, deep=True) != []
    assert fsck(store) != [], "what was found is not forgotten"
    with pytest.raises(Damaged):
        store.path(store.get(name("tiny")).parts[0].digest)
    assert len(repair(store, [Given([gguf])])) == 1
    assert fsck(store, deep=True) == []


def test_parts_and_manifests_are_mended_from_a_copy_of_the_store(store: Store, user: Path, tmp_path: Path):
    import_folder(store, models.folder(tmp_path / "model"), name("tiny"))
    copy = tmp_path / "copy"
    copy.mkdir()
    for path, digest in list(store.blobs.files()):
        assert digest is not None
        (copy / f"sha256-{digest.hex}").write_bytes(path.read_bytes())
    weights = store.get(name("tiny")).part("weights")
    assert weights is not None
    spoil(store.blobs.path(weights.digest))
    assert [each.digest for each in repair(store, [Given([copy])])] == [weights.digest]
    spoil(store.blobs.path(store.resolve(name("tiny"))))
    assert [each.digest for each in repair(store, [Given([copy])])] == [store.resolve(name("tiny"))]
    assert_whole(store)


def test_a_healer_of_any_kind_is_not_trusted(store: Store, user: Path, gguf: Path, tmp_path: Path):
    import_gguf(store, gguf, name("tiny"))
    blob(store, "tiny").unlink()
    asked: list[Wanted] = []
    closed: list[bool] = []

    class Downloads:
        def offer(self, wanted: Wanted) -> Generator[Path, None, None]:
            asked.append(wanted)
            try:
                (tmp_path / "got").write_bytes(b"wrong")
                yield tmp_path / "got"
                (tmp_path / "got").write_bytes(gguf.read_bytes())
                yield tmp_path / "got"
                raise AssertionError("asked for more than it needs")
            finally:
                closed.append(True)

    assert len(repair(store, [Downloads()])) == 1
    assert (asked[0].digest, asked[0].size, asked[0].filename) == (
        Digest.of_file(gguf),
        gguf.stat().st_size,
        "tiny.gguf",
    )
    assert closed == [True]
    assert_whole(store)


def test_only_what_models_need_is_asked_for(store: Store, user: Path, gguf: Path):
    import_gguf(store, gguf, name("tiny"))
    assert broken(store) == []
    assert repair(store, [Given([gguf])]) == []
    with pytest.raises(NotFound, match="no such file or folder"):
        Given([gguf.parent / "nothing"])


def test_from_a_bundle_in_parts(store: Store, user: Path, tmp_path: Path):
    gguf = models.gguf(tmp_path / "large.gguf", size=2 * PIECE)
    manifest = import_gguf(store, gguf, name("tiny"))
    gguf.unlink()
    (tmp_path / "out").mkdir()
    files = export(store, pack(store, [name("tiny")]), tmp_path / "out" / "tiny.fhb", split=PIECE)
    assert len(files) > 1
    spoil(blob(store, "tiny"))
    store.blobs.path(manifest.digest).unlink()
    done = repair(store, [Bundles([tmp_path / "out"], store.folder)])
    assert len(done) == 2
    assert_whole(store)
    assert not list(store.folder.glob("mend-*"))
    spoil(blob(store, "tiny"))
    with files[0].open("r+b") as file:
        file.write(b"x")
    assert repair(store, [Bundles([tmp_path / "out"], store.folder)]) == []


@pytest.mark.parametrize("place", ["hub", "registry", "address"])
def test_from_where_it_was_pulled(
    store: Store, user: Path, gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
):
    data = gguf.read_bytes()
    with serving() as site, Outbound(Settings(home=tmp_path), stall=5.0, patience=0.01) as outbound:
        monkeypatch.setenv("HF_ENDPOINT", site.url)
        site.repos["org/tiny"] = Repo({"tiny-Q8_0.gguf": data})
        registry(site, "library/tiny", "1b", {"model": data})
        text = {
            "hub": "hf://org/tiny",
            "registry": f"ollama://{site.url.removeprefix('http://')}/library/tiny:1b",
            "address": site.add("/tiny.gguf", data),
        }[place]
        pulling.take(store, outbound, pulling.look(parse(text), outbound), name("tiny"))
        spoil(blob(store, "tiny"))
        assert repair(store, [Origins(store, Outbound(Settings(home=tmp_path, offline=True)))]) == []
        (done,) = repair(store, [Origins(store, outbound)])
        assert done.digest == Digest.of_bytes(data)
        assert_whole(store)
        spoil(blob(store, "tiny"))
        site.files.clear()
        site.repos.clear()
        said: list[str] = []
        assert repair(store, [Origins(store, outbound, said.append)]) == []
        assert len(said) == 1


def test_a_registry_that_has_another_manifest_under_a_digest(store: Store, gguf: Path, tmp_path: Path):
    with serving() as site, Outbound(Settings(home=tmp_path), stall=5.0, patience=0.01) as outbound:
        registry(site, "library/tiny", "1b", {"model": gguf.read_bytes()})
        pinned = f"sha256:{'0' * 64}"
        site.add(f"/v2/library/tiny/manifests/{pinned}", site.files["/v2/library/tiny/manifests/1b"])
        place = site.url.removeprefix("http://")
        with pytest.raises(SourceFailed, match="another manifest"):
            pulling.look(parse(f"ollama://{place}/library/tiny:1b@{pinned}"), outbound)
