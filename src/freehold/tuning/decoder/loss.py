"""The loss head: cross-entropy over the tokens that count, in chunks; the whole logits matrix never exists."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from freehold.tuning.decoder.fused import fused, fuses
from freehold.tuning.decoder.weights import Matrix, Pieced, Plain

_NUMBERS = 1 << 23
"""Logits held at a time: 32 MB of them."""
_CACHED = 1 << 19
"""Those in float32 at a time: 2 MB."""
_AT_ONCE = 1 << 26
"""The same where they are fused into their gradient, and a GPU is to have enough to do."""
_PIECE = 1 << 24
"""Logits, or numbers of the head, held at a time where pieces of the head are made dense: smaller ones are slower."""
_ROWS, _TOKENS = 2048, 512
"""Rows of a head that is dense, and hidden states, multiplied at a time: their logits stay in a processor's caches."""


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, frozen: Matrix, head: Tensor | None, targets: Tensor, weights: Tensor, scale: float,
        cap: float,
    ) -> Tensor:  # fmt: skip
        total = hidden.new_zeros((), dtype=torch.float32)
        matrix = frozen.dense(hidden.dtype) if head is None else head.detach().to(hidden.dtype)
        grad_hidden = torch.empty_like(hidden)
        grad_head = None if head is None else torch.zeros_like(head)
        fast = fuses(hidden)
        size = max(1, (_AT_ONCE if fast else _NUMBERS) // matrix.shape[0])
        for at in range(0, hidden.shape[0], size):
            rows = slice(at, at + size)
            part, target, weight = hidden[rows], targets[rows, None], weights[rows, None]
            loss, narrow = (_sloped if fast else _in_place)(part @ matrix.T, target, weight, scale, cap)
            total += loss
            grad_hidden[rows] = narrow @ matrix
            if grad_head is not None:
                grad_head += (narrow.T @ part).to(grad_head.dtype)
        ctx.save_for_backward(grad_hidden, grad_head)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_head = ctx.saved_tensors
        grad_head = None if grad_head is None else grads[0] * grad_head
        return (grads[0] * grad_hidden).to(grad_hidden.dtype), None, grad_head, None, None, None, None


Chunk = tuple[Tensor, Tensor]
"""The loss of some tokens, and its gradient by their logits, [tokens, vocab], as `hidden` is."""


def _in_place(logits: Tensor, target: Tensor, weight: Tensor, scale: float, cap: float) -> Chunk:
    """Turns the logits into their gradient, a few tokens at a time, whose float32 numbers stay in the caches."""
    hit = torch.empty(target.shape, device=logits.device)
    size = max(1, _CACHED // logits.shape[1])
    for at in range(0, len(logits), size):
        rows = slice(at, at + size)
        logp, slope = _normalised(logits[rows].float(), scale, cap)
        torch.gather(logp, 1, target[rows], out=hit[rows])
        here = weight[rows]
        grad = logp.exp_().scatter_add_(1, target[rows], torch.full_like(here, -1.0)).mul_(here * scale)
        logits[rows] = grad if slope is None else grad.mul_(slope)
    return -(hit * weight).sum(), logits


@fused
def _sloped(logits: Tensor, target: Tensor, weight: Tensor, scale: float, cap: float) -> Chunk:
    """The same in one kernel, and without scatter_add, which GPUs do in an order of their own."""
    wide, slope = logits.float() * scale, None
    if cap:
        drawn = (wide / cap).tanh()
        wide, slope = drawn * cap, 1.0 - drawn.square()
    logp = torch.log_softmax(wide, dim=-1)
    hit = torch.arange(logits.shape[1], device=logits.device) == target
    loss = -(torch.where(hit, logp, 0.0).sum(1, keepdim=True) * weight).sum()
    grad = (logp.exp() - hit.float()) * (weight * scale)
    return loss, (grad if slope is None else grad * slope).to(logits.dtype)


def log_probabilities(part: Tensor, matrix: Tensor, scale: float, cap: float) -> tuple[Tensor, Tensor | None]:
    """[tokens, vocab] in float32, and with a cap its derivative."""
    return _normalised((part @ matrix.T).float(), scale, cap)


def _normalised(logits: Tensor, scale: float, cap: float) -> tuple[Tensor, Tensor | None]:
    """The same of logits in float32, which are not to be used again."""
    if scale != 1.0:
        logits.mul_(scale)
    if not cap:
        return torch.log_softmax(logits, dim=-1), None
    logits.div_(cap).tanh_()
    return torch.log_softmax(logits * cap, dim=-1), logits.square_().neg_().add_(1.0)


class _PiecedLoss(torch.autograd.Function):
    """The same over a frozen head a piece at a time, as attention is computed over keys in pieces.

    The target's own probability is kept out of the products: near 1 it would drown what is left of the gradient.
    Source: Milakov and Gimelshein 2018, arXiv 1805.02867.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, frozen: Matrix, head: Pieced, targets: Tensor, weights: Tensor, scale: float
    ) -> Tensor:
        tokens, size = hidden.shape
        rows = _ROWS if isinstance(head, Plain) else max(1, _PIECE // max(1, tokens, size))
        peak = torch.full((tokens, 1), float("-inf"), device=hidden.device)
        hit, others = torch.zeros_like(peak), torch.zeros_like(peak)
        grad = torch.zeros(tokens, size, device=hidden.device) if ctx.needs_input_grad[0] else None
        places = _by_piece(targets, frozen.shape[0], rows)
        for (begin, matrix), here in zip(head.pieces(hidden.dtype, rows), places, strict=True):
            logits = (hidden @ matrix.T).float()
            if scale != 1.0:
                logits.mul_(scale)
            column = targets[here] - begin
            hit[here, 0] = logits[here, column]
            before, peak = peak, torch.maximum(peak, logits.amax(1, keepdim=True))
            fade = torch.exp(before - peak)
            logits.sub_(peak).exp_()
            logits[here, column] = 0.0
            others.mul_(fade).add_(logits.sum(1, keepdim=True))
            if grad is not None:
                grad.mul_(fade).add_(logits.to(hidden.dtype) @ matrix)
        whole = others + torch.exp(hit - peak)
        if grad is not None:
            own = frozen.rows(targets, hidden.dtype).float().mul_(others)
            grad = grad.sub_(own).mul_(weights[:, None] * scale / whole).to(hidden.dtype)
        ctx.save_for_backward(grad)
        return -((hit - peak - whole.log())[:, 0] * weights).sum()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        return (grads[0] * grad).to(grad.dtype), None, None, None, None, None


def _by_piece(targets: Tensor, vocab: int, rows: int) -> Sequence[Tensor]:
    """For each piece of so many rows the indices of those targets that are among them."""
    wanted, order = torch.sort(targets, stable=True)
    edges = torch.searchsorted(wanted, torch.arange(rows, max(rows, vocab), rows, device=targets.device))
    return torch.tensor_split(order, edges.cpu())


def head_loss(
    hidden: Tensor, head: Matrix, targets: Tensor, weights: Tensor, scale: float = 1.0, cap: float = 0.0
) -> Tensor:
    """Sum of weighted cross-entropies in nats of the logits scale * hidden @ head, drawn into +-`cap` if it is not 0.

    hidden [tokens, size], head [vocab, size], targets and weights [tokens]. The gradient is made in the forward pass,
    so neither logits nor probabilities are kept for the backward one.
    """
    if not _in_pieces(hidden, head, cap):
        loss: Tensor = _HeadLoss.apply(hidden, head, head.trained, targets, weights, scale, cap)  # type: ignore[no-untyped-call]
        return loss
    # A piece that has to be made dense is made once.
    size = _TOKENS if isinstance(head, Plain) else max(1, len(hidden))
    parts = (torch.split(part, size) for part in (hidden, targets, weights))
    made: list[Tensor] = [_PiecedLoss.apply(part, head, head, *rest, scale) for part, *rest in zip(*parts, strict=True)]  # type: ignore[no-untyped-call]
    return sum(made[1:], start=made[0])


def _in_pieces(hidden: Tensor, head: Matrix, cap: float) -> bool:
    """Whether all tokens meet some rows of the head at a time, rather than some tokens all rows."""
    if cap or head.trained is not None or fuses(hidden) or not isinstance(head, Pieced):
        return False
    return not isinstance(head, Plain) or hidden.device.type == "cpu"
