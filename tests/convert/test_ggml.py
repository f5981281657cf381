"""Kernels: their errors, their agreement with the gguf package, and what happens without the library."""

import subprocess
import sys

import gguf
import numpy as np
import pytest

from freehold.convert import ggml
from freehold.core.errors import Unsupported

WITHOUT_LIBRARY = """
import sys
sys.modules["xllamacpp"] = None
import numpy as np
from freehold.convert import ggml
from freehold.core.errors import Unsupported
rows = np.random.default_rng(1).standard_normal((4, 256), dtype=np.float32)
for name in ggml.ERRORS:
    try:
        print(name, ggml.kernel(name)(rows).tobytes().hex())
    except Unsupported as error:
        print(name, "refused", "xllamacpp" in error.message)
"""


def weights(rows: int = 64, columns: int = 1024) -> np.ndarray:
    return (np.random.default_rng(0).standard_normal((rows, columns)) * 0.02).astype(np.float32)


@pytest.mark.parametrize("name", ggml.ERRORS)
def test_the_round_trip_error_is_within_bounds(name: str) -> None:
    values = weights()
    packed = ggml.kernel(name)(values)
    assert packed.shape == (64, ggml.LAYOUTS[name].row_bytes(1024))
    back = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[name])
    error = np.sqrt(np.mean((back - values) ** 2) / np.mean(values**2))
    assert 0 < error <= ggml.ERRORS[name]


@pytest.mark.parametrize("name", ggml.ERRORS)
def test_rows_do_not_influence_each_other(name: str) -> None:
    values, kernel = weights(8), ggml.kernel(name)
    parts = [kernel(np.ascontiguousarray(values[start:stop])) for start, stop in ((0, 3), (3, 4), (4, 8))]
    np.testing.assert_array_equal(kernel(values), np.concatenate(parts))


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_bytes_equal_those_of_the_gguf_package(name: str) -> None:
    values = weights()
    np.testing.assert_array_equal(
        ggml.kernel(name)(values), gguf.quants.quantize(values, gguf.GGMLQuantizationType[name])
    )


def test_extreme_rows_stay_finite() -> None:
    values = np.zeros((4, 256), np.float32)
    values[1], values[2, 7], values[3] = 1e-30, 1e4, np.linspace(-60000, 60000, 256)
    for name in ggml.ERRORS:
        packed = ggml.kernel(name)(values)
        back = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[name])
        assert np.isfinite(back).all(), name
        assert not back[0].any(), name


def test_what_is_no_matrix_of_whole_blocks_never_reaches_the_library() -> None:
    kernel, values = ggml.kernel("Q4_K"), weights()
    for wrong in (values.astype(np.float64), values[:, ::2], values[0], values[:, :128].copy(), values[:0]):
        with pytest.raises(ValueError, match=r"expected|divide"):
            kernel(wrong)


def test_the_self_test_notices_a_wrong_kernel() -> None:
    good = ggml.kernel("Q8_0")
    assert ggml.passes(good, "Q8_0")
    assert not ggml.passes(ggml.kernel("Q4_0"), "Q8_0")
    assert not ggml.passes(lambda values: good(values) ^ np.uint8(1), "Q8_0")
    assert not ggml.passes(lambda values: np.zeros_like(ggml.kernel("Q4_K")(values)), "Q4_K")


def test_the_python_module_of_the_wheel_is_not_imported() -> None:
    code = "import sys; from freehold.convert import ggml; ggml.kernel('Q4_K'); print('xllamacpp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False\n"


def test_without_the_library_numpy_does_what_it_can() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_LIBRARY], capture_output=True, text=True, check=True)
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    values = np.random.default_rng(1).standard_normal((4, 256), dtype=np.float32)
    for name in ggml.ERRORS:
        expected = "refused True" if name.endswith("_K") else ggml.kernel(name)(values).tobytes().hex()
        assert found[name] == expected


def test_unknown_types_are_refused() -> None:
    with pytest.raises((Unsupported, KeyError)):
        ggml.kernel("Q9_K")
