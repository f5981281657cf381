"""What a model brings along beside its weights (from a Modelfile): defaults for requests, template, adapters."""

from collections.abc import Mapping

import msgspec

from freehold.core.manifest import Manifest, Part, Role
from freehold.core.parameters import Defaults, Parameters, decode_messages, decode_parameters
from freehold.engines.base import ModelFile
from freehold.store import Store

_ROLES = {"system", "parameters", "messages"}


def read(store: Store, manifest: Manifest) -> Defaults:
    """The defaults of a model. Raises Damaged."""
    if not any(part.role in _ROLES for part in manifest.parts):
        return Defaults()
    return of_texts({part.role: _bytes(store, part) for part in manifest.parts if part.role in _ROLES})


def of_texts(texts: Mapping[Role, bytes]) -> Defaults:
    """The same of texts that are no parts of a model in the store. Raises Damaged."""
    return Defaults(
        parameters=decode_parameters(texts["parameters"]) if "parameters" in texts else Parameters(),
        system=texts.get("system", b"").decode("utf-8", "replace"),
        messages=decode_messages(texts["messages"]) if "messages" in texts else (),
    )


def dressed(store: Store, manifest: Manifest, file: ModelFile) -> ModelFile:
    """The file with the template, adapters, context and projector that the model has beside it. Raises Damaged."""
    eye = manifest.part("projector")
    file = file if eye is None else msgspec.structs.replace(file, projector=store.path(eye.digest))
    if manifest.part("gguf") is None:
        return file  # a folder's template goes into the GGUF file that is made of it
    template = manifest.part("chat_template")
    adapters = [part for part in manifest.parts if part.role == "adapter"]
    return msgspec.structs.replace(
        file,
        chat_template=_bytes(store, template).decode("utf-8", "replace") if template else "",
        adapters=tuple(store.path(part.digest) for part in adapters),
        context_length=read(store, manifest).parameters.context_length or 0,
    )


def _bytes(store: Store, part: Part) -> bytes:
    return store.path(part.digest).read_bytes()
