"""Inputs of layers wait outside for the backward pass, and nothing else does; losses and gradients are the same."""

from pathlib import Path
from weakref import WeakSet

import pytest
import torch
from torch import Tensor

from freehold.tuning import lora, model
from freehold.tuning.decoder import offload
from freehold.tuning.decoder.offload import Held, OnHost
from tests.convert.torchmodels import write_model
from tests.tuning.decoder.test_families import CPU, ROWS, our_loss


def grads(folder: Path, *, full: bool, moved: bool) -> tuple[Tensor, list[Tensor]]:
    decoder = model.load(folder, CPU, torch.float32, full=full, checkpointing=True, offload=moved)
    trained = decoder.parameters
    if not full:
        trained = lora.attach(decoder.linears, 4, 8.0, 1, CPU)
        with torch.no_grad():
            for half in trained.values():
                half.add_(0.01)
    loss = our_loss(decoder)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), [value.grad for value in trained.values() if value.grad is not None]


@pytest.mark.parametrize("full", [False, True])
def test_the_inputs_of_layers_and_nothing_else(full: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path, "Llama", num_hidden_layers=3)
    taken: list[tuple[int, ...]] = []
    brought: list[tuple[int, ...]] = []
    take, bring = offload._taken, offload._brought

    def taking(tensor: Tensor) -> Held:
        taken.append(tuple(tensor.shape))
        held = take(tensor)
        assert held.copy.data_ptr() != tensor.data_ptr()
        assert held.device == tensor.device
        return held

    def bringing(held: Held) -> Tensor:
        brought.append(tuple(held.copy.shape))
        return bring(held)

    wanted, expected = grads(tmp_path, full=full, moved=False)
    assert taken == []
    monkeypatch.setattr(offload, "_taken", taking)
    monkeypatch.setattr(offload, "_brought", bringing)
    loss, found = grads(tmp_path, full=full, moved=True)
    tokens = sum(len(row) for row in ROWS)
    assert taken == brought
    assert [shape[0] for shape in taken] == [tokens] * 3
    assert torch.equal(loss, wanted)
    assert len(found) == len(expected) > 20
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_the_device_holds_nothing_of_what_left() -> None:
    """What a layer is given is gone before the backward pass, but for its copy."""
    left: WeakSet[Tensor] = WeakSet()

    class Kept(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)  # type: ignore[attr-defined]
            return x.sum()

        @staticmethod
        def backward(ctx: object, *grads: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors  # type: ignore[attr-defined]
            return x * grads[0]

    start = torch.arange(4.0, requires_grad=True)
    with OnHost():
        x = start * 2
        left.add(x)
        total = Kept.apply(x)  # type: ignore[no-untyped-call]
    del x
    assert not left
    total.backward()
    assert start.grad is not None
    assert start.grad.tolist() == [0.0, 4.0, 8.0, 12.0]
