import asyncio
from pathlib import Path

import msgspec
import pytest

from freehold.core.digest import Digest
from freehold.core.errors import Busy, RateLimited
from freehold.core.request import EmbedRequest, Image, Message, Request
from freehold.core.settings import Settings
from freehold.guard.caller import Caller, asking
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
async def test_whoever_is_sent_away_later_is_to_come_again_later(tmp_path: Path):
    settings = Settings(home=tmp_path, parallel=1, queue=2)
    admission, release, said = Admission(settings), asyncio.Event(), []
    tasks = [asyncio.create_task(_occupy(admission, A, release, 250)) for _ in range(3)]
    await soon(lambda: admission.waiting == 2)
    for _ in range(5):
        with pytest.raises(Busy) as caught:
            async with admission.slot(A, 250):
                pass
        said.append(caught.value.retry_after)
    assert said == [10, 15, 20, 20, 20]  # 500 tokens wait, at 50 a second
    release.set()
    await asyncio.gather(*tasks)


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


async def _order(admission: Admission, caller: str, tokens: int, order: list[str], patience: float = 60.0) -> None:
    asking.set(Caller(caller))
    async with admission.slot(A, tokens, patience) as ticket:
        order.append(caller)
        await asyncio.sleep(0)
        ticket.took(tokens)


@in_loop
async def test_a_caller_with_one_request_does_not_wait_for_another_with_two_hundred(tmp_path):
    settings = Settings(home=tmp_path, parallel=1, queue=1000)
    admission, release, order = Admission(settings), asyncio.Event(), []
    first = asyncio.create_task(_occupy(admission, A, release))
    await soon(lambda: not admission._turns[A].empty)
    flood = [asyncio.create_task(_order(admission, "flood", 100, order)) for _ in range(200)]
    await soon(lambda: admission.waiting == 200)
    one = asyncio.create_task(_order(admission, "one", 100, order))
    await soon(lambda: admission.waiting == 201)
    release.set()
    await asyncio.gather(first, one, *flood)
    assert order.index("one") <= 1
    assert len(order) == 201


@in_loop
async def test_long_answers_count_for_as_many_turns(tmp_path):
    settings = Settings(home=tmp_path, parallel=1, queue=1000)
    admission, release, order = Admission(settings), asyncio.Event(), []
    first = asyncio.create_task(_occupy(admission, A, release))
    await soon(lambda: not admission._turns[A].empty)
    both = [asyncio.create_task(_order(admission, "long", 1000, order)) for _ in range(20)]
    both += [asyncio.create_task(_order(admission, "short", 100, order)) for _ in range(100)]
    await soon(lambda: admission.waiting == 120)
    release.set()
    await asyncio.gather(first, *both)
    assert 4 <= order[:55].count("long") <= 6


@in_loop
async def test_a_newcomer_finds_room_in_a_queue_that_another_filled(settings: Settings):
    admission, release, order = Admission(settings), asyncio.Event(), []
    asking.set(Caller("flood"))
    running = [asyncio.create_task(_occupy(admission, A, release)) for _ in range(2)]
    await soon(lambda: len(admission._turns[A].running) == 2)
    flood = []
    for number in range(2):
        flood.append(asyncio.create_task(_order(admission, "flood", 10, order)))
        await soon(lambda number=number: admission.waiting == number + 1)
    one = asyncio.create_task(_order(admission, "one", 10, order))
    await asyncio.wait({flood[1]})
    assert isinstance(flood[1].exception(), RateLimited)
    assert admission.waiting == 2
    release.set()
    await asyncio.gather(*running, one, flood[0])
    assert sorted(order) == ["flood", "one"]


@in_loop
async def test_nobody_waits_for_longer_than_the_settings_say(tmp_path):
    admission = Admission(Settings(home=tmp_path, parallel=1, queue_seconds=0.05))
    async with admission.slot(A, 1):
        with pytest.raises(Busy, match="turn did not come") as caught:
            async with admission.slot(A, 1):
                pass
        assert (caught.value.status, admission.waiting) == (503, 0)
    async with admission.slot(A, 1):
        pass


@in_loop
async def test_a_client_that_waits_for_less_is_told_sooner(tmp_path):
    admission = Admission(Settings(home=tmp_path, parallel=1))
    async with admission.slot(A, 1):
        asking.set(Caller("hasty", patience=0.05))
        with pytest.raises(Busy, match="turn did not come"):
            async with admission.slot(A, 1):
                pass


@in_loop
async def test_a_wait_that_will_be_too_long_is_not_begun(tmp_path):
    admission = Admission(Settings(home=tmp_path, parallel=1))
    async with admission.slot(A, 10) as ticket:
        await asyncio.sleep(0.05)
        ticket.took(10)
    async with admission.slot(A, 1_000_000):
        with pytest.raises(Busy, match="would wait for about"):
            async with admission.slot(A, 1, patience=100.0):
                pass
        assert admission.waiting == 0


@in_loop
async def test_a_place_that_comes_when_its_client_leaves_goes_to_the_next(tmp_path):
    admission, order = Admission(Settings(home=tmp_path, parallel=1)), []
    async with admission.slot(A, 1):
        leaving = asyncio.create_task(_order(admission, "leaving", 1, order))
        staying = asyncio.create_task(_order(admission, "staying", 1, order))
        await soon(lambda: admission.waiting == 2)
    leaving.cancel()  # it has been called, and has not heard it yet
    await asyncio.wait_for(staying, 5)
    assert order == ["staying"]


@in_loop
async def test_more_places_are_given_at_once_and_fewer_as_soon_as_they_are_free(tmp_path):
    settings = Settings(home=tmp_path, parallel=1, queue=10)
    admission, release = Admission(settings), asyncio.Event()
    tasks = [asyncio.create_task(_occupy(admission, A, release)) for _ in range(4)]
    await soon(lambda: admission.waiting == 3)
    admission.adopt(msgspec.structs.replace(settings, parallel=3))
    await soon(lambda: admission.waiting == 1)
    admission.adopt(msgspec.structs.replace(settings, parallel=1))
    assert len(admission._turns[A].running) == 3
    release.set()
    await asyncio.gather(*tasks)


@in_loop
async def test_a_server_that_stops_sends_the_queue_away_and_lets_the_others_end(tmp_path):
    admission, release = Admission(Settings(home=tmp_path, parallel=1)), asyncio.Event()
    running = asyncio.create_task(_occupy(admission, A, release))
    await soon(lambda: not admission._turns[A].empty)
    waiting = asyncio.create_task(_occupy(admission, A, release))
    await soon(lambda: admission.waiting == 1)
    admission.close()
    with pytest.raises(Busy, match="stopping"):
        await waiting
    with pytest.raises(Busy, match="stopping"):
        async with admission.slot(A, 1):
            pass
    release.set()
    await running


def test_an_image_counts_as_its_projector_says_or_as_the_context():
    images = (Image(b"", "image/png", 1, 1), Image(b"", "image/png", 1, 1))
    request = Request(model="m", messages=(Message("user", "", images=images),), max_tokens=50)
    assert cost(request, 4096, 256) == 2 * 256 + 1 + 50
    assert cost(request, 4096) == 4096 + 50
    assert cost(request, 300, 256) == 300 + 50
