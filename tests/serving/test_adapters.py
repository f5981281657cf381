"""BASE+ADAPTER: several adapters on one base, chosen by each request, without loading the base again."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from freehold.core.errors import BadModelFile, FreeholdError, UnknownModel, Unsupported
from freehold.core.event import Logprobs, TokenLogprob
from freehold.core.manifest import Lineage
from freehold.core.name import Name
from freehold.core.request import EmbedRequest, Message, Request, Sampling
from freehold.core.settings import Settings
from freehold.engines.llamacpp import LlamaCpp
from freehold.serving import ready
from freehold.serving.desk import Desk
from freehold.store import Store, importing
from freehold.store.check import prune
from tests.adapters import write_adapter
from tests.serving.support import FakeEngine, add_gguf, in_loop
from tests.store import models
from tests.tiny import write_gguf

ASKED = (Message("user", "Where is my order?"),)
NAMES = ("base", "base+one", "base+two")


@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Store:
    """A store with a tiny model and two adapters of it."""
    add_gguf(store, "base", write_gguf(tmp_path / "base.gguf"))
    for seed, name in enumerate(("one", "two")):
        add_gguf(store, name, write_adapter(tmp_path / f"{name}.gguf", seed=seed))
    return store


@pytest.fixture
def desk(filled: Store, settings: Settings) -> Desk:
    """With the real llama.cpp."""
    return Desk(msgspec.structs.replace(settings, queue=64), filled, LlamaCpp())


def asking(name: str, **fields: Any) -> Request:
    given = {"messages": ASKED, "max_tokens": 12, "sampling": Sampling(temperature=0, logit_bias={0: -100, 2: -100})}
    return Request(**{"model": name, **given, **fields})


async def answer(desk: Desk, name: str, **fields: Any) -> str:
    async with aclosing(desk.generate(asking(name, **fields))) as events:
        return "".join([event.text async for event in events if hasattr(event, "text")])


def pids(desk: Desk) -> list[int]:
    return [held.worker.pid for held in desk.pool.workers]


@in_loop
async def test_each_answers_in_its_own_way_from_one_process(desk: Desk):
    try:
        first = {name: await answer(desk, name) for name in NAMES}
        assert len(set(first.values())) == 3
        before = pids(desk)
        assert len(before) == 1
        for name in (*NAMES, *reversed(NAMES)):
            assert await answer(desk, name) == first[name]
        assert pids(desk) == before, "nothing was loaded again"
    finally:
        await desk.close()


@in_loop
async def test_all_at_once(desk: Desk):
    try:
        alone = {name: await answer(desk, name) for name in NAMES}
        many = [name for name in NAMES for _ in range(4)]
        assert await asyncio.gather(*(answer(desk, name) for name in many)) == [alone[name] for name in many]
        assert len(pids(desk)) == 1
    finally:
        await desk.close()


@in_loop
async def test_a_model_with_an_adapter_of_its_own_answers_as_the_pair_does(desk: Desk, filled: Store, tmp_path: Path):
    from freehold import convert
    from freehold.formats import modelfile
    from freehold.store import creating

    text = modelfile.parse("FROM base\nADAPTER ./one.gguf\n")
    creating.create(filled, Name.parse("made"), text, tmp_path, convert)
    try:
        assert await answer(desk, "made") == await answer(desk, "base+one")
        assert await answer(desk, "made+two") not in (await answer(desk, "made"), await answer(desk, "base+two"))
    finally:
        await desk.close()


@in_loop
async def test_scores_are_those_of_the_pair(desk: Desk):
    async def scores(name: str) -> tuple[TokenLogprob, ...]:
        request = asking(name, messages=(), prompt="x")
        return await desk.score(request, await desk.tokenize(request, "Where is my order?"), 1)

    try:
        told = {name: [each.logprob for each in await scores(name)] for name in NAMES}
        assert len({tuple(each) for each in told.values()}) == 3
        drawn = {name: asking(name, messages=(), prompt="Where is", max_tokens=1, logprobs=1) for name in NAMES}
        for request in drawn.values():
            events = [event async for event in desk.generate(request)]
            (found,) = (event.tokens[0] for event in events if isinstance(event, Logprobs))
            tokens = await desk.tokenize(request, f"Where is{found.token}")
            assert (await desk.score(request, tokens, 0))[-1].logprob == pytest.approx(found.logprob, abs=0.05)
    finally:
        await desk.close()


@in_loop
async def test_a_worker_gets_those_that_it_had_and_the_new_one(filled: Store, settings: Settings):
    engine = FakeEngine()
    desk = Desk(settings, filled, engine)
    for name in ("base", "base+one", "base", "base+two", "base+one", "base"):
        await answer(desk, name)
    digests = [str(filled.resolve(Name.parse(name))) for name in ("one", "two")]
    assert [list(worker.model.choices) for worker in engine.workers] == [[], digests[:1], digests]
    assert [worker.alive for worker in engine.workers] == [False, False, True]
    assert [request.adapter for request in engine.workers[-1].seen] == [digests[1], digests[0], ""]
    await desk.close()


@in_loop
async def test_one_that_was_removed_keeps_no_other_from_being_loaded(filled: Store, settings: Settings, tmp_path: Path):
    add_gguf(filled, "three", write_adapter(tmp_path / "three.gguf", seed=9))
    engine = FakeEngine()
    desk = Desk(settings, filled, engine)
    for name in ("base+one", "base+two"):
        await answer(desk, name)
    await desk.forget(Name.parse("one"))
    with refused(UnknownModel, "one"):
        await answer(desk, "base+one")
    assert await answer(desk, "base+two") == "Hello world", "the worker that has both goes on"
    await answer(desk, "base+three")
    given = [str(filled.resolve(Name.parse(name))) for name in ("two", "three")]
    assert list(engine.workers[-1].model.choices) == given
    assert all(path.exists() for path in engine.workers[-1].model.choices.values())
    await desk.close()


@in_loop
async def test_a_worker_in_use_goes_on(filled: Store, settings: Settings):
    engine = FakeEngine()
    desk = Desk(settings, filled, engine)
    engine.hold.clear()
    running = asyncio.create_task(answer(desk, "base"))
    while not engine.workers or not engine.workers[0].running:
        await asyncio.sleep(0)
    other = asyncio.create_task(answer(desk, "base+one"))
    while len(engine.workers) < 2:
        await asyncio.sleep(0.01)
    assert engine.workers[0].alive
    engine.hold.set()
    assert await running == await other == "Hello world"
    await desk.close()


@contextmanager
def refused(kind: type[FreeholdError], match: str) -> Iterator[None]:
    with pytest.raises(kind, match=match):
        yield


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("base+nobody", UnknownModel, "nobody"),
        ("nobody+one", UnknownModel, "nobody"),
        ("base+", UnknownModel, "no model named"),
        ("+one", UnknownModel, "no model named"),
        ("base+one+two", UnknownModel, "no model named"),
        ("base+base", Unsupported, "no adapter"),
        ("one", Unsupported, "no weights"),
        ("one+two", Unsupported, "no weights"),
    ],
)
@in_loop
async def test_pairs_that_are_none(filled: Store, settings: Settings, name: str, kind: type[FreeholdError], said: str):
    desk = Desk(settings, filled, FakeEngine())
    with refused(kind, said):
        await answer(desk, name)
    await desk.close()


@in_loop
async def test_an_adapter_of_another_model_is_refused_and_the_base_goes_on(desk: Desk, filled: Store, tmp_path: Path):
    add_gguf(filled, "wide", write_adapter(tmp_path / "wide.gguf", hidden=128))
    try:
        alone = await answer(desk, "base")
        with refused(BadModelFile, "base"):
            await answer(desk, "base+wide")
        assert await answer(desk, "base") == alone
    finally:
        await desk.close()


@in_loop
async def test_embeddings_have_no_adapter(filled: Store, settings: Settings):
    desk = Desk(settings, filled, FakeEngine())
    with refused(Unsupported, "adapters"):
        await desk.embed(EmbedRequest(model="base+one", inputs=("x",)))
    await desk.close()


def test_both_are_kept_while_they_are_used(filled: Store):
    source = ready.source(filled, "base+one")
    path = source.adapter_file()
    with source.lease():
        filled.remove(Name.parse("one"))
        filled.remove(Name.parse("base"))
        filled.close()
        prune(filled)
        assert path.exists()
    prune(filled)
    assert not path.exists()


def test_a_folder_for_another_base(filled: Store, tmp_path: Path):
    importing.import_folder(filled, models.adapter(tmp_path / "peft"), Name.parse("peft"))
    with refused(Unsupported, "has no place in a GGUF adapter"):
        ready.source(filled, "base+peft").adapter_file()


def test_an_adapter_beside_another_base_than_its_own_is_told(filled: Store, tmp_path: Path, caplog: Any) -> None:
    add_gguf(filled, "other", write_gguf(tmp_path / "other.gguf", seed=5))
    add_gguf(filled, "wide", write_gguf(tmp_path / "wide.gguf", hidden=128))
    base = filled.resolve(Name.parse("base"))
    adapter = filled.get(Name.parse("one"))
    filled.put(Name.parse("ours"), msgspec.structs.replace(adapter, lineage=Lineage(base=base)))
    ready.source(filled, "base+ours").adapter_file()
    # Another quantisation of its base, or its base by way of one, is its base too.
    quantised = msgspec.structs.replace(filled.get(Name.parse("other")), lineage=Lineage(base=base))
    filled.put(Name.parse("quantised"), quantised)
    ready.source(filled, "quantised+ours").adapter_file()
    ready.source(filled, "other+one").adapter_file()  # of which nobody knows where it comes from
    assert caplog.messages == []
    ready.source(filled, "other+ours").adapter_file()
    [told] = caplog.messages
    assert told.startswith("other+ours: nothing shows that the adapter was made for this base")
    with refused(Unsupported, "another base, 64 wide, and this one is 128 wide"):
        ready.source(filled, "wide+ours").adapter_file()
