"""Every error of ours has one shape, status and kind in each dialect, and no client's words come back at length."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core import errors
from freehold.core.errors import BadInput, Busy, FreeholdError
from freehold.dialects.anthropic import routes as anthropic
from freehold.dialects.anthropic import schema as anthropic_schema
from freehold.dialects.ollama import routes as ollama
from freehold.dialects.ollama import schema as ollama_schema
from freehold.dialects.openai import routes as openai
from freehold.dialects.openai import schema as openai_schema
from freehold.serving.decoding import decode
from freehold.serving.own import OWN

DIALECTS = {each.name: each for each in (openai.DIALECT, anthropic.DIALECT, ollama.DIALECT, OWN)}
KINDS = {
    kind.__name__: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FreeholdError)
}
# By status, as the vendors' references have it: OpenAI's `type`, Anthropic's `type`.
TYPES = {
    400: ("invalid_request_error", "invalid_request_error"),
    401: ("authentication_error", "authentication_error"),
    403: ("permission_error", "permission_error"),
    404: ("invalid_request_error", "not_found_error"),
    405: ("invalid_request_error", "invalid_request_error"),
    409: ("invalid_request_error", "invalid_request_error"),
    413: ("invalid_request_error", "request_too_large"),
    415: ("invalid_request_error", "invalid_request_error"),
    429: ("rate_limit_error", "rate_limit_error"),
    499: ("invalid_request_error", "invalid_request_error"),
    500: ("server_error", "api_error"),
    501: ("server_error", "api_error"),
    502: ("server_error", "api_error"),
    503: ("server_error", "overloaded_error"),
    504: ("server_error", "timeout_error"),
    507: ("server_error", "api_error"),
}


def answered(dialect: str, error: FreeholdError) -> tuple[int, dict[str, Any]]:
    response = DIALECTS[dialect].error(error)
    assert response.headers["content-type"] == "application/json"
    return response.status_code, json.loads(response.body)


@pytest.mark.parametrize("name", KINDS)
def test_each_error_in_openais_shape(name: str):
    error = KINDS[name]("it broke", "Mend it")
    status, body = answered("openai", error)
    code = None if error.code == "invalid_request_error" else error.code
    told = {"message": "it broke. Mend it", "type": TYPES[status][0], "param": None, "code": code}
    assert (status, body) == (error.status, {"error": told})


@pytest.mark.parametrize("name", KINDS)
def test_each_error_in_anthropics_shape(name: str):
    error = KINDS[name]("it broke", "Mend it")
    status, body = answered("anthropic", error)
    told = {"type": TYPES[status][1], "message": "it broke. Mend it"}
    assert (status, body) == (error.status, {"type": "error", "error": told, "request_id": None})


@pytest.mark.parametrize("name", KINDS)
def test_each_error_in_ollamas_shape_and_in_our_own(name: str):
    error = KINDS[name]("it broke", "Mend it")
    assert answered("ollama", error) == (error.status, {"error": "it broke. Mend it"})
    told = {"code": error.code, "message": "it broke", "remedy": "Mend it"}
    assert answered("freehold", error) == (error.status, {"error": told})


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "ollama"])
def test_only_who_may_come_again_is_told_when(dialect: str):
    for kind in KINDS.values():
        again = issubclass(kind, Busy)
        error = kind("full", retry_after=7) if issubclass(kind, Busy) else kind("full")
        assert DIALECTS[dialect].error(error).headers.get("retry-after") == ("7" if again else None)


@pytest.mark.parametrize("dialect", DIALECTS)
@given(message=st.text(max_size=40), remedy=st.text(max_size=20), param=st.none() | st.text(max_size=10))
def test_whatever_an_error_says_its_answer_is_json_of_one_line(
    dialect: str, message: str, remedy: str, param: str | None
):
    error = BadInput(message, remedy, param=param)
    _, body = answered(dialect, error)
    assert set(body) >= {"error"}
    if dialect != "freehold":
        said = body["error"] if isinstance(body["error"], str) else body["error"]["message"]
        assert said == error.line()
        assert len(said.splitlines()) <= 1


def wires() -> Iterator[Any]:
    for module in (openai_schema, anthropic_schema, ollama_schema):
        for name, kind in vars(module).items():
            if name.endswith("Request") and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
                yield pytest.param(kind, id=f"{module.__name__.split('.')[2]}.{name}")


@pytest.mark.parametrize("kind", list(wires()))
def test_what_is_wrong_with_a_body_is_told_in_few_words(kind: type):
    long = "x" * 100_000
    unknown = [{long: 1}, {"model": "m", long: long}] if kind.__struct_config__.forbid_unknown_fields else []
    for body in (*unknown, {"model": [long]}, {"model": long}, [long], long):
        with pytest.raises(BadInput) as caught:
            decode(msgspec.json.encode(body), kind)
        assert len(caught.value.line()) < 1000
        assert len(caught.value.param or "") < 1000


@pytest.mark.parametrize("place", ["role", "type"])
def test_a_wrong_choice_is_not_repeated_at_length(place: str):
    messages = [{"role": "user", "content": "a"} | ({"role": "y" * 50_000} if place == "role" else {})]
    form = {"response_format": {"type": "y" * 50_000}} if place == "type" else {}
    with pytest.raises(BadInput, match=place) as caught:
        decode(msgspec.json.encode({"model": "m", "messages": messages, **form}), openai_schema.ChatRequest)
    assert len(caught.value.line()) < 1000


def outcome(ask: Callable[[], Any]) -> Any:
    """What it answers, or the error of ours that it raises."""
    try:
        return ask()
    except FreeholdError as error:
        return error


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("kind", list(wires()))
@given(given_body=JSON, raw=st.binary(max_size=12), known=st.booleans())
def test_any_bytes_are_a_request_or_an_error_of_ours(kind: type, given_body: Any, raw: bytes, known: bool):
    names = [field.encode_name for field in msgspec.structs.fields(kind)]
    values = given_body if isinstance(given_body, list) else [given_body]
    body = dict(zip(names, values, strict=False)) if known else given_body
    for data in (json.dumps(body).encode(), raw):
        told = outcome(lambda data=data: decode(data, kind))
        assert isinstance(told, kind | BadInput)
        assert not isinstance(told, BadInput) or len(told.line().splitlines()) == 1
