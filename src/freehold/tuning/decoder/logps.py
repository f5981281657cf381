"""Log-probabilities of given tokens. The whole logits matrix never exists."""

from typing import Any

import torch
from torch import Tensor

from freehold.tuning.decoder.loss import log_probabilities
from freehold.tuning.decoder.pieces import pieced_logps
from freehold.tuning.decoder.weights import Matrix

_NUMBERS = 1 << 23
"""Logits held at a time: 32 MB of them."""


class _Logps(torch.autograd.Function):
    """In chunks; logits are computed again for the backward pass instead of kept."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, frozen: Matrix, head: Tensor | None, targets: Tensor, scale: float, cap: float
    ) -> Tensor:
        matrix = _dense(frozen, head, hidden)
        found = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        for rows in _chunks(hidden, matrix):
            logp, _ = log_probabilities(hidden[rows], matrix, scale, cap)
            found[rows] = logp.gather(1, targets[rows, None]).squeeze(1)
        ctx.frozen, ctx.scale, ctx.cap = frozen, scale, cap
        ctx.save_for_backward(hidden, head, targets)
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, head, targets = ctx.saved_tensors
        matrix = _dense(ctx.frozen, head, hidden)
        grad_hidden = torch.empty_like(hidden)
        grad_head = None if head is None else torch.zeros_like(head)
        for rows in _chunks(hidden, matrix):
            weight = (grads[0][rows] * ctx.scale)[:, None]
            logp, slope = log_probabilities(hidden[rows], matrix, ctx.scale, ctx.cap)
            grad = logp.exp_().mul_(-weight).scatter_add_(1, targets[rows, None], weight)
            narrow = (grad if slope is None else grad.mul_(slope)).to(hidden.dtype)
            grad_hidden[rows] = narrow @ matrix
            if grad_head is not None:
                grad_head += (narrow.T @ hidden[rows]).to(grad_head.dtype)
        return grad_hidden, None, grad_head, None, None, None


def _dense(frozen: Matrix, head: Tensor | None, like: Tensor) -> Tensor:
    return frozen.dense(like.dtype) if head is None else head.detach().to(like.dtype)


def _chunks(hidden: Tensor, matrix: Tensor) -> list[slice]:
    size = max(1, _NUMBERS // matrix.shape[0])
    return [slice(at, at + size) for at in range(0, len(hidden), size)]


def token_logps(hidden: Tensor, head: Matrix, targets: Tensor, scale: float = 1.0, cap: float = 0.0) -> Tensor:
    """Log-probabilities in nats of `targets` by the logits scale * hidden @ head, drawn into +-`cap` if it is not 0.

    hidden [tokens, size], head [vocab, size], targets [tokens] -> [tokens] in float32.
    """
    pieced = pieced_logps(hidden, head, targets, scale, cap)
    if pieced is not None:
        return pieced
    found: Tensor = _Logps.apply(hidden, head, head.trained, targets, scale, cap)  # type: ignore[no-untyped-call]
    return found
