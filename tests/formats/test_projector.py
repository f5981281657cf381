"""Projectors: what their headers say, and the most that an image can become."""

from pathlib import Path

import pytest

from freehold.core.errors import BadModelFile, FreeholdError, NotFound, Unsupported
from freehold.formats import gguf, projector
from tests.formats.ggufs import Raw
from tests.store import models


def written(path: Path, kind: str = "mlp", keys: dict[str, int] | None = None, **numbers: int) -> Path:
    """A header alone, with one tensor."""
    known = {"image_size": 336, "patch_size": 14, "embedding_length": 64, "feed_forward_length": 256, **numbers}
    keys = keys or {}
    raw = Raw().start(1, 3 + len(known) + len(keys)).text_key("general.architecture", "clip")
    raw.number_key("clip.has_vision_encoder", 1, 7, "B").text_key("clip.projector_type", kind)
    for key, value in known.items():
        raw.number_key(f"clip.vision.{key}", value)
    for key, value in keys.items():
        raw.number_key(key, value)
    return raw.tensor("v.x", (32, 1), 8, 0).write(path, 34)


@pytest.mark.parametrize(
    ("kind", "numbers", "least", "most"),
    [
        ("mlp", {}, 576, 700),
        ("gemma3", {"image_size": 896}, 256, 300),
        ("gemma3", {"image_size": 896, "projector.scale_factor": 2}, 1024, 1100),
        ("ldp", {}, 144, 200),
        ("internvl", {"image_size": 448, "projector.scale_factor": 2}, 13 * 256, 13 * 300),
        ("internvl", {"image_size": 448, "projector.scale_factor": 2, "preproc_max_tiles": 3}, 4 * 256, 4 * 300),
        ("idefics3", {"image_size": 512, "patch_size": 16, "projector.scale_factor": 4, "preproc_image_size": 2048},
         17 * 64, 17 * 100),
        ("idefics3", {}, 0, 0),
        ("resampler", {}, 10 * 96, 10 * 130),
        ("qwen2vl_merger", {}, 4096, 4200),
        ("qwen2.5vl_merger", {}, 4096, 4200),
        ("pixtral", {}, 1024, 2100),
        ("gemma4v", {}, 1120, 1200),
        ("a_kind_of_tomorrow", {}, 0, 0),
    ],
)  # fmt: skip
def test_most_tokens_of_an_image(tmp_path: Path, kind: str, numbers: dict[str, int], least: int, most: int) -> None:
    found = projector.read(written(tmp_path / "mmproj.gguf", kind, **numbers))
    assert found.kind == kind
    assert least <= found.tokens <= most
    assert found.scratch > 0
    assert found.at_once == (kind in ("gemma3", "gemma4v"))


def test_sizes_that_llava_lists(tmp_path: Path) -> None:
    sizes = [336, 672, 672, 672, 1008, 336]
    raw = Raw().start(1, 8).text_key("general.architecture", "clip").number_key("clip.has_vision_encoder", 1, 7, "B")
    raw.text_key("clip.projector_type", "mlp").number_key("clip.vision.image_size", 336)
    raw.number_key("clip.vision.patch_size", 14).number_key("clip.vision.embedding_length", 64)
    raw.number_key("clip.vision.feed_forward_length", 64)
    packed = b"".join(size.to_bytes(4, "little") for size in sizes)
    raw.array_key("clip.vision.image_grid_pinpoints", 5, len(sizes), packed)
    found = projector.read(raw.tensor("v.x", (32, 1), 8, 0).write(tmp_path / "x.gguf", 34))
    assert 5 * 576 <= found.tokens <= 5 * 620


def test_queries_of_minicpm(tmp_path: Path) -> None:
    path = written(tmp_path / "x.gguf", "resampler", {"clip.minicpmv_query_num": 64})
    assert 640 <= projector.read(path).tokens <= 1000


@pytest.mark.parametrize(
    ("numbers", "said"),
    [({"image_size": 1 << 31}, "image_size is"), ({"embedding_length": 1 << 30}, "embedding_length is")],
)
def test_numbers_are_bounded(tmp_path: Path, numbers: dict[str, int], said: str) -> None:
    with pytest.raises(BadModelFile, match=said):
        projector.read(written(tmp_path / "x.gguf", **numbers))


@pytest.mark.parametrize("kind", sorted(projector._KINDS))
def test_zeros_and_large_numbers_do_no_harm(tmp_path: Path, kind: str) -> None:
    for value in (0, 1, projector._MOST):
        names = ("image_size", "patch_size", "projector.scale_factor", "preproc_max_tiles", "preproc_image_size")
        path = written(tmp_path / "x.gguf", kind, {"clip.minicpmv_query_num": value}, **dict.fromkeys(names, value))
        assert 0 <= projector.read(path).tokens <= projector._MOST


def test_what_is_none(tmp_path: Path) -> None:
    path = models.gguf(tmp_path / "m.gguf")
    assert not projector.is_projector(gguf.read_header(path))
    with pytest.raises(Unsupported, match="llama architecture"):
        projector.read(path)
    with pytest.raises(Unsupported, match="mine is a projector that sees no images"):
        projector.read(models.projector(tmp_path / "a.gguf", sees=False), label=Path("mine"))
    with pytest.raises(NotFound):
        projector.read(tmp_path / "gone.gguf")
    kindless = Raw().start(1, 2).text_key("general.architecture", "clip")
    kindless.number_key("clip.has_vision_encoder", 1, 7, "B").tensor("v.x", (32, 1), 8, 0)
    with pytest.raises(BadModelFile, match="projector_type is missing"):
        projector.read(kindless.write(tmp_path / "k.gguf", 34))
    empty = Raw().start(0, 2).text_key("general.architecture", "clip").number_key("clip.has_vision_encoder", 1, 7, "B")
    with pytest.raises(BadModelFile, match="no weights"):
        projector.read(empty.write(tmp_path / "e.gguf"))


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    data = models.projector(tmp_path / "mmproj.gguf").read_bytes()
    for length in range(0, len(data), 7):
        (tmp_path / "cut.gguf").write_bytes(data[:length])
        with pytest.raises(FreeholdError):
            projector.read(tmp_path / "cut.gguf")


@pytest.mark.parametrize(
    ("filename", "expected"),
    [("mmproj-F16.gguf", True), ("a/llava-MMPROJ.gguf", True), ("mmproj/model.gguf", False), ("model.gguf", False)],
)
def test_names(filename: str, expected: bool) -> None:
    assert projector.named(filename) == expected
