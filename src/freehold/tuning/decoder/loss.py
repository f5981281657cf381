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
        ctx: Any, hidden: Tensor, frozen: Matrix, head: Tensor | None, targets: Tensor, weights: Tensor, scale: float
    ) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        matrix = frozen.dense(hidden.dtype) if head is None else head.detach().to(hidden.dtype)
        grad_hidden = torch.empty_like(hidden)
        grad_head = None if head is None else torch.zeros_like(head)
        size = max(1, _NUMBERS // matrix.shape[0])
        for at in range(0, hidden.shape[0], size):
            rows = slice(at, at + size)
            part, target, weight = hidden[rows], targets[rows, None], weights[rows, None]
            logp = torch.log_softmax((part @ matrix.T).float().mul_(scale), dim=-1)
            total -= (logp.gather(1, target) * weight).sum()
            grad = logp.exp_().scatter_add_(1, target, torch.full_like(weight, -1.0)).mul_(weight * scale)
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
        return (grads[0] * grad_hidden).to(grad_hidden.dtype), None, grad_head, None, None, None


def head_loss(hidden: Tensor, head: Matrix, targets: Tensor, weights: Tensor, scale: float = 1.0) -> Tensor:
    """Sum of weighted cross-entropies in nats of the logits scale * hidden @ head.

    hidden [tokens, size], head [vocab, size], targets and weights [tokens]. The gradient is made in the forward pass,
    so neither logits nor probabilities are kept for the backward one.
    """
    loss: Tensor = _HeadLoss.apply(hidden, head, head.trained, targets, weights, scale)  # type: ignore[no-untyped-call]
    return loss
