"""Plain text and Markdown: sections, each a text to go on learning language from."""

from pathlib import Path

from freehold.data.readers import Reader, Table
from freehold.data.readers.delimited import DELIMITERS, fitness
from freehold.data.sections import sections
from freehold.data.text import read_text

_MARKDOWN = (".md", ".markdown", ".rst")
_ENDS = (".", "!", "?", ":", "。")
_ALIKE = 0.8
"""Share of a delimited file's lines that have as many fields as its header, at least."""


def read(path: Path) -> Table:
    """The sections of a text, each with the line it begins on."""
    records = tuple((line, {"text": text}) for line, text in sections(read_text(path).replace("\r\n", "\n")))
    return Table(records, ("text",), (f"the text is read in {len(records)} sections",))


def _likelihood(head: bytes, suffix: str) -> int:
    if suffix in _MARKDOWN:
        return 80
    return 30 if suffix in (".txt", ".text") and _prose(head) else 0


def _prose(head: bytes) -> bool:
    """Whether the first line is a sentence and no header, or no separator splits the lines alike."""
    lines = head.decode("utf-8", "replace").splitlines(keepends=True)
    if any(line.strip() for line in lines) and next(line for line in lines if line.strip()).rstrip().endswith(_ENDS):
        return True
    text = "".join(lines[:-1] or lines)
    return all(share < _ALIKE or fields < 2 for share, fields in (fitness(text, mark) for mark in DELIMITERS))


READER = Reader("text", _likelihood, read)
