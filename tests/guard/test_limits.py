import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.errors import BadInput, TooLarge
from freehold.core.request import MAX_IMAGES, Constraint, Image, Message, Request, Tool
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
    {"properties": {f"p{i}": {} for i in range(1500)}, "required": [f"p{i}" for i in range(1400)]},
    {"properties": [1], "required": "x", "patternProperties": None},
    {"patternProperties": {f"^{i}": {} for i in range(50)}},
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
    ({"pattern": "^((a{100}){100}){100}$"}, "repetitions"),
    ({"patternProperties": {"^([ab]{500}c){100}$": {}}}, "repetitions"),
    ({"patternProperties": {"b{3000}": {}}}, "repeats"),
    ({"patternProperties": {f"^{i}": {} for i in range(51)}}, "patternProperties"),
    ({"items": {"properties": {f"p{i}": {} for i in range(300)}, "required": ["p1"]}}, "optional"),
    ({"anyOf": [{"properties": {f"p{i}": {} for i in range(100)}} for _ in range(5)]}, "optional"),
    ({"anyOf": [{"pattern": "^[ab]{1500}$"} for _ in range(20)]}, "repetitions"),
]
UNROLLED = {
    "abc": 3,
    "a{100}": 100,
    "a{2,}": 2,
    "a{,7}": 7,
    "a{0}": 1,
    "(a{100}){100}": 10_000,
    "[ab]{20}": 20,
    r"[\]{9}]{2}": 2,
    r"\p{L}{5}": 5,
    r"\(a{3}\)": 5,
    "(ab){3,9}c": 19,
    ")){5}": 6,
    "{5}": 0,
    "(((": 0,
    "(a(b){3}": 4,
}
LARGE = [{"enum": ["x" * 70_000]}, {"pattern": "a" * 3000}, {"properties": {str(i): {} for i in range(20_000)}}]


@pytest.mark.parametrize("schema", GOOD)
def test_ordinary_schemas_pass(schema: dict):
    limits.check_schema(schema, "tools")


@pytest.mark.parametrize(("schema", "said"), BAD)
def test_harmful_schemas_are_refused_by_name(schema: dict, said: str):
    with pytest.raises(BadInput, match=said) as caught:
        limits.check_schema(schema, "response_format")
    assert caught.value.param == "response_format"


@pytest.mark.parametrize("pattern", UNROLLED)
def test_repetitions_are_counted_where_they_are_nested(pattern: str):
    assert limits._unrolled(pattern) == UNROLLED[pattern]


@given(st.text("a(){}[]\\\\,0159|*p", max_size=60))
def test_any_text_can_be_counted(pattern: str):
    once = limits._unrolled(pattern)
    assert 0 <= once <= limits._unrolled(f"{pattern}a")


@pytest.mark.parametrize("schema", LARGE)
def test_large_schemas_are_too_large(schema: dict):
    with pytest.raises(TooLarge):
        limits.check_schema(schema, "tools")


@pytest.mark.parametrize(
    "grammar",
    [
        "# " + "(" * 100 + '\nroot ::= "#" | "("',
        'root ::= "yes" | "no"',
        'root ::= [(]{1,5} "((((((((((" x\nx ::= ("a" ("b" ("c")))',
        'root ::= "\\"(" [^\\]]*',
    ],
)
def test_ordinary_grammars_pass(grammar: str):
    limits.check_grammar(grammar)


@pytest.mark.parametrize(
    "grammar",
    [
        "root ::= " + "(" * 65 + '"a"' + ")" * 65,
        "root ::= [a]{100000}",
        "root ::= ([a]{1,2001})",
        "(" * 60_000,
        '# "\nroot ::= ' + "(" * 65 + '"a"' + ")" * 65,
    ],
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


def test_what_many_tools_cost_is_counted_together():
    few = tuple(Tool(f"t{i}", parameters={"properties": {f"p{j}": {} for j in range(15)}}) for i in range(128))
    many = tuple(Tool(f"t{i}", parameters={"properties": {f"p{j}": {} for j in range(40)}}) for i in range(128))
    limits.check(Request(model="m", messages=(Message("user", "x"),), tools=few))
    with pytest.raises(BadInput, match="optional"):
        limits.check(Request(model="m", messages=(Message("user", "x"),), tools=many))


def _seeing(*sizes: tuple[int, int]) -> Request:
    images = tuple(Image(b"", "image/png", *size) for size in sizes)
    return Request(model="m", messages=(Message("user", "", images=images[:2]),), images=images[2:])


def test_images_are_bounded_in_number_and_pixels() -> None:
    limits.check(_seeing(*[(10, 10)] * MAX_IMAGES))
    limits.check(_seeing(*[(7000, 7000)] * 5))
    with pytest.raises(TooLarge, match="65 images"):
        limits.check(_seeing(*[(1, 1)] * (MAX_IMAGES + 1)))
    with pytest.raises(TooLarge, match="59 million pixels together"):
        limits.check(_seeing(*[(7000, 7000)] * 7))
