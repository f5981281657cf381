"""Row and Dataset: conversations to learn from, and their canonical file."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import BadData, NotFound
from freehold.core.request import Message
from freehold.formats.atomic import replacing


class Row(msgspec.Struct, frozen=True):
    """One conversation, ending with the assistant; `line` is where the source file holds it."""

    messages: tuple[Message, ...]
    line: int = 0

    @property
    def question(self) -> str:
        """What the user said, all turns."""
        return "\n".join(message.content for message in self.messages if message.role == "user")

    @property
    def answer(self) -> str:
        """The last thing that the assistant said."""
        return self.messages[-1].content

    def encode(self) -> bytes:
        """The canonical JSON of the conversation, without its line."""
        return msgspec.json.encode({"messages": [_plain(message) for message in self.messages]})


class Dataset(msgspec.Struct, frozen=True):
    """Rows of one file, and what was assumed and left out in reading it."""

    rows: tuple[Row, ...]
    format: str
    columns: dict[str, str]
    """Role to column, where the file has columns."""
    digest: Digest
    """Of the conversations, whatever their order."""
    notes: tuple[str, ...] = ()


class _Line(msgspec.Struct, frozen=True):
    messages: tuple[Message, ...]


def digest_rows(rows: Iterable[Row]) -> Digest:
    """The identity of a set of conversations: independent of order and line numbers."""
    return Digest.of_chunks(sorted(Digest.of_bytes(row.encode()).text.encode() for row in rows))


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write one canonical JSON object a line. Raises DiskFull."""
    with replacing(path) as temporary:
        temporary.write_bytes(b"".join(row.encode() + b"\n" for row in rows))


def read_rows(path: Path) -> tuple[Row, ...]:
    """The rows of a file that `write_rows` made. Raises BadData naming the line, NotFound."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError as error:
        raise NotFound(f"no such file: {path}", "Check the path") from error
    except OSError as error:
        raise BadData(f"cannot read {path}: {error.strerror}", "Give a file that you may read") from error
    return tuple(_decode(path, number, line) for number, line in enumerate(lines, 1) if line.strip())


def _decode(path: Path, number: int, line: bytes) -> Row:
    try:
        return Row(msgspec.json.decode(line, type=_Line).messages, number)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadData(f"{path} line {number}: {error}", 'Each line is {"messages": [...]}') from error


def _plain(message: Message) -> dict[str, Any]:
    """Only what is set, role and content first."""
    fields = msgspec.structs.asdict(message)
    return {name: value for name, value in fields.items() if name in ("role", "content") or value}
