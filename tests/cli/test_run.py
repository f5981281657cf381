"""`freehold run`: one answer, from arguments and pipes, alone and through a server; and a chat in a terminal."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from freehold.core.request import MAX_TEXT
from tests.cli.conftest import Freehold, assert_refused, command

SHORT = ("--max-tokens", "8", "--seed", "1", "--temperature", "0")


def test_one_answer(freehold: Freehold, tiny: str) -> None:
    done = freehold("run", "tiny", "hello", *SHORT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert done.stdout.endswith("\n")
    assert freehold("run", "tiny", "hello", *SHORT).stdout == done.stdout
    assert "cut" in done.stderr
    assert freehold("run", "tiny", "hello", *SHORT, "-q").stderr == ""


def test_an_answer_as_json(freehold: Freehold, tiny: str) -> None:
    answer = json.loads(freehold("run", "tiny", "hello", *SHORT, "--json").stdout)
    assert answer["model"] == "tiny"
    assert answer["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 8
    assert answer["text"]


def test_a_pipe_is_the_prompt_or_is_added_to_it(freehold: Freehold, tiny: str) -> None:
    def tokens(*args: str, **options: str) -> int:
        done = freehold("run", "tiny", *args, *SHORT, "--json", **options)  # type: ignore[arg-type]
        return int(json.loads(done.stdout)["usage"]["prompt_tokens"])

    alone = tokens("hello")
    assert tokens(input="hello") == alone
    assert tokens("hello", input="") == alone
    assert tokens("hello", input="Where is my order?") > alone
    assert tokens("hello", "--system", "Be brief.") > alone


@pytest.mark.parametrize(
    ("data", "said"), [(b"", "no prompt"), (b" \n\t", "no prompt"), (b"\xff\xfe\x00", "UTF-8"), (b"\xe9t\xe9", "UTF-8")]
)
def test_pipes_without_a_prompt(home: Path, tiny: str, data: bytes, said: str) -> None:
    done = subprocess.run(command("run", "tiny"), input=data, capture_output=True, check=False, timeout=60)
    assert done.returncode == 2
    assert said in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


def test_a_prompt_that_is_too_long(freehold: Freehold, tiny: str) -> None:
    assert_refused(freehold("run", "tiny", input="x" * (MAX_TEXT + 1)), "8 MiB")


def test_a_prompt_that_does_not_fit_the_context(freehold: Freehold, tiny: str) -> None:
    assert_refused(freehold("run", "tiny", input="hello there " * 2000), "context")


def test_nothing_is_left_running(freehold: Freehold, tiny: str, home: Path) -> None:
    freehold("run", "tiny", "hello", *SHORT)
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert str(home).encode() not in process.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue


def test_the_server_answers_the_same(freehold: Freehold, server: str) -> None:
    through_server = json.loads(freehold("run", "tiny", "hello", *SHORT, "--json").stdout)
    workers = json.loads(freehold("ps", "--json").stdout)
    assert workers["server"]["url"] == server
    assert [worker["served"] for worker in workers["workers"]] == [1]
    freehold("stop", "--server")
    alone = json.loads(freehold("run", "tiny", "hello", *SHORT, "--json").stdout)
    assert through_server["text"] == alone["text"]
    assert through_server["finish_reason"] == alone["finish_reason"]


def test_errors_of_the_server_come_through(freehold: Freehold, server: str) -> None:
    assert_refused(freehold("run", "nope", "hello"), "nope")
    assert_refused(freehold("run", "tiny", input="hello there " * 2000), "context")


class Terminal:
    """A process in a terminal of its own."""

    def __init__(self, master: int, process: "subprocess.Popen[bytes]") -> None:
        self.master, self.process, self.seen = master, process, ""

    def expect(self, text: str) -> str:
        """What was shown up to `text`."""
        end = time.monotonic() + 30
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], 0.2)
            if ready:
                self.seen += os.read(self.master, 65536).decode("utf-8", "replace")
            assert time.monotonic() < end, f"{text!r} not in {self.seen!r}"
        shown, _, self.seen = self.seen.partition(text)
        return shown

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self.master, text.encode() + b"\n")

    def key(self, byte: bytes) -> None:
        """Press a key."""
        os.write(self.master, byte)


@contextmanager
def terminal(*args: str) -> Iterator[Terminal]:
    """A command in a terminal; it must have ended when the block ends."""
    master, slave = pty.openpty()
    env = {**os.environ, "TERM": "dumb", "OMP_NUM_THREADS": "1", "FREEHOLD_THREADS": "1"}
    with subprocess.Popen(
        command(*args),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env=env,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
    ) as process:
        os.close(slave)
        try:
            yield Terminal(master, process)
            assert process.wait(30) is not None
        finally:
            process.kill()
            os.close(master)


def test_a_chat(tiny: str, home: Path) -> None:
    with terminal("run", "tiny", *SHORT) as chat:
        chat.expect("Chat with tiny")
        chat.expect(">>> ")
        chat.type("hello")
        chat.expect("(cut")
        chat.expect(">>> ")
        chat.type("/help")
        chat.expect("/clear")
        chat.expect(">>> ")
        chat.type("/system Be brief.")
        chat.expect("The instructions are set.")
        chat.type("/clear")
        chat.expect("forgotten")
        chat.type("/bye")
        assert chat.process.wait(30) == 0
    history = home / "history"
    assert "hello" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


def test_a_chat_ends_with_ctrl_d(tiny: str) -> None:
    with terminal("run", "tiny") as chat:
        chat.expect(">>> ")
        chat.key(b"\x04")
        assert chat.process.wait(30) == 0


def test_ctrl_c_stops_the_answer_not_the_chat(tiny: str) -> None:
    with terminal("run", "tiny", "--max-tokens", "400") as chat:
        chat.expect(">>> ")
        time.sleep(0.3)  # until it waits for keys
        chat.key(b"\x03")
        chat.expect("/bye or Ctrl-D leaves")
        chat.type("hello")
        chat.expect("hello")
        time.sleep(0.05)
        chat.key(b"\x03")
        chat.expect(">>> ")
        chat.type("")
        chat.type("/bye")
        assert chat.process.wait(30) == 0


def test_a_question_that_does_not_fit_ends_neither_chat_nor_conversation(tiny: str) -> None:
    with terminal("run", "tiny", *SHORT) as chat:
        chat.expect(">>> ")
        chat.type("hello there " * 300)
        chat.expect("error: ")
        chat.expect("/clear forgets")
        chat.type("hello")
        chat.expect("(cut")
        chat.type("/bye")
        assert chat.process.wait(30) == 0


def test_an_unknown_model_in_a_terminal(home: Path) -> None:
    with terminal("run", "nope") as chat:
        chat.expect("error: no model named 'nope'")
        assert chat.process.wait(30) == 2


def test_what_a_model_says_cannot_drive_the_terminal(freehold: Freehold, tiny: str) -> None:
    text = freehold("run", "tiny", "hello", "--max-tokens", "200", "--seed", "3").stdout
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text)


def test_ctrl_c_in_one_answer(tiny: str) -> None:
    line = command("run", "tiny", "hello", "--max-tokens", "400")
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode in (0, 130)  # 0: it was faster than we
    assert b"Traceback" not in err
