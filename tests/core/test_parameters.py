"""What a model brings along fills gaps, and never overrules a request."""

import msgspec
import pytest

from freehold.core.errors import Damaged
from freehold.core.parameters import Defaults, Parameters, decode_messages, decode_parameters
from freehold.core.request import Message, Request, Sampling

GIVEN = Defaults(
    parameters=Parameters(sampling=Sampling(temperature=0.5, top_k=3), stop=("X",), max_tokens=9),
    system="Be kind",
    messages=(Message("user", "Hi"), Message("assistant", "Hello")),
)
ASKED = Message("user", "?")


def test_gaps_are_filled() -> None:
    request = GIVEN.applied(Request(model="m", messages=(ASKED,)))
    assert request.sampling == Sampling(temperature=0.5, top_k=3)
    assert (request.stop, request.max_tokens) == (("X",), 9)
    assert request.messages == (Message("system", "Be kind"), *GIVEN.messages, ASKED)


def test_what_is_asked_for_counts() -> None:
    own = Message("system", "Be short")
    asked = Request(model="m", messages=(own, ASKED), sampling=Sampling(temperature=0), stop=("Y",), max_tokens=1)
    request = GIVEN.applied(asked)
    assert request.sampling == Sampling(temperature=0, top_k=3)
    assert (request.stop, request.max_tokens) == (("Y",), 1)
    assert request.messages == (own, *GIVEN.messages, ASKED)


def test_a_raw_prompt_stays_as_it_is() -> None:
    request = GIVEN.applied(Request(model="m", prompt="Once"))
    assert (request.prompt, request.messages, request.stop) == ("Once", (), ("X",))


def test_nothing_changes_nothing() -> None:
    request = Request(model="m", messages=(ASKED,), sampling=Sampling(seed=1, logit_bias={1: 2.0}))
    assert Defaults().applied(request) == request


def test_over() -> None:
    base = Parameters(sampling=Sampling(temperature=0.5, seed=2), stop=("a",), context_length=32)
    over = Parameters(sampling=Sampling(temperature=0.0), stop=("b",)).over(base)
    assert over == Parameters(sampling=Sampling(temperature=0.0, seed=2), stop=("b",), context_length=32)


def test_bytes() -> None:
    assert decode_parameters(GIVEN.parameters.encode()) == GIVEN.parameters
    assert Parameters().encode() == b"{}"
    for data in (b"", b"[]", b'{"stop": "x"}', b'{"unknown": 1}', b'{"sampling": {"temperature": 9}}', b"\xff"):
        with pytest.raises(Damaged):
            decode_parameters(data)
    with pytest.raises(Damaged):
        decode_messages(b'[{"role": "king"}]')


def test_equal_parameters_have_equal_bytes():
    read = msgspec.convert({"sampling": {"top_k": None}, "stop": ["x"]}, Parameters)
    assert read == Parameters(stop=("x",))
    assert read.encode() == Parameters(stop=("x",)).encode() == b'{"stop":["x"]}'
