import asyncio
from pathlib import Path

import pytest

from freehold.core.digest import Digest
from freehold.core.errors import Busy
from freehold.core.request import EmbedRequest, Image, Message, Request
from freehold.core.settings import Settings
from freehold.serving.admission import Admission, Preempted, cost, embedding_cost
from freehold.serving.pool import Key
from tests.serving.support import in_loop, soon

A = Key(Digest.of_bytes(b"a"), False)
B = Key(Digest.of_bytes(b"b"), False)


def test_cost_counts_prompt_and_answer_of_every_choice():
    request = Request(model="m", messages=(Message("user", "x" * 299),), max_tokens=50, n=3)
    assert cost(request, 4096) == 3 * (100 + 50)


def test_cost_is_bounded_by_the_context():
    request = Request(model="m", prompt="x" * 1_000_000)
    assert cost(request, 512) == 2 * 512


def test_embedding_cost_counts_texts_and_tokens():
    assert embedding_cost(EmbedRequest(model="m", inputs=("x" * 29, (1, 2, 3)))) == 10 + 3


async def _occupy(admission: Admission, key: Key, release: asyncio.Event, tokens: int = 10) -> None:
    async with admission.slot(key, tokens):
        await release.wait()


@in_loop
async def test_as_many_run_as_are_parallel_and_the_rest_wait(settings: Settings):
    admission, release = Admission(settings), asyncio.Event()
    tasks = [asyncio.create_task(_occupy(admission, A, release)) for _ in range(4)]
    await soon(lambda: admission.waiting == 2)
    assert admission.waiting_tokens == 20
    release.set()
    await asyncio.gather(*tasks)
    assert (admission.waiting, admission.waiting_tokens) == (0, 0)


@in_loop
async def test_a_full_queue_refuses_at_once_with_a_time(settings: Settings):
    admission, release = Admission(settings), asyncio.Event()
    tasks = [asyncio.create_task(_occupy(admission, A, release)) for _ in range(4)]
    await soon(lambda: admission.waiting == 2)
    with pytest.raises(Busy) as caught:
        async with admission.slot(A, 1):
            pass
    assert caught.value.status == 503
    assert 1 <= caught.value.retry_after <= 60
    release.set()
    await asyncio.gather(*tasks)
    async with admission.slot(A, 1):
        pass


@in_loop
async def test_tokens_bound_the_queue_too(tmp_path):
    settings = Settings(home=tmp_path, parallel=1, queue=100, queue_tokens=25)
    admission, release = Admission(settings), asyncio.Event()
    tasks = [asyncio.create_task(_occupy(admission, A, release)) for _ in range(3)]
    await soon(lambda: admission.waiting_tokens == 20)
    with pytest.raises(Busy, match="20 tokens"):
        async with admission.slot(A, 10):
            pass
    release.set()
    await asyncio.gather(*tasks)


@in_loop
async def test_a_large_request_runs_when_nothing_waits(tmp_path):
    admission = Admission(Settings(home=tmp_path, parallel=1, queue_tokens=5))
    async with admission.slot(A, 1_000_000):
        pass


@in_loop
async def test_another_model_does_not_wait_for_the_first(settings: Settings):
    admission, release = Admission(settings), asyncio.Event()
    tasks = [asyncio.create_task(_occupy(admission, A, release)) for _ in range(4)]
    await soon(lambda: admission.waiting == 2)
    async with admission.slot(B, 1):
        pass
    release.set()
    await asyncio.gather(*tasks)


@in_loop
async def test_who_leaves_the_queue_leaves_no_trace(settings: Settings):
    admission, release = Admission(settings), asyncio.Event()
    tasks = [asyncio.create_task(_occupy(admission, A, release)) for _ in range(4)]
    await soon(lambda: admission.waiting == 2)
    tasks[3].cancel()
    await soon(lambda: admission.waiting == 1)
    assert admission.waiting_tokens == 10
    release.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with admission.slot(A, 1), admission.slot(A, 1):
        pass


async def _behind(admission: Admission, key: Key, release: asyncio.Event, seen: list[str], name: str = "row") -> None:
    async with admission.background(), admission.slot(key, 10):
        seen.append(f"{name} begins")
        await release.wait()
        seen.append(f"{name} ends")


@in_loop
async def test_the_background_waits_until_nobody_asks(settings: Settings):
    admission, release, seen = Admission(settings), asyncio.Event(), []
    asking = asyncio.create_task(_occupy(admission, A, release))
    await asyncio.sleep(0)
    row = asyncio.create_task(_behind(admission, B, release, seen))
    await asyncio.sleep(0.02)
    assert seen == []
    release.set()
    await asyncio.gather(asking, row)
    assert seen == ["row begins", "row ends"]


@in_loop
async def test_the_youngest_row_steps_aside_for_who_would_wait(settings: Settings):
    admission, release, seen = Admission(settings), asyncio.Event(), []
    rows = []
    for name in ("old", "young"):
        rows.append(asyncio.create_task(_behind(admission, A, release, seen, name)))
        await soon(lambda name=name: f"{name} begins" in seen)
    async with admission.slot(B, 10):
        await asyncio.sleep(0.01)
        assert not any(row.done() for row in rows), "it has a place of its own"
    async with admission.slot(A, 10):
        await soon(lambda: rows[1].done())
        assert isinstance(rows[1].exception(), Preempted)
        assert not rows[0].done()
    release.set()
    await rows[0]
    assert admission.waiting == 0


@in_loop
async def test_all_of_the_background_makes_way_and_it_does_not_for_itself(settings: Settings):
    admission, release, seen = Admission(settings), asyncio.Event(), []
    assert await admission.make_way() is False
    rows = [asyncio.create_task(_behind(admission, A, release, seen)) for _ in range(2)]
    await soon(lambda: len(seen) == 2)
    assert await admission.make_way() is True
    assert [type(row.exception()) for row in rows] == [Preempted, Preempted]

    async def itself() -> bool:
        async with admission.background():
            return await admission.make_way()

    assert await asyncio.create_task(itself()) is False


@in_loop
async def test_a_row_that_is_cancelled_by_another_is_cancelled(settings: Settings):
    admission, seen = Admission(settings), []
    row = asyncio.create_task(_behind(admission, A, asyncio.Event(), seen))
    await soon(lambda: seen)
    row.cancel()
    await asyncio.wait({row})
    assert row.cancelled()


def test_whoever_comes_finds_a_place():
    assert Admission(Settings(home=Path("/x"), parallel=4)).spare == 3
    assert Admission(Settings(home=Path("/x"), parallel=1)).spare == 1


def test_an_image_counts_as_its_projector_says_or_as_the_context():
    images = (Image(b"", "image/png", 1, 1), Image(b"", "image/png", 1, 1))
    request = Request(model="m", messages=(Message("user", "", images=images),), max_tokens=50)
    assert cost(request, 4096, 256) == 2 * 256 + 1 + 50
    assert cost(request, 4096) == 4096 + 50
    assert cost(request, 300, 256) == 300 + 50
