"""ggml's dequantisation beside the gguf package's, for every type that a base may have."""

import subprocess
import sys
from typing import Any

import gguf
import numpy as np
import pytest

from freehold.convert import dequantizer, ggml
from freehold.convert.dtypes import from_f32

WITHOUT_LIBRARY = """
import numpy as np
from freehold.engines import wheel
wheel.libraries = lambda: []
from freehold.convert import dequantizer
for name in dequantizer.SCALES:
    packed, out = dequantizer.sample(name, 3, 512), np.empty((3, 512), np.float32)
    dequantizer.kernel(name)(packed, out)
    print(name, out.tobytes().hex())
wide, narrow = np.linspace(-3, 3, 99, dtype=np.float32), np.empty(99, np.uint16)
dequantizer.narrowing()(wide, narrow)
print("BF16", narrow.tobytes().hex())
"""


def reference(packed: np.ndarray, name: str) -> np.ndarray:
    return gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[name])


@pytest.mark.parametrize("name", dequantizer.SCALES)
def test_numbers_equal_those_of_the_gguf_package(name: str) -> None:
    packed = dequantizer.sample(name, 5, 1024)
    out = np.empty((5, 1024), np.float32)
    dequantizer.kernel(name)(packed, out)
    np.testing.assert_array_equal(out, reference(packed, name))
    assert np.isfinite(out).all()
    assert len(np.unique(out)) > 100


@pytest.mark.parametrize("name", sorted(dequantizer.SCALES.keys() & ggml.ERRORS.keys()))
def test_what_was_quantised_comes_back(name: str) -> None:
    values = (np.random.default_rng(0).standard_normal((16, 512)) * 0.02).astype(np.float32)
    out = np.empty_like(values)
    dequantizer.kernel(name)(ggml.kernel(name)(values), out)
    assert np.sqrt(np.mean((out - values) ** 2) / np.mean(values**2)) <= ggml.ERRORS[name]


@pytest.mark.parametrize("name", dequantizer.SCALES)
def test_the_self_test_notices_a_wrong_kernel(name: str) -> None:
    good = dequantizer.kernel(name)

    def shifted(packed: np.ndarray, out: np.ndarray) -> None:
        good(packed, out)
        out[1, 7] *= 1.01

    assert dequantizer.passes(good, name)
    assert not dequantizer.passes(shifted, name)
    assert not dequantizer.passes(lambda packed, out: None, name)


def test_narrowing_rounds_to_the_nearest_and_ties_to_even() -> None:
    wide = np.random.default_rng(3).standard_normal(10_001).astype(np.float32) * np.float32(1e3)
    found = np.empty(wide.shape, np.uint16)
    dequantizer.narrowing()(wide, found)
    np.testing.assert_array_equal(found, from_f32(wide, "BF16", ""))

    def cut(source: np.ndarray, out: np.ndarray) -> None:
        out[:] = source.view(np.uint32) >> 16

    assert dequantizer.narrows(dequantizer.narrowing())
    assert not dequantizer.narrows(cut)


@pytest.mark.parametrize(
    "change",
    [
        lambda packed, out: (packed[:, :-1].copy(), out),
        lambda packed, out: (packed[1:], out),
        lambda packed, out: (packed, out[:, ::2]),
        lambda packed, out: (packed, out.astype(np.float64)),
        lambda packed, out: (packed.astype(np.int8), out),
        lambda packed, out: (packed, out[:, :300].copy()),
        lambda packed, out: (packed[::-1], out),
        lambda packed, out: (packed[0], out[0]),
    ],
)
def test_what_does_not_fit_never_reaches_the_library(change: Any) -> None:
    packed, out = dequantizer.sample("Q4_K", 2, 512), np.zeros((2, 512), np.float32)
    with pytest.raises(ValueError, match=r"expected|is not in bytes"):
        dequantizer.kernel("Q4_K")(*change(packed, out))
    assert not out.any()


def test_without_the_library_numpy_does_it() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_LIBRARY], capture_output=True, text=True, check=True)
    found = dict(line.split(" ") for line in done.stdout.splitlines())
    for name in dequantizer.SCALES:
        assert found[name] == reference(dequantizer.sample(name, 3, 512), name).tobytes().hex()
    assert found["BF16"] == from_f32(np.linspace(-3, 3, 99, dtype=np.float32), "BF16", "").tobytes().hex()
