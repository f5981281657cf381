"""Answers drawn from the decoder that is trained."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from freehold.tuning.decoder.cache import Cache
from freehold.tuning.decoder.model import Network


@torch.no_grad()
def sample(
    decoder: Network,
    prompt: Sequence[int],
    *,
    count: int,
    most: int,
    ends: Collection[int],
    draw: torch.Generator,
    temperature: float = 1.0,
) -> list[list[int]]:
    """`count` continuations of a prompt, of at most `most` tokens, each with the token of `ends` that ended it."""
    device = draw.device
    cache = Cache(device)
    logits = _read(decoder, torch.tensor(list(prompt), device=device), cache)[-1:]
    cache.spread(count)
    made = torch.empty(count, 0, dtype=torch.long, device=device)
    over = torch.zeros(count, dtype=torch.bool, device=device)
    stops = torch.tensor(sorted(ends), device=device)
    for _ in range(most):
        chances = torch.softmax(logits.float() / temperature, -1).expand(count, -1)
        chosen = torch.multinomial(chances, 1, generator=draw)
        made = torch.cat([made, chosen], 1)
        over |= torch.isin(chosen[:, 0], stops)
        if bool(over.all()):
            break
        logits = _read(decoder, chosen.flatten(), cache)
    return [_cut(row, ends) for row in made.tolist()]


def _read(decoder: Network, ids: Tensor, cache: Cache) -> Tensor:
    """The logits behind the last token of each row, [rows, vocab]."""
    cache.begin(len(ids) // cache.rows)
    hidden = decoder(ids, cache)
    last = hidden.view(cache.rows, -1, hidden.shape[-1])[:, -1]
    shape = decoder.shape
    logits = (last @ decoder.head.dense(last.dtype).T).float() * shape.logit_scale
    return (logits / shape.logit_cap).tanh_() * shape.logit_cap if shape.logit_cap else logits


def _cut(ids: list[int], ends: Collection[int]) -> list[int]:
    """Up to the first end, that included."""
    return next((ids[: at + 1] for at, token in enumerate(ids) if token in ends), ids)
