"""Lists that are read a page at a time, in either direction."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from freehold.core.errors import BadInput

_PAGE, _MOST = 20, 1000
T = TypeVar("T")


def page(query: Mapping[str, str], found: Sequence[T], name: Callable[[T], str]) -> tuple[list[T], bool]:
    """The page that a query asks for, and whether there is more in its direction. Raises BadInput."""
    limit = _limit(query.get("limit", str(_PAGE)))
    names = [name(each) for each in found]
    begin, end = 0, len(found)
    if "after_id" in query:
        begin = _place(names, query["after_id"], "after_id") + 1
    if "before_id" in query:
        end = _place(names, query["before_id"], "before_id")
        begin = max(begin, end - limit)
    chosen = list(found[begin:end][:limit])
    return chosen, begin > 0 if "before_id" in query else begin + len(chosen) < len(found)


def _limit(text: str) -> int:
    if not text.isdecimal() or len(text) > 9 or not 1 <= int(text) <= _MOST:
        raise BadInput(f"limit is {text[:20]!r}", f"Ask for 1 to {_MOST}", param="limit")
    return int(text)


def _place(names: list[str], name: str, param: str) -> int:
    if name not in names:
        raise BadInput(f"{param} names nothing of the list: {name[:120]!r}", "Take an id of a page", param=param)
    return names.index(name)
