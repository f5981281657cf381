"""The scrub: while a server runs, read all models again, slowly, and say what the disk has spoiled."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from freehold.core.digest import Digest
from freehold.core.errors import Damaged, FreeholdError, NotFound
from freehold.store import Store

DELAY = 60.0
"""Seconds for which a server that was just started is left alone."""
PERIOD = 7 * 86400.0
"""Seconds after which a blob is read again."""
_IDLE = 60.0
"""Seconds between looks for a blob that is due."""
_CHUNK = 1 << 20
_log = logging.getLogger("freehold.scrub")


class Damage(msgspec.Struct, frozen=True):
    """A blob whose content is not what it was."""

    digest: str
    detail: str
    found: float
    """When, in seconds since 1970."""


class Scrub:
    """A thread of the lowest priority that reads at most `rate` bytes per second."""

    def __init__(self, store: Store, rate: int, *, delay: float = DELAY, period: float = PERIOD) -> None:
        self.checked = 0
        """Blobs read since the server started."""
        self.damage: list[Damage] = []
        self._store, self._rate, self._delay, self._period = store, rate, delay, period
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scrub", daemon=True)

    def start(self) -> None:
        """Begin, unless the rate is 0."""
        if self._rate:
            self._thread.start()

    def adopt(self, rate: int) -> None:
        """Read so much a second from now on."""
        self._rate = rate
        if self._thread.ident is None:
            self.start()

    def stop(self) -> None:
        """End, in the middle of a file too. It is read from its beginning the next time."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(10)

    def _run(self) -> None:
        with suppress(OSError, AttributeError):  # on Linux this is the thread's own priority
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        wait = self._delay
        while not self._stop.wait(wait):
            wait = 0.0 if self._next() else _IDLE

    def _next(self) -> bool:
        """Read one blob that is due; whether there was one."""
        if not self._rate:
            return False
        try:
            digest = self._store.catalog.due(time.time() - self._period)
            if digest is None:
                return False
            with self._store.lease(digest):
                self._read(digest)
        except _Stopped:
            return True
        except FreeholdError as error:  # a full disk or a busy catalog: later
            _log.warning("the scrub waits: %s", error.line())
            return False
        self.checked += 1
        return True

    def _read(self, digest: Digest) -> None:
        try:
            self._store.verify(digest, read=self._slowly)
        except NotFound:
            self._store.catalog.distrust(digest)  # removed by hand: fsck and every use say so
        except Damaged as error:
            self.damage.append(Damage(str(digest), error.message, time.time()))
            _log.error("%s. 'freehold fsck --repair' may mend it", error.message)

    def _slowly(self, path: Path) -> Iterator[bytes]:
        begin, read = time.monotonic(), 0
        with path.open("rb", buffering=0) as file:
            while (rate := self._rate) and (chunk := file.read(min(_CHUNK, rate))):
                yield chunk
                read += len(chunk)
                if self._stop.wait(max(0.0, read / rate - (time.monotonic() - begin))):
                    raise _Stopped
            if not rate:
                raise _Stopped


class _Stopped(Exception):
    """The server ends, or the settings say that nothing is read any more."""
