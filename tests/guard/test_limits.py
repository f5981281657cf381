import pytest

from freehold.core.errors import BadInput, TooLarge
from freehold.core.request import Constraint, Message, Request, Tool
from freehold.guard import limits


def _nested(depth: int) -> dict:
    schema: dict = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


GOOD = [
    {},
    {"type": "object", "properties": {"a": {"type": "string", "maxLength": 100, "pattern": "^[a-z]{1,20}$"}}},
    {"$ref": "#/$defs/a", "$defs": {"a": {"type": "integer", "minimum": 0}}},
    _nested(60),
    {"type": "array", "items": {}, "maxItems": limits.MAX_REPEAT},
]
BAD = [
    ({"$ref": "https://example.com/schema.json"}, "refers to"),
    ({"$ref": "file:///etc/passwd"}, "refers to"),
    ({"$ref": 5}, "refers to"),
    ({"type": "string", "maxLength": 10**9}, "maxLength"),
    ({"type": "string", "minLength": -1}, "minLength"),
    ({"type": "array", "items": {"type": "array", "minItems": 1e300}}, "minItems"),
    ({"type": "string", "pattern": "a{1,99999}"}, "repeats"),
    ({"type": "string", "pattern": "a{0,999999999999}"}, "repeats"),
    ({"type": "string", "pattern": "(" * 100 + ")" * 100}, "groups"),
    ({"anyOf": [{"properties": {"x": {"pattern": "b{3000}"}}}]}, "repeats"),
]
LARGE = [{"enum": ["x" * 70_000]}, {"pattern": "a" * 3000}, {"properties": {str(i): {} for i in range(20_000)}}]


@pytest.mark.parametrize("schema", GOOD)
def test_ordinary_schemas_pass(schema: dict):
    limits.check_schema(schema, "tools")


@pytest.mark.parametrize(("schema", "said"), BAD)
def test_harmful_schemas_are_refused_by_name(schema: dict, said: str):
    with pytest.raises(BadInput, match=said) as caught:
        limits.check_schema(schema, "response_format")
    assert caught.value.param == "response_format"


@pytest.mark.parametrize("schema", LARGE)
def test_large_schemas_are_too_large(schema: dict):
    with pytest.raises(TooLarge):
        limits.check_schema(schema, "tools")


@pytest.mark.parametrize(
    "grammar",
    ['root ::= "yes" | "no"', 'root ::= [(]{1,5} "((((((((((" x\nx ::= ("a" ("b" ("c")))', 'root ::= "\\"(" [^\\]]*'],
)
def test_ordinary_grammars_pass(grammar: str):
    limits.check_grammar(grammar)


@pytest.mark.parametrize(
    "grammar",
    ["root ::= " + "(" * 65 + '"a"' + ")" * 65, "root ::= [a]{100000}", "root ::= ([a]{1,2001})", "(" * 60_000],
)
def test_harmful_grammars_are_refused(grammar: str):
    with pytest.raises(BadInput):
        limits.check_grammar(grammar)


def test_tools_and_constraints_of_a_request_are_checked():
    messages = (Message("user", "x"),)
    bad = {"$ref": "http://x"}
    limits.check(Request(model="m", messages=messages, tools=(Tool("f", "", GOOD[1]),), constraint=Constraint("json")))
    for request in (
        Request(model="m", messages=messages, tools=(Tool("f"), Tool("g", "", bad))),
        Request(model="m", messages=messages, constraint=Constraint("schema", bad)),
        Request(model="m", prompt="x", constraint=Constraint("grammar", grammar="(" * 100)),
    ):
        with pytest.raises(BadInput):
            limits.check(request)
