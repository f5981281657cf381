"""Chats to token ids with a loss weight each: what the assistant wrote is learned, the rest is context."""

from array import array
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from freehold.core.errors import BadData, BadModelFile
from freehold.core.request import Message, Tool
from freehold.data.rows import Prompt, Row
from freehold.formats import chat_template

_CHUNK = 1024
"""Rows rendered and tokenised at a time: an encoding takes 50 times the memory of its ids."""
_CHARACTERS = 1 << 20
"""Of messages in such a chunk, unless one row has more: each turn is rendered several times."""
_SECONDS = 120.0
"""For which a chunk of rows may be rendered."""
Chat = Row | Sequence[Message]
"""A row, or the messages of one whose answers all count and that offers no tools."""


class Sample(NamedTuple):
    """One row: ids, and the weight that each token has as a target. Arrays: millions of tokens fit in memory."""

    ids: "array[int]"
    weights: "array[float]"
    cut: bool

    @property
    def supervised(self) -> bool:
        """Whether anything is left to learn."""
        return any(weight > 0 for weight in self.weights[1:])


class Encoded(Protocol):
    """A text's tokens, and the characters that each stands for: from, and up to."""

    @property
    def ids(self) -> list[int]:
        """By their numbers."""

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """As many."""


class Encoder(Protocol):
    """What makes tokens of text, those whose names are in it too: tokenizers', or llama.cpp's own."""

    def encode_batch(self, texts: Any, /, *, add_special_tokens: bool) -> Sequence[Encoded]:
        """The tokens of each."""

    def token_to_id(self, token: str, /) -> int | None:
        """The number of a token by its name; None where there is none."""

    def decode(self, ids: Any, /, *, skip_special_tokens: bool) -> str:
        """What tokens spell."""


class Renderer:
    """Renders rows with the model's own chat template, exactly as the server will at inference."""

    def __init__(
        self, tokenizer: Encoder, template: str, *, max_length: int, prompt_weight: float, **names: Any
    ) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._max_length = max_length
        self._prompt_weight = prompt_weight
        self._names = names
        self.joined = 0
        """Answers so far whose first token began with the space that the prompt ended in."""

    def samples(self, rows: Sequence[Chat]) -> Iterator[Sample]:
        """One sample per row, in order. Raises BadData for a row without an assistant's turn."""
        for chunk in _chunks([_row(row) for row in rows]):
            texts = self.texts_and_spans(chunk)
            encodings = self._tokenizer.encode_batch([text for text, _ in texts], add_special_tokens=False)
            for row, (text, spans), encoding in zip(chunk, texts, encodings, strict=True):
                yield self._sample(text, encoding, spans, _weights(row))

    def prompts(self, rows: Sequence[Prompt]) -> Iterator[Sample]:
        """Prompts for an answer, in order. One that is too long to be answered has nothing to be learned."""
        for begin in range(0, len(rows), _CHUNK):
            chunk = rows[begin : begin + _CHUNK]
            wanted = [chat_template.Wanted(turns_of(row.messages), True, tools_of(row.tools)) for row in chunk]
            texts = list(chat_template.render_many(self._template, wanted, seconds=_SECONDS, **self._names))
            for encoding in self._tokenizer.encode_batch(texts, add_special_tokens=False):
                ids = encoding.ids[: self._max_length]
                cut = len(encoding.ids) >= self._max_length
                weights = array("f", [*[0.0] * (len(ids) - 1), float(not cut)][: len(ids)])
                yield Sample(array("i", ids), weights, cut)

    def texts(self, texts: Sequence[str]) -> Iterator[Sample]:
        """Plain texts, in order, in pieces of at most `max_length` tokens; the model's end of text is behind each."""
        end = self._tokenizer.token_to_id(str(self._names.get("eos_token", "")))
        for begin in range(0, len(texts), _CHUNK):
            for encoding in self._tokenizer.encode_batch(texts[begin : begin + _CHUNK], add_special_tokens=False):
                ids = [*encoding.ids, *([] if end is None else [end])]
                for at in range(0, len(ids), self._max_length):
                    piece = ids[at : at + self._max_length]
                    yield Sample(array("i", piece), array("f", [1.0] * len(piece)), False)

    def whole(self, texts: Sequence[str]) -> Iterator[tuple[list[int], bool]]:
        """The tokens of each plain text as a model reads it, special ones included, and whether its end was cut."""
        for begin in range(0, len(texts), _CHUNK):
            for encoding in self._tokenizer.encode_batch(texts[begin : begin + _CHUNK], add_special_tokens=True):
                yield encoding.ids[: self._max_length], len(encoding.ids) > self._max_length

    def texts_and_spans(self, rows: Sequence[Chat]) -> list[tuple[str, list[tuple[int, int]]]]:
        """The rendered chats, and the character ranges that the assistant wrote, end of turn included."""
        given = [_row(row) for row in rows]
        wanted = [each for row in given for each in _wanted(row)]
        texts = iter(chat_template.render_many(self._template, wanted, seconds=_SECONDS, **self._names))
        return [_spans(row.messages, texts) for row in given]

    def _sample(self, text: str, encoding: Encoded, spans: list[tuple[int, int]], counts: Sequence[float]) -> Sample:
        ids = encoding.ids
        weights = [self._prompt_weight] * len(ids)
        at = 0
        for index, (begin, end) in enumerate(encoding.offsets):
            while at < len(spans) and spans[at][1] <= begin:
                at += 1
            if at < len(spans) and end <= spans[at][1] and _of_answer(text, begin, end, spans[at][0]):
                weights[index] = counts[at]
                self.joined += begin < spans[at][0]
        cut = len(ids) > self._max_length
        return Sample(array("i", ids[: self._max_length]), array("f", weights[: self._max_length]), cut)


def _of_answer(text: str, begin: int, end: int, answer: int) -> bool:
    """Whether a token is of the answer that begins at `answer`: its first word too, where that took the space before
    it, which the prompt ends in, into the same token.
    """
    return answer <= begin or (answer < end and text[begin:answer].isspace())


def _row(chat: Chat) -> Row:
    return chat if isinstance(chat, Row) else Row(tuple(chat))


def _weights(row: Row) -> list[float]:
    """How much each of the assistant's turns counts."""
    weights = row.weights or (1.0,) * len(row.messages)
    return [weight for message, weight in zip(row.messages, weights, strict=True) if message.role == "assistant"]


def _chunks(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    begin = characters = 0
    for at, row in enumerate(rows):
        size = sum(len(message.content) for message in row.messages) * len(row.messages)
        if at > begin and (at - begin == _CHUNK or characters + size > _CHARACTERS):
            yield rows[begin:at]
            begin, characters = at, 0
        characters += size
    if begin < len(rows):
        yield rows[begin:]


def _wanted(row: Row) -> Iterator[chat_template.Wanted]:
    """A row whole, and for each of its answers the prompt for it and, unless it is the last turn, all up to its end."""
    messages, tools = turns_of(row.messages), tools_of(row.tools)
    yield chat_template.Wanted(messages, False, tools)
    for index, message in enumerate(row.messages):
        if message.role == "assistant":
            yield chat_template.Wanted(messages[:index], True, tools)
            if index + 1 < len(row.messages):
                yield chat_template.Wanted(messages[: index + 1], False, tools)


def turns_of(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as chat templates read them: arguments of calls as objects, where they are."""
    return [_turn(message) for message in messages]


def _turn(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    more = {"tool_call_id": message.tool_call_id, "name": message.name, "reasoning_content": message.reasoning}
    turn |= {key: value for key, value in more.items() if value}
    if message.tool_calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _object(call.arguments)}}
            for call in message.tool_calls
        ]
    return turn


def _object(arguments: str) -> Any:
    try:
        value = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return arguments
    return value if isinstance(value, dict) else arguments


def tools_of(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Tools as chat templates read them."""
    return [{"type": "function", "function": msgspec.structs.asdict(tool)} for tool in tools]


def _spans(row: Sequence[Message], texts: Iterator[str]) -> tuple[str, list[tuple[int, int]]]:
    """What the texts of `_wanted(row)` say, taken from `texts`."""
    text = next(texts)
    spans = []
    for index, message in enumerate(row):
        if message.role != "assistant":
            continue
        before = next(texts)
        after = next(texts) if index + 1 < len(row) else text
        if not after.startswith(before):
            raise BadModelFile(
                "the chat template renders a finished answer differently from a prompt for it",
                "Use a base whose chat template only appends",
            )
        spans.append((len(before), len(after.rstrip("\n"))))
    if not spans:
        raise BadData("a row has no assistant message", "Every row needs an answer to learn from")
    return text, spans
