"""A server is killed while it answers: every response that it said is kept is there when it runs again."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from freehold.core.settings import Settings
from freehold.store import Store
from tests.clients.harness import SERVER
from tests.serving.support import add_gguf
from tests.tiny import write_gguf

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ASKED = {"model": "tiny", "input": "Where is my order?", "max_output_tokens": 2}


@contextmanager
def served(home: Path) -> Iterator[tuple[httpx.Client, subprocess.Popen[str]]]:
    environment = {"FREEHOLD_HOME": str(home), "PATH": "/usr/bin:/bin", "FREEHOLD_QUEUE": "1000"}
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        with httpx.Client(base_url=process.stdout.readline().strip(), timeout=60) as client:
            yield client, process
    finally:
        process.kill()
        process.wait(20)
        process.stdout.close()


def ask_on(client: httpx.Client, told: list[str]) -> None:
    """Go on from the last response, until the server is gone."""
    previous = None
    for number in itertools.count():
        try:
            asked = ASKED if number % 5 == 0 else {**ASKED, "previous_response_id": previous}
            response = client.post("/v1/responses", json=asked).json()
        except httpx.HTTPError:
            return
        assert response["store"] is True
        previous = response["id"]
        told.append(previous)


def test_what_was_kept_outlives_a_kill(tmp_path: Path) -> None:
    with Store.open(Settings(home=tmp_path).store) as store:
        add_gguf(store, "tiny", write_gguf(tmp_path / "tiny.gguf"))
    told: list[str] = []
    with served(tmp_path) as (client, process):
        client.post("/v1/responses", json=ASKED).raise_for_status()
        threads = [threading.Thread(target=ask_on, args=(client, told)) for _ in range(6)]
        for thread in threads:
            thread.start()
        time.sleep(4)
        os.kill(process.pid, signal.SIGKILL)
        for thread in threads:
            thread.join()
    assert len(told) > 6
    with served(tmp_path) as (client, _):
        for each in told:
            assert client.get(f"/v1/responses/{each}").json()["id"] == each
        assert client.post("/v1/responses", json={**ASKED, "previous_response_id": told[-1]}).status_code == 200
    left = [path.name for path in (tmp_path / "answers").iterdir() if path.name.startswith(".")]
    assert left == []
