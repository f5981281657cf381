"""The parts that compute, against the plain way of computing the same."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from freehold.tuning import attention, model, optimiser
from freehold.tuning.attention import Rows
from freehold.tuning.loss import head_loss


def test_the_loss_and_its_gradients_are_those_of_cross_entropy() -> None:
    torch.manual_seed(0)
    hidden, head = torch.randn(2500, 16, requires_grad=True), torch.randn(50, 16, requires_grad=True)
    targets, weights = torch.randint(0, 50, (2500,)), torch.rand(2500)
    expected = (cross_entropy(hidden @ head.T, targets, reduction="none") * weights).sum()
    wanted = torch.autograd.grad(expected, (hidden, head))
    got = head_loss(hidden, head, targets, weights, torch.float32)
    made = torch.autograd.grad(got, (hidden, head))
    torch.testing.assert_close(got, expected)
    for ours, theirs in zip(made, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, head = torch.randn(8, 4, requires_grad=True), torch.randn(10, 4)
    head_loss(hidden, head, torch.zeros(8, dtype=torch.long), torch.ones(8), torch.float32).backward()
    assert hidden.grad is not None
    assert head.grad is None


@pytest.mark.parametrize("window", [None, 4])
def test_packed_rows_see_only_themselves(base: Path, window: int | None) -> None:
    torch.manual_seed(0)
    packed = model.load(base, torch.device("cpu"), torch.float32)
    if window:
        for layer in packed.model.layers:  # type: ignore[union-attr]
            layer.self_attn.sliding_window = window
    rows = [torch.randint(3, 299, (size,)) for size in (5, 17, 9, 1)]

    def hidden(parts: list[torch.Tensor]) -> torch.Tensor:
        layout = Rows.of([len(part) for part in parts], torch.device("cpu"))
        return packed.model(  # type: ignore[operator]
            input_ids=torch.cat(parts)[None], position_ids=layout.positions[None], packed_rows=layout, use_cache=False
        ).last_hidden_state[0]

    together = hidden(rows)
    alone = torch.cat([hidden([row]) for row in rows])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_packed_attention_agrees_with_transformers_own(base: Path) -> None:
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    ours = model.load(base, torch.device("cpu"), torch.float32)
    ids = torch.randint(3, 299, (1, 33))
    layout = Rows.of([33], torch.device("cpu"))
    wanted = plain.model(input_ids=ids).last_hidden_state
    got = ours.model(input_ids=ids, position_ids=layout.positions[None], packed_rows=layout, use_cache=False)  # type: ignore[operator]
    torch.testing.assert_close(got.last_hidden_state, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(32, 32), (16, 64), (64, 16)])
def test_muon_makes_all_singular_values_about_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(optimiser.orthogonal(torch.randn(*shape)))
    assert values.min() > 0.3
    assert values.max() < 1.4


def test_the_learning_rate_rises_then_falls_to_nothing() -> None:
    rates = [optimiser.rate(step, 100, 0.1) for step in range(100)]
    assert rates.index(max(rates)) in (9, 10)
    assert rates[0] == pytest.approx(0.1)
    assert 0 < rates[-1] < 0.02


def test_attention_scores_that_are_capped_are_refused() -> None:
    from freehold.core.errors import Unsupported

    layout = Rows.of([2], torch.device("cpu"))
    part = torch.zeros(1, 1, 2, 4)
    with pytest.raises(Unsupported, match="caps its attention"):
        attention.packed_attention(torch.nn.Module(), part, part, part, None, packed_rows=layout, softcap=30.0)
