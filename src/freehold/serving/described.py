"""Folders for work that outlives a server, each described by one file that is written last: whole or not there."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec

from freehold.core.errors import BadInput, NoRoom
from freehold.formats.atomic import disk_errors, replacing, sync_folder

_log = logging.getLogger("freehold.jobs")


class Lasting(Protocol):
    """What can be described so."""

    id: str
    created: float

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""


K = TypeVar("K", bound=Lasting)


class Described(Generic[K]):
    """One of them. Raises DiskFull where it writes."""

    def __init__(self, root: Path, identifier: str, kind: type[K]) -> None:
        self.path = root / identifier
        self._kind = kind
        self._state = self.path / "state.json"

    def begin(self, what: K, fill: Callable[[], None]) -> None:
        """Make the folder, have it filled, and describe it."""
        with disk_errors(self.path):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.parent.chmod(0o700)
            self.path.mkdir(mode=0o700)
        try:
            with disk_errors(self.path):
                fill()
            self.save(what)
            with disk_errors(self.path):
                sync_folder(self.path.parent)
        except BaseException:
            self.remove()
            raise

    def save(self, what: K) -> None:
        """Write what describes it."""
        with replacing(self._state) as temporary:
            temporary.write_bytes(msgspec.json.encode(what))

    def load(self) -> K | None:
        """What it is; None, and nothing left, for one whose creation was cut short."""
        try:
            found = msgspec.json.decode(self._state.read_bytes(), type=self._kind)
        except FileNotFoundError:
            self.remove()
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            _log.warning("the folder %s is damaged and is left out: %s", self.path.name, error)
            return None
        return found if found.id == self.path.name else None

    def remove(self) -> None:
        """Remove all of it, its description first."""
        with disk_errors(self.path):
            self._state.unlink(missing_ok=True)
            shutil.rmtree(self.path, ignore_errors=True)


def linked(source: Path, target: Path) -> None:
    """The same file under a second name, so that it stays when the first goes; a copy where that cannot be."""
    try:
        os.link(source, target)
    except FileNotFoundError as error:
        raise BadInput("the file is not there any more", "Send it again") from error
    except OSError:
        shutil.copyfile(source, target)


def surplus(known: dict[str, K], most: int, what: str) -> list[K]:
    """Those that make room for a new one, taken out of `known`: the oldest that have ended. Raises NoRoom."""
    count = len(known) + 1 - most
    if count <= 0:
        return []
    ended = sorted((each for each in known.values() if each.ended), key=lambda each: each.created)
    if len(ended) < count:
        raise NoRoom(f"{most} {what} are waiting", "Send more when some of them are done")
    return [known.pop(each.id) for each in ended[:count]]
