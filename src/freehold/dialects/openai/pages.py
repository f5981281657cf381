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
) -> dict[str, Any]:
    """The page that a query asks for, of a list in its order. `most` is also how many there are unless it says."""
    limit = _limit(query.get("limit", str(min(most, 20) if most <= 100 else most)), most)
    begin = 0
    if query.get("after"):
        names = [name(each) for each in found]
        if query["after"] not in names:
            raise BadInput(
                f"after names nothing of the list: {query['after'][:80]!r}", "Take an id of a page", param="after"
            )
        begin = names.index(query["after"]) + 1
    data = [body(each) for each in found[begin : begin + limit]]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": begin + limit < len(found),
    }


def _limit(text: str, most: int) -> int:
    if not text.isdecimal() or not 1 <= int(text[:9]) <= most:
        raise BadInput(f"limit is {text[:20]!r}", f"Ask for 1 to {most}", param="limit")
    return int(text)
