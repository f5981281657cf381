"""The loss head against its definition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy

from freehold.tuning.decoder import loss, pieces
from freehold.tuning.decoder.loss import head_loss
from freehold.tuning.decoder.weights import Plain


class Head(Plain):
    """A head whose gradients are looked at."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.trained = tensor if tensor.requires_grad else None


def parts(tokens: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states, head, targets and weights."""
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, 8, generator=draw).requires_grad_()
    head = torch.randn(11, 8, generator=draw).requires_grad_()
    return hidden, head, torch.randint(0, 11, (tokens,), generator=draw), torch.rand(tokens, generator=draw)


def gradients(hidden: Tensor, head: Tensor, total: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(total, (hidden, head))


def test_the_loss_and_its_gradients_are_those_of_cross_entropy() -> None:
    torch.manual_seed(0)
    hidden, head = torch.randn(2500, 16, requires_grad=True), torch.randn(50, 16, requires_grad=True)
    targets, weights = torch.randint(0, 50, (2500,)), torch.rand(2500)
    expected = (cross_entropy(hidden @ head.T, targets, reduction="none") * weights).sum()
    wanted = torch.autograd.grad(expected, (hidden, head))
    got = head_loss(hidden, Head(head), targets, weights)
    made = torch.autograd.grad(got, (hidden, head))
    torch.testing.assert_close(got, expected)
    for ours, theirs in zip(made, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, head = torch.randn(8, 4, requires_grad=True), torch.randn(10, 4)
    head_loss(hidden, Head(head), torch.zeros(8, dtype=torch.long), torch.ones(8)).backward()  # type: ignore[no-untyped-call]
    assert hidden.grad is not None
    assert head.grad is None


@pytest.mark.parametrize("chunk", [1, 3, 7, 8, 1024])
def test_the_loss_does_not_depend_on_its_chunks(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    hidden, head, targets, weights = parts(7)
    wanted = (cross_entropy(hidden @ head.T, targets, reduction="none") * weights).sum()
    monkeypatch.setattr(loss, "_NUMBERS", chunk * 11)
    got = head_loss(hidden, Head(head), targets, weights)
    torch.testing.assert_close(got, wanted)
    for ours, theirs in zip(gradients(hidden, head, got), gradients(hidden, head, wanted), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("tokens", [1, 3, 512])
@pytest.mark.parametrize("rows", [1, 4, 11, 2048])
@pytest.mark.parametrize(("scale", "cap"), [(1.0, 0.0), (0.3, 0.0), (1.5, 3.0), (0.3, 0.5)])
def test_nor_that_of_a_frozen_head_on_its_pieces(
    monkeypatch: pytest.MonkeyPatch, rows: int, tokens: int, scale: float, cap: float
) -> None:
    hidden, head, targets, weights = parts(7)
    head = head.detach()
    logits = scale * hidden @ head.T
    logits = cap * torch.tanh(logits / cap) if cap else logits
    wanted = (cross_entropy(logits, targets, reduction="none") * weights).sum()
    monkeypatch.setattr(pieces, "_ROWS", rows)
    monkeypatch.setattr(pieces, "_TOKENS", tokens)
    got = head_loss(hidden, Head(head), targets, weights, scale, cap)
    torch.testing.assert_close(got, wanted)
    torch.testing.assert_close(*(torch.autograd.grad(each, hidden)[0] for each in (got, wanted)))


def test_a_frozen_head_in_bfloat16_is_near() -> None:
    hidden, head, targets, weights = parts(200)
    (plain,) = torch.autograd.grad(head_loss(hidden, Head(head.detach()), targets, weights), hidden)
    short = head_loss(hidden.bfloat16(), Head(head.detach()), targets, weights)
    (narrow,) = torch.autograd.grad(short, hidden)
    assert (narrow - plain).norm() < 0.01 * plain.norm()


def test_no_tokens_have_no_loss() -> None:
    hidden, head, targets, weights = parts(7)
    none = hidden[:0], Head(head.detach()), targets[:0], weights[:0]
    assert head_loss(*none).item() == 0


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 50))
def test_gradients_of_two_halves_add_up_to_those_of_the_whole(one: int, other: int, seed: int) -> None:
    hidden, head, targets, weights = parts(one + other, seed)
    whole = gradients(hidden, head, head_loss(hidden, Head(head), targets, weights))
    halves = [
        head_loss(hidden[side], Head(head), targets[side], weights[side])
        for side in (slice(None, one), slice(one, None))
    ]
    for summed, wanted in zip(gradients(hidden, head, halves[0] + halves[1]), whole, strict=True):
        torch.testing.assert_close(summed, wanted, rtol=1e-4, atol=1e-5)


def test_what_weighs_nothing_teaches_nothing() -> None:
    hidden, head, targets, weights = parts(6)
    weights[2:4] = 0
    ours = gradients(hidden, head, head_loss(hidden, Head(head), targets, weights))
    assert not ours[0][2:4].any()
    kept = torch.tensor([0, 1, 4, 5])
    rest = head_loss(hidden[kept], Head(head), targets[kept], weights[kept])
    torch.testing.assert_close(gradients(hidden, head, rest)[1], ours[1])


def test_a_gradient_is_scaled_by_what_comes_after() -> None:
    """The trainer divides by the weight of the step."""
    hidden, head, targets, weights = parts(6)
    plain = gradients(hidden, head, head_loss(hidden, Head(head), targets, weights))
    scaled = gradients(hidden, head, head_loss(hidden, Head(head), targets, weights) / 8)
    for part, whole in zip(scaled, plain, strict=True):
        torch.testing.assert_close(part * 8, whole)


def test_bfloat16_is_near() -> None:
    hidden, head, targets, weights = parts(200)
    plain = head_loss(hidden, Head(head), targets, weights)
    short = head_loss(hidden.bfloat16(), Head(head), targets, weights)
    assert short.dtype == torch.float32
    torch.testing.assert_close(short, plain, rtol=0.02, atol=0)
    for ours, theirs in zip(gradients(hidden, head, short), gradients(hidden, head, plain), strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() < 0.02 * theirs.norm()


def test_logits_too_large_for_exp_give_a_number() -> None:
    hidden, head = torch.full((2, 1), 1e4), torch.tensor([[1.0], [-1.0], [0.0]])
    got = head_loss(hidden, Head(head), torch.tensor([0, 1]), torch.ones(2))
    assert got.item() == pytest.approx(2e4)


def test_a_scale_is_of_the_logits() -> None:
    hidden, head, targets, weights = parts(9)
    wanted = (cross_entropy(0.3 * hidden @ head.T, targets, reduction="none") * weights).sum()
    got = head_loss(hidden, Head(head), targets, weights, 0.3)
    torch.testing.assert_close(got, wanted)
    for ours, theirs in zip(gradients(hidden, head, got), gradients(hidden, head, wanted), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("cap", [0.5, 3.0, 1e4])
def test_a_cap_is_of_the_logits(monkeypatch: pytest.MonkeyPatch, cap: float) -> None:
    monkeypatch.setattr(loss, "_NUMBERS", 4 * 11)
    hidden, head, targets, weights = parts(9)
    logits = cap * torch.tanh(1.5 * hidden @ head.T / cap)
    wanted = (cross_entropy(logits, targets, reduction="none") * weights).sum()
    got = head_loss(hidden, Head(head), targets, weights, 1.5, cap)
    torch.testing.assert_close(got, wanted)
    for ours, theirs in zip(gradients(hidden, head, got), gradients(hidden, head, wanted), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
