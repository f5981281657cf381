"""What was read of a file does not stay in this process's memory, and can be read again."""

import gc
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from freehold.convert import quantize, to_gguf
from freehold.tuning.decoder.gguf import open_gguf
from freehold.tuning.decoder.mapped import Mapped
from tests.convert.torchmodels import write_model
from tests.tuning.decoder.test_families import CPU

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
PAGE = 1 << 12


def held(path: Path) -> int:
    """Bytes of the file in this process's memory."""
    kilobytes, ours = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in (words := line.split())[0]:
            ours = words[-1] == str(path)
        elif ours and words[0] == "Rss:":
            kilobytes += int(words[1])
    return 1024 * kilobytes


def test_parts_are_the_files_bytes_also_after_they_were_left(tmp_path: Path) -> None:
    raw = np.random.default_rng(0).integers(0, 256, 10 * PAGE + 17, np.uint8)
    raw.tofile(tmp_path / "file")
    mapped = Mapped(tmp_path / "file")
    for begin, size in ((0, raw.size), (5, 3), (3 * PAGE - 1, 2), (PAGE, PAGE), (10 * PAGE, 17), (raw.size - 1, 1)):
        part = mapped.part(begin, size)
        assert np.array_equal(part, raw[begin : begin + size])
        mapped.leave(begin, size)
        assert np.array_equal(part, raw[begin : begin + size])
        assert np.array_equal(mapped.part(0, raw.size), raw)


@on_linux
def test_what_is_left_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1 << 24))
    mapped = Mapped(path)
    part = mapped.part(PAGE + 3, (1 << 23) - PAGE - 3)
    assert not part.any()
    assert held(path) >= part.size
    mapped.leave(PAGE + 3, part.size)
    assert held(path) < 1 << 23
    assert not mapped.part(0, 1 << 24).any()
    assert held(path) == 1 << 24
    mapped.leave(1 << 23, 1 << 23)
    assert held(path) <= 1 << 23


@on_linux
def test_of_a_file_that_is_tuned_on_no_matrix_stays(tmp_path: Path) -> None:
    write_model(tmp_path / "base", "Llama", hidden_size=256, intermediate_size=2048, num_hidden_layers=1)
    to_gguf(tmp_path / "base", tmp_path / "plain.gguf", dtype="f32")
    path = tmp_path / "base.gguf"
    quantize(tmp_path / "plain.gguf", path, "Q4_K_M", threads=1)
    weights, names = open_gguf(path, 2, CPU), ("gate", "up")
    matrices = [
        weights.matrix(f"model.layers.0.mlp.{name}_proj.weight", 2048, 256, CPU, trained=False) for name in names
    ]
    before = held(path)
    for matrix in matrices:
        matrix.dense(torch.bfloat16)
        matrix.rows(torch.arange(2048), torch.float32)
        list(matrix.pieces(torch.float32, 100))
        matrix.rounded()
    gc.collect()
    # Linux may map pages beside the matrices again: fewer than either has.
    assert held(path) < before + (1 << 18), "of two matrices of 288 kB"
