"""The checking process: `python -I -m freehold.engines.llamacpp.check_worker`, on its parent's pipes alone.

It loads llama.cpp's library and a small vocabulary once. For each line of stdin, {"kind", "text", "seconds", "wall"},
it forks a process that may compute for so many seconds, last `wall` seconds and hold MEMORY bytes, and compiles and
tries the text there. A line of stdout answers: {} where all is well, {"wrong": what llama.cpp says}, or {"ended": how
the process was ended}.
"""

import math
import os
import re
import resource
import signal
import sys
from typing import Any, BinaryIO

import msgspec

from freehold.core.system import end_with_parent
from freehold.engines.llamacpp.compiling import PARSED_NOT, Compiler, WrongError
from freehold.engines.llamacpp.libllama import BadLibraryError, load

MEMORY = 512 << 20
_NICE = 5
"""It steps aside for workers that generate."""
_KEPT = 4096
_OUT_OF_MEMORY = ("bad_alloc", "memory allocation", "length_error", "out of memory", "MemoryError")
_SECONDS = (signal.SIGPROF, signal.SIGXCPU)
_FOREIGN: dict[int, str] = {
    signal.SIGALRM: "late",
    signal.SIGKILL: "killed",
    signal.SIGTERM: "killed",
    signal.SIGINT: "killed",
}
"""Ends that are not the text's doing."""
_MARK = "\x1e"
_THROWN = "what():"
"""How C++ begins to tell, when it ends a process, of what nobody caught."""
_PREFIXES = ("parse: error parsing grammar: ", "JSON schema conversion failed:", "failed to compile JSON schema: ")
_SOURCE = re.compile(r"\n\s*\d+ \||\n<state>")
"""Where llguidance, having said what is wrong, goes on to show the text, or what it had come to."""


def main() -> int:
    """Load what is needed, answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # llama.cpp prints to stdout too; answers must stay alone there
    _harden()
    sys.stdin.buffer.readline()  # what every child is told first; there is nothing to tell this one
    try:
        compiler = Compiler(load())
    except (BadLibraryError, WrongError, OSError, AttributeError) as error:
        _say(answers, {"error": str(error)})
        return 1
    _say(answers, {"ready": True})
    for line in sys.stdin.buffer:
        _say(answers, _tried(compiler, msgspec.json.decode(line)))
    return 0


def _harden() -> None:
    os.umask(0o077)
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    end_with_parent()  # elsewhere than on Linux stdin's end does it


def _tried(compiler: Compiler, task: dict[str, Any]) -> dict[str, Any]:
    """The answer for one text, found in a process of its own."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.dup2(writing, 2)
        os.close(reading)
        _in_fork(compiler, task)
    os.close(writing)
    said = _read(reading)
    os.close(reading)
    return _verdict(os.waitpid(pid, 0)[1], said)


def _in_fork(compiler: Compiler, task: dict[str, Any]) -> None:
    """Do it and end, by this or by another death. What is wrong stands on stderr."""
    seconds = task["seconds"]
    end_with_parent()
    if sys.platform != "darwin":  # it counts what all programs share there, and would be refused
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds) + 1, math.ceil(seconds) + 2))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, task["wall"])
    code = 0
    try:
        getattr(compiler, task["kind"])(task["text"], seconds)
    except WrongError as error:
        os.write(2, f"{_MARK}{error}".encode("utf-8", "replace")[:_KEPT])
        code = 1
    except MemoryError:
        os.write(2, b"MemoryError")
        code = 2
    finally:
        os._exit(code)


def _read(pipe: int) -> str:
    """What comes until the end, cut in its middle."""
    begun, last = b"", b""
    while piece := os.read(pipe, 1 << 16):
        begun, last = (begun, (last + piece)[-_KEPT:]) if len(begun) >= _KEPT else (begun + piece, last)
    return (begun[:_KEPT] + b"\n" + begun[_KEPT:][-_KEPT:] + last).decode("utf-8", "replace")


def _verdict(status: int, said: str) -> dict[str, Any]:
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return {}
    if -code in _SECONDS:
        return {"ended": "seconds"}
    if (foreign := _FOREIGN.get(-code)) is not None:
        return {"ended": foreign}
    if any(mark in said for mark in _OUT_OF_MEMORY):
        return {"ended": "memory"}
    if code == 1 or _THROWN in said:
        return {"wrong": _reason(said)}
    return {"ended": "crash"}


def _reason(said: str) -> str:
    """What is wrong, in one line: the exception, or the compiler's own words, or what it printed."""
    printed, _, own = said.partition(_MARK)
    if _THROWN in printed:
        text = printed.partition(_THROWN)[2]
    elif own.strip() == PARSED_NOT:
        lines = [line.strip() for line in f"{printed}\n{own}".splitlines()]
        text = next(line for line in lines if line and not line.startswith("WARNING"))
    else:
        text = _SOURCE.split(own.strip(), maxsplit=1)[0]
    for prefix in _PREFIXES:
        text = text.partition(prefix)[2] or text
    return " ".join(text.split())


def _say(answers: BinaryIO, document: dict[str, Any]) -> None:
    answers.write(msgspec.json.encode(document) + b"\n")


if __name__ == "__main__":
    sys.exit(main())
