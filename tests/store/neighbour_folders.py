"""Other tools' stores as they lie on a disk, written by hand."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.store import models

COMMIT, OLDER = "a" * 40, "b" * 40
VARIABLES = ("OLLAMA_MODELS", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "LLAMA_CACHE", "XDG_CACHE_HOME")


def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder without any of the tools, in force for this process and its children."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    folder = tmp_path / "user"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


def blob(root: Path, data: bytes) -> dict[str, Any]:
    """A blob of Ollama's and what a manifest says about it."""
    hexed = sha256(data).hexdigest()
    (root / "blobs").mkdir(parents=True, exist_ok=True)
    (root / "blobs" / f"sha256-{hexed}").write_bytes(data)
    return {"digest": f"sha256:{hexed}", "size": len(data)}


def layer(root: Path, kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": f"application/vnd.ollama.image.{kind}", **blob(root, data)}


def ollama(root: Path, gguf: bytes, path: str = "registry.ollama.ai/library/tiny/1b", **changed: Any) -> Path:
    """A model as `ollama create` writes it; `config` and `layers` change or add to it. The manifest's path."""
    config = {"model_format": "gguf", "model_family": "llama", "architecture": "amd64", "os": "linux"}
    config |= changed.pop("config", {})
    media = "application/vnd.docker.container.image.v1+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": media, **blob(root, json.dumps(config).encode())},
        "layers": [layer(root, "model", gguf), *changed.pop("layers", [])],
        **changed,
    }
    target = root / "manifests" / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(manifest))
    return target


def lmstudio(base: Path, file: Path, model: str = "acme/tiny-GGUF") -> Path:
    """A model in LM Studio's folder. Its path."""
    target = base / "models" / model / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(file.read_bytes())
    return target


def huggingface(hub: Path, repo: str, files: dict[str, bytes], commit: str = COMMIT, ref: str = "main") -> Path:
    """A repository in Hugging Face's cache, large files under the names of their sha256. The snapshot's path."""
    repository = hub / f"models--{repo.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    for name, data in files.items():
        link, stored = snapshot / name, repository / "blobs" / sha256(data).hexdigest()
        for path in (link, stored):
            path.parent.mkdir(parents=True, exist_ok=True)
        stored.write_bytes(data)
        link.symlink_to("/".join([".."] * (2 + name.count("/"))) + f"/blobs/{stored.name}")
    if ref:
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / ref).write_text(commit)
    return snapshot


def folder_files(tmp_path: Path) -> dict[str, bytes]:
    """The files of a safetensors model."""
    folder = models.folder(tmp_path / "safetensors")
    return {path.name: path.read_bytes() for path in folder.iterdir()}
