"""The models, as llama-server lists them: OpenAI's list, Ollama's beside it, and what the files' headers say."""

import asyncio
import time
from collections.abc import Sized
from pathlib import Path
from typing import Any

from starlette.responses import Response

from freehold.core.errors import FreeholdError
from freehold.dialects.openai import answers as openai
from freehold.formats import gguf
from freehold.serving.desk import Desk
from freehold.serving.http import json_response
from freehold.serving.routes import Incoming
from freehold.store import Entry

_VOCABULARIES = {"none": 0, "llama": 1, "gpt2": 2, "bert": 3, "t5": 4, "rwkv": 5, "plamo2": 6}
"""llama.cpp's numbers for the kinds of tokenizer."""


async def list_models(incoming: Incoming, desk: Desk) -> Response:
    """GET /models: the models."""
    if desk.sole is not None:
        sole = desk.sole
        meta = await asyncio.to_thread(_meta, sole.path)
        seeing = await asyncio.to_thread(sole.eye) is not None
        rows = [_row(sole.label, sorted(sole.aliases), sorted(sole.tags), int(time.time()), meta, seeing)]
    else:
        entries = await desk.models()
        rows = [
            _row(
                str(entry.name),
                [str(entry.name)],
                [],
                int(entry.modified),
                _stored(entry),
                entry.manifest.part("projector") is not None,
            )
            for entry in entries
        ]
    return json_response({"models": [_short(row) for row in rows], "object": "list", "data": rows})


def _row(
    name: str, aliases: list[str], tags: list[str], created: int, meta: dict[str, Any] | None, seeing: bool
) -> dict[str, Any]:
    return {
        "id": name,
        "aliases": aliases,
        "tags": tags,
        "object": "model",
        "created": created,
        "owned_by": "llamacpp",
        "architecture": openai.modalities(seeing),
        "meta": meta,
    }


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """As Ollama lists it, for clients that speak both."""
    seeing = "image" in row["architecture"]["input_modalities"]
    return {
        "name": row["id"],
        "model": row["id"],
        "modified_at": "",
        "size": "",
        "digest": "",
        "type": "model",
        "description": "",
        "tags": [""],
        "capabilities": ["completion", "multimodal"] if seeing else ["completion"],
        "parameters": "",
        "details": {"parent_model": "", "format": "gguf", "family": "", "families": [""], "parameter_size": "",
                    "quantization_level": ""},
    }  # fmt: skip


def _stored(entry: Entry) -> dict[str, Any]:
    """From the catalog alone, which may list thousands."""
    details = entry.manifest.details
    return {
        "n_ctx_train": details.context_length,
        "n_embd": details.embedding_length,
        "n_params": details.parameters,
        "size": sum(part.size for part in entry.manifest.parts),
        "ftype": details.quantization,
    }


def _meta(path: Path | None) -> dict[str, Any] | None:
    """What a header says; None for one that cannot be read."""
    if path is None:
        return None
    try:
        header = gguf.read_header(path)
    except (FreeholdError, OSError):
        return None
    tokens = header.metadata.get("tokenizer.ggml.tokens", ())
    family = header.architecture
    return {
        "vocab_type": _VOCABULARIES.get(str(header.metadata.get("tokenizer.ggml.model", "none")), 0),
        "n_vocab": len(tokens) if isinstance(tokens, Sized) else 0,
        "n_ctx_train": header.number(f"{family}.context_length"),
        "n_embd": header.number(f"{family}.embedding_length"),
        "n_params": header.parameters,
        "size": path.stat().st_size,
        "ftype": header.quantization,
    }
