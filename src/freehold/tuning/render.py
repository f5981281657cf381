"""Chats to token ids with a loss weight each: what the assistant wrote is learned, the rest is context."""

from array import array
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from tokenizers import Tokenizer

from freehold.core.errors import BadData, BadModelFile
from freehold.core.request import Message
from freehold.formats import chat_template

_CHUNK = 1024
"""Rows tokenised at a time: an encoding takes 50 times the memory of its ids."""


class Sample(NamedTuple):
    """One row: ids, and the weight that each token has as a target. Arrays: millions of tokens fit in memory."""

    ids: "array[int]"
    weights: "array[float]"
    cut: bool

    @property
    def supervised(self) -> bool:
        """Whether anything is left to learn."""
        return any(weight > 0 for weight in self.weights[1:])


class Renderer:
    """Renders rows with the model's own chat template, exactly as the server will at inference."""

    def __init__(
        self, tokenizer: Tokenizer, template: str, *, max_length: int, prompt_weight: float, **names: Any
    ) -> None:
        self._tokenizer = tokenizer
        self._template = template
        self._max_length = max_length
        self._prompt_weight = prompt_weight
        self._names = names

    def samples(self, rows: Sequence[Sequence[Message]]) -> Iterator[Sample]:
        """One sample per row, in order. Raises BadData for a row without an assistant's turn."""
        for at in range(0, len(rows), _CHUNK):
            texts = [self.text_and_spans(row) for row in rows[at : at + _CHUNK]]
            encodings = self._tokenizer.encode_batch([text for text, _ in texts], add_special_tokens=False)
            for (_, spans), encoding in zip(texts, encodings, strict=True):
                yield self._sample(encoding.ids, encoding.offsets, spans)

    def text_and_spans(self, row: Sequence[Message]) -> tuple[str, list[tuple[int, int]]]:
        """The rendered chat, and the character ranges that the assistant wrote, end of turn included."""
        text = self._render(row, generate=False)
        spans = []
        for index, message in enumerate(row):
            if message.role != "assistant":
                continue
            before = self._render(row[:index], generate=True)
            after = self._render(row[: index + 1], generate=False) if index + 1 < len(row) else text
            if not after.startswith(before):
                raise BadModelFile(
                    "the chat template renders a finished answer differently from a prompt for it",
                    "Use a base whose chat template only appends",
                )
            spans.append((len(before), len(after.rstrip("\n"))))
        if not spans:
            raise BadData("a row has no assistant message", "Every row needs an answer to learn from")
        return text, spans

    def _render(self, row: Sequence[Message], *, generate: bool) -> str:
        messages = [{"role": message.role, "content": message.content} for message in row]
        return chat_template.render(self._template, messages, add_generation_prompt=generate, **self._names)

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
