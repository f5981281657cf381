"""The real llama.cpp started as somebody says, and asked what only it can tell: on a tiny model with random weights."""

from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from freehold.core.errors import BadInput, Unsupported
from freehold.core.event import Finished, Logprobs, Progress, Started, Text
from freehold.core.request import EmbedRequest, Handling, Request, RerankRequest, Sampling
from freehold.core.settings import Settings
from freehold.engines.base import Launch, ModelFile
from freehold.engines.llamacpp import LlamaCpp
from tests.serving.support import in_loop
from tests.tiny import write_gguf

pytestmark = pytest.mark.slow


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "m.gguf")


@asynccontextmanager
async def _worker(path: Path, settings: Settings, launch: Launch | None = None, **more):
    worker = await LlamaCpp().start(ModelFile(path, "tiny", launch=launch, **more), settings)
    try:
        yield worker
    finally:
        await worker.stop()


async def _events(worker, **fields) -> list:
    request = Request(**{"model": "tiny", "prompt": "Where is my order?", "detail": True, **fields})
    async with aclosing(worker.generate(request)) as events:
        return [event async for event in events]


@in_loop
async def test_what_it_is_started_with(model: Path, settings: Settings):
    launch = Launch({"n_ctx": 512, "n_predict": 5, "kv_unified": True}, {"seed": 7, "temp": 0.0, "top_k": 3})
    async with _worker(model, settings, launch) as worker:
        told = await worker.ask("properties", {})
        assert told["total_slots"] == settings.parallel
        params = told["default_generation_settings"]["params"]
        assert (params["seed"], params["temperature"], params["top_k"]) == (7, 0.0, 3)
        last = (await _events(worker))[-1]
        assert isinstance(last, Finished)
        assert (last.reason, last.usage.completion_tokens) == ("length", 5)
        assert last.detail["generation_settings"]["n_predict"] == 5


@in_loop
async def test_all_that_it_knows_of_an_answer(model: Path, settings: Settings):
    async with _worker(model, settings) as worker:
        sampling = Sampling(temperature=0.0, samplers=("top_k",), top_k=5, ignore_eos=True)
        events = await _events(worker, max_tokens=4, logprobs=2, progress=True, sampling=sampling)
        assert isinstance(events[0], Started)
        assert any(isinstance(event, Progress) and "prompt_progress" in event.told for event in events)
        tokens = [token for event in events if isinstance(event, Text) for token in event.tokens]
        told = [token for event in events if isinstance(event, Logprobs) for token in event.tokens]
        assert 0 < len(told) <= 4  # a token that ends within a character is told with the next
        assert {token.id for token in told} <= set(tokens)
        assert all(len(token.top) == 2 for token in told)
        settings_told = events[-1].detail["generation_settings"]
        assert settings_told["samplers"] == ["top_k"]
        assert settings_told["ignore_eos"] is True
        assert events[-1].detail["stop_type"] == "limit"
        assert events[-1].detail["prompt"] == "Where is my order?"
        again = await _events(worker, max_tokens=2, logprobs=1, handling=Handling(after_sampling=True))
        assert all(0 < token.logprob <= 1 for event in again if isinstance(event, Logprobs) for token in event.tokens)


@in_loop
async def test_slots_are_kept(model: Path, settings: Settings, tmp_path: Path):
    launch = Launch({"slot_save_path": f"{tmp_path}/", "n_predict": 4})
    async with _worker(model, settings, launch) as worker:
        await _events(worker, handling=Handling(slot=1, cache=True))
        saved = await worker.ask("save slot", {"slot": 1, "filename": "a.bin"})
        assert saved["n_saved"] > 0
        assert (tmp_path / "a.bin").is_file()
        restored = await worker.ask("restore slot", {"slot": 0, "filename": "a.bin"})
        assert restored["n_restored"] == saved["n_saved"]
        assert (await worker.ask("erase slot", {"slot": 0}))["n_erased"] >= 0
        assert len(await worker.ask("slots", {})) == settings.parallel


@in_loop
async def test_pieces_adapters_and_numbers(model: Path, settings: Settings):
    async with _worker(model, settings) as worker:
        pieces = (await worker.ask("pieces", {"content": "a 媽"}))["tokens"]
        assert all({"id", "piece"} <= set(piece) for piece in pieces)
        assert any(isinstance(piece["piece"], list) for piece in pieces)  # half a character is told in bytes
        assert await worker.ask("adapters", {}) == []
        assert (await worker.ask("set adapters", {"adapters": []}))["success"] is True
        await _events(worker, max_tokens=3)
        numbers = await worker.ask("metrics", {})
        assert "llamacpp:tokens_predicted_total 3" in numbers["text"]
        assert numbers["started"].isdecimal()
        with pytest.raises(Unsupported):
            await worker.rerank(RerankRequest(model="m", query="q", documents=("a",)))


@in_loop
async def test_a_vector_for_each_token(model: Path, settings: Settings):
    async with _worker(model, settings, Launch({"pooling_type": "none"}), embedding=True) as worker:
        found = await worker.embed(EmbedRequest(model="m", inputs=("a", "Where is my order?"), per_token=True))
        assert len(found.per_token[0]) == 1
        assert len(found.per_token[1]) > 1
        assert not found.vectors
        with pytest.raises(BadInput):
            await worker.embed(EmbedRequest(model="m", inputs=("a",)))


@in_loop
async def test_ranks(model: Path, settings: Settings):
    with pytest.raises(Unsupported, match="does not rank"):
        LlamaCpp().fits(ModelFile(model, "tiny", True, ranking=True), settings)
    async with _worker(model, settings, Launch(), embedding=True, ranking=True) as worker:
        found = await worker.rerank(RerankRequest(model="m", query="q", documents=("a", "Where is my order?")))
        assert len(found.scores) == 2
        assert found.usage.prompt_tokens > 2
