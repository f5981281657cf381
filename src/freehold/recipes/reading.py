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
    from freehold.tuning.render import Encoder

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
    """Tokens of each row, 0 for those that the template refuses; and these, with its reasons."""

    tokens: tuple[int, ...]
    refused: tuple[tuple[AnyRow, str], ...]


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

    def lengths(self, rows: Sequence[AnyRow]) -> Lengths:
        """How long the rows are, the longest text of each. Raises BadModelFile."""
        tokens: list[int] = []
        refused: list[tuple[AnyRow, str]] = []
        for begin in range(0, len(rows), _CHUNK):
            chunk = rows[begin : begin + _CHUNK]
            try:
                tokens += self._lengths(chunk)
            except BadInput as error:
                if isinstance(error, BadModelFile):
                    raise
                found = [self._alone(row) for row in chunk]
                tokens += [length for length, _ in found]
                refused += [(row, reason) for row, (_, reason) in zip(chunk, found, strict=True) if reason]
        return Lengths(tuple(tokens), tuple(refused))

    def _alone(self, row: AnyRow) -> tuple[int, str]:
        try:
            return self._lengths([row])[0], ""
        except BadModelFile:
            raise
        except BadInput as error:
            return 0, error.message

    def _lengths(self, rows: Sequence[AnyRow]) -> list[int]:
        asked = [list(_texts(row)) for row in rows]
        rendered = iter(self._rendered([each for texts in asked for each in texts if isinstance(each, Wanted)]))
        texts = [each if isinstance(each, str) else next(rendered) for texts in asked for each in texts]
        encoded = iter(self.tokenizer.encode_batch(texts, add_special_tokens=False))
        return [max(len(next(encoded).ids) for _ in texts) for texts in asked]

    def _rendered(self, wanted: Sequence[Wanted]) -> list[str]:
        if not wanted:
            return []
        if not self.template:
            raise BadModelFile(
                f"{self.label} has no chat template", "Use an instruction-tuned base, or add chat_template.jinja"
            )
        return chat_template.render_many(self.template, wanted, seconds=_SECONDS, **self.names)

    def readings(self, row: AnyRow, *, max_length: int, prompt_weight: float) -> Iterator[Reading]:
        """The row as the trainer will read it. Raises BadInput where the template refuses it, BadModelFile."""
        for title, text in _titled(row):
            if isinstance(text, Row):
                yield self._chat(title, text, max_length, prompt_weight)
            else:
                state: State = "learned" if isinstance(row, Document) else "context"
                rendered = text if isinstance(text, str) else self._rendered([text])[0]
                length = len(self.tokenizer.encode_batch([rendered], add_special_tokens=False)[0].ids)
                yield Reading(title, (Piece(rendered, state),), length, length if state == "learned" else 0)

    def _chat(self, title: str, row: Row, max_length: int, prompt_weight: float) -> Reading:
        from freehold.tuning.render import Renderer

        renderer = Renderer(
            self.tokenizer, self.template, max_length=max_length, prompt_weight=prompt_weight, **self.names
        )
        ((text, _),) = renderer.texts_and_spans([row])
        (sample,) = renderer.samples([row])
        offsets = self.tokenizer.encode_batch([text], add_special_tokens=False)[0].offsets
        states: list[State] = ["learned" if weight > 0 else "context" for weight in sample.weights]
        states += ["cut"] * (len(offsets) - len(states))
        # The first token has nothing before it to be told from.
        learned = sum(weight > 0 for weight in sample.weights[1:])
        return Reading(title, tuple(_pieces(text, offsets, states)), len(offsets), learned)


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


def _texts(row: AnyRow) -> Iterator[Wanted | str]:
    """All that is read of a row."""
    for _, each in _titled(row):
        yield _whole(each) if isinstance(each, Row) else each


def _titled(row: AnyRow) -> Iterator[tuple[str, Row | Wanted | str]]:
    """What is read of a row, each under a title: conversations with answers, one that waits for an answer, texts."""
    if isinstance(row, Row):
        yield "conversation", row
    elif isinstance(row, Preference):
        yield "with the answer that is wanted", _answered(row, row.chosen)
        yield "with the answer that is not", _answered(row, row.rejected)
    elif isinstance(row, Judged):
        yield f"an answer that is {'wanted' if row.label else 'not wanted'}", _answered(row, ())
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


def _answered(row: Conversation, answer: Sequence[Any]) -> Row:
    return Row((*row.messages, *answer), row.line, row.tools)


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
