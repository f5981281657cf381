"""Lists that are read a page at a time: whoever goes on to the end has seen each thing once, in its order."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.errors import BadInput
from freehold.dialects.anthropic import pages as anthropic
from freehold.dialects.openai import pages as openai

LISTS = st.lists(st.from_regex(r"[a-z]{1,4}", fullmatch=True), max_size=40, unique=True)


def body(name: str) -> dict[str, Any]:
    return {"id": name, "size": len(name)}


def openais(query: Mapping[str, str], found: list[str], most: int = 100) -> dict[str, Any]:
    return openai.page(query, found, str, body, most)


@given(LISTS, st.integers(1, 12))
def test_openais_cursor_sees_all(found: list[str], limit: int):
    seen: list[str] = []
    query = {"limit": str(limit)}
    while True:
        told = openais(query, found)
        assert told["object"] == "list"
        assert len(told["data"]) <= limit
        seen += [each["id"] for each in told["data"]]
        if not told["has_more"]:
            break
        assert (told["first_id"], told["last_id"]) == (told["data"][0]["id"], told["data"][-1]["id"])
        query = {"limit": str(limit), "after": told["last_id"]}
    assert seen == found


def test_openais_pages_as_its_clients_read_them():
    found = ["a", "b", "c"]
    assert openais({"limit": "2"}, found) == {
        "object": "list", "data": [body("a"), body("b")], "first_id": "a", "last_id": "b", "has_more": True,
    }  # fmt: skip
    assert openais({"after": "c"}, found) == {
        "object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False,
    }  # fmt: skip
    assert openais({"after": ""}, found)["data"] == [body(each) for each in found]


def test_openais_pages_have_their_usual_size():
    found = [str(number) for number in range(300)]
    assert len(openais({}, found)["data"]) == 20
    assert len(openais({}, found, 10)["data"]) == 10
    assert len(openais({}, found, 10_000)["data"]) == 300, "lists of files are told whole"


def test_items_of_a_conversation_come_newest_first():
    found = [{"id": each, "text": each} for each in "abc"]
    assert [each["id"] for each in openai.items({}, found)["data"]] == ["c", "b", "a"]
    assert [each["id"] for each in openai.items({"order": "asc", "after": "a"}, found)["data"]] == ["b", "c"]
    assert [each["id"] for each in openai.items({"limit": "1", "after": "c"}, found)["data"]] == ["b"]
    empty = openai.items({}, [])
    assert (empty["first_id"], empty["last_id"]) == ("", ""), "their type there is text"


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", "", "1.5", "9" * 50, "٣", "1e1", " 5"])
def test_openais_limit_has_bounds(limit: str):
    with pytest.raises(BadInput) as caught:
        openais({"limit": limit}, ["a"])
    assert (caught.value.param, len(caught.value.line()) < 200) == ("limit", True)


@pytest.mark.parametrize(
    ("query", "param"), [({"after": "z"}, "after"), ({"after": "x" * 999}, "after"), ({"order": "up"}, "order")]
)
def test_what_openais_lists_do_not_know(query: dict[str, str], param: str):
    with pytest.raises(BadInput) as caught:
        openai.items(query, [{"id": "a"}])
    assert (caught.value.param, len(caught.value.line()) < 300) == (param, True)


def anthropics(query: Mapping[str, str], found: list[str]) -> tuple[list[str], bool]:
    return anthropic.page(query, found, str)


@given(LISTS, st.integers(1, 12))
def test_anthropics_cursor_sees_all_forwards(found: list[str], limit: int):
    seen, more = anthropics({"limit": str(limit)}, found)
    while more:
        told, more = anthropics({"limit": str(limit), "after_id": seen[-1]}, found)
        assert 0 < len(told) <= limit
        seen = seen + told
    assert seen == found


@given(LISTS.filter(bool), st.integers(1, 12))
def test_anthropics_cursor_sees_all_backwards(found: list[str], limit: int):
    """A page before one holds what stands right before it, in the list's own order."""
    seen, more = [found[-1]], True
    while more:
        told, more = anthropics({"limit": str(limit), "before_id": seen[0]}, found)
        assert len(told) <= limit
        assert more == (bool(told) and told[0] != found[0])
        seen = told + seen
    assert seen == found


@given(LISTS.filter(lambda found: len(found) > 1), st.data())
def test_a_page_between_two_holds_what_is_between_them(found: list[str], drawn: st.DataObject):
    first = drawn.draw(st.integers(0, len(found) - 2))
    last = drawn.draw(st.integers(first + 1, len(found) - 1))
    told, _ = anthropics({"after_id": found[first], "before_id": found[last], "limit": "1000"}, found)
    assert told == found[first + 1 : last]


def test_anthropics_pages_have_their_usual_size():
    found = [str(number) for number in range(50)]
    assert anthropics({}, found) == (found[:20], True)
    assert anthropics({"limit": "1000"}, found) == (found, False)
    assert anthropics({"before_id": "30"}, found) == (found[10:30], True)


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "", "1.5", "9" * 50, "1e1", " 5"])
def test_anthropics_limit_has_bounds(limit: str):
    with pytest.raises(BadInput) as caught:
        anthropics({"limit": limit}, ["a"])
    assert caught.value.param == "limit"


@pytest.mark.parametrize("param", ["after_id", "before_id"])
def test_an_id_that_is_not_in_the_list(param: str):
    for wrong in ("z", "", "x" * 999):
        with pytest.raises(BadInput) as caught:
            anthropics({param: wrong}, ["a"])
        assert (caught.value.param, len(caught.value.line()) < 300) == (param, True)
