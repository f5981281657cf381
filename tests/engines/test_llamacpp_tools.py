import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


FAMILIES = {
    "hermes": '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>',
    "llama 3.1": '<|python_tag|>{"name": "weather", "parameters": {"city": "Rome"}}',
    "llama 3.2": '{"name": "weather", "parameters": {"city": "Rome"}}',
    "mistral": '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "Rome"}, "id": "123456789"}]',
    "mistral small": '[TOOL_CALLS]weather[ARGS]{"city": "Rome"}',
    "deepseek": "<\uff5ctool\u2581call\u2581begin\uff5c>function<\uff5ctool\u2581sep\uff5c>weather",
    "functionary": '>>>weather\n{"city": "Rome"}',
    "granite": '<|tool_call|>[{"name": "weather", "arguments": {"city": "Rome"}}]',
    "phi 4": 'functools[{"name": "weather", "arguments": {"city": "Rome"}}]',
    "command r": 'Action: ```json\n[{"tool_name": "weather", "parameters": {}}]\n```',
    "gemma": '```tool_code\nweather(city="Rome")\n```',
    "qwen coder": "<function=weather><parameter=city>Rome</parameter></function>",
    "openai as text": '{"type": "function", "function": {"name": "weather", "arguments": "{}"}}',
    "arguments as text": '{"name": "weather", "arguments": "{}"}',
    "fenced": '```json\n{"name": "weather", "arguments": {}}\n```',
    "two calls": '{"name": "weather", "arguments": {}}\n{"name": "time", "arguments": {}}',
    "a call and words": '{"name": "weather", "arguments": {}} is what I would call',
    "a list": '[{"name": "weather", "arguments": {}}]',
    "in capitals": '{"name": "Weather", "arguments": {}}',
    "a name that is none": '{"name": ["weather"], "arguments": {}}',
    "deep": '{"name": "weather", "arguments": {"a": ' + "[" * 5000 + "]" * 5000 + "}}",
    "deep beside": '{"x": ' + '{"a":' * 5000,
    "nul": '{"name": "weather\x00", "arguments": {}}',
}
"""What models write that were not asked so: no parser here guesses at it, and none of it may be lost."""


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_calls_in_other_words_than_asked_for_stay_text(family: str, size: int):
    text = FAMILIES[family]
    pieces = [Text(text[at : at + size]) for at in range(0, len(text), size)]
    found = _feed(tools.Detected((WEATHER, TIME), "id1"), *pieces, Finished("stop"))
    assert "".join(event.text for event in found[:-1]) == text
    assert found[-1] == Finished("stop")


@pytest.mark.parametrize(
    "text",
    [
        '{"arguments": {"city": "Rome"}, "name": "weather"}',
        '{"name": "weather", "arguments": {"city": "Rome"}, "id": 7, "why": [null]}',
        '\n\t {"name":\n"weather","arguments":\n{"city": "Rome"} }  \n',
        '{"name": "wea\\u0074her", "arguments": {"city": "Rome"}}',
        '{"name": "time", "name": "weather", "arguments": {}, "arguments": {"city": "Rome"}}',
    ],
)
def test_the_same_call_may_be_written_otherwise(text: str):
    for size in (1, 5, 1000):
        pieces = [Text(text[at : at + size]) for at in range(0, len(text), size)]
        found = _feed(tools.Detected((WEATHER, TIME), "id1"), *pieces, Finished("stop"))
        assert found == [ToolCallPart(0, "id1", "weather", '{"city": "Rome"}'), Finished("tool_calls")]


@given(st.text(st.sampled_from('{}[]":, \n\\aweathernamguts'), max_size=40), st.lists(st.integers(0, 40), max_size=6))
def test_any_text_comes_out_as_it_came_in_or_as_one_call(text: str, cuts: list[int]):
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [Text(text[a:b]) for a, b in itertools.pairwise(places)]
    found = _feed(tools.Detected((WEATHER,), "id1"), *pieces, Finished("length"))
    if isinstance(found[0], ToolCallPart):
        assert json.loads(text)["name"] == "weather"
        assert json.loads(found[0].arguments) == json.loads(text)["arguments"]
    else:
        assert "".join(event.text for event in found[:-1]) == text
        assert found[-1] == Finished("length")


@given(
    st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.text(max_size=5), max_size=4)
)
def test_any_call_that_is_told_in_words_is_found_again(arguments: dict):
    call = ToolCall("c", "weather", json.dumps(arguments))
    (told,) = tools.folded((Message("assistant", "", (call,)),), ())
    assert tools.parse_call(told.content, (WEATHER,)) == ("weather", call.arguments)
    assert tools.parse_call(tools.opening(WEATHER) + call.arguments + "}", (WEATHER,)) == ("weather", call.arguments)
