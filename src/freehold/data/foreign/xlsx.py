"""The rows of the sheet in a workbook that holds the data. Run as a script by data.foreign; it imports nothing of ours.

Writes {"sheet", "others"}, then [number, cells] for each row that is not empty.
"""

import datetime
import json
import re
import resource
import sys
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

MEMORY, SECONDS = 3 << 30, 600
MAX_ROW = 1 << 20
"""As many as a sheet can have: a hostile one counts on."""


_ERRORS = {"#N/A", "#REF!", "#NAME?", "#VALUE!", "#DIV/0!", "#NULL!", "#NUM!", "#SPILL!", "#CALC!", "#GETTING_DATA"}
"""What stands where a formula failed: nobody said it."""
_ESCAPED = re.compile("_x(?![Dd][89A-Fa-f])([0-9A-Fa-f]{4})_")
"""A character that XML does not keep, often half of a line end (ECMA-376, ST_Xstring). Halves of pairs stay."""


def rows(sheet: Any) -> Iterator[tuple[int, list[Any]]]:
    """The rows that are not empty, with their numbers."""
    sheet.reset_dimensions()  # what a sheet says of its size may be wrong
    for number, cells in enumerate(sheet.iter_rows(max_row=MAX_ROW, values_only=True), 1):
        plain = [spelt(cell) for cell in cells]
        while plain and plain[-1] in (None, ""):
            plain.pop()
        if plain:
            yield number, plain


def spelt(cell: Any) -> Any:
    """A cell's value as JSON has it; dates as ISO 8601 writes them."""
    if isinstance(cell, datetime.datetime):
        return cell.date().isoformat() if cell.time() == datetime.time() else cell.isoformat(" ")
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1 << 53:
        return int(cell)
    if isinstance(cell, str):
        return None if cell in _ERRORS else unescaped(cell)
    return cell if cell is None or isinstance(cell, bool | int | float) else str(cell)


def unescaped(text: str) -> str:
    """A text as Excel shows it, lines ending as everywhere else."""
    found = _ESCAPED.sub(lambda escape: chr(int(escape[1], 16)), text)
    return text if found == text else found.replace("\r\n", "\n").replace("\r", "\n")


def say(value: Any) -> None:
    """Write a line."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def main(path: str) -> None:
    """Open the workbook within bounds, and write."""
    if sys.platform != "darwin":  # it counts what all programs share there, and would be refused
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import openpyxl

    # Opened here: given a path, it asks for a name that ends in .xlsx.
    with Path(path).open("rb") as file:
        book = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
        write(book.worksheets)


def write(sheets: list[Any]) -> None:
    """Write the first sheet that has a second row, or else the first with one: a cover is no data."""
    for least in (2, 1):
        for sheet in sheets:
            found = rows(sheet)
            first = list(islice(found, least))
            if len(first) == least:
                say({"sheet": sheet.title, "others": [other.title for other in sheets if other is not sheet]})
                for row in chain(first, found):
                    say(row)
                return


if __name__ == "__main__":
    main(sys.argv[1])
