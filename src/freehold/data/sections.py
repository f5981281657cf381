"""A long text in sections: at page breaks, then where it breaks best: headings, paragraphs, lines, sentences."""

import re
from collections.abc import Iterator

LONGEST, SHORTEST = 8000, 400
"""Characters of a section, unless its text is short: then about this many sections are made."""
WANTED = 20
_PARTS = re.compile(r"\f|^<\|endoftext\|>$", re.MULTILINE)
_BREAKS = tuple(map(re.compile, (r"\n(?=#{1,6} )", r"\n[ \t]*\n", r"\n", r"(?<=[.!?。！？])\s", r"\s")))


def sections(text: str, longest: int = 0) -> Iterator[tuple[int, str]]:
    """Sections of at most `longest` characters, each with the line it begins on; nothing but blanks is left out."""
    most = longest or min(LONGEST, max(SHORTEST, len(text) // WANTED))
    line, at = 1, 0
    for begin, end in _bounds(text, most):
        line += text.count("\n", at, begin)
        at = begin
        yield line, text[begin:end]


def _bounds(text: str, most: int) -> Iterator[tuple[int, int]]:
    """Where the sections begin and end, without blanks around them."""
    begin = 0
    for part in [*_PARTS.finditer(text), None]:
        end = part.start() if part else len(text)
        yield from _cut(text, begin, end, most)
        begin = part.end() if part else end


def _cut(text: str, begin: int, end: int, most: int) -> Iterator[tuple[int, int]]:
    while begin < end:
        stop = end if end - begin <= most else _stop(text, begin, begin + most)
        piece = text[begin:stop]
        bare = piece.strip()
        if bare:
            first = begin + piece.index(bare[0])
            yield first, first + len(bare)
        begin = stop


def _stop(text: str, begin: int, limit: int) -> int:
    """The last good place to cut between the middle and the limit."""
    middle = (begin + limit) // 2
    for places in _BREAKS:
        found = [match.end() for match in places.finditer(text, middle, limit)]
        if found:
            return found[-1]
    return limit
