import logging

import msgspec
import pytest

from freehold.core.errors import BadModelFile
from freehold.core.request import Request
from freehold.core.settings import Settings
from freehold.serving.desk import Desk
from freehold.store import Store
from tests.serving.support import FakeEngine, add_model, in_loop, soon


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def desk(settings: Settings, store: Store, engine: FakeEngine) -> Desk:
    for name in ("a", "b"):
        add_model(store, name)
    return Desk(msgspec.structs.replace(settings, pinned=("a",), keep_alive=0.05), store, engine)


def loaded(desk: Desk) -> list[str]:
    return sorted(held.model.label for held in desk.pool.workers)


@in_loop
async def test_pinned_models_are_there_from_the_start_and_stay(desk: Desk):
    assert await desk.unready() == "pinned models are not loaded"
    desk.pins.start()
    await soon(lambda: loaded(desk) == ["a:latest"] or loaded(desk) == ["a"])
    assert await desk.unready() == ""
    await desk.load(Request(model="a"))
    await desk.load(Request(model="b"))
    await soon(lambda: len(loaded(desk)) == 1)
    assert desk.pool.workers[0].key.digest in desk.pool.pinned
    await desk.close()


@in_loop
async def test_a_pinned_model_whose_worker_died_is_loaded_again(desk: Desk, engine: FakeEngine):
    desk.pins.start()
    await soon(lambda: engine.workers)
    engine.workers[0].alive = False
    assert await desk.unready() == "pinned models are not loaded"
    desk.pins.wake()
    await soon(lambda: len(engine.workers) == 2)
    assert await desk.unready() == ""
    await desk.close()


@in_loop
async def test_other_settings_pin_other_models(desk: Desk):
    desk.pins.start()
    await soon(lambda: len(loaded(desk)) == 1)
    before = loaded(desk)
    desk.adopt(msgspec.structs.replace(desk.settings, pinned=("b",)))
    await soon(lambda: len(loaded(desk)) == 1 and loaded(desk) != before)
    desk.adopt(msgspec.structs.replace(desk.settings, pinned=()))
    await soon(lambda: loaded(desk) == [])
    assert await desk.unready() == ""
    await desk.close()


@in_loop
async def test_what_a_pinned_name_means_may_change(desk: Desk, store: Store):
    desk.pins.start()
    await soon(lambda: len(loaded(desk)) == 1)
    (old,) = desk.pool.pinned
    add_model(store, "a", b"other weights")
    desk.pins.wake()
    await soon(lambda: desk.pool.pinned and old not in desk.pool.pinned)
    await soon(lambda: [held.key.digest for held in desk.pool.workers] == list(desk.pool.pinned))
    await desk.close()


@in_loop
async def test_what_cannot_be_loaded_is_said_once(desk: Desk, engine: FakeEngine, caplog: pytest.LogCaptureFixture):
    engine.start_error = BadModelFile("the file is broken")
    desk.adopt(msgspec.structs.replace(desk.settings, pinned=("a", "nobody")))
    with caplog.at_level(logging.WARNING):
        desk.pins.start()
        await soon(lambda: len(caplog.messages) == 2)
        for _ in range(3):
            desk.pins.wake()
            await soon(lambda: not desk.pins._look.is_set())
    assert sorted(message.split()[0] for message in caplog.messages) == ["a", "nobody"]
    assert await desk.unready() == "pinned models are not loaded"
    engine.start_error = None
    await desk.close()
