"""A conversation in the terminal, turn by turn, with an engine that says what it is told to."""

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from freehold.cli import _chat
from freehold.cli._chat import HELP, Chat
from freehold.core.errors import ContextOverflow, WorkerFailed
from freehold.core.event import Failed, Text
from freehold.core.request import Request
from freehold.core.settings import Settings
from freehold.serving.desk import Desk
from freehold.store import Store
from tests.serving.support import FakeEngine, add_model


class Keys(io.RawIOBase):
    """What is typed, a line at a time, as a terminal hands it over."""

    def __init__(self, *lines: bytes) -> None:
        self._lines = list(lines)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        line = self._lines.pop(0) if self._lines else b""
        buffer[: len(line)] = line
        return len(line)


class Talk:
    """A chat with the fake engine: what was asked of it, and what was shown."""

    def __init__(self, store: Store, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        add_model(store, "helpdesk")
        self.engine = FakeEngine()
        self._store, self._settings, self._capsys = store, Settings(home=home, parallel=1), capsys
        self._patch = pytest.MonkeyPatch()

    def __call__(self, *lines: str | bytes, system: str = "") -> tuple[str, str]:
        typed = [line if isinstance(line, bytes) else line.encode() for line in lines]
        with self._patch.context() as patch, asyncio.Runner() as runner:
            keys = io.BufferedReader(Keys(*(line + b"\n" for line in typed)))
            patch.setattr("sys.stdin", io.TextIOWrapper(keys, "utf-8"))
            desk = runner.run(self._desk())
            Chat(desk, Request(model="helpdesk"), system, runner).run()
            runner.run(desk.close())
        shown = self._capsys.readouterr()
        return shown.out, shown.err

    async def _desk(self) -> Desk:
        return Desk(self._settings, self._store, self.engine)

    @property
    def asked(self) -> list[list[tuple[str, str]]]:
        """The messages of each request."""
        seen = (request for worker in self.engine.workers for request in worker.seen)
        return [[(message.role, message.content) for message in request.messages] for request in seen]


@pytest.fixture
def talk(home: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Talk]:
    with Store.open(Settings(home=home).store) as store:
        yield Talk(store, home, capsys)


A = ("assistant", "Hello world")


def test_each_turn_brings_those_before_it(talk: Talk) -> None:
    out, err = talk("one", "", "   ", " two ", "/bye", "three", system="Be kind.")
    kind = ("system", "Be kind.")
    assert talk.asked == [[kind, ("user", "one")], [kind, ("user", "one"), A, ("user", "two")]]
    assert out.count("Hello world\n") == 2
    assert out.startswith("Chat with helpdesk. /help for help")
    assert err == ""


def test_orders(talk: Talk) -> None:
    out, _ = talk("one", "/clear", "/system  Be brief. ", "two", "/system", "three", "/nonsense", "/help", "/bye now")
    assert talk.asked == [
        [("user", "one")],
        [("system", "Be brief."), ("user", "two")],
        [("user", "two"), A, ("user", "three")],
    ]
    assert out.count(HELP) == 2
    for said in ("The conversation is forgotten.", "The instructions are set.", "There are no instructions now."):
        assert said in out


@pytest.mark.parametrize("broken", [b"caf\xe9?", b"\xff", b"\xf0\x9f\x98"])
def test_what_is_no_text_is_not_asked_and_ends_nothing(talk: Talk, broken: bytes) -> None:
    out, err = talk("one", broken, "two")
    assert [messages[-1] for messages in talk.asked] == [("user", "one"), ("user", "two")]
    assert out.count("that is not UTF-8; nothing was asked") == 1
    assert err == ""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (WorkerFailed("the worker died", "Ask again"), "error: the worker died. Ask again"),
        (ContextOverflow("the prompt is too long"), "error: the prompt is too long"),
    ],
)
def test_a_turn_that_fails_leaves_no_trace(talk: Talk, error: Exception, said: str) -> None:
    talk.engine.script = [Text("Hel"), Failed(error)]  # type: ignore[arg-type]
    out, err = talk("one", "two")
    assert talk.asked == [[("user", "one")], [("user", "two")]]
    assert err.splitlines() == [said, said]
    assert ("/clear forgets the conversation." in out) == isinstance(error, ContextOverflow)


def test_the_lines_are_remembered_for_their_owner_alone(home: Path) -> None:
    home.mkdir()
    path = home / "history"
    with _chat._history(path):
        pass
    assert path.stat().st_mode & 0o777 == 0o600
    path.unlink()
    path.mkdir()
    with _chat._history(path):
        assert path.is_dir(), "a chat without it is a chat"
