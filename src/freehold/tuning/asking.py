"""What a model says while it is trained: its answers to a few held-out prompts, for people to read."""

from collections.abc import Callable, Collection, Sequence
from itertools import islice
from typing import NamedTuple

import torch

from freehold.data.rows import AnyRow, Document, Judged, Preference, Prompt, Row, told
from freehold.tuning.decoder.answering import answers, ended
from freehold.tuning.decoder.model import Network
from freehold.tuning.job import Answered
from freehold.tuning.render import Renderer

_PROMPTS = 3
_LOOKED = 16
"""Rows, the first ones, among which prompts are looked for."""
_LONGEST = 1024
"""Tokens of a prompt: more would take longer than it is worth."""
_BEGINNING = 16
"""Tokens of a text that is gone on with."""
_MOST = 64
"""Tokens of an answer."""
_SECONDS = 2.0
"""After which there is what there is: a large base says a few words."""
_CHARACTERS = 400
"""Of a prompt that are kept, and several times what is read of a text for its beginning."""


class Asked(NamedTuple):
    """A prompt: how it ends, for people, and its tokens."""

    question: str
    ids: Sequence[int]


class Asking:
    """A model, and what it is asked. `ends` are the tokens that end an answer, `text` makes text of tokens."""

    def __init__(
        self,
        model: Network,
        asked: Sequence[Asked],
        ends: Collection[int],
        text: Callable[[list[int]], str],
        device: torch.device,
    ) -> None:
        self.model, self.asked, self.ends, self.text, self.device = model, asked, ends, text, device

    def answers(self) -> tuple[Answered, ...]:
        """Of the model as it is now. Nothing that training goes by is changed, its random numbers neither."""
        if not self.asked:
            return ()
        prompts = [each.ids for each in self.asked]
        made = answers(self.model, prompts, most=_MOST, ends=self.ends, seconds=_SECONDS, device=self.device)
        return tuple(
            Answered(each.question, self._told(ids), ended(ids, self.ends))
            for each, ids in zip(self.asked, made, strict=False)
        )

    def _told(self, ids: list[int]) -> str:
        return _whole(self.text([token for token in ids if token not in self.ends]))


def chosen(rows: Sequence[AnyRow], renderer: Renderer) -> list[Asked]:
    """The first prompts that differ, of rows that have one: answers to text, or the beginnings of texts."""
    looked = list(islice(rows, _LOOKED))
    texts = [row.text for row in looked if isinstance(row, Document)]
    if texts:
        return [asked for text in texts if (asked := _begun(text, renderer))][:_PROMPTS]
    prompts: dict[object, Prompt] = {}
    for prompt in filter(None, map(_prompt, looked)):
        prompts.setdefault(prompt.encode(), prompt)
    samples = zip(prompts.values(), renderer.prompts(list(prompts.values())), strict=True)
    fitting = (Asked(_shown(prompt), list(each.ids)) for prompt, each in samples if _fits(each.ids, cut=each.cut))
    return list(islice(fitting, _PROMPTS))


def _fits(ids: Sequence[int], *, cut: bool) -> bool:
    return not cut and 0 < len(ids) <= _LONGEST


def _prompt(row: AnyRow) -> Prompt | None:
    """What an answer is asked for with; None for rows that ask for none."""
    if isinstance(row, Row | Judged):
        messages = row.messages[:-1]
    elif isinstance(row, Preference | Prompt):
        messages = row.messages
    else:
        return None
    return Prompt(messages, tools=row.tools) if messages else None


def _shown(prompt: Prompt) -> str:
    return told(prompt.messages[-1])[:_CHARACTERS]


def _begun(text: str, renderer: Renderer) -> Asked | None:
    """A text up to its first words; half of one that has no more. None for one that is hardly a text."""
    sample = next(renderer.texts([text[: 4 * _CHARACTERS]]), None)
    ids = [] if sample is None else list(sample.ids)
    ids = ids[: min(_BEGINNING, len(ids) // 2)]
    return Asked(_whole(renderer.spelt(ids)), ids) if ids else None


def _whole(text: str) -> str:
    """Without a character at its end of which only the first bytes are there."""
    return text.rstrip("\ufffd").strip()
