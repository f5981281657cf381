"""What every translation obeys: the request is within its own bounds, and says what the wire said."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from freehold.core.errors import BadInput, FreeholdError
from freehold.core.request import FOREVER, EmbedRequest, Message, Request, ToolCall
from freehold.dialects.anthropic import schema as anthropic_schema
from freehold.dialects.anthropic import translate as anthropic
from freehold.dialects.ollama import schema as ollama_schema
from freehold.dialects.ollama import translate as ollama
from freehold.dialects.openai import schema as openai_schema
from freehold.dialects.openai import translate as openai
from freehold.serving.decoding import decode
from tests.dialects.test_errors import outcome

USER = [{"role": "user", "content": "hi"}]


def openai_chat(**fields: Any) -> Request:
    body = {"model": "m", "messages": USER, **fields}
    return openai.chat_request(decode(json.dumps(body).encode(), openai_schema.ChatRequest))


def openai_completion(**fields: Any) -> Request:
    body = {"model": "m", "prompt": "a", **fields}
    return openai.completion_requests(decode(json.dumps(body).encode(), openai_schema.CompletionRequest))[0]


def anthropic_message(**fields: Any) -> Request:
    body = {"model": "m", "max_tokens": 5, "messages": USER, **fields}
    return anthropic.messages_request(decode(json.dumps(body).encode(), anthropic_schema.MessagesRequest))


def ollama_chat(**fields: Any) -> Request:
    body = {"model": "m", "messages": USER, **fields}
    return ollama.chat_request(decode(json.dumps(body).encode(), ollama_schema.ChatRequest), "m")


def ollama_generate(**fields: Any) -> Request:
    body = {"model": "m", "prompt": "a", **fields}
    return ollama.generate_request(decode(json.dumps(body).encode(), ollama_schema.GenerateRequest), "m")


def ollama_option(name: str) -> Any:
    return lambda **fields: ollama_chat(options={name: next(iter(fields.values()))})


ASKS = {
    "openai chat": openai_chat,
    "openai completion": openai_completion,
    "anthropic": anthropic_message,
    "ollama chat": ollama_chat,
    "ollama generate": ollama_generate,
}


def lawful(request: Request | EmbedRequest) -> None:
    """It is within its own bounds: it comes back from the wire as it went."""
    assert msgspec.convert(msgspec.to_builtins(request, str_keys=True), type(request), strict=False) == request


def _sampled(*fields: tuple[str, float | None, float, float, float | None]) -> list[tuple[str, Any, Any, Any, Any]]:
    return list(fields)


# field, just too small, least, most, just too large; None: no such end
SHARED = _sampled(
    ("temperature", -0.01, 0, 2, 2.01),
    ("top_p", -0.01, 0, 1, 1.01),
    ("top_k", -1, 0, 1 << 20, (1 << 20) + 1),
    ("min_p", -0.01, 0, 1, 1.01),
    ("presence_penalty", -2.01, -2, 2, 2.01),
    ("frequency_penalty", -2.01, -2, 2, 2.01),
    ("repeat_penalty", 0, 0.01, 10, 10.01),
    ("seed", -(1 << 63) - 1, -(1 << 63), (1 << 63) - 1, 1 << 63),
)
OLLAMAS = _sampled(
    ("temperature", -0.01, 0, 2, 2.01),
    ("top_p", -0.01, 0, 1, 1.01),
    ("min_p", -0.01, 0, 1, 1.01),
    ("presence_penalty", -2.01, -2, 2, 2.01),
    ("frequency_penalty", -2.01, -2, 2, 2.01),
    ("repeat_penalty", -0.01, 0, 10, 10.01),
    ("seed", -(1 << 31) - 1, 0, 1 << 53, (1 << 53) + 1),
)
ANTHROPICS = _sampled(
    ("temperature", -0.01, 0, 1, 1.01), ("top_p", -0.01, 0, 1, 1.01), ("top_k", -1, 0, 1 << 20, (1 << 20) + 1)
)
SAMPLED = [
    *(("openai chat", openai_chat, *row) for row in SHARED),
    *(("openai completion", openai_completion, *row) for row in SHARED),
    *(("anthropic", anthropic_message, *row) for row in ANTHROPICS),
    *(("ollama", ollama_option(row[0]), *row) for row in OLLAMAS),
]


@pytest.mark.parametrize(
    ("ask", "field", "small", "least", "most", "large"),
    [row[1:] for row in SAMPLED],
    ids=[f"{row[0]} {row[2]}" for row in SAMPLED],
)
def test_sampling_is_taken_up_to_its_ends_and_not_beyond(
    ask: Any, field: str, small: Any, least: Any, most: Any, large: Any
):
    for value in (least, most):
        request = ask(**{field: value})
        assert getattr(request.sampling, field) == value
        lawful(request)
    for value in (small, large, "1", [1], {}, True):
        with pytest.raises(BadInput, match=field):
            ask(**{field: value})
    assert getattr(ask(**{field: None}).sampling, field) is None


MOST = 1 << 20
LENGTHS = [
    ("openai chat max_tokens", lambda v: openai_chat(max_tokens=v), 1, MOST, (0, -1, MOST + 1)),
    ("openai chat newer", lambda v: openai_chat(max_completion_tokens=v), 1, MOST, (0, -1, MOST + 1)),
    ("openai completion", lambda v: openai_completion(max_tokens=v), 1, MOST, (-1, MOST + 1)),
    ("anthropic", lambda v: anthropic_message(max_tokens=v), 1, MOST, (0, -1, MOST + 1, None)),
    ("ollama", lambda v: ollama_chat(options={"num_predict": v}), 1, MOST, (MOST + 1, -(1 << 31) - 1)),
]


@pytest.mark.parametrize(("ask", "least", "most", "beyond"), [r[1:] for r in LENGTHS], ids=[r[0] for r in LENGTHS])
def test_the_length_of_an_answer(ask: Any, least: int, most: int, beyond: tuple[Any, ...]):
    for value in (least, most):
        assert ask(value).max_tokens == value
        lawful(ask(value))
    for value in (*beyond, 1.5, "5", True):
        with pytest.raises(BadInput):
            ask(value)


STOPS = [
    ("openai chat", lambda stop: openai_chat(stop=stop)),
    ("openai completion", lambda stop: openai_completion(stop=stop)),
    ("anthropic", lambda stop: anthropic_message(stop_sequences=stop)),
    ("ollama", lambda stop: ollama_chat(options={"stop": stop})),
]


@pytest.mark.parametrize("ask", [row[1] for row in STOPS], ids=[row[0] for row in STOPS])
def test_stop_sequences_up_to_their_ends(ask: Any):
    words = [f"{number:02}" * 512 for number in range(16)]
    assert ask(words).stop == tuple(words)
    lawful(ask(words))
    assert ask([]).stop == ()
    assert ask(None).stop == ()
    for wrong in ([*words, "x"], ["x" * 1025], [1], [None], 5, {"a": "b"}):
        with pytest.raises(BadInput, match="stop"):
            ask(wrong)


def openai_tool(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **fields}}


TOOLS = [
    ("openai", openai_chat, openai_tool, "parameters"),
    ("anthropic", anthropic_message, lambda name, **fields: {"name": name, **fields}, "input_schema"),
    ("ollama", ollama_chat, openai_tool, "parameters"),
]


@pytest.mark.parametrize(("ask", "tool", "field"), [row[1:] for row in TOOLS], ids=[row[0] for row in TOOLS])
def test_tools_are_the_same_in_every_dialect(ask: Any, tool: Any, field: str):
    schema = {"type": "object", "properties": {"x": {"enum": [1, None, "a"]}}}
    request = ask(tools=[tool("f", description="does", **{field: schema}), tool("A.b-c_9" * 9)])
    assert [(each.name, each.description, each.parameters) for each in request.tools] == [
        ("f", "does", schema),
        ("A.b-c_9" * 9, "", {}),
    ]
    lawful(request)


@pytest.mark.parametrize(("ask", "tool", "field"), [row[1:] for row in TOOLS], ids=[row[0] for row in TOOLS])
@pytest.mark.parametrize("name", ["", "a b", "f\n", "\nf", "é", "a" * 65, 'f", "x', "f\x00", "f/g", None, 5])
def test_a_tools_name_is_plain(ask: Any, tool: Any, field: str, name: Any):
    with pytest.raises(BadInput):
        ask(tools=[tool(name)])


@pytest.mark.parametrize(("ask", "tool", "field"), [row[1:] for row in TOOLS], ids=[row[0] for row in TOOLS])
def test_tools_have_a_most(ask: Any, tool: Any, field: str):
    assert len(ask(tools=[tool(f"f{number}") for number in range(128)]).tools) == 128
    with pytest.raises(BadInput, match="tools"):
        ask(tools=[tool(f"f{number}") for number in range(129)])
    with pytest.raises(BadInput, match=field):
        ask(tools=[tool("f", **{field: []})])


@pytest.mark.parametrize("token", ["5\n", "-1", "1.0", "", " 5", "5 ", "123456789", "\u0665", "x"])
def test_the_tokens_of_a_bias_are_digits(token: str):
    for ask in (openai_chat, openai_completion):
        with pytest.raises(BadInput, match="logit_bias"):
            ask(logit_bias={token: 1})
        assert ask(logit_bias={"0": -100, "99999999": 100}).sampling.logit_bias == {0: -100, 99999999: 100}


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
@pytest.mark.parametrize(
    "model", ["m", "org/model:tag", "ollama::llama3:8b", "x" * 256, "é", "../..", "a\nb"], ids=lambda text: text[:9]
)
def test_a_models_name_is_handed_on_as_it_is(ask: Any, model: str):
    assert ask(model=model).model in (model, "m")  # Ollama's routes look it up first
    for wrong in ("", "x" * 513, None, 5, ["m"]):
        with pytest.raises(BadInput, match="model"):
            ask(model=wrong)


words = st.text(st.sampled_from('ab é漢\n\u2028"\\{}'), max_size=12)
ROLES = ["system", "developer", "user", "assistant"]
openai_turns = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["system", "developer", "user", "assistant"]), "content": words}
        ),
        st.fixed_dictionaries(
            {"role": st.just("user"), "content": st.lists(words.map(lambda t: {"type": "text", "text": t}), max_size=3)}
        ),
        st.fixed_dictionaries({"role": st.just("tool"), "content": words, "tool_call_id": st.just("c1")}),
    ),
    min_size=1,
    max_size=5,
)


@given(openai_turns)
def test_openais_turns_keep_their_order_and_words(messages: list[dict[str, Any]]):
    request = openai_chat(messages=messages)
    lawful(request)
    said = [
        m["content"] if isinstance(m["content"], str) else "".join(p["text"] for p in m["content"]) for m in messages
    ]
    assert [turn.content for turn in request.messages] == said
    roles = {"developer": "system"}
    assert [turn.role for turn in request.messages] == [roles.get(m["role"], m["role"]) for m in messages]


@given(openai_turns.filter(lambda turns: all(isinstance(turn["content"], str) for turn in turns)))
def test_the_same_conversation_is_the_same_request_from_ollamas_clients(messages: list[dict[str, Any]]):
    known = [turn for turn in messages if turn["role"] != "developer"]
    theirs = ollama_chat(messages=known).messages
    assert theirs == (openai_chat(messages=known).messages if known else ())


json_objects = st.dictionaries(
    words,
    st.recursive(st.none() | st.booleans() | st.integers(-99, 99) | words, lambda inner: st.lists(inner, max_size=2)),
    max_size=3,
)
blocks = st.one_of(
    words.map(lambda text: {"type": "text", "text": text}),
    st.tuples(words, words).map(
        lambda two: {"type": "document", "title": two[0], "source": {"type": "text", "data": two[1]}}
    ),
)
users = st.lists(
    blocks | words.map(lambda text: {"type": "tool_result", "tool_use_id": "t", "content": text}),
    min_size=1,
    max_size=4,
)
assistants = st.lists(
    words.map(lambda text: {"type": "text", "text": text})
    | json_objects.map(lambda given: {"type": "tool_use", "id": "t", "name": "f", "input": given})
    | words.map(lambda text: {"type": "thinking", "thinking": text, "signature": "s"}),
    max_size=4,
)


@given(users, assistants, users)
def test_anthropics_blocks_lose_no_word_and_no_call(first: list[Any], said: list[Any], last: list[Any]):
    roles = ("user", "assistant", "user")
    messages = [{"role": role, "content": content} for role, content in zip(roles, (first, said, last), strict=True)]
    request = anthropic_message(messages=messages)
    lawful(request)
    results = [block["content"] for block in (*first, *last) if block["type"] == "tool_result"]
    assert [turn.content for turn in request.messages if turn.role == "tool"] == results
    calls = [call for turn in request.messages for call in turn.tool_calls]
    assert [json.loads(call.arguments) for call in calls] == [b["input"] for b in said if b["type"] == "tool_use"]
    (answer,) = [turn for turn in request.messages if turn.role == "assistant"]
    assert answer.content == "\n".join(block["text"] for block in said if block["type"] == "text")
    told = "".join(turn.content for turn in request.messages if turn.role == "user")
    for block in (*first, *last):
        assert block.get("text", "") in told


@given(json_objects)
def test_arguments_of_calls_are_the_same_json_from_every_dialect(arguments: dict[str, Any]):
    call = {"id": "c", "function": {"name": "f", "arguments": arguments}}
    theirs = ollama_chat(messages=[*USER, {"role": "assistant", "tool_calls": [call]}]).messages[1].tool_calls
    block = {"type": "tool_use", "id": "c", "name": "f", "input": arguments}
    others = (
        anthropic_message(messages=[*USER, {"role": "assistant", "content": [block]}, *USER]).messages[1].tool_calls
    )
    assert theirs == others == (ToolCall("c", "f", theirs[0].arguments),)
    assert json.loads(theirs[0].arguments) == arguments
    text = json.dumps(arguments)
    said = {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": text}}]}
    assert openai_chat(messages=[*USER, said]).messages[1].tool_calls == (ToolCall("c", "f", text),)


UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(sorted(UNITS))), min_size=1, max_size=4))
def test_durations_add_up(pieces: list[tuple[int, str]]):
    text = "".join(f"{number}{unit}" for number, unit in pieces)
    expected = sum(number * UNITS[unit] for number, unit in pieces)
    assert ollama.seconds(text) == pytest.approx(expected)
    assert ollama.seconds(f"+{text}") == ollama.seconds(f" {text} ") == ollama.seconds(text)
    assert ollama.seconds(f"-{text}") == (FOREVER if expected else 0)
    lawful(ollama_chat(keep_alive=text))


@given(
    st.text(st.sampled_from("0159.-+ hmsuµn\u0665e_"), max_size=8)
    | st.floats(-1e18, 1e18)
    | st.integers(-(10**17), 10**17)
)
def test_any_duration_is_seconds_or_refused(duration: Any):
    seconds = outcome(lambda: ollama.seconds(duration))
    if isinstance(seconds, BadInput):
        assert seconds.param == "keep_alive"
    else:
        assert 0 <= seconds <= FOREVER
        lawful(ollama_chat(keep_alive=duration))


@pytest.mark.parametrize(
    ("given", "bound"),
    [(0, None), (1, 16), (15, 16), (16, 16), (17, 17), (1 << 24, 1 << 24), (None, None)],
)
def test_a_context_is_at_least_the_smallest(given: Any, bound: int | None):
    request = ollama_chat(options={"num_ctx": given})
    assert request.context_length == bound
    lawful(request)


@pytest.mark.parametrize("top_k", [-(1 << 31), -1, 0, 1, 1 << 20, (1 << 20) + 1, 1 << 53])
def test_ollamas_top_k_is_cut_to_ours(top_k: int):
    request = ollama_chat(options={"top_k": top_k})
    assert request.sampling.top_k == min(max(0, top_k), 1 << 20)
    lawful(request)


VALUES = [None, True, -1, 0, 1, 1.5, 10**18, "", "x", "5m", "none", [], [[]], {}, {"a": {}}, ["a"], [None], [1], [{}]]


@pytest.mark.parametrize("ask", [anthropic_message, ollama_chat, ollama_generate])
@hypothesis_settings(max_examples=60)
@given(data=st.data())
def test_every_field_with_every_kind_of_value_is_lawful_or_refused(ask: Any, data: st.DataObject):
    kind = {
        anthropic_message: anthropic_schema.MessagesRequest,
        ollama_chat: ollama_schema.ChatRequest,
        ollama_generate: ollama_schema.GenerateRequest,
    }[ask]
    names = [field.encode_name for field in msgspec.structs.fields(kind)]
    fields = data.draw(st.dictionaries(st.sampled_from(names), st.sampled_from(VALUES), max_size=3))
    found = outcome(lambda: ask(**fields))
    if isinstance(found, FreeholdError):
        assert found.status == 400
    else:
        lawful(found)


def test_an_empty_turn_is_a_turn():
    assert openai_chat(messages=[{"role": "user"}]).messages == (Message("user", ""),)
    assert ollama_chat(messages=[{"role": "user"}]).messages == (Message("user", ""),)
    assert anthropic_message(messages=[{"role": "user", "content": []}]).messages == (Message("user", ""),)
