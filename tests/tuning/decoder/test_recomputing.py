"""Layers that are computed twice: no more of them than their gradients need, and nothing left behind."""

import gc
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from freehold.tuning import lora, model
from freehold.tuning.decoder import recomputing
from freehold.tuning.decoder.attention import Rows
from freehold.tuning.decoder.model import Decoder
from freehold.tuning.decoder.recomputing import again, kept, twice
from freehold.tuning.decoder.weights import Plain
from tests.recipes.kit import write_base
from tests.tuning.decoder.test_families import CPU

LAYERS = 3
FLASH = "_scaled_dot_product_flash_attention_for_cpu.default"


class Counted(TorchDispatchMode):
    """Counts torch's operations."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.calls[func.__name__] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_base(tmp_path / "base", layers=LAYERS)
    return tmp_path / "base"


@contextmanager
def uses(linears: list[str], decoder: Decoder) -> Iterator[Counter[str]]:
    """How often each projection's matrix is asked for."""
    found: Counter[str] = Counter()

    def counting(name: str, matrix: Plain) -> None:
        dense = matrix.dense

        def counted(dtype: torch.dtype) -> Tensor:
            found[name.rpartition(".")[2]] += 1
            return dense(dtype)

        matrix.dense = counted  # type: ignore[method-assign]

    for name in linears:
        counting(name, decoder.linears[name].matrix)  # type: ignore[arg-type]
    yield found


@pytest.mark.parametrize("dora", [False, True])
def test_neither_attention_nor_what_nobody_reads_is_computed_again(folder: Path, dora: bool) -> None:
    decoder = model.load(folder, CPU, torch.bfloat16, full=False, checkpointing=True)
    lora.attach(decoder.linears, 4, 2.0, 1, CPU, dora=dora)
    with uses(list(decoder.linears), decoder) as found, Counted() as counted:
        hidden = decoder(torch.arange(20) % 9, Rows.of([11, 9], CPU))
        assert counted.calls[FLASH] == LAYERS
        hidden.float().sum().backward()  # type: ignore[no-untyped-call]
    assert counted.calls[FLASH] == LAYERS
    if not dora:
        # For what comes out, for the input's gradient, and between them where the layer needs it.
        assert found["down_proj"] == found["o_proj"] == 2 * LAYERS
        assert found["gate_proj"] == found["up_proj"] == 3 * LAYERS
        # Nobody asks for the gradient of the first layer's input.
        assert {found[name] for name in ("q_proj", "k_proj", "v_proj")} == {2 * LAYERS - 1}
        assert counted.calls["silu.default"] == 2 * LAYERS


def test_long_rows_keep_nothing_but_the_layers_inputs(folder: Path) -> None:
    decoder = model.load(folder, CPU, torch.bfloat16, full=False, checkpointing=True)
    lora.attach(decoder.linears, 4, 2.0, 1, CPU)
    with uses(list(decoder.linears), decoder) as found, Counted() as counted:
        decoder(torch.arange(600) % 9, Rows.of([600], CPU)).float().sum().backward()  # type: ignore[no-untyped-call]
    assert counted.calls[FLASH] == 2 * LAYERS
    assert {found[name] for name in ("q_proj", "k_proj", "v_proj")} == {3 * LAYERS - 1}


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("length", [20, 600])
def test_gradients_are_what_they_are_without(folder: Path, length: int, dora: bool) -> None:
    made = []
    for checkpointing in (False, True):
        decoder = model.load(folder, CPU, torch.bfloat16, full=False, checkpointing=checkpointing)
        trained = lora.attach(decoder.linears, 4, 2.0, 1, CPU, dora=dora)
        draw = torch.Generator().manual_seed(0)
        for half in trained.values():  # one is all zeros, through which nothing would be learned of the other
            half.data.copy_(half.data + 0.05 * torch.randn(half.shape, generator=draw))
        hidden = decoder(torch.arange(length) % 9, Rows.of([length], CPU))
        made.append(torch.autograd.grad(hidden.float().sum(), list(trained.values())))
    assert all(torch.equal(one, other) for one, other in zip(*made, strict=True))


def test_what_waits_is_gone_when_the_gradients_are_there() -> None:
    seen: list[weakref.ref[Tensor]] = []

    def layer(x: Tensor) -> Tensor:
        def make() -> tuple[Tensor]:
            made = x.detach() * 2
            seen.append(weakref.ref(made))
            return (made,)

        (part,) = kept(make)
        return (x * part).exp()

    gc.disable()
    try:
        x = torch.ones(3, requires_grad=True)
        twice(layer, x).sum().backward()
        assert len(seen) == 1
        assert seen[0]() is None
    finally:
        gc.enable()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, 2 * torch.full((3,), 2.0).exp())


def test_a_layer_that_fails_leaves_all_as_it_was() -> None:
    def fails(x: Tensor) -> Tensor:
        kept(lambda: (x.detach(),))
        raise MemoryError

    with pytest.raises(MemoryError):
        twice(fails, torch.ones(1, requires_grad=True))
    assert recomputing._now.waiting is None
    assert not again()
    assert kept(lambda: (torch.zeros(1),))[0] == 0
