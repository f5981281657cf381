"""Bodies as types: wrong fields have their names, and large bodies are read beside the event loop."""

import json
import threading

import msgspec
import pytest

from freehold.core.errors import BadInput
from freehold.serving.decoding import decode, decoded
from tests.serving.support import in_loop

threads: list[int] = []


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    number: int


class Body(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    inner: list[Inner] = []

    def __post_init__(self) -> None:
        threads.append(threading.get_ident())


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "text"),
        ({"text": 1}, "text"),
        ({"text": "", "other": 1}, "other"),
        ({"text": "", "inner": [{"number": 1}, {"number": "x"}]}, "inner[1].number"),
        ({"text": "", "inner": [{"number": 1, "x": 2}]}, "inner[0].x"),
        ([], None),
    ],
)
def test_a_wrong_field_is_named(body: object, param: str | None):
    with pytest.raises(BadInput) as caught:
        decode(json.dumps(body).encode(), Body)
    assert caught.value.param == param


@in_loop
async def test_large_bodies_are_read_where_nobody_waits_for_it():
    threads.clear()
    for size in (10, 1 << 20):
        found = await decoded(json.dumps({"text": "x" * size}).encode(), Body)
        assert len(found.text) == size
    own = threading.get_ident()
    assert [each == own for each in threads] == [True, False]
