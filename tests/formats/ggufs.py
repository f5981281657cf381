"""GGUF files made byte by byte, so that every field of them can be spoiled."""

import struct
from pathlib import Path

STRING, ARRAY, BOOL, U32 = 8, 9, 7, 4


class Raw:
    """Bytes of a header, and where its integers are: (place, struct code, what it is)."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.integers: list[tuple[int, str, str]] = []

    def number(self, code: str, value: int, what: str) -> "Raw":
        self.integers.append((len(self.data), code, what))
        self.data += struct.pack(f"<{code}", value)
        return self

    def string(self, text: str | bytes, what: str = "string") -> "Raw":
        encoded = text.encode() if isinstance(text, str) else text
        self.number("Q", len(encoded), f"length of {what}")
        self.data += encoded
        return self

    def start(self, tensors: int, keys: int, version: int = 3) -> "Raw":
        self.data += b"GGUF"
        return self.number("I", version, "version").number("Q", tensors, "tensors").number("Q", keys, "keys")

    def text_key(self, key: str, value: str | bytes) -> "Raw":
        return self.string(key, "key").number("I", STRING, "type").string(value, key)

    def number_key(self, key: str, value: int, type_id: int = U32, code: str = "I") -> "Raw":
        return self.string(key, "key").number("I", type_id, "type").number(code, value, key)

    def array_key(self, key: str, type_id: int, count: int, content: bytes = b"") -> "Raw":
        self.string(key, "key").number("I", ARRAY, "type").number("I", type_id, "element type").number(
            "Q", count, "count"
        )
        self.data += content
        return self

    def tensor(self, name: str, shape: tuple[int, ...], type_id: int, offset: int) -> "Raw":
        self.string(name, "tensor name").number("I", len(shape), "dimensions")
        for extent in shape:
            self.number("Q", extent, "extent")
        return self.number("I", type_id, "tensor type").number("Q", offset, "offset")

    def pad(self, alignment: int = 32) -> "Raw":
        self.data += bytes(-len(self.data) % alignment)
        return self

    def write(self, path: Path, data: int = 0) -> Path:
        """The file: this header, padded, and `data` bytes of tensors."""
        header = bytes(self.pad().data)
        path.write_bytes(header + bytes(data))
        return path


def packed(*texts: str) -> bytes:
    """Strings as an array of strings holds them."""
    return b"".join(struct.pack("<Q", len(text.encode())) + text.encode() for text in texts)


def small() -> Raw:
    """A header with one of each: string, number, array of strings, of numbers, of arrays; two tensors (3,200 bytes)."""
    raw = Raw().start(tensors=2, keys=6).text_key("general.architecture", "llama")
    raw.number_key("llama.context_length", 128).number_key("llama.embedding_length", 64)
    raw.array_key("tokenizer.ggml.tokens", STRING, 3, packed("a", "bé", ""))
    raw.array_key("tokenizer.ggml.scores", 6, 2, struct.pack("<2f", 0.5, -1.0))
    raw.array_key("nested", ARRAY, 2, struct.pack("<IQ2BIQ", 0, 2, 7, 8, 4, 0))
    raw.tensor("token_embd.weight", (64, 12), 0, 0)  # 3,072 bytes
    return raw.tensor("blk.0.attn_q.weight", (64, 2), 8, 3072)  # 136 bytes


SMALL_DATA = 3072 + 136
