"""A server in a process of its own, asked over HTTP as any client would."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from freehold.cli._server import call, running
from freehold.core.errors import WorkerFailed
from freehold.core.settings import Settings

if TYPE_CHECKING:
    from freehold.serving.state import ServerState

_PATIENCE = 60.0
"""Seconds in which the server must be ready."""
_GRACE = 20.0
"""Seconds in which it must end."""

_kept: list["subprocess.Popen[bytes]"] = []
"""Servers that outlive this process: forgetting one that runs would be a warning."""


class Answer(msgspec.Struct, frozen=True):
    """What the server said to one question."""

    question: str
    answer: str
    seconds: float


@contextmanager
def served(settings: Settings, *, keep: bool) -> "Iterator[ServerState]":
    """The server of this home: the one that runs, or a new one on a free port, ended afterwards unless `keep`."""
    state = running(settings)
    if state is not None:
        yield state
        return
    settings.runs.mkdir(parents=True, exist_ok=True)
    log = settings.runs / "server.log"
    command = [sys.executable, "-P", "-m", "freehold", "serve", "--port", "0", "--home", str(settings.home)]
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    ready = False
    try:
        yield _ready(settings, child, log)
        ready = True
    finally:
        if keep and ready:
            _kept.append(child)
        else:
            _end(child)


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message


class _Chat(msgspec.Struct):
    choices: Annotated[list[_Choice], Meta(min_length=1)]


def ask(state: "ServerState", model: str, question: str) -> Answer:
    """One question over the OpenAI-compatible API. Raises the error that the server answers with."""
    begin = time.monotonic()
    body = {"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 128}
    choice, *_ = call(state, "POST", "/v1/chat/completions", _Chat, body).choices
    return Answer(question, (choice.message.content or "").strip(), time.monotonic() - begin)


def _ready(settings: Settings, child: "subprocess.Popen[bytes]", log: Path) -> "ServerState":
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        state = running(settings)
        if state is not None:
            return state
        if child.poll() is not None:
            said = log.read_text("utf-8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
            raise WorkerFailed(f"the server ended with code {child.returncode}: {said[0][:300]}", f"See {log}")
        time.sleep(0.05)
    raise WorkerFailed(f"the server was not ready within {_PATIENCE:.0f} s", f"See {log}")


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.terminate()
    try:
        child.wait(_GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
