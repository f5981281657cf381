"""OpenAI's own client tunes a tiny model with the real trainer and engine, and chats with the result."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.store import Store, importing
from tests.clients import harness
from tests.recipes.kit import pairs, write_base

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CHECKS = Path(__file__).with_name("openai_tuning_checks.py")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with harness.running(tmp_path_factory.mktemp("home"), threads="1") as address:
        yield address + "/v1"


@pytest.fixture(scope="module", params=["3.57.0", "1.109.1"])
def outcomes(request: pytest.FixtureRequest, server: str) -> dict[str, str]:
    return harness.found(harness.interpreter(request.config, "openai", request.param), CHECKS, server, seconds=800)


@pytest.mark.parametrize("name", harness.checks(CHECKS))
def test_the_client_is_satisfied(outcomes: dict[str, str], name: str):
    assert outcomes[name] == "", outcomes[name]


@contextmanager
def killed(home: Path) -> Iterator[httpx.Client]:
    """A server that is killed in the end."""
    environment = {**os.environ, "FREEHOLD_HOME": str(home), "FREEHOLD_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", harness.SERVER], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        try:
            with httpx.Client(base_url=process.stdout.readline().strip(), timeout=60) as client:
                yield client
        finally:
            os.kill(process.pid, signal.SIGKILL)


def losses(client: httpx.Client, job: str) -> dict[int, float]:
    told = client.get(f"/v1/fine_tuning/jobs/{job}/events?limit=1000").json()["data"]
    metrics = [event["data"] for event in told if event["type"] == "metrics"]
    return {each["step"]: each["train_loss"] for each in metrics if "train_loss" in each}


def wait(client: httpx.Client, job: str, steps: int) -> Any:
    end = time.monotonic() + 600
    while True:
        found = client.get(f"/v1/fine_tuning/jobs/{job}").json()
        if found["status"] == "succeeded" or len(losses(client, job)) >= steps:
            return found
        assert found["status"] != "failed", found
        assert time.monotonic() < end, found
        time.sleep(0.1)


def test_a_killed_server_goes_on_from_the_checkpoint(tmp_path: Path):
    home = tmp_path / "home"
    with Store.open(Settings(home=home).store) as store:
        importing.import_folder(store, write_base(tmp_path / "base"), Name.parse("base"))
    rows = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in pairs()]
    data = "\n".join(json.dumps({"messages": each}) for each in rows).encode()
    with killed(home) as client:
        sent = client.post("/v1/files", files={"file": ("a.jsonl", data)}, data={"purpose": "fine-tune"}).json()
        asked = {"model": "base", "training_file": sent["id"], "hyperparameters": {"n_epochs": 8, "batch_size": 2}}
        job = client.post("/v1/fine_tuning/jobs", json=asked).json()["id"]
        assert wait(client, job, 5)["status"] == "running"
        before = losses(client, job)
    with killed(home) as client:
        done = wait(client, job, 1 << 30)
        after = losses(client, job)
        assert done["status"] == "succeeded"
        chat = {"model": done["fine_tuned_model"], "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
        assert client.post("/v1/chat/completions", json=chat).status_code == 200
    assert before.items() <= after.items()
    assert sorted(after) == list(range(1, 1 + len(after)))
    assert '"resumed":1' in next((home / "runs").glob("ft-base-*/journal.jsonl")).read_text()
