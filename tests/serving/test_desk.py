import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from freehold.core.digest import Digest
from freehold.core.errors import BadInput, Busy, ContextOverflow, Timeout, UnknownModel, Unsupported, WorkerFailed
from freehold.core.event import Failed, Finished, Started, Text
from freehold.core.name import Name
from freehold.core.request import Constraint, EmbedRequest, Message, Request, RerankRequest
from freehold.core.settings import Settings
from freehold.serving.desk import Desk
from freehold.store import Store
from freehold.store.check import prune
from freehold.store.importing import import_gguf
from tests.pictures import picture, seen
from tests.serving.support import FakeEngine, add_model, in_loop, soon
from tests.store.models import gguf, projector


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def desk(settings: Settings, store: Store, engine: FakeEngine) -> Desk:
    add_model(store, "helpdesk")
    return Desk(settings, store, engine)


def _ask(**fields) -> Request:
    return Request(**{"model": "helpdesk", "messages": (Message("user", "hi"),), **fields})


async def _all(desk: Desk, request: Request) -> list:
    async with aclosing(desk.generate(request)) as events:
        return [event async for event in events]


@in_loop
async def test_a_request_becomes_events(desk: Desk):
    events = await _all(desk, _ask())
    assert isinstance(events[0], Started)
    assert "".join(event.text for event in events if isinstance(event, Text)) == "Hello world"
    assert isinstance(events[-1], Finished)
    await desk.pool.close()


@in_loop
async def test_no_worker_starts_before_a_request(desk: Desk, engine: FakeEngine):
    assert engine.workers == []
    assert [str(entry.name) for entry in await desk.models()] == ["helpdesk"]
    assert engine.workers == []


@pytest.mark.parametrize("name", ["nobody", "no such/../thing", "help desk", "x" * 200, "sha256:" + "0" * 64])
@in_loop
async def test_an_unknown_name_is_an_unknown_model(desk: Desk, name: str):
    with pytest.raises(UnknownModel):
        await _all(desk, _ask(model=name))
    with pytest.raises(UnknownModel):
        await desk.model(name)


@in_loop
async def test_the_nearest_names_are_in_the_remedy(desk: Desk):
    with pytest.raises(UnknownModel) as caught:
        await _all(desk, _ask(model="helpdesc"))
    assert "helpdesk" in caught.value.remedy


@in_loop
async def test_a_refusal_before_the_first_event_is_raised(desk: Desk, engine: FakeEngine):
    engine.refusal = ContextOverflow("the prompt has 99 tokens")
    with pytest.raises(ContextOverflow, match="99"):
        await desk.open(_ask())
    await desk.pool.close()


@in_loop
async def test_a_failure_after_the_first_event_is_an_event(desk: Desk, engine: FakeEngine):
    engine.script.insert(1, Failed(WorkerFailed("gone")))
    events = await _all(desk, _ask())
    assert isinstance(events[1], Text)
    assert isinstance(events[-1], Failed)
    assert len(events) == 3
    await desk.pool.close()


@in_loop
async def test_the_deadline_ends_a_slow_answer(desk: Desk, engine: FakeEngine):
    engine.pause = 0.2
    events = await _all(desk, _ask(deadline=0.3))
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Failed)
    assert isinstance(events[-1].error, Timeout)
    assert engine.workers[0].running == 0
    await desk.pool.close()


@in_loop
async def test_a_request_whose_time_is_up_in_the_queue_is_refused(desk: Desk, engine: FakeEngine):
    engine.hold.clear()
    waiting = [asyncio.create_task(_all(desk, _ask())) for _ in range(2)]
    await soon(lambda: engine.workers and engine.workers[0].running == 2)
    with pytest.raises(Busy, match="turn") as caught:
        await _all(desk, _ask(deadline=0.1))
    assert caught.value.retry_after >= 1
    assert desk.admission.waiting == 0
    engine.hold.set()
    await asyncio.gather(*waiting)
    await desk.pool.close()


@in_loop
async def test_closing_cancels_the_worker_and_frees_the_place(desk: Desk, engine: FakeEngine):
    opened = await desk.open(_ask())
    assert engine.workers[0].running == 1
    await opened.rest.aclose()
    assert engine.workers[0].running == 0
    assert engine.workers[0].cancelled == 1
    assert desk.pool.workers[0].users == 0
    await desk.pool.close()


@in_loop
async def test_cancelling_one_leaves_the_other_alone(desk: Desk, engine: FakeEngine):
    engine.hold.clear()
    first, second = await desk.open(_ask()), await desk.open(_ask())
    await first.rest.aclose()
    engine.hold.set()
    rest = [event async for event in second.rest]
    assert isinstance(rest[-1], Finished)
    assert engine.workers[0].cancelled == 1
    await desk.pool.close()


@in_loop
async def test_cancelling_in_the_queue_never_reaches_the_worker(desk: Desk, engine: FakeEngine):
    engine.hold.clear()
    running = [asyncio.create_task(_all(desk, _ask())) for _ in range(2)]
    await soon(lambda: engine.workers and engine.workers[0].running == 2)
    queued = asyncio.create_task(_all(desk, _ask()))
    await soon(lambda: desk.admission.waiting == 1)
    queued.cancel()
    await soon(lambda: desk.admission.waiting == 0)
    engine.hold.set()
    await asyncio.gather(*running)
    assert len(engine.workers[0].seen) == 2
    await desk.pool.close()


@in_loop
async def test_no_more_run_at_once_than_the_worker_has_slots(desk: Desk, engine: FakeEngine):
    engine.pause = 0.01
    await asyncio.gather(*(_all(desk, _ask()) for _ in range(4)))
    assert engine.workers[0].most_at_once == 2
    await desk.pool.close()


@in_loop
async def test_a_full_queue_refuses(desk: Desk, engine: FakeEngine):
    engine.hold.clear()
    tasks = [asyncio.create_task(_all(desk, _ask())) for _ in range(4)]
    await soon(lambda: desk.admission.waiting == 2)
    with pytest.raises(Busy):
        await _all(desk, _ask())
    engine.hold.set()
    await asyncio.gather(*tasks)
    await desk.pool.close()


@in_loop
async def test_a_harmful_grammar_reaches_no_worker(desk: Desk, engine: FakeEngine):
    grammar = "root ::= " + "(" * 1000 + '"a"' + ")" * 1000
    with pytest.raises(BadInput, match="groups"):
        await _all(desk, _ask(constraint=Constraint("grammar", grammar=grammar)))
    assert engine.workers == []


@in_loop
async def test_embeddings_come_from_a_worker_of_their_own(desk: Desk, engine: FakeEngine):
    await _all(desk, _ask())
    found = await desk.embed(EmbedRequest(model="helpdesk", inputs=("a", "b")))
    assert len(found.vectors) == 2
    assert [worker.model.embedding for worker in engine.workers] == [False, True]
    await desk.pool.close()


@in_loop
async def test_the_blobs_of_a_loaded_model_survive_removal_and_prune(desk: Desk, store: Store):
    await _all(desk, _ask())
    (held,) = desk.pool.workers
    entry = await desk.model("helpdesk")
    store.remove(entry.name)
    prune(store)
    assert held.model.path.exists()
    await desk.pool.close()
    prune(store)
    assert not held.model.path.exists()


@in_loop
async def test_a_server_that_stops_lets_answers_end_and_sends_the_queue_away(desk: Desk, engine: FakeEngine):
    engine.hold.clear()
    running = [asyncio.create_task(_all(desk, _ask())) for _ in range(2)]
    await soon(lambda: engine.workers and engine.workers[0].running == 2)
    waiting = asyncio.create_task(_all(desk, _ask()))
    await soon(lambda: desk.admission.waiting == 1)
    assert desk.drain() == desk.settings.drain_seconds
    with pytest.raises(Busy, match="stopping"):
        await waiting
    with pytest.raises(Busy, match="stopping"):
        await _all(desk, _ask())
    engine.hold.set()
    for events in await asyncio.gather(*running):
        assert isinstance(events[-1], Finished)
    await desk.close()


@in_loop
async def test_an_answer_that_takes_too_long_for_a_server_that_stops_is_told_so(desk: Desk, engine: FakeEngine):
    engine.pause = 30.0
    desk.adopt(msgspec.structs.replace(desk.settings, drain_seconds=0.1))
    running = asyncio.create_task(_all(desk, _ask()))
    await soon(lambda: engine.workers and engine.workers[0].running)
    desk.drain()
    *_, last = await asyncio.wait_for(running, 10)
    assert isinstance(last, Failed)
    assert "stopping" in last.error.message
    assert engine.workers[0].cancelled == 1
    await desk.close()


@pytest.mark.parametrize("what", ["embed", "rerank", "count", "load", "ask"])
@in_loop
async def test_whatever_is_asked_of_a_server_that_stops_ends_with_it(desk: Desk, engine: FakeEngine, what: str):
    engine.start_seconds = 30.0
    desk.adopt(msgspec.structs.replace(desk.settings, drain_seconds=0.1))
    asked: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
        "embed": lambda: desk.embed(EmbedRequest(model="helpdesk", inputs=("x",))),
        "rerank": lambda: desk.rerank(RerankRequest(model="helpdesk", query="x", documents=("y",))),
        "count": lambda: desk.count(_ask()),
        "load": lambda: desk.load(_ask()),
        "ask": lambda: desk.ask(_ask(), "properties"),
    }
    running = asyncio.create_task(asked[what]())
    await soon(lambda: desk.pool.loading)
    desk.drain()
    with pytest.raises(Busy, match="the server is stopping"):
        await asyncio.wait_for(running, 10)
    await desk.close()


@pytest.mark.parametrize("named", ["once", "twice"])
@in_loop
async def test_a_model_that_is_removed_while_it_answers(desk: Desk, engine: FakeEngine, store: Store, named: str):
    if named == "twice":
        store.put(Name.parse("other"), store.get(Name.parse("helpdesk")))
    engine.hold.clear()
    running = asyncio.create_task(_all(desk, _ask()))
    await soon(lambda: engine.workers and engine.workers[0].running)
    blob = engine.workers[0].model.path
    await desk.forget(Name.parse("helpdesk"))
    engine.hold.set()
    last = (await running)[-1]
    assert isinstance(last, Finished if named == "twice" else Failed)
    assert (engine.workers[0].alive, blob.exists()) == (named == "twice", named == "twice")
    with pytest.raises(UnknownModel):
        await _all(desk, _ask())
    await desk.close()


@in_loop
async def test_a_model_that_is_removed_while_it_is_loaded(desk: Desk, engine: FakeEngine):
    engine.start_seconds = 30.0
    running = asyncio.create_task(_all(desk, _ask()))
    await soon(lambda: desk.pool.loading)
    await desk.forget(Name.parse("helpdesk"))
    with pytest.raises(WorkerFailed, match="stopped while it was loaded"):
        await running
    assert (engine.workers, desk.pool.loading, desk.admission.waiting) == ([], [], 0)
    await desk.close()


@in_loop
async def test_what_a_request_took_is_what_counts_for_its_caller(desk: Desk, engine: FakeEngine):
    await _all(desk, _ask(max_tokens=4000))
    (turns,) = desk.admission._turns.values()
    assert 0 < turns.pace() * 4000 < 60
    engine.script = [Text("x")] * 50
    opened = await desk.open(_ask(max_tokens=4000))
    for _ in range(10):
        await anext(opened.rest)
    (ticket,) = turns.running
    assert (ticket.used, ticket.whole) == (10, False)
    await opened.rest.aclose()
    assert turns.empty


@in_loop
async def test_images_go_to_models_that_see_alone(
    settings: Settings, store: Store, engine: FakeEngine, desk: Desk, tmp_path: Path
):
    import_gguf(store, gguf(tmp_path / "m.gguf"), Name.parse("eye"), projector=projector(tmp_path / "mmproj.gguf"))
    shown = (Message("user", "What?", images=(seen(picture()),)),)
    with pytest.raises(Unsupported, match="helpdesk does not see images"):
        await _all(desk, _ask(messages=shown))
    assert engine.workers == []
    await _all(desk, _ask(model="eye", messages=shown))
    (worker,) = engine.workers
    assert worker.model.projector == store.path(Digest.of_file(tmp_path / "mmproj.gguf"))
    assert worker.seen[0].seen == shown[0].images
    assert await desk.count(_ask(model="eye", messages=shown)) == 3
    await desk.pool.close()
