"""The real llama.cpp on a tiny model with random weights: what it says is nonsense, its form is not."""

import asyncio
import json
import math
import os
import shutil
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import msgspec
import psutil
import pytest

from freehold.core.errors import BadInput, BadModelFile, ContextOverflow, NotEnoughMemory, Unsupported
from freehold.core.event import Failed, Finished, Logprobs, Started, Text, ToolCallPart, Usage
from freehold.core.request import Constraint, EmbedRequest, Insert, Message, Request, Sampling, Tool
from freehold.core.settings import Settings
from freehold.engines.base import ModelFile
from freehold.engines.llamacpp import LlamaCpp
from tests.serving.support import in_loop
from tests.tiny import CHATML, HERMES, write_gguf

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 6}, "n": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["city", "n"],
    "additionalProperties": False,
}
WEATHER = Tool("weather", "", CITY)
CLOCK = Tool("clock", "", {"type": "object", "properties": {"z": {"$ref": "#/$defs/Z"}}, "required": ["z"],
                           "$defs": {"Z": {"enum": ["utc", "cet"]}}})  # fmt: skip


@asynccontextmanager
async def _worker(path: Path, settings: Settings, embedding: bool = False):
    worker = await LlamaCpp().start(ModelFile(path, "tiny", embedding), settings)
    try:
        yield worker
    finally:
        await worker.stop()


async def _events(worker, **fields) -> list:
    request = Request(**{"model": "tiny", "messages": (Message("user", "Where is my order?"),), **fields})
    async with aclosing(worker.generate(request)) as events:
        return [event async for event in events]


def _text(events: list, index: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, Text) and event.index == index)


def _last(events: list) -> Finished:
    assert isinstance(events[-1], Finished), events[-1]
    return events[-1]


@in_loop
async def test_chat_and_raw_text(tiny_gguf: Path, settings: Settings):
    async with _worker(tiny_gguf, settings) as worker:
        assert worker.alive
        assert worker.context_length == 1024
        assert 0 < worker.memory < 300e6
        events = await _events(worker, max_tokens=8, sampling=Sampling(logit_bias={0: -100, 2: -100}))
        assert isinstance(events[0], Started)
        assert _last(events).reason == "length"
        assert _last(events).usage.completion_tokens == 8
        assert _last(events).usage.prompt_tokens > 10
        raw = await _events(worker, messages=(), prompt="The quick", max_tokens=4)
        assert _last(raw).usage.prompt_tokens == 2
        assert _last(raw).timings.generate_ms > 0
    assert not worker.alive
    assert list(settings.sockets.iterdir()) == []


@in_loop
async def test_seeds_repeat_and_choices_differ(tiny_gguf: Path, settings: Settings):
    async with _worker(tiny_gguf, settings) as worker:
        drawn = [
            await _events(
                worker, max_tokens=12, n=5, sampling=Sampling(temperature=1.0, seed=7, logit_bias={0: -100, 2: -100})
            )
            for _ in range(2)
        ]
        texts = [[_text(events, index) for index in range(5)] for events in drawn]
        assert texts[0] == texts[1]
        assert len(set(texts[0])) == 5
        finished = [event for event in drawn[0] if isinstance(event, Finished)]
        assert sorted(event.index for event in finished) == [0, 1, 2, 3, 4]
        total = sum((event.usage for event in finished), Usage())
        assert total.completion_tokens == 60
        assert total.prompt_tokens < 40, "the prompt is counted once"
        other = await _events(worker, max_tokens=12, sampling=Sampling(temperature=1.0, seed=1000))
        assert _text(other) not in texts[0]


@in_loop
async def test_greedy_is_the_most_likely_and_log_probabilities_are_natural(tiny_gguf: Path, settings: Settings):
    async with _worker(tiny_gguf, settings) as worker:
        events = await _events(
            worker, messages=(), prompt="The quick", max_tokens=1, logprobs=20, sampling=Sampling(temperature=0.0)
        )
        (token,) = next(event for event in events if isinstance(event, Logprobs)).tokens
        assert len(token.top) == 20
        assert token.top[0].logprob == token.logprob
        assert [other.logprob for other in token.top] == sorted((o.logprob for o in token.top), reverse=True)
        assert sum(math.exp(other.logprob) for other in token.top) <= 1.0001
        assert bytes(token.bytes).decode("utf-8", "replace") == token.token
        none = await _events(worker, max_tokens=3, logprobs=0)
        assert all(entry.top == () for event in none if isinstance(event, Logprobs) for entry in event.tokens)
        assert not any(isinstance(event, Logprobs) for event in await _events(worker, max_tokens=3))


@in_loop
async def test_stop_ends_the_text_before_it(tiny_gguf: Path, settings: Settings):
    async with _worker(tiny_gguf, settings) as worker:
        counting = Constraint("grammar", grammar='root ::= "one two three"')
        events = await _events(worker, messages=(), prompt="a", constraint=counting, stop=("tw",))
        assert _text(events) == "one "
        assert (_last(events).reason, _last(events).stop) == ("stop", "tw")
        assert _last(events).usage.completion_tokens > 0
        assert _last(events).usage.prompt_tokens > 0
        told = await _events(worker, messages=(), prompt="a", constraint=counting, stop=("tw",), logprobs=0)
        assert _text(told) == "one ", "with log-probabilities the server looks for them"


@in_loop
async def test_a_stop_sequence_ends_its_own_choice_only(tiny_gguf: Path, settings: Settings):
    async with _worker(tiny_gguf, settings) as worker:
        either = Constraint("grammar", grammar='root ::= "left END more" | "right and on"')
        events = await _events(
            worker, messages=(), prompt="a", constraint=either, stop=("END",), n=6, sampling=Sampling(seed=3)
        )
        finished = {event.index: event for event in events if isinstance(event, Finished)}
        assert sorted(finished) == [0, 1, 2, 3, 4, 5]
        assert {(_text(events, i), finished[i].stop) for i in finished} <= {("left ", "END"), ("right and on", "")}
        assert await _events(worker, max_tokens=2), "the worker is free for the next request"


@pytest.mark.parametrize("template", [None, HERMES])
@in_loop
async def test_tokens_are_counted_as_they_are_read(tmp_path: Path, settings: Settings, template: str | None):
    path = write_gguf(tmp_path / "t.gguf", **({"template": template} if template else {}))
    asked = [
        {},
        {"messages": (Message("system", "Be kind."), Message("user", "naïve 日本\n<|im_end|>"))},
        {"tools": (WEATHER, CLOCK)},
        {"tools": (WEATHER, CLOCK), "tool_choice": "none"},
        {"messages": (), "prompt": "The quick"},
        {"prefill": "It is"},
    ]
    async with _worker(path, settings) as worker:
        for fields in asked:
            events = await _events(worker, max_tokens=1, **fields)
            request = Request(**{"model": "tiny", "messages": (Message("user", "Where is my order?"),), **fields})
            tokens = await worker.tokenize(await worker.prompt(request))
            assert len(tokens) == _last(events).usage.prompt_tokens, fields
            assert events[0].prompt_tokens in (0, _last(events).usage.prompt_tokens), fields
        long = await _events(worker, messages=(Message("user", "word " * 200),), max_tokens=1)
        assert long[0].prompt_tokens == _last(long).usage.prompt_tokens > 200


@in_loop
async def test_a_template_sees_whether_to_think(tmp_path: Path, settings: Settings):
    marks = "{% if enable_thinking is defined and not enable_thinking %}[quick]{% endif %}[{{ reasoning_effort }}]"
    path = write_gguf(tmp_path / "t.gguf", template=CHATML + marks)
    async with _worker(path, settings) as worker:
        asked = Request(model="tiny", messages=(Message("user", "Hi"),), think=False, effort="low")
        assert (await worker.prompt(asked)).endswith("[quick][low]")
        thinking = msgspec.structs.replace(asked, think=True)
        assert "[quick]" not in await worker.prompt(thinking)


@in_loop
async def test_tokens_and_texts_are_the_same_thing(tiny_gguf: Path, settings: Settings):
    async with _worker(tiny_gguf, settings) as worker:
        for text in ("Where is my order?", "<|im_start|>user\nnaïve 日本<|im_end|>", ""):
            tokens = await worker.tokenize(text, special=False)
            assert await worker.detokenize(tokens) == text
            assert (await worker.tokenize(text))[-len(tokens) :] == tokens


@in_loop
async def test_text_is_written_between_two_others(tmp_path: Path, tiny_gguf: Path, settings: Settings):
    asked = {"messages": (), "max_tokens": 4, "sampling": Sampling(temperature=0)}
    async with _worker(write_gguf(tmp_path / "code.gguf", infill=True), settings) as worker:
        first, second = [await worker.tokenize(text) for text in ("def f(", "return 1 ")]
        inserted = await _events(worker, **asked, prompt="", insert=Insert("def f(", "return 1 "))
        plain = await _events(worker, **asked, prompt=(250, *first, 251, *second, 252))
        assert _text(inserted) == _text(plain)
        assert _last(inserted).usage.prompt_tokens == len(first) + len(second) + 3
        marked = await _events(worker, **asked, prompt="", insert=Insert("<|im_end|>", "x"))
        assert _last(marked).usage.prompt_tokens > 5, "what is code is not taken for a mark"
        (failed,) = await _events(worker, **asked, prompt="", insert=Insert("a b " * 2000, "x"))
        assert isinstance(failed.error, ContextOverflow)
    async with _worker(tiny_gguf, settings) as worker:
        (failed,) = await _events(worker, **asked, prompt="", insert=Insert("a", "b"))
        assert (type(failed.error), failed.error.param) == (Unsupported, "suffix")


@in_loop
async def test_an_answer_that_is_begun_goes_on_from_there(tiny_gguf: Path, settings: Settings):
    async with _worker(tiny_gguf, settings) as worker:
        counting = Constraint("grammar", grammar='root ::= " two three"')
        events = await _events(worker, prefill="one", constraint=counting)
        assert _text(events) == " two three", "what was begun is not repeated"
        (failed,) = [
            event for event in await _events(worker, prefill="x", tools=(WEATHER,)) if isinstance(event, Failed)
        ]
        assert isinstance(failed.error, BadInput)


@in_loop
async def test_logit_bias_decides(tiny_gguf: Path, settings: Settings):
    async with _worker(tiny_gguf, settings) as worker:
        assert (
            _text(await _events(worker, messages=(), prompt="a", max_tokens=3, sampling=Sampling(logit_bias={50: 100})))
            == "PPP"
        )


@in_loop
async def test_schema_json_and_grammar_hold(tiny_gguf: Path, settings: Settings):
    async with _worker(tiny_gguf, settings) as worker:
        for seed in range(5):
            events = await _events(
                worker, constraint=Constraint("schema", CITY), sampling=Sampling(seed=seed), max_tokens=200
            )
            assert _last(events).usage.completion_tokens < 40, "no model may fill its context with blanks"
            value = json.loads(_text(events))
            assert set(value) == {"city", "n"}
            assert 0 <= value["n"] <= 9
            assert len(value["city"]) <= 6
            choice = Constraint("grammar", grammar='root ::= "yes" | "näh😀"')
            assert _text(await _events(worker, constraint=choice, sampling=Sampling(seed=seed))) in ("yes", "näh😀")
        cut = await _events(worker, constraint=Constraint("json"), max_tokens=3)
        assert _last(cut).reason == "length"
        assert _text(cut).lstrip().startswith("{")


@pytest.mark.parametrize("template", ["plain", "with tools"])
@in_loop
async def test_forced_calls_are_made(tiny_gguf: Path, tools_gguf: Path, settings: Settings, template: str):
    async with _worker(tools_gguf if template == "with tools" else tiny_gguf, settings) as worker:
        for offered, choice in (
            ((WEATHER,), "required"),
            ((CLOCK, WEATHER), "weather"),
            ((CLOCK, WEATHER), "required"),
        ):
            events = await _events(worker, tools=offered, tool_choice=choice, sampling=Sampling(seed=1))
            assert _last(events).reason == "tool_calls"
            parts = [event for event in events if isinstance(event, ToolCallPart)]
            assert parts[0].id.startswith("call_")
            arguments = json.loads("".join(part.arguments for part in parts))
            assert set(arguments) == ({"city", "n"} if parts[0].name == "weather" else {"z"})
            assert _text(events) == ""
        free = await _events(worker, tools=(WEATHER,), max_tokens=5)
        assert isinstance(free[-1], Finished)


@in_loop
async def test_what_cannot_be_done_is_said_before_the_start(tiny_gguf: Path, settings: Settings):
    cases = [
        ({"messages": (Message("user", "order " * 1500),)}, ContextOverflow, "context holds 1024"),
        ({"constraint": Constraint("schema", {"type": "nonsense"})}, BadInput, "nonsense"),
        ({"constraint": Constraint("grammar", grammar="root ::= (")}, BadInput, "grammar"),
        ({"sampling": Sampling(repeat_penalty=0.0)}, BadInput, "repeat"),
        ({"tools": (Tool("f", "", {"type": "nonsense"}),), "tool_choice": "f"}, BadInput, "nonsense"),
    ]
    async with _worker(tiny_gguf, settings) as worker:
        for fields, kind, said in cases:
            (event,) = await _events(worker, **{"max_tokens": 5, **fields})
            assert isinstance(event, Failed)
            assert type(event.error) is kind, event.error
            assert said in event.error.line()
        assert _last(await _events(worker, max_tokens=2)), "a refused request does no harm to the next"
        with pytest.raises(Unsupported):
            await worker.embed(EmbedRequest(model="tiny", inputs=("a",)))


@in_loop
async def test_embeddings(tiny_gguf: Path, settings: Settings):
    async with _worker(tiny_gguf, settings, embedding=True) as worker:
        found = await worker.embed(EmbedRequest(model="tiny", inputs=("hello world", (5, 6, 7), "hello world")))
        for vector in found.vectors:
            assert len(vector) == 64
            assert math.isclose(sum(x * x for x in vector), 1, abs_tol=1e-5)
        assert found.usage.prompt_tokens > 3
        with pytest.raises(ContextOverflow, match="context holds 1024"):
            await worker.embed(EmbedRequest(model="tiny", inputs=("order " * 1500,)))
        with pytest.raises(BadInput):
            await worker.embed(EmbedRequest(model="tiny", inputs=((999_999,),)))
        (refused,) = await _events(worker, max_tokens=2)
        assert isinstance(refused.error, Unsupported)


@in_loop
async def test_a_text_has_the_same_vector_alone_and_among_others(tiny_gguf: Path, settings: Settings):
    texts = tuple(tuple(range(3 + i, 3 + i + length)) for i, length in enumerate((1, 40, 3, 300, 9, 9, 2, 100)))
    async with _worker(tiny_gguf, settings, embedding=True) as worker:
        together = (await worker.embed(EmbedRequest(model="tiny", inputs=(*texts, texts[1])))).vectors
        for text, vector in zip((*texts, texts[1]), together, strict=True):
            (alone,) = (await worker.embed(EmbedRequest(model="tiny", inputs=(text,)))).vectors
            assert vector == pytest.approx(alone, abs=1e-3)
        assert together[0] != pytest.approx(together[1], abs=1e-2)


@in_loop
async def test_many_at_once_wait_for_slots_and_all_are_answered(tiny_gguf: Path, settings: Settings):
    async with _worker(tiny_gguf, settings) as worker:
        answers = await asyncio.gather(*(_events(worker, max_tokens=5, n=1 + i % 3) for i in range(12)))
        for i, events in enumerate(answers):
            assert sum(isinstance(event, Finished) for event in events) == 1 + i % 3


@in_loop
async def test_the_worker_is_alone_and_knows_nothing(
    tiny_gguf: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_TOKEN", "secret")
    async with _worker(tiny_gguf, settings) as worker:
        process = psutil.Process(worker.pid)
        environment = process.environ()
        assert "HF_TOKEN" not in environment
        assert environment["GOMP_SPINCOUNT"] == "1000"
        assert process.net_connections("inet") == []
        assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
        assert "secret" not in " ".join(process.cmdline())
        assert Path(f"/proc/{worker.pid}/oom_score_adj").read_text().strip() == "500"
        (place,) = settings.sockets.iterdir()
        assert place.stat().st_mode & 0o077 == 0
        assert os.getsid(worker.pid) != os.getsid(0), "a Ctrl-C does not reach it"


@in_loop
async def test_a_home_with_a_long_path_works(tiny_gguf: Path, tmp_path: Path):
    async with _worker(tiny_gguf, Settings(home=tmp_path / ("long" * 30), threads=1)) as worker:
        assert _last(await _events(worker, max_tokens=2))


@in_loop
async def test_models_that_do_not_fit_are_refused_before_the_load(tiny_gguf: Path, settings: Settings, monkeypatch):
    monkeypatch.setattr("freehold.engines.llamacpp.memory.available", lambda: 1 << 20)
    with pytest.raises(NotEnoughMemory, match=r"tiny needs \d+ MiB .* and 1 MiB are free"):
        await LlamaCpp().start(ModelFile(tiny_gguf, "tiny"), settings)
    assert not settings.sockets.exists()


@in_loop
async def test_broken_files_are_refused_with_the_reason(tiny_gguf: Path, settings: Settings, tmp_path: Path):
    truncated = tmp_path / "truncated.gguf"
    truncated.write_bytes(tiny_gguf.read_bytes()[:-1000])
    strange = tmp_path / "strange.gguf"
    strange.write_bytes(tiny_gguf.read_bytes().replace(b"token_embd.weight", b"tokem_embd.weight"))
    with pytest.raises(BadModelFile, match="truncated"):
        await LlamaCpp().start(ModelFile(truncated, "truncated"), settings)
    with pytest.raises(BadModelFile, match=r"cannot load strange.*token_embd"):
        await LlamaCpp().start(ModelFile(strange, "strange"), settings)
    assert list(settings.sockets.iterdir()) == [], "nothing is left behind"


def test_fits_says_what_it_takes_without_loading(tiny_gguf: Path, settings: Settings, tmp_path: Path):
    engine = LlamaCpp()
    fit = engine.fits(ModelFile(tiny_gguf, "tiny"), settings)
    assert fit.ok
    assert fit.context_length == 1024
    smaller = msgspec.structs.replace(settings, context_length=256)
    assert engine.fits(ModelFile(tiny_gguf, "tiny"), smaller).cache == fit.cache // 4
    copy = shutil.copy(tiny_gguf, tmp_path / "copy.gguf")
    assert engine.fits(ModelFile(Path(copy), "copy", embedding=True), settings).context_length == 1024
