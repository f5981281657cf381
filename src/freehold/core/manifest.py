"""Manifest: an immutable model, as a list of parts and where they came from."""

from typing import Literal

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import BadName, Damaged

Role = Literal[
    "gguf",  # the model as llama.cpp runs it
    "projector",  # with which it sees images: a GGUF file too
    "weights",  # safetensors
    "weights_index",
    "config",
    "generation_config",
    "tokenizer",
    "tokenizer_config",
    "chat_template",
    "system",  # a message before all others, where a conversation brings none
    "parameters",  # how to draw tokens where a request does not say
    "messages",  # turns before the user's
    "adapter",  # PEFT adapter weights
    "adapter_config",
    "card",
    "recipe",
    "licence",
    "other",
]

FILENAMES: dict[Role, str] = {
    "system": "system.txt",
    "parameters": "parameters.json",
    "messages": "messages.json",
    "chat_template": "chat_template.jinja",
    "licence": "LICENSE",
}
"""What parts are called that are made here."""


class Part(msgspec.Struct, frozen=True):
    """One file of a model. `filename` is a label for export; it never becomes a store path."""

    role: Role
    digest: Digest
    size: int
    filename: str


class Lineage(msgspec.Struct, frozen=True):
    """Where a model came from: its base, the recipe and data it was made with, the source it was pulled from."""

    base: Digest | None = None
    recipe: Digest | None = None
    data: tuple[Digest, ...] = ()
    source: str = ""


class Details(msgspec.Struct, frozen=True, gc=False):
    """Facts read from the model's header, kept so that listing opens no file."""

    architecture: str = ""
    parameters: int = 0
    quantization: str = ""
    """As llama.cpp spells it: Q4_K_M, Q8_0, F16, BF16."""
    context_length: int = 0
    embedding_length: int = 0


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A model. Equal manifests have equal digests; nothing in it depends on the machine or the time."""

    parts: tuple[Part, ...]
    details: Details = Details()
    lineage: Lineage = Lineage()
    evidence: tuple[Digest, ...] = ()
    licence: str = ""
    schema: int = 1

    def encode(self) -> bytes:
        """Canonical bytes."""
        return msgspec.json.encode(self, order="sorted")

    @classmethod
    def decode(cls, data: bytes) -> "Manifest":
        """The manifest that `data` holds. Raises Damaged."""
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, BadName) as error:
            raise Damaged(f"unreadable manifest: {error}", "Run 'freehold fsck'") from error

    @property
    def digest(self) -> Digest:
        """The model's identity."""
        return Digest.of_bytes(self.encode())

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(part.size for part in self.parts)

    def part(self, role: Role) -> Part | None:
        """The first part with this role."""
        return next((part for part in self.parts if part.role == role), None)
