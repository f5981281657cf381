"""Chats to token ids with a loss weight each: what the assistant wrote is learned, the rest is context."""

from array import array
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from freehold.core.errors import BadData, BadModelFile
from freehold.core.request import Message
from freehold.formats import chat_template

_CHUNK = 1024
"""Rows rendered and tokenised at a time: an encoding takes 50 times the memory of its ids."""
_CHARACTERS = 1 << 20
"""Of messages in such a chunk, unless one row has more: each turn is rendered several times."""
_SECONDS = 120.0
"""For which a chunk of rows may be rendered."""


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

    def samples(self, rows: Sequence[Sequence[Message]]) -> Iterator[Sample]:
        """One sample per row, in order. Raises BadData for a row without an assistant's turn."""
        for chunk in _chunks(rows):
            texts = self.texts_and_spans(chunk)
            encodings = self._tokenizer.encode_batch([text for text, _ in texts], add_special_tokens=False)
            for (_, spans), encoding in zip(texts, encodings, strict=True):
                yield self._sample(encoding.ids, encoding.offsets, spans)

    def texts_and_spans(self, rows: Sequence[Sequence[Message]]) -> list[tuple[str, list[tuple[int, int]]]]:
        """The rendered chats, and the character ranges that the assistant wrote, end of turn included."""
        wanted = [each for row in rows for each in _wanted(row)]
        texts = iter(chat_template.render_many(self._template, wanted, seconds=_SECONDS, **self._names))
        return [_spans(row, texts) for row in rows]

    def _sample(self, ids: list[int], offsets: list[tuple[int, int]], spans: list[tuple[int, int]]) -> Sample:
        weights = [self._prompt_weight] * len(ids)
        at = 0
        for index, (begin, end) in enumerate(offsets):
            while at < len(spans) and spans[at][1] <= begin:
                at += 1
            if at < len(spans) and spans[at][0] <= begin and end <= spans[at][1]:
                weights[index] = 1.0
        cut = len(ids) > self._max_length
        return Sample(array("i", ids[: self._max_length]), array("f", weights[: self._max_length]), cut)


def _chunks(rows: Sequence[Sequence[Message]]) -> Iterator[Sequence[Sequence[Message]]]:
    begin = characters = 0
    for at, row in enumerate(rows):
        size = sum(len(message.content) for message in row) * len(row)
        if at > begin and (at - begin == _CHUNK or characters + size > _CHARACTERS):
            yield rows[begin:at]
            begin, characters = at, 0
        characters += size
    if begin < len(rows):
        yield rows[begin:]


def _wanted(row: Sequence[Message]) -> Iterator[chat_template.Wanted]:
    """A row whole, and for each of its answers the prompt for it and, unless it is the last turn, all up to its end."""
    messages = [{"role": message.role, "content": message.content} for message in row]
    yield chat_template.Wanted(messages, False)
    for index, message in enumerate(row):
        if message.role == "assistant":
            yield chat_template.Wanted(messages[:index], True)
            if index + 1 < len(row):
                yield chat_template.Wanted(messages[: index + 1], False)


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
