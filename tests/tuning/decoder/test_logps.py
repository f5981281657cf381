"""Log-probabilities of given tokens against their definition, for frozen heads and for those that are trained."""

import pytest
import torch
from torch import Tensor

from freehold.tuning.decoder import logps, pieces
from freehold.tuning.decoder.logps import token_logps
from freehold.tuning.decoder.weights import Plain
from tests.tuning.decoder.test_loss import Head, parts

CAPS = [(1.0, 0.0), (0.3, 0.0), (1.5, 3.0), (0.3, 0.5)]


def defined(hidden: Tensor, head: Tensor, targets: Tensor, scale: float, cap: float) -> Tensor:
    logits = scale * hidden.float() @ head.float().T
    logits = cap * torch.tanh(logits / cap) if cap else logits
    return logits.log_softmax(1).gather(1, targets[:, None])[:, 0]


@pytest.mark.parametrize(("scale", "cap"), CAPS)
@pytest.mark.parametrize("trained", [True, False])
def test_they_and_their_gradients_are_those_of_a_softmax(
    monkeypatch: pytest.MonkeyPatch, trained: bool, scale: float, cap: float
) -> None:
    for module, name, value in ((logps, "_NUMBERS", 3 * 11), (pieces, "_ROWS", 4), (pieces, "_TOKENS", 5)):
        monkeypatch.setattr(module, name, value)
    hidden, head, targets, slopes = parts(12)
    head = head.detach().requires_grad_(trained)
    asked = (hidden, head) if trained else (hidden,)
    got = token_logps(hidden, Head(head), targets, scale, cap)
    wanted = defined(hidden, head, targets, scale, cap)
    torch.testing.assert_close(got, wanted)
    made, expected = (torch.autograd.grad(each, asked, slopes - 0.5) for each in (got, wanted))
    for ours, theirs in zip(made, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_frozen_head_needs_no_second_look_for_the_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, head, targets, _ = parts(12)
    got = token_logps(hidden, Head(head.detach()), targets)
    monkeypatch.setattr(Plain, "pieces", None)
    monkeypatch.setattr(Plain, "dense", None)
    assert torch.autograd.grad(got.sum(), hidden)[0].abs().sum() > 0


@pytest.mark.parametrize("cap", [0.0, 3.0])
def test_in_bfloat16_they_are_near(cap: float) -> None:
    hidden, head, targets, slopes = parts(300)
    head = head.detach()
    got = token_logps(hidden.bfloat16(), Head(head.bfloat16()), targets, 1.0, cap)
    wanted = defined(hidden, head, targets, 1.0, cap)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, wanted, rtol=0, atol=0.15)
    ours, theirs = (torch.autograd.grad(each, hidden, slopes - 0.5)[0] for each in (got, wanted))
    assert (ours - theirs).norm() < 0.02 * theirs.norm()


def test_without_a_gradient_none_is_made() -> None:
    hidden, head, targets, _ = parts(5)
    with torch.no_grad():
        found = token_logps(hidden, Head(head.detach()), targets)
    assert not found.requires_grad
    torch.testing.assert_close(found, defined(hidden, head, targets, 1.0, 0.0).detach())


def test_no_tokens_have_none() -> None:
    hidden, head, targets, _ = parts(3)
    for kept in (head, head.detach()):
        assert token_logps(hidden[:0], Head(kept), targets[:0]).shape == (0,)
