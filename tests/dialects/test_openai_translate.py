import json
from typing import Any

import msgspec
import pytest

from freehold.core.errors import BadInput, FreeholdError, Unsupported
from freehold.core.request import Constraint, Insert, Message, ToolCall
from freehold.dialects.openai import schema, translate
from freehold.serving.decoding import decode

USER = [{"role": "user", "content": "hi"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def _chat(**fields: Any):
    body = decode(json.dumps({"model": "m", "messages": USER, **fields}).encode(), schema.ChatRequest)
    return translate.chat_request(body)


def _complete(**fields: Any):
    body = decode(json.dumps({"model": "m", "prompt": "a", **fields}).encode(), schema.CompletionRequest)
    return translate.completion_requests(body)


def _embed(**fields: Any):
    body = decode(json.dumps({"model": "m", "input": "a", **fields}).encode(), schema.EmbeddingRequest)
    return translate.embed_request(body)


def test_the_smallest_chat_leaves_everything_to_the_model():
    request = _chat()
    assert request.messages == (Message("user", "hi"),)
    assert (request.n, request.max_tokens, request.logprobs, request.constraint) == (1, None, None, None)
    assert request.sampling.temperature is None


def test_every_sampling_field_arrives():
    request = _chat(
        temperature=0.5, top_p=0.9, top_k=7, min_p=0.1, presence_penalty=-1, frequency_penalty=1, repeat_penalty=1.1,
        seed=-3, logit_bias={"5": -100, "6": 1.5}, stop=["a", "b"], n=3, max_tokens=7, logprobs=True, top_logprobs=2,
    )  # fmt: skip
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (0.5, 0.9, 7, 0.1)
    assert (sampling.presence_penalty, sampling.frequency_penalty, sampling.repeat_penalty) == (-1, 1, 1.1)
    assert (sampling.seed, sampling.logit_bias) == (-3, {5: -100, 6: 1.5})
    assert (request.stop, request.n, request.max_tokens, request.logprobs) == (("a", "b"), 3, 7, 2)


def test_the_newer_token_limit_wins():
    assert _chat(max_tokens=7, max_completion_tokens=9).max_tokens == 9


@pytest.mark.parametrize(("stop", "found"), [(None, ()), ("x", ("x",)), ([], ()), ("", ())])
def test_stop_in_all_its_forms(stop, found):
    assert _chat(stop=stop).stop == found


def test_roles_and_contents():
    messages = [
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "bob"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {"role": "assistant", "refusal": "no"},
    ]  # fmt: skip
    assert _chat(messages=messages).messages == (
        Message("system", "be kind"),
        Message("user", "ab", name="bob"),
        Message("assistant", "", tool_calls=(ToolCall("c1", "f", '{"x":1}'),)),
        Message("tool", "42", tool_call_id="c1"),
        Message("assistant", "no"),
    )


def test_tools_and_their_choice():
    request = _chat(tools=[TOOL], tool_choice="required", parallel_tool_calls=False)
    assert (request.tools[0].name, request.tool_choice, request.parallel_tool_calls) == ("f", "required", False)
    named = {"type": "function", "function": {"name": "f"}}
    assert _chat(tools=[TOOL], tool_choice=named).tool_choice == "f"
    assert _chat(tools=[TOOL], tool_choice="none").tool_choice == "none"
    assert _chat(tools=[TOOL]).tool_choice == "auto"


@pytest.mark.parametrize(
    ("form", "constraint"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, Constraint("json")),
        ({"type": "json_schema", "json_schema": {"name": "x", "schema": {"a": 1}}}, Constraint("schema", {"a": 1})),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, Constraint("json")),
    ],
)
def test_response_formats(form: dict, constraint: Constraint | None):
    assert _chat(response_format=form).constraint == constraint


def test_a_grammar_is_a_constraint():
    assert _chat(grammar="root ::= x").constraint == Constraint("grammar", grammar="root ::= x")


@pytest.mark.parametrize(
    ("effort", "expected"),
    [(None, (None, "")), ("none", (False, "")), ("low", (True, "low")), ("xhigh", (True, "xhigh"))],
)
def test_thinking(effort: str | None, expected: tuple[bool | None, str]):
    request = _chat(reasoning_effort=effort)
    assert (request.think, request.effort) == expected


@pytest.mark.parametrize(
    "fields",
    [
        {"metadata": {"a": "b"}}, {"store": True}, {"user": "u"}, {"service_tier": "auto"}, {"prompt_cache_key": "k"},
        {"safety_identifier": "s"}, {"modalities": ["text"]}, {"prediction": {"type": "content"}},
        {"verbosity": "medium"},
        {"stream_options": {"include_usage": True}}, {"logprobs": False},
        {"stream_options": {"include_obfuscation": False}}, {"tools": []}, {"tool_choice": "auto"},
    ],
)  # fmt: skip
def test_fields_without_effect_here_change_nothing(fields: dict):
    assert _chat(**fields) == _chat()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"audio": {}}, "audio"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"functions": []}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"verbosity": "low"}, "verbosity"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}, "messages"),
        ({"messages": [{"role": "assistant", "audio": {"id": "x"}}]}, "messages"),
    ],
)
def test_known_but_impossible_fields_are_refused_by_name(fields: dict, param: str):
    with pytest.raises(Unsupported) as caught:
        _chat(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"n": 1.5}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_completion_tokens": 1 << 40}, "max_completion_tokens"),
        ({"seed": 1 << 64}, "seed"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages"),
        ({"tools": [{"type": "web"}]}, "tools[0]"),
        ({"tools": [{"function": {"name": "bad name"}}]}, "tools[0].function.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"function": {"name": "g"}}}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"tempratur": 1}, "tempratur"),
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"grammar": "x", "response_format": {"type": "json_object"}}, "grammar"),
    ],
)
def test_wrong_fields_are_refused_by_name(fields: dict, param: str):
    with pytest.raises(BadInput) as caught:
        _chat(**fields)
    assert (caught.value.param or "").startswith(param)
    assert caught.value.status == 400


@pytest.mark.parametrize("body", [b"", b"[]", b"5", b"null", b"{}", b'{"model":"m"}', b'"x"', b"{]"])
def test_bodies_that_are_no_request(body: bytes):
    for kind in (schema.ChatRequest, schema.CompletionRequest, schema.EmbeddingRequest):
        with pytest.raises(BadInput):
            decode(body, kind)


def test_completions():
    (request,) = _complete(prompt="once", max_tokens=5, logprobs=3, n=2, stop="x", seed=1)
    assert (request.prompt, request.max_tokens, request.logprobs, request.n) == ("once", 5, 3, 2)
    assert _complete()[0].max_tokens == 16
    assert [request.prompt for request in _complete(prompt=["a", "b"])] == ["a", "b"]
    assert [request.prompt for request in _complete(prompt=[1, 2])] == [(1, 2)]
    assert [request.prompt for request in _complete(prompt=[[1, 2], "a", [3]])] == [(1, 2), "a", (3,)]
    assert _complete(best_of=1)[0].n == 1


def test_text_before_a_suffix():
    first, second = _complete(prompt=["a", ""], suffix="b")
    assert (first.prompt, first.insert, second.insert) == ("", Insert("a", "b"), Insert("", "b"))


def test_the_best_of_several_is_found_by_how_likely_they_are():
    (request,) = _complete(best_of=4, n=2)
    assert (request.n, request.logprobs) == (4, 0)
    assert _complete(best_of=4, logprobs=3)[0].logprobs == 3
    assert _complete(best_of=0, n=2)[0].n == 2


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"suffix": "x", "echo": True}, "suffix"),
        ({"suffix": "x", "max_tokens": 0}, "suffix"),
        ({"suffix": "x", "prompt": [1, 2]}, "prompt"),
        ({"suffix": "x", "prompt": []}, "prompt"),
        ({"best_of": 2, "n": 3}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"best_of": 2, "echo": True}, "best_of"),
        ({"best_of": 17}, "best_of"),
        ({"best_of": 16, "prompt": ["a"] * 9}, "n"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [[1], 2]}, "prompt"),
        ({"prompt": [[1], []]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ["a", ""]}, "prompt"),
        ({"prompt": ["a"] * 100, "n": 2}, "n"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
    ],
)
def test_wrong_completions_are_refused_by_name(fields: dict, param: str):
    with pytest.raises(BadInput) as caught:
        _complete(**fields)
    assert (caught.value.param or "").startswith(param)


@pytest.mark.parametrize(
    ("given", "inputs"),
    [("a", ("a",)), (["a", "b"], ("a", "b")), ([1, 2], ((1, 2),)), ([[1], [2, 3]], ((1,), (2, 3)))],
)
def test_embedding_inputs(given, inputs):
    assert _embed(input=given).inputs == inputs


@pytest.mark.parametrize(
    "fields",
    [{"input": ""}, {"input": []}, {"input": ["a", ""]}, {"input": ["a", 1]}, {"input": [[]]}, {"input": [-1]},
     {"input": ["a"] * 2049}, {"input": None}, {"encoding_format": "hex"}, {"dimensions": 0}, {"input": {"a": 1}}],
)  # fmt: skip
def test_wrong_embedding_inputs_are_refused(fields: dict):
    with pytest.raises(BadInput):
        _embed(**fields)


def _values(bound: Any) -> list[Any]:
    return [None, True, -1, 0, 1, 1.5, 1e308, 10**18, "", "x" * 5000, [], [[]], {}, {"a": {}}, [None], bound]


@pytest.mark.parametrize("kind", [schema.ChatRequest, schema.CompletionRequest, schema.EmbeddingRequest])
def test_every_field_with_every_kind_of_value_is_taken_or_refused(kind):
    """No field of any route lets a wrong value through to an exception that is not an error of ours."""
    smallest = {"model": "m", "messages": USER, "prompt": "a", "input": "a"}
    fields = {field.encode_name for field in msgspec.structs.fields(kind)}
    known = {name: value for name, value in smallest.items() if name in fields}
    turn = {
        schema.ChatRequest: translate.chat_request,
        schema.CompletionRequest: translate.completion_requests,
        schema.EmbeddingRequest: translate.embed_request,
    }[kind]
    refused = set()
    for field in sorted(fields):
        for value in _values("auto"):
            try:
                turn(decode(msgspec.json.encode({**known, field: value}), kind))
            except FreeholdError as error:
                refused.add(error.status)
    assert refused == {400}
