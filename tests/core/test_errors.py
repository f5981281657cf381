"""The error tree: what the docstring draws is what the code is."""

import inspect
import re

import pytest

from freehold.core import errors
from freehold.core.errors import Busy, FreeholdError, RateLimited

ROW = re.compile(r"^(?P<indent>[│├└─ ]*)(?P<name>[A-Z]\w+)\s+(?P<exit>\d+)\s+(?P<status>\d+)\s+(?P<code>\w+)$")


def drawn() -> dict[str, tuple[str, int, int, str]]:
    """The rows of the drawing: name -> (parent, exit code, status, code)."""
    rows: dict[str, tuple[str, int, int, str]] = {}
    parents = ["FreeholdError"]
    for text in (errors.__doc__ or "").splitlines():
        if match := ROW.match(text):
            depth = len(match["indent"]) // 4
            parents[depth:] = [match["name"]]
            rows[match["name"]] = (parents[depth - 1], int(match["exit"]), int(match["status"]), match["code"])
    return rows


def defined() -> dict[str, type[FreeholdError]]:
    """Every error class in the module."""
    found = inspect.getmembers(errors, inspect.isclass)
    return {name: cls for name, cls in found if issubclass(cls, FreeholdError) and cls is not FreeholdError}


def test_the_drawing_has_every_error_and_no_other() -> None:
    assert set(drawn()) == set(defined())
    assert len(drawn()) >= 20


@pytest.mark.parametrize("name", sorted(defined()))
def test_each_error_is_as_drawn(name: str) -> None:
    parent, exit_code, status, code = drawn()[name]
    cls = defined()[name]
    assert cls.__base__ is not None
    assert (cls.__base__.__name__, cls.exit_code, cls.status, cls.code) == (parent, exit_code, status, code)
    assert cls.__doc__


def test_codes_are_distinct() -> None:
    codes = [cls.code for cls in defined().values()]
    assert len(codes) - len(set(codes)) == 0


def test_exit_codes_are_the_promised_ones() -> None:
    assert {cls.exit_code for cls in defined().values()} == {1, 2, 130}


def test_a_line_is_one_line() -> None:
    assert FreeholdError("a\n b", "do\tthis").line() == "a b. do this"
    assert FreeholdError("alone").line() == "alone"


def test_an_error_remembers_the_parameter_it_is_about() -> None:
    assert FreeholdError("m", "r", param="temperature").param == "temperature"


def test_busy_says_when_to_come_back() -> None:
    assert Busy("full", retry_after=7).retry_after == 7
    assert RateLimited("full").retry_after >= 1
