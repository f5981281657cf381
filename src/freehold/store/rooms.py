"""Folders for files that are being made: gone with their block, or swept when their process was killed in it."""

import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from freehold.formats.atomic import disk_errors
from freehold.store.processes import alive, me

ROOMS = "rooms"
"""Where a store has them."""
_NAME = re.compile(r"(\d{1,10})-(\d{1,20})-[0-9a-f]{8}")


@contextmanager
def room(root: Path) -> Iterator[Path]:
    """A new folder in `root`, gone afterwards, and those that dead processes left there with it. Raises DiskFull."""
    with disk_errors(root):
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in abandoned(root):
            shutil.rmtree(left, ignore_errors=True)
        pid, born = me()
        folder = root / f"{pid}-{born}-{secrets.token_hex(4)}"
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def abandoned(root: Path) -> list[Path]:
    """Those whose process is gone."""
    found = []
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        match = _NAME.fullmatch(path.name)
        if match and not alive(int(match[1]), match[2]):
            found.append(path)
    return found
