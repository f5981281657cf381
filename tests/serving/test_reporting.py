"""Long work that reports, fails, and is left."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

import pytest

from freehold.core.errors import DiskFull, Interrupted
from freehold.serving.reporting import reports
from tests.serving.support import in_loop, soon


@pytest.fixture
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as made:
        yield made


@in_loop
async def test_reports_come_in_order_and_end(executor: Executor):
    def work(tell) -> None:
        for number in range(5):
            tell(number)

    assert [report async for report in reports(executor, work)] == [0, 1, 2, 3, 4]


@in_loop
async def test_what_it_raises_comes_after_what_it_said(executor: Executor):
    def work(tell) -> None:
        tell("begun")
        raise DiskFull("no room")

    told = reports(executor, work)
    assert await anext(told) == "begun"
    with pytest.raises(DiskFull):
        await anext(told)


@in_loop
async def test_work_that_nobody_waits_for_stops_at_its_next_report(executor: Executor):
    go, stopped = threading.Event(), threading.Event()

    def work(tell) -> None:
        tell("begun")
        go.wait(5)
        try:
            tell("more")
        except Interrupted:
            stopped.set()
            raise

    told = reports(executor, work)
    assert await anext(told) == "begun"
    await told.aclose()
    go.set()
    await soon(stopped.is_set)


@in_loop
async def test_work_that_waits_for_its_turn_ends_when_left(executor: Executor):
    go = threading.Event()
    first = reports(executor, lambda tell: (tell("on"), go.wait(5)))
    assert await anext(first) == "on"
    second = reports(executor, lambda tell: tell("never"))
    waiting = asyncio.ensure_future(anext(second))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    go.set()
    await first.aclose()
