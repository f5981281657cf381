"""NF4 holds what QLoRA's definition of it says, and adapters learn through it."""

import itertools
from pathlib import Path

import pytest
import torch

from freehold.core.errors import BadInput
from freehold.tuning import model
from freehold.tuning.decoder.nf4 import BLOCK, LEVELS, Nf4
from freehold.tuning.decoder.quantised import Workbench
from freehold.tuning.decoder.weights import Plain
from tests.convert.torchmodels import write_model
from tests.tuning.decoder.test_families import CPU, our_loss

LEVEL = torch.tensor(LEVELS)


def held(values: torch.Tensor) -> torch.Tensor:
    """The definition: each number's nearest level times the largest of its 64 neighbours in the order of the matrix."""
    flat = values.flatten().float()
    blocks = torch.cat([flat, flat.new_zeros(-len(flat) % BLOCK)]).view(-1, BLOCK)
    scale = blocks.abs().amax(1, keepdim=True)
    nearest = LEVEL[(blocks[..., None] / scale.clamp_min(1e-30)[..., None] - LEVEL).abs().argmin(-1)]
    return (nearest * scale).flatten()[: len(flat)].view(values.shape)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", [(64, 64), (3, 100), (1, 1), (700, 520)])
def test_it_is_the_definition(shape: tuple[int, int], threads: int) -> None:
    values = torch.randn(shape, generator=torch.Generator().manual_seed(4)) * 0.02
    for stored in (values, values.bfloat16()):
        found = Nf4(stored, Workbench(threads, CPU))
        wanted = held(stored)
        assert found.shape == shape
        assert torch.equal(found.dense(torch.float32), wanted)
        assert torch.equal(found.dense(torch.bfloat16), wanted.bfloat16())
        assert torch.equal(found.rows(torch.tensor([0, 0]), torch.float32), wanted[[0, 0]])


def test_the_levels_are_exact_and_so_are_zeros() -> None:
    values = LEVEL.repeat(8).view(2, 64) * 3.0
    assert torch.equal(Nf4(values, Workbench(1, CPU)).dense(torch.float32), values)
    assert not Nf4(torch.zeros(4, 64), Workbench(1, CPU)).dense(torch.float32).any()
    assert all(low < high for low, high in itertools.pairwise(LEVELS))


def test_layers_are_quantised_and_nothing_else_is(tmp_path: Path) -> None:
    write_model(tmp_path, "Llama")
    plain, small = (
        model.load(tmp_path, CPU, torch.float32, full=False, base_dtype=kind)  # type: ignore[arg-type]
        for kind in ("stored", "nf4")
    )
    for path, linear in small.linears.items():
        assert isinstance(linear.matrix, Nf4)
        before = plain.linears[path].matrix.dense(torch.float32)
        torch.testing.assert_close(linear.matrix.dense(torch.float32), held(before), rtol=0, atol=0)
    assert isinstance(small.embedding, Plain)
    assert isinstance(small.head, Plain)
    with torch.no_grad():
        assert 0 < abs(our_loss(small) / our_loss(plain) - 1) < 0.1


def test_a_gguf_file_is_not_quantised_again(tmp_path: Path) -> None:
    from freehold.convert import to_gguf
    from freehold.tuning.unpack import unpack

    write_model(tmp_path / "base", "Llama")
    to_gguf(tmp_path / "base", tmp_path / "base.gguf")
    with pytest.raises(BadInput, match="not quantised to nf4 again"):
        model.load(unpack(tmp_path / "base.gguf", tmp_path / "x"), CPU, torch.float32, full=False, base_dtype="nf4")
