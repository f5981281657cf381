"""Cells in one namespace, what they print and show, and errors that are no errors of ours."""

import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from freehold.notebooks.child import Interpreter, Main, Outputs, Tee
from tests.notebooks.test_data import session


@pytest.fixture
def cells(tmp_path: Path) -> Interpreter:
    return Interpreter(session(tmp_path, values={"count": 5}))


@pytest.fixture
def shown() -> Iterator[list[Any]]:
    """What is shown as the value of a last line."""
    before, found = sys.displayhook, list[Any]()
    sys.displayhook = found.append
    yield found
    sys.displayhook = before


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("1 + 1", [2]),
        ("x = 1\nx", [1]),
        ("x = 1\nx  # the value\n# and a remark", [1]),
        ("[1,\n 2]", [[1, 2]]),
        ("'''a\nb'''", ["a\nb"]),
        ("'a'\n\n\n", ["a"]),
        ("count = 1\nf'{count}'", ["5"]),
        ("count = 3\ncount += 1\ncount", [5]),
        ("for count in range(3): pass\ncount", [5]),
        ("def count(): pass\ncount", [5]),
        ("def f():\n    global other\n    other = 2\nf()\nother", [2]),
        ("x = 1;", []),
        ("1;", []),
        ("x = 1; x", []),
        ("if True:\n    1", []),
        ("", []),
        ("# only a remark", []),
        ("(lambda: [y := 1, y][1])()", [1]),
        ("@(lambda f: f)\ndef f():\n    return 7\nf()", [7]),
        ("print", [print]),
        ("__name__", ["__main__"]),
    ],
)
def test_the_value_of_the_last_line_is_shown(
    cells: Interpreter, shown: list[Any], source: str, value: list[Any]
) -> None:
    assert cells.run(source, 1) is None
    assert shown == value


def test_names_go_on_from_cell_to_cell(cells: Interpreter, shown: list[Any]) -> None:
    for number, source in enumerate(("from __future__ import annotations", "def f(x: Nothing): return x", "f(3)"), 1):
        assert cells.run(source, number) is None
    assert shown == [3]


@pytest.mark.parametrize(
    ("source", "kind", "line"),
    [
        ("x = 1\n\n1 / 0", ZeroDivisionError, 3),
        ("x = 1\nraise SystemExit(3)", SystemExit, None),
        ("exit()", SystemExit, None),
        ("def f():\n    return 1 / 0\n\nx = 1\nf()", ZeroDivisionError, 5),
        ("x = 1\n1 +", SyntaxError, None),
        ("return 1", SyntaxError, None),
        ("await f()", SyntaxError, None),
        ("import no_such_package", ModuleNotFoundError, 1),
        ("from google.colab import userdata", ModuleNotFoundError, 1),
        ("get_ipython().system('ls')", NameError, 1),
        ("raise KeyboardInterrupt", KeyboardInterrupt, 1),
        ("class Odd:\n    def __repr__(self): raise ValueError('no')\nOdd()", ValueError, 3),
        ("def f(): f()\nf()", RecursionError, 2),
        ("-" * 200_000 + "1", (RecursionError, MemoryError, SyntaxError), None),
    ],
)
def test_an_error_is_kept_with_the_line_that_made_it(
    cells: Interpreter, source: str, kind: type[BaseException], line: int | None
) -> None:
    # As a notebook's process has it: showing a value asks for its spelling.
    before, sys.displayhook = sys.displayhook, repr
    try:
        failure = cells.run(source, 4)
    finally:
        sys.displayhook = before
    assert isinstance(failure, kind)
    outputs = Outputs()
    outputs.error(failure)
    if line is not None:
        assert f'File "<cell 4>", line {line}' in "".join(outputs.kept[0]["traceback"])
    assert cells.run("x = 2", 5) is None, "the cell after it begins without one"


def test_what_was_done_before_an_error_stays(cells: Interpreter, shown: list[Any]) -> None:
    cells.run("x = 1\ny = 1 / 0", 1)
    cells.run("x", 2)
    assert shown == [1]


BAD = "\udcff"
"""Half a character, as the names of files have them."""


class Silent(Exception):
    def __str__(self) -> str:
        raise ValueError("no")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("a: b\nc"), "a: b\nc"),
        (ValueError(), ""),
        (KeyError("k"), "'k'"),
        (ValueError(f"x{BAD}"), "x\\udcff"),
        (Silent(), "<exception str() failed>"),
        (SyntaxError("bad", ("<cell 1>", 2, 1, "x")), "bad (<cell 1>, line 2)"),
    ],
)
def test_errors_say_what_they_can(error: BaseException, said: str) -> None:
    error.add_note("a remark")
    outputs = Outputs()
    outputs.error(error)
    [kept] = outputs.kept
    assert (kept["ename"], kept["evalue"]) == (type(error).__name__, said)
    assert msgspec.json.decode(msgspec.json.encode(kept)) == kept, "it can be written"


def test_whatever_is_printed_can_be_written() -> None:
    class Odd:
        def __repr__(self) -> str:
            return f"<{BAD}>"

    outputs = Outputs()
    outputs.stream("stderr", f"é{BAD}\n")
    outputs.result(Odd(), 3)
    assert outputs.kept[0]["text"] == "é\\udcff\n"
    assert outputs.kept[1]["data"] == {"text/plain": "<\\udcff>"}
    msgspec.json.encode(outputs.kept)


def test_streams_stay_in_order() -> None:
    outputs = Outputs()
    for name, text in (("stdout", "a"), ("stdout", "b"), ("stderr", "c"), ("stdout", ""), ("stdout", "d")):
        outputs.stream(name, text)
    assert [(each["name"], each["text"]) for each in outputs.kept] == [
        ("stdout", "ab"),
        ("stderr", "c"),
        ("stdout", "d"),
    ]


@pytest.mark.parametrize("pieces", [[3 << 20], [1 << 20, 1], [600_000, 600_000, 5], [(1 << 20) - 1, 2, 1 << 21]])
def test_of_too_much_output_the_beginning_is_kept_and_the_cut_told(pieces: list[int]) -> None:
    outputs = Outputs()
    for size in pieces:
        outputs.stream("stdout", "x" * size)
    [kept] = outputs.kept
    assert kept["text"].count("x") == 1 << 20
    assert kept["text"].endswith("is not kept)\n")
    assert kept["text"].count("not kept") == 1


def test_as_much_as_there_is_room_for_is_kept_whole() -> None:
    outputs = Outputs()
    for _ in range(2):
        outputs.stream("stdout", "x" * (1 << 19))
    assert outputs.kept[0]["text"] == "x" * (1 << 20)


def test_who_holds_a_stream_writes_into_the_cell_that_runs() -> None:
    """A log that was set up in the first cell is that of the later ones too."""
    shown = io.StringIO()
    tee = Tee("stderr", shown)
    log = logging.Logger("notebook")
    log.addHandler(logging.StreamHandler(tee))
    first, second = Outputs(), Outputs()
    for outputs in (first, second):
        tee.outputs = outputs
        log.warning("said")
    assert [each["text"] for each in (*first.kept, *second.kept)] == ["said\n", "said\n"]
    assert shown.getvalue() == "said\nsaid\n"
    assert tee.writable()
    assert not tee.isatty()
    with pytest.raises(TypeError):
        tee.write(5)  # type: ignore[arg-type]


def test_classes_of_a_notebook_can_be_pickled(cells: Interpreter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", Main(cells.names))
    assert cells.run("import pickle\nclass A:\n    def __init__(self):\n        self.x = 3", 1) is None
    assert cells.run("found = pickle.loads(pickle.dumps(A())).x", 2) is None
    assert cells.names["found"] == 3
    with pytest.raises(AttributeError, match="has no nothing"):
        _ = sys.modules["__main__"].nothing
