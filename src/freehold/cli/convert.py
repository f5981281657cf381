"""Convert a model folder to GGUF: safetensors weights, or a LoRA adapter for its base."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli._options import DryRun, Home, Json
from freehold.cli._output import emit, line, size
from freehold.core.digest import Digest
from freehold.core.errors import BadInput, NotFound
from freehold.core.manifest import Lineage
from freehold.core.name import Name
from freehold.core.paths import expanded
from freehold.core.settings import load

if TYPE_CHECKING:
    from freehold.convert.folder import Prepared
    from freehold.store import Store


class Format(StrEnum):
    """The number formats that matrices can get."""

    AUTO = "auto"
    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"


def command(
    source: Annotated[str, typer.Argument(metavar="FOLDER|NAME", help="./folder with safetensors, or a model's name.")],
    out: Annotated[Path | None, typer.Argument(metavar="[OUT.gguf]", help="The file to write.")] = None,
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="Keep it in the store under this name.")] = "",
    to: Annotated[Format, typer.Option("--to", help="Matrices; auto keeps BF16, and takes F16 for F32.")] = Format.AUTO,
    base: Annotated[str, typer.Option("--base", metavar="FOLDER|FILE|NAME", help="An adapter's base model.")] = "",
    dry_run: DryRun = False,
    json: Json = False,
    home: Home = None,
) -> None:
    """Convert a folder or a model of the store to GGUF: safetensors weights, or a LoRA adapter for its base.

    Say where it goes: OUT.gguf, or --as NAME. An adapter needs --base, and goes to a file.
    """
    from freehold.store import Store

    _check_target(out, name, base)
    target = Name.parse(name) if name else None
    with (
        Store.open(load({"home": home}).store) as store,
        store.room() as room,
    ):
        with _folder(store, source, room / "model") as (folder, digest):
            if not base and _unknown(folder):
                room_file = room / f"{target.model}.gguf" if target else Path()
                facts = _borrowed(store, folder, to.value, out or room_file, dry_run)
                if target is not None and not dry_run:
                    _import(store, room_file, target, digest)
                _say_borrowed(facts, str(target or out), json)
                return
            with _folder(store, base, room / "base", file=True) as (below, _):
                prepared = _prepared(folder, below if base else None, to.value)
            if target is not None and not dry_run:
                _keep(store, prepared, target, room / f"{target.model}.gguf", digest)
            elif out is not None and not dry_run:
                prepared.write(out)
    _say(prepared, str(target or out), dry_run, json)


def _unknown(folder: Path) -> bool:
    from freehold.convert import borrowed

    return (folder / "config.json").exists() and borrowed.needed(folder)


def _borrowed(store: "Store", folder: Path, dtype: str, out: Path, dry_run: bool) -> dict[str, object]:
    """A family that is left to llama.cpp's converter: what it wrote, or would."""
    from freehold.convert import borrowed
    from freehold.formats.gguf import read_header

    if dry_run:
        borrowed.archive(folder, store.tools)
        return {}
    borrowed.convert(folder, out, dtype, store.tools)
    header = read_header(out)
    return {
        "architecture": header.architecture,
        "type": header.quantization,
        "tensors": len(header.tensors),
        "size": header.file_size,
    }


@contextmanager
def _folder(store: "Store", source: str, room: Path, *, file: bool = False) -> Iterator[tuple[Path, Digest | None]]:
    """The folder that `source` names, or a file if it may be one, and its digest where it is a model of the store."""
    from freehold.store import importing

    path = expanded(source)
    if not source or path.is_dir() or (file and path.is_file()):
        yield path, None
        return
    if source.startswith((".", "/", "~")) or path.exists():
        raise NotFound(f"no folder {source[:200]}", "Name a folder with a model in safetensors format")
    digest = store.resolve(Name.parse(source))
    with store.lease(digest):
        importing.materialise(store, store.manifest(digest), room)
        yield room, digest


def _prepared(folder: Path, base: Path | None, dtype: str) -> "Prepared":
    from freehold.convert import adapter
    from freehold.convert.folder import prepare

    return prepare(folder, dtype) if base is None else adapter.prepare(folder, base, dtype)


def _check_target(out: Path | None, name: str, base: str) -> None:
    if base and name:
        raise BadInput("an adapter's GGUF file cannot be run alone, so it gets no name", "Give OUT.gguf, not --as")
    if (out is None) == (not name):
        how_often = "nowhere" if out is None else "twice"
        raise BadInput(f"the command says {how_often} where the result goes", "Give OUT.gguf or --as NAME")


def _keep(store: "Store", prepared: "Prepared", name: Name, room: Path, base: Digest | None) -> None:
    prepared.write(room)
    _import(store, room, name, base)


def _import(store: "Store", file: Path, name: Name, base: Digest | None) -> None:
    from freehold.store import importing

    importing.import_gguf(store, file, name, lineage=Lineage(base=base), move=True)


def _say(prepared: "Prepared", written: str, dry_run: bool, json: bool) -> None:
    facts = {"architecture": prepared.architecture, "type": prepared.matrices, "tensors": len(prepared.tensors)}
    if json:
        emit({"written": written, "size": prepared.size, **facts, "dry_run": dry_run})
        return
    verb, kind = "would write" if dry_run else "wrote", f"{prepared.architecture} {prepared.matrices}"
    line(f"{verb} {written}: {kind}, {len(prepared.tensors)} tensors, {size(prepared.size)}")


def _say_borrowed(facts: dict[str, object], written: str, json: bool) -> None:
    if json:
        emit({"written": written, **facts, "converter": "llama.cpp", "dry_run": not facts})
        return
    line(f"{'wrote' if facts else 'would write'} {written} with llama.cpp's converter")
