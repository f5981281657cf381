"""Norms, projections, turns and attention, each beside torch's own derivative of the same written out."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu, scaled_dot_product_attention, silu

from freehold.tuning.decoder.attention import Rows, packed
from freehold.tuning.decoder.functions import ACTIVATIONS, Adapter, Linear, Magnitude, project, rms_norm
from freehold.tuning.decoder.turning import rotate
from freehold.tuning.decoder.weights import Plain

CPU = torch.device("cpu")
Function = Callable[..., Tensor]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def agree(ours: Function, plain: Function, *inputs: Tensor) -> None:
    """The same result, and the same gradients of all inputs."""
    got, wanted = ours(*inputs), plain(*inputs)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-5)
    back = noise(*got.shape, seed=9).detach()
    made = torch.autograd.grad(got, inputs, back)
    expected = torch.autograd.grad(wanted, inputs, back)
    for one, other in zip(made, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(7, 16), (5, 3, 16)])
def test_a_norm(shape: tuple[int, ...]) -> None:
    def plain(x: Tensor, weight: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight

    agree(lambda x, weight: rms_norm(x, weight, 1e-5, torch.float32), plain, noise(*shape), noise(16, seed=1))


def linear(matrix: Tensor, bias: Tensor, down: Tensor, up: Tensor) -> Linear:
    """With all of it trained."""
    made = Linear(Plain(matrix), bias)
    made.matrix.trained = matrix  # type: ignore[misc]
    made.adapter = Adapter(down, up, 0.7)
    return made


def adapted(x: Tensor, matrix: Tensor, bias: Tensor, down: Tensor, up: Tensor) -> Tensor:
    return x @ (matrix + 0.7 * up @ down).T + bias


PARTS = (noise(12, 8, seed=1), noise(12, seed=2), noise(3, 8, seed=3), noise(12, 3, seed=4))


def test_a_projection_with_an_adapter() -> None:
    agree(lambda x, *parts: linear(*parts)(x), adapted, noise(5, 8), *PARTS)


def test_projections_of_one_input_with_adapters() -> None:
    """Of other ranks and sizes, one with a bias."""
    shapes = [(12, 3), (4, 2), (6, 3)]
    frozen = [noise(rows, 8, seed=rows).detach() for rows, _ in shapes]
    biases = [noise(12).detach(), None, None]
    halves = [
        noise(*size, seed=11 + place) for place, (rows, rank) in enumerate(shapes) for size in ((rank, 8), (rows, rank))
    ]

    def ours(x: Tensor, *halves: Tensor) -> Tensor:
        made = []
        for matrix, bias, down, up in zip(frozen, biases, halves[::2], halves[1::2], strict=True):
            made.append(Linear(Plain(matrix), bias))
            made[-1].adapter = Adapter(down, up, 0.7)
        return torch.cat(project(x, made), 1)

    def plain(x: Tensor, *halves: Tensor) -> Tensor:
        parts = zip(frozen, biases, halves[::2], halves[1::2], strict=True)
        return torch.cat(
            [adapted(x, matrix, torch.zeros(1) if bias is None else bias, *pair) for matrix, bias, *pair in parts], 1
        )

    agree(ours, plain, noise(5, 8), *halves)


@pytest.mark.parametrize("name", ["silu", "gelu_pytorch_tanh"])
def test_a_gated_projection_with_an_adapter(name: str) -> None:
    wanted = {"silu": silu, "gelu_pytorch_tanh": lambda gate: gelu(gate, approximate="tanh")}[name]

    def plain(gate: Tensor, up: Tensor, *parts: Tensor) -> Tensor:
        return adapted(wanted(gate) * up, *parts)

    def ours(gate: Tensor, up: Tensor, *parts: Tensor) -> Tensor:
        return linear(*parts).gated(gate, up, ACTIVATIONS[name])

    agree(ours, plain, noise(5, 8), noise(5, 8, seed=7), *PARTS)


def test_a_gate_is_a_part_of_a_wider_product() -> None:
    """As where gate and up come of one matrix."""

    def plain(both: Tensor, *parts: Tensor) -> Tensor:
        return adapted(silu(both[:, :8]) * both[:, 8:], *parts)

    agree(lambda both, *parts: linear(*parts).gated(*both.chunk(2, dim=-1)), plain, noise(5, 16), *PARTS)


def test_a_frozen_matrix_gets_no_gradient_and_passes_one_on() -> None:
    matrix = noise(4, 6).detach().bfloat16()
    x = noise(3, 6, seed=1)
    made = Linear(Plain(matrix))(x)
    torch.testing.assert_close(made, x @ matrix.float().T)
    (grad,) = torch.autograd.grad(made.sum(), x)
    torch.testing.assert_close(grad, matrix.float().sum(0).expand(3, 6))


def test_a_turn_of_a_part() -> None:
    cos, sin = noise(5, 1, 3, seed=1).detach(), noise(5, 1, 3, seed=2).detach()

    def plain(x: Tensor) -> Tensor:
        first, second, rest = x[..., :3], x[..., 3:6], x[..., 6:]
        return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], -1)

    both = torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)
    agree(lambda x: rotate(x, *both), plain, noise(5, 2, 8))


@pytest.mark.parametrize("window", [0, 1, 4, 100])
@pytest.mark.parametrize("lengths", [[9], [5, 17, 9, 1], [3, 3]])
def test_rows_see_themselves_alone_and_what_is_before_them(lengths: list[int], window: int) -> None:
    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        made = []
        for one, two, three in zip(*(part.split(lengths) for part in (q, k, v)), strict=True):
            count = len(one)
            places = torch.arange(count)
            seen = (places <= places[:, None]) & (places > places[:, None] - (window or count))
            heads = (one.transpose(0, 1), *(part.transpose(0, 1).repeat_interleave(2, 0) for part in (two, three)))
            made.append(scaled_dot_product_attention(*heads, attn_mask=seen, scale=0.4).transpose(0, 1).flatten(1))
        return torch.cat(made)

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return packed(q, k, v, Rows.of(lengths, CPU), scale=0.4, window=window)

    tokens = sum(lengths)
    agree(ours, plain, noise(tokens, 4, 8), noise(tokens, 2, 8, seed=1), noise(tokens, 2, 8, seed=2))


@pytest.mark.parametrize("tokens", [40, 600])
def test_attention_in_bfloat16_is_near(tokens: int) -> None:
    rows = Rows.of([tokens], CPU)
    parts = [noise(tokens, 2, 16, seed=seed) for seed in range(3)]
    wanted = torch.autograd.grad(packed(*parts, rows, scale=0.3).square().sum(), parts)
    short = packed(*(part.bfloat16() for part in parts), rows, scale=0.3)
    assert short.dtype == torch.bfloat16
    for one, other in zip(torch.autograd.grad(short.float().square().sum(), parts), wanted, strict=True):
        assert (one - other).norm() < 0.03 * other.norm()


def brought(x: Tensor, matrix: Tensor, bias: Tensor, down: Tensor, up: Tensor, lengths: Tensor) -> Tensor:
    """DoRA written out: the rows of the sum are brought to `lengths`; those that they have count as constant."""
    rows = matrix + 0.7 * up @ down
    return x @ (rows * (lengths / rows.detach().norm(dim=1))[:, None]).T + bias


def dora(bias: Tensor, down: Tensor, up: Tensor, lengths: torch.nn.Parameter) -> Linear:
    """With a frozen matrix."""
    made = Linear(Plain(PARTS[0].detach()), bias)
    magnitude = Magnitude(lengths, PARTS[0].detach().square().sum(1))
    made.adapter = Adapter(down, up, 0.7, magnitude)
    return made


LENGTHS = torch.nn.Parameter(noise(12, seed=6).detach().abs() + 0.5)


def test_a_projection_with_rows_of_lengths_of_their_own() -> None:
    def plain(x: Tensor, *parts: Tensor) -> Tensor:
        return brought(x, PARTS[0].detach(), *parts)

    agree(lambda x, *parts: dora(*parts)(x), plain, noise(5, 8), *PARTS[1:], LENGTHS)


def test_a_gated_projection_with_rows_of_lengths_of_their_own() -> None:
    def plain(gate: Tensor, up: Tensor, *parts: Tensor) -> Tensor:
        return brought(silu(gate) * up, PARTS[0].detach(), *parts)

    def ours(gate: Tensor, up: Tensor, *parts: Tensor) -> Tensor:
        return dora(*parts).gated(gate, up)

    agree(ours, plain, noise(5, 8), noise(5, 8, seed=7), *PARTS[1:], LENGTHS)


def test_lengths_follow_the_halves_as_an_optimiser_changes_them() -> None:
    _, bias, down, up = (part.detach().clone().requires_grad_() for part in PARTS)
    x, made = noise(5, 8).detach(), dora(bias, down, up, LENGTHS)
    made(x).square().sum().backward()
    torch.optim.AdamW([down, up], 0.1, fused=True).step()
    torch.testing.assert_close(made(x), brought(x, PARTS[0].detach(), bias, down, up, LENGTHS), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        up.copy_(down.T.repeat(2, 1)[:12])
    torch.testing.assert_close(made(x), brought(x, PARTS[0].detach(), bias, down, up, LENGTHS), rtol=1e-4, atol=1e-5)


def test_a_row_of_zeros_stays_one() -> None:
    matrix = noise(3, 4).detach()
    matrix[1] = 0
    made = Linear(Plain(matrix))
    made.adapter = Adapter(torch.ones(2, 4), torch.zeros(3, 2), 1.0, Magnitude.of(made.matrix))
    torch.testing.assert_close(made(torch.eye(4)), matrix.T)
