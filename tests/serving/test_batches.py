"""Batches of a kind of their own: what ends them, and what one of them costs the others."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from freehold.core.errors import BadInput, FreeholdError, NotFound
from freehold.core.event import Usage
from freehold.core.settings import Settings
from freehold.serving.batches import Answer, Batches
from freehold.serving.desk import Desk
from freehold.serving.jobs import Folder, Job, Journal
from freehold.store import Store
from tests.serving.support import FakeEngine, in_loop, soon

PATIENCE = 50.0
"""Seconds: disks write late where others are at work."""


class Words:
    """Rows are words, each its own id; its answer is the word in capitals."""

    name = "words"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = asyncio.Event()
        self.at_end: Callable[[Job], None] = lambda job: None

    def check(self, job: Job, row: bytes) -> str:
        if row == b"bad":
            raise BadInput("it is bad", "Send another")
        return row.decode()

    async def ask(self, desk: Desk, job: Job, row: bytes) -> Answer:
        self.asked.append(row.decode())
        await self.go.wait()
        if row == b"no":
            raise BadInput("never")
        return Answer(row.decode().upper(), Usage(1, 2))

    def record(self, job: Job, row: bytes, answer: Answer | FreeholdError) -> Any:
        return answer.body if isinstance(answer, Answer) else answer.message

    def left(self, job: Job, row: bytes) -> Any:
        return f"left {row.decode()}"

    def finish(self, desk: Desk, job: Job, folder: Folder, journal: Journal) -> None:
        self.at_end(job)
        folder.results.write_bytes(b"\n".join(journal.records("done", "failed", "left")))


class Bench:
    """Batches of words, one row at a time."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.desk, self.kind = settings, Desk(settings, store, FakeEngine()), Words()
        self.jobs.kinds = {"words": self.kind}
        self.jobs._hands = 1

    @property
    def jobs(self) -> Batches:
        return self.desk.batches

    async def add(self, *rows: str, seconds: float = 99.0) -> Job:
        path = self.settings.home / f"in-{time.monotonic_ns()}"
        path.write_text("\n".join(rows))
        return await self.jobs.create("words", "batch", path, seconds, {})

    async def ended(self, job: Job, status: str = "completed") -> str:
        await soon(lambda: job.ended, PATIENCE)
        assert job.status == status, job.faults
        results = self.jobs.folder(job).results
        return results.read_text() if results.exists() else ""


@asynccontextmanager
async def bench_of(settings: Settings, store: Store) -> AsyncIterator[Bench]:
    bench = Bench(settings, store)
    try:
        yield bench
    finally:
        await bench.desk.close()


@in_loop
async def test_rows_are_answered_refused_and_counted(settings: Settings, store: Store):
    async with bench_of(settings, store) as bench:
        bench.kind.go.set()
        job = await bench.add("one", "no", "", "two")
        assert await bench.ended(job) == '"ONE"\n"never"\n"TWO"'
        assert (job.total, job.done, job.failed, job.left, job.usage) == (3, 2, 1, 0, Usage(2, 4))
        assert await bench.jobs.all("another kind") == []
        with pytest.raises(NotFound):
            await bench.jobs.get("another kind", job.id)
        with pytest.raises(BadInput, match="completed already"):
            await bench.jobs.cancel("words", job.id)
        await bench.jobs.remove("words", job.id)
        with pytest.raises(NotFound):
            await bench.jobs.remove("words", job.id)
        assert list(settings.batches.iterdir()) == []


@in_loop
async def test_a_batch_that_is_cancelled_accounts_for_every_row(settings: Settings, store: Store):
    async with bench_of(settings, store) as bench:
        job = await bench.add("one", "two", "three")
        await soon(lambda: bench.kind.asked == ["one"], PATIENCE)
        with pytest.raises(BadInput, match="the batch is in_progress"):
            await bench.jobs.remove("words", job.id)
        await bench.jobs.cancel("words", job.id)
        assert await bench.ended(job, "cancelled") == '"left one"\n"left two"\n"left three"'
        assert (job.done, job.failed, job.left) == (0, 0, 3)


@pytest.mark.parametrize("end", ["completed", "cancelled"])
@in_loop
async def test_settings_that_change_hold_for_the_next_batch(settings: Settings, store: Store, end: str):
    async with bench_of(settings, store) as bench:
        job = await bench.add("one", "x" * 2000, "two")
        await soon(lambda: bench.kind.asked == ["one"], PATIENCE)
        bench.desk.adopt(msgspec.structs.replace(settings, max_body=1024))
        if end == "cancelled":
            await bench.jobs.cancel("words", job.id)
        bench.kind.go.set()
        found = await bench.ended(job, end)
        assert [len(line) for line in found.splitlines()] == ([5, 2002, 5] if end == "completed" else [10, 2007, 10])
        refused = await bench.add("x" * 2000)
        await bench.ended(refused, "failed")
        assert "line 1 is longer than 1024 bytes" in refused.faults[0].message


@in_loop
async def test_a_batch_whose_time_is_over_keeps_what_it_has(settings: Settings, store: Store):
    async with bench_of(settings, store) as bench:
        job = await bench.add("one", "two", seconds=0.1)
        assert await bench.ended(job, "expired") == '"left one"\n"left two"'


@in_loop
async def test_a_folder_that_was_removed_costs_its_batch_alone(settings: Settings, store: Store):
    async with bench_of(settings, store) as bench:
        gone, next_one = await bench.add("one"), await bench.add("two")
        await soon(lambda: bench.kind.asked == ["one"], PATIENCE)
        shutil.rmtree(bench.jobs.folder(gone).path)
        bench.kind.go.set()
        assert await bench.ended(next_one) == '"TWO"'
        assert gone.status == "failed"


@in_loop
async def test_an_end_that_fails_is_told_and_costs_no_other(settings: Settings, store: Store, caplog: Any):
    def at_end(job: Job) -> None:
        if job.total == 2:
            raise BadInput("cannot write out.jsonl", "Choose another place")
        if job.total == 3:
            raise ZeroDivisionError

    async with bench_of(settings, store) as bench:
        bench.kind.go.set()
        bench.kind.at_end = at_end
        jobs = [await bench.add("a", "b"), await bench.add("a", "b", "c"), await bench.add("a")]
        assert await bench.ended(jobs[2]) == '"A"'
        assert [(job.status, [fault.code for fault in job.faults]) for job in jobs] == [
            ("failed", ["invalid_request_error"]), ("failed", ["internal_error"]), ("completed", []),
        ]  # fmt: skip
        assert jobs[0].faults[0].message == "cannot write out.jsonl. Choose another place"
        assert "ZeroDivisionError" in caplog.text, "the log says why"
        assert "ZeroDivision" not in jobs[1].faults[0].message
