"""Optimisers and learning rates against their definitions, step by step."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from freehold.tuning.optimiser import Muon, build, orthogonal, rate


class Tiny(nn.Module):
    """The outline of a decoder: an embedding, a matrix and a norm in its layers, a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.embed = nn.Embedding(5, 4)
        self.inner = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(4, 6), nn.LayerNorm(4)])})


def grads(model: nn.Module, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=draw)


def adamw(value: Tensor, steps: list[Tensor], learning_rate: float, decay: float) -> Tensor:
    """Loshchilov & Hutter 2019, algorithm 2, with betas 0.9 and 0.95."""
    first, second = torch.zeros_like(value), torch.zeros_like(value)
    for number, grad in enumerate(steps, 1):
        first, second = 0.9 * first + 0.1 * grad, 0.95 * second + 0.05 * grad**2
        ahead = first / (1 - 0.9**number) / ((second / (1 - 0.95**number)).sqrt() + 1e-8)
        value = value - learning_rate * decay * value - learning_rate * ahead
    return value


def newton_schulz(matrix: Tensor) -> Tensor:
    """Five iterations of the quintic of Jordan et al. 2024, on singular values alone."""
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    values = values / matrix.double().norm()
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return left @ torch.diag(values) @ right


@pytest.mark.parametrize("method", ["lora", "full"])
def test_adapters_and_whole_models_are_trained_by_adamw(method: str) -> None:
    model = Tiny()
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    seen: dict[str, list[Tensor]] = {name: [] for name in start}
    [one] = build(dict(model.named_parameters()), method, 0.01, 0.1, torch.float32)
    for step in range(4):
        grads(model, step)
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            seen[name].append(parameter.grad.clone())
        one.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), adamw(start[name], seen[name], 0.01, 0.1))


def test_from_scratch_muon_has_the_matrices_of_the_layers_and_adamw_the_rest_without_decay() -> None:
    model = Tiny()
    muon, adam = build(dict(model.named_parameters()), "scratch", 0.01, 0.1, torch.float32)
    assert isinstance(muon, Muon)
    [matrices], [rest] = muon.param_groups, adam.param_groups
    assert [tuple(parameter.shape) for parameter in matrices["params"]] == [(6, 4)]
    assert {id(p) for p in [*matrices["params"], *rest["params"]]} == {id(p) for p in model.parameters()}
    assert (matrices["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_muon_steps_as_it_was_described(shape: tuple[int, int]) -> None:
    draw = torch.Generator().manual_seed(1)
    weight = nn.Parameter(torch.randn(shape, generator=draw))
    wanted, momentum = weight.detach().double(), torch.zeros(shape).double()
    muon = Muon([weight], lr=0.02, weight_decay=0.1)
    for _ in range(3):
        weight.grad = torch.randn(shape, generator=draw)
        grad = weight.grad.double()
        momentum = 0.95 * momentum + 0.05 * grad
        update = newton_schulz(0.05 * grad + 0.95 * momentum)  # Nesterov
        wanted = wanted * (1 - 0.02 * 0.1) - 0.02 * 0.2 * max(shape) ** 0.5 * update
        muon.step()
    torch.testing.assert_close(weight.detach().double(), wanted, rtol=1e-3, atol=1e-5)


def test_muon_leaves_what_has_no_gradient() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(weight, torch.ones(2, 2))


@given(st.integers(1, 6), st.integers(1, 6), st.floats(0.01, 100), st.integers(0, 99))
def test_orthogonal_keeps_directions_and_forgets_size(rows: int, columns: int, scale: float, seed: int) -> None:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    made = orthogonal(matrix)
    torch.testing.assert_close(orthogonal(scale * matrix), made, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(orthogonal(matrix.T), made.T, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(orthogonal(-matrix), -made, rtol=1e-3, atol=1e-3)
    assert torch.linalg.svdvals(made).max() < 1.4


def test_orthogonal_in_bfloat16_is_near() -> None:
    matrix = torch.randn(48, 32, generator=torch.Generator().manual_seed(1))
    short = orthogonal(matrix, torch.bfloat16)
    assert short.dtype == torch.float32
    assert (short - orthogonal(matrix)).norm() < 0.05 * short.norm()


def test_no_gradient_at_all_makes_no_step() -> None:
    assert torch.equal(orthogonal(torch.zeros(3, 5)), torch.zeros(3, 5))


def test_a_learning_rate_worked_out_by_hand() -> None:
    assert [rate(step, 10, 0.2) for step in range(10)] == [0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
    assert [rate(step, 4, 1.0) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert rate(0, 1, 0.03) == 1.0


@given(st.integers(1, 500), st.floats(0, 1))
def test_a_learning_rate_rises_once_and_falls_once_and_is_never_nothing(steps: int, warmup: float) -> None:
    rates = [rate(step, steps, warmup) for step in range(steps)]
    assert all(0 < value <= 1 for value in rates)
    assert max(rates) == 1
    top = rates.index(1)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


@pytest.mark.parametrize("shape", [(32, 32), (16, 64), (64, 16)])
def test_muon_makes_all_singular_values_about_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(*shape)))
    assert values.min() > 0.3
    assert values.max() < 1.4


def test_the_learning_rate_rises_then_falls_to_nothing() -> None:
    rates = [rate(step, 100, 0.1) for step in range(100)]
    assert rates.index(max(rates)) in (9, 10)
    assert rates[0] == pytest.approx(0.1)
    assert 0 < rates[-1] < 0.02


@pytest.mark.parametrize(
    ("steps", "warmup", "rates"),
    [
        (1, 0.0, [1.0]),
        (1, 1.0, [1.0]),
        (2, 0.0, [1.0, 1.0]),
        (2, 1.0, [0.5, 1.0]),
        (3, 0.0, [1.0, 1.0, 0.5]),
        (4, 0.5, [0.5, 1.0, 1.0, 0.5]),
        (4, 1.0, [0.25, 0.5, 0.75, 1.0]),
        (5, 0.3, [0.5, 1.0, 1.0, 2 / 3, 1 / 3]),
    ],
)
def test_few_steps_all_move(steps: int, warmup: float, rates: list[float]) -> None:
    assert [rate(step, steps, warmup) for step in range(steps)] == pytest.approx(rates)
