"""The policy's packing: tokens that nobody reads change no number, and steps of any length have few sizes."""

from array import array
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from freehold.tuning import model, policy
from freehold.tuning.decoder.attention import Rows, packed
from freehold.tuning.policy import Policy, spare
from freehold.tuning.render import Sample

CPU = torch.device("cpu")


@given(st.integers(1, 1 << 20))
def test_a_step_grows_by_a_little(tokens: int) -> None:
    more = spare(tokens)
    assert 0 <= more <= max(15, tokens // 16)
    assert spare(tokens + more) == 0


def test_steps_have_few_sizes() -> None:
    assert len({tokens + spare(tokens) for tokens in range(2049, 4097)}) == 16
    assert len({tokens + spare(tokens) for tokens in range(1, 513)}) == 32


@pytest.mark.parametrize("lengths", [[5], [3, 4], [1, 2, 40]])
def test_attention_gives_spare_tokens_nothing(lengths: list[int]) -> None:
    tokens = sum(lengths)
    draw = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(tokens + 6, heads, 8, generator=draw) for heads in (4, 2, 2))
    with_spare = packed(q, k, v, Rows.of(lengths, CPU, 6), scale=0.3)
    without = packed(q[:tokens], k[:tokens], v[:tokens], Rows.of(lengths, CPU), scale=0.3)
    assert torch.equal(with_spare[:tokens], without)
    assert not with_spare[tokens:].any()


def test_the_loss_and_its_gradients_do_not_notice(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [
        Sample(array("i", range(5, 5 + count)), array("f", [0.1] * 3 + [1.0] * (count - 3)), cut=False)
        for count in (7, 12, 18)
    ]
    found = {}
    for name, more in (("none", lambda tokens: 0), ("spare", spare), ("many", lambda tokens: 100)):
        monkeypatch.setattr(policy, "spare", more)
        decoder = model.load(base, CPU, torch.float32, full=True)
        loss = Policy(decoder, CPU, 0.1).loss(samples)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = {path: value.grad for path, value in decoder.parameters.items() if value.grad is not None}
        assert gradients
        found[name] = loss.item(), gradients
    for name in ("spare", "many"):
        assert found[name][0] == pytest.approx(found["none"][0], rel=1e-6)
        for path, gradient in found[name][1].items():
            torch.testing.assert_close(gradient, found["none"][1][path], rtol=1e-4, atol=1e-6)
