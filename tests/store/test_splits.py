"""Models in several files: which names belong together, and what is wrong with those that do not."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.digest import Digest
from freehold.core.errors import BadModelFile, NotFound, Unsupported
from freehold.core.manifest import Manifest, Part
from freehold.store import Store, splits
from freehold.store.importing import import_gguf
from tests.formats.ggufs import Raw
from tests.store.models import gguf, name, split_model


@pytest.mark.parametrize(
    ("filename", "place", "base"),
    [
        ("m-00001-of-00003.gguf", (1, 3), "m"),
        ("m-00003-OF-00003.GGUF", (3, 3), "m"),
        ("m-00001-of-00002-00001-of-00003.gguf", (1, 3), "m-00001-of-00002"),
        ("m-00001-of-00001.gguf", (1, 1), "m"),
        ("m-00004-of-00003.gguf", (1, 1), "m"),
        ("m-00000-of-00003.gguf", (1, 1), "m"),
        ("m-00000-of-00000.gguf", (1, 1), "m"),
        ("m-1-of-3.gguf", (1, 1), "m-1-of-3"),
        ("m-000001-of-00003.gguf", (1, 1), "m-000001-of-00003"),
        ("m-٠٠٠٠١-of-٠٠٠٠٣.gguf", (1, 1), "m-٠٠٠٠١-of-٠٠٠٠٣"),
        ("-00001-of-00003.gguf", (1, 1), "-00001-of-00003"),
        ("m-00001-of-00003.safetensors", (1, 1), "m-00001-of-00003.safetensors"),
        ("m.gguf.gguf", (1, 1), "m.gguf"),
        ("", (1, 1), ""),
    ],
)
def test_what_a_name_says(filename: str, place: tuple[int, int], base: str):
    assert splits.place(filename) == place
    assert splits.base(filename) == base
    assert filename in splits.siblings(filename)
    assert len(splits.siblings(filename)) == place[1]


@given(st.integers(1, 40), st.data(), st.sampled_from(["gguf", "GGUF", "Gguf"]), st.sampled_from(["of", "OF"]))
def test_all_parts_know_each_other(count: int, data: st.DataObject, ending: str, of: str):
    number = data.draw(st.integers(1, count))
    names = [f"m-{n:05d}-{of}-{count:05d}.{ending}" for n in range(1, count + 1)]
    assert splits.siblings(names[number - 1]) == names


def test_too_many_parts_are_refused_before_anything_is_looked_for(tmp_path: Path):
    assert len(splits.siblings("m-00001-of-00512.gguf")) == 512
    for count in (513, 99_999):
        with pytest.raises(Unsupported, match="more than 512 parts"):
            splits.files(tmp_path / f"m-00001-of-{count:05d}.gguf")


@pytest.mark.parametrize("ending", ["gguf", "GGUF"])
def test_the_parts_of_a_model_on_the_disk(tmp_path: Path, ending: str):
    parts = [part.rename(part.with_suffix(f".{ending}")) for part in split_model(tmp_path / "parts")]
    for part in parts:
        assert splits.files(part) == parts
    assert splits.check(parts, parts).parameters == 3 * 64
    parts[1].unlink()
    with pytest.raises(NotFound, match=f"00002-of-00003.{ending} is missing: one of 3 parts"):
        splits.files(parts[0])


def test_a_part_called_by_another_name_says_what_to_call_it(tmp_path: Path):
    part = split_model(tmp_path / "parts")[0].rename(tmp_path / "big.gguf")
    with pytest.raises(Unsupported, match="one of 3 parts") as caught:
        splits.check([part], [part])
    assert "big-00001-of-00003.gguf" in caught.value.remedy


def test_parts_in_the_wrong_order_or_of_another_model(tmp_path: Path):
    parts, others = split_model(tmp_path / "a"), split_model(tmp_path / "b", count=2)
    for mixed, said in (
        ([parts[1], parts[0], parts[2]], "is not part 1 of 3"),
        ([parts[0], parts[1], parts[1]], "is not part 3 of 3"),
        ([parts[0], parts[1]], "is not part 1 of 2"),
        ([others[0], parts[1]], "is not part 2 of 2"),
    ):
        with pytest.raises(BadModelFile, match=said):
            splits.check(mixed, mixed)


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [("general.type", "adapter", Unsupported), ("general.type", "imatrix", Unsupported),
     ("general.type", "\x1b[2J", Unsupported), ("general.type", 7, Unsupported), ("split.count", "x", BadModelFile)],
)  # fmt: skip
def test_files_that_are_no_models(tmp_path: Path, key: str, value: str | int, kind: type[Exception]):
    path = gguf(tmp_path / "m.gguf", **{key.replace(".", "__"): value})
    with pytest.raises(kind) as caught:
        splits.check([path], [path])
    assert str(caught.value).isprintable()


def test_a_projector_is_no_model(tmp_path: Path):
    raw = Raw().start(1, 1).text_key("general.architecture", "clip").tensor("v", (32, 2), 8, 0)
    path = raw.write(tmp_path / "m.gguf", 68)
    with pytest.raises(Unsupported, match="not a model"):
        splits.check([path], [path])


def test_a_file_without_weights(tmp_path: Path):
    path = Raw().start(0, 1).text_key("general.architecture", "llama").write(tmp_path / "vocabulary.gguf")
    with pytest.raises(BadModelFile, match="holds no weights"):
        splits.check([path], [path])


def test_what_is_wrong_is_said_in_words_of_where_it_came_from(tmp_path: Path):
    path = tmp_path / "blob"
    path.write_bytes(b"no model")
    with pytest.raises(BadModelFile, match=r"shown\.gguf: not a GGUF file") as caught:
        splits.check([path], [Path("shown.gguf")])
    assert str(tmp_path) not in caught.value.message


def test_links_that_lie_side_by_side_are_mended_only_where_they_are_missing(store: Store, tmp_path: Path):
    manifest = import_gguf(store, split_model(tmp_path / "parts")[0], name("big"))
    blobs = [store.path(part.digest) for part in manifest.parts]
    first = splits.side_by_side(tmp_path / "split", manifest, blobs)
    assert first.parent.name == manifest.digest.hex
    assert [link.resolve() for link in sorted(first.parent.iterdir())] == blobs
    (first.parent / "model-00002-of-00003.gguf").unlink()
    assert splits.side_by_side(tmp_path / "split", manifest, blobs) == first
    assert [link.resolve() for link in sorted(first.parent.iterdir())] == blobs


def test_only_links_of_models_that_are_gone_are_forgotten(tmp_path: Path):
    parts = tuple(Part("gguf", Digest.of_bytes(b"%d" % n), 1, f"{n}.gguf") for n in range(2))
    used, gone = (Manifest(parts=parts, licence=licence) for licence in ("a", "b"))
    for manifest in (used, gone):
        splits.side_by_side(tmp_path, manifest, [tmp_path / "x", tmp_path / "y"])
    (tmp_path / "notes").mkdir()
    (tmp_path / gone.digest.hex.upper()).mkdir()
    splits.forget(tmp_path, {used.digest})
    kept = {used.digest.hex, "notes", gone.digest.hex.upper()}
    assert {path.name for path in tmp_path.iterdir()} == kept
    splits.forget(tmp_path / "none", set())
    assert len(os.listdir(tmp_path / used.digest.hex)) == 2  # noqa: PTH208
