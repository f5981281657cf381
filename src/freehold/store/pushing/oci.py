"""Push to an OCI registry, as Ollama lays models out: a manifest, and layers by digest.

The protocol: https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import BadName, Forbidden, Unsupported
from freehold.core.manifest import Manifest, Part, Role
from freehold.core.name import Name
from freehold.core.parameters import decode_messages, decode_parameters
from freehold.core.request import Sampling
from freehold.core.settings import Settings
from freehold.store import signatures
from freehold.store.outbound import Outbound
from freehold.store.pushing.registry import Registry
from freehold.store.store import Store

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
_OLLAMA = "application/vnd.ollama.image."
_LAYERS: dict[Role, str] = {
    "gguf": _OLLAMA + "model",
    "projector": _OLLAMA + "projector",
    "adapter": _OLLAMA + "adapter",
    "system": _OLLAMA + "system",
    "parameters": _OLLAMA + "params",
    "messages": _OLLAMA + "messages",
    "licence": _OLLAMA + "license",
}
_OURS = "application/vnd.freehold."
"""What Ollama passes over: manifest, proofs, signatures, recipe, Jinja template."""
_TARGET = re.compile(
    r"oci://(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(?::\d{1,5})?|\[[0-9a-fA-F:]+\](?::\d{1,5})?)"
    r"/(?P<repo>[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?"
)
_STALL = 300.0
"""Seconds of silence: a registry reads a whole model again before it answers."""
Progress = Callable[[int, int], None]


class Target(NamedTuple):
    """Where to: a registry, a repository in it, and a tag."""

    host: str
    repo: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> "Target":
        """What `oci://host/repo:tag` says; the tag defaults to `latest`. Raises BadName."""
        match = _TARGET.fullmatch(text)
        if match is None or len(match["repo"]) > 255:
            raise BadName(f"not a place in a registry: {text[:120]!r}", "As in oci://registry.example/org/model:tag")
        return cls(match["host"], match["repo"], match["tag"] or "latest")


class Layer(NamedTuple):
    """One blob: a file of the store, or bytes made for the registry."""

    media_type: str
    digest: Digest
    size: int
    data: bytes | None = None

    def described(self) -> dict[str, Any]:
        """As a manifest names it."""
        return {"mediaType": self.media_type, "digest": self.digest.text, "size": self.size}


def _made(media_type: str, data: bytes) -> Layer:
    return Layer(media_type, Digest.of_bytes(data), len(data), data)


def layers(store: Store, manifest: Manifest) -> list[Layer]:
    """The layers of a model. Raises Unsupported for one without a GGUF file."""
    if manifest.part("gguf") is None:
        raise Unsupported("a registry takes models as GGUF files", "Convert the model first: freehold convert")
    found = [_layer(store, part) for part in manifest.parts]
    found.append(_made(_OURS + "manifest.v1+json", manifest.encode()))
    for digest in manifest.evidence:
        found.append(Layer(_OURS + "proof.v1+json", digest, store.path(digest).stat().st_size))
    for signature in signatures.read(store.folder, manifest.digest):
        found.append(_made("application/vnd.dev.sigstore.bundle.v0.3+json", signature))
    return list({(layer.media_type, layer.digest): layer for layer in found}.values())


def _layer(store: Store, part: Part) -> Layer:
    if part.role == "parameters":
        return _made(_LAYERS["parameters"], _params(store.path(part.digest).read_bytes()))
    if part.role == "messages":
        turns = decode_messages(store.path(part.digest).read_bytes())
        plain = [{"role": turn.role, "content": turn.content} for turn in turns]
        return _made(_LAYERS["messages"], msgspec.json.encode(plain))
    return Layer(_LAYERS.get(part.role, f"{_OURS}{part.role}"), part.digest, part.size)


def _params(data: bytes) -> bytes:
    """Parameters under the names that Ollama gives them."""
    parameters = decode_parameters(data)
    sampling = {field: getattr(parameters.sampling, field) for field in Sampling.__struct_fields__}
    values = sampling | {"num_predict": parameters.max_tokens, "num_ctx": parameters.context_length}
    given = {key: value for key, value in values.items() if value is not None and value != {}}
    return msgspec.json.encode(given | ({"stop": parameters.stop} if parameters.stop else {}), order="sorted")


def config_of(manifest: Manifest, found: list[Layer]) -> Layer:
    """The image's configuration, as Ollama writes it."""
    details = manifest.details
    config = {
        "model_format": "gguf",
        "model_family": details.architecture,
        "model_families": [details.architecture, *(["clip"] if manifest.part("projector") else [])],
        "model_type": _size(details.parameters),
        "file_type": details.quantization,
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer.digest.text for layer in found]},
    }
    return _made(CONFIG, msgspec.json.encode(config))


def _size(parameters: int) -> str:
    return f"{parameters / 1e9:.1f}B" if parameters >= 10**9 else f"{parameters / 1e6:.2f}M"


def push(
    store: Store,
    name: Name,
    target: Target,
    settings: Settings,
    on_progress: Progress = lambda done, total: None,
) -> Digest:
    """Push a model: blobs that the registry lacks, then its manifest. The digest under which the registry has it.

    A stopped push goes on: what arrived whole is not sent again. Raises UnknownModel, Unsupported, Forbidden (offline,
    or refused by the registry), WorkerFailed when the registry fails, and Damaged.
    """
    if settings.offline:
        raise Forbidden(f"nothing is sent to {target.host}: Freehold is offline", "Unset FREEHOLD_OFFLINE")
    digest = store.resolve(name)
    manifest = store.manifest(digest)
    found = layers(store, manifest)
    config = config_of(manifest, found)
    document = msgspec.json.encode(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.described(),
            "layers": [layer.described() for layer in found],
        }
    )
    total, done = sum(layer.size for layer in [*found, config]), 0
    with (
        store.lease(digest),
        Outbound(settings, stall=_STALL) as outbound,
        Registry(target.host, target.repo, outbound) as registry,
    ):
        for layer in {layer.digest: layer for layer in [*found, config]}.values():
            source = layer.data if layer.data is not None else store.path(layer.digest)
            registry.send(layer.digest, layer.size, source)
            done += layer.size
            on_progress(done, total)
        registry.tag(target.tag, document, MANIFEST)
        on_progress(total, total)
    return Digest.of_bytes(document)
