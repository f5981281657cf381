"""GGUF models in several files: `name-00001-of-00003.gguf` and its siblings, as llama.cpp writes and loads them."""

import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import BadModelFile, NotFound, Unsupported
from freehold.core.manifest import Details, Manifest
from freehold.formats import gguf
from freehold.formats.reading import bad_file, shown

MAX_PARTS = 512
SPLIT = "split"
"""The folder in the store's in which parts lie side by side."""
_SPLIT = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE | re.DOTALL | re.ASCII)


def place(filename: str) -> tuple[int, int]:
    """Which part of how many, counted from 1, a file's name says that it is."""
    match = _SPLIT.fullmatch(filename)
    return (int(match[2]), int(match[3])) if match and 1 <= int(match[2]) <= int(match[3]) else (1, 1)


def base(filename: str) -> str:
    """The name without part and ending."""
    match = _SPLIT.fullmatch(filename)
    return match[1] if match else re.sub(r"\.gguf$", "", filename, flags=re.IGNORECASE)


def siblings(filename: str) -> list[str]:
    """The names of all parts, in order. Raises Unsupported."""
    match = _SPLIT.fullmatch(filename)
    if not match or place(filename)[1] == 1:
        return [filename]
    if int(match[3]) > MAX_PARTS:
        raise Unsupported(f"{shown(filename)}: more than {MAX_PARTS} parts", "Join them with llama-gguf-split --merge")
    ending = filename[match.end(2) :]  # in the case that it is written in
    return [f"{match[1]}-{number:05d}{ending}" for number in range(1, int(match[3]) + 1)]


def files(path: Path) -> list[Path]:
    """The file, or all parts of the model that it is one of. Raises NotFound naming the part that is missing."""
    found = [path.with_name(name) for name in siblings(path.name)]
    missing = next((part for part in found if len(found) > 1 and not part.exists()), None)
    if missing is not None:
        raise NotFound(f"{shown(missing, 400)} is missing: one of {len(found)} parts", "Put all parts into one folder")
    return found


def check(paths: Sequence[Path], labels: Sequence[Path]) -> Details:
    """The details of the model in these files, which `labels` call by name. Raises BadModelFile, Unsupported."""
    return header(paths, labels).details()


def header(
    paths: Sequence[Path], labels: Sequence[Path], sizes: Sequence[int] = (), *, kinds: Sequence[str] = ("model",)
) -> gguf.GgufHeader:
    """The header of the first file, with the tensors and the size of all. Raises BadModelFile, Unsupported.

    `sizes` in bytes are those of whole files of which `paths` have only the beginnings; `kinds` are what is taken:
    model, adapter.
    """
    whole = sizes or [0] * len(paths)
    headers = [_read(path, label, size) for path, label, size in zip(paths, labels, whole, strict=True)]
    first = headers[0]
    for number, (part, label) in enumerate(zip(headers, labels, strict=True)):
        count = part.number("split.count")
        if count > 1 and len(headers) == 1:
            raise Unsupported(
                f"{shown(label, 400)}: one of {count} parts of a split GGUF",
                f"Call the parts {base(label.name)}-00001-of-{count:05d}.gguf and so on, in one folder",
            )
        if len(headers) > 1 and (count, part.number("split.no")) != (len(headers), number):
            raise bad_file(label, f"is not part {number + 1} of {len(headers)}", "Fetch all parts of the same version")
    tensors = sum(len(part.tensors) for part in headers)
    if not tensors:
        raise bad_file(labels[0], "holds no weights")
    if len(headers) > 1 and first.number("split.tensors.count", tensors) != tensors:
        raise bad_file(labels[0], f"the parts hold {tensors} tensors, not as many as they should", "Fetch them again")
    _check_kind(first, labels[0], kinds)
    return msgspec.structs.replace(
        first,
        tensors=[tensor for part in headers for tensor in part.tensors],
        file_size=sum(part.file_size for part in headers),
    )


def _read(path: Path, label: Path, whole: int) -> gguf.GgufHeader:
    try:
        return gguf.read_header(path, whole=whole)
    except BadModelFile as error:  # in words of where it came from, not of where it lies in the store
        text = error.message.replace(shown(path, 400), shown(label, 400))
        raise BadModelFile(text, error.remedy) from error


def _check_kind(header: gguf.GgufHeader, label: Path, kinds: Sequence[str]) -> None:
    kind = header.metadata.get("general.type", "model")
    if not header.architecture:  # only later parts of a model in several files may leave it out
        raise bad_file(label, "general.architecture is missing: a part of a model, or none")
    if kind not in kinds or header.architecture == "clip":
        raise Unsupported(f"{shown(label, 400)}: a GGUF of type {shown(kind)!r}, not a model", "Pull a model's file")


def side_by_side(folder: Path, manifest: Manifest, blobs: Sequence[Path]) -> Path:
    """The first part of a split model among links to all of them, under the names by which llama.cpp finds them.

    The links are made once for each model, in `folder`. They keep no blob from being pruned.
    """
    parts = [part for part in manifest.parts if part.role == "gguf"]
    home = folder / manifest.digest.hex
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number, blob in enumerate(blobs, 1):
        link = home / f"model-{number:05d}-of-{len(parts):05d}.gguf"
        if not link.is_symlink():
            with suppress(FileExistsError):  # another process makes the same
                link.symlink_to(blob)
    return home / f"model-00001-of-{len(parts):05d}.gguf"


def forget(folder: Path, used: Collection[Digest]) -> None:
    """Remove the links of models that are not used any more."""
    for home in sorted(folder.iterdir()) if folder.is_dir() else ():
        if re.fullmatch(r"[0-9a-f]{64}", home.name) and Digest(f"sha256:{home.name}") not in used:
            for link in home.iterdir():
                link.unlink(missing_ok=True)
            with suppress(OSError):  # somebody makes links there now
                home.rmdir()
