"""Kinds of rows to learn from, and their canonical file: one JSON object a line, whose keys tell its kind.

kind         class       keys of a line                                  learned by
chat         Row         messages [tools]                                supervised tuning
preference   Preference  messages, chosen, rejected [tools]              DPO, ORPO
judged       Judged      messages, label (true, false) [tools]           KTO
prompt       Prompt      prompt [reference, tools]                       GRPO
text         Document    text                                            continued pre-training
labelled     Labelled    text, label                                     classifiers
pair         Pair        anchor, positive [negatives, score]             embedding models

Messages are `core.request.Message` with what is not set left out, and a `weight` where it is not 1. `synthetic` on any
line names the model that wrote it.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from freehold.core.digest import Digest
from freehold.core.errors import BadData, NotFound
from freehold.core.request import Message, Tool, ToolCall
from freehold.data.findings import Finding
from freehold.formats.atomic import replacing

Messages = tuple[Message, ...]
Weight = Annotated[float, Meta(ge=0, le=1)]


def told(message: Message) -> str:
    """What a turn says, its tool calls spelt as `name(arguments)`, equal calls alike."""
    return "\n".join(filter(None, (message.content, *(f"{call.name}({_spelt(call)})" for call in message.tool_calls))))


def _spelt(call: ToolCall) -> str:
    try:
        return msgspec.json.encode(msgspec.json.decode(call.arguments), order="sorted").decode()
    except (msgspec.DecodeError, RecursionError):
        return call.arguments


class Conversation(msgspec.Struct, frozen=True):
    """What rows of messages share; `line` is where the source file holds it."""

    messages: Messages
    line: int = 0
    tools: tuple[Tool, ...] = ()
    synthetic: str = ""

    @property
    def question(self) -> str:
        """What the user said, all turns."""
        return "\n".join(message.content for message in self.messages if message.role == "user")


class Row(Conversation, frozen=True):
    """One conversation, ending with the assistant."""

    kind: ClassVar[str] = "chat"
    weights: tuple[Weight, ...] = ()
    """How much each message counts in the loss, if it is the assistant's; empty when each of those counts 1."""

    @property
    def answer(self) -> str:
        """The last thing that the assistant said, or called."""
        return told(self.messages[-1])

    def encode(self) -> bytes:
        """The canonical JSON of the conversation, without its line."""
        messages = _plain(self.messages)
        for message, weight in zip(messages, self.weights, strict=False):
            if weight != 1:
                message["weight"] = int(weight) if weight == int(weight) else weight
        return _line(self, messages=messages)


class Preference(Conversation, frozen=True, kw_only=True):
    """A conversation that waits for an answer, an answer that is wanted there, and one that is not."""

    kind: ClassVar[str] = "preference"
    chosen: Messages
    rejected: Messages

    @property
    def answer(self) -> str:
        """The answer that is wanted."""
        return told(self.chosen[-1])

    def encode(self) -> bytes:
        """The canonical JSON, without the line."""
        messages, chosen, rejected = map(_plain, (self.messages, self.chosen, self.rejected))
        return _line(self, messages=messages, chosen=chosen, rejected=rejected)


class Judged(Conversation, frozen=True, kw_only=True):
    """A conversation that ends with the assistant, and whether that answer is wanted."""

    kind: ClassVar[str] = "judged"
    label: bool

    @property
    def answer(self) -> str:
        """The answer that is judged."""
        return told(self.messages[-1])

    def encode(self) -> bytes:
        """The canonical JSON, without the line."""
        return _line(self, messages=_plain(self.messages), label=self.label)


class Prompt(Conversation, frozen=True):
    """A conversation that waits for an answer, and what a right answer says, where that is known."""

    kind: ClassVar[str] = "prompt"
    reference: str = ""

    @property
    def answer(self) -> str:
        """What a right answer says; empty where nobody says."""
        return self.reference

    def encode(self) -> bytes:
        """The canonical JSON, without the line."""
        reference = {"reference": self.reference} if self.reference else {}
        return _line(self, prompt=_plain(self.messages), **reference)


class Document(msgspec.Struct, frozen=True):
    """A text to go on learning language from."""

    kind: ClassVar[str] = "text"
    text: str
    line: int = 0
    synthetic: str = ""

    @property
    def question(self) -> str:
        """The text: what makes two of them the same."""
        return self.text

    @property
    def answer(self) -> str:
        """Nothing: a text answers nobody."""
        return ""

    def encode(self) -> bytes:
        """The canonical JSON, without the line."""
        return _line(self, text=self.text)


class Labelled(msgspec.Struct, frozen=True):
    """A text and the class that it belongs to."""

    kind: ClassVar[str] = "labelled"
    text: str
    label: str
    line: int = 0
    synthetic: str = ""

    @property
    def question(self) -> str:
        """The text."""
        return self.text

    @property
    def answer(self) -> str:
        """The class."""
        return self.label

    def encode(self) -> bytes:
        """The canonical JSON, without the line."""
        return _line(self, text=self.text, label=self.label)


class Pair(msgspec.Struct, frozen=True):
    """Two texts that belong together, or as much as `score` says, and others that do not belong to the first."""

    kind: ClassVar[str] = "pair"
    anchor: str
    positive: str
    negatives: tuple[str, ...] = ()
    score: float | None = None
    line: int = 0
    synthetic: str = ""

    @property
    def question(self) -> str:
        """The first text."""
        return self.anchor

    @property
    def answer(self) -> str:
        """The second."""
        return self.positive

    def encode(self) -> bytes:
        """The canonical JSON, without the line."""
        more: dict[str, Any] = {"negatives": self.negatives} if self.negatives else {}
        more |= {} if self.score is None else {"score": self.score}
        return _line(self, anchor=self.anchor, positive=self.positive, **more)


AnyRow = Row | Preference | Judged | Prompt | Document | Labelled | Pair
R = TypeVar("R", bound=AnyRow)
KINDS: dict[str, type[AnyRow]] = {kind.kind: kind for kind in get_args(AnyRow)}


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of one file, what was assumed in reading it, and what is wrong with it."""

    rows: tuple[AnyRow, ...]
    format: str
    columns: dict[str, str]
    """Role to column, where the file has columns."""
    digest: Digest
    """Of the rows, whatever their order."""
    kind: str
    records: int
    """Rows that the file has, those that were left out included."""
    unit: str = "line"
    """What the rows' `line` counts: line, item, row, page."""
    assumed: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed and found, each in a line of text."""
        return (*self.assumed, *(found.said() for found in self.findings))


def texts(row: AnyRow) -> list[str]:
    """Every text of a row that somebody may have written: no names, ids or labels."""
    found: list[str] = []

    def note(text: str) -> str:
        found.append(text)
        return text

    map_texts(row, note)
    return found


def map_texts(row: R, change: Callable[[str], str]) -> R:
    """The row with each of its texts changed."""
    return msgspec.structs.replace(
        row, **{name: _changed(getattr(row, name), change) for name in _TEXTS if name in row.__struct_fields__}
    )


_TEXTS = ("messages", "chosen", "rejected", "reference", "text", "anchor", "positive", "negatives")


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_changed(each, change) for each in value)
    calls = tuple(msgspec.structs.replace(call, arguments=change(call.arguments)) for call in value.tool_calls)
    reasoning = change(value.reasoning) if value.reasoning else ""
    return msgspec.structs.replace(value, content=change(value.content), tool_calls=calls, reasoning=reasoning)


def as_chat(row: AnyRow) -> Row | None:
    """The conversation in which a row's wanted answer is given; None for a row that has none."""
    if isinstance(row, Row):
        return row
    if isinstance(row, Judged):
        return Row(row.messages, row.line, row.tools, row.synthetic) if row.label else None
    if isinstance(row, Preference):
        return Row((*row.messages, *row.chosen), row.line, row.tools, row.synthetic)
    if isinstance(row, Prompt) and row.reference:
        return Row((*row.messages, Message("assistant", row.reference)), row.line, row.tools, row.synthetic)
    return None


def digest_rows(rows: Iterable[AnyRow]) -> Digest:
    """The identity of a set of rows: independent of order and line numbers."""
    return Digest.of_chunks(sorted(Digest.of_bytes(row.encode()).text.encode() for row in rows))


def write_rows(path: Path, rows: Sequence[AnyRow]) -> None:
    """Write one canonical JSON object a line. Raises DiskFull."""
    with replacing(path) as temporary:
        temporary.write_bytes(b"".join(row.encode() + b"\n" for row in rows))


def read_rows(path: Path) -> tuple[Row, ...]:
    """The conversations of a file that `write_rows` made. Raises BadData naming the line, NotFound."""
    return read_kind(path, Row)


def read_kind(path: Path, kind: type[R]) -> tuple[R, ...]:
    """The rows of a file that `write_rows` made, all of one kind. Raises BadData naming the line, NotFound."""
    return tuple(_of_kind(path, row, kind) for row in read_any(path))


def read_any(path: Path) -> tuple[AnyRow, ...]:
    """The rows of a file that `write_rows` made, of whatever kinds. Raises BadData naming the line, NotFound."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError as error:
        raise NotFound(f"no such file: {path}", "Check the path") from error
    except OSError as error:
        raise BadData(f"cannot read {path}: {error.strerror}", "Give a file that you may read") from error
    return tuple(_decode(path, number, line) for number, line in enumerate(lines, 1) if line.strip())


def _of_kind(path: Path, row: AnyRow, kind: type[R]) -> R:
    if isinstance(row, kind):
        return row
    raise BadData(
        f"{path} line {row.line} is of the kind {row.kind!r}, not {kind.kind!r}",
        f"Use a method that learns from {row.kind} rows, or set [data] kind",
    )


class _Turn(Message, frozen=True):
    weight: Weight = 1.0


class _Line(msgspec.Struct, frozen=True):
    """Every key of a canonical line. Without weights, messages are decoded as what they stay: millions of them."""

    messages: Messages | UnsetType = UNSET
    chosen: Messages = ()
    rejected: Messages = ()
    prompt: Messages | UnsetType = UNSET
    reference: str = ""
    text: str | UnsetType = UNSET
    label: bool | str | UnsetType = UNSET
    anchor: str | UnsetType = UNSET
    positive: str = ""
    negatives: tuple[str, ...] = ()
    score: float | None = None
    tools: tuple[Tool, ...] = ()
    synthetic: str = ""


class _Weighted(msgspec.Struct, frozen=True):
    messages: tuple[_Turn, ...] = ()


_LINES = msgspec.json.Decoder(_Line)
_REMEDY = 'Each line is {"messages": [...]} or another kind of row; see docs/data.md'


def _decode(path: Path, number: int, line: bytes) -> AnyRow:
    try:
        row = _row(_LINES.decode(line), number, line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadData(f"{path} line {number}: {error}", _REMEDY) from error
    if row is None:
        raise BadData(f"{path} line {number} holds no messages, prompt, text or anchor", _REMEDY)
    return row


def _row(line: _Line, number: int, source: bytes) -> AnyRow | None:
    """The row that a decoded line says; None for one that says none."""
    if isinstance(line.messages, tuple):
        return _conversation(line, line.messages, number, source)
    if isinstance(line.prompt, tuple):
        return Prompt(line.prompt, number, line.tools, line.synthetic, line.reference)
    if isinstance(line.text, str):
        if isinstance(line.label, str):
            return Labelled(line.text, line.label, number, line.synthetic)
        return Document(line.text, number, line.synthetic)
    if isinstance(line.anchor, str):
        return Pair(line.anchor, line.positive, line.negatives, line.score, number, line.synthetic)
    return None


def _conversation(line: _Line, messages: Messages, number: int, source: bytes) -> AnyRow | None:
    if line.chosen or line.rejected:
        if not (line.chosen and line.rejected):
            return None
        sides = {"chosen": line.chosen, "rejected": line.rejected}
        return Preference(messages, number, line.tools, line.synthetic, **sides)
    if isinstance(line.label, bool):
        return Judged(messages, number, line.tools, line.synthetic, label=line.label)
    weights: tuple[float, ...] = ()
    if b'"weight"' in source:
        given = tuple(turn.weight for turn in msgspec.json.decode(source, type=_Weighted).messages)
        weights = given if set(given) - {1.0} else ()
    return Row(messages, number, line.tools, line.synthetic, weights)


def _line(row: AnyRow, **fields: Any) -> bytes:
    """A line of the canonical file, what is not set left out."""
    if isinstance(row, Conversation) and row.tools:
        fields["tools"] = [_set(tool) for tool in row.tools]
    if row.synthetic:
        fields["synthetic"] = row.synthetic
    return msgspec.json.encode(fields)


def _plain(messages: Messages) -> list[dict[str, Any]]:
    """Only what is set, role and content first."""
    return [_set(message, "role", "content") for message in messages]


def _set(value: Message | Tool, *always: str) -> dict[str, Any]:
    fields = msgspec.structs.asdict(value)
    return {name: field for name, field in fields.items() if name in always or field}
