"""What a client puts together from a stream is what it gets in one piece, whatever the engine's events are."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.event import Event, Finished, Logprobs, Reasoning, Started, Text, TokenLogprob, ToolCallPart, Usage
from freehold.dialects.anthropic import answers as anthropic
from freehold.dialects.ollama import answers as ollama
from freehold.dialects.openai import answers as openai

words = st.text(st.sampled_from('ab {}"\n\u2028é😀'), max_size=4)
DEEP = "[" * 5000 + "]" * 5000
ARGUMENTS = ["{}", "", '{"a": 1}', '{"city": "São Paulo"}', '{"a"', "[1]", "null", "nonsense", f'{{"a": {DEEP}}}', DEEP]


def cut(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)] or [""]


@st.composite
def answers(draw: st.DrawFn, index: int = 0, calls: bool = True) -> list[Event]:
    """The events of one choice, as an engine may send them."""
    events: list[Event] = [Started(index, draw(st.integers(0, 9)))]
    call = 0
    for kind in draw(
        st.lists(st.sampled_from(["text", "thought", "logprobs", *(["call"] if calls else [])]), max_size=6)
    ):
        if kind == "text":
            events.append(Text(draw(words), index))
        elif kind == "thought":
            events.append(Reasoning(draw(words), index))
        elif kind == "logprobs":
            text = draw(words)
            events.append(Logprobs((TokenLogprob(text, -1.0, tuple(text.encode())),), index))
        else:
            pieces = cut(draw(st.sampled_from(ARGUMENTS[:8])), draw(st.integers(1, 5)))
            events.append(ToolCallPart(call, f"call_{call}", "f", index=index))
            events += [ToolCallPart(call, arguments=piece, index=index) for piece in pieces]
            call += 1
    reason = draw(st.sampled_from(["stop", "length", *(["tool_calls"] if call else [])]))
    usage = Usage(draw(st.integers(0, 9)), draw(st.integers(0, 9)))
    return [*events, Finished(reason, usage, index=index)]


@st.composite
def interleaved(draw: st.DrawFn, calls: bool = True) -> list[Event]:
    """The events of some choices, each in its own order."""
    waiting = [draw(answers(index, calls)) for index in range(draw(st.integers(1, 3)))]
    events = []
    while waiting:
        chosen = draw(st.integers(0, len(waiting) - 1))
        events.append(waiting[chosen].pop(0))
        waiting = [each for each in waiting if each]
    return events


def openai_message(chunks: Sequence[dict[str, Any]], index: int) -> dict[str, Any]:
    """A choice as OpenAI's clients put it together."""
    found: dict[str, Any] = {"content": "", "reasoning": "", "calls": [], "reason": None, "tokens": []}
    for chunk in chunks:
        for choice in chunk["choices"]:
            if choice["index"] != index:
                continue
            delta = choice["delta"]
            found["content"] += delta.get("content") or ""
            found["reasoning"] += delta.get("reasoning_content") or ""
            found["tokens"] += (choice["logprobs"] or {}).get("content", [])
            found["reason"] = choice["finish_reason"] or found["reason"]
            for part in delta.get("tool_calls", ()):
                if part["index"] == len(found["calls"]):
                    found["calls"].append({"id": part["id"], "name": part["function"]["name"], "arguments": ""})
                found["calls"][part["index"]]["arguments"] += part["function"]["arguments"]
    return found


@given(interleaved())
def test_an_openai_chat_streamed_is_the_chat_whole(events: list[Event]):
    stream, whole = openai.ChatStream("m", include_usage=True), openai.ChatWhole("m")
    chunks = [json.loads(json.dumps(chunk)) for event in events for chunk in stream.feed(event)] + list(stream.last())
    for event in events:
        whole.feed(event)
    body = json.loads(json.dumps(whole.body()))
    assert chunks[-1]["usage"] == body["usage"]
    for choice in body["choices"]:
        found = openai_message(chunks, choice["index"])
        message = choice["message"]
        calls = [{"id": call["id"], **call["function"]} for call in message.get("tool_calls", [])]
        assert found["content"] == (message["content"] or "")
        assert found["reasoning"] == message.get("reasoning_content", "")
        assert (found["calls"], found["reason"]) == (calls, choice["finish_reason"])
        assert found["tokens"] == ((choice["logprobs"] or {}).get("content") or [])


@given(interleaved(calls=False))
def test_a_plain_completion_streamed_is_the_completion_whole(events: list[Event]):
    stream, whole = openai.CompletionStream("m", include_usage=False), openai.CompletionWhole("m")
    chunks = [chunk["choices"][0] for event in events for chunk in stream.feed(event)]
    assert list(stream.last()) == []
    for event in events:
        whole.feed(event)
    for choice in whole.body()["choices"]:
        mine = [chunk for chunk in chunks if chunk["index"] == choice["index"]]
        assert "".join(chunk["text"] for chunk in mine) == choice["text"]
        assert mine[-1]["finish_reason"] == choice["finish_reason"]
        assert all(chunk["finish_reason"] is None for chunk in mine[:-1])
        told = [token for chunk in mine if chunk["logprobs"] for token in chunk["logprobs"]["tokens"]]
        assert told == (choice["logprobs"] or {"tokens": []})["tokens"]


def anthropic_blocks(told: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The blocks as Anthropic's clients put them together; each opens, grows and closes before the next."""
    block: dict[str, Any] | None = None
    count = 0
    for event in told:
        if event["type"] == "content_block_start":
            assert block is None
            assert event["index"] == count
            block, partial = dict(event["content_block"]), ""
        elif event["type"] == "content_block_delta":
            assert block is not None
            assert event["index"] == count
            kind, delta = event["delta"]["type"], event["delta"]
            if kind == "input_json_delta":
                partial += delta["partial_json"]
            else:
                field = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}[kind]
                block[field] += delta[field]
        elif event["type"] == "content_block_stop":
            assert block is not None
            yield block | ({"input": partial} if block["type"] == "tool_use" else {})
            block, count = None, count + 1
    assert block is None


@given(answers())
def test_an_anthropic_message_streamed_is_the_message_whole(events: list[Event]):
    streamed, whole = anthropic.Answer("m"), anthropic.Answer("m")
    told = [json.loads(json.dumps(each)) for event in events for each in streamed.feed(event)]
    for event in events:
        list(whole.feed(event))
    body = whole.body()
    blocks = list(anthropic_blocks(told))
    assert len(blocks) == len(body["content"])
    for mine, theirs in zip(blocks, body["content"], strict=True):
        if mine["type"] == "tool_use":
            assert theirs["input"] == object_of(mine.pop("input"))
            assert mine == {key: value for key, value in theirs.items() if key != "input"}
        else:
            assert mine == theirs
    assert [each["type"] for each in told[:1] + told[-2:]] == ["message_start", "message_delta", "message_stop"]
    assert told[-2]["delta"] == {key: body[key] for key in ("stop_reason", "stop_sequence")}
    assert told[-2]["usage"] == body["usage"]


def object_of(text: str) -> dict[str, Any]:
    """Arguments that are no object, which both dialects tell as text."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {"_raw": text}
    return found if isinstance(found, dict) else {"_raw": text}


@given(answers(), st.booleans())
def test_an_ollama_answer_streamed_is_the_answer_whole(events: list[Event], chat: bool):
    streamed, whole = ollama.Answer("m", chat=chat), ollama.Answer("m", chat=chat)
    lines = [json.loads(json.dumps(line)) for event in events for line in streamed.feed(event)]
    body = whole.whole([line for event in events for line in whole.feed(event)])
    said = [line["message"] if chat else line for line in lines]
    mine = body["message"] if chat else body
    text = "content" if chat else "response"
    assert "".join(line[text] for line in said) == mine[text] == streamed.text
    assert "".join(line.get("thinking", "") for line in said) == mine.get("thinking", "")
    calls = [call for line in said for call in line.get("tool_calls", [])]
    assert calls == mine.get("tool_calls", [])
    assert [call["function"]["index"] for call in calls] == list(range(len(calls)))
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert [token for line in lines for token in line.get("logprobs", [])] == body.get("logprobs", [])
    for key in ("done_reason", "prompt_eval_count", "eval_count"):
        assert lines[-1][key] == body[key]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=lambda text: text[:9])
def test_no_arguments_of_a_call_are_lost_or_break_an_answer(arguments: str):
    events = [Started(), *[ToolCallPart(0, "c1", "f", piece) for piece in cut(arguments, 999)], Finished("tool_calls")]
    message = anthropic.Answer("m")
    told = [each for event in events for each in message.feed(event)]
    assert told[-1] == {"type": "message_stop"}
    chat = ollama.Answer("m", chat=True)
    lines = [line for event in events for line in chat.feed(event)]
    (call,) = [call for line in lines for call in line["message"].get("tool_calls", [])]
    given = message.body()["content"][0]["input"]
    assert given == call["function"]["arguments"]
    assert given == ({"_raw": arguments} if DEEP in arguments else object_of(arguments))
    whole = openai.ChatWhole("m")
    for event in events:
        whole.feed(event)
    assert whole.body()["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == arguments
