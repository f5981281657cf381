"""Token ids that were made elsewhere, each with its weight: for callers that render and mask by themselves."""

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from torch import Tensor

from freehold.core.errors import BadData
from freehold.data.rows import AnyRow, Document
from freehold.tuning.objectives.base import Example, Policy
from freehold.tuning.objectives.sft import OBJECTIVE as SFT
from freehold.tuning.render import Renderer, Sample


class Tokens(msgspec.Struct, frozen=True):
    """One sequence. A token of weight 0 is read and not learned."""

    ids: tuple[Annotated[int, Meta(ge=0, lt=1 << 31)], ...]
    weights: tuple[Annotated[float, Meta(ge=0, le=1)], ...]
    cut: bool = False


def write(path: Path, rows: Sequence[Tokens]) -> None:
    """Write rows as JSON lines."""
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))


def read(path: Path) -> tuple[Tokens, ...]:
    """The rows of a file that `write` made. Raises BadData naming the line."""
    decoder = msgspec.json.Decoder(Tokens)
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            row = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadData(f"{path} line {number}: {error}", 'As in {"ids": [1, 2], "weights": [0, 1]}') from error
        if not row.ids or len(row.ids) != len(row.weights):
            raise BadData(f"{path} line {number} has not one weight for each id", "Write as many")
        rows.append(row)
    return tuple(rows)


class Given:
    """Cross-entropy per weighted token."""

    rows: type[AnyRow] = Document
    compares = False
    apart = True

    def examples(self, rows: Sequence[Any], renderer: Renderer) -> Iterator[Example]:
        """One for each row, as it is."""
        for index, row in enumerate(rows):
            yield Example((Sample(array("i", row.ids), array("f", row.weights), row.cut),), index)

    def loss(self, policy: Policy, examples: Sequence[Example]) -> Tensor:
        """Of all tokens together."""
        return SFT.loss(policy, examples)

    def weight(self, examples: Sequence[Example]) -> float:
        """The tokens' weights."""
        return SFT.weight(examples)


OBJECTIVE = Given()
