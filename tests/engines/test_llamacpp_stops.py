"""Stop sequences are found wherever the pieces of a text are cut, and nothing of them gets out."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.event import Event, Finished, Reasoning, Text, ToolCallPart
from freehold.engines.llamacpp.stops import Stops

WORDS = ("END", "</s>", "EN|", "aab")


def fed(words: tuple[str, ...], *events: Event) -> tuple[str, str, list[Event]]:
    """The text let through, the word found, and all events."""
    stops = Stops(words)
    out = [kept for event in events for kept in stops.feed(event)]
    return "".join(event.text for event in out if isinstance(event, Text)), stops.found, out


def pieces(text: str, cuts: list[int]) -> list[Text]:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [Text(text[a:b]) for a, b in itertools.pairwise(places)]


@given(st.text("ENDab|</s> ", max_size=40), st.lists(st.integers(0, 1000), max_size=12))
def test_however_a_text_is_cut_it_ends_before_the_first_word(text: str, cuts: list[int]):
    found = [(at, word) for word in WORDS if (at := text.find(word)) >= 0]
    first = min((at for at, _ in found), default=len(text))
    shown, stop, _ = fed(WORDS, *pieces(text, cuts), Finished("stop"))
    # A longer word may be seen only after a shorter one that ends sooner, but never one that begins sooner is missed.
    assert text.startswith(shown)
    assert bool(stop) == bool(found)
    if not cuts:
        assert shown == text[:first]
    if stop:
        assert text[len(shown) :].startswith(stop)
        assert not any(word in shown for word in WORDS)
    else:
        assert shown == text


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_word_over_two_pieces(cut: int):
    shown, stop, _ = fed(("<|end|>",), Text("ab<|end|>cd"[: cut + 1]), Text("ab<|end|>cd"[cut + 1 :]))
    assert (shown, stop) == ("ab", "<|end|>")


def test_text_goes_out_as_soon_as_it_can_begin_no_word():
    stops = Stops(("END",))
    assert [event.text for event in stops.feed(Text("abE"))] == ["ab"]
    assert [event.text for event in stops.feed(Text("x"))] == ["Ex"]


def test_what_was_held_back_comes_before_what_is_no_text():
    call = ToolCallPart(0, "c1", "weather")
    _, _, out = fed(("END",), Text("E"), call, Text("N"), Reasoning("hm"), Text("EN"), Finished("stop", index=0))
    assert out == [Text("E"), call, Text("N"), Reasoning("hm"), Text("EN"), Finished("stop")]


def test_after_a_word_nothing_more_is_let_through():
    _, stop, out = fed(("END",), Text("aENDb"), Text("c"), Finished("length"))
    assert (stop, out) == ("END", [Text("a")])


def test_without_words_everything_is_let_through():
    events = [Text("a"), Reasoning("b"), Finished("stop")]
    assert fed((), *events) == ("a", "", events)
