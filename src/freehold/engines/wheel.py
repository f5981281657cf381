"""Where the xllamacpp wheel keeps llama.cpp's shared library, found without importing the wheel."""

from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "xllamacpp"


def libraries() -> list[Path]:
    """The wheel's shared libraries; none where it is not installed."""
    found = find_spec(PACKAGE)
    folders = (found.submodule_search_locations or []) if found else []
    return [path for folder in folders for path in sorted(Path(folder).glob(f"{PACKAGE}*.so"))]


def version() -> str:
    """The wheel's version; empty where it is not installed."""
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return ""
