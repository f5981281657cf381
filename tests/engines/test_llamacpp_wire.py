import pytest

from freehold.core.errors import BadInput, ContextOverflow, Unsupported, WorkerFailed
from freehold.core.event import Finished, Logprobs, Reasoning, Text, Timings, ToolCallPart, Usage
from freehold.core.request import Constraint, Message, Request, Sampling, Tool, ToolCall
from freehold.engines.llamacpp import wire

ONE = range(1)
GUIDANCE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


def _request(**fields) -> Request:
    return Request(**{"model": "m", "messages": (Message("user", "hi"),), **fields})


def test_only_what_is_set_is_sent():
    body = wire.chat_body(_request(), ONE)
    assert body["messages"] == [{"role": "user", "content": "hi"}]
    assert body["stream"] is True
    assert not set(body) & {"temperature", "seed", "max_tokens", "logprobs", "tools", "logit_bias"}


def test_every_sampling_field_is_sent():
    sampling = Sampling(0.5, 0.9, 40, 0.1, 1.0, -1.0, 1.1, 7, {5: -100.0})
    body = wire.chat_body(_request(sampling=sampling, max_tokens=9, stop=("a",), n=2), range(2))
    expected = {
        "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.1, "presence_penalty": 1.0, "frequency_penalty": -1.0,
        "repeat_penalty": 1.1, "seed": 7, "logit_bias": [[5, -100.0]], "max_tokens": 9, "stop": [], "n": 2,
        "timings_per_token": True,
    }  # fmt: skip
    assert expected.items() <= body.items()
    told = wire.chat_body(_request(stop=("a",), logprobs=1), range(1))
    assert (told["stop"], told["timings_per_token"]) == (["a"], False)


@pytest.mark.parametrize(
    ("seed", "first", "sent"),
    [(0, 0, 0), (5, 4, 9), (-1, 0, 0xFFFFFFFE), (0xFFFFFFFF, 0, 0xFFFFFFFE), (1 << 40, 1, 1), (-(1 << 63), 0, 0)],
)
def test_seeds_fit_the_server_and_never_mean_random(seed: int, first: int, sent: int):
    body = wire.generation_body(_request(sampling=Sampling(seed=seed)), range(first, first + 1))
    assert body["seed"] == sent
    assert body["cache_prompt"] is False, "what was cached would change the numbers a little"


def test_conversations_with_tools():
    messages = (
        Message("assistant", "", (ToolCall("c1", "f", '{"x":1}'),)),
        Message("tool", "42", tool_call_id="c1", name="f"),
    )
    body = wire.chat_body(_request(messages=messages, tools=(Tool("f", "does", {"type": "object"}),)), ONE)
    assert body["messages"][0]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"x":1}'}
    assert body["messages"][1] == {"role": "tool", "content": "42", "tool_call_id": "c1", "name": "f"}
    assert body["tools"][0]["function"] == {"name": "f", "description": "does", "parameters": {"type": "object"}}
    assert "tools" not in wire.chat_body(_request(tools=(Tool("f"),), tool_choice="none"), ONE)


def test_what_was_thought_goes_to_the_template():
    body = wire.message_body(Message("assistant", "42", reasoning="six times seven"))
    assert body == {"role": "assistant", "content": "42", "reasoning_content": "six times seven"}
    assert "reasoning_content" not in wire.message_body(Message("assistant", "42"))


def test_templates_are_told_whether_to_think():
    assert "chat_template_kwargs" not in wire.conversation_body(_request())
    body = wire.conversation_body(_request(think=False, effort="low"))
    assert body["chat_template_kwargs"] == {"enable_thinking": False, "reasoning_effort": "low"}


@pytest.mark.parametrize(
    ("constraint", "sent"),
    [
        (Constraint("json"), {"json_schema": {"type": "object", "x-guidance": GUIDANCE}}),
        (Constraint("schema", {"enum": [1], "x-guidance": 0}), {"json_schema": {"enum": [1], "x-guidance": GUIDANCE}}),
        (Constraint("grammar", grammar="root ::= x"), {"grammar": "root ::= x"}),
    ],
)
def test_constraints(constraint: Constraint, sent: dict):
    assert sent.items() <= wire.completion_body(_request(), ONE, "p", constraint).items()


def test_at_least_one_alternative_is_asked_and_none_is_kept_unasked():
    assert wire.chat_body(_request(logprobs=0), ONE)["top_logprobs"] == 1
    token = {"token": "a", "bytes": [97], "logprob": -1, "top_logprobs": [{"token": "b", "bytes": [98], "logprob": -2}]}
    chunk = {"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [token]}}]}
    logprobs, text = wire.StreamReader(ONE, 0).feed(chunk)
    assert isinstance(logprobs, Logprobs)
    assert (logprobs.tokens[0].token, logprobs.tokens[0].logprob, logprobs.tokens[0].top) == ("a", -1.0, ())
    assert text == Text("a")
    with_one = next(iter(wire.StreamReader(ONE, 1).feed(chunk)))
    assert [other.token for other in with_one.tokens[0].top] == ["b"]
    assert list(wire.StreamReader(ONE, None).feed(chunk)) == [Text("a")]


def test_chat_chunks_become_events():
    reader = wire.StreamReader(range(4, 6), None)
    assert list(reader.feed({"choices": [{"index": 0, "delta": {"role": "assistant", "content": None}}]})) == []
    assert list(reader.feed({"choices": [{"index": 1, "delta": {"reasoning_content": "hm"}}]})) == [Reasoning("hm", 5)]
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}
    found = list(reader.feed({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}))
    assert found == [ToolCallPart(0, "c", "f", "{", 4)]
    assert reader.open == {4, 5}


def test_only_choice_zero_counts_the_shared_prompt():
    timings = {"cache_n": 3, "prompt_n": 4, "predicted_n": 5, "prompt_ms": 1.5, "predicted_ms": 2.5}
    reader = wire.StreamReader(range(2), None)
    first, second = (
        next(iter(reader.feed({"choices": [{"index": i, "delta": {}, "finish_reason": "length"}], "timings": timings})))
        for i in range(2)
    )
    assert first == Finished("length", Usage(7, 5, 3), Timings(1.5, 2.5), 0)
    assert second == Finished("length", Usage(0, 5, 0), Timings(1.5, 2.5), 1)
    assert first.usage + second.usage == Usage(7, 10, 3)
    assert reader.open == set()


def test_progress_and_usage_chunks_say_nothing():
    reader = wire.StreamReader(ONE, 2)
    assert list(reader.feed({"choices": [{"index": 0, "text": "", "logprobs": None}], "prompt_progress": {}})) == []
    assert list(reader.feed({"choices": [], "usage": {}})) == []


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (
            {"type": "exceed_context_size_error", "code": 400, "n_prompt_tokens": 9, "n_ctx": 4},
            ContextOverflow,
            "9 tokens",
        ),
        (
            {"code": 500, "message": "input (30 tokens) is too large to process. … batch size: 8)"},
            ContextOverflow,
            "30",
        ),
        ({"code": 501, "type": "not_supported_error", "message": "no\nembeddings"}, Unsupported, "no embeddings"),
        ({"code": 400, "message": "parser: JSON schema error at #: x"}, BadInput, "^JSON schema error"),
        ({"code": 400, "message": "plain"}, BadInput, "plain"),
        ({"code": 500, "message": "boom"}, WorkerFailed, "boom"),
        ({"code": 503, "message": "loading"}, WorkerFailed, "loading"),
        ("text", WorkerFailed, "text"),
        ({}, WorkerFailed, "no message"),
    ],
)
def test_the_servers_errors_are_ours(error, kind, said: str):
    found = wire.error_of({"error": error})
    assert type(found) is kind
    with pytest.raises(kind, match=said):
        raise found


def test_an_error_chunk_raises():
    with pytest.raises(WorkerFailed):
        list(wire.StreamReader(ONE, None).feed({"error": {"code": 500, "message": "x"}}))
