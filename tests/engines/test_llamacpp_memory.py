import struct
from pathlib import Path

import pytest

from freehold.core.errors import BadModelFile
from freehold.engines.llamacpp import memory
from freehold.formats import gguf
from tests.formats.ggufs import U32, Raw

LLAMA7B = {
    "general.architecture": "llama",
    "llama.embedding_length": 4096,
    "llama.block_count": 32,
    "llama.feed_forward_length": 11008,
    "llama.attention.head_count": 32,
    "llama.context_length": 4096,
}


def test_the_cache_of_a_known_model():
    fit = memory.estimate(1000, LLAMA7B, 4096, 1)
    assert fit.cache == 2 << 30, "Llama 7B takes 2 GiB for 4096 tokens in f16"
    assert fit.weights == 1000
    assert memory.estimate(1000, LLAMA7B, 4096, 4).cache == 4 * fit.cache


def test_grouped_heads_take_less():
    grouped = {**LLAMA7B, "llama.attention.head_count_kv": 8}
    assert memory.estimate(1000, grouped, 4096, 1).cache == (2 << 30) // 4


def test_heads_by_layer_are_summed():
    mixed = {**LLAMA7B, "llama.attention.head_count_kv": [0, 8] * 16}
    assert memory.estimate(1000, mixed, 4096, 1).cache == (2 << 30) // 8


def test_own_key_and_value_lengths_count():
    own = {**LLAMA7B, "llama.attention.key_length": 192, "llama.attention.value_length": 64}
    assert memory.estimate(1000, own, 4096, 1).cache == 2 << 30


def test_scratch_grows_with_the_batch():
    small, large = (memory.estimate(1000, LLAMA7B, 4096, 1, ubatch).scratch for ubatch in (512, 2048))
    assert small < large < 4 * small


@pytest.mark.parametrize("name", ["llama.embedding_length", "llama.block_count"])
@pytest.mark.parametrize("value", [None, 0, -1, "x", 1.5, [1], (1 << 20) + 1, 1 << 40, (1 << 64) - 1])
def test_a_header_without_dimensions_is_refused(name: str, value):
    with pytest.raises(BadModelFile, match=name.removeprefix("llama.")):
        memory.estimate(1000, {**LLAMA7B, name: value}, 512, 1)


def test_context_is_cut_to_what_was_trained():
    assert memory.context_per_slot(LLAMA7B, 100_000) == 4096
    assert memory.context_per_slot(LLAMA7B, 512) == 512
    assert memory.context_per_slot({"general.architecture": "llama"}, 512) == 512
    assert memory.context_per_slot(LLAMA7B, 100) == 256, "llama.cpp rounds up"


def test_a_control_groups_limit_counts(tmp_path: Path):
    assert memory.available(tmp_path) > 1 << 20
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("900000\n")
    assert memory.available(tmp_path) == 100_000
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 5000\nactive_file 1000\n")
    assert memory.available(tmp_path) == 106_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available(tmp_path) > 1 << 20


def test_a_real_header(tiny_gguf: Path):
    fit = memory.estimate(tiny_gguf.stat().st_size, gguf.read_header(tiny_gguf).metadata, 512, 3)
    assert fit.weights == tiny_gguf.stat().st_size
    assert fit.cache == 2 * 2 * (2 * 16 * 2) * 512 * 3


HEADS, SHARED, FEED = "llama.attention.head_count", "llama.attention.head_count_kv", "llama.feed_forward_length"


def header_of(path: Path, **arrays: list[int]) -> dict[str, object]:
    """The metadata of a file on the disk, in which a dimension is told for each layer."""
    names = {"heads": HEADS, "shared": SHARED, "feed": FEED}
    plain = {key: value for key, value in LLAMA7B.items() if isinstance(value, int)}
    raw = Raw().start(0, 1 + len(plain) + len(arrays)).text_key("general.architecture", "llama")
    for key, value in plain.items():
        spelt = key if key not in {names[name] for name in arrays} else f"{key}.usual"
        raw.number_key(spelt, value)
    for name, values in arrays.items():
        raw.array_key(names[name], U32, len(values), struct.pack(f"<{len(values)}I", *values))
    path.write_bytes(bytes(raw.data))
    return dict(gguf.read_header(path).metadata)


def test_a_file_that_tells_its_heads_by_layer_takes_what_they_take(tmp_path: Path):
    usual = memory.estimate(1000, LLAMA7B, 4096, 1)
    found = memory.estimate(1000, header_of(tmp_path / "m.gguf", shared=[0, 8] * 16), 4096, 1)
    assert found.cache == usual.cache // 8
    alike = memory.estimate(1000, header_of(tmp_path / "n.gguf", heads=[32] * 32, feed=[11008] * 32), 4096, 1)
    assert (alike.cache, alike.scratch) == (usual.cache, usual.scratch)


def test_the_widest_layer_needs_the_scratch(tmp_path: Path):
    wide = memory.estimate(1000, header_of(tmp_path / "m.gguf", feed=[1024] * 31 + [22016]), 4096, 1)
    assert wide.scratch > memory.estimate(1000, LLAMA7B, 4096, 1).scratch


@pytest.mark.parametrize("name", [HEADS, SHARED, FEED, "llama.attention.key_length", "llama.context_length"])
@pytest.mark.parametrize("value", ["x", 1.5, -5, None, [], ["x"] * 32, [None] * 32, [-5] * 32, {"a": 1}])
def test_other_dimensions_that_are_none_make_no_estimate_fail_or_negative(name: str, value: object):
    fit = memory.estimate(1000, {**LLAMA7B, name: value}, 4096, 1)
    assert fit.cache >= 0
    assert fit.scratch > 0
    assert memory.context_per_slot({**LLAMA7B, name: value}, 512) == 512
