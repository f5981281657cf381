"""What a model brings along: it fills gaps, and never takes what a request says."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.errors import Damaged
from freehold.core.parameters import Defaults, Parameters, decode_messages, decode_parameters
from freehold.core.request import Image, Message, Request, Sampling

SAMPLINGS = st.builds(
    Sampling,
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1),
    top_k=st.none() | st.integers(0, 100),
    seed=st.none() | st.integers(-5, 5),
    logit_bias=st.just({}) | st.dictionaries(st.integers(0, 9), st.floats(-100, 100), min_size=1, max_size=2),
    mirostat=st.none() | st.integers(0, 2),
    samplers=st.none() | st.just(("top_k",)),
)
PARAMETERS = st.builds(
    Parameters,
    sampling=SAMPLINGS,
    stop=st.lists(st.text("ab", min_size=1, max_size=3), max_size=3).map(tuple),
    max_tokens=st.none() | st.integers(1, 99),
    context_length=st.none() | st.integers(16, 99),
)
TURNS = st.lists(
    st.builds(Message, role=st.sampled_from(["user", "assistant"]), content=st.text(max_size=4)), max_size=3
).map(tuple)


def said(sampling: Sampling) -> dict[str, object]:
    return {name: value for name, value in msgspec.structs.asdict(sampling).items() if value not in (None, {})}


@given(PARAMETERS)
def test_parameters_come_back_from_their_bytes(parameters: Parameters) -> None:
    assert decode_parameters(parameters.encode()) == parameters
    assert decode_parameters(parameters.encode()).encode() == parameters.encode()


@given(PARAMETERS, PARAMETERS)
def test_what_is_over_wins_and_what_is_under_fills(over: Parameters, under: Parameters) -> None:
    both = over.over(under)
    assert said(both.sampling) == said(under.sampling) | said(over.sampling)
    assert both.stop == (over.stop or under.stop)
    assert both.max_tokens == (under.max_tokens if over.max_tokens is None else over.max_tokens)
    assert both.context_length == (under.context_length if over.context_length is None else over.context_length)
    assert both.over(both) == both
    assert Parameters().over(over) == over.over(Parameters()) == over


@given(PARAMETERS, PARAMETERS, PARAMETERS)
def test_layers_may_be_joined_in_any_grouping(one: Parameters, two: Parameters, three: Parameters) -> None:
    assert one.over(two).over(three) == one.over(two.over(three))


@given(PARAMETERS, SAMPLINGS, TURNS, TURNS, st.booleans(), st.booleans())
def test_a_request_keeps_all_that_it_says(
    parameters: Parameters, sampling: Sampling, own: tuple[Message, ...], before: tuple[Message, ...], opened: bool,
    told: bool,
) -> None:  # fmt: skip
    first = (Message("system", "mine"),) if opened else ()
    defaults = Defaults(parameters=parameters, system="theirs" if told else "", messages=before)
    request = Request(model="m", messages=(*first, *own), sampling=sampling)
    found = defaults.applied(request)
    assert said(found.sampling) == said(parameters.sampling) | said(sampling)
    system = first or ((Message("system", "theirs"),) if told else ())
    assert found.messages == (*system, *before, *own)
    assert (found.stop, found.max_tokens) == (parameters.stop, parameters.max_tokens)


def test_a_zero_is_said() -> None:
    quiet = Sampling(temperature=0.0, top_k=0, seed=0)
    defaults = Defaults(parameters=Parameters(sampling=Sampling(temperature=0.9, top_k=40, seed=7)))
    assert defaults.applied(Request(model="m", sampling=quiet)).sampling == quiet


def test_turns_of_a_model_hold_no_images() -> None:
    """Those of a request are checked when they come in; these would reach a decoder unseen."""
    turns = (Message("user", "Look", images=(Image(b"x", "image/png", 1, 1),)),)
    with pytest.raises(Damaged, match="hold images"):
        decode_messages(msgspec.json.encode(turns))
    assert decode_messages(msgspec.json.encode((Message("user", "Hi"),))) == (Message("user", "Hi"),)


@pytest.mark.parametrize("data", [b"", b"{}", b"null", b"[1]", b'[{"role":"user","content":1}]', b"\xff", b"[" * 9999])
def test_turns_that_cannot_be_read_are_damage(data: bytes) -> None:
    with pytest.raises(Damaged, match="a model's messages cannot be read") as caught:
        decode_messages(data)
    assert "\n" not in caught.value.line()


@pytest.mark.parametrize(
    "data",
    [
        b'{"max_tokens":0}',
        b'{"context_length":15}',
        b'{"stop":[""]}',
        b'{"stop":[' + b",".join([b'"x"'] * 17) + b"]}",
        b'{"sampling":{"top_p":1.5}}',
        b'{"sampling":{"seed":"x"}}',
        b'{"heat":1}',
    ],
)
def test_parameters_out_of_bounds_are_damage(data: bytes) -> None:
    with pytest.raises(Damaged, match="a model's parameters cannot be read"):
        decode_parameters(data)
