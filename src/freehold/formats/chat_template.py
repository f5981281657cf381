"""Chat templates, rendered as transformers renders them, in a confined process.

A template comes with a model, from anywhere, and is a program: in a sandbox it still can loop for ever or fill the
memory, so it runs where the kernel can stop it.
"""

import atexit
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from freehold.core.errors import BadInput, BadModelFile
from freehold.formats.reading import shown

SECONDS = 10.0
MAX_CHARACTERS = 16 << 20
MAX_TEMPLATE = 1 << 20
_WORKER = Path(__file__).with_name("template_worker.py")
_REMEDY = "Use a model whose tokenizer has a working chat template"


class Wanted(NamedTuple):
    """A conversation, whether the prompt ends where the assistant is to speak, and the tools that it offers."""

    messages: Sequence[Mapping[str, Any]]
    generate: bool
    tools: Sequence[Mapping[str, Any]] = ()

    def variables(self) -> dict[str, Any]:
        """What the template is told of it."""
        told = {"messages": self.messages, "add_generation_prompt": self.generate}
        return {**told, "tools": self.tools} if self.tools else told


class _Answer(msgspec.Struct):
    texts: list[str] = []
    refused: str = ""
    broken: str = ""


def render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool,
    seconds: float = SECONDS,
    characters: int = MAX_CHARACTERS,
    **variables: Any,
) -> str:
    """The prompt that `template` makes of `messages`.

    `variables` are what else the template may use: tools, documents, bos_token, eos_token. Raises BadInput when the
    template refuses the messages, BadModelFile when it is wrong, runs longer than `seconds` or writes too much.
    """
    wanted = [Wanted(messages, add_generation_prompt)]
    (text,) = render_many(template, wanted, seconds=seconds, characters=characters, **variables)
    return text


def render_many(
    template: str,
    wanted: Sequence[Wanted],
    *,
    seconds: float = SECONDS,
    characters: int = MAX_CHARACTERS,
    **variables: Any,
) -> list[str]:
    """The prompts of many conversations, asked for at once: asking takes longer than rendering a short one.

    `seconds` and `characters` hold for all together. Raises as `render` does.
    """
    if len(template) > MAX_TEMPLATE:
        raise BadModelFile(f"the chat template is longer than {MAX_TEMPLATE} characters", _REMEDY)
    request = {
        "template": template,
        "variables": {"tools": None, "documents": None, **variables},
        "wanted": [each.variables() for each in wanted],
        "seconds": seconds,
        "characters": characters,
    }
    try:
        encoded = msgspec.json.encode(request)
    except (TypeError, UnicodeEncodeError, RecursionError) as error:
        raise BadInput(f"these messages cannot be rendered: {shown(error)}", "Give messages of plain text") from error
    answer = _process.ask(encoded, seconds)
    if answer.refused:
        raise BadInput(f"the chat template refuses these messages: {shown(answer.refused)}", "Change the messages")
    if answer.broken or len(answer.texts) != len(wanted):
        raise BadModelFile(f"the chat template does not work: {shown(answer.broken)}", _REMEDY)
    return answer.texts


class _Process:
    """The confined process: started when first needed, and again after a template killed it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def ask(self, request: bytes, seconds: float) -> _Answer:
        """The reply to `request`. Raises BadModelFile when the process dies of it."""
        with self._lock:
            child = self._child or self._start()
            try:
                data = _exchange(child, request)
            except BaseException:
                # Whatever stopped us (Ctrl-C too) left half a message in the pipe.
                self._end()
                raise
            if data:
                return _decode(data)
            code = self._end()
        if code == -signal.SIGALRM:
            raise BadModelFile(f"the chat template runs longer than {seconds:g} s", _REMEDY)
        raise BadModelFile(f"the chat template ended its process (exit status {code})", _REMEDY)

    def _start(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-I", "-X", "utf8", str(_WORKER)]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={})
        return self._child

    def _end(self) -> int:
        child, self._child = self._child, None
        if child is None:
            return 0
        dead = child.poll()
        if dead is None:
            try:
                dead = child.wait(0.5)
            except subprocess.TimeoutExpired:
                child.kill()
                dead = child.wait()
        _close(child)
        return dead

    def close(self) -> None:
        """End the process, if one runs."""
        if self._child is not None and self._child.stdin is not None:
            _close_pipe(self._child.stdin)
        self._end()

    def forget(self) -> None:
        """After a fork: the process belongs to the parent."""
        self._lock = threading.Lock()
        if self._child is not None:
            _close(self._child)
            self._child.returncode = 0
            self._child = None


def _exchange(child: "subprocess.Popen[bytes]", request: bytes) -> bytes:
    """The reply's bytes; none when the process died."""
    if child.stdin is None or child.stdout is None:
        raise BadModelFile("the chat template's process has no pipes", _REMEDY)
    try:
        child.stdin.write(len(request).to_bytes(4, "big") + request)
        child.stdin.flush()
    except BrokenPipeError:
        return b""
    head = child.stdout.read(4)
    length = int.from_bytes(head, "big")
    data = child.stdout.read(length) if len(head) == 4 else b""
    return data if len(data) == length else b""


def _decode(data: bytes) -> _Answer:
    try:
        return msgspec.json.decode(data, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Answer(broken="it writes what is not text")


def _close(child: "subprocess.Popen[bytes]") -> None:
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            _close_pipe(pipe)


def _close_pipe(pipe: IO[bytes]) -> None:
    # Closing flushes what a dead process never read.
    try:
        pipe.close()
    except BrokenPipeError:
        return


_process = _Process()
atexit.register(_process.close)
os.register_at_fork(after_in_child=_process.forget)
