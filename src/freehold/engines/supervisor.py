"""Child processes that run models: started without secrets, watched by pid and progress, ended for certain."""

import asyncio
import collections
import contextlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import psutil

from freehold.core.errors import FreeholdError, WorkerFailed

_PASSED_ON = (
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "GGML_VK_VISIBLE_DEVICES",
    "TMPDIR",
)
STALL = 20.0
"""Seconds without any progress after which a child counts as stuck, unless somebody says otherwise."""
_MAX_LINE = 1 << 20
_LOOK = 0.2
"""Seconds between looks at what is loaded."""
_ALMOST = 0.99
"""As much as is told of what is not said to be ready: other things take memory too."""
_COMPLAINTS = (" E ", "rror", "ASSERT", "no progress")
_MAX_SOCKET_PATH = 103 if sys.platform == "darwin" else 107
"""Bytes that `sockaddr_un.sun_path` holds beside its final zero (unix(7), of Linux and of macOS)."""


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The few variables that a worker may see: where libraries and devices are. No keys, no tokens, no home."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {"LC_ALL": "C.UTF-8", **kept, **extra}


class Socket:
    """A path for a Unix socket that its owner alone can open: in `folder` or, if that is too long, a temporary one."""

    def __init__(self, folder: Path) -> None:
        self._temporary: Path | None = None
        name = f"{uuid.uuid4().hex[:12]}.sock"
        _make_private(folder)
        if len(os.fsencode(folder / name)) > _MAX_SOCKET_PATH:
            self._temporary = folder = Path(tempfile.mkdtemp(prefix="freehold-"))
        self.path = folder / name

    def remove(self) -> None:
        """Remove the socket, and its folder if that was temporary."""
        self.path.unlink(missing_ok=True)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)


def _make_private(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = folder.stat()
    if found.st_uid != os.getuid():
        raise FreeholdError(f"{folder} belongs to another user", "Set FREEHOLD_HOME to a folder of your own")
    if stat.S_IMODE(found.st_mode) != 0o700:
        folder.chmod(0o700)


class Child:
    """One child process. The parent's end of its stdin is its lifeline: when that closes, by whatever death, it ends.

    The first line of stdin is a JSON document for it; the first line of its stdout says that it is ready or why not.
    """

    def __init__(self, command: Sequence[str], document: object, environment: Mapping[str, str], label: str) -> None:
        self.label = label
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environment),
            cwd="/",
            start_new_session=True,  # a Ctrl-C in the terminal is the server's to handle
        )
        self.pid = self._process.pid
        self.last_words: collections.deque[str] = collections.deque(maxlen=40)
        self._drain = threading.Thread(target=self._read_stderr, name=f"stderr of {label}", daemon=True)
        self._drain.start()
        self.tell(document)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    async def first_line(self, timeout: float) -> bytes:
        """The first line of its stdout; empty if it died before. Raises WorkerFailed when it takes too long."""
        try:
            return await asyncio.wait_for(asyncio.to_thread(self._read_line), timeout)
        except TimeoutError:
            self.kill()
            raise WorkerFailed(f"the worker of {self.label} was not ready after {timeout:.0f} s") from None

    async def line(self) -> bytes:
        """The next line of its stdout, however long it takes; empty if it died."""
        return await asyncio.to_thread(self._read_line)

    async def read(self, count: int) -> bytes:
        """The next `count` bytes of its stdout; fewer if it died."""
        return await asyncio.to_thread(self._process.stdout.read, count) if self._process.stdout is not None else b""

    def progress(self) -> tuple[float, int]:
        """A value that changes while the process computes or loads: CPU seconds and, not on macOS, bytes read."""
        try:
            process = psutil.Process(self.pid)
            times = process.cpu_times()
            read = process.io_counters().read_bytes if hasattr(process, "io_counters") else 0
            return round(times.user + times.system, 2), read
        except psutil.Error:
            return -1.0, 0

    def memory(self) -> int:
        """Resident bytes."""
        try:
            return int(psutil.Process(self.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def hang_up(self) -> None:
        """Close its lifeline: it is to end by itself."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    async def stop(self, grace: float = 2.0) -> None:
        """Close its lifeline, then kill it if it is still there after `grace` seconds. Returns when it is gone."""
        self.hang_up()
        if not await asyncio.to_thread(self._gone_within, grace):
            self.kill()
            await asyncio.to_thread(self._process.wait)
        await asyncio.to_thread(self._drain.join, 1.0)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    async def ending(self) -> str:
        """How it ended and what it said last, in a few words; a death just now is waited for."""
        await asyncio.to_thread(self._gone_within, 0.5)
        code = self._process.poll()
        await asyncio.to_thread(self._drain.join, 0.2)
        ending = (
            "broke the connection"
            if code is None
            else f"was killed by signal {-code}"
            if code < 0
            else f"ended with {code}"
        )
        errors = [line for line in self.last_words if any(mark in line for mark in _COMPLAINTS)]
        said = errors[0] if errors else self.last_words[-1] if self.last_words and code and code > 0 else ""
        return f"{ending}: {said[-300:]}" if said else ending

    def _read_line(self) -> bytes:
        return self._process.stdout.readline(_MAX_LINE) if self._process.stdout is not None else b""

    def _gone_within(self, seconds: float) -> bool:
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def tell(self, document: object) -> None:
        """Write one JSON line to its stdin. That it died is learnt from what it does not answer."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.write(msgspec.json.encode(document) + b"\n")
                self._process.stdin.flush()

    def _read_stderr(self) -> None:
        if self._process.stderr is not None:
            for line in self._process.stderr:
                self.last_words.append(line[:1000].decode("utf-8", "replace").rstrip())


@contextlib.asynccontextmanager
async def watched(child: Child, weights: int, told: Callable[[float], None]) -> AsyncIterator[None]:
    """While inside, tell how much of so many bytes of weights the child has in its memory."""
    task = asyncio.create_task(_tell_loaded(child, weights, told))
    try:
        yield
    finally:
        task.cancel()


async def _tell_loaded(child: Child, weights: int, told: Callable[[float], None]) -> None:
    before = child.memory()
    while True:
        await asyncio.sleep(_LOOK)
        told(min(_ALMOST, max(0.0, (child.memory() - before) / max(1, weights))))


class Watch:
    """What a watchdog looks at: `waiting` is true while somebody awaits an answer of the child."""

    def __init__(self) -> None:
        self.waiting = False


@contextlib.asynccontextmanager
async def watchdog(child: Child, limit: float = STALL) -> AsyncIterator[Watch]:
    """While inside, kill a child on which somebody waits and which makes no progress for `limit` seconds.

    A child that hangs or was stopped computes nothing and reads nothing; one that is merely slow does.
    """
    watch = Watch()
    task = asyncio.create_task(_kill_when_stuck(child, watch, limit))
    try:
        yield watch
    finally:
        task.cancel()


async def _kill_when_stuck(child: Child, watch: Watch, limit: float) -> None:
    seen, quiet = child.progress(), 0.0
    while child.alive:
        await asyncio.sleep(limit / 4)
        now = child.progress()
        quiet = quiet + limit / 4 if watch.waiting and now == seen else 0.0
        seen = now
        if quiet >= limit:
            child.last_words.append(f"no progress for {limit:.0f} s")
            child.kill()
            return
