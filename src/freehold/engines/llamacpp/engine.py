"""The llama.cpp engine: checks a model file, says what it takes, starts a worker for it."""

import os
import sys
from pathlib import Path

import msgspec

from freehold.core.errors import BadModelFile, NotEnoughMemory, WorkerFailed
from freehold.core.settings import Settings
from freehold.engines.base import Fit, ModelFile
from freehold.engines.llamacpp import memory
from freehold.engines.llamacpp.client import LlamaWorker
from freehold.engines.supervisor import Child, Socket, clean_environment
from freehold.formats import gguf

_WORKER = Path(__file__).with_name("worker.py")
_LOAD_RATE = 20 << 20
"""Bytes per second that the slowest disk worth waiting for reads."""
_MAX_EMBEDDING_CONTEXT = 2048
"""Pooling needs a whole text in one batch, whose scratch memory grows with its length."""


class _Status(msgspec.Struct):
    ready: str = ""
    error: str = ""


class LlamaCpp:
    """GGUF models in the server of the xllamacpp wheel."""

    name = "llamacpp"

    def fits(self, model: ModelFile, settings: Settings) -> Fit:
        """What this model takes, from its header alone. Raises BadModelFile."""
        metadata = gguf.read_header(model.path).metadata
        context = memory.context_per_slot(metadata, settings.context_length)
        if model.embedding:
            context = min(context, _MAX_EMBEDDING_CONTEXT)
        return memory.estimate(
            model.path, metadata, context, settings.parallel, context if model.embedding else memory.UBATCH
        )

    async def start(self, model: ModelFile, settings: Settings) -> LlamaWorker:
        """A ready worker. Raises BadModelFile, NotEnoughMemory, WorkerFailed."""
        fit = self.fits(model, settings)
        if not fit.ok:
            raise not_enough(model.label, fit)
        socket = Socket(settings.sockets)
        # llama.cpp's two spinning threads fall under 1 token/s beside one busy process; 1000 costs nothing when quiet
        environment = clean_environment({"GOMP_SPINCOUNT": "1000"})
        document = _document(model, settings, fit, socket)
        child = Child([sys.executable, "-I", str(_WORKER)], document, environment, model.label)
        worker = LlamaWorker(child, socket, settings.parallel, embedding=model.embedding)
        try:
            await _ready(child, 60 + fit.weights / _LOAD_RATE)
            await worker.connect()
        except BaseException:
            await worker.stop()
            raise
        return worker


def not_enough(label: str, fit: Fit) -> NotEnoughMemory:
    """The model does not fit, with the numbers."""
    parts = f"weights {_mib(fit.weights)}, cache {_mib(fit.cache)}, scratch {_mib(fit.scratch)}"
    return NotEnoughMemory(
        f"{label} needs {_mib(fit.needed)} MiB ({parts}) and {_mib(fit.available)} MiB are free",
        "Stop another model, lower FREEHOLD_CONTEXT_LENGTH or FREEHOLD_PARALLEL, or take a smaller quantisation",
    )


def _mib(count: int) -> int:
    return -(-count >> 20) if count >= 0 else 0


def _document(model: ModelFile, settings: Settings, fit: Fit, socket: Socket) -> dict[str, object]:
    ubatch = fit.context_length if model.embedding else memory.UBATCH
    metadata = gguf.read_header(model.path).metadata
    pooling = f"{metadata.get('general.architecture', '')}.pooling_type"
    return {
        "model": str(model.path),
        "socket": str(socket.path),
        "parallel": settings.parallel,
        "context_length": fit.context_length,
        "batch": ubatch,  # a cancelled prompt is noticed between batches
        "ubatch": ubatch,
        "threads": settings.threads or len(os.sched_getaffinity(0)),
        "embedding": model.embedding,
        "mean_pooling": pooling not in metadata,
    }


async def _ready(child: Child, timeout: float) -> None:
    line = await child.first_line(timeout)
    try:
        status = msgspec.json.decode(line, type=_Status) if line else _Status()
    except msgspec.DecodeError as error:
        raise WorkerFailed(f"the worker of {child.label} said {line[:80]!r} at its start") from error
    if not status.ready:
        said = await child.ending()
        raise BadModelFile(
            f"llama.cpp cannot load {child.label}: it {said}", "Get the file again, or convert the model anew"
        )
