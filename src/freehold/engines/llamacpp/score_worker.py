"""The scoring process: `python -I -m freehold.engines.llamacpp.score_worker`, on its parent's pipes alone.

The first line of stdin names the model; each line after it is a task, answered by lines of JSON on stdout: any number
of {"done", "total"}, then {"bytes": n, ...} and that many bytes, or {"error"}. It ends when stdin closes.
"""

import contextlib
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from freehold.core.system import end_with_parent
from freehold.engines.llamacpp import scoring
from freehold.engines.llamacpp.libllama import BadLibraryError, LlamaError, load


def main() -> int:
    """Load the model, do tasks until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # llama.cpp prints to stdout too; answers must stay alone there
    _harden()
    try:
        model = _model(msgspec.json.decode(sys.stdin.buffer.readline()))
    except (BadLibraryError, LlamaError) as error:
        _say(answers, {"error": str(error), "library": isinstance(error, BadLibraryError)})
        return 1
    _say(answers, {"ready": True, "bos": model.words.bos, "vocabulary": model.vocabulary})
    for line in sys.stdin.buffer:
        try:
            _do(model, msgspec.json.decode(line), answers)
        except (LlamaError, OSError) as error:
            _say(answers, {"error": str(error), "errno": getattr(error, "errno", None)})
    return 0


def _harden() -> None:
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # the kernel should take the worker, not its parent
        Path("/proc/self/oom_score_adj").write_text("500")
    end_with_parent()  # elsewhere than on Linux stdin's end does it


def _model(wanted: dict[str, Any]) -> scoring.Model:
    given = (wanted[name] for name in ("model", "context_length", "threads"))
    return scoring.Model(load(), *given, adapters=wanted["adapters"], collecting=wanted["collecting"])


def _do(model: scoring.Model, task: dict[str, Any], answers: BinaryIO) -> None:
    def moved(done: int, total: int) -> None:
        _say(answers, {"done": done, "total": total})

    payload, more = _TASKS[task["do"]](model, task, moved)
    _say(answers, {"bytes": len(payload), **more})
    view = memoryview(payload)
    while view:
        view = view[answers.write(view) :]


_Answer = tuple[bytes, dict[str, Any]]
_Task = Callable[[scoring.Model, dict[str, Any], scoring.Moved], _Answer]


def _tokens(model: scoring.Model, task: dict[str, Any], moved: scoring.Moved) -> _Answer:
    return np.array(model.words.tokens(task["text"], special=task["special"]), np.int32).tobytes(), {}


def _score(model: scoring.Model, task: dict[str, Any], moved: scoring.Moved) -> _Answer:
    return scoring.score(model, task["tokens"]).tobytes(), {}


def _tell(model: scoring.Model, task: dict[str, Any], moved: scoring.Moved) -> _Answer:
    """A JSON line of [token, what it writes in hexadecimal] in the payload, then the three arrays."""
    told = scoring.tell(model, task["tokens"], task["top"])
    tokens = sorted({*task["tokens"], *told.ids.ravel().tolist()})
    head = msgspec.json.encode([[token, model.words.piece(token).hex()] for token in tokens]) + b"\n"
    return head + b"".join(array.tobytes() for array in told), {}


def _keep(model: scoring.Model, task: dict[str, Any], moved: scoring.Moved) -> _Answer:
    return scoring.keep(model, task["windows"], Path(task["path"]), moved).tobytes(), {}


def _compare(model: scoring.Model, task: dict[str, Any], moved: scoring.Moved) -> _Answer:
    return scoring.compare(model, task["windows"], Path(task["path"]), moved).tobytes(), {}


def _collect(model: scoring.Model, task: dict[str, Any], moved: scoring.Moved) -> _Answer:
    """For each matrix a JSON line of name, shape and counts in the payload, then its float64 sums."""
    sums = scoring.collect(model, task["windows"], moved)
    entries = [[name, list(found.squares.shape), found.counts.tolist()] for name, found in sums.items()]
    head = msgspec.json.encode(entries) + b"\n"
    return head + b"".join(found.squares.tobytes() for found in sums.values()), {}


_TASKS: dict[str, _Task] = {
    "tokens": _tokens,
    "score": _score,
    "tell": _tell,
    "keep": _keep,
    "compare": _compare,
    "collect": _collect,
}


def _say(answers: BinaryIO, document: dict[str, Any]) -> None:
    answers.write(msgspec.json.encode(document) + b"\n")


if __name__ == "__main__":
    sys.exit(main())
