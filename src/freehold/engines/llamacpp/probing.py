"""The vocabulary that a grammar is tried with: small, and with tokens that are hard for grammars. Pure."""

import itertools
import struct
from collections.abc import Sequence
from typing import Any

END = 0
"""The token that ends a text."""
_RUNS = (2, 4, 8, 16)
_WORDS = (
    "true", "false", "null", "the", "and", "name", "value", "type", '": ', '", "', '": "', '{"', '"}', "},", "[]", "]}",
    "\n\n", "\r\n", "    ", ", ", ". ", "2026", "00", "10", "é", "日", "ab", "ba", "aab", "abab", "ing", " a", " the",
)  # fmt: skip
_PRINTABLE = [bytes([byte]) for byte in range(0x20, 0x7F)]
_CONTROL, _NORMAL = 3, 1
_STRING, _ARRAY, _UINT32, _INT32 = 8, 9, 4, 5
"""Types of GGUF."""


def pieces() -> list[bytes]:
    """What each token writes: none for the one that ends a text, each byte, runs of one character, common pieces."""
    runs = (char * count for count in _RUNS for char in _PRINTABLE)
    found = [bytes([byte]) for byte in range(256)] + [*runs, *(word.encode() for word in _WORDS)]
    return [b"", *dict.fromkeys(found)]


def vocabulary(of: Sequence[bytes]) -> bytes:
    """A GGUF file with these tokens, the first of which ends a text, and nothing else. Source: GGUF's specification."""
    letters = _byte_letters()
    names = ["<|end|>", *("".join(letters[byte] for byte in piece) for piece in of[1:])]
    kinds = [_CONTROL] + [_NORMAL] * (len(names) - 1)
    pairs = [
        _pair("general.architecture", _STRING, _string("llama")),
        _pair("tokenizer.ggml.model", _STRING, _string("gpt2")),
        _pair("tokenizer.ggml.pre", _STRING, _string("gpt-2")),
        _pair("tokenizer.ggml.tokens", _ARRAY, _array(_STRING, map(_string, names))),
        _pair("tokenizer.ggml.token_type", _ARRAY, _array(_INT32, (struct.pack("<i", kind) for kind in kinds))),
        _pair("tokenizer.ggml.merges", _ARRAY, _array(_STRING, [_string("a a")])),
        _pair("tokenizer.ggml.eos_token_id", _UINT32, struct.pack("<I", END)),
    ]
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(pairs)) + b"".join(pairs)


def _byte_letters() -> list[str]:
    """How byte-level BPE writes each byte (GPT-2's `bytes_to_unicode`)."""
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = itertools.count(0x100)
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _array(kind: int, items: Any) -> bytes:
    parts = list(items)
    return struct.pack("<IQ", kind, len(parts)) + b"".join(parts)


def _pair(key: str, kind: int, value: bytes) -> bytes:
    return _string(key) + struct.pack("<I", kind) + value


def candidates(size: int) -> bytes:
    """llama_token_data of every token, all as likely as each other."""
    return b"".join(struct.pack("<iff", token, 0.0, 0.0) for token in range(size))


def kept(data: Any) -> list[int]:
    """The tokens of such data that a sampler left as they were."""
    logits = memoryview(data).cast("B").cast("f").tolist()[1::3]
    return [token for token, logit in enumerate(logits) if logit == 0.0]


def set_bits(mask: bytes) -> list[int]:
    """The numbers of the bits that are set, the first being the lowest of the first byte."""
    bits = bin(int.from_bytes(mask, "little"))[:1:-1]
    return [place for place, bit in enumerate(bits) if bit == "1"]
