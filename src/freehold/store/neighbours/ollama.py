"""Ollama's store: manifests/HOST/NAMESPACE/MODEL/TAG in the form of OCI, and blobs/sha256-DIGEST."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import BadModelFile, FreeholdError, Unsupported
from freehold.core.name import Name
from freehold.formats import gguf
from freehold.formats.ollama_texts import FILENAMES
from freehold.formats.reading import shown
from freehold.store.neighbours.base import Found, Place, Shared, entries, home, proposed, read_json, regular

HOST, NAMESPACE = "registry.ollama.ai", "library"
MODEL = "application/vnd.ollama.image.model"
PROJECTOR = "application/vnd.ollama.image.projector"
_KIND = "application/vnd.ollama.image."
_DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_FORMS = {
    _DOCKER,
    "application/vnd.oci.image.manifest.v1+json",
    "",
}
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
_SERVICE = Path("/usr/share/ollama/.ollama/models")
"""Where Ollama's Linux service keeps them."""
_CHATML = """\
{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""


class Layer(msgspec.Struct, rename="camel"):
    """A blob that a manifest refers to."""

    media_type: str
    digest: str
    size: int


class OllamaManifest(msgspec.Struct, rename="camel"):
    """What a model consists of."""

    schema_version: int
    config: Layer
    layers: list[Layer]
    media_type: str = ""


class _Config(msgspec.Struct):
    model_format: str = ""
    remote_host: str = ""


class Ollama:
    """Reads what `ollama pull` and `ollama create` wrote."""

    name = "ollama"
    title = "Ollama"

    def roots(self, environ: Mapping[str, str]) -> list[Path]:
        """OLLAMA_MODELS, else the user's folder and that of the Linux service."""
        if environ.get("OLLAMA_MODELS"):
            return [Path(environ["OLLAMA_MODELS"])]
        return [home(environ) / ".ollama" / "models", _SERVICE]

    def models(self, root: Path) -> Iterator[Found]:
        """One model for each manifest."""
        manifests = root / "manifests"
        if not manifests.is_dir():
            return
        for path in _files(manifests, 4):
            parts = path.relative_to(manifests).parts
            if len(parts) == 4 and all(_PART.fullmatch(part) for part in parts):
                yield self._model(root, path, *parts)
            else:
                problem = f"{shown(path, 400)} is no manifest where Ollama keeps them"
                yield Found(tool=self.name, id=shown("/".join(parts)), problem=problem)

    def _model(self, root: Path, path: Path, host: str, namespace: str, model: str, tag: str) -> Found:
        label = _shortest(host, namespace, model, tag)
        try:
            manifest = _manifest(path)
            layer = _model_layer(manifest, root)
            blob = blob_path(root, layer.digest)
            status = regular(blob)
            if status.st_size != layer.size:
                raise BadModelFile(f"its file has {status.st_size} bytes where its manifest says {layer.size}")
        except FreeholdError as error:
            return Found(tool=self.name, id=label, problem=error.message)
        eye = _projector(manifest, root)
        return Found(
            tool=self.name,
            id=label,
            path=blob,
            size=layer.size + (eye.size if eye else 0),
            projector=blob_path(root, eye.digest) if eye else None,
            projector_stated=Digest.parse(eye.digest) if eye else None,
            modified=path.stat().st_mtime,
            stated=Digest.parse(layer.digest),
            name=_name(namespace, model, tag),
            texts=_beside(manifest, root),
            remark=_remark(manifest, eye is not None),
        )

    def places(self, root: Path, shared: Shared) -> list[Place]:
        """A manifest, what it refers to, and the template and stop words where ours are of a form that is known."""
        part = shared.gguf()
        name = shared.name
        parts = (HOST, name.org or NAMESPACE, name.model, name.tag)
        if not all(_PART.fullmatch(each) for each in parts) or "." in parts[1]:
            raise Unsupported(f"{name} is no name for Ollama", "Copy the model to a simpler name first")
        header = gguf.read_header(shared.path(part.digest))
        layers = [Layer(MODEL, str(part.digest), part.size)]
        blobs = [Place(root / "blobs" / _blob_name(part.digest), blob=part.digest)]
        eye = shared.projector()
        if eye is not None:
            layers.append(Layer(PROJECTOR, str(eye.digest), eye.size))
            blobs.append(Place(root / "blobs" / _blob_name(eye.digest), blob=eye.digest))
        for kind, data in _texts(header, shared.manifest.licence):
            layers.append(Layer(_KIND + kind, str(Digest.of_bytes(data)), len(data)))
            blobs.append(Place(root / "blobs" / _blob_name(Digest.of_bytes(data)), text=data))
        config = _config(header, layers)
        blobs.append(Place(root / "blobs" / _blob_name(Digest.of_bytes(config)), text=config))
        written = OllamaManifest(2, Layer(_CONFIG, str(Digest.of_bytes(config)), len(config)), layers, _DOCKER)
        return [*blobs, Place(root.joinpath("manifests", *parts), text=msgspec.json.encode(written))]

    def used(self, root: Path, place: Place) -> bool:
        """Whether another manifest refers to a blob."""
        if place.path.parent != root / "blobs" or not (root / "manifests").is_dir():
            return False
        digest = place.path.name.replace("-", ":")
        return any(digest in _referred(path) for path in _files(root / "manifests", 4))


def _referred(path: Path) -> set[str]:
    """The blobs that a manifest refers to. Raises BadModelFile: of what cannot be read, no blob may be removed."""
    manifest = read_json(path, OllamaManifest)
    return {layer.digest for layer in (manifest.config, *manifest.layers)}


def _blob_name(digest: Digest) -> str:
    return f"sha256-{digest.hex}"


def _texts(header: gguf.GgufHeader, licence: str) -> Iterator[tuple[str, bytes]]:
    """Layers of text. Ollama reads the chat template in the file itself unless it knows it in its own language."""
    template = header.metadata.get("tokenizer.chat_template")
    if isinstance(template, str) and "<|im_start|>" in template and "<|im_end|>" in template:
        yield "template", _CHATML.encode()
        yield "params", msgspec.json.encode({"stop": ["<|im_start|>", "<|im_end|>"]})
    if licence:
        yield "license", licence.encode()


def _config(header: gguf.GgufHeader, layers: list[Layer]) -> bytes:
    """What `ollama list` and `ollama show` print."""
    return msgspec.json.encode(
        {
            "model_format": "gguf",
            "model_family": header.architecture,
            "model_families": [
                header.architecture,
                *(["clip"] if any(x.media_type == PROJECTOR for x in layers) else []),
            ],
            "model_type": f"{header.parameters / 1e9:.1f}B"
            if header.parameters >= 1e9
            else f"{header.parameters / 1e6:.2f}M",
            "file_type": header.quantization,
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
        }
    )


def _files(folder: Path, depth: int) -> Iterator[Path]:
    for entry in entries(folder):
        if entry.is_dir() and depth > 1:
            yield from _files(entry, depth - 1)
        else:
            yield entry


def _shortest(host: str, namespace: str, model: str, tag: str) -> str:
    if host.lower() != HOST:
        return f"{host}/{namespace}/{model}:{tag}"
    return f"{model}:{tag}" if namespace.lower() == NAMESPACE else f"{namespace}/{model}:{tag}"


def _name(namespace: str, model: str, tag: str) -> Name | None:
    return proposed("" if namespace.lower() == NAMESPACE else namespace, model, tag)


def blob_path(root: Path, digest: str) -> Path:
    """Where a blob is; very old versions wrote a colon. Raises BadModelFile for what is no digest."""
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        raise BadModelFile(f"its manifest names {shown(digest)!r}, which is no sha256 digest")
    modern = root / "blobs" / digest.replace(":", "-")
    old = root / "blobs" / digest
    return old if old.exists() and not modern.exists() else modern


def _manifest(path: Path) -> OllamaManifest:
    manifest = read_json(path, OllamaManifest)
    if manifest.schema_version != 2 or manifest.media_type not in _FORMS:
        form = f"version {manifest.schema_version} {shown(manifest.media_type)}".strip()
        raise BadModelFile(f"its manifest is of {form}; version 2 can be read")
    return manifest


def _model_layer(manifest: OllamaManifest, root: Path) -> Layer:
    """The GGUF file. Raises BadModelFile for models that are something else."""
    config = read_json(blob_path(root, manifest.config.digest), _Config)
    if config.remote_host:
        raise BadModelFile(f"it runs on {shown(config.remote_host)}, not on this machine")
    kinds = [layer.media_type.removeprefix(_KIND) for layer in manifest.layers]
    if "adapter" in kinds:
        raise BadModelFile("it is a base and an adapter, which this version does not put together")
    models = [layer for layer in manifest.layers if layer.media_type == MODEL]
    if len(models) != 1:
        raise BadModelFile(f"its manifest has {len(models)} GGUF files, not one")
    if config.model_format not in ("gguf", ""):
        raise BadModelFile(f"it is in the format {shown(config.model_format)!r}, not gguf")
    return models[0]


def _beside(manifest: OllamaManifest, root: Path) -> dict[str, Path]:
    kinds = {layer.media_type.removeprefix(_KIND): layer for layer in manifest.layers}
    return {name: blob_path(root, kinds[kind].digest) for kind, name in FILENAMES.items() if kind in kinds}


def _projector(manifest: OllamaManifest, root: Path) -> Layer | None:
    """The layer with which it sees images; None where there is none, several, or its file is not whole."""
    found = [layer for layer in manifest.layers if layer.media_type == PROJECTOR]
    try:
        whole = len(found) == 1 and regular(blob_path(root, found[0].digest)).st_size == found[0].size
    except FreeholdError:
        whole = False
    return found[0] if whole else None


def _remark(manifest: OllamaManifest, seeing: bool) -> str:
    own = {"draft"} if seeing else {"projector", "draft"}
    kinds = {layer.media_type.removeprefix(_KIND) for layer in manifest.layers} & own
    return f"Ollama's own {', '.join(sorted(kinds))} not used" if kinds else ""


NEIGHBOUR = Ollama()
