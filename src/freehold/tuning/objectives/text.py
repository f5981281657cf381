"""Continued pre-training: every token of plain texts."""

from collections.abc import Iterator, Sequence

from freehold.data.rows import AnyRow, Document
from freehold.tuning.objectives.base import Example
from freehold.tuning.objectives.sft import Sft
from freehold.tuning.render import Renderer


class Text(Sft):
    """Long texts become several examples, none of which loses a token."""

    rows: type[AnyRow] = Document

    def examples(self, rows: Sequence[AnyRow], renderer: Renderer) -> Iterator[Example]:
        """One for each piece of `max_length` tokens."""
        texts = [row.text for row in rows if isinstance(row, Document)]
        for index, sample in enumerate(renderer.texts(texts)):
            yield Example((sample,), index)


OBJECTIVE = Text()
