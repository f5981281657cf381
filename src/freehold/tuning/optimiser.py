"""Optimisers: AdamW for adapters, embeddings and vectors; Muon for the matrices of a model trained from scratch."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal by Newton-Schulz iterations, scaled to the size of an AdamW step.

    Source: Jordan et al. 2024 (kellerjordan.github.io/posts/muon); scale of Liu et al. 2025, arXiv 2502.16982.
    Computes in `compute`: torch's own casts to bfloat16, which many CPUs multiply slower than float32.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        compute: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.compute = compute

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Apply one update from the gradients."""
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if not state:
                    state["momentum"] = torch.zeros_like(param)
                velocity = state["momentum"].lerp_(param.grad, 1 - group["momentum"])
                update = orthogonal(param.grad.lerp(velocity, group["momentum"]), self.compute)
                param.mul_(1 - group["lr"] * group["weight_decay"])
                param.add_(update, alpha=-group["lr"] * 0.2 * max(param.shape) ** 0.5)


def orthogonal(matrix: Tensor, compute: torch.dtype = torch.float32) -> Tensor:
    """The nearest matrix with singular values of about one, same shape and type; made in products of type `compute`."""
    a, b, c = _COEFFICIENTS
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = (wide / (wide.norm() + 1e-7)).to(compute)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    nearest: Tensor = x.T if matrix.shape[0] > matrix.shape[1] else x
    return nearest.to(matrix.dtype)


def build(
    trained: Mapping[str, nn.Parameter], method: str, learning_rate: float, weight_decay: float, compute: torch.dtype
) -> list[torch.optim.Optimizer]:
    """The optimisers for parameters by their names."""
    if method != "scratch":
        params = list(trained.values())
        return [torch.optim.AdamW(params, learning_rate, (0.9, 0.95), weight_decay=weight_decay, fused=True)]
    matrices = [param for name, param in trained.items() if param.ndim == 2 and ".layers." in name]
    rest = [param for name, param in trained.items() if not (param.ndim == 2 and ".layers." in name)]
    return [
        Muon(matrices, learning_rate, weight_decay=weight_decay, compute=compute),
        torch.optim.AdamW(rest, learning_rate, (0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def rate(step: int, steps: int, warmup: float) -> float:
    """The share of the full learning rate at `step`: a linear rise, then a linear fall to zero."""
    rise = max(1, round(steps * warmup))
    if step < rise:
        return (step + 1) / rise
    return (steps - step) / max(1, steps - rise)
