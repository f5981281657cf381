"""llama.cpp's cache: flat ORG_REPO_FILE.gguf with manifest=ORG=REPO=TAG.json, and newer the Hugging Face layout."""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import FreeholdError, Unsupported
from freehold.core.name import Name
from freehold.formats.reading import shown
from freehold.store import splits
from freehold.store.neighbours.base import (
    Found,
    Place,
    Shared,
    cache_home,
    entries,
    gguf_file,
    home,
    one_file,
    proposed,
    quantization_of,
    read_json,
)
from freehold.store.neighbours.huggingface import cached

_MANIFEST = re.compile(r"manifest=([A-Za-z0-9_.-]+)=([A-Za-z0-9_.-]+)=([A-Za-z0-9_.-]*)\.json")


class _Lfs(msgspec.Struct):
    sha256: str = ""


class _File(msgspec.Struct):
    rfilename: str
    lfs: _Lfs | None = None


class _Manifest(msgspec.Struct, rename={"gguf_file": "ggufFile", "mmproj_file": "mmprojFile"}):
    gguf_file: _File | None = None
    mmproj_file: _File | None = None


class _Known(NamedTuple):
    name: Name | None
    stated: Digest | None
    projector: str = ""
    """The file beside it with which it sees images."""
    projector_stated: Digest | None = None


class LlamaCpp:
    """Reads what `llama-server -hf` downloaded."""

    name = "llamacpp"
    title = "llama.cpp"

    def roots(self, environ: Mapping[str, str]) -> list[Path]:
        """LLAMA_CACHE, else llama.cpp in the user's caches. Newer versions share Hugging Face's, listed as that."""
        if environ.get("LLAMA_CACHE"):
            return [Path(environ["LLAMA_CACHE"])]
        if sys.platform == "darwin":
            return [home(environ) / "Library" / "Caches" / "llama.cpp"]
        return [cache_home(environ) / "llama.cpp"]

    def models(self, root: Path) -> Iterator[Found]:
        """One model for each GGUF file."""
        yield from cached(root, self.name)
        inside = entries(root)
        known = _manifests(inside)
        for path in inside:
            if path.is_dir() or not gguf_file(path):
                continue
            stem = splits.base(path.name)
            plain = proposed("", stem.removesuffix("-" + quantization_of(stem)), quantization_of(stem))
            found = known.get(path.name, _Known(plain, None))
            eye = root / found.projector if found.projector else None
            beside = {"projector": eye, "projector_stated": found.projector_stated}
            yield one_file(
                path, tool=self.name, id=shown(path.name, 400), name=found.name, stated=found.stated, **beside
            )

    def places(self, root: Path, shared: Shared) -> list[Place]:
        """None: newer versions look into Hugging Face's cache, and older ones take the path of a file."""
        raise Unsupported("llama.cpp has no store of its own to link to", "Use --to hf: llama.cpp reads that cache too")

    def used(self, root: Path, place: Place) -> bool:
        """Nothing of ours is there."""
        return False


def _manifests(inside: list[Path]) -> dict[str, _Known]:
    """What the manifests of older versions say about the files beside them. A manifest in another form says nothing."""
    known = {}
    for path in inside:
        match = _MANIFEST.fullmatch(path.name)
        if match is None:
            continue
        try:
            manifest = read_json(path, _Manifest)
        except FreeholdError:
            continue
        file, eye, before = manifest.gguf_file, manifest.mmproj_file, f"{match[1]}_{match[2]}_"
        if file is not None:
            beside = (_flat(before, eye), _digest(eye)) if eye is not None else ("", None)
            known[_flat(before, file)] = _Known(proposed(match[1], match[2], match[3]), _digest(file), *beside)
    return known


def _flat(before: str, file: _File) -> str:
    """What a file of a repository is called here."""
    return before + file.rfilename.replace("/", "_")


def _digest(file: _File) -> Digest | None:
    text = file.lfs.sha256 if file.lfs else ""
    return Digest(f"sha256:{text}") if re.fullmatch(r"[0-9a-f]{64}", text) else None


NEIGHBOUR = LlamaCpp()
