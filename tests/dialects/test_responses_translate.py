from typing import Any

import msgspec
import pytest

from freehold.core.errors import BadInput, Unsupported
from freehold.core.request import Constraint, Message, Request, Tool
from freehold.dialects.openai.responses import schema as wire
from freehold.dialects.openai.responses import translate
from freehold.dialects.openai.responses.items import Ids, said
from freehold.serving.decoding import decode

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}
WEATHER = {"type": "function", "name": "weather", "description": "of a city", "parameters": SCHEMA, "strict": True}
CLOCK = {"type": "function", "name": "clock"}
DESK = {"type": "namespace", "name": "desk", "description": "the desk", "tools": [CLOCK, WEATHER]}


def body(**fields: Any) -> wire.ResponseRequest:
    return decode(msgspec.json.encode({"model": "m", "input": "hi", **fields}), wire.ResponseRequest)


def asked(**fields: Any) -> Request:
    request = body(**fields)
    translate.refuse(request)
    return translate.request(request, [said("hi", Ids())], translate.toolbox(request))


def test_the_least():
    assert asked() == Request(model="m", messages=(Message("user", "hi"),))


def test_all_sampling():
    request = asked(
        temperature=0.5,
        top_p=0.9,
        top_k=4,
        min_p=0.1,
        presence_penalty=1,
        frequency_penalty=-1,
        repeat_penalty=1.1,
        seed=3,
        logit_bias={"7": -100},
        max_output_tokens=9,
        stop="x",
        parallel_tool_calls=False,
        truncation="auto",
    )
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.5, 0.9, 4, 0.1)
    assert (sampling.presence_penalty, sampling.frequency_penalty, sampling.repeat_penalty) == (1, -1, 1.1)
    assert (sampling.seed, sampling.logit_bias) == (3, {7: -100})
    assert (request.max_tokens, request.stop, request.truncate) == (9, ("x",), True)
    assert not request.parallel_tool_calls
    assert asked(stop=["a", "b"]).stop == ("a", "b")
    assert not asked(truncation="disabled").truncate


def test_instructions_come_first():
    assert asked(instructions="Be kind.").messages[0] == Message("system", "Be kind.")


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, None),
        ({"top_logprobs": 0}, None),
        ({"include": ["message.output_text.logprobs"]}, 0),
        ({"include": ["message.output_text.logprobs"], "top_logprobs": 3}, 3),
        ({"top_logprobs": 2}, 2),
    ],
)
def test_logprobs(fields: dict, wanted: int | None):
    assert asked(**fields).logprobs == wanted


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, Constraint("json")),
        ({"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}, Constraint("schema", SCHEMA)),
        ({"type": "json_schema", "name": "n", "schema": {}}, Constraint("json")),
    ],
)
def test_forms(form: dict | None, wanted: Constraint | None):
    assert asked(text={"format": form}).constraint == wanted


@pytest.mark.parametrize("form", [{"type": "json_schema", "name": "n"}, {"type": "json_schema", "schema": SCHEMA}])
def test_half_a_form_is_refused(form: dict):
    with pytest.raises(BadInput, match="name or schema") as caught:
        asked(text={"format": form})
    assert caught.value.param == "text.format"


def test_thinking():
    assert (asked().think, asked().effort) == (None, "")
    assert (asked(reasoning={"effort": "none"}).think, asked(reasoning={"effort": "none"}).effort) == (False, "")
    request = asked(reasoning={"effort": "high", "summary": "auto"}, include=["reasoning.encrypted_content"])
    assert (request.think, request.effort) == (True, "high")


def test_tools():
    request = asked(tools=[WEATHER, CLOCK])
    assert request.tools == (Tool("weather", "of a city", SCHEMA), Tool("clock"))
    assert request.tool_choice == "auto"
    assert asked(tools=[WEATHER], tool_choice="required").tool_choice == "required"
    assert asked(tools=[WEATHER], tool_choice="none").tool_choice == "none"
    assert asked(tools=[WEATHER], tool_choice={"type": "function", "name": "weather"}).tool_choice == "weather"


def test_some_tools_may_be_allowed():
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "clock"}]}
    request = asked(tools=[WEATHER, CLOCK], tool_choice=allowed)
    assert (request.tools, request.tool_choice) == ((Tool("clock"),), "required")


def test_namespaces_are_functions_with_longer_names():
    request = body(tools=[CLOCK, DESK])
    box = translate.toolbox(request)
    assert [tool.name for tool in box.tools] == ["clock", "desk__clock", "desk__weather"]
    assert box.origins["desk__weather"] == ("desk", "weather")
    assert box.origins["clock"] == ("", "clock")


@pytest.mark.parametrize(
    "tools",
    [
        [{"type": "function"}],
        [{"type": "function", "name": "a b"}],
        [{"type": "function", "name": "x" * 65}],
        [CLOCK, CLOCK],
        [{**DESK, "name": "n" * 60}],
        [DESK, {"type": "function", "name": "desk__clock"}],
    ],
)
def test_functions_need_names_of_their_own(tools: list):
    with pytest.raises(BadInput) as caught:
        asked(tools=tools)
    assert caught.value.param == "tools"


@pytest.mark.parametrize(
    "kind",
    [
        "web_search",
        "web_search_preview",
        "file_search",
        "code_interpreter",
        "mcp",
        "image_generation",
        "custom",
        "shell",
    ],
)
def test_hosted_tools_are_refused(kind: str):
    with pytest.raises(Unsupported, match=f"'{kind}'") as caught:
        asked(tools=[CLOCK, {"type": kind, "name": "x", "user_location": {"type": "approximate"}}])
    assert caught.value.param == "tools"


@pytest.mark.parametrize(
    ("choice", "tools"),
    [
        ("required", []),
        ({"type": "function", "name": "clock"}, []),
        ({"type": "function", "name": "watch"}, [CLOCK]),
        ({"type": "function"}, [CLOCK]),
        ({"type": "allowed_tools", "tools": []}, [CLOCK]),
        ({"type": "allowed_tools", "tools": [{"type": "mcp", "server_label": "x"}]}, [CLOCK]),
        ({"type": "file_search"}, [CLOCK]),
    ],
)
def test_choices_that_cannot_be_made(choice: Any, tools: list):
    with pytest.raises(BadInput) as caught:
        asked(tools=tools, tool_choice=choice)
    assert caught.value.param == "tool_choice"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"moderation": {"model": "x"}}, "moderation"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"reasoning": {"context": "all_turns"}}, "reasoning.context"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
    ],
)
def test_what_a_local_model_cannot_have_is_refused(fields: dict, param: str):
    with pytest.raises(Unsupported) as caught:
        asked(**fields)
    assert caught.value.param == param


def test_what_changes_nothing_is_taken():
    request = asked(
        background=False,
        user="u",
        metadata={"k": "v"},
        service_tier="auto",
        prompt_cache_key="k",
        prompt_cache_retention="24h",
        safety_identifier="s",
        client_metadata={"x": "y"},
        stream_options={"include_obfuscation": False},
        max_tool_calls=3,
        text={"verbosity": "medium"},
        include=["file_search_call.results", "web_search_call.action.sources"],
        context_management=None,
    )
    assert request == asked()


def test_nothing_else_can_be_included():
    with pytest.raises(BadInput, match="everything") as caught:
        asked(include=["everything"])
    assert caught.value.param == "include"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 3}, "temperature"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"metadata": {"k": "v" * 513}}, "metadata[...]"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"truncation": "some"}, "truncation"),
        ({"messages": []}, "messages"),
        ({"input": 3}, "input"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
    ],
)
def test_wrong_fields_are_named(fields: dict, param: str):
    with pytest.raises(BadInput) as caught:
        asked(**fields)
    assert caught.value.param == param


def test_counting_takes_no_personality():
    request = msgspec.convert({"model": "m", "input": "hi", "personality": "friendly"}, wire.TokensRequest)
    with pytest.raises(Unsupported) as caught:
        translate.refuse(request)
    assert caught.value.param == "personality"
