"""Batches without a server: the same rows, the same answers, and nothing is asked twice."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from freehold.core.errors import Conflict, NotEnoughMemory, NotFound
from freehold.core.settings import Settings
from freehold.dialects.openai.offline import Wish, answered, checked
from freehold.serving.jobs import Job
from freehold.store import Store
from tests.dialects.test_openai_batches import BODY, row
from tests.serving.support import FakeEngine, add_model, in_loop, soon


@pytest.fixture
def wish(tmp_path: Path, store: Store) -> Wish:
    add_model(store, "helpdesk")
    return Wish(tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "bad.jsonl")


async def run(settings: Settings, store: Store, wish: Wish, lines: list[str], engine: FakeEngine | None = None) -> Job:
    wish.rows.write_text("\n".join(lines))
    return await answered(settings, store, wish, lambda job: None, engine or FakeEngine())


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@in_loop
async def test_rows_are_answered_in_their_order(settings: Settings, store: Store, wish: Wish):
    wrong = row("wrong", {**BODY, "temperature": 9})
    heard: list[tuple[int, int]] = []
    wish.rows.write_text("\n".join([*(row(f"r{i}") for i in range(9)), wrong, ""]))
    job = await answered(settings, store, wish, lambda job: heard.append((job.done, job.total)), FakeEngine())
    assert (job.status, job.total, job.done, job.failed) == ("completed", 10, 9, 1)
    assert (job.usage.prompt_tokens, job.usage.completion_tokens) == (27, 27)
    assert heard[-1] == (9, 10)
    told = read(wish.out)
    assert [each["custom_id"] for each in told] == [f"r{i}" for i in range(9)]
    assert told[0]["response"]["body"]["choices"][0]["message"]["content"] == "Hello world"
    (error,) = read(wish.errors)
    assert (error["custom_id"], error["response"]["status_code"]) == ("wrong", 400)
    assert error["response"]["body"]["error"]["param"] == "temperature"
    assert not list((settings.home / "batch").iterdir())


@pytest.mark.parametrize("url", ["/v1/completions", "/v1/embeddings"])
@in_loop
async def test_other_endpoints_and_another_model(settings: Settings, store: Store, wish: Wish, url: str):
    wish.errors.write_text("of an earlier run")
    body = {"model": "gpt-4o", "prompt": "a"} if "completions" in url else {"model": "gpt-4o", "input": "a"}
    job = await run(settings, store, wish._replace(model="helpdesk"), [row("a", body, url)])
    assert (job.done, job.failed, wish.errors.exists()) == (1, 0, False)
    assert read(wish.out)[0]["response"]["body"]["model"] == "helpdesk"


@in_loop
async def test_what_was_answered_is_not_asked_again(settings: Settings, store: Store, wish: Wish):
    engine, lines = FakeEngine(pause=0.01), [row(f"r{i}") for i in range(12)]
    seen: list[Job] = []
    wish.rows.write_text("\n".join(lines))
    running = asyncio.create_task(answered(settings, store, wish, seen.append, engine))
    await soon(lambda: seen and seen[-1].done >= 4)
    with pytest.raises(Conflict, match=r"in\.jsonl"):
        await answered(settings, store, wish, seen.append, engine)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not wish.out.exists()
    before = sum(len(worker.seen) for worker in engine.workers)
    assert not any(worker.alive for worker in engine.workers)
    job = await run(settings, store, wish, lines, engine)
    assert job.done == 12
    asked = sum(len(worker.seen) for worker in engine.workers)
    assert asked - before <= 8, "at least four were answered"
    assert [each["custom_id"] for each in read(wish.out)] == [f"r{i}" for i in range(12)]


@in_loop
async def test_as_many_at_once_as_a_model_has_places(settings: Settings, store: Store, wish: Wish):
    engine = FakeEngine(pause=0.01)
    await run(settings, store, wish, [row(f"r{i}") for i in range(8)], engine)
    assert engine.workers[0].most_at_once == settings.parallel == 2


@pytest.mark.parametrize(
    ("lines", "line", "why"),
    [
        ([row("a"), "nonsense"], 2, "not usable JSON"),
        ([row("a"), row("a")], 2, "custom_id"),
        ([row("a", url="/v1/images")], 1, "the url is '/v1/images'"),
        ([row("a"), row("b", url="/v1/embeddings")], 2, "/v1/chat/completions alone"),
        ([""], None, "no rows"),
    ],
)
@in_loop
async def test_bad_rows_are_told_and_nothing_is_asked(
    settings: Settings, store: Store, wish: Wish, lines: list[str], line: int | None, why: str
):
    engine = FakeEngine()
    job = await run(settings, store, wish, lines, engine)
    assert (job.status, job.faults[0].line, why in job.faults[0].message) == ("failed", line, True)
    assert not engine.workers
    assert checked(wish)[1] == job.faults
    assert not wish.out.exists()


@in_loop
async def test_what_would_fail_every_row_is_said_once(settings: Settings, store: Store, wish: Wish):
    with pytest.raises(NotFound, match="gpt-4o") as caught:
        await run(settings, store, wish, [row("a", {**BODY, "model": "gpt-4o"})])
    assert "--model" in caught.value.remedy
    engine = FakeEngine()
    engine.model_bytes = 200
    with pytest.raises(NotEnoughMemory):
        await run(settings, store, wish, [row("a")], engine)
    job = await run(settings, store, wish, [row("a", {"messages": BODY["messages"]})])
    assert (job.done, job.failed) == (0, 1), "a row without a model is its own fault"
    assert "model" in read(wish.errors)[0]["response"]["body"]["error"]["message"]


@in_loop
async def test_answers_are_not_lost_with_the_folder_that_they_were_to_go_to(
    settings: Settings, store: Store, wish: Wish, tmp_path: Path
):
    (tmp_path / "answers").mkdir()
    wish = wish._replace(out=tmp_path / "answers" / "out.jsonl")
    wish.rows.write_text(row("r"))

    def tell(job: Job) -> None:
        if wish.out.parent.is_dir() and not job.ended:
            wish.out.parent.rmdir()

    job = await answered(settings, store, wish, tell, FakeEngine())
    assert (job.status, job.done) == ("completed", 1)
    assert [each["custom_id"] for each in read(wish.out)] == ["r"]
