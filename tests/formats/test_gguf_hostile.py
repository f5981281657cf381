"""Whatever is done to a header, reading it gives a header or BadModelFile, soon and with little memory."""

import struct
import time
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freehold.core.errors import BadModelFile
from freehold.formats.gguf import read_header
from tests.formats.ggufs import SMALL_DATA, small

VALUES = [0, 1, -1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("gguf") / "hostile.gguf"


def attempt(path, data):
    """Read it; whether it was accepted."""
    path.write_bytes(data)
    started = time.process_time()
    try:
        header = read_header(path)
        header.details()
        for value in header.metadata.values():
            if not isinstance(value, int | float | str):
                value.values()
    except BadModelFile:
        return False
    finally:
        assert time.process_time() - started < 10  # what a header claims is not worked through before it is checked
    for tensor in header.tensors:
        assert header.data_offset + tensor.offset + tensor.size <= len(data)
    return True


def whole():
    return bytes(small().pad().data) + bytes(SMALL_DATA)


def test_the_unspoilt_file_is_accepted(path):
    assert attempt(path, whole())


@pytest.mark.parametrize("value", VALUES)
def test_every_integer_field(path, value):
    raw = small()
    tracemalloc.start()
    try:
        for place, code, what in raw.integers:
            data = bytearray(whole())
            size = struct.calcsize(code)
            data[place : place + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
            accepted = attempt(path, bytes(data))
            if accepted and bytes(data) != whole():
                assert not what.startswith(("length", "count", "tensors", "version")) or value in (0, 1)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def test_truncation_at_every_byte(path):
    data = whole()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(BadModelFile) as caught:
            read_header(path)
        assert caught.value.message.isprintable()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), min_size=1, max_size=8))
def test_changed_bytes(path, changes):
    data = bytearray(whole())
    for place, value in changes:
        data[place] = value
    attempt(path, bytes(data))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 40))
def test_random_bytes_after_a_good_start(path, tail, keep):
    attempt(path, whole()[:keep] + tail)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 450), st.binary(min_size=1, max_size=40), st.integers(0, 40))
def test_pieces_put_in_and_cut_out(path, place, piece, cut):
    data = whole()
    attempt(path, data[:place] + piece + data[place + cut :])


def test_a_sparse_file_of_a_terabyte_costs_nothing(path):
    """Claims of huge lengths that the file's size would allow must not become memory."""
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"a")
        file.write(struct.pack("<IIQ", 9, 0, 1 << 39))
        file.truncate(1 << 40)
    tracemalloc.start()
    try:
        with pytest.raises(BadModelFile, match="larger than"):
            read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
        path.unlink()
