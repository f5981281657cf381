"""What a model can do, read off its header and chat template before it is loaded."""

from typing import Any

import msgspec

from freehold.core.manifest import Manifest
from freehold.core.name import Name
from freehold.formats import gguf, infill
from freehold.formats.go_template import Insertion
from freehold.formats.go_template import insertion as stated
from freehold.formats.ollama_texts import FILENAMES
from freehold.store import Store, neighbours
from freehold.store.neighbours.base import read_text

_EMBEDDERS = {
    "bert",
    "nomic-bert",
    "nomic-bert-moe",
    "jina-bert-v2",
    "jina-bert-v3",
    "neo-bert",
    "modern-bert",
    "t5encoder",
}
_EMBEDDERS |= {"gemma-embedding", "eurobert"}
_THINKING = ("enable_thinking", "reasoning_content", "reasoning_effort", "<think>", "<|channel|>")
"""What chat templates of models that think have in them, one or another."""


class Abilities(msgspec.Struct, frozen=True):
    """What requests to a model may ask for."""

    embedding: bool = False
    """It makes vectors, not text."""
    tools: bool = False
    insert: bool = False
    """It can write what stands between two texts."""
    thinking: bool = False
    vision: bool = False


def of(store: Store, manifest: Manifest) -> Abilities:
    """The abilities of a model. Raises Damaged, BadModelFile."""
    part = manifest.part("gguf")
    metadata: dict[str, Any] = gguf.read_header(store.path(part.digest)).metadata if part else {}
    template = _text(store, manifest, "chat_template") or str(metadata.get("tokenizer.chat_template", ""))
    if part is None:
        template = template or _text(store, manifest, "tokenizer_config")
    family = manifest.details.architecture
    embedding = family in _EMBEDDERS or metadata.get(f"{family}.pooling_type", 0) not in (0, None)
    return Abilities(
        embedding=embedding,
        tools=not embedding and bool(template),  # of templates that know none too: they are told in words
        insert=not embedding and (infill.marks(metadata) is not None or _insertion(store, manifest) is not None),
        thinking=not embedding and any(mark in template for mark in _THINKING),
        vision=not embedding and manifest.part("projector") is not None,
    )


def insertion(store: Store, text: str) -> Insertion | None:
    """How Ollama's template beside a model shows it a place to write at; None where it does not say.

    Raises UnknownModel and Damaged.
    """
    if not neighbours.is_foreign(text):
        return _insertion(store, store.get(Name.parse(text)))
    path = neighbours.lookup(text).texts.get(FILENAMES["template"])
    return stated(read_text(path).decode("utf-8", "replace")) if path else None


def _insertion(store: Store, manifest: Manifest) -> Insertion | None:
    part = next((part for part in manifest.parts if part.filename == FILENAMES["template"]), None)
    return stated(store.path(part.digest).read_text("utf-8", "replace")) if part else None


def _text(store: Store, manifest: Manifest, role: Any) -> str:
    part = manifest.part(role)
    return store.path(part.digest).read_text("utf-8", "replace") if part else ""
