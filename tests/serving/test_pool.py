import asyncio
import math
from contextlib import contextmanager

import msgspec
import pytest

from freehold.core.digest import Digest
from freehold.core.errors import BadModelFile, Busy, NotEnoughMemory, WorkerFailed
from freehold.core.request import FOREVER
from freehold.core.settings import Settings
from freehold.engines.base import ModelFile
from freehold.serving.pool import Key, Pool
from tests.serving.support import FakeEngine, in_loop, soon


class Leases:
    """Counts the leases that are held."""

    def __init__(self) -> None:
        self.held = 0

    @contextmanager
    def __call__(self):
        self.held += 1
        yield
        self.held -= 1


def _key(name: str, embedding: bool = False) -> Key:
    return Key(Digest.of_bytes(name.encode()), embedding)


def _model(tmp_path, name: str) -> ModelFile:
    return ModelFile(tmp_path / name, name)


@in_loop
async def test_a_second_request_finds_the_first_ones_worker(settings: Settings, tmp_path):
    engine, leases = FakeEngine(), Leases()
    pool = Pool(engine, settings)
    for _ in range(2):
        async with pool.worker(_key("a"), _model(tmp_path, "a"), leases) as worker:
            assert worker.alive
    assert len(engine.workers) == 1
    assert pool.workers[0].served == 2
    await pool.close()
    assert leases.held == 0


@in_loop
async def test_simultaneous_requests_start_one_worker(settings: Settings, tmp_path):
    engine = FakeEngine()
    engine.start_seconds = 0.02
    pool = Pool(engine, settings)

    async def use() -> int:
        async with pool.worker(_key("a"), _model(tmp_path, "a"), Leases()) as worker:
            return worker.pid

    assert len(set(await asyncio.gather(*(use() for _ in range(5))))) == 1
    assert len(engine.workers) == 1
    await pool.close()


@in_loop
async def test_text_and_embeddings_are_different_workers(settings: Settings, tmp_path):
    engine = FakeEngine()
    pool = Pool(engine, settings)
    async with pool.worker(_key("a"), _model(tmp_path, "a"), Leases()) as one:
        async with pool.worker(_key("a", True), _model(tmp_path, "a"), Leases()) as two:
            assert one is not two
    await pool.close()


@in_loop
async def test_a_leaving_client_does_not_stop_the_load_for_the_next(settings: Settings, tmp_path):
    engine = FakeEngine()
    engine.start_seconds = 0.05
    pool = Pool(engine, settings)

    async def use() -> None:
        async with pool.worker(_key("a"), _model(tmp_path, "a"), Leases()):
            pass

    first, second = asyncio.create_task(use()), asyncio.create_task(use())
    await asyncio.sleep(0.01)
    first.cancel()
    await second
    assert len(engine.workers) == 1
    await pool.close()


@in_loop
async def test_a_failed_start_reaches_the_caller_and_is_tried_anew(settings: Settings, tmp_path):
    engine, leases = FakeEngine(), Leases()
    pool = Pool(engine, settings)
    engine.start_error = BadModelFile("broken")
    with pytest.raises(BadModelFile):
        async with pool.worker(_key("a"), _model(tmp_path, "a"), leases):
            pass
    assert leases.held == 0
    engine.start_error = None
    async with pool.worker(_key("a"), _model(tmp_path, "a"), leases):
        assert leases.held == 1
    await pool.close()


@in_loop
async def test_room_is_made_by_ending_the_least_recently_used_idle_worker(settings: Settings, tmp_path):
    engine = FakeEngine()
    engine.memory_bytes = 25
    pool = Pool(engine, settings)
    for name in ("a", "b", "a", "c"):
        async with pool.worker(_key(name), _model(tmp_path, name), Leases()):
            pass
    assert {held.model.label for held in pool.workers} == {"a", "c"}
    await pool.close()


@in_loop
async def test_a_worker_in_use_is_not_ended_for_another(settings: Settings, tmp_path):
    engine = FakeEngine()
    engine.memory_bytes = 15
    pool = Pool(engine, settings)
    async with pool.worker(_key("a"), _model(tmp_path, "a"), Leases()) as worker:
        with pytest.raises(Busy) as caught:
            async with pool.worker(_key("b"), _model(tmp_path, "b"), Leases()):
                pass
        assert caught.value.retry_after > 0
        assert worker.alive
    await pool.close()


@in_loop
async def test_who_can_wait_makes_way_before_anybody_is_refused(settings: Settings, tmp_path):
    engine, asked, left = FakeEngine(), [], asyncio.Event()
    engine.memory_bytes = 15

    async def make_way() -> bool:
        asked.append(True)
        left.set()
        await holding
        return len(asked) == 1

    pool = Pool(engine, settings, make_way)

    async def hold() -> None:
        async with pool.worker(_key("a"), _model(tmp_path, "a"), Leases()):
            await left.wait()

    holding = asyncio.create_task(hold())
    await soon(lambda: pool.workers)
    async with pool.worker(_key("b"), _model(tmp_path, "b"), Leases()) as worker:
        assert worker.alive
    assert asked == [True]
    await pool.close()


@in_loop
async def test_a_model_that_never_fits_is_refused_with_numbers(settings: Settings, tmp_path):
    engine = FakeEngine()
    engine.memory_bytes, engine.model_bytes = 100 << 20, 300 << 20
    pool = Pool(engine, settings)
    with pytest.raises(NotEnoughMemory, match=r"needs 300 MiB .* 100 MiB are free"):
        async with pool.worker(_key("a"), _model(tmp_path, "a"), Leases()):
            pass


@in_loop
async def test_idle_workers_end_after_keep_alive(tmp_path):
    engine, leases = FakeEngine(), Leases()
    pool = Pool(engine, Settings(home=tmp_path, keep_alive=0.1))
    async with pool.worker(_key("a"), _model(tmp_path, "a"), leases):
        await asyncio.sleep(0.3)
        assert pool.workers, "in use is not idle"
    await soon(lambda: not pool.workers)
    assert not engine.workers[0].alive
    assert leases.held == 0
    await pool.close()


@in_loop
async def test_a_dead_worker_is_replaced(settings: Settings, tmp_path):
    engine = FakeEngine()
    pool = Pool(engine, settings)
    async with pool.worker(_key("a"), _model(tmp_path, "a"), Leases()):
        engine.workers[0].alive = False
    assert pool.workers == []
    async with pool.worker(_key("a"), _model(tmp_path, "a"), Leases()) as worker:
        assert worker.alive
    await pool.close()


@in_loop
async def test_a_model_whose_workers_keep_dying_rests(settings: Settings, tmp_path):
    engine = FakeEngine()
    pool = Pool(engine, settings)

    async def use_and_kill() -> None:
        async with pool.worker(_key("a"), _model(tmp_path, "a"), Leases()):
            engine.workers[-1].alive = False

    for _ in range(3):
        await use_and_kill()
    with pytest.raises(Busy, match="died 3 times"):
        await use_and_kill()
    assert len(engine.workers) == 3
    async with pool.worker(_key("b"), _model(tmp_path, "b"), Leases()):
        pass
    await pool.close()


@in_loop
async def test_a_worker_that_answered_before_it_died_is_replaced_however_often(settings: Settings, tmp_path):
    engine = FakeEngine()
    pool = Pool(engine, settings)
    for number in range(20):
        async with pool.worker(_key("a"), _model(tmp_path, "a"), Leases()):
            pass
        async with pool.worker(_key("a"), _model(tmp_path, "a"), Leases()):
            engine.workers[-1].alive = False
        assert len(engine.workers) == number + 1
    await pool.close()


@in_loop
async def test_stop_ends_one_model_or_all(settings: Settings, tmp_path):
    engine = FakeEngine()
    pool = Pool(engine, settings)
    for name in ("a", "b", "c"):
        async with pool.worker(_key(name), _model(tmp_path, name), Leases()):
            pass
    assert await pool.stop(_key("a").digest) == 1
    assert await pool.stop(_key("a").digest) == 0
    assert await pool.stop() == 2
    assert not any(worker.alive for worker in engine.workers)
    await pool.close()


@in_loop
async def test_closing_cancels_a_start(settings: Settings, tmp_path):
    engine, leases = FakeEngine(), Leases()
    engine.start_seconds = 60
    pool = Pool(engine, settings)

    async def use() -> None:
        async with pool.worker(_key("a"), _model(tmp_path, "a"), leases):
            pass

    task = asyncio.create_task(use())
    await soon(lambda: leases.held == 1)
    await pool.close()
    assert leases.held == 0
    with pytest.raises(WorkerFailed):
        await task


@in_loop
async def test_each_request_says_how_long_its_model_stays(settings: Settings, tmp_path):
    engine, leases = FakeEngine(), Leases()
    pool = Pool(engine, settings)

    async def use(name: str, keep_alive: float | None) -> None:
        async with pool.worker(_key(name), _model(tmp_path, name), leases, keep_alive):
            pass

    await use("usual", None)
    await use("long", math.inf)
    await use("short", 0.1)
    left = {held.model.label: held.left for held in pool.workers}
    assert left["long"] == math.inf
    assert settings.keep_alive - 5 < left["usual"] <= settings.keep_alive
    await soon(lambda: {held.model.label for held in pool.workers} == {"usual", "long"})
    await use("usual", 0)
    await soon(lambda: [held.model.label for held in pool.workers] == ["long"])
    assert leases.held == 1
    await pool.close()


@in_loop
async def test_a_released_worker_answers_first(settings: Settings, tmp_path):
    engine = FakeEngine()
    pool = Pool(engine, settings)
    async with pool.worker(_key("a"), _model(tmp_path, "a"), Leases()) as worker:
        assert pool.release(Digest.of_bytes(b"a")) == 1
        await asyncio.sleep(0.15)
        assert worker.alive
    await soon(lambda: not pool.workers)
    await pool.close()


@in_loop
async def test_a_worker_with_more_context_serves_who_needs_less(settings: Settings, tmp_path):
    engine = FakeEngine()
    pool = Pool(engine, settings)
    wide, wider = _key("a")._replace(context=64), _key("a")._replace(context=128)
    async with pool.worker(_key("a"), _model(tmp_path, "a"), Leases()) as first:
        async with pool.worker(wide, _model(tmp_path, "a"), Leases()) as second:
            assert second is not first
            assert first.alive, "it is in use"
    for key in (_key("a"), wide):
        async with pool.worker(key, _model(tmp_path, "a"), Leases()):
            pass
    assert len(engine.workers) == 2
    async with pool.worker(wider, _model(tmp_path, "a"), Leases()):
        assert [worker.alive for worker in engine.workers] == [False, False, True]
    await pool.close()


@in_loop
async def test_a_budget_bounds_what_is_loaded_whatever_is_free(tmp_path):
    engine = FakeEngine()
    pool = Pool(engine, Settings(home=tmp_path, memory=25))
    for name in ("a", "b", "a", "c"):
        async with pool.worker(_key(name), _model(tmp_path, name), Leases()):
            pass
    assert {held.model.label for held in pool.workers} == {"a", "c"}
    async with (
        pool.worker(_key("a"), _model(tmp_path, "a"), Leases()),
        pool.worker(_key("c"), _model(tmp_path, "c"), Leases()),
    ):
        with pytest.raises(Busy, match="in use"):
            async with pool.worker(_key("b"), _model(tmp_path, "b"), Leases()):
                pass
    await pool.close()


@in_loop
async def test_a_model_above_the_budget_is_refused_with_numbers(tmp_path):
    engine = FakeEngine()
    engine.memory_bytes, engine.model_bytes = 900 << 20, 300 << 20
    pool = Pool(engine, Settings(home=tmp_path, memory=200 << 20))
    with pytest.raises(NotEnoughMemory, match="needs 300 MiB and models may take 200 MiB") as caught:
        async with pool.worker(_key("a"), _model(tmp_path, "a"), Leases()):
            pass
    assert "FREEHOLD_MEMORY" in caught.value.remedy


@in_loop
async def test_a_smaller_budget_ends_idle_workers_and_no_others(tmp_path):
    engine, settings = FakeEngine(), Settings(home=tmp_path, memory=30)
    pool = Pool(engine, settings)
    for name in ("a", "b", "c"):
        async with pool.worker(_key(name), _model(tmp_path, name), Leases()):
            pass
    async with pool.worker(_key("a"), _model(tmp_path, "a"), Leases()) as worker:
        pool.adopt(msgspec.structs.replace(settings, memory=5))
        await soon(lambda: len(pool.workers) == 1)
        assert worker.alive
    await soon(lambda: not pool.workers)
    await pool.close()


@in_loop
async def test_a_pinned_model_is_ended_neither_for_others_nor_for_want_of_work(tmp_path):
    engine = FakeEngine()
    engine.memory_bytes = 25
    pool = Pool(engine, Settings(home=tmp_path, keep_alive=0.05))
    pool.pinned = frozenset({_key("a").digest})
    for name in ("a", "b", "c"):
        async with pool.worker(_key(name), _model(tmp_path, name), Leases()):
            pass
    await soon(lambda: [held.model.label for held in pool.workers] == ["a"])
    engine.memory_bytes = 15
    with pytest.raises(NotEnoughMemory):
        async with pool.worker(_key("b"), _model(tmp_path, "b"), Leases()):
            pass
    await pool.close()


@in_loop
async def test_what_is_to_stay_for_good_is_ended_after_what_is_not(tmp_path):
    engine = FakeEngine()
    engine.memory_bytes = 25
    pool = Pool(engine, Settings(home=tmp_path))
    for name, keep_alive in (("a", FOREVER), ("b", None), ("c", None)):
        async with pool.worker(_key(name), _model(tmp_path, name), Leases(), keep_alive):
            pass
    assert {held.model.label for held in pool.workers} == {"a", "c"}
    await pool.close()


@in_loop
async def test_another_keep_alive_holds_for_what_is_loaded_by_the_old_one(tmp_path):
    engine, settings = FakeEngine(), Settings(home=tmp_path)
    pool = Pool(engine, settings)
    for name, keep_alive in (("a", None), ("b", 1000.0)):
        async with pool.worker(_key(name), _model(tmp_path, name), Leases(), keep_alive):
            pass
    pool.adopt(msgspec.structs.replace(settings, keep_alive=0.05))
    await soon(lambda: [held.model.label for held in pool.workers] == ["b"])
    await pool.close()


@in_loop
async def test_a_worker_has_the_places_that_it_was_started_with(tmp_path):
    engine, settings = FakeEngine(), Settings(home=tmp_path, parallel=2)
    pool = Pool(engine, settings)
    wide = _key("a")._replace(context=64, adapters=frozenset({"x"}))
    async with pool.worker(wide, _model(tmp_path, "a"), Leases()):
        pool.adopt(msgspec.structs.replace(settings, parallel=7))
        assert (pool.places(_key("a")), pool.places(_key("b"))) == (2, 7)
    await pool.close()
    assert pool.places(_key("a")) == 7


@in_loop
async def test_what_is_loading_is_told_until_it_is_there(settings: Settings, tmp_path):
    engine = FakeEngine()
    engine.start_seconds = 0.1
    pool = Pool(engine, settings)

    async def use(name: str) -> None:
        async with pool.worker(_key(name), _model(tmp_path, name), Leases()):
            pass

    tasks = [asyncio.create_task(use(name)) for name in "ab"]
    await soon(lambda: len(pool.loading) == 2)
    await soon(lambda: {loading.part for _, loading in pool.loading} == {0.0, 0.5})  # one after the other
    await asyncio.gather(*tasks)
    assert pool.loading == []
    await pool.close()


@in_loop
async def test_a_model_is_stopped_while_it_is_loaded(settings: Settings, tmp_path):
    engine, leases = FakeEngine(), Leases()
    engine.start_seconds = 30
    pool = Pool(engine, settings)

    async def use(name: str) -> None:
        async with pool.worker(_key(name), _model(tmp_path, name), leases):
            pass

    waiting = [asyncio.create_task(use("a")) for _ in range(2)]
    other = asyncio.create_task(use("b"))
    await soon(lambda: len(pool.loading) == 2)
    assert await pool.stop(_key("a").digest) == 1
    for task in waiting:
        with pytest.raises(WorkerFailed, match="a was stopped while it was loaded"):
            await task
    assert [loading.model.label for _, loading in pool.loading] == ["b"], "it goes on"
    assert await pool.stop() == 1
    with pytest.raises(WorkerFailed):
        await other
    assert (engine.workers, leases.held, await pool.stop()) == ([], 0, 0)
    engine.start_seconds = 0
    await use("a")
    assert len(pool.workers) == 1
    await pool.close()


@in_loop
async def test_one_that_died_is_not_replaced_where_another_can_serve(settings: Settings, tmp_path):
    engine, leases = FakeEngine(), Leases()
    pool = Pool(engine, settings)
    wide = _key("a")._replace(context=64)
    async with pool.worker(_key("a"), _model(tmp_path, "a"), leases):
        async with pool.worker(wide, _model(tmp_path, "a"), leases):
            engine.workers[0].alive = False
            async with pool.worker(_key("a"), _model(tmp_path, "a"), leases) as worker:
                assert worker is engine.workers[1]
    for each in engine.workers:
        each.alive = False
    async with pool.worker(_key("a"), _model(tmp_path, "a"), leases) as worker:
        assert worker.alive
        assert (len(engine.workers), leases.held) == (3, 1), "what is left of both is given back"
    await pool.close()
