"""The llama.cpp engine: checks a model file, says what it takes, starts a worker for it."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from freehold.core.errors import BadModelFile, NotEnoughMemory, Unsupported, WorkerFailed
from freehold.core.request import Request
from freehold.core.settings import Settings
from freehold.core.system import cores
from freehold.engines.base import Fit, Launch, ModelFile, Told, nobody
from freehold.engines.llamacpp import memory
from freehold.engines.llamacpp.checker import Checker
from freehold.engines.llamacpp.client import LlamaWorker
from freehold.engines.supervisor import Child, Socket, clean_environment, watched
from freehold.formats import gguf, projector
from freehold.formats.projector import Projector
from freehold.store import splits

_WORKER = Path(__file__).with_name("worker.py")
_RANK = 4
"""llama.cpp's number for the pooling of models that rank."""
_LOAD_RATE = 20 << 20
"""Bytes per second that the slowest disk worth waiting for reads."""
_MAX_EMBEDDING_CONTEXT = 2048
"""Pooling needs a whole text in one batch, whose scratch memory grows with its length."""


_LESS = "Stop another model, lower FREEHOLD_CONTEXT_LENGTH or FREEHOLD_PARALLEL, or take a smaller quantisation"
_ANEW = "Get the file again, or convert the model anew"
_BLIND = "Take the projector that belongs to the model, or none: freehold pull … --mmproj none"
_ENVIRONMENT = {
    # llama.cpp's two spinning threads fall under 1 token/s beside one busy process; 1000 costs nothing when quiet
    "GOMP_SPINCOUNT": "1000",
    "GGML_NO_BACKTRACE": "1",  # else an abort first runs a debugger for seconds, while its clients wait
}


class _Status(msgspec.Struct):
    ready: str = ""
    error: str = ""


class LlamaCpp:
    """GGUF models in the server of the xllamacpp wheel."""

    name = "llamacpp"

    def __init__(self) -> None:
        self._checker = Checker()

    def fits(self, model: ModelFile, settings: Settings) -> Fit:
        """What this model takes, from its header alone. Raises BadModelFile."""
        return _Shape.of(model, settings).fit

    async def start(self, model: ModelFile, settings: Settings, told: Told = nobody) -> LlamaWorker:
        """A ready worker. Raises BadModelFile, NotEnoughMemory, WorkerFailed."""
        shape = _Shape.of(model, settings)
        if not shape.fit.ok:
            raise NotEnoughMemory(shape.fit.shortage(model.label), _LESS)
        if not model.embedding:
            await self._checker.template(_template(model), model.label)
        socket = Socket(settings.sockets)
        environment = clean_environment(_ENVIRONMENT)
        document = shape.document(model, settings, socket)
        child = Child([sys.executable, "-I", str(_WORKER)], document, environment, model.label)
        worker = LlamaWorker(child, socket, shape.slots, model, settings.threads, settings.stall_seconds)
        try:
            async with watched(child, shape.fit.weights, told):
                await _ready(child, 60 + shape.fit.weights / _LOAD_RATE, _BLIND if model.projector else _ANEW)
            await worker.connect()
        except BaseException:
            await worker.stop()
            raise
        return worker

    async def check(self, request: Request, settings: Settings) -> None:
        """Have what constrains the answer compiled and tried in a process that can be ended. Raises BadInput, Busy."""
        await self._checker.request(request, settings.grammar_seconds)

    async def close(self) -> None:
        """End that process."""
        await self._checker.close()


def _template(model: ModelFile) -> str:
    """The chat template that a worker of it reads."""
    return model.chat_template or str(gguf.read_header(model.path).metadata.get("tokenizer.chat_template", ""))


class _Shape(msgspec.Struct, frozen=True):
    """How a worker divides its context and batches its tokens."""

    fit: Fit
    slots: int
    ubatch: int
    mean_pooling: bool

    @classmethod
    def of(cls, model: ModelFile, settings: Settings) -> "_Shape":
        """The shape for a model, from its header. Raises BadModelFile."""
        header = gguf.read_header(model.path)
        metadata = header.metadata
        context, slots, ubatch = (
            memory.context_per_slot(metadata, model.context_length or settings.context_length),
            settings.parallel,
            memory.UBATCH,
        )
        if model.embedding:
            context = min(context, _MAX_EMBEDDING_CONTEXT)
            # llama.cpp aborts when it pools a batch that its sequences do not divide
            slots = 1 << (settings.parallel.bit_length() - 1)
            ubatch = -(-context // slots) * slots
        if model.ranking and model.launch is None:
            _require_ranking(header, model.label)
        eye = _eye(model)
        if eye is not None and eye.at_once:
            ubatch = max(ubatch, eye.tokens)
        if model.launch is not None:
            context, slots, ubatch = _launched(model.launch, metadata, slots, context)
        files = [*splits.files(model.path), *model.adapters, *model.choices.values()]
        weights = sum(path.stat().st_size for path in files)
        fit = memory.estimate(weights, metadata, context, slots, ubatch, eye)
        return cls(fit, slots, ubatch, f"{metadata.get('general.architecture', '')}.pooling_type" not in metadata)

    def document(self, model: ModelFile, settings: Settings, socket: Socket) -> dict[str, object]:
        """What the worker is told."""
        return {
            "model": str(model.path),
            "socket": str(socket.path),
            "parallel": self.slots,
            "context_length": self.fit.context_length,
            "batch": self.ubatch,  # no more at once: a cancelled prompt is noticed between batches
            "ubatch": self.ubatch,
            "threads": settings.threads or cores(),
            "embedding": model.embedding,
            "mean_pooling": self.mean_pooling,
            "projector": "" if model.projector is None or model.embedding else str(model.projector),
            "chat_template": model.chat_template,
            "adapters": [
                *((str(path), 1.0) for path in model.adapters),
                *((str(path), 0.0) for path in model.choices.values()),
            ],
            "ranking": model.ranking,
            "parameters": dict(model.launch.parameters) if model.launch else {},
            "sampling": dict(model.launch.sampling) if model.launch else {},
        }


def _eye(model: ModelFile) -> Projector | None:
    """What the worker sees images with; nothing where it makes vectors. Raises BadModelFile and Unsupported."""
    return None if model.projector is None or model.embedding else projector.read(model.projector)


def _require_ranking(header: gguf.GgufHeader, label: str) -> None:
    """Raises Unsupported for a model that was not made to score documents: its scores would mean nothing."""
    declared = header.metadata.get(f"{header.architecture}.pooling_type") == _RANK
    if not declared and not any(tensor.name.startswith("cls") for tensor in header.tensors):
        raise Unsupported(f"{label} does not rank documents", "Take a model that is made for reranking", param="model")


def _launched(launch: Launch, metadata: Mapping[str, Any], slots: int, context: int) -> tuple[int, int, int]:
    """Context, slots and batch as `launch` says; its context is that of all slots together."""
    total = int(launch.parameters.get("n_ctx", 0)) or memory.trained_context(metadata) or context
    return max(1, total // slots), slots, int(launch.parameters.get("n_ubatch", memory.UBATCH))


async def _ready(child: Child, timeout: float, remedy: str = _ANEW) -> None:
    line = await child.first_line(timeout)
    try:
        status = msgspec.json.decode(line, type=_Status) if line else _Status()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise WorkerFailed(f"the worker of {child.label} said {line[:80]!r} at its start") from error
    if not status.ready:
        said = await child.ending()
        raise BadModelFile(f"llama.cpp cannot load {child.label}: it {said}", remedy)
