"""Bring a model into the store from a GGUF file or a safetensors folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli._options import DryRun, Home, Json, Quiet
from freehold.cli._output import Bar, emit, line, size
from freehold.core.errors import BadName, NotFound, Unsupported
from freehold.core.name import Name
from freehold.core.settings import load

if TYPE_CHECKING:
    from freehold.core.manifest import Manifest
    from freehold.store import Store

_BAR_FROM = 4 << 20
"""Bytes from which copying a file is worth a bar."""


def command(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="./file.gguf or ./folder with safetensors.")],
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="Its name here (else from the file's name).")] = "",
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """Bring a model into the store from a GGUF file or a safetensors folder. The source is copied and stays as it is.

    A name that exists points to the new model afterwards.
    """
    path = _local(source)
    target = Name.parse(name) if name else _name_from(path)
    if dry_run:
        _say_plan(path, target, json)
        return
    from freehold.store import Store

    settings = load({"home": home})
    with Store.open(settings.store, quota=settings.quota) as store:
        manifest = _import(store, path, target, quiet=quiet or json)
    if json:
        emit({"name": str(target), "digest": manifest.digest, "size": manifest.size})
    else:
        line(f"{target}: {size(manifest.size)} {manifest.details.quantization}, {manifest.digest.short}")


def _local(source: str) -> Path:
    path = Path(source).expanduser()
    if path.exists():
        return path
    if source.startswith((".", "/", "~")) or source.endswith((".gguf", ".safetensors")):
        raise NotFound(f"no file or folder {source}", "Check the path")
    raise Unsupported(
        f"{source[:200]!r} is no local file or folder, and this version pulls from nowhere else",
        "Fetch the model first, then 'freehold pull ./file.gguf --as NAME' or 'freehold pull ./folder --as NAME'",
    )


def _name_from(path: Path) -> Name:
    try:
        return Name.parse(path.absolute().name.removesuffix(".gguf"))
    except BadName as error:
        raise BadName(f"{path.name[:120]!r} gives no name for the model", "Choose one: --as NAME") from error


def _import(store: "Store", path: Path, name: Name, *, quiet: bool) -> "Manifest":
    from freehold.store import importing

    bar = Bar("copying", quiet=quiet)
    store.blobs.on_progress = lambda done, total: bar(done, total) if total >= _BAR_FROM else None
    bring = importing.import_folder if path.is_dir() else importing.import_gguf
    return bring(store, path, name)


def _say_plan(path: Path, name: Name, json: bool) -> None:
    from freehold.formats import gguf
    from freehold.store import folders

    details = folders.inspect(path).details if path.is_dir() else gguf.read_header(path).details()
    if json:
        emit({"name": str(name), "source": str(path), "details": details, "dry_run": True})
    else:
        line(f"would pull {path} as {name}: {details.architecture} {details.quantization}")
