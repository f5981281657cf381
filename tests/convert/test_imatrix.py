"""Importance matrices: measured as arithmetic says, kept in llama.cpp's layout, used to lower the error that counts."""

import asyncio
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from freehold.convert import ggml, imatrix, quantize
from freehold.convert.imatrix import Importance
from freehold.convert.output import OutTensor, number_entry, packed_header, packed_string
from freehold.convert.quantizer import plan
from freehold.core.errors import BadInput, BadModelFile, FreeholdError, NotFound
from freehold.engines.base import ModelFile
from freehold.engines.llamacpp.scorer import Activations, scorer
from freehold.formats.gguf import TensorInfo, read_header
from tests.convert.folders import write_folder
from tests.convert.test_quantize import dequantized

DOWN = "blk.1.ffn_down.weight"


def windows(count: int = 2, length: int = 150) -> list[list[int]]:
    return np.random.default_rng(9).integers(3, 500, (count, length)).tolist()


def measured(path: Path, given: list[list[int]]) -> Importance:
    async def run() -> Importance:
        async with scorer(ModelFile(path, "tiny"), threads=1, collecting=True) as one:
            return await imatrix.measure(one, given)

    return asyncio.run(run())


@pytest.fixture(scope="session")
def wide(wide_f32: Path) -> Importance:
    """The importance matrix of the wide model."""
    return measured(wide_f32, windows())


def test_every_matrix_of_the_layers_is_measured_and_no_other(wide_f32: Path, wide: Importance) -> None:
    header = read_header(wide_f32)
    expected = {tensor.name for tensor in header.tensors if tensor.name.startswith("blk.") and len(tensor.shape) > 1}
    assert set(wide.entries) == expected
    assert (wide.chunk_count, wide.chunk_size) == (2, 150)
    for found in wide.entries.values():
        assert found.counts.tolist() == [300]
        assert (found.squares > 0).all()
    shared = [wide.entries[f"blk.0.attn_{which}.weight"].squares for which in "qkv"]
    np.testing.assert_array_equal(shared[0], shared[1])
    np.testing.assert_array_equal(shared[0], shared[2])


def test_the_sums_equal_those_of_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    from freehold.convert import to_gguf

    write_folder(tmp_path / "folder")
    to_gguf(tmp_path / "folder", tmp_path / "model.gguf", dtype="f32")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "folder", dtype=torch.float32).eval()
    sums: dict[str, np.ndarray] = {}

    def adding(name: str) -> Callable[..., None]:
        def hook(module: object, given: tuple[object, ...], output: object) -> None:
            sums[name] = sums.get(name, 0) + given[0].double().square().sum((0, 1)).numpy()  # type: ignore[attr-defined]

        return hook

    model.model.layers[1].mlp.down_proj.register_forward_hook(adding(DOWN))
    model.model.layers[0].self_attn.o_proj.register_forward_hook(adding("blk.0.attn_output.weight"))
    torch.set_num_threads(1)
    with torch.no_grad():
        for window in windows():
            model(torch.tensor([window]))
    found = measured(tmp_path / "model.gguf", windows())
    for name, expected in sums.items():
        np.testing.assert_allclose(found.entries[name].squares[0], expected, rtol=1e-3)


def test_experts_are_counted_one_by_one() -> None:
    """llama.cpp's indirect product: each token's row counts for the experts that it was sent to."""
    from freehold.engines.llamacpp.scoring import Collector, Sums

    sums = Sums(3, 2, 3)
    values = np.array([[[1.0, 2.0]], [[3.0, 0.0]]], np.float32)  # two tokens, one row each
    Collector(None)._add_experts(sums, values, np.array([[0, 2], [2, 0]], np.int32))
    np.testing.assert_array_equal(sums.squares, [[10, 4], [0, 0], [10, 4]])
    assert sums.counts.tolist() == [2, 0, 2]


def test_the_file_reads_back_and_has_the_layout_of_llama_cpp(wide: Importance, tmp_path: Path) -> None:
    named = Importance(wide.entries, 7, 150, ("a text.txt",))
    imatrix.write(named, tmp_path / "m.gguf")
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    fields = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert fields == {
        "general.type": "imatrix",
        gguf.Keys.IMatrix.DATASETS: ["a text.txt"],
        gguf.Keys.IMatrix.CHUNK_COUNT: 7,
        gguf.Keys.IMatrix.CHUNK_SIZE: 150,
    }
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert len(tensors) == 2 * len(wide.entries)
    assert tensors[f"{DOWN}.in_sum2"].shape.tolist() == [512, 1]
    assert tensors[f"{DOWN}.counts"].data.tolist() == [[300.0]]
    back = imatrix.read(tmp_path / "m.gguf")
    assert (back.chunk_count, back.chunk_size, back.datasets) == (7, 150, ("a text.txt",))
    for name, found in wide.entries.items():
        np.testing.assert_array_equal(back.entries[name].squares, found.squares)
        assert back.entries[name].counts.tolist() == found.counts.tolist()


def test_an_unseen_expert_weighs_one_and_dense_stacks_share_a_count() -> None:
    info = TensorInfo("blk.0.ffn_up_exps.weight", (2, 5, 3), "F32", 0, 120)
    experts = Importance({info.name: Activations(np.array([[8.0, 2], [0, 0], [3, 6]]), np.array([2, 0, 3]))})
    weights = experts.weights(info)
    assert weights is not None
    np.testing.assert_array_equal(weights, [[4, 1], [1, 1], [1, 2]])
    stacked = Importance({info.name: Activations(np.array([[8.0, 2, 0, 0, 4, 6]]), np.array([2]))})
    found = stacked.weights(info)
    assert found is not None
    np.testing.assert_array_equal(found, [[4, 1], [0, 0], [2, 3]])
    assert stacked.weights(TensorInfo("other", (2,), "F32", 0, 8)) is None


@pytest.mark.parametrize("name", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_the_weighted_error_falls(name: str) -> None:
    draw = np.random.default_rng(2)
    values = (draw.standard_normal((64, 512)) * 0.05).astype(np.float32)
    importance = np.exp(draw.normal(0, 2, 512)).astype(np.float32)
    kernel = ggml.kernel(name)

    def error(packed: np.ndarray) -> float:
        back = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[name])
        return float((importance * (back - values) ** 2).mean())

    assert error(kernel(values, importance)) < 0.95 * error(kernel(values))


def test_a_matrix_of_ones_in_the_wrong_form_never_reaches_the_library() -> None:
    kernel, values = ggml.kernel("Q4_K"), np.zeros((2, 256), np.float32)
    for wrong in (np.ones(255, np.float32), np.ones(256), np.ones(512, np.float32)[::2], np.ones((1, 256), np.float32)):
        with pytest.raises(ValueError, match="importance"):
            kernel(values, wrong)


def test_a_quantised_file_is_nearer_in_what_counts(wide_f32: Path, wide: Importance, tmp_path: Path) -> None:
    quantize(wide_f32, tmp_path / "plain.gguf", "Q2_K")
    quantize(wide_f32, tmp_path / "weighed.gguf", "Q2_K", importance=wide)
    source = read_header(wide_f32)
    plain, weighed = (read_header(tmp_path / f"{which}.gguf") for which in ("plain", "weighed"))
    assert weighed.metadata["quantize.imatrix.entries_count"] == len(wide.entries)
    assert weighed.metadata["quantize.imatrix.chunks_count"] == 2
    assert "quantize.imatrix.entries_count" not in plain.metadata
    lowered = 0
    for name in (DOWN, "blk.0.attn_q.weight", "blk.7.ffn_up.weight"):
        tensor = next(tensor for tensor in source.tensors if tensor.name == name)
        exact, weights = dequantized(source, name), wide.weights(tensor)
        assert weights is not None
        errors = [float((weights * (dequantized(header, name) - exact) ** 2).mean()) for header in (plain, weighed)]
        lowered += errors[1] < errors[0]
    assert lowered == 3


def test_each_expert_is_weighed_by_its_own_activations(tmp_path: Path) -> None:
    """A stack of two matrices, quantised in one file, is what each gives alone with its own weights."""
    draw = np.random.default_rng(4)
    stack = draw.standard_normal((2, 8, 256)).astype(np.float32)
    writer = gguf.GGUFWriter(tmp_path / "moe.gguf", "llama")
    writer.add_uint32("llama.block_count", 1)
    writer.add_tensor("blk.0.ffn_up_exps.weight", stack)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    squares = np.exp(draw.normal(0, 2, (2, 256)))
    importance = Importance({"blk.0.ffn_up_exps.weight": Activations(squares, np.array([1, 1]))})
    quantize(tmp_path / "moe.gguf", tmp_path / "out.gguf", "Q4_K_S", importance=importance)
    header = read_header(tmp_path / "out.gguf")
    (tensor,) = header.tensors
    data = (tmp_path / "out.gguf").read_bytes()[header.data_offset + tensor.offset :][: tensor.size]
    kernel = ggml.kernel("Q4_K")
    assert data == b"".join(kernel(stack[i], squares[i].astype(np.float32)).tobytes() for i in range(2))


def test_the_first_layers_get_a_minimum(wide_f32: Path, wide: Importance) -> None:
    def down(importance: Importance | None, name: str) -> list[str]:
        tensors = {tensor.name: tensor.type for tensor in plan(wide_f32, name, importance).tensors}
        return [tensors[f"blk.{layer}.ffn_down.weight"] for layer in range(3)]

    assert down(None, "Q4_0") == ["Q4_0"] * 3
    assert down(wide, "Q4_0") == ["Q4_1", "Q4_0", "Q4_0"]
    assert down(wide, "Q5_0") == ["Q5_1", "Q5_0", "Q5_0"]
    assert down(wide, "Q4_1") == ["Q4_1"] * 3


def test_the_planned_size_is_the_size(wide_f32: Path, wide: Importance, tmp_path: Path) -> None:
    for name, importance in (("Q4_K_M", None), ("Q8_0", None), ("Q4_0", wide)):
        quantize(wide_f32, tmp_path / "out.gguf", name, importance=importance)
        assert plan(wide_f32, name, importance).size == (tmp_path / "out.gguf").stat().st_size


def test_the_matrix_of_another_model_is_refused(wide_f32: Path, wide: Importance, tmp_path: Path) -> None:
    strange = Importance({"blk.99.ffn_up.weight": Activations(np.ones((1, 4)), np.array([1]))})
    smaller = Importance(wide.entries | {DOWN: Activations(np.ones((1, 96)), np.array([1]))})
    for wrong, said in ((strange, "names no tensor"), (smaller, "another model")):
        with pytest.raises(BadInput, match=said) as caught:
            quantize(wide_f32, tmp_path / "out.gguf", "Q4_K_M", importance=wrong)
        assert caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def matrix_file(path: Path, tensors: dict[str, np.ndarray], kind: str = "imatrix", counts: int = 1) -> Path:
    entries = [
        packed_string("general.type") + struct.pack("<I", 8) + packed_string(kind),
        number_entry(imatrix.CHUNK_COUNT, counts),
    ]
    out = [
        OutTensor(name, value.shape, {4: "F32", 2: "F16"}[value.itemsize], value.nbytes)
        for name, value in tensors.items()
    ]
    data = b"".join(value.tobytes() + bytes(-value.nbytes % 32) for value in tensors.values())
    path.write_bytes(packed_header(entries, out) + data)
    return path


SUMS, COUNT = np.ones((1, 8), np.float32), np.full((1, 1), 3, np.float32)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"a.in_sum2": SUMS}, "not both"),
        ({"a.counts": COUNT}, "not both"),
        ({"a": SUMS}, "not both"),
        ({}, "holds no matrix"),
        ({"a.in_sum2": SUMS * np.nan, "a.counts": COUNT}, "no number"),
        ({"a.in_sum2": SUMS * np.float32(2e38), "a.counts": COUNT}, "no number"),
        ({"a.in_sum2": -SUMS, "a.counts": COUNT}, "no sense"),
        ({"a.in_sum2": SUMS, "a.counts": -COUNT}, "no sense"),
        ({"a.in_sum2": SUMS, "a.counts": np.ones((3, 1), np.float32)}, "no sense"),
        ({"a.in_sum2": SUMS.astype(np.float16), "a.counts": COUNT}, "not F32"),
    ],
)
def test_hostile_files_are_refused(tensors: dict[str, np.ndarray], said: str, tmp_path: Path) -> None:
    path = matrix_file(tmp_path / "bad.gguf", tensors)
    with pytest.raises(BadModelFile, match=said) as caught:
        imatrix.read(path)
    assert "bad.gguf" in caught.value.message
    assert caught.value.remedy


def test_what_is_no_matrix_at_all(wide_f32: Path, tmp_path: Path) -> None:
    good = matrix_file(tmp_path / "good.gguf", {"a.in_sum2": SUMS, "a.counts": COUNT})
    assert imatrix.read(good).entries["a"].squares.shape == (1, 8)
    (tmp_path / "old.dat").write_bytes(struct.pack("<ii", 1, 1) + b"a" + bytes(40))
    (tmp_path / "cut.gguf").write_bytes(good.read_bytes()[:-40])
    cases: list[tuple[Path, type[FreeholdError], str]] = [
        (tmp_path / "none.gguf", NotFound, "none.gguf"),
        (tmp_path, BadInput, "regular"),
        (tmp_path / "old.dat", BadModelFile, "llama-imatrix"),
        (tmp_path / "cut.gguf", BadModelFile, "truncated"),
        (matrix_file(tmp_path / "model.gguf", {"a.in_sum2": SUMS}, kind="model"), BadModelFile, "general.type"),
        (wide_f32, BadModelFile, "general.type"),
    ]
    for path, error, said in cases:
        with pytest.raises(error) as caught:
            imatrix.read(path)
        assert said in caught.value.line()


def test_measuring_leaves_no_thread_behind(wide_f32: Path) -> None:
    before = threading.active_count()
    measured(wide_f32, windows(1, 20))
    assert threading.active_count() <= before
