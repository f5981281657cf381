import json

import pytest

from freehold.core.event import Finished, Logprobs, Text, TokenLogprob, ToolCallPart
from freehold.core.request import Message, Tool, ToolCall
from freehold.engines.llamacpp import tools

WEATHER = Tool("weather", "the weather of a city", {"type": "object", "properties": {"city": {"type": "string"}}})
TIME = Tool(
    "time", "", {"type": "object", "properties": {"zone": {"$ref": "#/$defs/Z"}}, "$defs": {"Z": {"enum": ["u"]}}}
)


def _feed(filter_, *events) -> list:
    return [found for event in events for found in filter_.feed(event)]


def _pieces(text: str) -> list[Text]:
    return [Text(char) for char in text]


def test_tools_are_told_in_the_system_message():
    folded = tools.folded((Message("user", "hi"),), (WEATHER,))
    assert [message.role for message in folded] == ["system", "user"]
    assert '"weather"' in folded[0].content
    kept = tools.folded((Message("system", "Be kind."), Message("user", "hi")), (WEATHER,))
    assert kept[0].content.startswith("Be kind.\n\n")
    assert len(kept) == 2


def test_calls_and_results_are_told_in_words():
    history = (
        Message("user", "weather?"),
        Message("assistant", "", (ToolCall("c", "weather", '{"city":"Rome"}'),)),
        Message("tool", "sunny", tool_call_id="c"),
    )
    folded = tools.folded(history, ())
    assert folded[1] == Message("assistant", '{"name": "weather", "arguments": {"city":"Rome"}}')
    assert folded[2] == Message("user", "The function returned: sunny")
    assert folded[0] is history[0]


def test_the_schema_of_any_call_keeps_each_tools_own_references():
    schema = tools.any_call((WEATHER, TIME))
    assert [option["properties"]["name"]["const"] for option in schema["anyOf"]] == ["weather", "time"]
    assert schema["$defs"]["t1"]["properties"]["zone"] == {"$ref": "#/$defs/t1/$defs/Z"}
    assert TIME.parameters["properties"]["zone"] == {"$ref": "#/$defs/Z"}, "the tool itself is not changed"


@pytest.mark.parametrize(
    ("parameters", "open_to_others"),
    [
        ({}, False),
        ({"type": "object", "properties": {"city": {}}}, False),
        ({"type": "object"}, True),
        ({"type": "object", "properties": {}, "additionalProperties": True}, True),
        ({"type": "object", "properties": {}, "patternProperties": {"^x": {}}}, True),
        ({"$ref": "#/$defs/A", "$defs": {"A": {}}}, True),
        ({"anyOf": [{"properties": {"a": {}}}]}, True),
    ],
)
def test_a_call_that_must_be_made_has_no_arguments_that_nobody_described(parameters: dict, open_to_others: bool):
    schema = tools.closed(Tool("f", "", parameters))
    assert schema.get("additionalProperties", True) is open_to_others
    assert schema.items() >= parameters.items()


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ('{"name": "weather", "arguments": {"city": "Rome"}}', ("weather", '{"city": "Rome"}')),
        ('{"name": "weather", "arguments": {"city": 1e999}}', ("weather", '{"city": 1e999}')),
        (' {"name":"time","arguments":{}}\n', ("time", "{}")),
        ('{"name": "nothing", "arguments": {}}', None),
        ('{"name": "weather"}', None),
        ('{"name": "weather", "arguments": []}', None),
        ('{"name": "weather", "arg', None),
        ("The weather is fine", None),
        ("", None),
    ],
)
def test_what_is_a_call(text: str, call):
    assert tools.parse_call(text, (WEATHER, TIME)) == call


def test_a_forced_call_streams_its_arguments():
    found = _feed(tools.Forced(WEATHER, "id1"), *_pieces('{"city":"R"}'), Finished("stop"))
    assert found[0] == ToolCallPart(0, id="id1", name="weather")
    assert "".join(part.arguments for part in found[1:-1]) == '{"city":"R"}'
    assert found[-1] == Finished("tool_calls")


def test_a_forced_call_cut_short_says_so():
    assert _feed(tools.Forced(WEATHER, "id1"), Text("{"), Finished("length"))[-1].reason == "length"


def test_a_written_call_is_detected():
    text = json.dumps({"name": "weather", "arguments": {"city": "Rome"}})
    found = _feed(tools.Detected((WEATHER,), "id1"), *_pieces("\n " + text), Finished("stop", index=0))
    assert found == [ToolCallPart(0, "id1", "weather", '{"city": "Rome"}'), Finished("tool_calls")]


def test_plain_words_pass_at_once():
    detected = tools.Detected((WEATHER,), "id1")
    assert _feed(detected, Text(" ")) == []
    assert _feed(detected, Text("Hi")) == [Text(" Hi")]
    assert _feed(detected, Text("{")) == [Text("{")]
    assert _feed(detected, Finished("stop")) == [Finished("stop")]


@pytest.mark.parametrize("text", ['{"name": "nothing", "arguments": {}}', '{"city": "Rome"}', '{"name": "wea'])
def test_json_that_is_no_call_is_text(text: str):
    found = _feed(tools.Detected((WEATHER,), "id1"), *_pieces(text), Finished("stop"))
    assert found == [Text(text), Finished("stop")]


def test_log_probabilities_pass():
    logprobs = Logprobs((TokenLogprob("{", -1.0),))
    assert _feed(tools.Detected((WEATHER,), "i"), logprobs) == [logprobs]
    assert _feed(tools.Forced(WEATHER, "i"), logprobs) == [logprobs]
