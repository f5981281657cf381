import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import psutil
import pytest

from freehold.core.errors import BadInput, Conflict
from freehold.core.settings import Settings
from freehold.serving.run import serve
from freehold.serving.state import ServerState, running
from freehold.store import Store, processes
from tests.serving.support import add_gguf, wait_for
from tests.tiny import write_gguf

SERVER = """
import sys
from freehold.core.settings import load
from freehold.serving.run import serve
from freehold.store import Store
settings = load({"port": 0, "threads": 1, "parallel": 2})
with Store.open(settings.store) as store:
    serve(settings, store, lambda state: print(state.url, flush=True))
print("stopped", flush=True)
"""


@pytest.fixture
def server(home):
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate()


def _url(process) -> str:
    line = process.stdout.readline().strip()
    assert line.startswith("http://127.0.0.1:"), process.stderr.read()
    return line


def test_ready_soon_small_and_found(server, home):
    url = _url(server)
    took = psutil.Process(server.pid).cpu_times()
    assert took.user + took.system < 3, "of the processor's time: the tests beside this one have theirs"
    assert psutil.Process(server.pid).memory_info().rss < 150e6
    settings = Settings(home=home)
    state = running(settings)
    assert state is not None
    assert (state.pid, state.url) == (server.pid, url)
    assert httpx.get(f"{url}/health").json() == {"status": "ok", "pid": server.pid}
    assert psutil.Process(server.pid).children() == [], "no model is loaded before it is asked for"


def test_answers_do_not_wait_for_acknowledgements(server, home):
    url = _url(server)
    with httpx.Client(base_url=url) as client:
        client.get("/health")
        took = []
        for _ in range(20):
            began = time.monotonic()
            client.get("/health")
            took.append(time.monotonic() - began)
    assert sorted(took)[5] < 0.03, "Nagle's algorithm and delayed acknowledgements make it 0.04"


def test_it_listens_on_one_loopback_port_and_its_workers_on_none(server, home, tmp_path):
    with Store.open(Settings(home=home).store) as store:
        add_gguf(store, "tiny", write_gguf(tmp_path / "tiny.gguf"))
    url = _url(server)
    body = {"model": "tiny", "prompt": "Where", "max_tokens": 2}
    assert httpx.post(f"{url}/v1/completions", json=body, timeout=30).status_code == 200
    process = psutil.Process(server.pid)
    (child,) = process.children()
    listening = [c.laddr for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening == [("127.0.0.1", int(url.rpartition(":")[2]))]
    assert child.net_connections("inet") == []
    assert oct((home / "run").stat().st_mode & 0o777) == "0o700"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_and_its_workers_and_clears_the_record(server, home, tmp_path, number):
    with Store.open(Settings(home=home).store) as store:
        add_gguf(store, "tiny", write_gguf(tmp_path / "tiny.gguf"))
    url = _url(server)
    httpx.post(f"{url}/v1/completions", json={"model": "tiny", "prompt": "Where", "max_tokens": 2}, timeout=30)
    (child,) = psutil.Process(server.pid).children()
    server.send_signal(number)
    assert server.stdout.readline().strip() == "stopped"
    assert server.wait(10) == 0
    assert not child.is_running()
    assert not (home / "server.json").exists()
    assert list((home / "run").iterdir()) == []


def test_killed_its_workers_end_and_its_record_counts_for_nothing(server, home, tmp_path):
    with Store.open(Settings(home=home).store) as store:
        add_gguf(store, "tiny", write_gguf(tmp_path / "tiny.gguf"))
    url = _url(server)
    httpx.post(f"{url}/v1/completions", json={"model": "tiny", "prompt": "Where", "max_tokens": 2}, timeout=30)
    (child,) = psutil.Process(server.pid).children()
    server.kill()
    server.wait()
    wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 5)
    assert (home / "server.json").exists()
    assert running(Settings(home=home)) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.com", "127.0.0.1.evil.com"])
def test_other_hosts_than_loopback_are_refused(tmp_path, store: Store, host: str):
    with pytest.raises(BadInput, match="no keys"):
        serve(Settings(home=tmp_path, host=host, port=0), store)


def test_a_taken_port_is_one_line_with_the_port_and_the_remedy(tmp_path, store: Store):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Conflict) as caught:
            serve(Settings(home=tmp_path, port=port), store)
    line = caught.value.line()
    assert str(port) in line
    assert "--port" in line
    assert "\n" not in line
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("what", ["the record", "the word"])
def test_a_server_that_cannot_say_where_it_is_ends_in_order(
    tmp_path, store: Store, what: str, capfd: pytest.CaptureFixture[str]
):
    """A home that cannot be written to, and a reader of its output that has gone."""
    if what == "the record":
        (tmp_path / "server.json").mkdir()

    before = threading.enumerate()

    def ready(state: ServerState) -> None:
        raise BrokenPipeError

    with pytest.raises(BadInput if what == "the record" else BrokenPipeError):
        serve(Settings(home=tmp_path, port=0), store, ready)
    assert capfd.readouterr() == ("", ""), "nothing but the error is said"
    assert not (tmp_path / "server.json").is_file()
    begun = [thread.name for thread in threading.enumerate() if thread not in before]
    assert "scrub" not in begun, "what it began has ended"


def test_a_second_server_of_the_same_home_is_refused(tmp_path, store: Store):
    import msgspec

    me = ServerState(*processes.me(), "127.0.0.1", 1)
    (tmp_path / "server.json").write_bytes(msgspec.json.encode(me))
    with pytest.raises(Conflict, match=f"pid {os.getpid()}"):
        serve(Settings(home=tmp_path, port=0), store)


DEEP, NO_TEXT = b'{"x":' * 5000, b'{"pid":1,"start":"\xff"}'


@pytest.mark.parametrize("content", [b"", b"{}", b"no", b'{"pid":1,"start":"0","host":"x","port":1}', DEEP, NO_TEXT])
def test_a_stale_or_broken_record_counts_for_nothing(tmp_path, content: bytes):
    (tmp_path / "server.json").write_bytes(content)
    assert running(Settings(home=tmp_path)) is None


@pytest.fixture
def command(home, tmp_path):
    """`freehold serve` with a model that takes a moment for each token."""
    with Store.open(Settings(home=home).store) as store:
        add_gguf(store, "slow", write_gguf(tmp_path / "slow.gguf", hidden=512, layers=4, context=4096))
    arguments = [sys.executable, "-m", "freehold", "serve", "--port", "0"]
    environment = {**os.environ, "FREEHOLD_THREADS": "1", "FREEHOLD_PARALLEL": "1", "FREEHOLD_DRAIN_SECONDS": "1"}
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    yield process
    process.kill()
    process.communicate()


def _announced(process) -> str:
    line = process.stdout.readline()
    assert line.startswith("serving at http"), process.stderr.read()
    return line.removeprefix("serving at ").partition(";")[0]


def _said(process, beginning: str) -> str:
    """The next line of the log that begins so."""
    return next(line for line in process.stderr if line.startswith(beginning))


LONG = {"model": "slow", "prompt": "The", "max_tokens": 3000, "stream": True, "logit_bias": {"0": -100, "2": -100}}


def test_a_hangup_has_the_settings_read_again_while_an_answer_runs(command, home):
    with (
        httpx.Client(base_url=_announced(command), timeout=30) as client,
        client.stream("POST", "/v1/completions", json=LONG) as answer,
    ):
        lines = answer.iter_lines()
        next(lines)
        (home / "config.toml").write_text('also = ["ollama"]\nallowed_hosts = ["box.lan"]\nmax_body = 1024\n')
        command.send_signal(signal.SIGHUP)
        assert _said(command, "also: ") == "also: takes effect when the server is started again\n"
        assert _said(command, "settings in force: ").endswith('allowed_hosts = ["box.lan"], max_body = 1024\n')
        assert client.get("/health", headers={"host": "box.lan"}).status_code == 200
        (home / "config.toml").write_text("max_body = 1\n")
        command.send_signal(signal.SIGHUP)
        assert "max_body" in _said(command, "the settings stay as they were: wrong setting")
        assert [next(lines) for _ in range(20)], "the answer goes on"


def test_an_answer_that_is_too_long_for_a_server_that_stops_ends_with_an_error(command):
    with (
        httpx.Client(base_url=_announced(command), timeout=30) as client,
        client.stream("POST", "/v1/completions", json=LONG) as answer,
    ):
        lines = answer.iter_lines()
        next(lines)
        command.send_signal(signal.SIGTERM)
        *_, last = [line for line in lines if line]
    assert "stopping" in json.loads(last.removeprefix("data: "))["error"]["message"]
    assert command.wait(20) == 0


IN_TERMINAL = """
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.executable, [sys.executable, "-m", "freehold", "serve", "--port", "0", "--json"])
said = b""
while b"}" not in said:
    said += os.read(terminal, 1 << 16)
os.close(terminal)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def test_a_server_in_a_terminal_ends_with_it(home):
    done = subprocess.run([sys.executable, "-c", IN_TERMINAL], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() in ("0", "1"), done.stderr  # what it says last has nowhere to go
    assert running(Settings(home=home)) is None
    assert not (home / "server.json").exists()
