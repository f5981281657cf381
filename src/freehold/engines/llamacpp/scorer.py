"""The parent's side of the scoring process: what a GGUF model thinks of given text.

llama-server tells no log-probabilities of a prompt, so this is a second kind of process, with llama.cpp's C API in it
(`libllama`, `scoring`, `score_worker`). The file is checked here before that process may open it.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from freehold.core.errors import (
    BadInput,
    BadModelFile,
    ContextOverflow,
    FreeholdError,
    NoRoom,
    NotEnoughMemory,
    Unsupported,
    WorkerFailed,
)
from freehold.core.event import TokenLogprob
from freehold.core.system import cores
from freehold.engines.base import Fit, ModelFile
from freehold.engines.llamacpp import memory
from freehold.engines.supervisor import Child, clean_environment, watchdog
from freehold.formats import gguf
from freehold.formats.atomic import no_room
from freehold.store import splits

Progress = Callable[[int, int], None]
Windows = Sequence[Sequence[int]]
CONTEXT = 512
"""Tokens in a window of text, unless the model was trained with fewer."""
_MODULE = "freehold.engines.llamacpp.score_worker"
_ENVIRONMENT = {"GOMP_SPINCOUNT": "1000", "GGML_NO_BACKTRACE": "1"}
_LOAD_RATE = 20 << 20
_PATIENCE = 120.0
"""Seconds without any progress of the process after which it counts as stuck."""


class Activations(NamedTuple):
    """Squared activations that one weight matrix met: [matrices, columns] added up, and rows counted for each."""

    squares: NDArray[np.float64]
    counts: NDArray[np.int64]


class Compared(NamedTuple):
    """How far a model is from another, for each prediction. See `scoring.compare`."""

    divergence: NDArray[np.float32]
    same_top: NDArray[np.float32]
    logprobs: NDArray[np.float32]


class Scorer:
    """One scoring process with one model in it. One task at a time."""

    def __init__(self, child: Child, context_length: int) -> None:
        self.pid, self.label, self.context_length = child.pid, child.label, context_length
        self.bos: tuple[int, ...] = ()
        """What the model expects before any text: its BOS token, or nothing."""
        self.vocabulary = 0
        self._child = child
        self._lock = asyncio.Lock()

    async def ready(self, timeout: float) -> None:
        """Wait for the model. Raises BadModelFile when llama.cpp does not load it, Unsupported without its library."""
        line = await self._child.first_line(timeout)
        said: dict[str, Any] = msgspec.json.decode(line) if line else {"error": f"it {await self._child.ending()}"}
        if said.get("library"):
            raise Unsupported(f"this installation cannot score text: {said['error']}")
        if "error" in said:
            raise BadModelFile(
                f"llama.cpp cannot score with {self.label}: {said['error']}", "Use another model's GGUF file"
            )
        self.bos, self.vocabulary = tuple(said["bos"]), said["vocabulary"]

    async def tokens(self, text: str, *, special: bool = False) -> list[int]:
        """The ids of `text`, without BOS; with `special`, names of special tokens in it become those tokens."""
        payload = await self._ask({"do": "tokens", "text": text, "special": special})
        return [int(token) for token in np.frombuffer(payload, np.int32)]

    async def score(self, tokens: Sequence[int]) -> list[float]:
        """The natural-log probability of each token after the first, given those before it. Raises ContextOverflow."""
        self._check_length(tokens)
        if len(tokens) < 2:
            return []
        payload = await self._ask({"do": "score", "tokens": [int(token) for token in tokens]})
        return [float(value) for value in np.frombuffer(payload, np.float32)]

    async def tell(self, tokens: Sequence[int], top: int) -> tuple[TokenLogprob, ...]:
        """Each token with its log-probability, 0 for the first, and the `top` likeliest in its place.

        Raises ContextOverflow.
        """
        self._check_length(tokens)
        payload = await self._ask({"do": "tell", "tokens": [int(token) for token in tokens], "top": top})
        head, _, data = payload.partition(b"\n")
        pieces = {token: bytes.fromhex(text) for token, text in msgspec.json.decode(head)}
        count = len(tokens) - 1
        logprobs = np.frombuffer(data, np.float32, count)
        width = (len(data) - 4 * count) // (8 * count) if count else 0
        ids = np.frombuffer(data, np.int32, count * width, 4 * count).reshape(count, width)
        tops = np.frombuffer(data, np.float32, count * width, 4 * count * (1 + width)).reshape(count, width)
        rows = [
            [_told(pieces[i], lp) for i, lp in zip(*row, strict=True)]
            for row in zip(ids.tolist(), tops.tolist(), strict=True)
        ]
        return (
            _told(pieces[tokens[0]], 0.0),
            *(
                _told(pieces[token], logprob, tuple(row))
                for token, logprob, row in zip(tokens[1:], logprobs.tolist(), rows, strict=True)
            ),
        )

    def _check_length(self, tokens: Sequence[int]) -> None:
        if len(tokens) > self.context_length:
            raise ContextOverflow(
                f"{len(tokens)} tokens to score and the context holds {self.context_length}", "Score shorter text"
            )

    async def keep(self, windows: Windows, path: Path, on_progress: Progress | None = None) -> NDArray[np.float32]:
        """Write the distributions of every prediction to `path`; the log-probabilities of the tokens that came.

        Raises DiskFull.
        """
        payload = await self._ask({"do": "keep", "windows": windows, "path": str(path)}, on_progress)
        return np.frombuffer(payload, np.float32)

    async def compare(self, windows: Windows, path: Path, on_progress: Progress | None = None) -> Compared:
        """How far this model is from the one whose distributions `keep` wrote to `path`, for the same windows."""
        payload = await self._ask({"do": "compare", "windows": windows, "path": str(path)}, on_progress)
        return Compared(*np.frombuffer(payload, np.float32).reshape(3, -1))

    async def collect(self, windows: Windows, on_progress: Progress | None = None) -> dict[str, Activations]:
        """The squared activations that each weight matrix meets while the windows are read."""
        payload = await self._ask({"do": "collect", "windows": windows}, on_progress)
        head, _, data = payload.partition(b"\n")
        found, offset = {}, 0
        for name, shape, counts in msgspec.json.decode(head):
            squares = np.frombuffer(data, np.float64, shape[0] * shape[1], offset).reshape(shape)
            found[str(name)] = Activations(squares, np.array(counts, np.int64))
            offset += squares.nbytes
        return found

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child.alive

    async def stop(self) -> None:
        """End the process. Returns when it is gone."""
        await self._child.stop()

    async def _ask(self, task: Mapping[str, Any], on_progress: Progress | None = None) -> bytes:
        async with self._lock:
            try:
                return await self._exchange(task, on_progress)
            except (BadInput, NoRoom):  # said by the process, which waits for the next task
                raise
            except BaseException:
                # Whatever stopped us (Ctrl-C too) left half an answer in the pipe.
                self._child.kill()
                raise

    async def _exchange(self, task: Mapping[str, Any], on_progress: Progress | None) -> bytes:
        self._child.tell(task)
        async with watchdog(self._child, _PATIENCE) as watch:
            watch.waiting = True
            while True:
                line = await self._child.line()
                said = msgspec.json.decode(line) if line.endswith(b"\n") else {}
                if "error" in said:
                    raise _error(said, task)
                if "bytes" in said:
                    payload = await self._child.read(said["bytes"])
                    if len(payload) == said["bytes"]:
                        return payload
                if "done" not in said:
                    raise await self._failed()
                if on_progress is not None:
                    on_progress(said["done"], said["total"])

    async def _failed(self) -> FreeholdError:
        return WorkerFailed(
            f"the scoring process of {self.label} {await self._child.ending()}", "Try again, with less running beside"
        )


def _told(piece: bytes, logprob: float, top: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
    return TokenLogprob(piece.decode("utf-8", "replace"), logprob, tuple(piece), top)


def _error(said: Mapping[str, Any], task: Mapping[str, Any]) -> FreeholdError:
    if "path" in task and (full := no_room(said.get("errno"), Path(task["path"]).parent)) is not None:
        return full
    return BadInput(f"cannot score: {said.get('error', 'no reason given')}", "Give other text, or another model")


@asynccontextmanager
async def scorer(
    model: ModelFile, *, context_length: int = CONTEXT, threads: int = 0, collecting: bool = False
) -> AsyncIterator[Scorer]:
    """A ready scoring process, ended with the block. With `collecting` it can `collect`, and is slower at the rest.

    Raises BadModelFile, Unsupported, NotEnoughMemory, WorkerFailed.
    """
    started = await start(model, context_length=context_length, threads=threads, collecting=collecting)
    try:
        yield started
    finally:
        await started.stop()


async def start(model: ModelFile, *, context_length: int, threads: int, collecting: bool = False) -> Scorer:
    """As `scorer`; the caller stops it."""
    fit = needs(model, context_length)
    if not fit.ok:
        raise NotEnoughMemory(fit.shortage(model.label), "Stop another model, or take a smaller one")
    document = {
        "model": str(model.path.absolute()),
        "context_length": fit.context_length,
        "threads": threads or cores(),
        "adapters": [str(path.absolute()) for path in model.adapters],
        "collecting": collecting,
    }
    command = [sys.executable, "-I", "-m", _MODULE]
    found = Scorer(Child(command, document, clean_environment(_ENVIRONMENT), model.label), fit.context_length)
    try:
        await found.ready(60 + fit.weights / _LOAD_RATE)
    except BaseException:
        await found.stop()
        raise
    return found


def needs(model: ModelFile, context_length: int = CONTEXT) -> Fit:
    """What scoring with it takes, from its header alone. The context is cut to what the model was trained with."""
    header = gguf.read_header(model.path)
    trained = header.number("{arch}.context_length") or context_length
    context = min(context_length, trained)
    fit = memory.estimate(sum(part.stat().st_size for part in splits.files(model.path)), header.metadata, context, 1)
    # The estimate is for a cache of F16 numbers, and this one is F32.
    return msgspec.structs.replace(fit, cache=2 * fit.cache)
