import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from freehold.core.settings import Settings
from freehold.serving import batches
from freehold.serving.app import create_app
from freehold.store import Store
from tests.dialects.test_openai_batches import killed_server
from tests.serving.support import FakeEngine, add_model, live, wait_for

PARAMS = {"model": "helpdesk", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
THEIRS = {"anthropic-version": "2023-06-01"}
BATCHES = "/v1/messages/batches"


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def client(settings: Settings, store: Store, engine: FakeEngine) -> Iterator[httpx.Client]:
    add_model(store, "helpdesk")
    app = create_app(settings, store, engine=engine)
    with live(app) as url, httpx.Client(base_url=url, headers=THEIRS, timeout=20) as opened:
        yield opened


def rows(count: int, **params: Any) -> list[dict[str, Any]]:
    return [{"custom_id": f"r{i}", "params": {**PARAMS, **params}} for i in range(count)]


def begin(client: httpx.Client, requests: list[dict[str, Any]], path: str = BATCHES) -> Any:
    answer = client.post(path, json={"requests": requests})
    assert answer.status_code == 200, answer.text
    return answer.json()


def ended(client: httpx.Client, identifier: str, seconds: float = 15) -> Any:
    end = time.monotonic() + seconds
    while (found := client.get(f"{BATCHES}/{identifier}").json())["processing_status"] != "ended":
        assert time.monotonic() < end, found
        time.sleep(0.02)
    return found


def results(client: httpx.Client, batch: Any) -> list[Any]:
    answer = client.get(batch["results_url"])
    assert answer.headers["content-type"].startswith("application/x-jsonl")
    return [json.loads(line) for line in answer.text.splitlines()]


@pytest.mark.parametrize("mount", ["/v1", "/anthropic/v1"])
def test_a_batch_from_its_beginning_to_its_end(client: httpx.Client, mount: str):
    wrong = {"custom_id": "wrong", "params": {**PARAMS, "temperature": 7}}
    unknown = {"custom_id": "unknown", "params": {**PARAMS, "model": "nobody"}}
    made = begin(client, [*rows(3), wrong, unknown], f"{mount}/messages/batches")
    assert made.items() >= {"type": "message_batch", "processing_status": "in_progress", "ended_at": None}.items()
    assert made["request_counts"] == {"processing": 5, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    assert made["results_url"] is None
    done = ended(client, made["id"])
    assert done["request_counts"] == {"processing": 0, "succeeded": 3, "errored": 2, "canceled": 0, "expired": 0}
    assert done["ended_at"].endswith("Z")
    listed = client.get(f"{mount}/messages/batches").json()["data"][0]
    assert listed["results_url"] == str(client.base_url).rstrip("/") + f"{mount}/messages/batches/{made['id']}/results"
    found = {each["custom_id"]: each["result"] for each in results(client, listed)}
    assert list(found) == ["r0", "r1", "r2", "wrong", "unknown"]
    assert found["r0"]["type"] == "succeeded"
    assert found["r0"]["message"]["content"] == [{"type": "text", "text": "Hello world"}]
    assert found["wrong"]["error"]["error"]["type"] == "invalid_request_error"
    assert "temperature" in found["wrong"]["error"]["error"]["message"]
    assert found["unknown"]["error"]["error"]["type"] == "not_found_error"
    deleted = client.delete(f"{mount}/messages/batches/{made['id']}")
    assert deleted.json() == {"id": made["id"], "type": "message_batch_deleted"}
    for path in (f"{BATCHES}/{made['id']}", f"{BATCHES}/{made['id']}/results"):
        missing = client.get(path)
        assert (missing.status_code, missing.json()["error"]["type"]) == (404, "not_found_error")


def test_a_batch_that_is_cancelled(client: httpx.Client, engine: FakeEngine):
    engine.pause = 0.02
    made = begin(client, rows(100))
    wait_for(lambda: engine.workers and len(engine.workers[0].seen) > 3)
    assert client.delete(f"{BATCHES}/{made['id']}").status_code == 400
    early = client.get(f"{BATCHES}/{made['id']}/results")
    assert (early.status_code, early.json()["error"]["type"]) == (400, "invalid_request_error")
    cancelled = client.post(f"{BATCHES}/{made['id']}/cancel").json()
    assert cancelled["processing_status"] in ("canceling", "ended")
    assert cancelled["cancel_initiated_at"]
    done = ended(client, made["id"])
    counts = done["request_counts"]
    assert counts["canceled"] > 0
    assert sum(counts.values()) == 100
    kinds = [each["result"]["type"] for each in results(client, done)]
    assert len(kinds) == 100
    assert kinds.count("canceled") == counts["canceled"]
    assert kinds.count("succeeded") == counts["succeeded"] > 0


def test_a_batch_whose_time_is_over(client: httpx.Client, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("freehold.dialects.anthropic.batches._WINDOW", 0.4)
    engine.pause = 0.02
    done = ended(client, begin(client, rows(100))["id"])
    assert done["request_counts"]["expired"] > 0
    assert {each["result"]["type"] for each in results(client, done)} <= {"expired", "succeeded"}


def test_pages_in_both_directions(client: httpx.Client):
    ids = [begin(client, rows(1))["id"] for _ in range(3)][::-1]
    first = client.get(f"{BATCHES}?limit=2").json()
    assert ([each["id"] for each in first["data"]], first["has_more"]) == (ids[:2], True)
    rest = client.get(BATCHES, params={"limit": 2, "after_id": first["last_id"]}).json()
    assert ([each["id"] for each in rest["data"]], rest["has_more"]) == (ids[2:], False)
    back = client.get(BATCHES, params={"limit": 1, "before_id": ids[2]}).json()
    assert ([each["id"] for each in back["data"]], back["has_more"]) == ([ids[1]], True)
    assert client.get(f"{BATCHES}?after_id=nothing").status_code == 400


def test_what_cannot_be_a_batch(client: httpx.Client):
    one = rows(1)[0]
    for body, said in (
        ({"requests": []}, "requests"),
        ({}, "requests"),
        ({"requests": [one, one]}, "custom_id 'r0' is that of requests.0 too"),
        ({"requests": [{**one, "custom_id": "a b"}]}, "custom_id"),
        ({"requests": [{**one, "custom_id": "x" * 65}]}, "custom_id"),
        ({"requests": [{"custom_id": "a"}]}, "params"),
        ({"requests": [{**one, "extra": 1}]}, "extra"),
        ({"requests": [one], "extra": 1}, "extra"),
    ):
        refused = client.post(BATCHES, json=body)
        assert refused.status_code == 400
        assert refused.json()["type"] == "error"
        assert said in refused.json()["error"]["message"]
    assert client.get(BATCHES).json() == {"data": [], "has_more": False, "first_id": None, "last_id": None}


def test_the_vendors_batches_do_not_see_each_other(client: httpx.Client):
    made = begin(client, rows(1))
    assert client.get(f"/v1/batches/{made['id']}").status_code == 404
    assert client.get("/v1/batches").json()["data"] == []


def test_a_batch_that_could_not_be_gone_on_with(client: httpx.Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(batches.Batches, "_ask_all", _broken)
    done = ended(client, begin(client, rows(2))["id"])
    assert done["request_counts"]["errored"] == 2
    assert done["results_url"] is None
    assert client.get(f"{BATCHES}/{done['id']}/results").status_code == 400
    monkeypatch.undo()
    assert ended(client, begin(client, rows(1))["id"])["request_counts"]["succeeded"] == 1


async def _broken(*arguments: Any) -> None:
    raise ValueError("nobody thought of this")


def test_a_killed_server_goes_on(tmp_path):
    with killed_server(tmp_path / "home", 0.05) as client:
        made = begin(client, rows(20))
        journal = tmp_path / "home" / "batches" / made["id"] / "journal.jsonl"
        wait_for(lambda: journal.exists() and journal.read_bytes().count(b"\n") >= 3)
    first = [json.loads(line)["record"] for line in journal.read_bytes().splitlines()]
    with killed_server(tmp_path / "home", 0) as client:
        done = ended(client, made["id"])
        found = results(client, done)
    assert done["request_counts"]["succeeded"] == 20
    assert [each["custom_id"] for each in found] == [f"r{i}" for i in range(20)]
    assert all(each in found for each in first), "what was answered before the kill was not asked again"
