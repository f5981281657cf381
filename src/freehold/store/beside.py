"""Texts of Ollama's that stand beside a GGUF file, as parts and defaults that requests are answered with."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from freehold.core.manifest import FILENAMES, Part, Role
from freehold.formats import gguf, ollama_texts
from freehold.store.store import Store

NAMES = frozenset(ollama_texts.FILENAMES.values())


def meaning(texts: Mapping[str, bytes], file: Path) -> dict[Role, bytes]:
    """What texts, by their names in NAMES, say of the model in `file`.

    The chat template of the file itself goes before: where both are known they say the same, and it knows tools too.
    """
    made = ollama_texts.translated(texts)
    if "chat_template" in made and "tokenizer.chat_template" in gguf.read_header(file).metadata:
        del made["chat_template"]
    return made


def translated(store: Store, parts: Sequence[Part], file: Path) -> Iterator[Part]:
    """New parts for those among `parts` that are such texts. Raises Damaged and DiskFull."""
    texts = {part.filename: store.path(part.digest).read_bytes() for part in parts if part.filename in NAMES}
    for role, data in meaning(texts, file).items():
        yield Part(role, store.add_bytes(data), len(data), FILENAMES[role])
