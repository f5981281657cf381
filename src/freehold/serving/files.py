"""Files that clients send and batches write, kept in the home: whole or not there, for their owner's eyes alone.

Each is two files in one folder: its bytes, and a description that is written last and makes it one.
"""

import logging
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import msgspec

from freehold.core.errors import BadInput, NoRoom, NotFound, TooLarge
from freehold.core.settings import Settings
from freehold.formats.atomic import disk_errors, disk_full, replacing, size_text, sync_folder
from freehold.formats.reading import files_below
from freehold.store import processes

MAX_FILE = 512 << 20
"""Bytes of one file."""
MAX_FILES = 10_000
_MARGIN = 16 << 20
"""Bytes that uploads leave free on the disk."""
_ID = re.compile(r"file-[0-9a-f]{24}")
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_log = logging.getLogger("freehold.files")


class Kept(msgspec.Struct, frozen=True):
    """A file as it is listed."""

    id: str
    filename: str
    purpose: str
    size: int
    created: float
    expires: float | None = None
    media: str = ""
    """Its media type, where its sender said one."""

    @property
    def expired(self) -> bool:
        """Whether it is not to be seen any more."""
        return self.expires is not None and self.expires <= time.time()


class Upload:
    """A file that is being written. Raises TooLarge, NoRoom and DiskFull as soon as it is known."""

    def __init__(self, path: Path, file: BinaryIO, room: int | None) -> None:
        self.path = path
        self.size = 0
        self._file = file
        self._room = room

    def write(self, data: bytes) -> None:
        """Append to it."""
        self.size += len(data)
        if self.size > MAX_FILE:
            raise TooLarge(f"the file is larger than {size_text(MAX_FILE)}", "Send it in parts", param="file")
        if self._room is not None and self.size > self._room:
            raise _over_quota(self.size)
        with disk_errors(self.path.parent, len(data)):
            self._file.write(data)

    def done(self) -> None:
        """See that it survives a power cut."""
        with disk_errors(self.path.parent):
            self._file.flush()
            os.fsync(self._file.fileno())


class Files:
    """The files of one home. Its methods block, and may be called from any thread."""

    def __init__(self, settings: Settings) -> None:
        self.folder = settings.files
        self._others = (settings.batches, settings.tunings)
        self._quota = settings.files_quota
        self._lock = threading.RLock()
        self._known: dict[str, Kept] | None = None

    def adopt(self, settings: Settings) -> None:
        """Go by other settings from now on."""
        self._quota = settings.files_quota

    def all(self) -> list[Kept]:
        """All of them, the newest first."""
        with self._lock:
            self._sweep()
            return sorted(self._loaded().values(), key=lambda kept: (kept.created, kept.id), reverse=True)

    def get(self, identifier: str) -> Kept:
        """One of them. Raises NotFound."""
        with self._lock:
            kept = self._loaded().get(identifier)
            if kept is None or kept.expired:
                raise NotFound(
                    f"there is no file {identifier[:80]!r}", "List the files to see what is there", param="id"
                )
            return kept

    def path(self, identifier: str) -> Path:
        """Where its bytes are. Raises NotFound."""
        return self._data(self.get(identifier).id)

    def remove(self, identifier: str) -> None:
        """Forget it. Raises NotFound."""
        with self._lock:
            self._drop(self.get(identifier).id)

    @contextmanager
    def receiving(self) -> Iterator[Upload]:
        """A file to write to and then to `keep`; gone afterwards if it was not. Raises NoRoom and DiskFull."""
        with self._lock:
            self._check_room(0)
            room = self._quota - self.held() if self._quota else None
            path = self.folder / f"{os.getpid()}-{secrets.token_hex(8)}.part"
        try:
            with (
                disk_errors(path.parent),
                os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file,
            ):
                yield Upload(path, file, room)
        finally:
            path.unlink(missing_ok=True)

    def keep(
        self,
        upload: Upload,
        filename: str,
        purpose: str,
        *,
        seconds: float | None = None,
        identifier: str = "",
        media: str = "",
    ) -> Kept:
        """Make an upload one of the files; with an `identifier` in place of what had it. Raises NoRoom, DiskFull."""
        upload.done()
        with self._lock:
            self._check_room(0)
            now = time.time()
            expires = None if seconds is None else now + seconds
            kept = Kept(identifier or new_id(), safe_name(filename), purpose, upload.size, now, expires, media)
            with disk_errors(self.folder):
                upload.path.replace(self._data(kept.id))
                sync_folder(self.folder)
            with replacing(self._description(kept.id)) as temporary:
                temporary.write_bytes(msgspec.json.encode(kept))
            self._loaded()[kept.id] = kept
            return kept

    def write(
        self,
        lines: Iterable[bytes],
        filename: str,
        purpose: str,
        *,
        seconds: float | None = None,
        identifier: str = "",
    ) -> Kept:
        """A new file of these lines. Raises what an upload raises."""
        with self.receiving() as upload:
            for line in lines:
                upload.write(line + b"\n")
            return self.keep(upload, filename, purpose, seconds=seconds, identifier=identifier)

    def admit(self, size: int) -> None:
        """Find out that there is no room before anything is sent. Raises TooLarge, NoRoom and DiskFull."""
        with self._lock:
            self._check_room(size)

    def held(self) -> int:
        """Bytes that files, batches and tuning jobs take, unfinished ones too."""
        found = (status for folder in (self.folder, *self._others) for _, status in files_below(folder))
        return sum(status.st_size // max(1, status.st_nlink) for status in found)

    def _sweep(self) -> None:
        for kept in [kept for kept in self._loaded().values() if kept.expired]:
            self._drop(kept.id)

    def _check_room(self, size: int) -> None:
        self._sweep()
        with disk_errors(self.folder):  # somebody may have removed it to have all forgotten
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if len(self._loaded()) >= MAX_FILES:
            raise NoRoom(f"{MAX_FILES} files are kept already", "Delete some of them")
        if size > MAX_FILE + (1 << 20):  # the form around a file takes some bytes too
            raise TooLarge(f"the file is larger than {size_text(MAX_FILE)}", "Send it in parts", param="file")
        if self._quota and self.held() + size > self._quota:
            raise _over_quota(size)
        if shutil.disk_usage(self.folder).free < size + _MARGIN:
            raise disk_full(self.folder, size + _MARGIN)

    def _loaded(self) -> dict[str, Kept]:
        if self._known is None:
            with disk_errors(self.folder):
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                self.folder.chmod(0o700)
            self._known = {kept.id: kept for kept in map(_described, sorted(self.folder.glob("*.json"))) if kept}
            for path in self.folder.iterdir():
                if _torn(path):
                    path.unlink(missing_ok=True)
        return self._known

    def _drop(self, identifier: str) -> None:
        with disk_errors(self.folder):
            self._description(identifier).unlink(missing_ok=True)
            self._data(identifier).unlink(missing_ok=True)
        self._loaded().pop(identifier, None)

    def _data(self, identifier: str) -> Path:
        return self.folder / f"{identifier}.data"

    def _description(self, identifier: str) -> Path:
        return self.folder / f"{identifier}.json"


def new_id() -> str:
    """A name for a file that nobody can guess."""
    return f"file-{secrets.token_hex(12)}"


def safe_name(text: str) -> str:
    """The last part of a file's name, without what a terminal or a header would obey."""
    return _UNSEEN.sub("", re.split(r"[/\\]", text)[-1])[:255].strip() or "file"


def _torn(path: Path) -> bool:
    """Whether a kill left it of an upload or a deletion. What another process is writing is not torn."""
    if path.suffix == ".part":
        writer = path.name.partition("-")[0]
        return not writer.isdecimal() or int(writer) == os.getpid() or not processes.birth(int(writer))
    if path.suffix == ".data":
        return not path.with_suffix(".json").exists()
    return path.name.startswith(".") and path.suffix == ".tmp"


def _described(path: Path) -> Kept | None:
    """What a description says; None for one that no whole file belongs to: it stays, for who looks."""
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=Kept)
        size = path.with_suffix(".data").stat().st_size
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        _log.warning("the file %s is damaged and is left out: %s", path.name, error)
        return None
    if _ID.fullmatch(kept.id) and kept.id == path.stem and kept.size == size:
        return kept
    _log.warning("the file %s is left out: its description is of another", path.name)
    return None


def _over_quota(size: int) -> NoRoom:
    return NoRoom(
        f"files and batches have used up what they may, and {size_text(size)} would be added",
        "Delete files that are not needed, or raise FREEHOLD_FILES_QUOTA",
    )


def seconds_of(text: str, least: int, most: int, param: str) -> float:
    """A number of seconds that a client wrote. Raises BadInput."""
    if not text.isdecimal() or not least <= int(text[:12]) <= most:
        raise BadInput(f"{param} is {text[:20]!r}", f"Give {least} to {most} seconds", param=param)
    return float(text)
