"""A running server as the verbs reach it: what it says is printed, and what it should not say is one line."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from freehold.cli._answer import _body
from freehold.core import errors
from freehold.core.errors import FreeholdError
from freehold.core.request import Constraint, Request
from freehold.core.settings import load
from freehold.serving.state import ServerState
from tests.cli.conftest import Freehold, assert_refused

RUN = ("run", "starter", "hi")


class Fake(ThreadingHTTPServer):
    """A server of this home that answers everything alike."""

    status = 200
    body = b""
    promised = 0
    """Bytes that it says will come, beside those that do."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.asked: list[tuple[str, Any]] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who leaves early is no news."""


class Answering(BaseHTTPRequestHandler):
    server: Fake

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers.get("content-length", "0")))
        self.server.asked.append((self.path, json.loads(sent) if sent else None))
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(self.server.body) + self.server.promised))
        self.end_headers()
        self.wfile.write(self.server.body)
        self.close_connection = True

    do_GET = do_POST

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def fake(home: Path) -> Iterator[Fake]:
    with Fake() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        home.mkdir()
        ServerState.here("127.0.0.1", server.server_address[1]).record(load({}))
        yield server
        server.shutdown()


def frames(*chunks: Any, end: bytes = b"data: [DONE]\n\n") -> bytes:
    texts = [each if isinstance(each, bytes) else json.dumps(each, ensure_ascii=False).encode() for each in chunks]
    return b"".join(b"data: " + text + b"\n\n" for text in texts) + end


def said(text: str, reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": reason}], "usage": None}


USED = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}
ODD = "a\u2028b\u2029c d 😀"


def test_an_answer_is_printed_whole(inside: Freehold, fake: Fake) -> None:
    fake.body = frames(said(""), said(ODD), said("\u0085!"), said("", "stop"), USED)
    done = inside(*RUN)
    assert (done.returncode, done.stdout, done.stderr) == (0, ODD + "!\n", "")
    (path, body) = fake.asked[0]
    assert path == "/v1/chat/completions"
    assert body["messages"] == [{"role": "user", "content": "hi"}]
    told = json.loads(inside(*RUN, "--json").stdout)
    assert told["text"] == ODD + "\u0085!"
    assert told["usage"]["prompt_tokens"] == 3


def test_what_was_asked_is_sent_on(inside: Freehold, fake: Fake) -> None:
    fake.body = frames(said("x", "length"))
    options = ["--system", "Be kind.", "--max-tokens", "7", "--temperature", "0.5", "--seed", "-3"]
    done = inside(*RUN, *options)
    assert done.stderr == "(cut: the answer reached its longest length)\n"
    (_, body) = fake.asked[0]
    sent = {"model": "starter", "max_completion_tokens": 7, "temperature": 0.5, "seed": -3, "stream": True}
    assert body.items() >= sent.items()
    assert body["messages"][0] == {"role": "system", "content": "Be kind."}


NONSENSE: dict[str, bytes] = {
    "no JSON": frames(b"{", said("", "stop")),
    "no object": frames([1]),
    "no text": frames(said(5)),  # type: ignore[arg-type]
    "no list": frames({"choices": {"a": 1}}),
    "no choice": frames({"choices": [None]}),
    "no delta": frames({"choices": [{"delta": []}]}),
    "no reason": frames(said("a", "because")),
    "no usage": frames({"usage": {"prompt_tokens": 1}}),
    "no UTF-8": frames(b'{"choices": [{"delta": {"content": "\xff"}}]}'),
    "no end of depth": frames(b'{"x": ' + b"[" * 5000),
    "an error that is a number": frames({"error": 5}),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_in_an_answer_is_one_line(inside: Freehold, fake: Fake, name: str) -> None:
    fake.body = NONSENSE[name]
    assert_refused(inside(*RUN), "nonsense", code=1)


def test_an_answer_that_breaks_off_is_no_answer(inside: Freehold, fake: Fake) -> None:
    for body in (b"", frames(), frames(said("a"), end=b""), frames(said("a")), b"<html>", b"data: {"):
        fake.body = body
        done = inside(*RUN, "--json")
        assert_refused(done, "broke off", code=1)
    fake.promised = 99
    assert_refused(inside(*RUN, "--json"), "does not answer", code=1)


CODES = {
    kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FreeholdError)
}


@pytest.mark.parametrize("code", CODES)
def test_each_error_of_the_server_keeps_its_exit_code(inside: Freehold, fake: Fake, code: str) -> None:
    kind = CODES[code]
    described = {"message": "it broke. Mend it", "code": code, "type": "t", "param": None}
    fake.status, fake.body = kind.status if kind.status != 499 else 500, json.dumps({"error": described}).encode()
    for _ in range(2):
        done = inside(*RUN)
        assert done.returncode == kind.exit_code
        assert done.stderr.removeprefix("error: ") == "it broke. Mend it\n"
        fake.status, fake.body = 200, frames({"error": described})


WRONG_BODIES = [b"", b"<html>", b"[]", b'{"error": 5}', b'{"error": {}}', b'{"error": null}', b"\xff", b'"x"']


@pytest.mark.parametrize("args", [RUN, ("ps",), ("stop", "starter")], ids=lambda args: args[0])
def test_a_refusal_in_no_shape_tells_its_status(inside: Freehold, fake: Fake, args: tuple[str, ...]) -> None:
    fake.status = 500
    for body in WRONG_BODIES:
        fake.body = body
        assert_refused(inside(*args), "answered 500", code=1)


@pytest.mark.parametrize("args", [("ps",), ("ps", "--json"), ("stop", "starter"), ("stop", "--all")], ids=" ".join)
def test_an_answer_of_another_form_is_one_line(inside: Freehold, fake: Fake, args: tuple[str, ...]) -> None:
    for body in (b"", b"<html>", b"{", b"\xff", b"[]", b"{}", b"5", b'{"workers": 5, "stopped": "x"}'):
        fake.body = body
        assert_refused(inside(*args), "nonsense", code=1)


def test_workers_are_told_by_the_server(inside: Freehold, fake: Fake) -> None:
    worker = {
        "model": "a\x1b[31m",
        "task": "generate",
        "memory": 5_000_000,
        "context_length": 64,
        "busy": 1,
        "served": 2,
    }
    fake.body = json.dumps({"workers": [{**worker, "digest": "sha256:0", "pid": 5}]}).encode()
    assert inside("ps").stdout.splitlines()[1].split() == ["a[31m", "generate", "5.0", "MB", "64", "1", "2"]
    fake.body = b'{"stopped": 2}'
    assert inside("stop", "--all").stdout == "unloaded 2 models\n"
    assert fake.asked[-1] == ("/freehold/v1/workers/stop", {"all": True})


@pytest.mark.parametrize("args", [RUN, ("ps",), ("stop", "starter")], ids=lambda args: args[0])
def test_a_server_that_is_gone_is_one_line(inside: Freehold, fake: Fake, args: tuple[str, ...]) -> None:
    fake.server_close()
    assert_refused(inside(*args), "does not answer", code=1)


@pytest.mark.parametrize(
    ("constraint", "form"),
    [
        (None, None),
        (Constraint("json"), {"type": "json_object"}),
        (
            Constraint("schema", {"type": "object"}),
            {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}, "strict": True}},
        ),
        (Constraint("grammar", grammar="root ::= x"), None),
    ],
)
def test_a_server_is_told_what_an_answer_must_be(constraint: Constraint | None, form: object) -> None:
    assert _body(Request(model="m", constraint=constraint)).get("response_format") == form
