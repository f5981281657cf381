"""The loss head: cross-entropy over the tokens that count, in chunks; the whole logits matrix never exists."""

from typing import Any

import torch
from torch import Tensor

_CHUNK = 1024
"""Rows of logits held at a time."""


class _HeadLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor, compute: torch.dtype
    ) -> Tensor:
        total = hidden.new_zeros((), dtype=torch.float32)
        matrix = head.to(compute)
        grad_hidden = torch.empty_like(hidden)
        grad_head = torch.zeros_like(head) if ctx.needs_input_grad[1] else None
        for at in range(0, hidden.shape[0], _CHUNK):
            rows = slice(at, at + _CHUNK)
            part, target, weight = hidden[rows].to(compute), targets[rows, None], weights[rows, None]
            logp = torch.log_softmax((part @ matrix.T).float(), dim=-1)
            total -= (logp.gather(1, target) * weight).sum()
            grad = logp.exp_().scatter_add_(1, target, torch.full_like(weight, -1.0)).mul_(weight).to(compute)
            grad_hidden[rows] = (grad @ matrix).to(hidden.dtype)
            if grad_head is not None:
                grad_head += (grad.T @ part).to(head.dtype)
        ctx.save_for_backward(grad_hidden, grad_head)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_head = ctx.saved_tensors
        return grads[0] * grad_hidden, None if grad_head is None else grads[0] * grad_head, None, None, None


def head_loss(hidden: Tensor, head: Tensor, targets: Tensor, weights: Tensor, compute: torch.dtype) -> Tensor:
    """Sum of weighted cross-entropies in nats. hidden [tokens, size], head [vocab, size], targets and weights [tokens].

    The gradient is made in the forward pass, so neither logits nor probabilities are kept for the backward one.
    """
    loss: Tensor = _HeadLoss.apply(hidden, head, targets, weights, compute)  # type: ignore[no-untyped-call]
    return loss
