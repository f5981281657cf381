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

from freehold.core.errors import Busy, WorkerFailed
from freehold.core.settings import Settings
from freehold.serving import batches, jobs
from freehold.serving.app import create_app
from freehold.store import Store
from tests.serving.support import FakeEngine, add_model, live, wait_for

BODY = {"model": "helpdesk", "messages": [{"role": "user", "content": "hi"}]}
ROOT = Path(__file__).parents[2]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def app(settings: Settings, store: Store, engine: FakeEngine):
    add_model(store, "helpdesk")
    return create_app(settings, store, engine=engine)


@pytest.fixture
def client(app) -> Iterator[httpx.Client]:
    with live(app) as url, httpx.Client(base_url=url, timeout=20) as opened:
        yield opened


def row(name: str, body: dict[str, Any] | None = None, url: str = "/v1/chat/completions") -> str:
    return json.dumps({"custom_id": name, "method": "POST", "url": url, "body": body or BODY})


def upload(client: httpx.Client, lines: list[str], purpose: str = "batch") -> str:
    data = "\n".join(lines).encode()
    sent = client.post("/v1/files", files={"file": ("in.jsonl", data)}, data={"purpose": purpose})
    return sent.json()["id"]


def begin(client: httpx.Client, lines: list[str], endpoint: str = "/v1/chat/completions", **more: Any) -> Any:
    asked = {"input_file_id": upload(client, lines), "endpoint": endpoint, "completion_window": "24h", **more}
    answer = client.post("/v1/batches", json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ended(client: httpx.Client, identifier: str, seconds: float = 15) -> Any:
    end = time.monotonic() + seconds
    while (found := client.get(f"/v1/batches/{identifier}").json())["status"] not in jobs.ENDED:
        assert time.monotonic() < end, found
        time.sleep(0.02)
    return found


def lines_of(client: httpx.Client, identifier: str | None) -> list[Any]:
    if identifier is None:
        return []
    answer = client.get(f"/v1/files/{identifier}/content")
    assert answer.status_code == 200
    return [json.loads(line) for line in answer.text.splitlines()]


def test_a_batch_is_answered_in_the_order_of_its_rows(client: httpx.Client, settings: Settings):
    made = begin(client, [*(row(f"r{i}") for i in range(7)), "", ""], metadata={"a": "b"})
    assert made.items() >= {"object": "batch", "status": "validating", "metadata": {"a": "b"}}.items()
    assert made["expires_at"] - made["created_at"] == 86400
    done = ended(client, made["id"])
    assert done["status"] == "completed"
    assert done["request_counts"] == {"total": 7, "completed": 7, "failed": 0}
    assert done["usage"]["total_tokens"] == 7 * 6
    assert done["model"] == "helpdesk"
    assert done["errors"] is None
    assert done["error_file_id"] is None
    assert all(done[f"{name}_at"] for name in ("in_progress", "finalizing", "completed"))
    answers = lines_of(client, done["output_file_id"])
    assert [each["custom_id"] for each in answers] == [f"r{i}" for i in range(7)]
    assert {each["response"]["body"]["choices"][0]["message"]["content"] for each in answers} == {"Hello world"}
    assert {each["response"]["status_code"] for each in answers} == {200}
    assert {each["error"] for each in answers} == {None}
    assert len({each["id"] for each in answers} | {each["response"]["request_id"] for each in answers}) == 14
    about = client.get(f"/v1/files/{done['output_file_id']}").json()
    assert (about["purpose"], about["filename"]) == ("batch_output", f"{made['id']}_output.jsonl")
    # Told to be done a moment before its papers are gone.
    wait_for(lambda: [path.name for path in (settings.batches / made["id"]).iterdir()] == ["state.json"])


@pytest.mark.parametrize(
    ("endpoint", "body", "kind"),
    [
        (
            "/v1/completions",
            {"model": "helpdesk", "prompt": ["a", "b"], "echo": True, "logprobs": 1},
            "text_completion",
        ),
        ("/v1/embeddings", {"model": "helpdesk", "input": ["a", "b"]}, "list"),
    ],
)
def test_other_endpoints(client: httpx.Client, endpoint: str, body: dict[str, Any], kind: str):
    done = ended(client, begin(client, [row("r", body, endpoint)], endpoint)["id"])
    (answer,) = lines_of(client, done["output_file_id"])
    assert answer["response"]["body"]["object"] == kind
    assert done["usage"]["input_tokens"] > 0


def test_rows_that_cannot_be_answered_go_to_the_file_of_errors(client: httpx.Client, engine: FakeEngine):
    bad = [
        row("unknown", {**BODY, "model": "nobody"}),
        row("wrong", {**BODY, "temperature": 9}),
        row("stream", {**BODY, "stream": True}),
        row("field", {**BODY, "nonsense": 1}),
    ]
    done = ended(client, begin(client, [row("good"), *bad])["id"])
    assert done["status"] == "completed"
    assert done["request_counts"] == {"total": 5, "completed": 1, "failed": 4}
    assert done["model"] is None, "they differ"
    errors = {each["custom_id"]: each["response"] for each in lines_of(client, done["error_file_id"])}
    assert {name: said["status_code"] for name, said in errors.items()} == {
        "unknown": 404, "wrong": 400, "stream": 400, "field": 400}  # fmt: skip
    assert errors["unknown"]["body"]["error"]["code"] == "model_not_found"
    assert errors["wrong"]["body"]["error"]["param"] == "temperature"
    assert [each["custom_id"] for each in lines_of(client, done["output_file_id"])] == ["good"]


def test_bad_lines_are_named_with_their_numbers(client: httpx.Client):
    good = json.loads(row("x"))
    lines = [
        row("a"),
        "no json",
        row("a"),
        json.dumps({**good, "method": "GET"}),
        json.dumps({**good, "url": "/v1/embeddings"}),
        json.dumps({key: value for key, value in good.items() if key != "custom_id"}),
        json.dumps({**good, "body": 5}),
        json.dumps({**good, "extra": 5}),
        json.dumps({**good, "custom_id": "x" * 600}),
        "[]",
    ]
    failed = ended(client, begin(client, lines)["id"])
    assert failed["status"] == "failed"
    assert failed["output_file_id"] is None
    found = {each["line"]: each for each in failed["errors"]["data"]}
    assert set(found) == set(range(2, 11))
    assert (found[3]["code"], found[3]["param"]) == ("duplicate_custom_id", "custom_id")
    assert [found[line]["param"] for line in (4, 5, 6, 7, 8, 9)] == [
        "method", "url", "custom_id", "body", "extra", "custom_id"]  # fmt: skip
    assert "line 1" in found[3]["message"]


def test_an_empty_file_too_many_rows_and_too_many_faults(client: httpx.Client, monkeypatch: pytest.MonkeyPatch):
    assert ended(client, begin(client, ["", " "])["id"])["errors"]["data"][0]["code"] == "empty_file"
    assert len(ended(client, begin(client, ["x"] * 300)["id"])["errors"]["data"]) == 100
    monkeypatch.setattr(batches, "MAX_ROWS", 3)
    many = ended(client, begin(client, [row(str(i)) for i in range(5)])["id"])
    assert many["errors"]["data"][0]["code"] == "too_many_tasks"


def test_a_row_longer_than_a_body_may_be(settings: Settings, store: Store):
    small = msgspec.structs.replace(settings, max_body=1024)
    with live(create_app(small, store, engine=FakeEngine())) as url, httpx.Client(base_url=url) as client:
        failed = ended(client, begin(client, [row("a"), row("b" * 500, {"model": "x" * 600})])["id"])
    assert failed["errors"]["data"][0]["code"] == "request_too_large"
    assert "line 2" in failed["errors"]["data"][0]["message"]


def test_what_cannot_be_a_batch(client: httpx.Client):
    good = {"input_file_id": upload(client, [row("a")]), "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    other = upload(client, [row("a")], purpose="user_data")
    for fields, status, param in (
        ({"input_file_id": "file-nothing"}, 404, "id"),
        ({"input_file_id": other}, 400, "input_file_id"),
        ({"endpoint": "/v1/images/generations"}, 400, "endpoint"),
        ({"completion_window": "soon"}, 400, "completion_window"),
        ({"metadata": {str(i): "x" for i in range(17)}}, 400, "metadata"),
        ({"nonsense": 1}, 400, "nonsense"),
    ):
        refused = client.post("/v1/batches", json={**good, **fields})
        assert (refused.status_code, refused.json()["error"]["param"]) == (status, param), fields
    assert client.get("/v1/batches").json()["data"] == []
    for path in ("/v1/batches/batch_x", "/v1/batches/%2e%2e"):
        assert client.get(path).status_code == 404
    assert client.post("/v1/batches/batch_x/cancel").status_code == 404


def test_lists_have_pages(client: httpx.Client):
    ids = [begin(client, [row("a")])["id"] for _ in range(3)]
    first = client.get("/v1/batches?limit=2").json()
    assert [each["id"] for each in first["data"]] == ids[:0:-1]
    assert first["has_more"] is True
    rest = client.get("/v1/batches", params={"limit": 2, "after": first["last_id"]}).json()
    assert [each["id"] for each in rest["data"]] == ids[:1]
    assert client.get("/v1/batches?limit=101").status_code == 400


def test_the_input_may_be_deleted_meanwhile(client: httpx.Client, engine: FakeEngine):
    engine.pause = 0.05
    made = begin(client, [row(str(i)) for i in range(4)])
    assert client.delete(f"/v1/files/{made['input_file_id']}").status_code == 200
    assert ended(client, made["id"])["request_counts"]["completed"] == 4


def test_a_batch_that_is_cancelled_keeps_what_it_has(client: httpx.Client, engine: FakeEngine):
    engine.pause = 0.02
    made = begin(client, [row(str(i)) for i in range(200)])
    wait_for(lambda: client.get(f"/v1/batches/{made['id']}").json()["request_counts"]["completed"] >= 3)
    waiting = begin(client, [row("w")])
    assert client.post(f"/v1/batches/{made['id']}/cancel").json()["status"] in ("cancelling", "cancelled")
    done = ended(client, made["id"])
    assert done["status"] == "cancelled"
    assert done["cancelled_at"] >= done["cancelling_at"]
    counts = done["request_counts"]
    assert 3 <= counts["completed"] < 200
    assert counts["failed"] == 0
    answered = lines_of(client, done["output_file_id"])
    left = lines_of(client, done["error_file_id"])
    assert sorted(int(each["custom_id"]) for each in answered + left) == list(range(200))
    assert left[0]["error"]["code"] == "batch_cancelled"
    assert ended(client, waiting["id"])["status"] == "completed"
    again = client.post(f"/v1/batches/{made['id']}/cancel")
    assert (again.status_code, "cancelled already" in again.text) == (400, True)
    assert engine.workers[0].running == 0


def test_a_batch_that_waits_can_be_cancelled(client: httpx.Client, engine: FakeEngine):
    engine.pause = 0.02
    first, second = begin(client, [row(str(i)) for i in range(60)]), begin(client, [row("s")])
    client.post(f"/v1/batches/{second['id']}/cancel")
    assert ended(client, second["id"])["status"] == "cancelled"
    assert client.get(f"/v1/batches/{first['id']}").json()["status"] == "in_progress"
    client.post(f"/v1/batches/{first['id']}/cancel")
    ended(client, first["id"])


def test_a_batch_whose_time_is_over(client: httpx.Client, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("freehold.dialects.openai.batches._SECONDS", {"m": 0.5})
    engine.pause = 0.02
    done = ended(client, begin(client, [row(str(i)) for i in range(200)], completion_window="1m")["id"])
    assert done["status"] == "expired"
    answered, left = lines_of(client, done["output_file_id"]), lines_of(client, done["error_file_id"])
    assert sorted(int(each["custom_id"]) for each in answered + left) == list(range(200))
    assert answered
    assert left[0]["response"] is None
    assert left[0]["error"]["code"] == "batch_expired"


def test_whoever_waits_goes_first(client: httpx.Client, engine: FakeEngine):
    """With two places, a batch takes one; while a request runs, no row is begun; all rows are answered in the end."""
    engine.pause = 0.02
    made = begin(client, [row(str(i)) for i in range(40)])
    wait_for(lambda: engine.workers and engine.workers[0].running)
    begun = time.monotonic()
    for _ in range(5):
        assert client.post("/v1/chat/completions", json=BODY).status_code == 200
    assert time.monotonic() - begun < 1.5
    assert engine.workers[0].most_at_once <= 2
    assert ended(client, made["id"])["request_counts"] == {"total": 40, "completed": 40, "failed": 0}


def test_a_row_steps_aside_where_there_is_one_place(settings: Settings, store: Store, engine: FakeEngine):
    add_model(store, "helpdesk")
    engine.pause = 0.3
    alone = msgspec.structs.replace(settings, parallel=1)
    with live(create_app(alone, store, engine=engine)) as url, httpx.Client(base_url=url, timeout=20) as client:
        made = begin(client, [row("a")])
        wait_for(lambda: engine.workers and engine.workers[0].running)
        engine.pause = 0.01
        assert client.post("/v1/chat/completions", json=BODY).status_code == 200
        assert engine.workers[0].cancelled == 1
        done = ended(client, made["id"])
        assert done["request_counts"] == {"total": 1, "completed": 1, "failed": 0}
        assert len(lines_of(client, done["output_file_id"])) == 1


def test_a_model_of_a_batch_makes_room_for_another(client: httpx.Client, store: Store, engine: FakeEngine):
    add_model(store, "other")
    engine.memory_bytes, engine.pause = 15, 0.05
    made = begin(client, [row(str(i)) for i in range(10)])
    wait_for(lambda: engine.workers and engine.workers[0].running)
    assert client.post("/v1/chat/completions", json={**BODY, "model": "other"}).status_code == 200
    assert engine.workers[0].alive is False
    assert ended(client, made["id"])["request_counts"] == {"total": 10, "completed": 10, "failed": 0}


def test_a_busy_server_is_asked_again_and_a_dying_worker_three_times(client: httpx.Client, engine: FakeEngine):
    engine.refusal = Busy("full", retry_after=0)
    made = begin(client, [row("a")])
    wait_for(lambda: engine.workers and len(engine.workers[0].seen) > 3)
    engine.refusal = WorkerFailed("the worker died")
    done = ended(client, made["id"])
    assert done["request_counts"] == {"total": 1, "completed": 0, "failed": 1}
    (error,) = lines_of(client, done["error_file_id"])
    assert error["response"]["status_code"] == 502


def test_an_error_of_ours_costs_its_row_alone(client: httpx.Client, engine: FakeEngine, caplog):
    engine.script = [ValueError("not an event")]  # type: ignore[list-item]
    made = begin(client, [row("a")])
    done = ended(client, made["id"])
    assert done["request_counts"] == {"total": 1, "completed": 0, "failed": 1}
    assert lines_of(client, done["error_file_id"])[0]["response"]["status_code"] == 500
    engine.script = FakeEngine().script
    assert ended(client, begin(client, [row("b")])["id"])["request_counts"]["completed"] == 1


def test_a_full_quota_is_waited_out(app, client: httpx.Client, monkeypatch: pytest.MonkeyPatch, engine: FakeEngine):
    monkeypatch.setattr(batches, "_PATIENCE", 0.1)
    engine.pause = 0.1
    made = begin(client, [row("a")])
    app.state.desk.files._quota = 1
    wait_for(lambda: client.get(f"/v1/batches/{made['id']}").json()["status"] == "finalizing")
    time.sleep(0.3)
    assert client.get(f"/v1/batches/{made['id']}").json()["status"] == "finalizing"
    app.state.desk.files._quota = 0
    done = ended(client, made["id"])
    assert len(lines_of(client, done["output_file_id"])) == 1


def test_the_newest_batches_are_kept(client: httpx.Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(batches, "MAX_JOBS", 2)
    ids = []
    for _ in range(3):
        ids.append(begin(client, [row("a")])["id"])
        ended(client, ids[-1])
    assert [each["id"] for each in client.get("/v1/batches").json()["data"]] == ids[:0:-1]


def test_a_server_that_stops_leaves_the_rest_to_the_next(settings: Settings, store: Store):
    add_model(store, "helpdesk")
    first, second = FakeEngine(pause=0.05), FakeEngine()
    with live(create_app(settings, store, engine=first)) as url, httpx.Client(base_url=url) as client:
        made = begin(client, [row(str(i)) for i in range(20)])
        wait_for(lambda: client.get(f"/v1/batches/{made['id']}").json()["request_counts"]["completed"] >= 2)
    answered = len(first.workers[0].seen) - first.workers[0].cancelled
    with live(create_app(settings, store, engine=second)) as url, httpx.Client(base_url=url) as client:
        done = ended(client, made["id"])
        assert [int(each["custom_id"]) for each in lines_of(client, done["output_file_id"])] == list(range(20))
    assert len(second.workers[0].seen) == 20 - answered


@contextmanager
def killed_server(home: Path, pause: float) -> Iterator[httpx.Client]:
    """A server in a process of its own, which is killed in the end."""
    command = [sys.executable, "-m", "tests.dialects.batch_server", str(home), str(pause)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            with httpx.Client(base_url=process.stdout.readline().strip(), timeout=20) as client:
                yield client
        finally:
            os.kill(process.pid, signal.SIGKILL)


def test_a_killed_server_goes_on_and_answers_every_row_once(tmp_path: Path):
    with killed_server(tmp_path / "home", 0.05) as client:
        made = begin(client, [row(str(i)) for i in range(30)])
        wait_for(lambda: client.get(f"/v1/batches/{made['id']}").json()["request_counts"]["completed"] >= 5)
        before = client.get(f"/v1/batches/{made['id']}").json()["request_counts"]["completed"]
    journal = tmp_path / "home" / "batches" / made["id"] / "journal.jsonl"
    kept = journal.read_bytes()
    assert before <= kept.count(b"\n") < 30
    journal.write_bytes(kept + b'{"row":29,"fate":"do')  # as a kill in a write leaves it
    with killed_server(tmp_path / "home", 0.05) as client:
        wait_for(lambda: client.get(f"/v1/batches/{made['id']}").json()["request_counts"]["completed"] >= before + 3)
    again = journal.read_bytes()
    assert again.startswith(kept)
    with killed_server(tmp_path / "home", 0) as client:
        done = ended(client, made["id"])
        assert done["request_counts"] == {"total": 30, "completed": 30, "failed": 0}
        answers = lines_of(client, done["output_file_id"])
    assert [int(each["custom_id"]) for each in answers] == list(range(30))
    first = {json.loads(line)["record"]["id"] for line in kept.splitlines()}
    assert first <= {each["id"] for each in answers}, "what was answered before the kill was not asked again"
