"""Models leave one store in a bundle and come into another, whole or not at all."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from freehold.core.digest import Digest
from freehold.core.errors import BadInput, BadModelFile, Damaged, UnknownModel
from freehold.core.manifest import Lineage, Manifest, Part
from freehold.formats.bundle import index as indexes
from freehold.formats.bundle.index import Item, Model, blob_item
from freehold.formats.bundle.layout import PIECE
from freehold.formats.bundle.reading import Bundle
from freehold.formats.bundle.writing import write
from freehold.store import Store, bundles, signatures
from freehold.store.importing import import_folder, import_gguf
from tests.store.models import adapter, assert_whole, blob_count, bytes_of, folder, gguf, leftovers, name


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "other") as opened:
        yield opened


@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Store:
    """A GGUF with recipe, evidence, base and a signature; a folder; an adapter."""
    base = import_folder(store, folder(tmp_path / "base"), name("base"))
    recipe, data, proof = (store.add_bytes(text) for text in (b"[model]", b"private rows", b'{"facts": []}'))
    lineage = Lineage(base=base.digest, recipe=recipe, data=(data,))
    model = import_gguf(
        store, gguf(tmp_path / "m.gguf"), name("org/desk:v1"), lineage=lineage, evidence=[proof], licence="MIT"
    )
    signatures.add(store.folder, model.digest, [b"signature"])
    import_folder(store, adapter(tmp_path / "adapter"), name("adapter"))
    return store


def exported(store: Store, path: Path, *names: str, split: int = 0) -> Path:
    bundles.export(store, bundles.pack(store, [name(text) for text in names]), path, split=split)
    return path


def test_models_travel_with_all_that_belongs_to_them(filled: Store, other: Store, tmp_path: Path) -> None:
    path = exported(filled, tmp_path / "x.fhb", "org/desk:v1", "adapter", "adapter")
    with Bundle.open(path) as bundle:
        done = bundles.bring(other, bundle)
    assert [str(found) for found, _ in done.models] == ["adapter", "org/desk:v1"]
    assert done.moved == ()
    assert_whole(other)
    for text in ("org/desk:v1", "adapter"):
        assert other.get(name(text)) == filled.get(name(text))
        assert bytes_of(other, other.get(name(text))) == bytes_of(filled, filled.get(name(text)))
    model = other.get(name("org/desk:v1"))
    assert signatures.read(other.folder, model.digest) == [b"signature"]
    assert model.lineage.base is not None
    assert other.manifest(model.lineage.base) == filled.get(name("base"))
    assert model.lineage.recipe is not None
    assert other.path(model.lineage.recipe).read_bytes() == b"[model]"
    assert b"private rows" not in path.read_bytes()
    assert leftovers(other) == []


def test_a_bundle_of_a_store_is_always_the_same(filled: Store, other: Store, tmp_path: Path) -> None:
    first = exported(filled, tmp_path / "a.fhb", "org/desk:v1", "base").read_bytes()
    with Bundle.open(tmp_path / "a.fhb") as bundle:
        bundles.bring(other, bundle)
    assert exported(other, tmp_path / "b.fhb", "base", "org/desk:v1").read_bytes() == first


def test_a_second_import_copies_nothing(filled: Store, other: Store, tmp_path: Path) -> None:
    path = exported(filled, tmp_path / "x.fhb", "base", split=PIECE)
    for expected in (True, False):
        with Bundle.open(path) as bundle:
            assert (bundles.bring(other, bundle).added > 0) == expected
    assert_whole(other)


def test_dry_run_changes_nothing(filled: Store, other: Store, tmp_path: Path) -> None:
    path = exported(filled, tmp_path / "x.fhb", "base")
    with Bundle.open(path) as bundle:
        done = bundles.bring(other, bundle, dry_run=True)
    assert done.added > 0
    assert blob_count(other) == 0
    assert other.list() == []


def test_a_name_that_moves_is_told(filled: Store, other: Store, tmp_path: Path) -> None:
    import_gguf(other, gguf(tmp_path / "own.gguf", seed=9), name("base"))
    path = exported(filled, tmp_path / "x.fhb", "base")
    with Bundle.open(path) as bundle:
        assert bundles.bring(other, bundle).moved == (name("base"),)
    assert other.get(name("base")) == filled.get(name("base"))


def test_a_bad_bundle_leaves_the_store_empty(filled: Store, other: Store, tmp_path: Path) -> None:
    path = exported(filled, tmp_path / "x.fhb", "base")
    data = bytearray(path.read_bytes())
    for place in range(5000, len(data), len(data) // 7):
        bad = bytearray(data)
        bad[place] ^= 1
        path.write_bytes(bad)
        with pytest.raises(BadModelFile), Bundle.open(path) as bundle:
            bundles.bring(other, bundle)
        assert blob_count(other) == 0
        assert leftovers(other) == []
        assert not (other.folder / "signatures").exists()


class Stopping(Bundle):
    """A bundle during whose fourth file somebody presses Ctrl-C."""

    files, verified = 0, False

    def contents(self, item: Item) -> Iterator[bytes]:
        self.files += self.verified
        if self.files == 4:
            raise KeyboardInterrupt
        return super().contents(item)

    def verify(self, on_progress: Callable[[int, int], None] = lambda done, size: None) -> None:
        super().verify(on_progress)
        self.verified = True

    def manifest(self, model: Model) -> Manifest:
        with Bundle.open(self.path) as again:
            return again.manifest(model)


def test_an_interrupted_import_goes_on(filled: Store, other: Store, tmp_path: Path) -> None:
    path = exported(filled, tmp_path / "x.fhb", "base", "adapter")
    with Stopping.open(path) as bundle, pytest.raises(KeyboardInterrupt):
        bundles.bring(other, bundle)
    assert blob_count(other) == 3
    assert other.list() == []
    with Bundle.open(path) as bundle:
        assert bundles.bring(other, bundle).added < sum(item.size for item in bundle.index.items)
    assert_whole(other)


def test_what_cannot_be_packed(filled: Store, tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match="no model named 'nope'"):
        bundles.pack(filled, [name("nope")])
    with pytest.raises(BadInput, match="not a wheel"):
        bundles.pack(filled, [], [tmp_path / "m.gguf"])
    blob = filled.path(filled.get(name("org/desk:v1")).parts[0].digest)
    packing = bundles.pack(filled, [name("org/desk:v1")])
    blob.chmod(0o644)
    blob.write_bytes(b"x" * blob.stat().st_size)
    with pytest.raises(Damaged):
        bundles.export(filled, packing, tmp_path / "x.fhb")
    with pytest.raises(Damaged):
        bundles.pack(filled, [name("org/desk:v1")])
    assert not list(tmp_path.glob("x.fhb*"))


def test_streams_into_the_store(store: Store) -> None:
    digest = Digest.of_bytes(b"abcd")
    store.add_stream([b"ab", b"cd"], digest, 4)
    assert store.path(digest).read_bytes() == b"abcd"
    with pytest.raises(Damaged, match="came instead of"):
        store.add_stream([b"abcx"], digest, 4)
    for chunks in ([b"ab"], [b"abcde"], [b"a"] * 9):
        with pytest.raises(BadInput, match="instead of 4"):
            store.add_stream(chunks, digest, 4)
    assert blob_count(store) == 1
    assert leftovers(store) == []


def test_signatures_are_kept_once(store: Store) -> None:
    model = Manifest(parts=(Part("other", Digest.of_bytes(b""), 0, "x"),)).digest
    signatures.add(store.folder, model, [b"one", b"two"])
    signatures.add(store.folder, model, [b"one"])
    assert sorted(signatures.read(store.folder, model)) == [b"one", b"two"]
    assert signatures.read(store.folder, Digest.of_bytes(b"")) == []


@pytest.mark.parametrize("data", [b'{"parts":[],"licence":"\xff"}', b'{"parts":[],"x":' + b"[" * 100_000, b"", b"[]"])
def test_a_bundle_with_a_manifest_that_is_none_is_refused(store: Store, tmp_path: Path, data: bytes) -> None:
    digest = Digest.of_bytes(data)
    index = indexes.make([Model("a", digest.text)], [blob_item(digest, len(data))])
    write(index, lambda item: iter((data,)), tmp_path / "bad.fhb")
    with Bundle.open(tmp_path / "bad.fhb") as bundle, pytest.raises(BadModelFile, match=r"bad\.fhb: a: unreadable"):
        bundles.bring(store, bundle)
    assert (blob_count(store), leftovers(store)) == (0, [])
