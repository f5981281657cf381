import os
import struct
import time

import gguf
import numpy as np
import pytest

from freehold.core.errors import BadInput, BadModelFile, NotFound
from freehold.core.manifest import Details
from freehold.formats.ggml import FILE_TYPES, TENSOR_TYPES
from freehold.formats.gguf import read_header
from tests.formats.ggufs import ARRAY, BOOL, SMALL_DATA, STRING, Raw, packed, small


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.gguf"


def refused(raw, path, data=1 << 16):
    with pytest.raises(BadModelFile) as caught:
        read_header(raw.write(path, data))
    assert path.name in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.remedy
    return caught.value.message


def llama(tensors=0, keys=0):
    return Raw().start(tensors, keys + 1).text_key("general.architecture", "llama")


def test_everything_in_a_small_header(path):
    header = read_header(small().write(path, SMALL_DATA))
    assert header.version == 3
    assert header.alignment == 32
    assert header.data_offset % 32 == 0
    assert header.data_offset + SMALL_DATA == header.file_size
    assert header.metadata["llama.context_length"] == 128
    assert list(header.metadata["tokenizer.ggml.tokens"]) == ["a", "bé", ""]
    assert header.metadata["tokenizer.ggml.tokens"][1] == "bé"
    assert header.metadata["tokenizer.ggml.scores"].values() == [0.5, -1.0]
    assert header.metadata["nested"].values() == [[7, 8], []]
    assert len(header.metadata["nested"]) == 2
    assert [(t.name, t.shape, t.type, t.offset, t.size) for t in header.tensors] == [
        ("token_embd.weight", (64, 12), "F32", 0, 3072),
        ("blk.0.attn_q.weight", (64, 2), "Q8_0", 3072, 136),
    ]
    assert header.parameters == 64 * 14
    assert header.details() == Details("llama", 64 * 14, "F32", 128, 64)


def test_version_2_is_read(path):
    raw = Raw().start(0, 1, version=2).text_key("general.architecture", "llama")
    assert read_header(raw.write(path)).version == 2


def test_agrees_with_the_gguf_package(path):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(77)
    writer.add_embedding_length(64)
    writer.add_file_type(int(gguf.LlamaFileType.MOSTLY_Q4_K_M))
    writer.add_custom_alignment(64)
    writer.add_token_list(["<s>", "a", "é"])
    writer.add_token_scores([0.0, -1.0, -2.0])
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    weights = np.arange(64 * 5, dtype=np.float32).reshape(5, 64)
    writer.add_tensor("a.weight", weights)
    writer.add_tensor("b.weight", gguf.quantize(weights, gguf.GGMLQuantizationType.Q4_0), raw_dtype=2)
    writer.add_tensor("c.weight", np.ones(3, dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header, theirs = read_header(path), gguf.GGUFReader(path)
    assert header.alignment == theirs.alignment == 64
    assert header.data_offset == theirs.data_offset
    for ours, other in zip(header.tensors, theirs.tensors, strict=True):
        assert ours.name == other.name
        assert ours.shape == tuple(other.shape.tolist())
        assert ours.type == other.tensor_type.name
        assert header.data_offset + ours.offset == other.data_offset
        assert ours.size == other.n_bytes
        assert ours.elements == other.n_elements
    assert list(header.metadata["tokenizer.ggml.tokens"]) == ["<s>", "a", "é"]
    assert header.metadata["tokenizer.ggml.add_bos_token"] is True
    assert header.details() == Details("llama", 64 * 10 + 3, "Q4_K_M", 77, 64)


def test_tables_are_those_of_the_gguf_package():
    assert {i: (t.name, t.block, t.size) for i, t in TENSOR_TYPES.items()} == {
        int(kind): (kind.name, *gguf.GGML_QUANT_SIZES[kind]) for kind in gguf.GGMLQuantizationType
    }
    theirs = {int(kind): kind.name for kind in gguf.LlamaFileType if kind != gguf.LlamaFileType.GUESSED}
    assert {i: name.removeprefix("MOSTLY_").removeprefix("ALL_") for i, name in theirs.items()} == FILE_TYPES


def test_a_vocabulary_of_150_000_tokens_is_read_in_one_go(path):
    tokens = [f"token{i}" for i in range(150_000)]
    raw = llama(keys=3).array_key("tokenizer.ggml.tokens", STRING, len(tokens), packed(*tokens))
    raw.array_key("tokenizer.ggml.merges", STRING, len(tokens), packed(*tokens))
    raw.array_key("tokenizer.ggml.scores", 6, len(tokens), bytes(4 * len(tokens)))
    raw.write(path)
    started = time.process_time()
    header = read_header(path)
    assert time.process_time() - started < 10  # comparing each with each would take hours
    assert header.metadata["tokenizer.ggml.tokens"][149_999] == "token149999"


def test_a_header_longer_than_the_first_read(path):
    words = [f"{i:05}" * 20 for i in range(9000)]
    raw = llama(keys=2).array_key("tokens", STRING, len(words), packed(*words)).number_key("after", 7)
    header = read_header(raw.write(path))
    assert header.metadata["tokens"].values() == words
    assert header.metadata["after"] == 7


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"GG", "truncated"),
        (b"PK\x03\x04" + bytes(100), "not a GGUF"),
        (b"<html>\n\x1b[2J", "not a GGUF"),
        (b"GGUF" + struct.pack("<I", 1) + bytes(16), "version 1"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(16), "big-endian"),
        (b"GGUF" + struct.pack("<I", 0) + bytes(16), "version 0"),
    ],
)
def test_files_that_are_something_else(path, content, reason):
    path.write_bytes(content)
    with pytest.raises(BadModelFile, match=reason) as caught:
        read_header(path)
    assert caught.value.message.isprintable()


def test_what_is_no_file(tmp_path):
    with pytest.raises(NotFound):
        read_header(tmp_path / "none.gguf")
    with pytest.raises(BadInput):
        read_header(tmp_path)
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(BadInput, match="regular"):
        read_header(tmp_path / "pipe.gguf")
    with pytest.raises(BadInput, match="regular"):
        read_header(type(tmp_path)("/dev/zero"))


def test_the_architecture_is_required(path):
    assert "general.architecture" in refused(Raw().start(0, 1).text_key("general.name", "x"), path)
    assert "general.architecture" in refused(Raw().start(0, 1).number_key("general.architecture", 1), path)
    assert "general.architecture" in refused(Raw().start(0, 1).text_key("general.architecture", "a\nb"), path)


def test_counts_beyond_the_file(path):
    assert "tensors" in refused(Raw().start(1 << 63, 0), path)
    assert "keys" in refused(Raw().start(0, (1 << 64) - 1), path)
    assert "bytes" in refused(Raw().start(100_000, 100), path, 0)
    assert "elements" in refused(llama(keys=1).array_key("a", STRING, 1 << 40), path)
    assert "elements" in refused(llama(keys=1).array_key("a", STRING, 1 << 22, bytes(1 << 10)), path)
    assert "truncated" in refused(llama(keys=1).array_key("a", 12, 1 << 61), path)


def test_too_many_strings(path, monkeypatch):
    monkeypatch.setattr("freehold.formats.gguf_values.MAX_ITEMS", 10)
    raw = llama(keys=2).array_key("a", STRING, 6, bytes(48)).array_key("b", STRING, 6, bytes(48))
    assert "elements" in refused(raw, path)


def test_keys_and_strings(path):
    assert "twice" in refused(llama(keys=2).number_key("a", 1).number_key("a", 2), path)
    assert "empty" in refused(llama(keys=1).number_key("", 1), path)
    assert "UTF-8" in refused(llama(keys=1).text_key("a", b"\xff\xfe"), path)
    assert "UTF-8" in refused(llama(keys=1).array_key("a", STRING, 1, struct.pack("<Q", 1) + b"\x80"), path)
    assert "type 13" in refused(llama(keys=1).number_key("a", 1, type_id=13), path)
    assert "element type 99" in refused(llama(keys=1).array_key("a", 99, 0), path)
    assert "0 nor 1" in refused(llama(keys=1).number_key("a", 2, BOOL, "B"), path)
    assert "0 nor 1" in refused(llama(keys=1).array_key("a", BOOL, 3, b"\0\2\1"), path)


def test_a_very_long_string(path):
    raw = llama(keys=1).string("a").number("I", STRING, "type").number("Q", 1 << 40, "length")
    assert "bytes long" in refused(raw, path)
    raw = llama(keys=1).number("Q", 70_000, "key length")
    raw.data += bytes(70_000)
    assert "bytes long" in refused(raw, path)


def test_arrays_in_arrays_end_somewhere(path):
    assert "deeper" in refused(llama(keys=1).array_key("a", ARRAY, 1, struct.pack("<IQ", ARRAY, 1) * 50), path)


@pytest.mark.parametrize("alignment", [0, 3, 33, (1 << 32) - 1])
def test_alignment_is_a_power_of_two(path, alignment):
    assert "power of two" in refused(llama(keys=1).number_key("general.alignment", alignment), path)


def test_alignment_is_a_number(path):
    assert "power of two" in refused(llama(keys=1).text_key("general.alignment", "32"), path)
    assert "power of two" in refused(llama(keys=1).number_key("general.alignment", 1, BOOL, "B"), path)


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (("t", (0, 4), 0, 0), "shape"),
        (("t", (4, 0), 0, 0), "shape"),
        (("t", (1 << 32, 1 << 32), 0, 0), "shape"),
        (("t", (1 << 63,), 0, 0), "shape"),
        (("t", (1, 1, 1, 1, 1), 0, 0), "dimensions"),
        (("t", (), 0, 0), "dimensions|metadata keys in"),
        (("t", (4,), 4, 0), "unknown type 4"),
        (("t", (4,), 1000, 0), "unknown type"),
        (("t", (33,), 8, 0), "block of 32"),
        (("t", (128, 2), 12, 0), "block of 256"),
        (("t", (4,), 0, 4), "aligned"),
        (("t", (4,), 0, (1 << 64) - 32), "truncated"),
        (("t", (1 << 40,), 0, 0), "truncated"),
        (("", (4,), 0, 0), "no name"),
        (("t" * 64, (4,), 0, 0), "bytes long"),
    ],
)
def test_impossible_tensors(path, tensor, reason):
    with pytest.raises(BadModelFile, match=reason):
        read_header(llama(tensors=1).tensor(*tensor).write(path, 1 << 12))


def test_the_end_of_the_last_tensor_is_the_end_of_the_file(path):
    raw = llama(tensors=1).tensor("t", (8,), 0, 0)
    read_header(raw.write(path, 32))
    with pytest.raises(BadModelFile, match="truncated"):
        read_header(raw.write(path, 31))


def test_tensors_must_not_overlap_or_share_a_name(path):
    pair = llama(tensors=2).tensor("a", (16,), 0, 0).tensor("b", (16,), 0, 32)
    assert "overlap" in refused(pair, path)
    same = llama(tensors=2).tensor("a", (16,), 0, 0).tensor("b", (16,), 0, 0)
    assert "overlap" in refused(same, path)
    named = llama(tensors=2).tensor("a", (8,), 0, 0).tensor("a", (8,), 0, 32)
    assert "twice" in refused(named, path)


def test_names_are_escaped(path):
    message = refused(llama(tensors=1).tensor("a\x1b[2J\nb", (0,), 0, 0), path)
    assert message.isprintable()
    message = refused(llama(keys=2).number_key("k\r\n", 1).number_key("k\r\n", 1), path)
    assert message.isprintable()


def test_numbers_of_the_metadata(path):
    header = read_header(llama(keys=1).number_key("llama.context_length", 9).write(path))
    assert header.number("{arch}.context_length") == 9
    assert header.number("{arch}.nothing", 5) == 5
    text = read_header(llama(keys=1).text_key("llama.context_length", "9").write(path))
    with pytest.raises(BadModelFile, match="whole number"):
        text.details()
    negative = read_header(llama(keys=1).number_key("llama.context_length", -1, 5, "i").write(path))
    with pytest.raises(BadModelFile, match="whole number"):
        negative.details()


@pytest.mark.parametrize(
    ("file_type", "name"), [(15, "Q4_K_M"), (1024 | 7, "Q8_0"), (0, "F32"), (32, "BF16"), (9999, "Q8_0")]
)
def test_the_quantization_name(path, file_type, name):
    raw = llama(1, 1).number_key("general.file_type", file_type).tensor("t", (32,), 8, 0)
    assert read_header(raw.write(path, 34)).quantization == name


def test_no_tensors_no_quantization(path):
    assert read_header(llama().write(path)).details() == Details("llama")
