import base64
import json
import math
import struct

import msgspec
import pytest

from freehold.core.errors import Busy, ContextOverflow, Forbidden, FreeholdError, UnknownModel, WorkerFailed
from freehold.core.event import (
    Embeddings,
    Failed,
    Finished,
    Logprobs,
    Reasoning,
    Started,
    Text,
    TokenLogprob,
    ToolCallPart,
    Usage,
)
from freehold.dialects.openai import answers, schema

LOGPROBS = Logprobs((TokenLogprob("He", -0.5, (72, 101), (TokenLogprob("He", -0.5, (72, 101)),)),))
EVENTS = [Started(), LOGPROBS, Text("He"), Text("llo"), Finished("stop", Usage(3, 2, 1))]
CALL = [
    Started(),
    ToolCallPart(0, id="call_1", name="f"),
    ToolCallPart(0, arguments='{"x"'),
    ToolCallPart(0, arguments=":1}"),
    Finished("tool_calls", Usage(3, 9)),
]


def _chunks(stream, events) -> list[dict]:
    return [chunk for event in events for chunk in stream.feed(event)] + list(stream.last())


def _whole(answer, events) -> dict:
    for event in events:
        answer.feed(event)
    return answer.body()


def test_a_whole_chat():
    body = _whole(answers.ChatWhole("m"), EVENTS)
    (choice,) = body["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hello", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert choice["logprobs"]["content"][0]["token"] == "He"
    assert choice["logprobs"]["content"][0]["top_logprobs"][0]["bytes"] == [72, 101]
    assert body["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "total_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 1},
    }
    assert body["object"] == "chat.completion"
    assert body["id"].startswith("chatcmpl-")


def test_chunks_say_what_the_whole_says():
    chunks = _chunks(answers.ChatStream("m", include_usage=True), EVENTS)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert deltas[0] == {"role": "assistant", "content": "", "refusal": None}
    assert "".join(delta.get("content") or "" for delta in deltas) == "Hello"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]] == [None, None, None, "stop"]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * 4
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 5


def test_logprobs_travel_with_their_text():
    chunks = _chunks(answers.ChatStream("m", include_usage=False), EVENTS)
    carrying = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["logprobs"]]
    assert [choice["delta"] for choice in carrying] == [{"content": "He"}]


def test_usage_is_not_sent_unasked():
    chunks = _chunks(answers.ChatStream("m", include_usage=False), EVENTS)
    assert not any("usage" in chunk for chunk in chunks)


def test_tool_calls():
    (choice,) = _whole(answers.ChatWhole("m"), CALL)["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"] == [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
    ]
    parts = [
        chunk["choices"][0]["delta"]["tool_calls"][0]
        for chunk in _chunks(answers.ChatStream("m", include_usage=False), CALL)
        if "tool_calls" in chunk["choices"][0]["delta"]
    ]
    assert parts[0] == {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
    assert "".join(part["function"]["arguments"] for part in parts) == '{"x":1}'
    assert all("id" not in part for part in parts[1:])


def test_reasoning_is_apart_from_the_answer():
    events = [Started(), Reasoning("hm"), Text("yes"), Finished("stop")]
    (choice,) = _whole(answers.ChatWhole("m"), events)["choices"]
    assert (choice["message"]["reasoning_content"], choice["message"]["content"]) == ("hm", "yes")


def test_several_choices_keep_their_order_and_sum_their_usage():
    events = [
        Started(1), Started(0), Text("b", 1), Text("a", 0),
        Finished("stop", Usage(0, 2), index=1), Finished("length", Usage(5, 3), index=0),
    ]  # fmt: skip
    body = _whole(answers.ChatWhole("m"), events)
    assert [(c["index"], c["message"]["content"], c["finish_reason"]) for c in body["choices"]] == [
        (0, "a", "length"),
        (1, "b", "stop"),
    ]
    assert body["usage"]["completion_tokens"] == 5
    assert body["usage"]["prompt_tokens"] == 5


def test_a_failure_is_raised_or_sent():
    failed = Failed(WorkerFailed("the worker died", "Try again"))
    with pytest.raises(WorkerFailed):
        _whole(answers.ChatWhole("m"), [Started(), failed])
    chunks = _chunks(answers.ChatStream("m", include_usage=False), [Started(), failed])
    assert chunks[-1]["error"]["message"] == "the worker died. Try again"
    assert chunks[-1]["error"]["type"] == "server_error"


def test_plain_completions_tell_offsets():
    told = TokenLogprob("Say: ", math.nan), TokenLogprob("it ", -1.5, top=(TokenLogprob("a", -0.1),))
    events = [EVENTS[0], Logprobs(told), Text("Say: it "), *EVENTS[1:]]
    body = _whole(answers.CompletionWhole("m"), events)
    (choice,) = body["choices"]
    assert choice["text"] == "Say: it Hello"
    expected = {
        "tokens": ["Say: ", "it ", "He"],
        "token_logprobs": [None, -1.5, -0.5],
        "top_logprobs": [None, {"a": -0.1}, {"He": -0.5}],
        "text_offset": [0, 5, 8],
    }
    assert choice["logprobs"] == expected
    chunks = _chunks(answers.CompletionStream("m", include_usage=True), events)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks[:-1]) == "Say: it Hello"
    assert chunks[-1]["usage"]["completion_tokens"] == 2
    found = [chunk["choices"][0]["logprobs"] for chunk in chunks[:-1] if chunk["choices"][0]["logprobs"]]
    assert {key: [each for part in found for each in part[key]] for key in expected} == expected


def _drawn(index: int, text: str, *logprobs: float) -> list:
    tokens = tuple(TokenLogprob("x", logprob, (120,)) for logprob in logprobs)
    return [Started(index), Logprobs(tokens, index), Text(text, index), Finished("stop", Usage(0, 2), index=index)]


def test_the_likeliest_completions_of_each_prompt_are_told():
    """By the mean over their tokens, so that a long answer is not behind for its length."""
    body = schema.CompletionRequest(model="m", prompt=["p", "q"], n=2, best_of=3, logprobs=0)
    drawn = [_drawn(0, "a", -3.0), _drawn(1, "b", -1.0, -1.0), _drawn(2, "c", -0.5, -2.0)]
    drawn += [_drawn(3, "d"), _drawn(4, "e", -9.0), _drawn(5, "f", -0.1)]
    events = [event for one in drawn for event in one]
    told = _whole(answers.completion_whole(body, 3), events)
    assert [choice["text"] for choice in told["choices"]] == ["b", "c", "f", "e"]
    assert [choice["index"] for choice in told["choices"]] == [0, 1, 2, 3]
    assert told["choices"][0]["logprobs"]["token_logprobs"] == [-1.0, -1.0]
    assert told["usage"]["completion_tokens"] == 12, "those that are not told were drawn too"
    silent = msgspec.structs.replace(body, logprobs=None)
    assert _whole(answers.completion_whole(silent, 3), events)["choices"][0]["logprobs"] is None
    assert type(answers.completion_whole(body, 2)) is answers.CompletionWhole


def test_embeddings_as_numbers_and_as_base64():
    found = Embeddings(((0.5, -0.25), (1.0, 0.0)), Usage(prompt_tokens=4))
    plain = answers.embeddings_body(found, "m", base64_wanted=False)
    assert [row["embedding"] for row in plain["data"]] == [(0.5, -0.25), (1.0, 0.0)]
    packed = answers.embeddings_body(found, "m", base64_wanted=True)
    assert struct.unpack("<2f", base64.b64decode(packed["data"][0]["embedding"])) == (0.5, -0.25)
    assert packed["usage"] == {"prompt_tokens": 4, "total_tokens": 4}


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (UnknownModel("no model"), "invalid_request_error", "model_not_found"),
        (ContextOverflow("too long"), "invalid_request_error", "context_length_exceeded"),
        (Busy("full"), "server_error", "server_busy"),
        (Forbidden("no"), "permission_error", "forbidden"),
        (FreeholdError("bug"), "server_error", "internal_error"),
    ],
)
def test_errors_have_openais_shape(error: FreeholdError, kind: str, code: str):
    body = answers.error_body(error)["error"]
    assert set(body) == {"message", "type", "param", "code"}
    assert (body["type"], body["code"]) == (kind, code)
    json.dumps(body)
