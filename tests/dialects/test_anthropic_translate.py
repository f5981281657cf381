"""Anthropic's requests as ours."""

import json
from typing import Any

import pytest

from freehold.core.errors import BadInput, FreeholdError, Unsupported
from freehold.core.request import Constraint, Message, Request, Sampling, Tool, ToolCall
from freehold.dialects.anthropic import schema, translate
from freehold.serving.decoding import decode

USER = [{"role": "user", "content": "hi"}]
TOOL = {"name": "weather", "description": "of a city", "input_schema": {"type": "object", "properties": {}}}
NO_SOURCE: dict[str, Any] = {"type": "document", "source": {"type": "text"}}


def request(**fields: Any) -> Request:
    body = {"model": "m", "max_tokens": 5, "messages": USER, **fields}
    return translate.messages_request(decode(json.dumps(body).encode(), schema.MessagesRequest))


def turns(*messages: dict[str, Any], **fields: Any) -> tuple[Message, ...]:
    return request(messages=list(messages), **fields).messages


def block(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, **fields}


def test_the_plain_fields():
    found = request(temperature=0.5, top_p=0.9, top_k=4, stop_sequences=["a", "b"], metadata={"user_id": "u"})
    assert found.sampling == Sampling(temperature=0.5, top_p=0.9, top_k=4)
    assert (found.max_tokens, found.stop, found.messages) == (5, ("a", "b"), (Message("user", "hi"),))


BLOCKS = [block("text", text="a", cache_control={"type": "ephemeral"}), block("text", text="b")]


@pytest.mark.parametrize(("system", "expected"), [("Be kind.", "Be kind."), (BLOCKS, "a\n\nb")])
def test_system(system: Any, expected: str):
    assert request(system=system).messages[0] == Message("system", expected)
    assert request(system=[]).messages == (Message("user", "hi"),)


def test_calls_and_their_results():
    said = [block("thinking", thinking="hm", signature="x"), block("text", text="Let me see."),
            block("tool_use", id="t1", name="weather", input={"city": "Ulm"})]  # fmt: skip
    given = [
        block("tool_result", tool_use_id="t1", content=[block("text", text="sunny")]),
        block("tool_result", tool_use_id="t2", content="broken", is_error=True),
        block("text", text="Well?"),
    ]
    found = turns(*USER, {"role": "assistant", "content": said}, {"role": "user", "content": given})
    assert found[1:] == (
        Message("assistant", "Let me see.", tool_calls=(ToolCall("t1", "weather", '{"city":"Ulm"}'),), reasoning="hm"),
        Message("tool", "sunny", tool_call_id="t1"),
        Message("tool", "Error: broken", tool_call_id="t2"),
        Message("user", "Well?"),
    )


def test_a_document_of_text():
    document = block("document", title="Rules", source={"type": "text", "media_type": "text/plain", "data": "No dogs."})
    (found,) = turns({"role": "user", "content": [document, block("text", text="May I?")]})
    parts = [block("text", text="No dogs."), block("document", source={"type": "content", "content": "No cats."})]
    whole = block("document", title="Rules", source={"type": "content", "content": parts})
    assert turns({"role": "user", "content": [whole]})[0].content == "Rules\nNo dogs.\nNo cats."
    for wrong in (None, 5, [5], [block("image")]):
        with pytest.raises(BadInput):
            turns({"role": "user", "content": [block("document", source={"type": "content", "content": wrong})]})
    assert found.content == "Rules\nNo dogs.\nMay I?"


def test_an_answer_that_is_begun():
    found = request(messages=[*USER, {"role": "assistant", "content": "{"}])
    assert (found.prefill, found.messages) == ("{", (Message("user", "hi"),))
    with pytest.raises(BadInput, match="white space"):
        request(messages=[*USER, {"role": "assistant", "content": "The answer is "}])


@pytest.mark.parametrize(
    ("choice", "expected"),
    [({"type": "auto"}, "auto"), ({"type": "none"}, "none"), ({"type": "any"}, "required"),
     ({"type": "tool", "name": "weather"}, "weather")],
)  # fmt: skip
def test_tools(choice: dict[str, Any], expected: str):
    found = request(tools=[TOOL], tool_choice=choice)
    assert found.tools == (Tool("weather", "of a city", TOOL["input_schema"]),)
    assert (found.tool_choice, found.parallel_tool_calls) == (expected, True)
    assert not request(tools=[TOOL], tool_choice={**choice, "disable_parallel_tool_use": True}).parallel_tool_calls


@pytest.mark.parametrize(("kind", "think"), [("enabled", True), ("adaptive", True), ("disabled", False)])
def test_thinking(kind: str, think: bool):
    assert (request().think, request().effort) == (None, "")
    found = request(thinking={"type": kind, "budget_tokens": 1024}, output_config={"effort": "low"})
    assert (found.think, found.effort) == (think, "low")


@pytest.mark.parametrize("place", ["output_config", "output_format"])
def test_a_schema_for_the_answer(place: str):
    form = {"type": "json_schema", "schema": {"type": "object"}}
    found = request(**{place: {"format": form} if place == "output_config" else form})
    assert found.constraint == Constraint("schema", {"type": "object"})


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"max_tokens": 0}, BadInput, "max_tokens"),
        ({"temperature": 1.5}, BadInput, "temperature"),
        ({"nonsense": 1}, BadInput, "nonsense"),
        ({"messages": []}, BadInput, "messages"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, BadInput, "nothing to answer"),
        ({"messages": [{"role": "robot", "content": "a"}]}, BadInput, "role"),
        ({"messages": [{"role": "user", "content": [block("image", source={})]}]}, BadInput, "images from"),
        ({"messages": [{"role": "user", "content": [NO_SOURCE]}]}, BadInput, "source"),
        ({"messages": [{"role": "user", "content": [block("tool_use", id="1", name="a")]}]}, BadInput, "user message"),
        ({"messages": [{"role": "assistant", "content": [block("tool_use")]}]}, BadInput, "no id"),
        ({"messages": [{"role": "assistant", "content": [block("tool_result")]}]}, BadInput, "assistant message"),
        ({"messages": [{"role": "user", "content": [block("tool_result")]}]}, BadInput, "names no call"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, Unsupported, "vendor's servers"),
        ({"tool_choice": {"type": "any"}}, BadInput, "needs tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "clock"}}, BadInput, "no tool 'clock'"),
        ({"mcp_servers": []}, Unsupported, "mcp_servers"),
        ({"container": "x"}, Unsupported, "container"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], error: type[FreeholdError], said: str):
    with pytest.raises(error, match=said):
        request(**fields)


def test_counting_needs_no_max_tokens_and_takes_no_other_field():
    body = {"model": "m", "messages": USER, "system": "s", "tools": [TOOL]}
    found = translate.prompt_request(decode(json.dumps(body).encode(), schema.Prompt))
    assert [message.role for message in found.messages] == ["system", "user"]
    with pytest.raises(BadInput, match="stream"):
        decode(json.dumps({**body, "stream": True}).encode(), schema.Prompt)
