import math
from typing import Any

import msgspec
import pytest

from freehold.core.errors import Busy, ContextOverflow, FreeholdError, WorkerFailed
from freehold.core.event import (
    Event,
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
from freehold.dialects.openai.responses import schema as wire
from freehold.dialects.openai.responses.answers import Answer
from freehold.dialects.openai.responses.items import Ids
from freehold.dialects.openai.responses.translate import Origin

DONE = Finished("stop", Usage(3, 4, 1))
CALL = [ToolCallPart(0, "c1", "f"), ToolCallPart(0, arguments='{"x"'), ToolCallPart(0, arguments=":1}")]


def token(text: str) -> Logprobs:
    known = TokenLogprob(text, -0.5, tuple(text.encode()))
    return Logprobs((msgspec.structs.replace(known, top=(known,)),))


def answered(*events: Event, origins: dict | None = None, **fields: Any) -> tuple[list[dict], dict]:
    body = msgspec.convert({"model": "m", "input": "hi", **fields}, wire.ResponseRequest)
    answer = Answer(body, Ids(), origins or {})
    told = [*answer.begin()]
    for event in (Started(), *events):
        told += answer.feed(event)
    told += answer.last()
    return told, answer.body


def kinds(told: list[dict]) -> list[str]:
    return [each["type"].removeprefix("response.") for each in told]


MESSAGE = ["output_item.added", "content_part.added", "output_text.delta", "output_text.delta"]
MESSAGE += ["output_text.done", "content_part.done", "output_item.done"]


def test_a_text_is_told_in_order():
    told, body = answered(Text("Hel"), Text("lo"), DONE)
    assert kinds(told) == ["created", "in_progress", *MESSAGE, "completed"]
    assert [each["sequence_number"] for each in told] == list(range(len(told)))
    assert told[0]["response"]["output"] == []
    assert told[0]["response"]["status"] == "in_progress"
    added, part, first, second, text, done, item, completed = told[2:]
    assert added["item"]["content"] == []
    assert part["part"]["text"] == ""
    assert (first["delta"], second["delta"], text["text"]) == ("Hel", "lo", "Hello")
    assert done["part"]["text"] == "Hello"
    assert item["item"] == completed["response"]["output"][0] == body["output"][0]
    assert {each["item_id"] for each in told if "item_id" in each} == {body["output"][0]["id"]}
    assert {each["output_index"] for each in told if "output_index" in each} == {0}


def test_what_a_whole_text_says():
    _, body = answered(Text("Hello"), DONE)
    (message,) = body["output"]
    assert message["content"] == [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}]
    assert (message["role"], message["status"]) == ("assistant", "completed")
    assert (body["status"], body["incomplete_details"], body["error"]) == ("completed", None, None)
    assert body["completed_at"] >= body["created_at"]
    assert body["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 0},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 7,
    }


def test_an_answer_that_was_cut_is_incomplete():
    told, body = answered(Text("Hel"), Finished("length", Usage(3, 1)))
    assert kinds(told)[-1] == "incomplete"
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}
    assert (body["output"][0]["status"], body["completed_at"]) == ("incomplete", None)


def test_an_empty_answer_has_an_empty_text():
    told, body = answered(DONE)
    assert kinds(told)[2:-1] == [kind for kind in MESSAGE if not kind.endswith("delta")]
    assert body["output"][0]["content"][0]["text"] == ""


def test_calls_are_told_one_after_the_other():
    more = [ToolCallPart(1, "c2", "g", "{}")]
    told, body = answered(*CALL, *more, Finished("tool_calls", Usage(3, 9)))
    call = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"]
    assert kinds(told)[2:-1] == [call[0], call[1], *call[1:], *call]
    assert [each["output_index"] for each in told[2:-1]] == [0] * 5 + [1] * 4
    first, second = body["output"]
    assert (first["call_id"], first["name"], first["arguments"]) == ("c1", "f", '{"x":1}')
    assert (second["call_id"], second["name"], second["arguments"]) == ("c2", "g", "{}")
    assert "namespace" not in first
    assert told[2]["item"]["arguments"] == ""
    assert body["status"] == "completed"


def test_a_call_without_an_id_gets_one():
    _, body = answered(ToolCallPart(0, "", "f", "{}"), DONE)
    assert body["output"][0]["call_id"].startswith("call_")


def test_a_call_has_the_name_that_the_client_knows():
    _, body = answered(
        ToolCallPart(0, "c", "desk__clock", "{}"), DONE, origins={"desk__clock": Origin("desk", "clock")}
    )
    assert (body["output"][0]["namespace"], body["output"][0]["name"]) == ("desk", "clock")


def test_thoughts_come_before_the_answer():
    told, body = answered(Reasoning("h"), Reasoning("m"), Text("Hi"), *CALL, DONE)
    thoughts = ["output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.delta"]
    thoughts += ["reasoning_text.done", "content_part.done", "output_item.done"]
    assert kinds(told)[2:9] == thoughts
    assert [item["type"] for item in body["output"]] == ["reasoning", "message", "function_call"]
    assert body["output"][0]["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert body["output"][0]["summary"] == []
    assert body["usage"]["output_tokens_details"] == {"reasoning_tokens": 2}


def test_a_thought_that_was_cut_is_all_there_is():
    _, body = answered(Reasoning("h"), Finished("length", Usage(3, 1)))
    assert [(item["type"], item["status"]) for item in body["output"]] == [("reasoning", "incomplete")]


def test_log_probabilities_go_with_their_text():
    told, body = answered(token("h"), Reasoning("h"), token("He"), Text("He"), token("y"), Text("y"), token("."), DONE)
    deltas = [each for each in told if each["type"] == "response.output_text.delta"]
    assert [[each["token"] for each in delta["logprobs"]] for delta in deltas] == [["He"], ["y"]]
    logprobs = body["output"][1]["content"][0]["logprobs"]
    assert [each["token"] for each in logprobs] == ["He", "y", "."]
    assert logprobs[0]["bytes"] == [72, 101]
    assert logprobs[0]["top_logprobs"] == [{"token": "He", "logprob": -0.5, "bytes": [72, 101]}]
    assert not any(math.isnan(each["logprob"]) for each in logprobs)


def test_log_probabilities_of_a_call_are_of_no_text():
    _, body = answered(Text("a"), token("{"), *CALL, DONE)
    assert body["output"][0]["content"][0]["logprobs"] == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (WorkerFailed("the worker died"), "server_error"),
        (ContextOverflow("99 tokens"), "invalid_prompt"),
        (Busy("full"), "rate_limit_exceeded"),
    ],
)
def test_a_failure_ends_the_stream_in_the_clients_words(error: FreeholdError, code: str):
    told, body = answered(Text("Hel"), Failed(error))
    assert kinds(told)[-3:] == ["content_part.done", "output_item.done", "failed"]
    assert body["error"] == {"code": code, "message": error.line()}
    assert body["output"][0]["status"] == "incomplete"
    assert body["usage"] is None


def test_the_request_is_told_again():
    function = {"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
    space = {"type": "namespace", "name": "n", "description": "of n", "tools": [function]}
    form = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "description": None, "strict": True}
    fields = {
        "instructions": "be kind",
        "max_output_tokens": 9,
        "metadata": {"k": "v"},
        "parallel_tool_calls": False,
        "previous_response_id": "resp_1",
        "temperature": 0.5,
        "top_p": 0.9,
        "top_logprobs": 2,
        "truncation": "auto",
        "user": "u",
        "safety_identifier": "s",
        "prompt_cache_key": "p",
        "max_tool_calls": 4,
        "store": False,
        "tools": [function, space],
        "tool_choice": {"type": "function", "name": "f"},
    }
    _, body = answered(DONE, **fields, text={"format": form}, reasoning={"effort": "low"})
    assert {key: body[key] for key in fields} == fields
    assert body["text"]["format"] == form
    assert body["reasoning"] == {"effort": "low", "summary": None}


def test_what_was_left_open_is_told_as_it_was_done():
    _, body = answered(DONE)
    assert body["text"] == {"format": {"type": "text"}, "verbosity": "medium"}
    assert (body["tool_choice"], body["tools"], body["metadata"]) == ("auto", [], {})
    assert (body["store"], body["parallel_tool_calls"], body["truncation"]) == (True, True, "disabled")
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]}
    assert answered(DONE, tool_choice=allowed)[1]["tool_choice"] == allowed
    assert answered(DONE, tool_choice="none")[1]["tool_choice"] == "none"
