"""A server that is there for one model."""

import asyncio
from pathlib import Path

import httpx
import msgspec
import pytest

from freehold.core.errors import BadModelFile, Forbidden, NotFound
from freehold.core.request import Request, RerankRequest
from freehold.core.settings import Settings
from freehold.dialects.llamacpp.routes import ALONE
from freehold.engines.base import Launch
from freehold.serving.app import create_app
from freehold.serving.ready import Own
from freehold.serving.sole import Sole
from freehold.store import Store
from tests.serving.support import FakeEngine, add_gguf, in_loop, soon
from tests.tiny import write_gguf


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "m.gguf")


def test_a_file(model: Path, tmp_path: Path, settings: Settings):
    launch = Launch({"n_ctx": 64})
    sole = Sole(model, launch=launch, chat_template="t")
    assert sole.label == str(model)
    assert (sole.file().path, sole.file().chat_template, sole.file().launch) == (model, "t", launch)
    request = Request(model="any")
    assert sole.applied(request) is request
    with sole.lease():
        sole.require(settings)
    with pytest.raises(Forbidden):
        sole.require(msgspec.structs.replace(settings, require_signature=True))
    assert Sole(model).digest == sole.digest
    with model.open("ab") as file:
        file.write(b"\0")
    assert Sole(model).digest != sole.digest
    for missing in ({"path": tmp_path / "no"}, {"path": model, "adapters": (tmp_path / "no",)}):
        with pytest.raises(NotFound):
            Sole(**missing)


def test_a_model_of_the_catalog(model: Path, settings: Settings, store: Store):
    from freehold.core.name import Name

    add_gguf(store, "tiny", model)
    sole = Sole(own=Own(store, Name.parse("tiny")))
    assert sole.label == "tiny"
    assert sole.file().path == sole.path
    with sole.lease():
        sole.require(settings)


@in_loop
async def test_it_is_loaded_at_the_start(model: Path, settings: Settings, store: Store):
    sole, engine = Sole(model), FakeEngine()
    sole.loaded = False
    engine.told = {"properties": {"total_slots": 2}}
    app = create_app(settings, store, engine=engine, dialects=[ALONE], sole=sole)
    async with app.router.lifespan_context(app):
        await soon(lambda: sole.loaded)
        assert sole.properties == {"total_slots": 2}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            assert (await client.get("/health")).json() == {"status": "ok"}
    assert len(engine.workers) == 1


@in_loop
async def test_a_model_that_cannot_be_loaded_is_told(model: Path, settings: Settings, store: Store):
    sole, engine = Sole(model), FakeEngine()
    sole.loaded = False
    engine.start_error = BadModelFile("no model")
    told: list = []
    sole.on_failure = told.append
    app = create_app(settings, store, engine=engine, dialects=[ALONE], sole=sole)
    async with app.router.lifespan_context(app):
        await soon(lambda: told)
    assert told == [sole.failure] == [engine.start_error]
    assert not sole.loaded


@in_loop
async def test_embedding_and_ranking_share_its_worker(model: Path, settings: Settings, store: Store):
    engine = FakeEngine()
    sole = Sole(model, embedding=True, ranking=True)
    desk = create_app(settings, store, engine=engine, dialects=[ALONE], sole=sole).state.desk
    await desk.load(Request(model="x"))
    assert (await desk.rerank(RerankRequest(model="y", query="q", documents=("a", "bb")))).scores == (1.0, 2.0)
    assert len(engine.workers) == 1
    assert (engine.workers[0].model.embedding, engine.workers[0].model.ranking) == (True, True)
    await desk.pool.close()


@in_loop
async def test_questions_do_not_wait_for_answers(model: Path, settings: Settings, store: Store):
    engine = FakeEngine()
    engine.told = {"slots": []}
    one = msgspec.structs.replace(settings, parallel=1)
    desk = create_app(one, store, engine=engine, dialects=[ALONE], sole=Sole(model)).state.desk
    engine.hold.clear()
    answer = asyncio.create_task(anext(desk.generate(Request(model="x", prompt="p"))))
    await answer
    assert await desk.ask(Request(model="x"), "slots") == []
    engine.hold.set()
    await desk.pool.close()


@in_loop
async def test_its_numbers_outlive_its_worker(model: Path, settings: Settings, store: Store):
    engine = FakeEngine()
    engine.told = {"metrics": {"text": "llamacpp:x 1"}}
    sole = Sole(model, metrics=True)
    short = msgspec.structs.replace(settings, keep_alive=0.1)
    app = create_app(short, store, engine=engine, dialects=[ALONE], sole=sole)
    desk = app.state.desk
    await desk.load(Request(model="x"))
    await soon(lambda: not desk.pool.workers)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        assert (await client.get("/metrics")).text == "llamacpp:x 1"
        assert not desk.pool.workers
    await desk.pool.close()
