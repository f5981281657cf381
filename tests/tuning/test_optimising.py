"""Optimisers, learning rates and the loss head against their definitions, step by step."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from freehold.tuning import loss
from freehold.tuning.loss import head_loss
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
    [one] = build(model, method, 0.01, 0.1)
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
    muon, adam = build(model, "scratch", 0.01, 0.1)
    assert isinstance(muon, Muon)
    [matrices], [rest] = muon.param_groups, adam.param_groups
    assert [tuple(parameter.shape) for parameter in matrices["params"]] == [(6, 4)]
    assert {id(p) for p in [*matrices["params"], *rest["params"]]} == {id(p) for p in model.parameters()}
    assert (matrices["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)


def test_what_is_frozen_is_in_no_optimiser() -> None:
    model = Tiny()
    model.embed.requires_grad_(False)
    for method in ("lora", "scratch"):
        held = [p for one in build(model, method, 0.01, 0.0) for group in one.param_groups for p in group["params"]]
        assert len(held) == len(list(model.parameters())) - 1
        assert all(parameter.requires_grad for parameter in held)


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


def parts(tokens: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states, head, targets and weights."""
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, 8, generator=draw).requires_grad_()
    head = torch.randn(11, 8, generator=draw).requires_grad_()
    return hidden, head, torch.randint(0, 11, (tokens,), generator=draw), torch.rand(tokens, generator=draw)


def gradients(hidden: Tensor, head: Tensor, total: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(total, (hidden, head))


@pytest.mark.parametrize("chunk", [1, 3, 7, 8, 1024])
def test_the_loss_does_not_depend_on_its_chunks(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    hidden, head, targets, weights = parts(7)
    wanted = (cross_entropy(hidden @ head.T, targets, reduction="none") * weights).sum()
    monkeypatch.setattr(loss, "_CHUNK", chunk)
    got = head_loss(hidden, head, targets, weights, torch.float32)
    torch.testing.assert_close(got, wanted)
    for ours, theirs in zip(gradients(hidden, head, got), gradients(hidden, head, wanted), strict=True):
        torch.testing.assert_close(ours, theirs)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 50))
def test_gradients_of_two_halves_add_up_to_those_of_the_whole(one: int, other: int, seed: int) -> None:
    hidden, head, targets, weights = parts(one + other, seed)
    whole = gradients(hidden, head, head_loss(hidden, head, targets, weights, torch.float32))
    halves = [
        head_loss(hidden[side], head, targets[side], weights[side], torch.float32)
        for side in (slice(None, one), slice(one, None))
    ]
    for summed, wanted in zip(gradients(hidden, head, halves[0] + halves[1]), whole, strict=True):
        torch.testing.assert_close(summed, wanted, rtol=1e-4, atol=1e-5)


def test_what_weighs_nothing_teaches_nothing() -> None:
    hidden, head, targets, weights = parts(6)
    weights[2:4] = 0
    ours = gradients(hidden, head, head_loss(hidden, head, targets, weights, torch.float32))
    assert not ours[0][2:4].any()
    kept = torch.tensor([0, 1, 4, 5])
    rest = head_loss(hidden[kept], head, targets[kept], weights[kept], torch.float32)
    torch.testing.assert_close(gradients(hidden, head, rest)[1], ours[1])


def test_a_gradient_is_scaled_by_what_comes_after() -> None:
    """The trainer divides by the weight of the step."""
    hidden, head, targets, weights = parts(6)
    plain = gradients(hidden, head, head_loss(hidden, head, targets, weights, torch.float32))
    scaled = gradients(hidden, head, head_loss(hidden, head, targets, weights, torch.float32) / 8)
    for part, whole in zip(scaled, plain, strict=True):
        torch.testing.assert_close(part * 8, whole)


def test_bfloat16_is_near() -> None:
    hidden, head, targets, weights = parts(200)
    plain = head_loss(hidden, head, targets, weights, torch.float32)
    short = head_loss(hidden, head, targets, weights, torch.bfloat16)
    assert short.dtype == torch.float32
    torch.testing.assert_close(short, plain, rtol=0.02, atol=0)
    for ours, theirs in zip(gradients(hidden, head, short), gradients(hidden, head, plain), strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() < 0.02 * theirs.norm()


def test_logits_too_large_for_exp_give_a_number() -> None:
    hidden, head = torch.full((2, 1), 1e4), torch.tensor([[1.0], [-1.0], [0.0]])
    got = head_loss(hidden, head, torch.tensor([0, 1]), torch.ones(2), torch.float32)
    assert got.item() == pytest.approx(2e4)
