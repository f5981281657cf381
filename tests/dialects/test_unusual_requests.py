"""What clients send that is legal and seldom tried: nulls, empty turns, thoughts sent back, calls without arguments."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest

from freehold.core.errors import BadInput
from freehold.core.event import (
    Finished,
    Logprobs,
    Progress,
    Reasoning,
    Started,
    Text,
    TokenLogprob,
    ToolCallPart,
    Usage,
)
from freehold.core.request import EmbedRequest, Message, Request, Tool, ToolCall
from freehold.core.settings import Settings
from freehold.dialects.anthropic import answers as anthropic_answers
from freehold.dialects.anthropic import schema as anthropic_schema
from freehold.dialects.anthropic import translate as anthropic
from freehold.dialects.llamacpp import chatting
from freehold.dialects.llamacpp import schema as llama_schema
from freehold.dialects.llamacpp import translate as llama
from freehold.dialects.ollama import answers as ollama_answers
from freehold.dialects.ollama import schema as ollama_schema
from freehold.dialects.ollama import translate as ollama
from freehold.dialects.openai import answers as openai_answers
from freehold.dialects.openai import schema as openai_schema
from freehold.dialects.openai import translate as openai
from freehold.dialects.openai.responses import schema as responses_schema
from freehold.dialects.openai.responses import translate as responses
from freehold.dialects.openai.responses.items import Ids, said, stored
from freehold.serving.app import create_app
from freehold.serving.decoding import decode
from freehold.store import Store
from tests.serving.support import FakeEngine, add_model, in_loop

USER = {"role": "user", "content": "hi"}
Made = Request | EmbedRequest | list[Request] | None


class Wire(NamedTuple):
    """A kind of request: the smallest one, and how it is read."""

    kind: type[msgspec.Struct]
    smallest: dict[str, Any]
    make: Callable[[Any], Made]
    nulls: bool = True

    def ask(self, **fields: Any) -> Any:
        """The request that a body makes; what is `...` is not sent."""
        body = {name: value for name, value in {**self.smallest, **fields}.items() if value is not ...}
        return self.make(decode(json.dumps(body).encode(), self.kind, nulls=self.nulls))


def _response(body: Any) -> Request:
    responses.refuse(body)
    ids = Ids()
    items = [said(body.input, ids)] if isinstance(body.input, str) else [stored(item, ids) for item in body.input or ()]
    return responses.request(body, items, responses.toolbox(body))


def _completion(body: Any) -> Request:
    return llama.completion_request(body, "m", body.prompt)


WIRES = {
    "OpenAI chat": Wire(openai_schema.ChatRequest, {"model": "m", "messages": [USER]}, openai.chat_request),
    "OpenAI text": Wire(openai_schema.CompletionRequest, {"model": "m", "prompt": "a"}, openai.completion_requests),
    "OpenAI responses": Wire(responses_schema.ResponseRequest, {"model": "m", "input": "hi"}, _response),
    "Anthropic": Wire(
        anthropic_schema.MessagesRequest,
        {"model": "m", "max_tokens": 5, "messages": [USER]},
        anthropic.messages_request,
    ),
    "Ollama chat": Wire(
        ollama_schema.ChatRequest, {"model": "m", "messages": [USER]}, lambda body: ollama.chat_request(body, "m")
    ),
    "Ollama generate": Wire(
        ollama_schema.GenerateRequest, {"model": "m", "prompt": "a"}, lambda body: ollama.generate_request(body, "m")
    ),
    "Ollama embed": Wire(
        ollama_schema.EmbedRequest, {"model": "m", "input": "a"}, lambda body: ollama.embed_request(body, "m")
    ),
    "llama-server chat": Wire(
        llama_schema.ChatRequest, {"messages": [USER]}, lambda body: llama.chat_request(body, "m"), nulls=False
    ),
    "llama-server text": Wire(llama_schema.CompletionRequest, {"prompt": "a"}, _completion, nulls=False),
    "llama-server infill": Wire(
        llama_schema.InfillRequest, {"input_prefix": "a", "input_suffix": "b"}, _completion, nulls=False
    ),
}
CHATS = ("OpenAI chat", "Anthropic", "Ollama chat", "llama-server chat")


@pytest.mark.parametrize("name", WIRES)
def test_a_field_that_is_null_is_as_one_that_is_not_sent(name: str):
    """Clients written in languages with types send every field that they have."""
    wire = WIRES[name]
    fields = [field for field in wire.kind.__struct_encode_fields__ if field not in wire.smallest]
    assert len(fields) > 2
    for field in fields:
        assert wire.ask(**{field: None}) == wire.ask(), field
    assert wire.ask(**dict.fromkeys(fields)) == wire.ask()


@pytest.mark.parametrize("name", WIRES)
def test_what_must_be_there_is_named_where_it_is_null_or_missing(name: str):
    wire = WIRES[name]
    for field in wire.smallest:
        required = wire.kind.__struct_fields__[: -len(wire.kind.__struct_defaults__) or None]
        if field in required:
            for value in (None, ...):
                with pytest.raises(BadInput, match=field):
                    wire.ask(**{field: value})


@in_loop
async def test_llama_server_leaves_nulls_aside_in_every_route(settings: Settings, store: Store):
    add_model(store, "helpdesk")
    app = create_app(settings, store, engine=FakeEngine())
    plain = {"model": "helpdesk", "stream": None}
    rows = [
        ("/completion", {"prompt": "hi", "return_tokens": None, "response_fields": None, "cache_prompt": None}),
        ("/llama/v1/chat/completions", {"messages": [USER], "verbose": None, "chat_template_kwargs": None}),
        ("/tokenize", {"content": "a b", "add_special": None, "parse_special": None, "with_pieces": None}),
        ("/detokenize", {"tokens": [1]}),
        ("/apply-template", {"messages": [USER], "tools": None}),
    ]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        for path, body in rows:
            answer = await client.post(path, json={**plain, **body})
            assert answer.status_code == 200, (path, answer.text)
    await app.state.desk.pool.close()


CALLED = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
THOUGHTFUL: dict[str, dict[str, Any]] = {
    "OpenAI chat": {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [CALLED]},
    "Anthropic": {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "x"},
            {"type": "tool_use", "id": "c", "name": "f", "input": {}},
        ],
    },
    "Ollama chat": {
        "role": "assistant",
        "thinking": "hm",
        "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {}}}],
    },
    "llama-server chat": {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [CALLED]},
}


@pytest.mark.parametrize("name", CHATS)
def test_what_the_model_thought_before_its_call_comes_back_to_it(name: str):
    """Models that think between calls lose their thread without it; whether it is read is up to their template."""
    turn = WIRES[name].ask(messages=[USER, THOUGHTFUL[name], USER]).messages[1]
    assert turn == Message("assistant", "", (ToolCall("c", "f", "{}"),), reasoning="hm")


EMPTY: dict[str, tuple[dict[str, Any], Message]] = {
    "OpenAI chat": ({"role": "tool", "tool_call_id": "c", "content": ""}, Message("tool", "", tool_call_id="c")),
    "Anthropic": (
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c"}]},
        Message("tool", "", tool_call_id="c"),
    ),
    "Ollama chat": ({"role": "tool", "content": None}, Message("tool", "", tool_call_id="c", name="f")),
    "llama-server chat": ({"role": "tool", "tool_call_id": "c", "content": ""}, Message("tool", "", tool_call_id="c")),
}


@pytest.mark.parametrize("name", CHATS)
def test_a_tool_that_answers_nothing_has_answered(name: str):
    body, expected = EMPTY[name]
    turns = WIRES[name].ask(messages=[USER, THOUGHTFUL[name], body, USER]).messages
    assert turns[2:] == (expected, Message("user", "hi"))


BARE: dict[str, list[dict[str, Any]]] = {
    "OpenAI chat": [
        {"type": "function", "function": {"name": "f", "description": None, "parameters": None, "strict": None}},
        {"function": {"name": "f", "strict": True}},
    ],
    "Anthropic": [{"name": "f"}, {"name": "f", "type": "custom", "input_schema": None, "cache_control": None}],
    "Ollama chat": [{"function": {"name": "f"}}, {"type": "", "function": {"name": "f", "parameters": None}}],
    "llama-server chat": [{"function": {"name": "f"}}],
}


@pytest.mark.parametrize("name", CHATS)
def test_a_tool_needs_no_more_than_its_name(name: str):
    for tool in BARE[name]:
        assert WIRES[name].ask(tools=[tool]).tools == (Tool("f"),)


@pytest.mark.parametrize("name", CHATS)
@pytest.mark.parametrize("text", ["", " ", "\0", "\u202eabc", "a\r\nb", "😀" * 3, "<|im_end|>", "{{ x }}"])
def test_any_text_arrives_as_it_is(name: str, text: str):
    assert WIRES[name].ask(messages=[{"role": "user", "content": text}]).messages[-1].content == text


@pytest.mark.parametrize("name", CHATS)
def test_half_a_surrogate_pair_is_refused(name: str):
    with pytest.raises(BadInput) as caught:
        WIRES[name].ask(messages=[{"role": "user", "content": "\ud83d"}])
    assert "\n" not in caught.value.line()


def test_anthropics_blocks_in_unusual_company():
    ask = WIRES["Anthropic"].ask
    text = {"type": "text", "text": "hi", "citations": None, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    assert ask(messages=[{"role": "user", "content": [text]}]) == ask()
    assert ask(system="") == ask(system=[]) == ask()
    hidden = {"type": "redacted_thinking", "data": "x"}
    turns = ask(messages=[USER, {"role": "assistant", "content": [hidden]}, USER]).messages
    assert turns[1] == Message("assistant", "")
    begun = ask(messages=[USER, {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}]}])
    assert (begun.prefill, begun.messages) == ("", (Message("user", "hi"),))
    mixed = [{"type": "text", "text": "See:"}, {"type": "tool_result", "tool_use_id": "c", "content": "1"}]
    assert [turn.role for turn in ask(messages=[{"role": "user", "content": mixed}]).messages] == ["tool", "user"]
    call = {"type": "tool_use", "id": "c", "name": "f", "input": None}
    assert ask(messages=[USER, {"role": "assistant", "content": [call]}]).messages[1].tool_calls[0].arguments == "{}"


def test_openais_turns_in_unusual_company():
    ask = WIRES["OpenAI chat"].ask
    turns = [
        {"role": "system", "content": [{"type": "text", "text": "a"}]},
        {"role": "user", "content": []},
        {"role": "assistant", "content": None, "tool_calls": None, "refusal": None, "audio": None},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "system", "content": "b", "name": None},
        {"role": "user", "content": "hi", "name": "ann"},
    ]
    assert ask(messages=turns).messages == (
        Message("system", "a"),
        Message("user", ""),
        Message("assistant", ""),
        Message("assistant", "No."),
        Message("system", "b"),
        Message("user", "hi", name="ann"),
    )
    lost = {"id": "c", "function": {"name": "f"}}
    assert ask(messages=[USER, {"role": "assistant", "tool_calls": [lost]}]).messages[1].tool_calls == (
        ToolCall("c", "f", ""),
    )


# Answers
TOKEN = TokenLogprob("é", -0.5, (195, 169))


def test_progress_is_told_in_chunks_of_the_same_answer():
    """Also before the first text, where OpenAI's completions tell nothing yet."""
    for inner in (
        openai_answers.CompletionStream("m", include_usage=True),
        openai_answers.ChatStream("m", include_usage=True),
    ):
        stream = chatting.Stream(inner, include_usage=True)
        events = [Started(), Progress({"prompt_progress": {"total": 3}}), Text("a"), Finished("stop", Usage(3, 1))]
        chunks = [chunk for event in events for chunk in stream.feed(event)] + list(stream.last())
        (told,) = [chunk for chunk in chunks if "prompt_progress" in chunk]
        assert told["choices"] == []
        head = {key: chunks[-1][key] for key in ("id", "object", "created", "model", "system_fingerprint")}
        for chunk in chunks:
            assert head.items() <= chunk.items()


def test_log_probabilities_that_no_text_follows_go_out_with_the_end():
    events = [Started(), Text("a"), Logprobs((TOKEN,)), Finished("length")]
    chat = openai_answers.ChatStream("m", include_usage=False)
    last = [chunk["choices"][0] for event in events for chunk in chat.feed(event)][-1]
    assert (last["finish_reason"], last["logprobs"]["content"][0]["bytes"]) == ("length", [195, 169])
    text = openai_answers.CompletionStream("m", include_usage=False)
    last = [chunk["choices"][0] for event in events for chunk in text.feed(event)][-1]
    assert (last["text"], last["logprobs"]["tokens"], last["logprobs"]["text_offset"]) == ("", ["é"], [1])


@pytest.mark.parametrize("events", [[], [Reasoning("hm")]], ids=["nothing", "thoughts alone"])
def test_an_answer_without_a_word_is_an_answer(events: list[Any]):
    whole = [Started(0, 3), *events, Finished("stop", Usage(3, 0))]
    chat = openai_answers.ChatWhole("m")
    anthropic_answer = anthropic_answers.Answer("m")
    ollama_answer = ollama_answers.Answer("m", chat=True)
    for event in whole:
        chat.feed(event)
        list(anthropic_answer.feed(event))
    (choice,) = chat.body()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("", "stop")
    body = anthropic_answer.body()
    assert [block["type"] for block in body["content"]] == ["thinking"] * len(events)
    assert (body["stop_reason"], body["usage"]["input_tokens"]) == ("end_turn", 3)
    told = ollama_answer.whole([line for event in whole for line in ollama_answer.feed(event)])
    assert (told["message"]["content"], told["done"], told["done_reason"]) == ("", True, "stop")
    assert told["message"].get("thinking", "") == "hm" * len(events)


def test_a_call_without_arguments_is_one_in_every_dialect():
    whole = [Started(), Text("Wait."), ToolCallPart(0, "c", "f"), ToolCallPart(0, arguments="{}")]
    whole.append(Finished("tool_calls", Usage(3, 4)))
    chat, blocks = openai_answers.ChatWhole("m"), anthropic_answers.Answer("m")
    lines = ollama_answers.Answer("m", chat=True)
    for event in whole:
        chat.feed(event)
        list(blocks.feed(event))
    assert chat.body()["choices"][0]["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}
    assert blocks.body()["content"][1] == {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    assert blocks.body()["stop_reason"] == "tool_use"
    told = lines.whole([line for event in whole for line in lines.feed(event)])
    assert told["message"]["tool_calls"] == [{"id": "c", "function": {"index": 0, "name": "f", "arguments": {}}}]
