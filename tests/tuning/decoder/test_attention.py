"""The ways of attention on GPUs, taken on a processor: what its own way gives, forward and backward."""

import pytest
import torch
from torch import Tensor

from freehold.tuning.decoder import attention
from freehold.tuning.decoder.attention import Rows, packed
from tests.tuning.decoder.test_families import CPU

LENGTHS = ([7, 30, 12], [1100, 3, 40], [1], [33])
"""Padded together, by their length, alone."""


def attended(parts: list[Tensor], lengths: list[int], window: int, spare: int) -> list[Tensor]:
    q, k, v = (part.clone().requires_grad_() for part in parts)
    out = packed(q, k, v, Rows.of(lengths, CPU, spare), scale=0.3, window=window)
    weights = torch.linspace(-1, 1, out.numel()).view(out.shape)
    grads = torch.autograd.grad((out * weights).sum(), (q, k, v))
    return [out.detach(), *grads]


@pytest.mark.parametrize("window", [0, 5, 64])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_gpus_attend_as_processors_do(lengths: list[int], window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, spare = torch.Generator().manual_seed(3), 4
    tokens = sum(lengths) + spare
    parts = [torch.randn(tokens, heads, 8, generator=draw) for heads in (4, 2, 2)]
    wanted = attended(parts, lengths, window, spare)
    asked: list[Tensor] = []

    def elsewhere(part: Tensor) -> bool:
        asked.append(part)
        return False

    monkeypatch.setattr(attention, "_on_processor", elsewhere)
    found = attended(parts, lengths, window, spare)
    assert asked
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
