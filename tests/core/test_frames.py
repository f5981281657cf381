"""Frames come out whole, wherever the bytes of a stream are cut and whatever Unicode they hold."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.frames import Frames

BREAKS = "\u0085\u2028\u2029\x0b\x0c\x1c\x1d\x1e"
"""What `str.splitlines` takes for the end of a line, beside those that JSON escapes."""


def fed(*pieces: bytes) -> list[bytes]:
    frames = Frames()
    return [data for piece in pieces for data in frames.feed(piece)]


def stream(documents: list[str], end: bytes = b"\n\n") -> bytes:
    return b"".join(b"data: " + json.dumps(each, ensure_ascii=False).encode() + end for each in documents)


def test_a_stream_cut_anywhere_says_the_same():
    documents = ["a", "漢字", "😀 b", BREAKS, ""]
    whole = stream(documents) + b"data: [DONE]\n\n"
    for cut in range(len(whole) + 1):
        assert [json.loads(data) for data in fed(whole[:cut], whole[cut:])] == documents, cut


def test_a_stream_of_single_bytes_says_the_same():
    whole = stream(["é", "\u2028", "x" * 50])
    assert fed(*(whole[at : at + 1] for at in range(len(whole)))) == fed(whole)


@given(
    st.lists(st.text(st.sampled_from("ab\n\r:é😀\u0085\u2028\u2029"), max_size=12), max_size=6),
    st.lists(st.integers(0, 400), max_size=8),
    st.sampled_from([b"\n\n", b"\r\n\r\n"]),
)
def test_documents_come_back_in_order(documents: list[str], cuts: list[int], end: bytes):
    whole = stream(documents, end)
    places = sorted({0, len(whole), *(min(cut, len(whole)) for cut in cuts)})
    pieces = [whole[a:b] for a, b in itertools.pairwise(places)]
    assert [json.loads(data) for data in fed(*pieces)] == documents


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        (b"", []),
        (b"\n\n\n", []),
        (b": ping\n\n", []),
        (b"data: [DONE]\n\n", []),
        (b"data: \n\n", []),
        (b"data:\n", []),
        (b"event: x\ndata: 1\n\n", [b"1"]),
        (b"id: 5\nretry: 10\ndata: 2\n\n", [b"2"]),
        (b'error: {"code":500}\n\n', [b'{"code":500}']),
        (b"data: a: b\n", [b"a: b"]),
        (b"data: 1\r\ndata: 2\r\n", [b"1", b"2"]),
        (b"database: 1\n", []),
        (b"no line of a stream\n", []),
    ],
)
def test_which_lines_hold_data(sent: bytes, found: list[bytes]):
    assert fed(sent) == found


def test_a_line_that_was_not_ended_is_no_data():
    assert fed(b'data: {"a":1}') == []
    assert fed(b'data: {"a"', b":1}", b"\n") == [b'{"a":1}']
