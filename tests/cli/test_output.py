"""What verbs print with: nothing in it can drive a terminal, and it is the same text in a pipe."""

import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.cli import _output as out
from freehold.core.digest import Digest
from freehold.core.name import Name


@given(st.text())
def test_printable_text_holds_no_controls(text: str) -> None:
    shown = out.printable(text)
    assert not set(shown) & {chr(code) for code in (*range(9), *range(11, 32), *range(127, 160))}
    assert "".join(c for c in text if c.isprintable()) == "".join(c for c in shown if c.isprintable())


@given(st.recursive(st.text() | st.integers(-(2**63), 2**63 - 1) | st.none(), st.lists))
def test_json_reads_back_and_holds_no_controls(value: object) -> None:
    stream, sys.stdout = sys.stdout, io.StringIO()
    try:
        out.emit({"value": value})
        text = sys.stdout.getvalue()
    except UnicodeEncodeError:  # a lone surrogate is no text
        return
    finally:
        sys.stdout = stream
    assert json.loads(text) == {"value": value}
    assert "\x9b" not in text
    assert "\x7f" not in text


def test_json_shows_digests_names_and_paths_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    digest = Digest.of_bytes(b"")
    out.emit({"digest": digest, "names": [Name.parse("a/b:c")], "path": Path("/x")})
    assert json.loads(capsys.readouterr().out) == {"digest": str(digest), "names": ["a/b:c"], "path": "/x"}


def test_a_table_keeps_a_row_on_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    out.table(["A", "B"], [["long cell", "x\ny"], ["s", ""]])
    assert capsys.readouterr().out == "A          B\nlong cell  x y\ns\n"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (495_776, "496 kB"), (999_600, "1.0 MB"), (7_600_000_000, "7.6 GB")],
)
def test_sizes(number: int, text: str) -> None:
    assert out.size(number) == text


@pytest.mark.parametrize(("number", "text"), [(0, ""), (512, "512"), (11_200_000, "11.2M"), (7_600_000_000, "7.6B")])
def test_counts(number: int, text: str) -> None:
    assert out.count(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "just now"), (61, "1 minute ago"), (7300, "2 hours ago"), (200_000, "2 days ago")]
)
def test_ages(seconds: float, text: str) -> None:
    assert out.ago(seconds) == text


def test_progress_in_a_pipe_is_a_line_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    bar = out.Bar("copying")
    for done in range(0, 1001):
        bar(done, 1000)
    bar(1000, 1000)
    lines = capsys.readouterr().err.splitlines()
    assert 10 <= len(lines) <= 12
    assert lines[-1].startswith("copying: 100 % of 1.0 kB")


def test_quiet_progress_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    out.Bar("copying", quiet=True)(1, 1)
    assert capsys.readouterr().err == ""


def test_progress_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    out.Bar("copying")(0, 0)
    assert "100 %" in capsys.readouterr().err
