"""The loss head: cross-entropy over the tokens that count, in chunks; the whole logits matrix never exists."""

from typing import Any

import torch
from torch import Tensor

from freehold.tuning.decoder.fused import fused, fuses
from freehold.tuning.decoder.pieces import pieced_logps
from freehold.tuning.decoder.weights import Matrix

_NUMBERS = 1 << 23
"""Logits held at a time: 32 MB of them."""
_CACHED = 1 << 19
"""Those in float32 at a time: 2 MB."""
_AT_ONCE = 1 << 26
"""The same where they are fused into their gradient, and a GPU is to have enough to do."""


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


def head_loss(
    hidden: Tensor, head: Matrix, targets: Tensor, weights: Tensor, scale: float = 1.0, cap: float = 0.0
) -> Tensor:
    """Sum of weighted cross-entropies in nats of the logits scale * hidden @ head, drawn into +-`cap` if it is not 0.

    hidden [tokens, size], head [vocab, size], targets and weights [tokens]. The gradient is made in the forward pass,
    so neither logits nor probabilities are kept for the backward one.
    """
    logps = pieced_logps(hidden, head, targets, scale, cap)
    if logps is not None:
        return -(logps * weights).sum()
    loss: Tensor = _HeadLoss.apply(hidden, head, head.trained, targets, weights, scale, cap)  # type: ignore[no-untyped-call]
    return loss
