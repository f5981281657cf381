"""Quantised files: their size, that llama.cpp runs them, that they are always the same, and what is refused."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import gguf
import numpy as np
import pytest

from freehold import convert
from freehold.convert import TYPES, quantize, to_gguf
from freehold.convert.imatrix import Activations, Importance
from freehold.convert.mixture import quantizable, target_types
from freehold.convert.quantizer import raw_metadata
from freehold.core.errors import BadModelFile, DiskFull, FreeholdError, NotFound, Unsupported
from freehold.formats.ggml import TENSOR_TYPES
from freehold.formats.gguf import GgufHeader, read_header
from tests.convert.folders import write_folder
from tests.convert.libllama import Llama

PROMPT = list(range(300, 332))
BLOCKS = {kind.name: kind for kind in TENSOR_TYPES.values()}
DIVERGENCE = {
    "F32": 1e-9, "F16": 2e-5, "BF16": 0.0005, "Q8_0": 0.006, "Q6_K": 0.04, "Q5_K_M": 0.09, "Q5_K_S": 0.1, "Q5_1": 0.1,
    "Q5_0": 0.12, "Q4_K_M": 0.23, "Q4_K_S": 0.25, "Q4_1": 0.33, "Q4_0": 0.37, "Q3_K_L": 0.6, "Q3_K_M": 0.7,
    "Q3_K_S": 0.85, "Q2_K": 1.3, "Q2_K_S": 1.8,
}  # fmt: skip
"""The mean Kullback-Leibler divergence that a random model, which has no redundancy, may show at most."""


def log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(-1, keepdims=True))


def even(header: GgufHeader) -> Importance:
    """An importance matrix that prefers nothing."""
    matrices = [tensor for tensor in header.tensors if quantizable(tensor)]
    return Importance(
        {tensor.name: Activations(np.ones((1, tensor.shape[0])), np.array([1])) for tensor in matrices}, 1, 1
    )


def test_the_coarsest_type_needs_an_importance_matrix(wide_f32: Path, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="Q2_K_S needs an importance matrix"):
        quantize(wide_f32, tmp_path / "out.gguf", "Q2_K_S")
    assert not list(tmp_path.glob("out*"))


def dequantized(header: GgufHeader, name: str) -> np.ndarray:
    tensor = next(tensor for tensor in header.tensors if tensor.name == name)
    start = header.data_offset + tensor.offset
    raw = np.frombuffer(header.path.read_bytes()[start : start + tensor.size], np.uint8)
    kind = gguf.GGMLQuantizationType[tensor.type]
    return gguf.quants.dequantize(raw.reshape(tensor.shape[1], -1), kind)


@pytest.mark.parametrize("name", TYPES)
def test_every_type_gives_a_file_that_llama_cpp_runs(name: str, wide_f32: Path, tmp_path: Path) -> None:
    out, source = tmp_path / "out.gguf", read_header(wide_f32)
    importance = even(source) if TYPES[name].weighted else None
    quantize(wide_f32, out, name, importance=importance)
    header = read_header(out)
    assert header.quantization == name
    expected_types = target_types(source, TYPES[name], weighted=importance is not None)
    assert {tensor.name: tensor.type for tensor in header.tensors} == expected_types
    for tensor in header.tensors:
        assert tensor.size == tensor.elements * BLOCKS[tensor.type].size / BLOCKS[tensor.type].block
    bits = 8 * sum(tensor.size for tensor in header.tensors) / header.parameters
    assert TYPES[name].bits <= bits < TYPES[name].bits + 1.2
    with Llama(wide_f32) as whole, Llama(out) as small:
        expected, found = log_softmax(whole.logits(PROMPT)), log_softmax(small.logits(PROMPT))
        assert len(small.greedy(PROMPT[:4], 3)) == 3
    assert (np.exp(expected) * (expected - found)).sum(-1).mean() <= DIVERGENCE[name]


def test_values_come_back_within_the_step_of_their_type(wide_f32: Path, tmp_path: Path) -> None:
    """Half a step for rounding, and a little for the scale, which is rounded to F16."""
    quantize(wide_f32, tmp_path / "out.gguf", "Q8_0")
    whole, small = read_header(wide_f32), read_header(tmp_path / "out.gguf")
    expected, found = (dequantized(header, "blk.1.ffn_down.weight") for header in (whole, small))
    blocks = np.abs(expected.reshape(-1, 32)).max(-1, keepdims=True)
    assert (np.abs(found - expected).reshape(-1, 32) <= blocks / 127 * 0.6).all()


@pytest.mark.parametrize("name", ["Q4_K_M", "Q8_0", "Q5_1"])
def test_the_bytes_do_not_depend_on_threads(name: str, wide_f32: Path, tmp_path: Path) -> None:
    for threads in (1, 2, 7):
        quantize(wide_f32, tmp_path / f"{threads}.gguf", name, threads=threads)
    files = {(tmp_path / f"{threads}.gguf").read_bytes() for threads in (1, 2, 7)}
    assert len(files) == 1


def test_half_precision_sources(tmp_path: Path) -> None:
    for dtype in ("F16", "BF16"):
        write_folder(tmp_path / dtype, dtype=dtype, hidden_size=256, intermediate_size=256)
        to_gguf(tmp_path / dtype, tmp_path / f"{dtype}.gguf")
        quantize(tmp_path / f"{dtype}.gguf", tmp_path / "out.gguf", "Q8_0")
        whole, small = read_header(tmp_path / f"{dtype}.gguf"), read_header(tmp_path / "out.gguf")
        expected, found = (dequantized(header, "blk.0.ffn_up.weight") for header in (whole, small))
        assert np.abs(found - expected).max() < 0.01


def test_the_package_stays_usable_after_its_first_call(folder: Path, tmp_path: Path) -> None:
    for i in range(2):
        convert.to_gguf(folder, tmp_path / "model.gguf")
        convert.quantize(tmp_path / "model.gguf", tmp_path / f"{i}.gguf", "q8_0")
    assert (tmp_path / "0.gguf").read_bytes() == (tmp_path / "1.gguf").read_bytes()


def test_a_narrow_model_falls_back_and_runs(folder: Path, tmp_path: Path) -> None:
    to_gguf(folder, tmp_path / "narrow.gguf")
    quantize(tmp_path / "narrow.gguf", tmp_path / "out.gguf", "Q4_K_M")
    header = read_header(tmp_path / "out.gguf")
    assert {tensor.type for tensor in header.tensors} == {"Q5_0", "Q8_0", "F32"}
    with Llama(tmp_path / "out.gguf") as llama:
        assert np.isfinite(llama.logits(PROMPT)).all()


def test_metadata_is_copied_byte_for_byte(wide_f32: Path, tmp_path: Path) -> None:
    quantize(wide_f32, tmp_path / "out.gguf", "Q4_0")
    before, after = raw_metadata(wide_f32), raw_metadata(tmp_path / "out.gguf")
    changed = {"general.file_type", "general.quantization_version"}
    assert set(before) | changed == set(after)
    assert {key: raw for key, raw in before.items() if key not in changed} == {
        key: raw for key, raw in after.items() if key not in changed
    }
    assert read_header(tmp_path / "out.gguf").metadata["general.quantization_version"] == 2


def test_progress_counts_the_source(wide_f32: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    quantize(wide_f32, tmp_path / "out.gguf", "Q8_0", on_progress=lambda done, total: seen.append((done, total)))
    total = sum(tensor.size for tensor in read_header(wide_f32).tensors)
    assert seen == sorted(seen)
    assert len(seen) >= 29
    assert seen[-1] == (total, total)
    assert {in_all for _, in_all in seen} == {total}


def refused(source: Path, out: Path, error: type[FreeholdError], word: str, type_name: str = "Q8_0") -> None:
    before = sorted(out.parent.iterdir())
    with pytest.raises(error) as caught:
        quantize(source, out, type_name)
    assert caught.value.remedy
    assert word in caught.value.line()
    assert sorted(out.parent.iterdir()) == before


def test_a_quantised_source_is_refused(wide_f32: Path, tmp_path: Path) -> None:
    quantize(wide_f32, tmp_path / "q8.gguf", "Q8_0")
    refused(tmp_path / "q8.gguf", tmp_path / "out.gguf", Unsupported, "already quantised (Q8_0)", "Q4_K_M")


def test_broken_and_missing_sources_are_refused(wide_f32: Path, tmp_path: Path) -> None:
    refused(tmp_path / "none.gguf", tmp_path / "out.gguf", NotFound, "none.gguf")
    for name, data in (("empty", b""), ("cut", wide_f32.read_bytes()[:-100]), ("text", b"GGUF nothing else")):
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name, tmp_path / "out.gguf", BadModelFile, name)
    refused(wide_f32, tmp_path / "out.gguf", Unsupported, "Q3_X", "Q3_X")
    with pytest.raises(NotFound, match="no such folder"):
        quantize(wide_f32, tmp_path / "nowhere" / "out.gguf", "Q8_0")


def test_values_that_are_not_numbers_are_refused(wide_f32: Path, tmp_path: Path) -> None:
    header, data = read_header(wide_f32), bytearray(wide_f32.read_bytes())
    tensor = next(tensor for tensor in header.tensors if tensor.name == "blk.3.ffn_up.weight")
    start = header.data_offset + tensor.offset + 4000
    data[start : start + 4] = np.float32(np.nan).tobytes()
    (tmp_path / "nan.gguf").write_bytes(data)
    refused(tmp_path / "nan.gguf", tmp_path / "out.gguf", BadModelFile, "blk.3.ffn_up.weight")


def test_one_part_of_a_split_model_is_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "part.gguf", "llama")
    writer.add_uint16("split.count", 2)
    writer.add_tensor("token_embd.weight", np.ones((4, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    refused(tmp_path / "part.gguf", tmp_path / "out.gguf", Unsupported, "split")


def test_a_full_disk_is_told_before_the_first_byte(
    wide_f32: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")(10**6, 10**6, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    refused(wide_f32, tmp_path / "out.gguf", DiskFull, "needed")


def test_an_interruption_leaves_the_old_file(wide_f32: Path, tmp_path: Path) -> None:
    (tmp_path / "out.gguf").write_bytes(b"before")

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(wide_f32, tmp_path / "out.gguf", "Q4_K_M", on_progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["out.gguf"]
    assert (tmp_path / "out.gguf").read_bytes() == b"before"


def test_a_kill_leaves_no_half_file_under_the_name(wide_f32: Path, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from freehold.convert import quantize\n"
        "def slow(done, total): print(done, flush=True); time.sleep(0.2)\n"
        "quantize(Path(sys.argv[1]), Path(sys.argv[2]), 'Q8_0', threads=1, on_progress=slow)"
    )
    command = [sys.executable, "-c", code, str(wide_f32), str(tmp_path / "out.gguf")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        os.kill(child.pid, signal.SIGKILL)
        child.wait(10)
    assert not (tmp_path / "out.gguf").exists()
    quantize(wide_f32, tmp_path / "out.gguf", "Q8_0")
    assert read_header(tmp_path / "out.gguf").quantization == "Q8_0"


@pytest.mark.slow
def test_memory_stays_far_below_the_model(tmp_path: Path) -> None:
    """400 MB of weights in, less than 150 MB of the process's own memory."""
    path = tmp_path / "large.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 1)
    rows = np.random.default_rng(0).standard_normal((25_000, 4096), dtype=np.float32)
    writer.add_tensor("blk.0.ffn_up.weight", rows)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    code = (
        "import sys; from pathlib import Path; from freehold.convert import quantize\n"
        "quantize(Path(sys.argv[1]), Path(sys.argv[2]), 'Q4_0', threads=2)\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('RssAnon')).split()[1])"
    )
    started = time.monotonic()
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "out.gguf")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 150_000
    assert time.monotonic() - started < 60
