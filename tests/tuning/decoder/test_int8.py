"""Products in whole numbers are those of exact arithmetic with the same codes, and near those of the numbers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from freehold.convert import dequantizer
from freehold.tuning import lora, model
from freehold.tuning.decoder.buffers import Buffers
from freehold.tuning.decoder.int8 import Int8, Rounded, operand, rounded
from freehold.tuning.decoder.nf4 import Nf4
from freehold.tuning.decoder.quantised import Quantised, Workbench
from freehold.tuning.decoder.weights import Matrix, Plain
from freehold.tuning.job import BaseDtype
from tests.convert.torchmodels import write_model
from tests.tuning.decoder.test_families import CPU, our_loss

DRAW = torch.Generator().manual_seed(5)


def drawn(*shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=DRAW) * scale


def whole(matrix: Matrix) -> Int8:
    return Int8(matrix, Buffers(CPU))


def numbers(found: Rounded) -> Tensor:
    return found.codes.double() * found.scales.double()


def apart(found: Tensor, wanted: Tensor) -> float:
    """The difference, relative to what it should be."""
    return ((found.double() - wanted.double()).norm() / wanted.double().norm()).item()


def test_rows_are_rounded_by_themselves_to_127_steps_of_their_largest_number() -> None:
    x = torch.tensor([[127.0, -126.4, 0.6], [-0.254, 0.001, 0.0], [0.0, 0.0, 0.0]])
    found = rounded(x)
    assert found.codes.tolist() == [[127, -126, 1], [-127, 0, 0], [0, 0, 0]]
    assert torch.equal(numbers(found)[2], torch.zeros(3).double())
    many = drawn(700, 300, scale=0.02)
    steps = many.abs().amax(1, keepdim=True) / 127
    assert ((numbers(rounded(many)) - many).abs() <= 0.5001 * steps).all()


@pytest.mark.parametrize("tokens", [0, 1, 3, 1000, 2500])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_are_those_of_the_codes(tokens: int, dtype: torch.dtype) -> None:
    dense, x, grad = drawn(96, 64, scale=0.1), drawn(tokens, 64).to(dtype), drawn(tokens, 96).to(dtype)
    matrix, own = whole(Plain(dense)), rounded(dense)
    close = {"rtol": 1e-2, "atol": 1e-2} if dtype == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    wanted = numbers(rounded(x)) @ numbers(own).T
    torch.testing.assert_close(matrix.times(operand(x)).double(), wanted, **close)
    wanted = numbers(rounded(grad * own.scales.T)) @ own.codes.double()
    torch.testing.assert_close(matrix.back(grad).double(), wanted, **close)


def test_they_are_near_those_of_the_numbers() -> None:
    dense, x, grad = drawn(512, 384, scale=0.02), drawn(200, 384), drawn(200, 512)
    matrix = whole(Plain(dense))
    assert apart(matrix.times(operand(x)), x @ dense.T) < 0.015
    assert apart(matrix.back(grad), grad @ dense) < 0.015
    assert torch.equal(matrix.dense(torch.float32), dense)
    assert torch.equal(matrix.rows(torch.tensor([3, 1]), torch.float32), dense[[3, 1]])


def test_columns_that_stand_out_leave_the_others_their_digits() -> None:
    dense, x = drawn(512, 384, scale=0.02), drawn(200, 384)
    x[:, [7, 130, 383]] *= 200.0
    matrix, others = whole(Plain(dense)), x.clone()
    others[:, [7, 130, 383]] = 0.0
    found = operand(x)
    assert sorted(found.columns.tolist()) == [7, 130, 383]
    assert torch.equal(found.apart, x[:, found.columns])
    loud = x @ dense.T - others @ dense.T
    rest = others @ dense.T
    assert apart(matrix.times(found) - loud, rest) < 0.2
    drowned = numbers(rounded(x)) @ numbers(rounded(dense)).T
    assert apart(drowned - loud, rest) > 0.5


def test_what_is_no_number_stays_none() -> None:
    matrix, x = whole(Plain(drawn(32, 32))), drawn(4, 32)
    for bad in (float("nan"), float("inf")):
        x[1, 5] = bad
        made = matrix.times(operand(x))
        assert not torch.isfinite(made[1]).any()
        assert torch.isfinite(made[[0, 2, 3]]).all()
        assert not torch.isfinite(matrix.back(x)[1]).any()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["Q4_K", "Q6_K", "Q8_0"])
def test_gguf_rows_are_rounded_on_the_way(name: str, threads: int) -> None:
    packed, order = dequantizer.sample(name, 700, 512), np.random.default_rng(3).permutation(700)
    for given in (None, order):
        matrix = Quantised(packed, name, 512, given, Workbench(threads, CPU))
        wanted = rounded(matrix.dense(torch.float32))
        for _ in range(2):
            found = matrix.rounded()
            torch.testing.assert_close(found.scales, wanted.scales, rtol=1e-6, atol=0)
            # A number between two steps may go to either.
            assert (found.codes.int() - wanted.codes.int()).abs().max() <= 1
            assert (found.codes != wanted.codes).float().mean() < 1e-3


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", [(700, 512), (30, 64), (9, 100)])
def test_nf4_rows_are_rounded_on_the_way(shape: tuple[int, int], threads: int) -> None:
    matrix = Nf4(drawn(*shape, scale=0.02), Workbench(threads, CPU))
    wanted = rounded(matrix.dense(torch.float32))
    for _ in range(2):
        found = matrix.rounded()
        torch.testing.assert_close(found.scales, wanted.scales, rtol=1e-6, atol=0)
        assert (found.codes.int() - wanted.codes.int()).abs().max() <= 1


@pytest.mark.parametrize("base", ["stored", "nf4"])
@pytest.mark.parametrize("family", ["Llama", "Phi3", "Qwen2"])
def test_adapters_learn_through_them(family: str, base: BaseDtype, tmp_path: Path) -> None:
    write_model(tmp_path, family)
    found = []
    for int8 in (False, True):
        decoder = model.load(tmp_path, CPU, torch.float32, full=False, int8=int8, base_dtype=base)
        trained = lora.attach(decoder.linears, 4, 2.0, 1, CPU)
        with torch.no_grad():
            for name, value in trained.items():
                if "lora_B" in name:
                    value.copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
        loss = our_loss(decoder)
        loss.backward()
        grads = [value.grad for value in trained.values()]
        found.append((loss.item(), torch.cat([grad.flatten() for grad in grads if grad is not None])))
    (plain, wanted), (whole, grad) = found
    assert abs(whole - plain) < 5e-3 * plain
    assert whole != plain
    assert torch.nn.functional.cosine_similarity(grad, wanted, dim=0) > 0.99
