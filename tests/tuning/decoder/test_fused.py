"""Fused chains give what their operations give one by one: compiled here for the processor, by the same compiler."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from freehold.tuning.decoder import fused
from freehold.tuning.decoder.buffers import Buffers
from freehold.tuning.decoder.functions import ACTIVATIONS, Linear, rms_norm
from freehold.tuning.decoder.loss import head_loss
from freehold.tuning.decoder.nf4 import BLOCK, LEVELS, quantised
from freehold.tuning.decoder.resident import Resident, ResidentBlocks
from freehold.tuning.decoder.turning import rotate
from freehold.tuning.decoder.weights import Plain
from tests.tuning.decoder.test_families import CPU
from tests.tuning.decoder.test_functions import noise
from tests.tuning.decoder.test_resident import packed

pytestmark = [
    pytest.mark.slow,
    # Of torch's own, where its compiler meets Python's newer ways.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
FLOATS = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    """No test finds what another one compiled."""
    yield
    torch._dynamo.reset()


def both(work: Callable[[], list[Tensor]], tolerance: float) -> None:
    """What it gives plainly, and fused."""
    plain = work()
    with fused.everywhere():
        made = work()
    for one, other in zip(made, plain, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one.float(), other.float(), rtol=tolerance, atol=tolerance)


def with_gradients(out: Tensor, *inputs: Tensor) -> list[Tensor]:
    back = noise(*out.shape, seed=9).detach().to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, inputs, back)]


def tolerance(dtype: torch.dtype) -> float:
    return 1e-5 if dtype == torch.float32 else 2e-2


@FLOATS
def test_a_norm_and_a_turn(dtype: torch.dtype) -> None:
    x, weight = noise(40, 64).detach().to(dtype).requires_grad_(), noise(64, seed=1)
    heads = noise(40, 4, 20, seed=2).detach().to(dtype).requires_grad_()
    cos, sin = (noise(40, 1, 8, seed=seed).detach() for seed in (3, 4))
    cos, sin = torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)

    def work() -> list[Tensor]:
        normal = with_gradients(rms_norm(x, weight, 1e-5, dtype), x, weight)
        frozen = with_gradients(rms_norm(x, weight.detach(), 1e-5, dtype), x)
        return [*normal, *frozen, *with_gradients(rotate(heads, cos, sin), heads)]

    both(work, tolerance(dtype))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_gate(name: str) -> None:
    gate, up = noise(24, 32), noise(24, 32, seed=1)
    linear = Linear(Plain(noise(16, 32, seed=2).detach()))
    both(lambda: with_gradients(linear.gated(gate, up, ACTIVATIONS[name]), gate, up), 1e-5)


@FLOATS
@pytest.mark.parametrize(("scale", "cap"), [(1.0, 0.0), (0.5, 0.0), (1.0, 3.0)])
def test_the_loss_of_a_head(scale: float, cap: float, dtype: torch.dtype) -> None:
    hidden, head = noise(50, 32).detach().to(dtype).requires_grad_(), Plain(noise(300, 32, seed=1).detach().to(dtype))
    draw = torch.Generator().manual_seed(5)
    targets, weights = torch.randint(300, (50,), generator=draw), torch.rand(50, generator=draw)
    both(
        lambda: with_gradients(head_loss(hidden, head, targets, weights, scale, cap), hidden),
        1e-4 if dtype == torch.float32 else 3e-2,
    )


@pytest.mark.parametrize("name", ["Q5_1", "Q8_0", "Q3_K", "Q4_K", "Q6_K", "IQ4_XS"])
def test_blocks_of_a_file(name: str) -> None:
    matrix = Resident(packed(name, 12, 512), name, 512, None, Buffers(CPU))
    both(lambda: [matrix.dense(torch.float32).clone()], 1e-6)


@FLOATS
def test_blocks_in_nf4(dtype: torch.dtype) -> None:
    tensor = noise(20, 72).detach()
    codes, scales = quantised(tensor)
    assert len(codes) == -(-20 * 72 // BLOCK)
    matrix = ResidentBlocks(codes, scales, LEVELS, (20, 72), Buffers(CPU))
    both(lambda: [matrix.dense(dtype).clone()], 0.0)
