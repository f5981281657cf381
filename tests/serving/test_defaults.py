"""What a model brings along reaches the worker: as the request's defaults, and as what the worker loads."""

from contextlib import aclosing
from pathlib import Path

import pytest

from freehold import convert
from freehold.core.errors import Damaged
from freehold.core.manifest import Manifest, Part
from freehold.core.name import Name
from freehold.core.request import Message, Request
from freehold.core.settings import Settings
from freehold.engines.base import ModelFile
from freehold.engines.llamacpp import LlamaCpp
from freehold.formats import modelfile as modelfiles
from freehold.serving import defaults
from freehold.serving.desk import Desk
from freehold.store import Store, creating
from tests.adapters import write_adapter
from tests.serving.support import FakeEngine, add_gguf, in_loop
from tests.tiny import write_gguf

TEXT = '''FROM tiny
PARAMETER temperature 0
PARAMETER num_ctx 512
PARAMETER stop END
TEMPLATE """{{ range .Messages }}[{{ .Role }}]{{ .Content }}{{ end }}[assistant]"""
SYSTEM Be kind
MESSAGE user Hi
MESSAGE assistant Hello
ADAPTER ./a.gguf
'''
ASKED = Message("user", "Where is my order?")


@pytest.fixture
def dressed(store: Store, tmp_path: Path) -> Store:
    """A store with the tiny model, and `desk` made of it."""
    add_gguf(store, "tiny", write_gguf(tmp_path / "tiny.gguf"))
    write_adapter(tmp_path / "a.gguf")
    creating.create(store, Name.parse("desk"), modelfiles.parse(TEXT), tmp_path, convert)
    return store


async def _answer(desk: Desk, **fields: object) -> str:
    request = Request(**{"model": "desk", "messages": (ASKED,), "max_tokens": 12, **fields})  # type: ignore[arg-type]
    async with aclosing(desk.generate(request)) as events:
        return "".join([event.text async for event in events if hasattr(event, "text")])


@in_loop
async def test_the_worker_gets_it_all(dressed: Store, settings: Settings) -> None:
    engine = FakeEngine()
    desk = Desk(settings, dressed, engine)
    await _answer(desk)
    worker = engine.workers[0]
    assert worker.model.chat_template.startswith("{% for message in messages %}")
    assert [path.stat().st_size > 0 for path in worker.model.adapters] == [True]
    assert worker.model.context_length == 512
    seen = worker.seen[0]
    assert [message.content for message in seen.messages] == ["Be kind", "Hi", "Hello", ASKED.content]
    assert (seen.sampling.temperature, seen.stop, seen.max_tokens) == (0, ("END",), 12)
    await desk.pool.close()


@in_loop
async def test_llama_cpp_honours_it(dressed: Store, settings: Settings) -> None:
    manifest = dressed.get(Name.parse("desk"))
    part = manifest.part("gguf")
    assert part is not None
    plain = ModelFile(dressed.path(part.digest), "tiny")
    file = defaults.dressed(dressed, manifest, plain)
    answers = []
    for model in (plain, file):
        worker = await LlamaCpp().start(model, settings)
        try:
            answers.append((await worker.prompt(Request(model="m", messages=(ASKED,))), worker.context_length))
        finally:
            await worker.stop()
    assert answers[0][0].startswith("<|im_start|>user\n")
    assert answers[1] == (f"[user]{ASKED.content}[assistant]", 512)


@in_loop
async def test_an_adapter_changes_the_answer(dressed: Store, settings: Settings, tmp_path: Path) -> None:
    plain = TEXT.replace("ADAPTER ./a.gguf\n", "")
    creating.create(dressed, Name.parse("plain"), modelfiles.parse(plain), tmp_path, convert)
    desk = Desk(settings, dressed, LlamaCpp())
    try:
        with_adapter, without = await _answer(desk), await _answer(desk, model="plain")
        assert with_adapter != without
        assert await _answer(desk, model="plain") == without
    finally:
        await desk.pool.close()


def test_what_cannot_be_read_is_damage(store: Store) -> None:
    digest = store.add_bytes(b"junk")
    manifest = Manifest(parts=(Part("parameters", digest, 4, "parameters.json"),))
    with pytest.raises(Damaged, match="parameters cannot be read"):
        defaults.read(store, manifest)
    assert defaults.read(store, Manifest(parts=())) == defaults.Defaults()
