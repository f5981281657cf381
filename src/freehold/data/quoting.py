"""Quotes that are left open: the rows below, up to the next quote, are taken into a field, and nothing else tells."""

from collections.abc import Iterator, Sequence

from freehold.data.findings import Finding, finding


class OpenQuotes:
    """Watches the rows of a delimited file go by."""

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter
        self._lengths: list[int] = []
        self._suspects: list[tuple[int, int, float]] = []
        """First line, last line, and how long the lines between are on average."""

    def watched(self, rows: Iterator[tuple[int, list[str]]], columns: int) -> Iterator[tuple[int, list[str]]]:
        """The rows as they are, each with its line."""
        for line, fields in rows:
            breaks = sum(field.count("\n") for field in fields)
            if not breaks:
                self._lengths.append(sum(map(len, fields)))
            elif breaks > 1 and len(fields) == columns > 1:
                inner = next(filter(None, (self._rows_in(fields, at) for at in range(columns))), [])
                if inner:
                    self._suspects.append((line, line + breaks, sum(map(len, inner)) / len(inner)))
            yield line, fields

    def findings(self) -> tuple[Finding, ...]:
        """A finding on rows that hold others: lines too short to be rows of this file are somebody's text."""
        typical = sorted(self._lengths)[len(self._lengths) // 2] if self._lengths else float("inf")
        found = [(line, f"up to line {last}") for line, last, length in self._suspects if length >= typical / 2]
        text = "row{s} hold{v} the lines below, which look like rows: a quote is left open there"
        return (finding("quote", "kept", text, found),) if found else ()

    def _rows_in(self, fields: Sequence[str], at: int) -> list[str]:
        """The lines inside of a field, if each line of the row has the separators of a row.

        Letters, verses and code have them in some lines only, or with blanks after them.
        """
        first, *inner, last = fields[at].replace("\r\n", "\n").split("\n") if "\n" in fields[at] else ["", ""]
        others = len(fields) - 1
        alike = first.count(self._delimiter) == others - at and last.count(self._delimiter) == at
        if not alike or others * len(inner) < 2 or any(map(self._prose, inner)):
            return []
        if any(line.count(self._delimiter) != others for line in inner):
            return []
        return [] if all(line.endswith(self._delimiter) for line in inner) else inner

    def _prose(self, line: str) -> bool:
        return f"{self._delimiter} " in line
