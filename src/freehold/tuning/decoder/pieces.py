"""What a frozen head says of given tokens, some of its rows at a time, as attention is computed over keys in pieces.

Source: Milakov and Gimelshein 2018, arXiv 1805.02867.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from freehold.tuning.decoder.fused import fuses
from freehold.tuning.decoder.weights import Matrix, Pieced, Plain

_PIECE = 1 << 24
"""Logits, or numbers of the head, held at a time where pieces of the head are made dense: smaller ones are slower."""
_ROWS, _TOKENS = 2048, 512
"""Rows of a head that is dense, and hidden states, multiplied at a time: their logits stay in a processor's caches."""


class _Pieced(torch.autograd.Function):
    """The gradient is made in the same pass, for a slope of 1.

    The target's own probability is kept out of the products: near 1 it would drown what is left of the gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, frozen: Matrix, head: Pieced, targets: Tensor, scale: float, cap: float
    ) -> Tensor:
        tokens, size = hidden.shape
        rows = _ROWS if isinstance(head, Plain) else max(1, _PIECE // max(1, tokens, size))
        peak = torch.full((tokens, 1), float("-inf"), device=hidden.device)
        hit, others = torch.zeros_like(peak), torch.zeros_like(peak)
        grad = torch.zeros(tokens, size, device=hidden.device) if ctx.needs_input_grad[0] else None
        places = _by_piece(targets, frozen.shape[0], rows)
        for (begin, matrix), here in zip(head.pieces(hidden.dtype, rows), places, strict=True):
            logits = _drawn((hidden @ matrix.T).float(), scale, cap)
            slopes = _slopes(logits, cap) if cap and grad is not None else None
            column = targets[here] - begin
            hit[here, 0] = logits[here, column]
            before, peak = peak, torch.maximum(peak, logits.amax(1, keepdim=True))
            fade = torch.exp(before - peak)
            logits.sub_(peak).exp_()
            logits[here, column] = 0.0
            others.mul_(fade).add_(logits.sum(1, keepdim=True))
            if grad is not None:
                likely = logits if slopes is None else logits.mul_(slopes)
                grad.mul_(fade).add_(likely.to(hidden.dtype) @ matrix)
        whole = others + torch.exp(hit - peak)
        if grad is not None:
            weight = others * _slopes(hit, cap) if cap else others
            own = frozen.rows(targets, hidden.dtype).float().mul_(weight)
            grad = own.sub_(grad).mul_(scale / whole).to(hidden.dtype)
        ctx.save_for_backward(grad)
        return (hit - peak - whole.log())[:, 0]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        return (grads[0][:, None] * grad).to(grad.dtype), None, None, None, None, None


def _drawn(logits: Tensor, scale: float, cap: float) -> Tensor:
    """In their place."""
    if scale != 1.0:
        logits.mul_(scale)
    return logits.div_(cap).tanh_().mul_(cap) if cap else logits


def _slopes(logits: Tensor, cap: float) -> Tensor:
    """Of drawn logits by what they were before."""
    return (logits / cap).square_().neg_().add_(1.0)


def _by_piece(targets: Tensor, vocab: int, rows: int) -> Sequence[Tensor]:
    """For each piece of so many rows the indices of those targets that are among them."""
    wanted, order = torch.sort(targets, stable=True)
    edges = torch.searchsorted(wanted, torch.arange(rows, max(rows, vocab), rows, device=targets.device))
    return torch.tensor_split(order, edges.cpu())


def pieced_logps(hidden: Tensor, head: Matrix, targets: Tensor, scale: float, cap: float) -> Tensor | None:
    """Log-probabilities in nats of `targets`; None where some tokens are to meet all rows of the head at a time.

    Arguments as those of `token_logps`. The gradient is made in the forward pass.
    """
    if head.trained is not None or fuses(hidden) or not isinstance(head, Pieced):
        return None
    if isinstance(head, Plain) and hidden.device.type != "cpu":
        return None
    # A piece that has to be made dense is made once.
    size = _TOKENS if isinstance(head, Plain) else max(1, len(hidden))
    parts = zip(torch.split(hidden, size), torch.split(targets, size), strict=True)
    made: list[Tensor] = [_Pieced.apply(part, head, head, wanted, scale, cap) for part, wanted in parts]  # type: ignore[no-untyped-call]
    return made[0] if len(made) == 1 else torch.cat(made)
