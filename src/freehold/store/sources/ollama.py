"""Ollama's registry, and others that speak its form of the OCI protocol: a manifest, and layers by digest.

The protocol: https://github.com/opencontainers/distribution-spec; the media types are Ollama's. The template, system
prompt, parameters and messages that come with the model are kept beside it, and used where they have a counterpart.
"""

import ipaddress
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import BadName, NotFound, SourceFailed, Unsupported
from freehold.core.manifest import Role
from freehold.core.reference import OLLAMA, Reference
from freehold.formats.ollama_texts import FILENAMES
from freehold.formats.reading import shown
from freehold.store.fetching import Remote
from freehold.store.outbound import Outbound
from freehold.store.sources.offer import Offer

MAX_LAYERS = 64
_ACCEPT = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"
_PREFIX = "application/vnd.ollama.image."


class _Kept(NamedTuple):
    role: Role
    filename: str
    limit: int


_LAYERS = {
    "model": _Kept("gguf", "", 1 << 50),
    "projector": _Kept("projector", "mmproj.gguf", 1 << 40),
    "template": _Kept("other", FILENAMES["template"], 1 << 20),
    "system": _Kept("other", FILENAMES["system"], 1 << 20),
    "params": _Kept("other", FILENAMES["params"], 1 << 20),
    "messages": _Kept("other", FILENAMES["messages"], 1 << 24),
    "license": _Kept("licence", "LICENSE", 1 << 22),
}


class _Layer(msgspec.Struct, rename="camel"):
    media_type: str
    digest: str
    size: int


class _Manifest(msgspec.Struct, rename="camel"):
    layers: list[_Layer]


def look(reference: Reference, outbound: Outbound) -> Offer:
    """The layers that the tag points to now."""
    base = f"{_scheme(reference.place)}://{reference.place}/v2/{reference.repo}"
    try:
        body = outbound.document(f"{base}/manifests/{reference.revision or reference.variant}", {"Accept": _ACCEPT})
    except NotFound as error:
        label = f"{reference.repo}:{reference.variant}"
        raise NotFound(
            f"{reference.place} has no model {label}", "Check name and tag; for the Hub write org/repo"
        ) from error
    digest = Digest.of_bytes(body)
    if reference.revision not in ("", digest.text):
        raise SourceFailed(f"{reference.place} sent another manifest than {reference.revision}", "Pull the tag itself")
    layers = _layers(body, str(reference))
    files: list[Remote] = []
    roles: list[Role] = []
    for layer in layers:
        kept = _LAYERS[layer.media_type.removeprefix(_PREFIX)]
        called = kept.filename or f"{reference.model}.gguf"
        files.append(_file(base, layer, kept, reference, _another(called, [file.filename for file in files])))
        # A model sees with one projector; what more there is belongs to it, and is of no use here.
        roles.append("other" if kept.role == "projector" and "projector" in roles else kept.role)
    if roles.count("gguf") != 1:
        raise Unsupported(f"{reference} has {roles.count('gguf')} GGUF layers", "Choose a tag that has one")
    return Offer(
        source=str(msgspec.structs.replace(reference, revision=digest.text)),
        title=_title(reference),
        files=tuple(files),
        roles=tuple(roles),
        place=f"ollama://{reference.place}/{reference.repo}",
        choice=f"the model of the tag {reference.variant}, and {_rest(roles)}",
    )


def _rest(roles: Sequence[Role]) -> str:
    """What comes with the model, in words."""
    texts = len(roles) - 1 - roles.count("projector")
    return f"{'its projector and ' * ('projector' in roles)}{texts} texts that come with it"


def _scheme(place: str) -> str:
    """HTTPS, but for a registry on this machine."""
    name = place.partition(":")[0]
    if name == "localhost":
        return "http"
    try:
        return "http" if ipaddress.ip_address(name).is_loopback else "https"
    except ValueError:
        return "https"


def _title(reference: Reference) -> str:
    org = "" if reference.org == "library" and reference.place == OLLAMA else f"{reference.org}/"
    return f"{org}{reference.model}:{reference.variant}"


def _layers(body: bytes, label: str) -> list[_Layer]:
    try:
        layers = msgspec.json.decode(body, type=_Manifest).layers
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SourceFailed(f"{label}: no manifest of a model: {shown(error)}", "Check the name") from error
    if len(layers) > MAX_LAYERS:
        raise SourceFailed(f"{label}: a manifest of {len(layers)} layers, more than {MAX_LAYERS}", "Check the name")
    if any(layer.media_type == f"{_PREFIX}adapter" for layer in layers):
        raise Unsupported(f"{label} is an adapter on top of another model", "Pull a merged model")
    return [layer for layer in layers if layer.media_type.removeprefix(_PREFIX) in _LAYERS]


def _another(filename: str, taken: list[str]) -> str:
    """The name, with a number behind it where a layer before has it: a model's files have different names."""
    number = sum(1 for each in taken if each == filename or each.startswith(f"{filename}."))
    return f"{filename}.{number + 1}" if number else filename


def _file(base: str, layer: _Layer, kept: _Kept, reference: Reference, filename: str) -> Remote:
    if not 0 <= layer.size <= kept.limit:
        raise SourceFailed(f"{reference}: a layer of {layer.size} bytes", "Nothing was fetched; tell the registry")
    try:
        digest = Digest.parse(layer.digest)
    except BadName as error:
        raise SourceFailed(
            f"{reference}: a layer with the digest {shown(layer.digest, 80)!r}", "Check the name"
        ) from error
    return Remote(filename=filename, url=f"{base}/blobs/{digest}", size=layer.size, digest=digest)
