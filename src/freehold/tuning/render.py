"""Chats to token ids with a loss weight each: what the assistant wrote is learned, the rest is context."""

from array import array
from collections.abc import Iterator, Sequence
from itertools import islice
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
    answered: int | None = None
    """Targets that the assistant wrote and that count, where those of prompts may too; None where all are its own."""

    @property
    def targets(self) -> int:
        """Tokens that are to be learned, but for those of prompts."""
        return sum(weight > 0 for weight in self.weights[1:]) if self.answered is None else self.answered

    @property
    def supervised(self) -> bool:
        """Whether anything is left to learn."""
        return any(weight > 0 for weight in self.weights[1:])


class Answer(NamedTuple):
    """What the assistant wrote in a rendered chat: characters, from and up to, and how much they count."""

    begin: int
    end: int
    counts: float


class Rendered(NamedTuple):
    """A chat as a model reads it, with the answers that are learned from it."""

    text: str
    answers: tuple[Answer, ...]


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
        self.apart = 0
        """Rows so far of which not every answer could be learned from one text."""

    def samples(self, rows: Sequence[Chat]) -> Iterator[Sample]:
        """One sample per row, in order, of those of which only the last answer is to be learned. Raises as `chats`."""
        return (samples[-1] for samples in self.chats(rows))

    def chats(self, rows: Sequence[Chat]) -> Iterator[tuple[Sample, ...]]:
        """For each row, in order, what shows all its answers as the server will ask for them.

        One sample, unless the template takes back what it said: Qwen 3's leaves out the thoughts of earlier answers.
        Raises BadData for a row without an assistant's turn.
        """
        for chunk in _chunks([_row(row) for row in rows]):
            rendered = self._rendered(chunk)
            self.apart += sum(len(texts) > 1 for texts in rendered)
            flat = [each for texts in rendered for each in texts]
            encodings = self._tokenizer.encode_batch([each.text for each in flat], add_special_tokens=False)
            made = map(self._sample, flat, encodings)
            yield from (tuple(islice(made, len(texts))) for texts in rendered)

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

    def spelt(self, ids: Sequence[int]) -> str:
        """The text that tokens stand for."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

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

    def rendered(self, rows: Sequence[Chat]) -> Iterator[tuple[Rendered, ...]]:
        """The texts of which `chats` makes samples, the longest of a row last."""
        for chunk in _chunks([_row(row) for row in rows]):
            yield from self._rendered(chunk)

    def _rendered(self, rows: Sequence[Row]) -> list[tuple[Rendered, ...]]:
        wanted = [each for row in rows for each in _wanted(row)]
        texts = iter(chat_template.render_many(self._template, wanted, seconds=_SECONDS, **self._names))
        return [tuple(_shown(row, texts)) for row in rows]

    def _sample(self, rendered: Rendered, encoding: Encoded) -> Sample:
        ids, answers = encoding.ids, rendered.answers
        weights = [self._prompt_weight] * len(ids)
        at = answered = 0
        for index, (begin, end) in enumerate(encoding.offsets):
            while at < len(answers) and answers[at].end <= begin:
                at += 1
            if (
                at < len(answers)
                and end <= answers[at].end
                and _of_answer(rendered.text, begin, end, answers[at].begin)
            ):
                weights[index] = answers[at].counts
                answered += answers[at].counts > 0 and 0 < index < self._max_length
                self.joined += begin < answers[at].begin
        cut = len(ids) > self._max_length
        return Sample(array("i", ids[: self._max_length]), array("f", weights[: self._max_length]), cut, answered)


def _of_answer(text: str, begin: int, end: int, answer: int) -> bool:
    """Whether a token is of the answer that begins at `answer`: its first word too, where that took the space before
    it, which the prompt ends in, into the same token.
    """
    return answer <= begin or (answer < end and text[begin:answer].isspace())


def _row(chat: Chat) -> Row:
    return chat if isinstance(chat, Row) else Row(tuple(chat))


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


def _shown(row: Row, texts: Iterator[str]) -> Iterator[Rendered]:
    """What `texts`, those of `_wanted(row)`, show of its answers: earlier ones first, the whole chat last."""
    whole = next(texts)
    turns = list(_turns(row, whole, texts))
    if not turns:
        raise BadData("a row has no assistant message", "Every row needs an answer to learn from")
    shown: list[tuple[str, list[Answer]]] = [(whole, [])]
    for turn in reversed(turns):
        # What is not to be learned is not shown again for it.
        text, answers = shown[0] if turn.within(shown[0][0]) or not turn.counts else (turn.after, [])
        if text is not shown[0][0]:
            shown.insert(0, (text, answers))
        answers.insert(0, turn.answer(text, answers))
    learned = [each for each in shown if any(answer.counts for answer in each[1])] or shown[-1:]
    return (Rendered(text, tuple(answers)) for text, answers in learned)


class _Turn(NamedTuple):
    """An answer: the text that asks for it, the text that ends with it, and how much it counts."""

    before: str
    after: str
    counts: float

    def within(self, text: str) -> bool:
        """Whether a text of the whole chat, or of more of it, shows the answer as it was asked for."""
        return text.startswith(self.before) and text.startswith(self.after.rstrip("\n"))

    def answer(self, text: str, later: Sequence[Answer]) -> Answer:
        """Where it is in a text. Of one that is shown otherwise, all that could be it, up to the next answer."""
        if self.within(text):
            return Answer(len(self.before), len(self.after.rstrip("\n")), self.counts)
        return Answer(_shared(self.before, text), later[0].begin if later else len(text), self.counts)


def _shared(one: str, other: str) -> int:
    """Characters that two texts begin with."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _turns(row: Row, whole: str, texts: Iterator[str]) -> Iterator[_Turn]:
    weights = row.weights or (1.0,) * len(row.messages)
    for index, (message, weight) in enumerate(zip(row.messages, weights, strict=True)):
        if message.role != "assistant":
            continue
        before = next(texts)
        after = next(texts) if index + 1 < len(row.messages) else whole
        if not after.startswith(before):
            raise BadModelFile(
                "the chat template renders a finished answer differently from a prompt for it",
                "Use a base whose chat template only appends",
            )
        yield _Turn(before, after, weight)
