"""What a model can do, read off its header and chat template before it is loaded."""

from typing import Any

import msgspec

from freehold.core.manifest import Manifest
from freehold.formats import gguf
from freehold.store import Store

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
        insert="tokenizer.ggml.fim_pre_token_id" in metadata and "tokenizer.ggml.fim_suf_token_id" in metadata,
        thinking=not embedding and any(mark in template for mark in _THINKING),
        vision=not embedding and manifest.part("projector") is not None,
    )


def _text(store: Store, manifest: Manifest, role: Any) -> str:
    part = manifest.part(role)
    return store.path(part.digest).read_text("utf-8", "replace") if part else ""
