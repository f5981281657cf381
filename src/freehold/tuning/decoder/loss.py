"""The loss head: cross-entropy over the tokens that count, in chunks; the whole logits matrix never exists."""

from typing import Any

import torch
from torch import Tensor

from freehold.tuning.decoder.weights import Matrix

_NUMBERS = 1 << 23
"""Logits held at a time: 32 MB of them."""


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
        size = max(1, _NUMBERS // matrix.shape[0])
        for at in range(0, hidden.shape[0], size):
            rows = slice(at, at + size)
            part, target, weight = hidden[rows], targets[rows, None], weights[rows, None]
            logp, slope = log_probabilities(part, matrix, scale, cap)
            total -= (logp.gather(1, target) * weight).sum()
            grad = logp.exp_().scatter_add_(1, target, torch.full_like(weight, -1.0)).mul_(weight * scale)
            if slope is not None:
                grad.mul_(slope)
            narrow = grad.to(hidden.dtype)
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


def log_probabilities(part: Tensor, matrix: Tensor, scale: float, cap: float) -> tuple[Tensor, Tensor | None]:
    """[tokens, vocab] in float32, and with a cap its derivative."""
    logits = (part @ matrix.T).float().mul_(scale)
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
    loss: Tensor = _HeadLoss.apply(hidden, head, head.trained, targets, weights, scale, cap)  # type: ignore[no-untyped-call]
    return loss
