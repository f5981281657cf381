"""Verbs about the server: serve, ps, stop."""

import json
import signal
import socket
import subprocess
from pathlib import Path

import httpx

from tests.cli.conftest import Freehold, assert_refused, command


def test_serve_ps_stop(freehold: Freehold, server: str) -> None:
    assert httpx.get(f"{server}/health", trust_env=False).json()["status"] == "ok"
    assert json.loads(freehold("ps", "--json").stdout)["workers"] == []
    assert freehold("run", "tiny", "hello", "--max-tokens", "4").returncode == 0
    head, row = freehold("ps").stdout.splitlines()
    assert head.split() == ["NAME", "TASK", "MEMORY", "CONTEXT", "BUSY", "SERVED"]
    assert row.split()[0] == "tiny"
    assert freehold("stop", "tiny").stdout == "unloaded tiny\n"
    assert "was not loaded" in freehold("stop", "tiny").stderr
    assert "nothing was loaded" in freehold("stop", "--all").stderr
    assert json.loads(freehold("ps", "--json").stdout)["workers"] == []
    assert_refused(freehold("stop", "nope"), "nope")
    assert freehold("stop", "--server").stdout == "stopped the server\n"
    assert json.loads(freehold("ps", "--json").stdout)["server"] is None


def test_one_server_per_home(freehold: Freehold, server: str) -> None:
    assert_refused(freehold("serve", "--port", "0"), server)


def test_without_a_server(inside: Freehold) -> None:
    done = inside("ps")
    assert done.returncode == 0
    assert "freehold serve" in done.stderr
    assert_refused(inside("stop", "x"), "freehold serve")


def test_stop_wants_to_know_what(inside: Freehold) -> None:
    assert_refused(inside("stop"), "--server")
    assert_refused(inside("stop", "x", "--all"), "--server")


def test_a_port_that_is_taken(freehold: Freehold) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert_refused(freehold("serve", "--port", str(port)), str(port), "--port")
        assert_refused(freehold("serve", env={"FREEHOLD_PORT": str(port)}), str(port))


def test_only_loopback(inside: Freehold) -> None:
    for host in ("0.0.0.0", "::", "example.com", "192.168.0.1"):
        assert_refused(inside("serve", "--host", host, "--port", "0"), host)


def test_ctrl_c_stops_the_server(freehold: Freehold, tiny: str) -> None:
    line = command("serve", "--port", "0")
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("serving at http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert err.splitlines()[-1] == "stopped"
    assert "Traceback" not in err
    assert json.loads(freehold("ps", "--json").stdout)["server"] is None


def test_a_stale_record_of_a_server_is_no_server(freehold: Freehold, server: str) -> None:
    pid = json.loads(freehold("ps", "--json").stdout)["server"]["pid"]
    subprocess.run(["kill", "-9", str(pid)], check=True)
    done = freehold("run", "tiny", "hello", "--max-tokens", "4", "-q")
    assert done.returncode == 0
    assert json.loads(freehold("ps", "--json").stdout)["server"] is None


def test_two_processes_and_a_server_share_a_store(freehold: Freehold, server: str, gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "other.gguf").write_bytes(gguf.read_bytes())
    order = {"model": "tiny", "messages": [{"role": "user", "content": "Where?"}], "max_tokens": 2}
    with (
        subprocess.Popen(command("pull", str(gguf), "--as", "second", "-q"), stdout=subprocess.DEVNULL) as pulling,
        subprocess.Popen(command("prune"), stdout=subprocess.DEVNULL) as pruning,
    ):
        answers = [httpx.post(f"{server}/v1/chat/completions", json=order, timeout=100) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert (pulling.returncode, pruning.returncode) == (0, 0)
    assert httpx.post(f"{server}/v1/chat/completions", json={**order, "model": "second"}, timeout=100).is_success
    assert httpx.get(f"{server}/freehold/v1/store").json() == {"checked": 0, "damage": []}
    assert freehold("fsck", "--deep").returncode == 0
