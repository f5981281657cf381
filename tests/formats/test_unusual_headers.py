"""Headers that few programs write and that are legal, and folders in which somebody left something."""

import json
import struct
from pathlib import Path

import pytest

from freehold.core.errors import BadInput, BadModelFile
from freehold.formats import safetensors
from freehold.formats.gguf import read_header
from freehold.formats.infill import Marks, marks
from freehold.formats.locks import locked, sweep
from freehold.formats.modelfile import parse
from tests.formats.ggufs import ARRAY, BOOL, STRING, Raw, packed


def llama(tensors: int = 0, keys: int = 0) -> Raw:
    return Raw().start(tensors, keys + 1).text_key("general.architecture", "llama")


@pytest.mark.parametrize("alignment", [8, 16, 64, 4096])
def test_tensors_are_where_the_files_own_alignment_has_them(tmp_path: Path, alignment: int) -> None:
    raw = llama(tensors=2, keys=1).number_key("general.alignment", alignment)
    raw.tensor("b", (3,), 0, alignment).tensor("a", (1,), 0, 0).pad(alignment)
    path = tmp_path / "m.gguf"
    path.write_bytes(bytes(raw.data) + bytes(alignment + 12))
    found = read_header(path)
    assert (found.alignment, found.data_offset % alignment) == (alignment, 0)
    assert [(tensor.name, tensor.offset, tensor.size) for tensor in found.tensors] == [
        ("b", alignment, 12),
        ("a", 0, 4),
    ]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadModelFile, match="'b' ends at"):
        read_header(path)


def test_values_of_every_kind_are_read(tmp_path: Path) -> None:
    numbers = {
        "u8": (0, "<B", 255), "i8": (1, "<b", -128), "u16": (2, "<H", 65535), "i16": (3, "<h", -5), "u32": (4, "<I", 7),
        "i32": (5, "<i", -7), "f32": (6, "<f", 0.5), "u64": (10, "<Q", (1 << 64) - 1), "i64": (11, "<q", -(1 << 63)),
        "f64": (12, "<d", 1e300),
    }  # fmt: skip
    raw = llama(keys=len(numbers) + 4)
    for key, (kind, form, value) in numbers.items():
        raw.string(key, key).number("I", kind, "type")
        raw.data += struct.pack(form, value)
    raw.array_key("truths", BOOL, 3, b"\1\0\1").array_key("none", STRING, 0).array_key("deep", ARRAY, 1)
    raw.data += struct.pack("<IQ", STRING, 2) + packed("a\0b", "")
    raw.text_key("odd.ключ \n", "line\none")
    found = read_header(raw.write(tmp_path / "m.gguf")).metadata
    assert {key: found[key] for key in numbers} == {key: value for key, (_, _, value) in numbers.items()}
    assert list(found["truths"]) == [True, False, True]  # type: ignore[arg-type]
    assert list(found["none"]) == []  # type: ignore[arg-type]
    assert list(found["deep"]) == [["a\0b", ""]]  # type: ignore[arg-type]
    assert found["odd.ключ \n"] == "line\none"


def test_rows_of_four_dimensions_and_of_the_largest_blocks(tmp_path: Path) -> None:
    raw = llama(tensors=1).tensor("t", (256, 2, 3, 4), 12, 0)  # Q4_K
    found = read_header(raw.write(tmp_path / "m.gguf", 144 * 24)).tensors[0]
    assert (found.type, found.elements, found.size) == ("Q4_K", 256 * 24, 144 * 24)


@pytest.mark.parametrize(
    ("tokens", "found"),
    [
        (["<PRE>", "<SUF>", "<MID>"], Marks(0, 1, 2)),
        ([["<PRE>"], "<PRE>", None, "<SUF>", 5, "<MID>"], Marks(1, 3, 5)),
        (["<PRE>", "<|fim_prefix|>", "<SUF>", "<MID>"], Marks(0, 2, 3)),
        ([["<PRE>"], {"a": 1}], None),
        ("<PRE><SUF><MID>", None),
    ],
)
def test_marks_are_tokens_and_nothing_else(tokens: object, found: Marks | None) -> None:
    assert marks({"tokenizer.ggml.tokens": tokens}) == found


SAFE = {
    "a scalar": {"a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}},
    "an empty one": {
        "a": {"dtype": "F32", "shape": [0, 7], "data_offsets": [0, 0]},
        "b": {"dtype": "I8", "shape": [4], "data_offsets": [0, 4]},
    },
    "an odd name": {"": {"dtype": "U8", "shape": [2, 2], "data_offsets": [0, 4]}},
    "no metadata": {"__metadata__": {}, 'x"y\\': {"dtype": "BOOL", "shape": [4], "data_offsets": [0, 4]}},
}


@pytest.mark.parametrize("name", SAFE)
@pytest.mark.parametrize("padding", [0, 7, 4096])
def test_safetensors_of_odd_shapes(tmp_path: Path, name: str, padding: int) -> None:
    raw = json.dumps(SAFE[name]).encode() + b" " * padding
    path = tmp_path / "m.safetensors"
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(4))
    found = safetensors.read_header(path)
    assert set(found.tensors) == set(SAFE[name]) - {"__metadata__"}
    assert found.data_offset == 8 + len(raw)
    assert sum(tensor.end - tensor.begin for tensor in found.tensors.values()) == 4


def test_what_else_lies_among_folders_that_are_swept_stays(tmp_path: Path) -> None:
    """A file manager's notes must not keep the next run from starting."""
    (tmp_path / ".DS_Store").write_text("x")
    (tmp_path / "round").symlink_to(tmp_path)
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    (tmp_path / "dead").mkdir()
    (tmp_path / "dead" / "rest").write_text("x")
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".DS_Store", "lost", "round"]


def test_a_file_in_the_place_of_a_folder_to_hold_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    for path in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(BadInput, match="taken"), locked(path, "it"):
            pass


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("FROM a\nSYSTEM\tYou\tare", "You\tare"),
        ("FROM a\n\n   SYSTEM You", "You"),
        ('FROM a\nSYSTEM """"quoted" """', '"quoted" '),
        ('FROM a\nSYSTEM """a\nFROM b\n"""', "a\nFROM b\n"),
        ("FROM a\nSYSTEM # said", "# said"),
        ("FROM a\nSYSTEM \u00a0You\u00a0", "You"),
    ],
)
def test_values_of_a_modelfile_end_where_they_end(text: str, said: str) -> None:
    found = parse(text)
    assert (found.base, found.system) == ("a", said)
