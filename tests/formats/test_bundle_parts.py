"""The parts of a bundle are one sequence of bytes, by whichever of their names they are meant."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freehold.core.errors import BadModelFile, FreeholdError, NotFound
from freehold.formats.bundle.parts import Parts, bundle_at

DATA = bytes(range(256)) * 3


def cut(folder: Path, data: bytes, length: int, name: str = "m.fhb") -> list[Path]:
    files = []
    for number, begin in enumerate(range(0, len(data), length), 1):
        files.append(folder / f"{name}.{number:03}")
        files[-1].write_bytes(data[begin : begin + length])
    return files


@settings(max_examples=40)
@given(
    st.binary(min_size=1, max_size=300),
    st.integers(1, 80),
    st.lists(st.tuples(st.integers(0, 320), st.integers(0, 320)), max_size=8),
)
def test_bytes_are_where_they_were(data: bytes, length: int, asked: Sequence[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        files = cut(Path(place), data, length)
        with Parts(files[0]) as parts:
            assert (parts.size, parts.split, parts.files) == (len(data), True, files)
            parts.check_sizes(len(data))
            for offset, count in asked:
                assert parts.read(offset, count) == data[offset : offset + count]
            assert b"".join(parts.chunks(0, len(data))) == data


@settings(max_examples=40)
@given(st.integers(1, 300), st.integers(1, 80), st.integers(1, 400))
def test_sizes_are_those_of_one_bundle_alone(size: int, length: int, total: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        with Parts(cut(Path(place), bytes(size), length)[0]) as parts:
            if total == size:
                parts.check_sizes(total)
                return
            with pytest.raises(BadModelFile) as caught:
                parts.check_sizes(total)
            assert "m.fhb." in caught.value.line()


@pytest.mark.parametrize("named", ["m.fhb", "m.fhb.001", "m.fhb.002", "m.fhb.004"])
def test_any_name_of_it_means_all(tmp_path: Path, named: str) -> None:
    files = cut(tmp_path, DATA, 200)
    assert len(files) == 4
    with Parts(tmp_path / named) as parts:
        assert (parts.files, parts.path) == (files, tmp_path / "m.fhb")
        assert parts.read(0, len(DATA)) == DATA
        assert parts.read(199, 2) == DATA[199:201]


def test_a_whole_file_goes_before_parts_beside_it(tmp_path: Path) -> None:
    cut(tmp_path, DATA, 200)
    (tmp_path / "m.fhb").write_bytes(b"whole")
    with Parts(tmp_path / "m.fhb") as parts:
        assert (parts.split, parts.read(0, 99)) == (False, b"whole")
        parts.check_sizes(5)
        for total, said in ((4, "1 bytes after its end"), (6, "truncated: 5 of 6")):
            with pytest.raises(BadModelFile, match=said):
                parts.check_sizes(total)


def test_parts_of_another_bundle_are_not_its_own(tmp_path: Path) -> None:
    files = cut(tmp_path, DATA, 400)
    cut(tmp_path, b"x" * 900, 100, "other.fhb")
    cut(tmp_path, b"x" * 900, 100, "m.fhb.bak")
    (tmp_path / "m.fhb.000").write_bytes(b"x")
    (tmp_path / "m.fhb.03").write_bytes(b"x")
    (tmp_path / "m.fhb.003").mkdir()
    with Parts(tmp_path / "m.fhb") as parts:
        assert parts.files == files


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_part_that_is_missing_is_named(tmp_path: Path, number: int) -> None:
    files = cut(tmp_path, DATA, 200)
    files[number - 1].unlink()
    with pytest.raises(BadModelFile, match=rf"m\.fhb\.00{number}: this part is missing"):
        Parts(tmp_path / "m.fhb")


def test_the_last_one_is_missed_when_its_bytes_are(tmp_path: Path) -> None:
    cut(tmp_path, DATA, 200)[-1].unlink()
    with Parts(tmp_path / "m.fhb") as parts:
        assert parts.read(0, 9999) == DATA[:600]
        with pytest.raises(BadModelFile, match=r"m\.fhb\.004: this part is missing, one of 4"):
            parts.check_sizes(len(DATA))


@pytest.mark.parametrize("named", ["none.fhb", "none.fhb.001", "gone/m.fhb", "gone/m.fhb.001"])
def test_what_is_not_there(tmp_path: Path, named: str) -> None:
    with pytest.raises(NotFound, match="no such file"):
        Parts(tmp_path / named)


def test_a_part_that_is_no_file_leaves_none_open(tmp_path: Path) -> None:
    files = cut(tmp_path, DATA, 200)
    files[2].unlink()
    files[2].symlink_to(tmp_path / "nowhere")
    with pytest.raises(FreeholdError) as caught:
        Parts(tmp_path / "m.fhb")
    assert "m.fhb.003" in caught.value.line()


def test_a_part_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    files = cut(tmp_path, DATA, 200)
    with Parts(files[0]) as parts:
        files[1].write_bytes(DATA[:10])
        with pytest.raises(BadModelFile, match="became shorter"):
            list(parts.chunks(0, len(DATA)))


@pytest.mark.parametrize(
    ("name", "bundle"),
    [
        ("a/m.fhb", "a/m.fhb"), ("a/m.fhb.001", "a/m.fhb"), ("a/m.fhb.1000", "a/m.fhb"), ("m.fhb.01", None),
        ("m.fhb.00001", None), ("m.gguf", None), ("m.gguf.001", None), ("fhb", None), ("m.fhb.sig", None),
    ],
)  # fmt: skip
def test_what_is_a_bundle_by_its_name(name: str, bundle: str | None) -> None:
    assert bundle_at(Path(name)) == (None if bundle is None else Path(bundle))
