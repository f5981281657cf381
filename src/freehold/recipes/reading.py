"""How a base reads rows: through its chat template and its tokenizer, before anything is trained."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from freehold.convert.tokenizer import chat_template as template_of
from freehold.core.digest import Digest
from freehold.core.errors import BadInput, BadModelFile
from freehold.core.manifest import Manifest
from freehold.data.rows import AnyRow, Conversation, Document, Judged, Labelled, Pair, Preference, Prompt, Row
from freehold.formats import chat_template
from freehold.formats.chat_template import Wanted
from freehold.formats.gguf import read_header
from freehold.recipes.steps.base import BESIDE, beside
from freehold.store import Store, importing
from freehold.store.folders import read_json

if TYPE_CHECKING:
    from freehold.tuning.render import Encoder, Rendered, Renderer

_READ = ("tokenizer", "tokenizer_config", "chat_template")
_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")
_CHUNK = 512
_SECONDS = 120.0
_FAMILIES = (
    ("<|start_header_id|>", "Llama 3"),
    ("<|im_start|>", "ChatML"),
    ("<start_of_turn>", "Gemma"),
    ("<|start_of_role|>", "Granite"),
    ("<|turn>", "Gemma 4"),
    ("<|channel|>", "Harmony"),
    ("<|end|>", "Phi"),
    ("[INST]", "Mistral"),
    ("<|assistant|>", "Zephyr"),
)
"""What templates of these forms have in them."""

State = Literal["learned", "context", "cut"]


class Piece(NamedTuple):
    """Text of tokens that fare alike: learned, read as context, or cut off."""

    text: str
    state: State


class Reading(NamedTuple):
    """A row as it will be read. A row of two answers has two."""

    title: str
    pieces: tuple[Piece, ...]
    tokens: int
    learned: int


class Lengths(NamedTuple):
    """Tokens of each row, 0 for those that the template refuses; these, with its reasons; those without an answer."""

    tokens: tuple[int, ...]
    refused: tuple[tuple[AnyRow, str], ...]
    silent: tuple[AnyRow, ...]
    """Rows whose answer the template does not show."""


class _Size(NamedTuple):
    """Of a row: tokens, and whether the template shows none of an answer that it has."""

    tokens: int
    silent: bool


class Reader(msgspec.Struct, frozen=True):
    """A base's chat template and tokenizer."""

    label: str
    template: str
    names: dict[str, Any]
    tokenizer: "Encoder"

    @property
    def family(self) -> str:
        """What the template's form is called; its own where it is none that is known."""
        return next((name for mark, name in _FAMILIES if mark in self.template), "its own form")

    @property
    def digest(self) -> Digest:
        """Of the template."""
        return Digest.of_bytes(self.template.encode())

    @property
    def knows_tools(self) -> bool:
        """Whether the template shows the tools that a row offers."""
        return "tools" in self.template

    def controls(self, token: str) -> bool:
        """Whether a text that has this in it has a control token: one that spells nothing."""
        number = self.tokenizer.token_to_id(token)
        if number is None:
            return False
        # What is in no vocabulary may be read as the token for such, which is not spelt so.
        whole, spelt = (self.tokenizer.decode([number], skip_special_tokens=skip) for skip in (False, True))
        return whole.strip() == token and not spelt

    def lengths(self, rows: Sequence[AnyRow]) -> Lengths:
        """How long the rows are, the longest text of each. Raises BadModelFile.

        Also for a template that shows a finished answer otherwise than it asks for one.
        """
        tokens: list[int] = []
        refused: list[tuple[AnyRow, str]] = []
        silent: list[AnyRow] = []
        for begin in range(0, len(rows), _CHUNK):
            chunk = rows[begin : begin + _CHUNK]
            try:
                found = self._measured(chunk)
            except BadModelFile:
                raise
            except BadInput:
                alone = [self._alone(row) for row in chunk]
                refused += [(row, each) for row, each in zip(chunk, alone, strict=True) if isinstance(each, str)]
                found = [_Size(0, False) if isinstance(each, str) else each for each in alone]
            tokens += [each.tokens for each in found]
            silent += [row for row, each in zip(chunk, found, strict=True) if each.silent]
        return Lengths(tuple(tokens), tuple(refused), tuple(silent))

    def _alone(self, row: AnyRow) -> "_Size | str":
        try:
            return self._measured([row])[0]
        except BadModelFile:
            raise
        except BadInput as error:
            return error.message

    def _measured(self, rows: Sequence[AnyRow]) -> list["_Size"]:
        asked = [(at, each) for at, row in enumerate(rows) for _, each in _titled(row)]
        chats = [(at, each) for at, each in asked if isinstance(each, Row)]
        prompts = [(at, each) for at, each in asked if isinstance(each, Wanted)]
        shown = self._chats([each for _, each in chats])
        silent = {at for (at, _), texts in zip(chats, shown, strict=True) if not any(map(_answers, texts))}
        texts = [(at, each) for at, each in asked if isinstance(each, str)]
        texts += [(at, each.text) for (at, _), those in zip(chats, shown, strict=True) for each in those]
        rendered = self._rendered([each for _, each in prompts])
        texts += [(at, text) for (at, _), text in zip(prompts, rendered, strict=True)]
        tokens = [0] * len(rows)
        encoded = self.tokenizer.encode_batch([text for _, text in texts], add_special_tokens=False)
        for (at, _), each in zip(texts, encoded, strict=True):
            tokens[at] = max(tokens[at], len(each.ids))
        return [_Size(size, at in silent) for at, size in enumerate(tokens)]

    def _chats(self, rows: Sequence[Row]) -> list[tuple["Rendered", ...]]:
        return [*self._renderer(1).rendered(rows)] if rows and self._form() else []

    def _form(self) -> str:
        """The template. Raises BadModelFile."""
        if not self.template:
            raise BadModelFile(
                f"{self.label} has no chat template", "Use an instruction-tuned base, or add chat_template.jinja"
            )
        return self.template

    def _rendered(self, wanted: Sequence[Wanted]) -> list[str]:
        if not wanted:
            return []
        return chat_template.render_many(self._form(), wanted, seconds=_SECONDS, **self.names)

    def readings(self, row: AnyRow, *, max_length: int, prompt_weight: float) -> Iterator[Reading]:
        """The row as the trainer will read it. Raises BadInput where the template refuses it, BadModelFile."""
        for title, text in _titled(row):
            if isinstance(text, Row):
                yield from self._chat(title, text, max_length, prompt_weight)
            else:
                state: State = "learned" if isinstance(row, Document) else "context"
                rendered = text if isinstance(text, str) else self._rendered([text])[0]
                length = len(self.tokenizer.encode_batch([rendered], add_special_tokens=False)[0].ids)
                yield Reading(title, (Piece(rendered, state),), length, length if state == "learned" else 0)

    def _chat(self, title: str, row: Row, max_length: int, prompt_weight: float) -> Iterator[Reading]:
        renderer = self._renderer(max_length, prompt_weight)
        (rendered,), (samples,) = renderer.rendered([row]), renderer.chats([row])
        for number, (each, sample) in enumerate(zip(rendered, samples, strict=True), 1):
            offsets = self.tokenizer.encode_batch([each.text], add_special_tokens=False)[0].offsets
            states: list[State] = ["learned" if weight > 0 else "context" for weight in sample.weights]
            states += ["cut"] * (len(offsets) - len(states))
            # The first token has nothing before it to be told from.
            learned = sum(weight > 0 for weight in sample.weights[1:])
            which = f", text {number} of {len(samples)}" if len(samples) > 1 else ""
            yield Reading(title + which, tuple(_pieces(each.text, offsets, states)), len(offsets), learned)

    def _renderer(self, max_length: int, prompt_weight: float = 0.0) -> "Renderer":
        from freehold.tuning.render import Renderer

        return Renderer(self.tokenizer, self.template, max_length=max_length, prompt_weight=prompt_weight, **self.names)


@contextmanager
def reader(place: Path | Manifest, label: str, store: Store) -> Iterator[Reader]:
    """How a base reads whose files lie there. Raises BadModelFile for one without tokenizer.json, Unsupported."""
    if isinstance(place, Path) and not place.is_file():
        yield _reader(place, label)
        return
    with store.room() as room:
        if isinstance(place, Path):
            with _from_gguf(place, room, label) as found:
                yield found
        elif _is_gguf(place):
            importing.materialise(store, beside(place), room / "file")
            with _from_gguf(room / "file", room / "base", label) as found:
                yield found
        else:
            parts = tuple(part for part in place.parts if part.role in _READ)
            importing.materialise(store, msgspec.structs.replace(place, parts=parts), room)
            yield _reader(room, label)


def _is_gguf(base: Manifest) -> bool:
    return base.part("weights") is None and base.part("gguf") is not None


@contextmanager
def _from_gguf(base: Path, room: Path, label: str) -> Iterator[Reader]:
    """How a GGUF file reads, or one in a folder with a chat template beside it."""
    from freehold.engines.llamacpp.vocabulary import vocabulary
    from freehold.tuning.unpack import FILE, unpack

    folder = unpack(base, room)
    with vocabulary(folder / FILE) as tokenizer:
        yield Reader(label, template_of(folder), _names(folder), tokenizer)


def digest_of(place: Path | Manifest) -> Digest:
    """Of all that decides how a base reads; of none of its weights."""
    if isinstance(place, Manifest):
        roles = BESIDE if _is_gguf(place) else _READ
        return Digest.of_json(sorted([part.filename, part.digest.text] for part in place.parts if part.role in roles))
    if place.is_file():
        with place.open("rb") as file:
            return Digest.of_bytes(file.read(read_header(place).data_offset))
    files = [place / name for name in _FILES if (place / name).is_file()]
    return Digest.of_json(sorted([path.name, Digest.of_file(path).text] for path in files))


def _reader(folder: Path, label: str) -> Reader:
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_buffer(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadModelFile(
            f"cannot read the tokenizer of {label}: {error}", "The base needs a fast tokenizer (tokenizer.json)"
        ) from error
    return Reader(label, template_of(folder), _names(folder), tokenizer)


def _names(folder: Path) -> dict[str, str]:
    """The special tokens that a template may name."""
    settings = folder / "tokenizer_config.json"
    config = read_json(settings) if settings.exists() else {}
    return {key: _token(config.get(key)) for key in _TOKENS}


def _token(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else ""


def _titled(row: AnyRow) -> Iterator[tuple[str, Row | Wanted | str]]:
    """What is read of a row, each under a title: conversations with answers, one that waits for an answer, texts."""
    if isinstance(row, Row):
        yield "conversation", row
    elif isinstance(row, Preference):
        yield "with the answer that is wanted", _answered(row, row.chosen)
        yield "with the answer that is not", _answered(row, row.rejected)
    elif isinstance(row, Judged):
        title = f"an answer that is {'wanted' if row.label else 'not wanted'}"
        yield title, _answered(msgspec.structs.replace(row, messages=row.messages[:-1]), row.messages[-1:])
    elif isinstance(row, Prompt):
        whole = _whole(Row(row.messages, tools=row.tools))
        yield "prompt", Wanted(whole.messages, True, whole.tools)
        if row.reference:
            yield "a right answer says", row.reference
    elif isinstance(row, Document):
        yield "text", row.text
    elif isinstance(row, Labelled):
        yield f"text of the class {row.label!r}", row.text
    else:
        yield from _paired(row)


def _paired(row: Pair) -> Iterator[tuple[str, str]]:
    yield "text", row.anchor
    yield ("belongs to it" if row.score is None else f"belongs to it by {row.score:g}"), row.positive
    yield from (("does not", negative) for negative in row.negatives)


def _answers(rendered: "Rendered") -> bool:
    return any(answer.begin < answer.end for answer in rendered.answers)


def _answered(prompt: Conversation, answer: Sequence[Any]) -> Row:
    """A conversation of which only the answer is learned."""
    weights = (*(0.0,) * len(prompt.messages), *(1.0,) * len(answer))
    return Row((*prompt.messages, *answer), prompt.line, prompt.tools, weights=weights)


def _whole(row: Row) -> Wanted:
    from freehold.tuning.render import tools_of, turns_of

    return Wanted(turns_of(row.messages), False, tools_of(row.tools))


def _pieces(text: str, offsets: Sequence[tuple[int, int]], states: Sequence[State]) -> Iterator[Piece]:
    """The text in pieces, each from where its first token begins to where the next piece's does."""
    runs = [
        (state, next(tokens)[1]) for state, tokens in groupby(zip(states, offsets, strict=True), lambda each: each[0])
    ]
    begins = [0, *(begin for _, (begin, _) in runs[1:]), len(text)]
    for (state, _), begin, end in zip(runs, begins, begins[1:], strict=False):
        yield Piece(text[begin:end], state)
