"""Number formats: rounding as IEEE and torch do it."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.convert.dtypes import STORED, checked_f32, convert, from_f32, raw, to_f32
from freehold.core.errors import BadModelFile, Unsupported

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(finite, min_size=1, max_size=50))
def test_bf16_is_the_nearest_with_ties_to_even(values: list[float]) -> None:
    array = np.array(values, np.float32)
    for value, bits in zip(array, from_f32(array, "BF16", "x"), strict=True):
        exact = struct.unpack("<I", struct.pack("<f", value))[0]
        low, rest = exact >> 16, exact & 0xFFFF
        up = rest > 0x8000 or (rest == 0x8000 and low & 1)
        assert int(bits) == low + up


@given(st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=50))
def test_bf16_comes_back_bit_for_bit(bits: list[int]) -> None:
    stored = np.array(bits, np.uint16)
    wide = to_f32(stored, "BF16")
    kept = stored[np.isfinite(wide)]
    np.testing.assert_array_equal(from_f32(wide[np.isfinite(wide)], "BF16", "x"), kept)


@given(st.lists(st.floats(width=16, allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
def test_f16_comes_back_bit_for_bit(values: list[float]) -> None:
    stored = np.array(values, np.float16)
    np.testing.assert_array_equal(from_f32(to_f32(stored, "F16"), "F16", "x").view(np.uint16), stored.view(np.uint16))


def test_agrees_with_torch() -> None:
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).standard_normal(10_000).astype(np.float32)
    expected = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(from_f32(values, "BF16", "x"), expected)


def test_small_values_become_zero_in_f16_and_large_ones_are_refused() -> None:
    assert from_f32(np.array([1e-12], np.float32), "F16", "x")[0] == 0
    assert from_f32(np.array([65504.0], np.float32), "F16", "x")[0] == np.float16(65504)
    with pytest.raises(Unsupported, match="some"):
        from_f32(np.array([65520.0], np.float32), "F16", "some")


@pytest.mark.parametrize("dtype", STORED)
def test_nan_and_infinity_are_refused_in_every_format(dtype: str) -> None:
    infinity = {"F32": np.array([np.inf], "<f4"), "F16": np.array([np.inf], "<f2"), "BF16": np.array([0x7F80], "<u2")}
    with pytest.raises(BadModelFile, match="some"):
        checked_f32(infinity[dtype], dtype, "some")
    assert checked_f32(np.zeros(3, STORED[dtype]), dtype, "some").tolist() == [0, 0, 0]


def test_the_same_format_is_passed_through_bit_for_bit() -> None:
    stored = np.array([[0x3F80, 0x8000], [1, 0xBF80]], np.uint16)
    assert bytes(raw(convert(stored, "BF16", "BF16", "x"))) == stored.tobytes()
    assert bytes(raw(convert(stored.T, "BF16", "BF16", "x"))) == stored.T.tobytes()
