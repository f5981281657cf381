"""The wheels that install Freehold on a machine without a network."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from freehold import __version__
from freehold.core.errors import BadInput, Forbidden, NotFound, WorkerFailed


@contextmanager
def collected(folder: Path | None, *, fetch: bool, offline: bool) -> Iterator[list[Path]]:
    """The wheels in `folder`, and with `fetch` those of Freehold and all that it needs. Raises Forbidden offline."""
    found = _listed(folder) if folder is not None else []
    if not fetch:
        yield found
        return
    if offline:
        raise Forbidden(
            "pip fetches wheels from the network, and Freehold is offline", "Give a folder: --wheels FOLDER"
        )
    with tempfile.TemporaryDirectory(prefix="freehold-wheels-") as temporary:
        _fetch(Path(temporary))
        yield [*found, *_listed(Path(temporary))]


def _listed(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise NotFound(f"no folder {folder}", "Name a folder of .whl files")
    found = sorted(folder.glob("*.whl"))
    if not found:
        raise BadInput(f"no wheels in {folder}", "Fill it: pip download -d FOLDER freehold")
    return found


def _fetch(folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "-w", str(folder), _self()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise WorkerFailed(f"pip could not fetch the wheels: {said}", "Give a folder: --wheels FOLDER")
    for path in folder.glob("*.whl"):
        path.rename(path.with_name(short(path.name)))


def short(filename: str) -> str:
    """A wheel's name with one platform of several that mean the same file: tar keeps names of 100 characters."""
    stem, _, platforms = filename.removesuffix(".whl").rpartition("-")
    return f"{stem}-{platforms.partition('.')[0]}.whl"


def _self() -> str:
    """What pip calls this Freehold: the folder that it was installed from, or its version."""
    text = metadata.distribution("freehold").read_text("direct_url.json")
    url = urlsplit(msgspec.json.decode(text)["url"]) if text else None
    if url is not None and url.scheme == "file" and Path(unquote(url.path)).exists():
        return unquote(url.path)
    return f"freehold=={__version__}"
