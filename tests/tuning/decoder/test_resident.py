"""What a device dequantises itself is what the processor makes of the same bytes, to the bit."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor

from freehold.convert import dequantizer, quantize, to_gguf
from freehold.convert.ggml import LAYOUTS
from freehold.tuning import lora, model
from freehold.tuning.decoder import resident
from freehold.tuning.decoder.buffers import Buffers
from freehold.tuning.decoder.gguf import open_gguf
from freehold.tuning.decoder.nf4 import Nf4, open_nf4
from freehold.tuning.decoder.quantised import Bytes, Quantised, Workbench
from freehold.tuning.decoder.resident import Resident, ResidentBlocks
from freehold.tuning.decoder.unpacking import UNPACK
from freehold.tuning.decoder.weights import Weights
from freehold.tuning.unpack import unpack
from tests.convert.torchmodels import write_model
from tests.tuning.decoder.test_families import CPU, our_loss

FLOATS = (torch.float32, torch.bfloat16)
ELSEWHERE = ("IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS")
"""Types that the processor dequantises for every device."""


def packed(name: str, rows: int, columns: int, seed: int = 0) -> Bytes:
    """Random blocks, with scales in F16 of either sign and from the smallest that there are to large ones."""
    layout, draw = LAYOUTS[name], np.random.default_rng(seed)
    count = rows * columns // layout.block
    blocks = draw.integers(0, 256, (count, layout.size), dtype=np.uint8)
    for place in dequantizer.SCALES[name]:
        scales = draw.choice([-1, 1], count) * 2.0 ** draw.uniform(-24, 4, count)
        blocks[:, place : place + 2] = scales.astype("<f2").view(np.uint8).reshape(count, 2)
    return blocks.reshape(rows, layout.row_bytes(columns))


def same(one: Tensor, other: Tensor) -> bool:
    """To the bit, zeros with their sign."""
    bits = torch.int32 if one.dtype == torch.float32 else torch.int16
    return one.dtype == other.dtype and torch.equal(one.view(bits), other.view(bits))


def test_all_types_are_there_but_those_with_grids() -> None:
    assert {*UNPACK, *ELSEWHERE} == {*dequantizer.SCALES}


@pytest.mark.parametrize("name", UNPACK)
def test_blocks_are_what_the_gguf_package_and_the_processor_make_of_them(name: str) -> None:
    rows, columns = 37, 768
    found = packed(name, rows, columns)
    there, here = (
        Resident(found, name, columns, None, Buffers(CPU)),
        Quantised(found, name, columns, None, Workbench(1, CPU)),
    )
    wanted = torch.from_numpy(gguf.quants.dequantize(found, gguf.GGMLQuantizationType[name]))
    assert there.shape == here.shape == (rows, columns)
    for dtype in FLOATS:
        assert same(there.dense(dtype), wanted.to(dtype))
        assert same(there.dense(dtype), here.dense(dtype))
        ids = torch.tensor([36, 0, 36, 5])
        assert same(there.rows(ids, dtype), here.rows(ids, dtype))


@pytest.mark.parametrize("name", UNPACK)
@pytest.mark.parametrize("rows", [1, 3])
def test_a_single_block_to_a_row(name: str, rows: int) -> None:
    columns = LAYOUTS[name].block
    found = packed(name, rows, columns, seed=rows)
    there = Resident(found, name, columns, None, Buffers(CPU))
    wanted = torch.from_numpy(gguf.quants.dequantize(found, gguf.GGMLQuantizationType[name]))
    assert same(there.dense(torch.float32), wanted)
    assert same(there.rows(torch.tensor([rows - 1]), torch.float32), wanted[-1:])


@pytest.mark.parametrize("dtype", FLOATS)
def test_pieces_and_rows_in_another_order(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "PIECE", 3 * 512 + 1)
    order = np.random.default_rng(1).permutation(100)
    found = packed("Q5_K", 100, 512)
    there = Resident(found, "Q5_K", 512, order, Buffers(CPU))
    here = Quantised(found, "Q5_K", 512, order, Workbench(1, CPU))
    assert same(there.dense(dtype), here.dense(dtype))
    assert same(there.rows(torch.tensor([7, 99]), dtype), here.rows(torch.tensor([7, 99]), dtype))
    for rows in (1, 7, 100, 1000):
        pieces = [(begin, piece.clone()) for begin, piece in there.pieces(dtype, rows)]
        assert [begin for begin, _ in pieces] == list(range(0, 100, rows))
        assert same(torch.cat([piece for _, piece in pieces]), here.dense(dtype))


def test_bytes_are_moved_once_and_no_dense_copy_is_kept() -> None:
    buffers, found = Buffers(CPU), packed("Q4_K", 64, 512)
    matrices = [Resident(found, "Q4_K", 512, None, buffers) for _ in range(3)]
    wanted = matrices[0].dense(torch.bfloat16).clone()
    place = matrices[0].dense(torch.bfloat16).data_ptr()
    found[:] = 0  # what lies on the device is a copy of its own
    assert {each.dense(torch.bfloat16).data_ptr() for each in matrices} == {place}
    assert same(matrices[1].dense(torch.bfloat16), wanted)


@pytest.mark.parametrize("shape", [(64, 64), (3, 100), (1, 1), (70, 520)])
def test_nf4(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "PIECE", 1000)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(4)) * 0.02
    here = Nf4(values, Workbench(1, CPU))
    name = "model.layers.0.w"
    there = nf4({name: values}).matrix(name, *shape, CPU, trained=False)
    assert isinstance(there, ResidentBlocks)
    assert there.shape == shape
    ids = torch.tensor([shape[0] - 1, 0, 0])
    for dtype in FLOATS:
        assert same(there.dense(dtype), here.dense(dtype))
        assert same(there.rows(ids, dtype), here.rows(ids, dtype))


def nf4(tensors: dict[str, Tensor]) -> Weights:
    """Weights of which the device holds the projections in 4 bits."""
    from freehold.tuning.decoder.nf4 import Nf4Weights

    return Nf4Weights(Weights(tensors, Path("here")), Workbench(1, CPU, resident=True))


def test_processors_keep_their_own_way_and_all_others_hold_bytes() -> None:
    assert Workbench(1, CPU).resident is None
    for kind in ("cuda", "mps", "meta"):
        found = Workbench(1, torch.device(kind)).resident
        assert found is not None
        assert found.device.type == kind


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama whose rows K types can hold."""
    folder = tmp_path_factory.mktemp("wide")
    write_model(folder / "base", "Llama", hidden_size=256, intermediate_size=512, num_hidden_layers=2)
    to_gguf(folder / "base", folder / "plain.gguf", dtype="f32")
    return folder


@pytest.mark.parametrize("kind", ["nf4", "Q4_K_M", "Q5_1", "F16", "BF16"])
def test_loss_and_gradients_of_a_whole_model(kind: str, wide: Path, tmp_path: Path) -> None:
    """Equal, not close: the products are the same, of the same numbers."""
    if kind == "nf4":
        folder = wide / "base"
    else:
        quantize(wide / "plain.gguf", tmp_path / "base.gguf", kind, threads=1)
        folder = unpack(tmp_path / "base.gguf", tmp_path / "base")
    results = []
    for there in (False, True):
        decoder = model.load(
            folder, CPU, torch.float32, full=False, resident=there, base_dtype="nf4" if kind == "nf4" else "stored"
        )
        held = {type(linear.matrix) for linear in decoder.linears.values()}
        assert (held <= {Resident, ResidentBlocks}) == (there and kind not in ("F16", "BF16"))
        trained = lora.attach(decoder.linears, 4, 8.0, 1, CPU)
        with torch.no_grad():
            for half in trained.values():
                half.add_(0.01)
        loss = our_loss(decoder)
        loss.backward()  # type: ignore[no-untyped-call]
        results.append((loss.detach(), [half.grad for half in trained.values()]))
    (one, grads), (other, expected) = results
    assert torch.equal(one, other)
    assert len(grads) == 28
    for grad, wanted in zip(grads, expected, strict=True):
        assert grad is not None
        assert wanted is not None
        assert torch.equal(grad, wanted)


def test_types_with_grids_are_dequantised_by_the_processor(tmp_path: Path, wide: Path) -> None:
    assert open_gguf(wide / "plain.gguf", 1, CPU, resident=True).rest()
    assert open_nf4(wide / "base", 1, CPU, resident=True).tensors
    found = Quantised(packed("IQ3_S", 4, 256), "IQ3_S", 256, None, Workbench(1, CPU, resident=True))
    assert found.dense(torch.float32).device.type == "cpu"
