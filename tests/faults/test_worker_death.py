"""Workers that die, hang, or lose their parent; a real llama.cpp each time."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import msgspec
import psutil
import pytest

from freehold.core.errors import WorkerFailed
from freehold.core.event import Failed, Finished, Text
from freehold.core.request import Request, Sampling
from freehold.core.settings import Settings
from freehold.engines.base import ModelFile
from freehold.engines.llamacpp import LlamaCpp
from freehold.serving.desk import Desk
from freehold.store import Store
from tests.serving.support import add_gguf, in_loop, soon, wait_for
from tests.tiny import write_gguf

LONG = Request(model="slow", prompt="The quick", max_tokens=3000, sampling=Sampling(logit_bias={0: -100, 2: -100}))


@pytest.fixture(scope="module")
def slow_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("slow") / "slow.gguf", hidden=512, layers=4, context=4096)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", threads=1, parallel=2)


@asynccontextmanager
async def _worker(path: Path, settings: Settings):
    worker = await LlamaCpp().start(ModelFile(path, "slow"), settings)
    try:
        yield worker
    finally:
        await worker.stop()


@asynccontextmanager
async def _desk(path: Path, settings: Settings):
    with Store.open(settings.store) as store:
        add_gguf(store, "slow", path)
        desk = Desk(settings, store, LlamaCpp())
        try:
            yield desk
        finally:
            await desk.pool.close()


async def _slots_in_use(worker) -> int:
    answer = await worker._channel.ask("GET", "/slots")
    return sum(slot["is_processing"] for slot in json.loads(answer.content))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGTERM])
@in_loop
async def test_a_death_within_a_stream_fails_it_soon_and_the_next_request_is_answered(slow_gguf, settings, number):
    async with _desk(slow_gguf, settings) as desk:
        opened = await desk.open(LONG)
        (held,) = desk.pool.workers
        for _ in range(5):
            assert isinstance(await anext(opened.rest), Text)
        os.kill(held.worker.pid, number)
        began = time.monotonic()
        *_, last = [event async for event in opened.rest]
        assert time.monotonic() - began < 2
        assert isinstance(last, Failed)
        assert isinstance(last.error, WorkerFailed)
        assert "signal" in last.error.message
        again = [event async for event in desk.generate(Request(model="slow", prompt="The", max_tokens=2))]
        assert isinstance(again[-1], Finished)
        assert desk.pool.workers[0].worker.pid != held.worker.pid


@in_loop
async def test_a_death_fails_all_that_it_held_and_no_other_model(slow_gguf, settings, tmp_path):
    tiny = write_gguf(tmp_path / "tiny.gguf")
    async with _desk(slow_gguf, settings) as desk:
        add_gguf(desk.store, "tiny", tiny)
        first, second = await desk.open(LONG), await desk.open(LONG)
        (held,) = desk.pool.workers
        other = asyncio.create_task(_all(desk, Request(model="tiny", prompt="a", max_tokens=200)))
        await soon(lambda: len(desk.pool.workers) == 2)
        os.kill(held.worker.pid, signal.SIGKILL)
        for opened in (first, second):
            *_, last = [event async for event in opened.rest]
            assert isinstance(last, Failed)
        assert isinstance((await other)[-1], Finished)


async def _all(desk: Desk, request: Request) -> list:
    return [event async for event in desk.generate(request)]


@in_loop
async def test_an_idle_death_is_unnoticed_by_the_next_request(slow_gguf, settings):
    async with _desk(slow_gguf, settings) as desk:
        small = Request(model="slow", prompt="The", max_tokens=2)
        await _all(desk, small)
        os.kill(desk.pool.workers[0].worker.pid, signal.SIGKILL)
        await soon(lambda: not desk.pool.workers)
        assert isinstance((await _all(desk, small))[-1], Finished)


@in_loop
async def test_a_stopped_worker_is_found_hanging(slow_gguf, settings):
    async with _desk(slow_gguf, msgspec.structs.replace(settings, stall_seconds=1.0)) as desk:
        opened = await desk.open(LONG)
        await anext(opened.rest)
        os.kill(desk.pool.workers[0].worker.pid, signal.SIGSTOP)
        began = time.monotonic()
        *_, last = [event async for event in opened.rest]
        assert time.monotonic() - began < 5
        assert isinstance(last, Failed)
        assert "no progress" in last.error.message


@in_loop
async def test_closing_a_stream_frees_its_slot_while_it_writes(slow_gguf, settings):
    async with _worker(slow_gguf, settings) as worker:
        async with aclosing(worker.generate(LONG)) as one, aclosing(worker.generate(LONG)) as other:
            for _ in range(3):
                await anext(one)
                await anext(other)
            assert await _slots_in_use(worker) == 2
            await one.aclose()
            began = time.monotonic()
            while await _slots_in_use(worker) == 2:
                assert time.monotonic() - began < 1
                await asyncio.sleep(0.01)
            assert isinstance(await anext(other), Text), "the other one goes on"


@in_loop
async def test_closing_a_stream_frees_its_slot_while_it_reads_the_prompt(slow_gguf, settings):
    reading = msgspec.structs.replace(LONG, prompt="a b c d e f " * 300, max_tokens=1000)
    async with _worker(slow_gguf, settings) as worker:
        async with aclosing(worker.generate(reading)) as events:
            await anext(events)
            assert await _slots_in_use(worker) == 1
        began = time.monotonic()
        while await _slots_in_use(worker):
            assert time.monotonic() - began < 20
            await asyncio.sleep(0.02)


ORPHAN = """
import asyncio, sys
from pathlib import Path
from freehold.core.settings import Settings
from freehold.engines.base import ModelFile
from freehold.engines.llamacpp import LlamaCpp

async def main():
    worker = await LlamaCpp().start(ModelFile(Path(sys.argv[1]), "slow"), Settings(home=Path(sys.argv[2]), threads=1))
    print(worker.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def test_a_worker_does_not_outlive_its_parent(slow_gguf, tmp_path):
    command = [sys.executable, "-c", ORPHAN, str(slow_gguf), str(tmp_path)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    worker = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    wait_for(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, 3)
