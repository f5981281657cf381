"""Models of the catalog in Ollama's words. Pure."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from freehold.core.digest import Digest
from freehold.core.manifest import Details
from freehold.core.name import Name
from freehold.dialects.ollama.names import full
from freehold.formats.gguf import GgufHeader
from freehold.formats.gguf_values import GgufArray
from freehold.formats.modelfile import Modelfile, listed
from freehold.store import Listed

_LONGEST = timedelta(days=100 * 366)
"""What a model that is kept for good is said to be kept for."""


def tagged(model: Listed) -> dict[str, Any]:
    """One row of /api/tags."""
    name = full(Name.parse(model.name))
    return {
        "name": name,
        "model": name,
        "modified_at": when(model.modified),
        "size": model.size,
        "digest": model.digest.removeprefix("sha256:"),
        "details": details_body(model.details),
    }


def running(name: str, digest: Digest, size: int, details: Details, *, context: int, seconds: float) -> dict[str, Any]:
    """One row of /api/ps, for a model that takes `size` bytes and is kept for so many seconds yet."""
    left = timedelta(seconds=max(0.0, seconds)) if seconds < _LONGEST.total_seconds() else _LONGEST
    return {
        "name": name,
        "model": name,
        "size": size,
        "digest": digest.hex,
        "details": details_body(details),
        "expires_at": (datetime.now(UTC) + left).isoformat().replace("+00:00", "Z"),
        "size_vram": 0,
        "context_length": context,
    }


def details_body(details: Details) -> dict[str, Any]:
    """What Ollama tells of every model."""
    return {
        "parent_model": "",
        "format": "gguf",
        "family": details.architecture,
        "families": [details.architecture] if details.architecture else [],
        "parameter_size": parameter_size(details.parameters),
        "quantization_level": details.quantization,
    }


def parameter_size(count: int) -> str:
    """As Ollama writes it: 8.0B, 134.52M, 260.10K."""
    if count >= 10**9:
        return f"{count / 1e9:.1f}B"
    return f"{count / 1e6:.2f}M" if count >= 10**6 else f"{count / 1e3:.2f}K"


def when(seconds: float) -> str:
    """A time since 1970, as Go writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def shown(
    modelfile: Modelfile,
    text: str,
    details: Details,
    info: Mapping[str, Any],
    projector: Mapping[str, Any],
    *,
    modified: float,
    able: list[str],
) -> dict[str, Any]:
    """What /api/show answers; `text` is the Modelfile as it is written, `projector` as `info_of` tells of one."""
    body: dict[str, Any] = {
        "modelfile": text,
        "parameters": "\n".join(_line(name, value) for name, value in listed(modelfile.parameters)),
        "template": modelfile.template or "",
        "details": details_body(details),
        "model_info": info,
        "capabilities": able,
        "modified_at": when(modified),
    }
    optional = {
        "projector_info": projector,
        "license": "\n\n".join(modelfile.licences),
        "system": modelfile.system,
        "messages": [{"role": turn.role, "content": turn.content} for turn in modelfile.messages],
    }
    return body | {key: value for key, value in optional.items() if value}


def _line(name: str, value: str) -> str:
    """A parameter as Go writes it: texts in quotes, so that one that breaks a line stays on its own."""
    return f"{name:<30} {json.dumps(value, ensure_ascii=False) if name == 'stop' else value}"


def info_of(header: GgufHeader, *, verbose: bool) -> dict[str, Any]:
    """The metadata of a GGUF file; its lists, which can be long, only if `verbose`."""
    told = {key: _value(value, verbose) for key, value in header.metadata.items() if key != "tokenizer.chat_template"}
    return {"general.architecture": header.architecture, **told, "general.parameter_count": header.parameters}


def info_of_details(details: Details) -> dict[str, Any]:
    """The same of a model whose GGUF file is made when it is first run."""
    family = details.architecture or "unknown"
    known = {f"{family}.context_length": details.context_length, f"{family}.embedding_length": details.embedding_length}
    told = {key: value for key, value in known.items() if value}
    return {"general.architecture": family, **told, "general.parameter_count": details.parameters}


def _value(value: object, verbose: bool) -> Any:
    if isinstance(value, GgufArray):
        return value.values() if verbose else None
    return value
