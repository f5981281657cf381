"""Print the version."""

import platform

from freehold import __version__
from freehold.cli._options import Json
from freehold.cli._output import emit, line


def command(json: Json = False) -> None:
    """Print the version."""
    if json:
        emit({"version": __version__, "python": platform.python_version()})
    else:
        line(f"freehold {__version__}")
