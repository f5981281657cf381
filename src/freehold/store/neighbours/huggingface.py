"""Hugging Face's cache: models--ORG--REPO/ with refs/BRANCH, and snapshots/COMMIT/FILE linking to blobs/ETAG."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from freehold.core.errors import BadInput, BadModelFile, FreeholdError
from freehold.core.paths import expanded
from freehold.formats.reading import shown
from freehold.store import folders, projectors, splits
from freehold.store.neighbours.base import (
    Found,
    Place,
    Shared,
    cache_home,
    entries,
    gguf_file,
    one_file,
    proposed,
    quantization_of,
    read_text,
    regular,
    stated,
)

_REPO = re.compile(r"models--((?:[A-Za-z0-9_.-]+?--)?[A-Za-z0-9_.-]+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DEPTH = 4
"""Folders inside folders of a snapshot."""


def _folder(text: str) -> Path:
    """As huggingface_hub reads it: what cannot be expanded is a name."""
    try:
        return expanded(text)
    except BadInput:
        return Path(text)


class HuggingFace:
    """Reads what huggingface_hub, transformers and newer llama.cpp downloaded."""

    name = "hf"
    title = "Hugging Face"

    def roots(self, environ: Mapping[str, str]) -> list[Path]:
        """HF_HUB_CACHE, else `hub` in HF_HOME, else in the user's cache."""
        for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
            if environ.get(variable):
                return [_folder(environ[variable])]
        return [_folder(environ.get("HF_HOME") or str(cache_home(environ) / "huggingface")) / "hub"]

    def models(self, root: Path) -> Iterator[Found]:
        """One model for each GGUF file of a snapshot, or each snapshot with safetensors."""
        yield from cached(root, self.name)

    def places(self, root: Path, shared: Shared) -> list[Place]:
        """A repository with one snapshot. The tag is its branch, `latest` main; our digest, cut, its commit."""
        name, manifest = shared.name, shared.manifest
        repository = root / ("models--" + (f"{name.org}--" if name.org else "") + name.model)
        commit = manifest.digest.hex[:40]
        found = []
        for part in manifest.parts:
            found.append(Place(repository / "blobs" / part.digest.hex, blob=part.digest))
            found.append(
                Place(repository / "snapshots" / commit / part.filename, target=f"../../blobs/{part.digest.hex}")
            )
        branch = "main" if name.tag == "latest" else name.tag
        return [*found, Place(repository / "refs" / branch, text=commit.encode())]

    def used(self, root: Path, place: Place) -> bool:
        """Whether another snapshot links to a blob."""
        snapshots = place.path.parent.parent / "snapshots"
        if place.path.parent.name != "blobs" or not snapshots.is_dir():
            return False
        return any(
            path.is_symlink() and path.readlink().name == place.path.name for path in _files(snapshots, _DEPTH + 1)
        )


def cached(root: Path, tool: str) -> Iterator[Found]:
    """The models of a folder in this layout, which is llama.cpp's too."""
    for repository in entries(root):
        if repository.name.startswith("models--") and repository.is_dir():
            yield from _repository(root, repository, tool)


def _repository(root: Path, repository: Path, tool: str) -> Iterator[Found]:
    if not _REPO.fullmatch(repository.name):
        yield Found(tool=tool, id=shown(repository.name), problem="its folder's name is not that of a repository")
        return
    repo = repository.name.removeprefix("models--").replace("--", "/")
    snapshots = repository / "snapshots"
    found = [each for each in entries(snapshots) if each.is_dir()] if snapshots.is_dir() else []
    if not found:
        yield Found(tool=tool, id=repo, problem="it has no snapshot: its download may not be complete")
    main = _main(repository, found)
    for snapshot in found:
        if not _COMMIT.fullmatch(snapshot.name):
            yield Found(
                tool=tool, id=f"{repo}@{shown(snapshot.name, 40)}", problem="its folder is not called as a commit is"
            )
        else:
            yield from _snapshot(root, snapshot, repo if snapshot == main else f"{repo}@{snapshot.name[:12]}", tool)


def _main(repository: Path, snapshots: Sequence[Path]) -> Path | None:
    """The snapshot that a plain name means."""
    try:
        commit = read_text(repository / "refs" / "main").decode("ascii", "replace").strip()
    except FreeholdError:
        return snapshots[0] if len(snapshots) == 1 else None
    return next((each for each in snapshots if each.name == commit), None)


def _snapshot(root: Path, snapshot: Path, repo: str, tool: str) -> Iterator[Found]:
    files = list(_files(snapshot, _DEPTH))
    ggufs = [each for each in files if gguf_file(each)]
    org, _, model = repo.partition("@")[0].rpartition("/")
    for path in ggufs:
        label = shown(f"{repo}/{path.relative_to(snapshot).as_posix()}", 400)
        tag = quantization_of(splits.base(path.name)) or quantization_of(f"-{path.parent.name}")
        named = {each.relative_to(snapshot).as_posix(): each for each in files}
        eye = named.get(projectors.chosen(named, path.relative_to(snapshot).as_posix()))
        yield _linked(root, path, eye, tool=tool, id=label, name=proposed(org, model, tag))
    if not ggufs:
        yield weights_folder(snapshot, entries(snapshot), tool=tool, id=repo, name=proposed(org, model))


def _files(folder: Path, depth: int) -> Iterator[Path]:
    for entry in entries(folder):
        if entry.is_dir():
            if depth > 1:
                yield from _files(entry, depth - 1)
        else:
            yield entry


def _linked(root: Path, path: Path, projector: Path | None, **known: Any) -> Found:
    """A file of a snapshot, which must be in the cache behind all links too, and a projector beside it."""
    try:
        _check_inside(root, path)
    except FreeholdError as error:
        return Found(**known, problem=error.message)
    if projector is not None:
        try:
            _check_inside(root, projector)
            known |= {"projector": projector, "projector_stated": stated(projector)}
        except FreeholdError:
            return one_file(path, **known, stated=stated(path), remark=f"{shown(projector.name)} cannot be used")
    return one_file(path, **known, stated=stated(path))


def _check_inside(root: Path, path: Path) -> None:
    """Raises BadModelFile for a link that leads nowhere, or out of the cache."""
    try:
        inside = path.resolve(strict=True).is_relative_to(root.resolve())
    except (OSError, RuntimeError) as error:
        raise BadModelFile(f"{shown(path.name)} is missing: its download may not be complete") from error
    if not inside:
        raise BadModelFile(f"{shown(path.name)} is a link that leaves the cache")


def weights_folder(folder: Path, inside: Sequence[Path], **known: Any) -> Found:
    """The model in a folder of safetensors, as far as the names of its files tell."""
    names = {path.name for path in inside}
    try:
        if not any(name.endswith(".safetensors") for name in names):
            pickled = next((name for name in sorted(names) if Path(name).suffix in folders.PICKLES), "")
            raise BadModelFile(f"its weights are a pickle, {shown(pickled)}" if pickled else "it has no weights")
        if not {folders.CONFIG, folders.ADAPTER_CONFIG} & names:
            raise BadModelFile(f"it has no {folders.CONFIG}: its download may not be complete")
        size = sum(regular(path).st_size for path in inside if not path.is_dir())
    except FreeholdError as error:
        return Found(**known, problem=error.message)
    return Found(**known, path=folder, size=size, modified=folder.stat().st_mtime)


NEIGHBOUR = HuggingFace()
