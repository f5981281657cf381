"""Attention over tiles beside torch's own derivative of the same written out, whatever the tiles."""

import pytest
import torch
from torch import Tensor

from freehold.tuning.decoder import attention, tiles
from freehold.tuning.decoder.attention import Rows, packed
from tests.tuning.decoder.test_functions import CPU, agree, noise

HEADS, KEYS, SIZE, SCALE = 4, 2, 8, 0.4


def plain(lengths: list[int], window: int, cap: float, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Each row by itself, with all of its scores."""
    made = []
    for one, two, three in zip(*(part.split(lengths) for part in (q, k, v)), strict=True):
        places = torch.arange(len(one))
        seen = (places <= places[:, None]) & (places > places[:, None] - (window or len(one)))
        two, three = (part.transpose(0, 1).repeat_interleave(HEADS // KEYS, 0) for part in (two, three))
        scores = one.transpose(0, 1) @ two.mT * SCALE
        scores = cap * torch.tanh(scores / cap) if cap else scores
        likely = scores.masked_fill(~seen, float("-inf")).softmax(-1)
        made.append((likely @ three).transpose(0, 1).flatten(1))
    return torch.cat(made)


def parts(tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    return noise(tokens, HEADS, SIZE), noise(tokens, KEYS, SIZE, seed=1), noise(tokens, KEYS, SIZE, seed=2)


def compared(lengths: list[int], window: int, cap: float) -> None:
    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return packed(q, k, v, Rows.of(lengths, CPU), scale=SCALE, window=window, cap=cap)

    agree(ours, lambda *inputs: plain(lengths, window, cap, *inputs), *parts(sum(lengths)))


@pytest.mark.parametrize("cap", [0.0, 0.7])
@pytest.mark.parametrize("window", [0, 1, 5, 16, 39, 100])
@pytest.mark.parametrize("lengths", [[40], [16], [33, 40, 12, 1], [1] * 30 + [40]])
@pytest.mark.parametrize(("block", "numbers", "fewest"), [(16, 1 << 20, 16), (7, 64, 1), (64, 900, 5)])
def test_no_tile_changes_what_is_computed(
    monkeypatch: pytest.MonkeyPatch, lengths: list[int], window: int, cap: float, block: int, numbers: int, fewest: int
) -> None:
    monkeypatch.setattr(attention, "_DENSE", 8)
    monkeypatch.setattr(tiles, "_BLOCK", block)
    monkeypatch.setattr(tiles, "_NUMBERS", numbers)
    monkeypatch.setattr(tiles, "_FEWEST", fewest)
    compared(lengths, window, cap)


@pytest.mark.parametrize(("window", "cap"), [(300, 0.0), (300, 0.7), (0, 0.7)])
def test_long_rows_are_computed_as_short_ones(window: int, cap: float) -> None:
    compared([1500], window, cap)


@pytest.mark.parametrize("window", [0, 3, 20])
def test_without_a_cap_it_is_what_the_fast_way_computes(window: int) -> None:
    """Where torch's attention for CPUs is not to be had, tiles do the same."""
    q, k, v = parts(30)
    heads = [part[None].transpose(1, 2) for part in (q, k, v)]
    got = tiles.tiled(*heads, SCALE, window, 0.0).transpose(1, 2).flatten(2)[0]
    torch.testing.assert_close(got, plain([30], window, 0.0, q, k, v), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("tokens", "window", "cap"), [(60, 0, 2.0), (60, 20, 2.0), (1200, 200, 0.0)])
def test_bfloat16_is_near(tokens: int, window: int, cap: float) -> None:
    rows = Rows.of([tokens], CPU)
    inputs = parts(tokens)

    def gradients(dtype: torch.dtype) -> tuple[Tensor, ...]:
        out = packed(*(part.to(dtype) for part in inputs), rows, scale=SCALE, window=window, cap=cap)
        assert out.dtype == dtype
        return torch.autograd.grad(out.float().square().sum(), inputs)

    for one, other in zip(gradients(torch.bfloat16), gradients(torch.float32), strict=True):
        assert (one - other).norm() < 0.03 * other.norm()


def test_a_cap_that_no_score_comes_near_changes_nothing() -> None:
    q, k, v = parts(20)
    rows = Rows.of([20], CPU)
    capped = packed(q, k, v, rows, scale=SCALE, cap=1e4)
    torch.testing.assert_close(capped, packed(q, k, v, rows, scale=SCALE), rtol=1e-4, atol=1e-5)


def test_one_long_row_among_short_ones_does_not_lengthen_them_all() -> None:
    lengths = [3] * 200 + [500] + [2] * 100
    rows = Rows.of(lengths, CPU)
    assert sum(group.padded.numel() for group in rows.groups) <= 2 * sum(lengths)
    assert rows.order is not None
    tokens = torch.cat([group.tokens() for group in rows.groups])
    torch.testing.assert_close(tokens[rows.order], torch.arange(sum(lengths)))
    compared(lengths, 0, 0.0)


def test_rows_of_one_kind_are_one_batch() -> None:
    rows = Rows.of([5, 4, 3], CPU)
    assert len(rows.groups) == 1
    assert rows.order is None
    assert rows.positions.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 1, 2]
    assert rows.lengths.tolist() == [5] * 5 + [4] * 4 + [3] * 3


@pytest.mark.parametrize("size", [1.0, 4.0])
@pytest.mark.parametrize("window", [0, 5, 64])
@pytest.mark.parametrize("lengths", [[7, 30, 12], [400, 3, 40], [388, 388], [120] * 9])
def test_narrow_gradients_are_near(lengths: list[int], window: int, size: float) -> None:
    """Within what two roundings to bfloat16 differ by, however far the scores are from 0."""
    tokens, rows = sum(lengths), Rows.of(lengths, CPU)
    shapes = ((6, size), (2, size), (2, 1.0))
    drawn = [noise(tokens, heads, 64, seed=seed) * by for seed, (heads, by) in enumerate(shapes)]
    parts, back = [part.detach().bfloat16() for part in drawn], noise(tokens, 6 * 64, seed=3).detach()

    def gradients(dtype: torch.dtype, narrow: bool) -> list[Tensor]:
        inputs = [part.to(dtype, copy=True).requires_grad_() for part in parts]
        out = packed(*inputs, rows, scale=0.125, window=window, narrow=narrow)
        return [grad.float() for grad in torch.autograd.grad(out, inputs, back.to(dtype))]

    found, wanted = gradients(torch.bfloat16, narrow=True), gradients(torch.float32, narrow=False)
    assert not torch.equal(found[0], gradients(torch.bfloat16, narrow=False)[0]), "the narrow way was not taken"
    for one, other in zip(found, wanted, strict=True):
        assert float((one - other).norm() / other.norm()) < 0.012


@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("window", [0, 5, 64])
@pytest.mark.parametrize("lengths", [[7, 30, 12], [382, 45, 90], [32, 64]])
def test_rows_in_whole_steps_see_what_they_saw(lengths: list[int], window: int, narrow: bool) -> None:
    """What is put behind them, which torch is faster with, is seen by none of their own tokens."""
    rows = Rows.of(lengths, CPU)
    parts = [noise(sum(lengths), heads, 16, seed=seed).detach() for seed, heads in enumerate((4, 2, 2))]
    short = packed(*(part.bfloat16() for part in parts), rows, scale=0.3, window=window, narrow=narrow)
    wide = packed(*(part.bfloat16().float() for part in parts), rows, scale=0.3, window=window)
    assert short.dtype == torch.bfloat16
    torch.testing.assert_close(short.float(), wide, rtol=2e-2, atol=1e-2)


def test_float32_has_no_narrow_gradients() -> None:
    rows = Rows.of([5, 9], CPU)
    made = []
    for narrow in (True, False):
        inputs = [noise(14, heads, 8).requires_grad_() for heads in (4, 2, 2)]
        out = packed(*inputs, rows, scale=0.3, narrow=narrow)
        made.append(torch.autograd.grad(out.sum(), inputs))
    assert all(torch.equal(one, other) for one, other in zip(*made, strict=True))
