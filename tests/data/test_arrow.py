"""A Parquet column that Python has no values for is refused only where its text is wanted and is none."""

from pathlib import Path
from typing import Any

import pytest

from freehold import data
from freehold.core.errors import BadData

pa = pytest.importorskip("pyarrow")
MOMENT = 1704067200123456789


def _file(tmp_path: Path, column: Any) -> Path:
    from pyarrow import parquet

    parquet.write_table(pa.table({"question": ["How?"], "answer": ["So."], "more": column}), tmp_path / "a.parquet")
    return tmp_path / "a.parquet"


@pytest.mark.parametrize(
    ("values", "type", "text"),
    [
        ([MOMENT], pa.timestamp("ns"), "2024-01-01 00:00:00.123456789"),
        ([MOMENT], pa.timestamp("ns", tz="+02:00"), "2024-01-01 02:00:00.123456789+0200"),
        ([MOMENT // 1000], pa.timestamp("us", tz="Mars/Olympus"), "2024-01-01 00:00:00.123456"),
        ([1 << 62], pa.timestamp("us"), "<value out of range: 4611686018427387904>"),
        ([1 << 30], pa.date32(), "<value out of range: 1073741824>"),
        ([1001], pa.time64("ns"), "00:00:00.000001001"),
        ([1001], pa.duration("ns"), "1001"),
    ],
    ids=str,
)
def test_times_that_python_cannot_have_are_text(tmp_path: Path, values: list[int], type: Any, text: str) -> None:
    path = _file(tmp_path, pa.array(values, type))
    assert data.load(path, minimum=1).rows[0].answer == "So."
    assert data.load(path, minimum=1, columns={"assistant": "more"}).rows[0].answer == text


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[MOMENT]], pa.list_(pa.timestamp("ns"))),
        pa.array([[MOMENT]], pa.large_list(pa.timestamp("ns"))),
        pa.array([[MOMENT]], pa.list_(pa.timestamp("ns"), 1)),
        pa.array([{"a": [MOMENT]}], pa.struct([("a", pa.list_(pa.timestamp("ns")))])),
        pa.array([[("a", MOMENT)]], pa.map_(pa.string(), pa.timestamp("ns"))),
        pa.array([MOMENT], pa.timestamp("ns")).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_times_inside_of_other_columns_refuse_no_file(tmp_path: Path, column: Any) -> None:
    assert data.load(_file(tmp_path, column), minimum=1).rows[0].answer == "So."


def test_text_that_is_not_utf_8_is_refused_only_where_it_is_read(tmp_path: Path) -> None:
    offsets, letters = pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")
    path = _file(tmp_path, pa.Array.from_buffers(pa.string(), 1, [None, offsets, letters]))
    assert data.load(path, minimum=1).rows[0].answer == "So."
    with pytest.raises(BadData, match="row 1 holds bytes that are not UTF-8 in column 'more'"):
        data.load(path, minimum=1, columns={"assistant": "more"})


def test_a_column_that_nothing_helps_is_named(tmp_path: Path) -> None:
    offsets, letters = pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")
    broken = pa.Array.from_buffers(pa.string(), 1, [None, offsets, letters])
    path = _file(tmp_path, pa.StructArray.from_arrays([broken], ["role"]))
    with pytest.raises(BadData, match="column 'more' cannot be read: 'utf-8' codec") as caught:
        data.load(path, minimum=1)
    assert caught.value.remedy == "Write the file again without it, or with text in it"
