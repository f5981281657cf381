"""A conversation in the terminal."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from freehold.cli._answer import Asker, asker, stream
from freehold.cli._border import say
from freehold.cli._output import line
from freehold.core.errors import ContextOverflow, FreeholdError
from freehold.core.request import Message, Request

if TYPE_CHECKING:
    from freehold.core.settings import Settings
    from freehold.store import Store

HELP = """/system TEXT   set the instructions that come before the conversation; without TEXT, remove them
/clear         forget the conversation
/bye           leave (also Ctrl-D)
/help          this
Ctrl-C         stop the answer"""


class Chat:
    """Turns of one conversation with one model."""

    def __init__(self, ask: Asker, template: Request, system: str, runner: asyncio.Runner) -> None:
        self._ask = ask
        self._template = template
        self._system = system
        self._runner = runner
        self._turns: list[Message] = []

    def run(self) -> None:
        """Until the person leaves."""
        line(f"Chat with {self._template.model}. /help for help, /bye to leave.")
        while (text := _typed()) is not None:
            word, _, rest = text.partition(" ")
            if word == "/bye":
                return
            if word.startswith("/"):
                self._order(word, rest.strip())
            elif text:
                self._turn(text)

    def _order(self, word: str, rest: str) -> None:
        if word == "/clear":
            self._turns.clear()
            line("The conversation is forgotten.")
        elif word == "/system":
            self._system = rest
            line("The instructions are set." if rest else "There are no instructions now.")
        else:
            line(HELP)

    def _turn(self, text: str) -> None:
        """One question and its answer. What fails or is stopped leaves no trace in the conversation."""
        asked = [*self._turns, Message("user", text)]
        system = [Message("system", self._system)] if self._system else []
        request = msgspec.structs.replace(self._template, messages=(*system, *asked))
        try:
            answer = self._runner.run(stream(self._ask, request, show=True))
        except KeyboardInterrupt:
            line("\n(stopped)")
        except FreeholdError as error:
            say(error)
            if isinstance(error, ContextOverflow):
                line("/clear forgets the conversation.")
        else:
            self._turns = [*asked, Message("assistant", answer.text)]
            line("\n" if answer.finish_reason == "stop" else "\n(cut: the answer reached its longest length)\n")


def chat(settings: "Settings", store: "Store", template: Request, system: str) -> None:
    """Talk with a model until the person leaves."""
    with _history(settings.home / "history"), asyncio.Runner() as runner:
        manager = asker(settings, store)
        ask = runner.run(_entered(manager))
        try:
            Chat(ask, template, system, runner).run()
        finally:
            runner.run(_left(manager))


async def _entered(manager: AbstractAsyncContextManager[Asker]) -> Asker:
    return await manager.__aenter__()


async def _left(manager: AbstractAsyncContextManager[Asker]) -> None:
    await manager.__aexit__(None, None, None)


def _typed() -> str | None:
    """A line from the terminal; None at its end. Ctrl-C discards the line."""
    while True:
        try:
            text = input(">>> ").strip()
            text.encode()
            return text
        except UnicodeError:
            line("(that is not UTF-8; nothing was asked)")
        except KeyboardInterrupt:
            line("\n(/bye or Ctrl-D leaves)")
        except EOFError:
            line()
            return None


@contextmanager
def _history(path: Path) -> Iterator[None]:
    """Line editing with the lines of earlier chats, kept in a file that only its owner reads."""
    try:
        import readline
    except ImportError:  # a Python built without it: plain input
        yield
        return
    with suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        readline.read_history_file(path)
    readline.set_history_length(1000)
    try:
        yield
    finally:
        with suppress(OSError):
            readline.write_history_file(path)
