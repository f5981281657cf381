"""Digest: the identity of a sequence of bytes."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import msgspec

from freehold.core.errors import BadName

_FORM = re.compile(r"sha256:[0-9a-f]{64}")


class Digest(msgspec.Struct, frozen=True, order=True):
    """`sha256:` and 64 hexadecimal digits. `parse` is the only way from text; a parsed digest is safe in a path."""

    text: str

    def __post_init__(self) -> None:
        if not _FORM.fullmatch(self.text):
            raise BadName(f"not a digest: {self.text[:80]!r}", "A digest is 'sha256:' and 64 hexadecimal digits")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The digest that `text` spells, in either case. Raises BadName."""
        return cls(text.lower())

    @classmethod
    def of_bytes(cls, data: bytes) -> Self:
        """The digest of `data`."""
        return cls("sha256:" + hashlib.sha256(data).hexdigest())

    @classmethod
    def of_chunks(cls, chunks: Iterable[bytes]) -> Self:
        """The digest of the concatenation of `chunks`."""
        state = hashlib.sha256()
        for chunk in chunks:
            state.update(chunk)
        return cls("sha256:" + state.hexdigest())

    @classmethod
    def of_file(cls, path: Path) -> Self:
        """The digest of a file's content, read in chunks."""
        with path.open("rb") as file:
            return cls("sha256:" + hashlib.file_digest(file, "sha256").hexdigest())

    @classmethod
    def of_json(cls, value: Any) -> Self:
        """The digest of a value's canonical JSON (sorted keys, no spaces, UTF-8)."""
        return cls.of_bytes(msgspec.json.encode(value, order="sorted"))

    @property
    def hex(self) -> str:
        """The 64 digits alone."""
        return self.text.removeprefix("sha256:")

    @property
    def short(self) -> str:
        """The first 12 digits, for people."""
        return self.hex[:12]

    def __str__(self) -> str:
        return self.text
