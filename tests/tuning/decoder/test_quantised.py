"""Quantised matrices are what the gguf package makes of their bytes, and gradients go through them as through that."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from torch import Tensor

from freehold.convert import dequantizer, quantize, to_gguf
from freehold.core.errors import BadModelFile, Unsupported
from freehold.tuning import lora, model
from freehold.tuning.decoder.attention import Rows
from freehold.tuning.decoder.gguf import GgufWeights, Ordered, open_gguf
from freehold.tuning.decoder.loss import head_loss
from freehold.tuning.decoder.model import Decoder
from freehold.tuning.decoder.quantised import Quantised, Workbench
from freehold.tuning.decoder.rope import read_ropes
from freehold.tuning.decoder.shape import Shape
from freehold.tuning.decoder.weights import Matrix, Plain
from freehold.tuning.unpack import unpack
from tests.convert.torchmodels import write_model
from tests.tuning.decoder.test_families import CASES, CPU, ROWS, our_loss, plain, plain_loss

COLUMNS = 512
FLOATS = (torch.float32, torch.bfloat16)


def matrix(
    name: str, rows: int = 700, *, threads: int = 2, order: np.ndarray | None = None
) -> tuple[Quantised, Tensor]:
    """A matrix, and all of its numbers."""
    packed = dequantizer.sample(name, rows, COLUMNS)
    wanted = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[name])
    dense = torch.from_numpy(wanted if order is None else wanted[order])
    return Quantised(packed, name, COLUMNS, order, Workbench(threads, CPU)), dense


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", dequantizer.SCALES)
def test_it_is_what_the_gguf_package_makes_of_it(name: str, dtype: torch.dtype) -> None:
    found, wanted = matrix(name)
    assert found.shape == (700, COLUMNS)
    assert torch.equal(found.dense(dtype), wanted.to(dtype))
    ids = torch.tensor([3, 699, 0, 3])
    assert torch.equal(found.rows(ids, dtype), wanted[ids].to(dtype))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", FLOATS)
def test_rows_in_another_order(threads: int, dtype: torch.dtype) -> None:
    order = np.random.default_rng(1).permutation(700)
    found, wanted = matrix("Q5_K", threads=threads, order=order)
    assert torch.equal(found.dense(dtype), wanted.to(dtype))
    assert torch.equal(found.rows(torch.tensor([5, 5, 600]), dtype), wanted[[5, 5, 600]].to(dtype))
    for begin, piece in found.pieces(dtype, 192):
        assert torch.equal(piece, wanted[begin : begin + 192].to(dtype))


def test_pieces_are_all_of_it() -> None:
    found, wanted = matrix("Q6_K")
    for rows in (1, 64, 699, 700, 10_000):
        pieces = [(begin, piece.clone()) for begin, piece in found.pieces(torch.float32, rows)]
        assert [begin for begin, _ in pieces] == list(range(0, 700, rows))
        assert torch.equal(torch.cat([piece for _, piece in pieces]), wanted)


def test_numbers_that_are_not_packed_come_in_their_order_too() -> None:
    order = torch.tensor([3, 0, 4, 1, 2])
    tensor = torch.randn(5, 6)
    found = Ordered(tensor, order)
    assert torch.equal(found.dense(torch.float32), tensor[order])
    assert torch.equal(found.rows(torch.tensor([4, 0]), torch.float32), tensor[[2, 3]])
    pieces = list(found.pieces(torch.float32, 2))
    assert [begin for begin, _ in pieces] == [0, 2, 4]
    assert torch.equal(torch.cat([piece for _, piece in pieces]), tensor[order])


def test_no_dense_copy_is_kept() -> None:
    bench = Workbench(1, CPU)
    found = [Quantised(dequantizer.sample("Q4_K", 64, COLUMNS), "Q4_K", COLUMNS, None, bench) for _ in range(3)]
    first = found[0].dense(torch.bfloat16)
    assert {each.dense(torch.bfloat16).data_ptr() for each in found} == {first.data_ptr()}
    kept = found[0].rows(torch.tensor([1, 2]), torch.bfloat16)
    assert kept.data_ptr() != first.data_ptr()


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_head_in_pieces_has_the_loss_and_gradient_of_a_whole_one(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    from freehold.tuning.decoder import pieces as module

    found, dense = matrix("Q8_0", 1500)
    draw = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 1500, (90,), generator=draw)
    weights = torch.rand(90, generator=draw)
    start = torch.randn(90, COLUMNS, generator=draw) * 0.05
    # Half of the targets are all but certain, where little of the gradient is left.
    start[:45] += 0.05 * dense[targets[:45]]
    results = []
    wholes = [(Plain(dense, trained=trained), 1 << 24) for trained in (True, False)]
    for head, piece in (*wholes, (found, 1 << 24), (found, 100 * COLUMNS), (found, COLUMNS)):
        monkeypatch.setattr(module, "_PIECE", piece)
        hidden = start.to(dtype).requires_grad_()
        total = head_loss(hidden, head, targets, weights, 0.7)
        (total * 0.5).backward()  # type: ignore[no-untyped-call]
        assert hidden.grad is not None
        results.append((total.detach(), hidden.grad.float()))
    (wanted, gradient), *others = results
    exact = dtype == torch.float32
    for total, grad in others:
        torch.testing.assert_close(total, wanted, rtol=1e-5 if exact else 2e-3, atol=1e-5)
        scale = gradient.abs().amax(1, keepdim=True)
        # A logit of 12 is rounded to sixteenths in bfloat16.
        torch.testing.assert_close(grad / scale, gradient / scale, rtol=0, atol=1e-4 if exact else 0.1)


class Dense(GgufWeights):
    """The same file with every matrix dequantised once and for all."""

    def matrix(self, name: str, rows: int, columns: int, device: torch.device, *, trained: bool) -> Matrix:
        made = super().matrix(name, rows, columns, device, trained=trained)
        return Plain(made.dense(torch.float32).clone())


def loss_and_gradients(folder: Path, weights: GgufWeights, dtype: torch.dtype) -> tuple[Tensor, dict[str, Tensor]]:
    shape = Shape.read(folder)
    decoder = Decoder(shape, weights, read_ropes(folder, shape), compute=dtype, device=CPU, full=False)
    trained = lora.attach(decoder.linears, 4, 8.0, 1, CPU)
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for half in trained.values():
            half.copy_(torch.randn(half.shape, generator=draw) * 0.05)
    loss = our_loss(decoder)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), {name: half.grad for name, half in trained.items() if half.grad is not None}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama whose rows K types can hold."""
    folder = tmp_path_factory.mktemp("wide")
    write_model(folder / "base", "Llama", hidden_size=256, intermediate_size=512, num_hidden_layers=2)
    to_gguf(folder / "base", folder / "plain.gguf", dtype="f32")
    return folder


@pytest.mark.parametrize("kind", ["Q4_K_M", "Q8_0", "Q5_1", "Q2_K", "F16", "BF16"])
def test_gradients_are_those_of_the_dense_base(kind: str, wide: Path, tmp_path: Path) -> None:
    quantize(wide / "plain.gguf", tmp_path / "base.gguf", kind, threads=1)
    folder = unpack(tmp_path / "base.gguf", tmp_path / "base")
    ours = open_gguf(tmp_path / "base.gguf", 2, CPU)
    theirs = Dense(*_opened(tmp_path / "base.gguf"))
    for dtype in FLOATS:
        got, grads = loss_and_gradients(folder, ours, dtype)
        wanted, expected = loss_and_gradients(folder, theirs, dtype)
        exact = dtype == torch.float32
        torch.testing.assert_close(got, wanted, rtol=1e-6 if exact else 1e-3, atol=0)
        assert grads.keys() == expected.keys()
        assert len(grads) == 28
        for name, grad in grads.items():
            scale = expected[name].abs().max()
            torch.testing.assert_close(grad / scale, expected[name] / scale, rtol=0, atol=1e-5 if exact else 5e-2)


def _opened(path: Path) -> tuple[Any, Workbench]:
    from freehold.convert import origin

    return origin.read(path), Workbench(1, CPU)


READ_BACK = [
    case
    for case, (family, _) in CASES.items()
    if case not in ("mistral", "qwen 2 windows") and not family.startswith(("Gemma", "Phi"))
]


@pytest.mark.parametrize("case", READ_BACK)
def test_every_family_computes_from_its_file_what_transformers_does(case: str, tmp_path: Path) -> None:
    """But for windows that llama.cpp does not have: those files say that their context ends there."""
    family, changes = CASES[case]
    write_model(tmp_path / "base", family, **changes)
    to_gguf(tmp_path / "base", tmp_path / "base.gguf", dtype="f32")
    folder = unpack(tmp_path / "base.gguf", tmp_path / "unpacked")
    with torch.no_grad():
        wanted = plain_loss(plain(tmp_path / "base"))
        got = our_loss(model.load(folder, CPU, torch.float32, full=False))
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-3)


def test_nothing_of_a_file_is_trained_itself(wide: Path, tmp_path: Path) -> None:
    folder = unpack(wide / "plain.gguf", tmp_path / "base")
    with pytest.raises(Unsupported, match="stays as it is"):
        model.load(folder, CPU, torch.float32, full=True)


def test_types_that_cannot_be_dequantised_are_refused(tmp_path: Path, wide: Path) -> None:
    raw = (wide / "plain.gguf").read_bytes()
    name = b"blk.0.attn_q.weight"
    at = raw.index(name) + len(name) + 4 + 2 * 8
    assert raw[at : at + 4] == bytes(4)  # F32
    (tmp_path / "strange.gguf").write_bytes(raw[:at] + (26).to_bytes(4, "little") + raw[at + 4 :])  # I32
    with pytest.raises(Unsupported, match=r"blk\.0\.attn_q\.weight is I32"):
        open_gguf(tmp_path / "strange.gguf", 1, CPU)


def test_shapes_that_are_others_are_refused(wide: Path) -> None:
    weights = open_gguf(wide / "plain.gguf", 1, CPU)
    with pytest.raises(BadModelFile, match="its configuration says"):
        weights.matrix("model.layers.0.self_attn.q_proj.weight", 256, 255, CPU, trained=False)
    with pytest.raises(BadModelFile, match="lacks the tensor"):
        weights.matrix("model.layers.9.self_attn.q_proj.weight", 256, 256, CPU, trained=False)
    assert weights.maybe("model.layers.0.self_attn.q_proj.bias", 256) is None
    assert "model.norm.weight" in weights.rest()


def test_packed_rows_see_themselves_alone(wide: Path, tmp_path: Path) -> None:
    """A row's hidden states do not depend on its neighbours, dequantised as they are in between."""
    quantize(wide / "plain.gguf", tmp_path / "base.gguf", "Q4_K_M", threads=1)
    decoder = model.load(unpack(tmp_path / "base.gguf", tmp_path / "base"), CPU, torch.float32, full=False)
    with torch.no_grad():
        together = decoder(torch.cat(ROWS), Rows.of([len(row) for row in ROWS], CPU)).split([len(row) for row in ROWS])
        for row, found in zip(ROWS, together, strict=True):
            torch.testing.assert_close(decoder(row, Rows.of([len(row)], CPU)), found, rtol=1e-4, atol=1e-4)
