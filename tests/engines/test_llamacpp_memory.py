from pathlib import Path

import pytest

from freehold.core.errors import BadModelFile
from freehold.engines.llamacpp import memory
from freehold.formats import gguf

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
@pytest.mark.parametrize("value", [None, 0, -1, "x", 1.5])
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
