"""Lists that are read a page at a time, from a cursor."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from freehold.core.errors import BadInput

T = TypeVar("T")


def page(
    query: Mapping[str, str],
    found: Sequence[T],
    name: Callable[[T], str],
    body: Callable[[T], dict[str, Any]],
    most: int,
    usual: int = 0,
) -> dict[str, Any]:
    """The page that a query asks for, of a list in its order: unless it says, of `usual` or of as many as may be."""
    limit = limited(query, most) if "limit" in query or not usual else usual
    begin = place(query.get("after", ""), [name(each) for each in found]) if query.get("after") else 0
    return listed([body(each) for each in found[begin : begin + limit]], more=begin + limit < len(found))


def items(query: Mapping[str, str], found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The page that a query asks for, of the items of a conversation: the newest first unless it says otherwise."""
    ordered = found if ascending(query, "desc") else found[::-1]
    told = page(query, ordered, lambda item: str(item["id"]), dict, 100)
    return {**told, "first_id": told["first_id"] or "", "last_id": told["last_id"] or ""}


def listed(data: Sequence[dict[str, Any]], *, more: bool) -> dict[str, Any]:
    """A page of these, after which there are `more` or not."""
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return {"object": "list", "data": data, **ends, "has_more": more}


def limited(query: Mapping[str, str], most: int) -> int:
    """How many a query asks for. Raises BadInput."""
    text = query.get("limit", str(min(most, 20) if most <= 100 else most))
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text[:9]) <= most:
        raise BadInput(f"limit is {text[:20]!r}", f"Ask for 1 to {most}", param="limit")
    return int(text[:9])


def place(after: str, names: Sequence[str]) -> int:
    """Where a page begins that goes on after one of these. Raises BadInput."""
    if after not in names:
        raise BadInput(f"after names nothing of the list: {after[:80]!r}", "Take an id of a page", param="after")
    return names.index(after) + 1


def ascending(query: Mapping[str, str], usual: str) -> bool:
    """Whether a query asks for the oldest first. Raises BadInput."""
    order = query.get("order", usual)
    if order not in ("asc", "desc"):
        raise BadInput(f"order is {order[:20]!r}", "Ask for asc or desc", param="order")
    return order == "asc"


def metadata(query: Mapping[str, str]) -> dict[str, str]:
    """The metadata that a query asks for, as in metadata[key]=value."""
    return {name[9:-1]: value for name, value in query.items() if name.startswith("metadata[") and name[-1] == "]"}
