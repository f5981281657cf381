import csv
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
import msgspec
import pytest

from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.dialects.openai import fine_tuning
from freehold.dialects.openai.fine_tuning_schema import DpoHyperparameters, Hyperparameters, JobRequest
from freehold.recipes.schema import parse
from freehold.serving import tunings
from freehold.serving.app import create_app
from freehold.serving.diary import ENDED
from freehold.store import Store, importing
from tests.dialects.tuning_child import COMMAND
from tests.recipes.kit import pairs, write_base
from tests.serving.support import FakeEngine, add_model, live, wait_for

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
JOBS = "/v1/fine_tuning/jobs"
SECONDS = 120.0


@pytest.fixture
def hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """While this file is there, training does not end."""
    path = tmp_path / "hold"
    monkeypatch.setenv("FREEHOLD_TEST_HOLD", str(path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(tunings, "_PATIENCE", 0.2)
    return path


def add_base(store: Store, folder: Path) -> None:
    importing.import_folder(store, write_base(folder / "tiny"), Name.parse("tiny"))


@pytest.fixture
def app(settings: Settings, store: Store, tmp_path: Path):
    add_base(store, tmp_path)
    made = create_app(settings, store, engine=FakeEngine())
    made.state.desk.tunings.command = COMMAND
    return made


@pytest.fixture
def client(app, hold: Path) -> Iterator[httpx.Client]:
    with live(app) as url, httpx.Client(base_url=url, timeout=60) as opened:
        yield opened


def chats(rows: list[tuple[str, str]]) -> bytes:
    turns = ([{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in rows)
    return b"\n".join(json.dumps({"messages": messages}).encode() for messages in turns)


def preferences(rows: list[tuple[str, str]]) -> bytes:
    return b"\n".join(
        json.dumps(
            {
                "input": {"messages": [{"role": "user", "content": question}]},
                "preferred_output": [{"role": "assistant", "content": answer}],
                "non_preferred_output": [{"role": "assistant", "content": "Nobody knows."}],
            }
        ).encode()
        for question, answer in rows
    )


def upload(client: httpx.Client, data: bytes, purpose: str = "fine-tune") -> str:
    return client.post("/v1/files", files={"file": ("in.jsonl", data)}, data={"purpose": purpose}).json()["id"]


def begin(client: httpx.Client, **more: Any) -> Any:
    asked = {"model": "tiny", **more}
    asked.setdefault("training_file", upload(client, chats(pairs())))
    answer = client.post(JOBS, json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def reached(client: httpx.Client, identifier: str, *statuses: str) -> Any:
    end = time.monotonic() + SECONDS
    while (found := client.get(f"{JOBS}/{identifier}").json())["status"] not in statuses:
        assert found["status"] not in ENDED, (found, events(client, identifier))
        assert time.monotonic() < end, (found, events(client, identifier))
        time.sleep(0.05)
    return found


def events(client: httpx.Client, identifier: str) -> list[Any]:
    return client.get(f"{JOBS}/{identifier}/events?limit=1000").json()["data"][::-1]


def training(client: httpx.Client, identifier: str) -> None:
    """Wait until it trains."""
    wait_for(lambda: any(event["type"] == "metrics" for event in events(client, identifier)), SECONDS)


def test_a_job_leaves_a_model_that_answers(client: httpx.Client, settings: Settings):
    validation = upload(client, chats([("What is new about pottery?", "All about pottery is on the board.")] * 1))
    made = begin(client, suffix="Help desk!", seed=7, validation_file=validation, metadata={"a": "b"})
    expected = {"object": "fine_tuning.job", "model": "tiny", "status": "validating_files", "seed": 7}
    assert made.items() >= {**expected, "metadata": {"a": "b"}, "fine_tuned_model": None, "error": None}.items()
    assert made["hyperparameters"] == {"n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": 1.0}
    done = reached(client, made["id"], "succeeded")
    name = done["fine_tuned_model"]
    assert name == f"ft:tiny-Help-desk-{made['id'][-8:]}"
    assert done["trained_tokens"] == 100
    assert done["finished_at"] >= done["created_at"]
    assert done["estimated_finish"] is None

    told = events(client, made["id"])
    assert len({event["id"] for event in told}) == len(told)
    assert {event["level"] for event in told} == {"info"}
    assert [event["data"]["step"] for event in told if event["type"] == "metrics"] == [1, 2]
    words = [event["message"] for event in told if event["type"] == "message"]
    assert words[0] == f"Created fine-tuning job: {made['id']}"
    assert words[-2:] == [f"New fine-tuned model created: {name}", "The job has successfully completed"]
    assert any("Of 1 held-out rows, the new model answered 100.0% exactly" in each for each in words)

    (point,) = client.get(f"{JOBS}/{made['id']}/checkpoints").json()["data"]
    assert (point["step_number"], point["fine_tuned_model_checkpoint"]) == (2, name)
    assert point["metrics"] == {"step": 2, "train_loss": 1.0}

    (results,) = done["result_files"]
    assert client.get(f"/v1/files/{results}").json()["purpose"] == "fine-tune-results"
    table = list(csv.DictReader(client.get(f"/v1/files/{results}/content").text.splitlines()))
    assert [row["train_loss"] for row in table] == ["", "2.0", "1.0"]
    assert [row["valid_exact_match"] for row in table] == ["0.0", "", "1.0"]

    assert name in [model["id"] for model in client.get("/v1/models").json()["data"]]
    asked = {"model": name, "messages": [{"role": "user", "content": "hi"}]}
    assert client.post("/v1/chat/completions", json=asked).json()["choices"][0]["message"]["content"]
    for way in ("cancel", "pause", "resume"):
        refused = client.post(f"{JOBS}/{made['id']}/{way}")
        assert (refused.status_code, "succeeded already" in refused.text) == (400, True)
    assert client.delete(f"/v1/models/{name}").json()["deleted"] is True
    left = {path.name for path in (settings.tunings / made["id"]).iterdir()}
    assert left == {"state.json", "recipe.toml", "diary.jsonl"}


@pytest.mark.slow
def test_preferences(client: httpx.Client):
    method = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.3, "n_epochs": 1, "batch_size": 2}}}
    made = begin(client, training_file=upload(client, preferences(pairs())), method=method)
    assert made["method"]["dpo"]["hyperparameters"]["beta"] == 0.3
    assert made["hyperparameters"] == {"n_epochs": 1, "batch_size": 2, "learning_rate_multiplier": 1.0}
    assert reached(client, made["id"], "succeeded")["fine_tuned_model"] == f"ft:tiny-{made['id'][-8:]}"


def test_a_job_is_paused_and_goes_on_while_another_waits(client: httpx.Client, hold: Path, settings: Settings):
    hold.touch()
    first = begin(client, metadata={"who": "first"})
    training(client, first["id"])
    assert reached(client, first["id"], "running")["estimated_finish"] >= first["created_at"]
    second = begin(client, seed=2)
    reached(client, second["id"], "queued")
    assert client.post(f"{JOBS}/{second['id']}/resume").status_code == 400

    assert client.post(f"{JOBS}/{first['id']}/pause").json()["status"] == "paused"
    assert client.post(f"{JOBS}/{first['id']}/pause").json()["status"] == "paused"
    training(client, second["id"])
    assert client.post(f"{JOBS}/{first['id']}/resume").json()["status"] == "queued"
    assert client.post(f"{JOBS}/{second['id']}/cancel").json()["status"] == "cancelled"
    refused = client.post(f"{JOBS}/{second['id']}/cancel")
    assert (refused.status_code, "cancelled already" in refused.text) == (400, True)
    reached(client, first["id"], "running")
    hold.unlink()
    reached(client, first["id"], "succeeded")
    assert client.get(f"{JOBS}/{second['id']}").json()["fine_tuned_model"] is None
    assert client.get(f"{JOBS}/{second['id']}/checkpoints").json()["data"] == []

    words = [event["message"] for event in events(client, first["id"])]
    assert [each for each in words if each.startswith("The job was")] == ["The job was paused", "The job was resumed"]
    assert len(words) == len(set(words)) + 1, "nothing is told twice but that it started"
    trained = next((settings.runs).glob(f"ft-tiny-{first['id'][-8:]}-*/journal.jsonl")).read_text()
    assert '"resumed":1' in trained

    ids = [each["id"] for each in client.get(JOBS).json()["data"]]
    assert ids == [second["id"], first["id"]]
    page = client.get(f"{JOBS}?limit=1").json()
    assert (page["data"][0]["id"], page["has_more"]) == (second["id"], True)
    assert [job["id"] for job in client.get(f"{JOBS}?after={second['id']}").json()["data"]] == [first["id"]]
    assert [job["id"] for job in client.get(f"{JOBS}?metadata[who]=first").json()["data"]] == [first["id"]]
    assert [job["id"] for job in client.get(f"{JOBS}?metadata=null").json()["data"]] == [second["id"]]
    pages = client.get(f"{JOBS}/{first['id']}/events?limit=3").json()
    assert (len(pages["data"]), pages["has_more"]) == (3, True)
    assert pages["data"][0]["message"] == "The job has successfully completed"
    rest = client.get(f"{JOBS}/{first['id']}/events?after={pages['data'][2]['id']}&limit=1000").json()
    assert len(rest["data"]) == len(words) - 3


def test_files_that_cannot_be_learned_from(client: httpx.Client):
    bad = {b"": "training_file.jsonl", chats(pairs()[:6]): "10", chats(pairs()) + b"\n{": "training_file.jsonl line 73"}
    made = [begin(client, training_file=upload(client, rows))["id"] for rows in bad]
    for identifier, said in zip(made, bad.values(), strict=True):
        failed = reached(client, identifier, "failed")
        assert (failed["error"]["code"], failed["error"]["param"]) == ("invalid_data", "training_file")
        assert said in failed["error"]["message"]
        assert failed["result_files"] == []
        last = events(client, failed["id"])[-1]
        assert (last["level"], last["type"]) == ("error", "message")
    failed = reached(client, begin(client, validation_file=upload(client, b'{"messages": 5}'))["id"], "failed")
    assert failed["error"]["param"] == "validation_file"


def test_what_cannot_be_a_job(client: httpx.Client, store: Store):
    good = {"model": "tiny", "training_file": upload(client, chats(pairs()))}
    other = upload(client, b"x", purpose="batch")
    wandb = {"type": "wandb", "wandb": {"project": "x"}}
    dpo = {"type": "dpo", "supervised": {}}
    refused_by_grader = {"type": "reinforcement", "reinforcement": {"grader": {"type": "string_check"}}}
    for fields, status, param in (
        ({"model": "nobody"}, 404, "model"),
        ({"model": "/etc/passwd"}, 404, "model"),
        ({"model": "../tiny"}, 404, "model"),
        ({"training_file": "file-nothing"}, 404, "training_file"),
        ({"training_file": other}, 400, "training_file"),
        ({"validation_file": other}, 400, "validation_file"),
        ({"integrations": [wandb]}, 400, "integrations"),
        ({"method": refused_by_grader}, 400, "method.type"),
        ({"method": dpo}, 400, "method.supervised"),
        ({"method": {"type": "supervised"}, "hyperparameters": {}}, 400, "hyperparameters"),
        ({"hyperparameters": {"n_epochs": 51}}, 400, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"beta": 0.1}}, 400, "hyperparameters.beta"),
        ({"hyperparameters": {"batch_size": "some"}}, 400, "hyperparameters.batch_size"),
        ({"suffix": "x" * 65}, 400, "suffix"),
        ({"seed": -1}, 400, "seed"),
        ({"nonsense": 1}, 400, "nonsense"),
    ):
        refused = client.post(JOBS, json={**good, **fields})
        assert (refused.status_code, refused.json()["error"]["param"]) == (status, param), (fields, refused.text)
    assert client.get(JOBS).json()["data"] == []
    for path in (f"{JOBS}/ftjob-x", f"{JOBS}/ftjob-x/events", f"{JOBS}/ftjob-x/checkpoints", f"{JOBS}/%2e%2e"):
        assert client.get(path).status_code == 404
    for way in ("cancel", "pause", "resume"):
        assert client.post(f"{JOBS}/ftjob-x/{way}").status_code == 404
    assert client.get("/v1/fine_tuning/checkpoints/x/permissions").status_code == 501
    add_model(store, "broken")
    refused = client.post(JOBS, json={**good, "model": "broken"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "model")


def test_without_the_extra_no_job_is_taken(client: httpx.Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("freehold.tuning.launch.find_spec", lambda name: None)
    refused = client.post(JOBS, json={"model": "tiny", "training_file": upload(client, chats(pairs()))})
    assert (refused.status_code, refused.json()["error"]["code"]) == (501, "missing_extra")
    assert "pip install 'freehold[tune]'" in refused.json()["error"]["message"]
    assert refused.headers["x-should-retry"] == "false"


def test_a_child_that_dies_costs_its_job_alone(client: httpx.Client, app):
    app.state.desk.tunings.command = (sys.executable, "-c", "import sys; sys.exit('it broke')")
    failed = reached(client, begin(client)["id"], "failed")
    assert failed["error"]["code"] == "worker_failed"
    assert "it broke" in failed["error"]["message"]
    app.state.desk.tunings.command = COMMAND
    reached(client, begin(client)["id"], "queued", "running", "succeeded")


def test_the_newest_jobs_are_kept(client: httpx.Client, app, monkeypatch: pytest.MonkeyPatch, settings: Settings):
    monkeypatch.setattr(tunings, "MAX_JOBS", 1)
    app.state.desk.tunings.command = (sys.executable, "-c", "")
    first = reached(client, begin(client)["id"], "failed")
    second = reached(client, begin(client)["id"], "failed")
    assert [job["id"] for job in client.get(JOBS).json()["data"]] == [second["id"]]
    assert not (settings.tunings / first["id"]).exists()


@contextmanager
def killed_server(home: Path) -> Iterator[httpx.Client]:
    """A server in a process of its own, which is killed in the end."""
    command = [sys.executable, "-m", "tests.dialects.tuning_server", str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            with httpx.Client(base_url=process.stdout.readline().strip(), timeout=60) as client:
                yield client
        finally:
            os.kill(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_server_goes_on(settings: Settings, store: Store, tmp_path: Path, hold: Path):
    add_base(store, tmp_path)
    hold.touch()
    with killed_server(settings.home) as client:
        made = begin(client)
        training(client, made["id"])
    hold.unlink()
    with killed_server(settings.home) as client:
        done = reached(client, made["id"], "succeeded")
        told = events(client, made["id"])
    assert done["fine_tuned_model"]
    assert [event["data"]["step"] for event in told if event["type"] == "metrics"] == [1, 2]
    trained = next(settings.runs.glob("ft-tiny-*/journal.jsonl")).read_text()
    assert '"resumed":1' in trained


@pytest.mark.parametrize(
    ("base", "suffix", "name"),
    [
        ("tiny", None, "ft:tiny-89abcdef"),
        ("org/model:8b", "My own", "ft:org-model-8b-My-own-89abcdef"),
        ("m" * 96, "…", f"ft:{'m' * 87}-89abcdef"),
        ("m" * 96, "x" * 64, f"ft:{'m' * 22}-{'x' * 64}-89abcdef"),
        ("a..b", "..", "ft:a.b-89abcdef"),
    ],
)
def test_names_are_names(base: str, suffix: str | None, name: str):
    found = fine_tuning.name_of(base, suffix, "ftjob-0123456789abcdef89abcdef")
    assert found == name
    assert str(Name.parse(found)) == name


@pytest.mark.parametrize(
    ("rows", "count"), [(2, 1), (10, 5), (20, 10), (30, 10), (100, 10), (1000, 100), (100_000, 10_000)]
)
def test_rows_held_out(rows: int, count: int):
    assert round(fine_tuning.held_out(rows) * rows) == count


def test_a_file_without_rows_has_a_share_too():
    assert 0 < fine_tuning.held_out(0) < 1 > fine_tuning.held_out(1) > 0


@pytest.mark.parametrize(("rows", "batch"), [(0, 1), (10, 1), (100, 6), (1000, 16), (10**6, 16)])
def test_what_is_auto_is_chosen(rows: int, batch: int):
    how = fine_tuning.chosen("supervised", Hyperparameters(), rows)
    assert how.body() == {"n_epochs": 3, "batch_size": batch, "learning_rate_multiplier": 1.0}
    assert fine_tuning.chosen("dpo", DpoHyperparameters(), rows).body()["beta"] == 0.1


def test_the_largest_wish_is_a_recipe(store: Store, tmp_path: Path):
    add_base(store, tmp_path)
    (base,) = store.list()
    given = DpoHyperparameters(n_epochs=50, batch_size=256, learning_rate_multiplier=1000.0, beta=2.0)
    how = fine_tuning.chosen("dpo", given, 20)
    asked = JobRequest(model="tiny", training_file="f", validation_file="v")
    found = parse(fine_tuning.recipe(asked, "ft:x", base, how, (1 << 31) - 1, 20), tmp_path)
    assert (found.tune.batch, found.tune.batch_tokens, found.tune.objective) == (256, 256 * 1024, "dpo")
    assert found.data.held_out_path
    how = fine_tuning.chosen("supervised", msgspec.structs.replace(given, learning_rate_multiplier=1000.0), 20)
    assert parse(fine_tuning.recipe(asked, "ft:x", base, how, 0, 20), tmp_path).tune.learning_rate < 1
