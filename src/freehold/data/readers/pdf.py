"""PDF, through pypdf in a process of its own: the text of each page. Scanned pages have none."""

import re
from pathlib import Path

from freehold.data.foreign import values
from freehold.data.readers import Reader, Table
from freehold.data.text import read_bytes

_HYPHEN = re.compile(r"(?<=[a-zà-ÿ])-\n(?=[a-zà-ÿ])")


def read(path: Path) -> Table:
    """The pages of a PDF, each with its number. Raises BadData, MissingExtra, TooLarge."""
    read_bytes(path)
    pages = values("pdf", path, "PDF", "pypdf")
    records = tuple((number, {"text": _HYPHEN.sub("", text)}) for number, text in enumerate(pages, 1))
    return Table(records, ("text",), (f"the text of {len(records)} pages is read",), unit="page")


def _likelihood(head: bytes, suffix: str) -> int:
    return 100 if head.startswith(b"%PDF-") or suffix == ".pdf" else 0


READER = Reader("pdf", _likelihood, read)
