"""On a GPU: its own ways of attention and of dequantising, and a training beside the processor's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from freehold.convert import quantize, to_gguf
from freehold.tuning.decoder import attention, fused
from freehold.tuning.decoder.attention import Rows, packed
from freehold.tuning.decoder.buffers import Buffers
from freehold.tuning.decoder.fused import fuses
from freehold.tuning.decoder.resident import Resident
from freehold.tuning.decoder.unpacking import UNPACK
from freehold.tuning.device import Cuda, Device
from freehold.tuning.job import TrainJob
from tests.tuning.decoder import test_resident
from tests.tuning.test_device import made, trained

pytestmark = pytest.mark.gpu
Jobs = Callable[..., TrainJob]
GPU = torch.device("cuda")
LENGTHS = ([7, 30, 12], [1100, 3, 40], [1], [33])


def attended(parts: list[Tensor], layout: Rows, window: int) -> list[Tensor]:
    q, k, v = (part.clone().requires_grad_() for part in parts)
    out = packed(q, k, v, layout, scale=0.3, window=window)[: len(q) - layout.spare]
    weights = torch.linspace(-1, 1, out.numel(), device=GPU).view(out.shape)
    return [out.detach(), *torch.autograd.grad((out.float() * weights).sum(), (q, k, v))]


@pytest.mark.parametrize("window", [0, 5, 64])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_rows_as_they_lie_are_attended_as_padded_ones(lengths: list[int], window: int) -> None:
    draw, spare = torch.Generator(GPU).manual_seed(3), 5
    parts = [
        torch.randn(sum(lengths) + spare, heads, 64, generator=draw, device=GPU, dtype=torch.bfloat16)
        for heads in (4, 2, 2)
    ]
    layout = Rows.of(lengths, GPU, spare)
    assert attention._flashes(parts[0])
    found, wanted = attended(parts, layout, window), attended(parts, layout._replace(edges=None), window)
    for one, other in zip(found, wanted, strict=True):
        assert ((one.float() - other.float()).norm() / other.float().norm()).item() < 1e-2


@pytest.mark.parametrize("name", UNPACK)
def test_blocks_are_the_processors(name: str) -> None:
    blocks = test_resident.packed(name, 64, 1024)
    here = Resident(blocks, name, 1024, None, Buffers(torch.device("cpu"))).dense(torch.float32)
    there = Resident(blocks, name, 1024, None, Buffers(GPU)).dense(torch.float32)
    # A difference of two products may be rounded once there, and twice here.
    torch.testing.assert_close(there.cpu(), here, rtol=1e-5, atol=1e-5 * here.abs().max().item())


@pytest.mark.parametrize("kind", ["stored", "nf4", "Q8_0", "Q4_K_M"])
def test_a_training_is_the_processors_and_can_be_repeated(
    kind: str, job: Jobs, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "_WORTH", 0.0)
    fields: dict[str, Any] = {"dtype": "bf16"}
    if kind == "nf4":
        fields["base_dtype"] = "nf4"
    elif kind != "stored":
        to_gguf(base, tmp_path / "plain.gguf")
        quantize(tmp_path / "plain.gguf", tmp_path / "base.gguf", kind, threads=1)
        fields["base"] = tmp_path / "base.gguf"
    _, here = trained(job(out=tmp_path / "here", **fields), Device())
    runs = [trained(job(out=tmp_path / name, **fields), Cuda())[1] for name in ("one", "two")]
    assert fuses(torch.ones(1, device=GPU))
    for one, other in zip(runs[0].losses, here.losses, strict=True):
        assert abs(one - other) < 2e-2
    assert runs[0].losses == runs[1].losses
    first, second = map(made, runs)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert runs[0].peak_device > 0
