"""Requests: every field that a client fills has a declared maximum, and the maximum holds."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from freehold.core.event import Finished, Text, Usage
from freehold.core.request import EmbedRequest, Image, Message, Request, Sampling, Tool, joined, moved, pieces

UNBOUNDED_BY_DESIGN = {
    # Free JSON: bounded by the size of the body that carried it.
    "Tool.parameters",
    "Constraint.schema",
}


def unbounded(kind: inspect.Type, where: str) -> Iterator[str]:
    """The paths under `kind` at which a value has no declared maximum."""
    if isinstance(kind, inspect.StructType):
        for field in kind.fields:
            yield from unbounded(field.type, f"{kind.cls.__name__}.{field.name}")
    elif isinstance(kind, inspect.UnionType):
        for part in kind.types:
            yield from unbounded(part, where)
    elif isinstance(kind, inspect.StrType | inspect.BytesType):
        if kind.max_length is None:
            yield where
    elif isinstance(kind, inspect.IntType | inspect.FloatType):
        if (kind.le is None and kind.lt is None) or (kind.ge is None and kind.gt is None):
            yield where
    elif isinstance(kind, inspect.VarTupleType):
        if kind.max_length is None:
            yield where
        yield from unbounded(kind.item_type, f"{where}[]")
    elif isinstance(kind, inspect.DictType):
        if kind.max_length is None:
            yield where
        yield from unbounded(kind.value_type, f"{where}{{}}")
    elif not isinstance(kind, inspect.LiteralType | inspect.NoneType | inspect.AnyType | inspect.BoolType):
        yield f"{where}: {type(kind).__name__} is not known to this test"


@pytest.mark.parametrize("kind", [Request, EmbedRequest])
def test_every_field_is_bounded(kind: type) -> None:
    assert set(unbounded(inspect.type_info(kind), kind.__name__)) <= UNBOUNDED_BY_DESIGN


def test_the_walk_sees_an_unbounded_field() -> None:
    class Careless(msgspec.Struct):
        text: str
        number: int | None
        rows: tuple[float, ...]

    assert set(unbounded(inspect.type_info(Careless), "")) == {
        "Careless.text",
        "Careless.number",
        "Careless.rows",
        "Careless.rows[]",
    }


def convert(**fields: Any) -> Request:
    return msgspec.convert({"model": "m", **fields}, Request)


def test_the_least_request() -> None:
    request = convert()
    assert request == Request(model="m")
    assert request.n == 1
    assert request.sampling == Sampling()


@pytest.mark.parametrize(
    "fields",
    [
        {"model": ""},
        {"model": "m" * 257},
        {"n": 0},
        {"n": 17},
        {"max_tokens": 0},
        {"max_tokens": (1 << 20) + 1},
        {"stop": [""]},
        {"stop": ["x"] * 17},
        {"stop": ["x" * 1025]},
        {"logprobs": 1025},
        {"logprobs": -1},
        {"deadline": 0},
        {"deadline": 1e9},
        {"deadline": float("nan")},
        {"deadline": float("inf")},
        {"sampling": {"temperature": -0.1}},
        {"sampling": {"temperature": 2.1}},
        {"sampling": {"temperature": float("nan")}},
        {"sampling": {"top_p": 1.1}},
        {"sampling": {"top_k": -1}},
        {"sampling": {"seed": 1 << 63}},
        {"sampling": {"logit_bias": {1: 101}}},
        {"sampling": {"logit_bias": dict.fromkeys(range(1025), 0)}},
        {"messages": [{"role": "root"}]},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user"}] * 4097},
        {"messages": [{"role": "user", "name": "x" * 257}]},
        {"tools": [{"name": ""}]},
        {"tools": [{"name": "rm -rf"}]},
        {"tools": [{"name": "x" * 65}]},
        {"tools": [{"name": "f"}] * 129},
        {"constraint": {"kind": "regex"}},
        {"constraint": {"kind": "grammar", "grammar": "x" * ((1 << 16) + 1)}},
        {"prompt": 5},
    ],
    ids=str,
)
def test_out_of_bounds_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        convert(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 16},
        {"max_tokens": 1 << 20},
        {"stop": ["x" * 1024] * 16},
        {"logprobs": 1024},
        {"deadline": 86400},
        {"sampling": {"temperature": 2, "top_p": 1, "top_k": 0, "seed": -(1 << 63), "logit_bias": {5: -100}}},
        {"tools": [{"name": "get_weather.v2-x"}], "tool_choice": "get_weather.v2-x"},
    ],
    ids=str,
)
def test_the_bounds_themselves_are_allowed(fields: dict[str, Any]) -> None:
    assert convert(**fields)


@pytest.mark.parametrize("inputs", [[], ["x"] * 2049, [[-1]], [[1 << 32]], [5]], ids=lambda value: str(value)[:20])
def test_embed_inputs_out_of_bounds(inputs: list[Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"model": "m", "inputs": inputs}, EmbedRequest)


def test_embed_inputs_are_texts_or_tokens() -> None:
    request = msgspec.convert({"model": "m", "inputs": ["text", [1, 2]]}, EmbedRequest)
    assert request.inputs == ("text", (1, 2))


def test_a_request_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Request(model="m").n = 2  # type: ignore[misc]


def test_a_request_survives_the_wire() -> None:
    request = Request(
        model="m",
        messages=(Message("system", "s"), Message("user", "u")),
        tools=(Tool("f", parameters={"type": "object"}),),
        sampling=Sampling(seed=7, logit_bias={3: 1.5}),
        stop=("\n",),
    )
    assert msgspec.json.decode(msgspec.json.encode(request), type=Request) == request


def image(name: bytes, place: int = 0) -> Image:
    return Image(name, "image/png", 1, 1, place)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ([], ""),
        (["a", "b"], "a-b"),
        ([image(b"1"), "a", image(b"2"), "b", "c", image(b"3")], "ab-c"),
        ([image(b"1"), image(b"2")], ""),
    ],
)
def test_images_keep_their_places_in_the_text(given: list[Any], text: str) -> None:
    found, images = joined(given, "-")
    assert found == text
    parts = list(pieces(found, images))
    assert "".join(part for part in parts if isinstance(part, str)) == text
    assert [part.data for part in parts if isinstance(part, Image)] == [i.data for i in given if isinstance(i, Image)]
    again = list(pieces("xx" + found, moved(images, 2)))
    assert [part.data for part in again if isinstance(part, Image)] == [image.data for image in images]
    assert Request(model="m", messages=(Message("user", found, images=images),), images=images).seen == images * 2


def test_a_place_behind_the_text_is_its_end() -> None:
    assert list(pieces("ab", [image(b"1", 9)])) == ["ab", image(b"1", 9)]


def test_usage_adds_up() -> None:
    assert Usage(1, 2, 3) + Usage(10, 20, 30) == Usage(11, 22, 33)


def test_events_of_the_first_choice_need_no_index() -> None:
    assert Text("x").index == 0
    assert Finished("stop").usage == Usage()
