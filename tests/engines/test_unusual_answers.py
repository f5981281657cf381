"""Headers that say nonsense, and answers that are seldom seen: calls without arguments, thoughts amid the text."""

import copy
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.convert.outlook import outlook
from freehold.core.errors import FreeholdError, WorkerFailed
from freehold.core.event import (
    Event,
    Failed,
    Finished,
    Logprobs,
    Reasoning,
    Started,
    Text,
    ToolCallPart,
    Usage,
)
from freehold.core.request import Message, Request, Tool, ToolCall
from freehold.core.settings import Settings
from freehold.engines.base import Launch, ModelFile
from freehold.engines.llamacpp import memory, tools, wire
from freehold.engines.llamacpp.engine import LlamaCpp
from freehold.engines.llamacpp.stops import Stops
from freehold.formats import gguf, infill
from tests.engines.fakeserver import ended, plain, said, served, streamed
from tests.engines.test_llamacpp_border import spoiled, text_of, told
from tests.formats.ggufs import ARRAY, STRING, Raw, packed
from tests.serving.support import in_loop

CHAT, NATIVE, TEMPLATE = "/v1/chat/completions", "/completion", "/apply-template"
ASK = Request(model="m", messages=(Message("user", "hi"),))
WEATHER = Tool("weather", "", {"type": "object", "properties": {}})

# Headers
FIELDS = {
    "llama.context_length": 2048,
    "llama.embedding_length": 64,
    "llama.block_count": 2,
    "llama.feed_forward_length": 128,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
}
VALUES: dict[str, tuple[int, bytes]] = {
    "nothing": (4, struct.pack("<I", 0)),
    "the most": (10, struct.pack("<Q", (1 << 64) - 1)),
    "below nothing": (5, struct.pack("<i", -1)),
    "a truth": (7, b"\1"),
    "a fraction": (6, struct.pack("<f", 1.5)),
    "no number": (6, struct.pack("<f", float("nan"))),
    "endless": (6, struct.pack("<f", float("inf"))),
    "a text": (STRING, packed("x")),
    "texts": (ARRAY, struct.pack("<IQ", STRING, 2) + packed("a", "b")),
    "an empty list": (ARRAY, struct.pack("<IQ", 4, 0)),
    "lists": (ARRAY, struct.pack("<IQ", ARRAY, 1) + struct.pack("<IQI", 4, 1, 7)),
}


def header(path: Path, key: str, value: tuple[int, bytes]) -> Path:
    """A model's file without weights, whose `key` has another value."""
    fields = {name: (4, struct.pack("<I", number)) for name, number in FIELDS.items()} | {key: value}
    raw = Raw().start(0, len(fields) + 1).text_key("general.architecture", "llama")
    for name, (kind, data) in fields.items():
        raw.string(name, name).number("I", kind, "type")
        raw.data += data
    return raw.write(path)


@pytest.mark.parametrize("key", [*FIELDS, "tokenizer.ggml.tokens", "llama.pooling_type", "tokenizer.chat_template"])
def test_whatever_a_header_says_it_is_measured_or_refused(key: str, tmp_path: Path):
    """Before anything native sees the file: what fits, what would, and where text can be inserted."""
    settings = Settings(home=tmp_path, parallel=2)
    for name, value in VALUES.items():
        path = header(tmp_path / "m.gguf", key, value)
        for model in (
            ModelFile(path, "m"),
            ModelFile(path, "m", launch=Launch()),
            ModelFile(path, "m", embedding=True),
        ):
            try:
                fit = LlamaCpp().fits(model, settings)
            except FreeholdError:
                continue
            assert fit.needed > 0, (key, name)
            assert fit.context_length > 0, (key, name)
        found = gguf.read_header(path)
        try:
            assert outlook(found, settings).fits, (key, name)
        except FreeholdError:
            assert key in FIELDS, (key, name)
        assert infill.marks(found.metadata) is None


def test_a_vocabulary_that_is_no_list_has_no_size(tmp_path: Path):
    sizes = []
    for value in (VALUES["texts"], VALUES["an empty list"], VALUES["nothing"], VALUES["a text"]):
        path = header(tmp_path / "m.gguf", "tokenizer.ggml.tokens", value)
        sizes.append(memory.estimate(0, gguf.read_header(path).metadata, 256, 1).scratch)
    assert sizes[0] == sizes[1] + 4 * memory.UBATCH * 2
    assert sizes[1] == sizes[2] == sizes[3]


# Calls
def parts_of(events: list[Event], index: int = 0) -> dict[int, str]:
    """The arguments of each call of a choice."""
    found: dict[int, str] = {}
    for event in events:
        if isinstance(event, ToolCallPart) and event.index == index:
            found[event.call] = found.get(event.call, "") + event.arguments
    return found


def call(number: int, name: str = "", arguments: str | None = "", index: int = 0) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments} if name else {"arguments": arguments}
    piece = {"index": number, **({"id": f"c{number}"} if name else {}), "function": function}
    return {"choices": [{"index": index, "delta": {"tool_calls": [piece]}}]}


@pytest.mark.parametrize(
    ("chunks", "reason", "arguments"),
    [
        ([call(0, "weather")], "tool_calls", {0: "{}"}),
        ([call(0, "weather", None)], "stop", {0: "{}"}),
        ([call(0, "weather"), call(0)], "tool_calls", {0: "{}"}),
        ([call(0, "weather"), call(0, arguments='{"a"'), call(0, arguments=": 1}")], "tool_calls", {0: '{"a": 1}'}),
        ([call(0, "weather"), call(1, "weather", "[]"), call(2, "weather")], "tool_calls", {0: "{}", 1: "[]", 2: "{}"}),
        ([call(0, "weather")], "length", {0: ""}),
        ([call(0, "weather", '{"a"')], "length", {0: '{"a"'}),
        ([call(1, "weather", index=1), call(0, "weather", "{}")], "tool_calls", {0: "{}"}),
    ],
)
@in_loop
async def test_the_arguments_of_a_call_are_json_unless_it_was_cut(
    tmp_path: Path, chunks: list[Any], reason: str, arguments: dict[int, str]
):
    """Models write calls without arguments; clients decode the empty text and fail."""
    request = Request(model="m", messages=ASK.messages, tools=(WEATHER,), n=2)
    async with served(tmp_path) as (fake, worker):
        fake.answers[CHAT] = streamed(*chunks, ended(reason), ended(reason, index=1))
        events = await told(worker, request)
    assert parts_of(events) == arguments
    starts = [event.call for event in events if isinstance(event, ToolCallPart) and event.name and event.index == 0]
    order = [event.call for event in events if isinstance(event, ToolCallPart) and event.index == 0]
    assert order == sorted(order), "a call is whole before the next begins"
    assert starts == sorted(set(starts))


@pytest.mark.parametrize("arguments", ["", "{}"])
def test_earlier_calls_without_arguments_are_json_for_templates_and_in_words(arguments: str):
    message = Message("assistant", "", (ToolCall("c", "f", arguments),))
    assert wire.message_body(message)["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    (words,) = tools.folded((message,), ())
    assert msgspec.json.decode(words.content) == {"name": "f", "arguments": {}}


@pytest.mark.parametrize("size", [1, 3, 1000])
@in_loop
async def test_a_stop_sequence_within_what_might_be_a_call_ends_the_text(tmp_path: Path, size: int):
    """The template knows no tools, so the text is held back until it is no call; then it is cut as any other."""
    text = '{"name": "nobody", "arguments": {}} END of it'
    request = Request(model="m", messages=ASK.messages, tools=(WEATHER,), stop=("END",))
    async with served(tmp_path) as (fake, worker):
        worker._knows_tools = False
        fake.answers[TEMPLATE] = plain({"prompt": "p"})
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        chunks = [{"choices": [{"index": 0, "text": piece}]} for piece in pieces]
        fake.answers["/v1/completions"] = streamed(*chunks, ended())
        events = await told(worker, request)
    assert text_of(events) == '{"name": "nobody", "arguments": {}} '
    assert isinstance(events[-1], Finished)
    assert (events[-1].reason, events[-1].stop) == ("stop", "END")


# Thoughts and texts in pieces
@in_loop
async def test_thoughts_and_text_come_in_their_order_however_they_alternate(tmp_path: Path):
    thought = {"choices": [{"index": 0, "delta": {"reasoning_content": "hm", "content": None}}]}
    both = {"choices": [{"index": 0, "delta": {"reasoning_content": "so", "content": "yes"}}]}
    async with served(tmp_path) as (fake, worker):
        fake.answers[CHAT] = streamed(thought, thought, both, said(" no"), thought, ended())
        _, *events, _ = await told(worker)
    assert events == [Reasoning("hm"), Reasoning("hm"), Reasoning("so"), Text("yes"), Text(" no"), Reasoning("hm")]


@given(st.lists(st.text("abE<|>", max_size=4), max_size=8), st.integers(0, 7))
def test_a_stop_sequence_is_found_in_text_and_never_across_a_thought(pieces: list[str], place: int):
    stops = Stops(("<|E|>", "bE"))
    events: list[Event] = [Text(piece) for piece in pieces]
    events.insert(min(place, len(events)), Reasoning("<|E|>"))
    out = [event for each in [*events, Finished("stop")] for event in stops.feed(each)]
    shown = "".join(event.text for event in out if isinstance(event, Text))
    sides = "".join(pieces[: min(place, len(pieces))]), "".join(pieces[min(place, len(pieces)) :])
    whole = any(word in side for side in sides for word in ("<|E|>", "bE"))
    assert bool(stops.found) == whole
    assert shown == "".join(sides) if not whole else "".join(sides).startswith(shown)


# Log-probabilities
def test_alternatives_are_as_many_as_wanted_and_bytes_need_no_character():
    half = {"token": "\ufffd", "bytes": [0xC3], "logprob": -0.25, "top_logprobs": None}
    other = {"token": "", "bytes": None, "logprob": -3, "id": 9}
    rich = {"token": "x", "logprob": -1, "top_logprobs": [other, other, half]}
    reader = wire.StreamReader(range(1), 2)
    chunk = {"choices": [{"index": 0, "delta": {}, "logprobs": {"content": [half, rich]}}]}
    (found,) = reader.feed(chunk)
    assert isinstance(found, Logprobs)
    first, second = found.tokens
    assert (first.token, first.bytes, first.top) == ("\ufffd", (0xC3,), ())
    assert (second.token, second.bytes, [each.id for each in second.top]) == ("x", (), [9, 9])


# llama-server's own route
RICH = {
    "index": 0,
    "content": "a",
    "tokens": [5],
    "stop": True,
    "stop_type": "word",
    "stopping_word": "x",
    "tokens_evaluated": 4,
    "tokens_predicted": 2,
    "completion_probabilities": [
        {"id": 1, "token": "a", "bytes": [97], "logprob": -1.0, "top_logprobs": [{"token": "b", "logprob": -2.0}]}
    ],
    "timings": {"cache_n": 1, "prompt_ms": 1.5, "predicted_ms": 2.5},
}


@in_loop
async def test_whatever_stands_in_a_chunk_of_the_native_route_the_answer_is_complete_or_failed(tmp_path: Path):
    request = Request(model="m", prompt="p", detail=True, logprobs=1)
    failed = 0
    async with served(tmp_path) as (fake, worker):
        fake.answers[NATIVE] = streamed(RICH)
        started, logprobs, text, finished = await told(worker, request)
        assert (started, text) == (Started(0, 4), Text("a", tokens=(5,)))
        assert isinstance(logprobs, Logprobs)
        assert isinstance(finished, Finished)
        assert (finished.usage, finished.stop) == (Usage(4, 2, 1), "x")
        for body in spoiled(copy.deepcopy(RICH), (None, 7, "x", ["y"])):
            fake.answers[NATIVE] = streamed(body)
            events = await told(worker, request)
            last = events[-1]
            if isinstance(last, Failed):
                assert isinstance(last.error, WorkerFailed), body
                failed += 1
                continue
            assert isinstance(last, Finished), body
            assert isinstance(last.stop, str), body
            assert {type(count) for count in msgspec.structs.astuple(last.usage)} == {int}, body
            assert {type(spent) for spent in msgspec.structs.astuple(last.timings)} == {float}, body
            assert all(isinstance(event.text, str) for event in events if isinstance(event, Text)), body
    assert failed > 20


@pytest.mark.parametrize("index", [1, 7, 10**12, "0"])
@in_loop
async def test_a_choice_that_nobody_asked_for_is_nonsense_there_too(tmp_path: Path, index: Any):
    async with served(tmp_path) as (fake, worker):
        fake.answers[NATIVE] = streamed({**RICH, "index": index})
        last = (await told(worker, Request(model="m", prompt="p", detail=True)))[-1]
        assert isinstance(last, Failed)
        assert "nonsense" in last.error.message
