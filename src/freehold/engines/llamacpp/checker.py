"""The parent's side of the checking process: what a request would have a worker compile is compiled there first.

A grammar can be short and take for ever, to compile or to apply. In a worker that would stop the answers of everybody.
"""

import asyncio
import contextlib
import hashlib
import sys
from collections import OrderedDict
from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec

from freehold.core.errors import BadInput, BadModelFile, Busy, WorkerFailed
from freehold.core.request import Constraint, Request
from freehold.engines.llamacpp import tools, wire
from freehold.engines.llamacpp.plan import forced, offered_tools
from freehold.engines.supervisor import Child, clean_environment
from freehold.formats.reading import shown

CACHED = 1024
"""Texts whose verdict is remembered, the last that were asked for."""
TEMPLATE_SECONDS = 2.0
"""Of computing, which a chat template may take to be analysed: llama.cpp renders it dozens of times for that."""
TEMPLATE_REMEDY = "Give it another one: a Modelfile with TEMPLATE, and freehold create NAME -f Modelfile"
_MODULE = "freehold.engines.llamacpp.check_worker"
_START = 60.0
_WALL, _WAIT = 40, 2.0
"""By the clock it may take so many times its seconds, and this more: on a busy machine it hardly gets to compute."""
_GRACE = 5.0
"""Seconds more after which the process itself does not answer."""
_IDLE = 120.0
"""Seconds after which a process that nobody asks is ended."""
_SHOWN = 300
_SMALLER = "Make it smaller, with fewer alternatives and repetitions"
_MORE = f"{_SMALLER}, or raise FREEHOLD_GRAMMAR_SECONDS"

Kind = Literal["grammar", "schema", "tools", "template"]


class Text(NamedTuple):
    """What is compiled, and where a request has it."""

    kind: Kind
    text: str
    param: str


class Verdict(msgspec.Struct, frozen=True):
    """What came of it: all well, what llama.cpp finds wrong, or how the process was ended."""

    wrong: str = ""
    ended: Literal["", "seconds", "memory", "crash", "killed", "late"] = ""


_NAMES: dict[Kind, str] = {
    "grammar": "the grammar",
    "schema": "the JSON schema",
    "tools": "the JSON schema of the tools",
    "template": "the chat template",
}


class _Status(msgspec.Struct):
    ready: bool = False
    error: str = ""


class Checker:
    """One process, started when it is first needed and again after its end, and what it said of texts."""

    def __init__(self, cached: int = CACHED) -> None:
        self.pid = 0
        """Of the process; 0 where none runs."""
        self._cached = cached
        self._known: OrderedDict[bytes, Verdict] = OrderedDict()
        self._running: dict[bytes, asyncio.Task[Verdict]] = {}
        self._lock = asyncio.Lock()
        self._child: Child | None = None
        self._missing = False
        self._idle: asyncio.TimerHandle | None = None

    @property
    def known(self) -> int:
        """Texts whose verdict is remembered."""
        return len(self._known)

    async def request(self, request: Request, seconds: float) -> None:
        """Check what a request would have compiled. Raises BadInput, and Busy where it could not be found out."""
        for each in texts(request):
            verdict = await self.verdict(each.kind, each.text, seconds)
            # What the tools' own grammar refuses does not matter to templates that need none; a worker says it.
            if verdict.ended or (verdict.wrong and each.kind != "tools"):
                raise _error(each, verdict, seconds)

    async def template(self, text: str, label: str, seconds: float = TEMPLATE_SECONDS) -> None:
        """Check a chat template. Raises BadModelFile for one that does not end, and Busy; workers say the rest."""
        running = self._child is not None
        verdict = await self.verdict("template", text, seconds) if text else Verdict()
        if not running:  # a model is loaded seldom, and perhaps by a program that asks for nothing else
            async with self._lock:
                await self._end()
        if verdict.ended in ("seconds", "memory", "crash"):
            raise BadModelFile(
                f"the chat template of {label} {_ending(verdict, seconds)}",
                TEMPLATE_REMEDY,
            )
        if verdict.ended:
            raise _unknown("template")

    async def verdict(self, kind: Kind, text: str, seconds: float) -> Verdict:
        """What is known of the text, or found out now. Whoever asks for the same meanwhile waits for the same."""
        key = hashlib.sha256(f"{kind} {seconds} ".encode() + text.encode("utf-8", "surrogatepass")).digest()
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._find_out(key, kind, text, seconds))
            task.add_done_callback(lambda done: self._done(key, done))
        # A client that leaves does not stop it: the process is to be asked whole questions.
        return await asyncio.shield(task)

    async def close(self) -> None:
        """End the process."""
        for task in list(self._running.values()):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        async with self._lock:
            await self._end()

    def _done(self, key: bytes, task: asyncio.Task[Verdict]) -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # those who waited have it

    async def _find_out(self, key: bytes, kind: Kind, text: str, seconds: float) -> Verdict:
        task: dict[str, object] = {"kind": kind, "text": text.encode("utf-8", "replace").decode(), "seconds": seconds}
        task["wall"] = wall = _WALL * seconds + _WAIT
        async with self._lock:
            verdict = await self._asked(task, wall)
            if verdict.ended == "killed":  # by somebody else: the text may not be the reason
                verdict = await self._asked(task, wall)
        if verdict.ended not in ("killed", "late") and not self._missing:
            self._known[key] = verdict
            while len(self._known) > self._cached:
                self._known.popitem(last=False)
        return verdict

    async def _asked(self, task: dict[str, object], wall: float) -> Verdict:
        """The process's answer. One that is dead, or that does not answer, is replaced by the next question."""
        try:
            child = await self._started()
            if child is None:
                return Verdict()
            child.tell(task)
            line = await child.first_line(wall + _GRACE)
            if line.endswith(b"\n"):
                self._rest()
                return msgspec.json.decode(line, type=Verdict)
        except WorkerFailed:
            pass
        except BaseException:
            # Half an answer is in the pipe.
            if self._child is not None:
                self._child.kill()
            raise
        await self._end()
        return Verdict(ended="killed")

    async def _started(self) -> Child | None:
        """The process; None where there can be none, so that workers have to see for themselves."""
        if self._idle is not None:
            self._idle.cancel()
        if self._child is not None and not self._child.alive:
            await self._end()
        if self._child is None and not self._missing:
            child = self._child = Child([sys.executable, "-I", "-m", _MODULE], {}, clean_environment({}), "the checker")
            self.pid = child.pid
            line = await child.first_line(_START)
            status = msgspec.json.decode(line, type=_Status) if line.endswith(b"\n") else _Status()
            self._missing = bool(status.error)
            if not status.ready:
                await self._end()
                if not self._missing:
                    raise WorkerFailed("the process that checks grammars does not start", "Try again")
        return self._child

    def _rest(self) -> None:
        self._idle = asyncio.get_running_loop().call_later(_IDLE, self._child.kill if self._child else int)

    async def _end(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        child, self._child, self.pid = self._child, None, 0
        if child is not None:
            await child.stop(0.0 if not child.alive else 1.0)


def texts(request: Request) -> Iterator[Text]:
    """What a worker would compile for a request. Raises BadInput for a tool that is to be called and is not there."""
    constraint, must = request.constraint, forced(request)
    offered = offered_tools(request)
    if constraint is not None and constraint.kind == "grammar":
        yield Text("grammar", constraint.grammar, "grammar")
    elif constraint is not None and must is None:
        yield Text("schema", _schema(constraint), "response_format")
        if offered:  # then the chat route makes one grammar of both
            yield Text("tools", _json(constraint.schema), "response_format")
    if must is not None:
        yield Text("schema", _schema(must), "tools")
    elif offered:
        yield Text("tools", _json(tools.any_call(offered)), "tools")


def _schema(constraint: Constraint) -> str:
    return _json(wire.constraint_body(constraint)["json_schema"])


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _error(text: Text, verdict: Verdict, seconds: float) -> BadInput | Busy:
    name = _NAMES[text.kind]
    if verdict.ended in ("killed", "late"):
        return _unknown(text.kind)
    if verdict.ended:
        remedy = _MORE if verdict.ended == "seconds" else _SMALLER
        return BadInput(f"{name} {_ending(verdict, seconds)}", remedy, param=text.param)
    said = shown(verdict.wrong, _SHOWN)
    return BadInput(f"{name} cannot be used: {said}", "Correct or leave out what it names", param=text.param)


def _unknown(kind: Kind) -> Busy:
    return Busy(f"{_NAMES[kind]} could not be checked: the process that does it was ended", "Try again")


def _ending(verdict: Verdict, seconds: float) -> str:
    if verdict.ended == "seconds":
        return f"takes more than {seconds:g} s of computing to compile and to try"
    return "takes too much memory" if verdict.ended == "memory" else "makes llama.cpp fail"
