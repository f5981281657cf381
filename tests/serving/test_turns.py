"""Whose turn it is: simulated servers of one or more places, in virtual time."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.event import Finished, Started, Text, Usage
from freehold.guard.caller import Caller
from freehold.serving.turns import Meter, Ticket, Turns

A, B, C = Caller("a"), Caller("b"), Caller("c")


def serve(turns: Turns, count: int, now: float = 0.0) -> list[Ticket]:
    """One place: the next so many, each begun when the one before has ended."""
    served = []
    for _ in range(count):
        ticket = turns.next(now)
        if ticket is None:
            break
        now += ticket.tokens
        ticket.took(ticket.tokens if ticket.used is None else ticket.used)
        turns.end(ticket, now)
        served.append(ticket)
    return served


def who(served: list[Ticket]) -> str:
    return "".join(ticket.caller.who for ticket in served)


def test_one_caller_is_served_in_its_order():
    turns, tickets = Turns(), [Ticket(A, 10 + i) for i in range(5)]
    for ticket in tickets:
        turns.enter(ticket)
    assert serve(turns, 9) == tickets
    assert turns.empty


def test_one_request_does_not_wait_for_another_callers_hundreds():
    turns = Turns()
    for _ in range(200):
        turns.enter(Ticket(A, 100))
    serve(turns, 10)
    turns.enter(Ticket(B, 100))
    assert who(serve(turns, 2)) in ("ba", "ab")


def test_callers_take_turns():
    turns = Turns()
    for caller in (A, A, A, A, B, B, B, B, C, C):
        turns.enter(Ticket(caller, 100))
    order = who(serve(turns, 10))
    assert sorted(order[:3]) == sorted(order[3:6]) == ["a", "b", "c"]
    assert order[6:] in ("abab", "baba")


def test_the_share_is_in_tokens():
    turns = Turns()
    for _ in range(40):
        turns.enter(Ticket(A, 1000))
    for _ in range(400):
        turns.enter(Ticket(B, 100))
    order = who(serve(turns, 110))
    assert 9 <= order.count("a") <= 11


def test_what_counts_is_what_was_taken_and_not_what_might_have_been():
    """A asks for as much as there may be and takes little, B says how little it wants: they are equals."""
    turns = Turns()
    for _ in range(100):
        turns.enter(Ticket(A, 4096, used=50))
        turns.enter(Ticket(B, 50))
    assert 48 <= who(serve(turns, 100)).count("a") <= 52


def test_a_heavier_caller_gets_more():
    turns, heavy = Turns(), Caller("h", weight=3.0)
    for _ in range(100):
        turns.enter(Ticket(A, 100))
        turns.enter(Ticket(heavy, 100))
    assert 29 <= who(serve(turns, 40)).count("h") <= 31


def test_nothing_is_saved_up_by_staying_away():
    turns = Turns()
    turns.enter(Ticket(B, 100))
    for _ in range(60):
        turns.enter(Ticket(A, 100))
    serve(turns, 40)
    for _ in range(20):
        turns.enter(Ticket(B, 100))
    assert 9 <= who(serve(turns, 20)).count("b") <= 11


def test_a_caller_that_comes_and_goes_is_not_new_each_time():
    """B has one request at a time, ten times as long as A's: it gets its share, and not every second turn."""
    turns, tokens = Turns(), {"a": 0, "b": 0}
    for _ in range(500):
        turns.enter(Ticket(A, 100))
    now = 0.0
    waits = False
    for _ in range(200):
        if not waits:
            turns.enter(Ticket(B, 1000))
            waits = True
        (ticket,) = serve(turns, 1, now)
        now += ticket.tokens
        tokens[ticket.caller.who] += ticket.tokens
        waits = waits and ticket.caller is not B
    assert 0.7 < tokens["a"] / tokens["b"] < 1.4


def test_the_background_goes_last():
    turns = Turns()
    turns.enter(Ticket(Caller(), 10, behind=True))
    turns.enter(Ticket(A, 1000))
    turns.enter(Ticket(Caller(), 10, behind=True))
    assert [ticket.behind for ticket in serve(turns, 3)] == [False, True, True]


def test_who_leaves_is_not_called():
    turns = Turns()
    staying, leaving, row = Ticket(A, 1), Ticket(A, 1), Ticket(Caller(), 1, behind=True)
    for ticket in (leaving, row, staying):
        turns.enter(ticket)
    turns.leave(leaving)
    turns.leave(row)
    assert serve(turns, 3) == [staying]
    assert turns.empty


def test_a_wait_is_unknown_until_something_has_ended():
    turns = Turns()
    turns.begin(Ticket(A, 100), 0.0)
    assert turns.wait(Ticket(B, 100), 1, 0.0) is None


def test_a_wait_is_told_from_what_came_before():
    turns = Turns()
    done = Ticket(A, 100)
    turns.begin(done, 0.0)
    done.took(10)
    turns.end(done, 5.0)
    assert turns.pace() == pytest.approx(0.05)
    turns.begin(Ticket(A, 100), 5.0)
    assert turns.wait(Ticket(B, 100), 1, 7.0) == pytest.approx(3.0), "what is left of the one that runs"
    assert turns.wait(Ticket(B, 100), 2, 7.0) == 0.0
    for _ in range(10):
        turns.enter(Ticket(A, 100))
    assert turns.wait(Ticket(A, 100), 1, 7.0) == pytest.approx(53.0)
    assert turns.wait(Ticket(B, 100), 1, 7.0) <= 8.0, "A's others come after it"


def test_broken_off_requests_say_nothing_of_the_pace():
    turns, ticket = Turns(), Ticket(A, 1000)
    turns.begin(ticket, 0.0)
    ticket.used = 1
    turns.end(ticket, 0.1)
    assert turns.pace() is None


def test_a_meter_counts_pieces_and_believes_the_engine_at_the_end():
    ticket = Ticket(A, 1000)
    meter = Meter(ticket, 2)
    for event in (Started(0, 30), Started(1, 30), Text("x"), Text("y", 1)):
        meter.feed(event)
    assert (ticket.used, ticket.whole) == (32, False)
    meter.feed(Finished("stop", Usage(31, 5)))
    assert (ticket.used, ticket.whole) == (36, False)
    meter.feed(Finished("stop", Usage(0, 9), index=1))
    assert (ticket.used, ticket.whole) == (45, True)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 5000), st.booleans()), max_size=60), st.integers(0))
def test_whatever_comes_all_are_served_once_and_nothing_is_left(requests: list, seed: int):
    turns, draw, now, waiting, running = Turns(), random.Random(seed), 0.0, set(), []
    served = left = 0
    for name, tokens, behind in requests:
        ticket = Ticket(Caller(name), tokens, behind=behind)
        turns.enter(ticket)
        waiting.add(ticket)
        now += draw.random()
        match draw.randrange(4):
            case 0 if waiting:
                turns.leave(leaving := min(waiting, key=lambda each: each.tokens))
                waiting.discard(leaving)
                left += 1
            case 1 if waiting:
                running.append(turns.next(now))
                waiting.discard(running[-1])
            case 2 if running:
                ended = running.pop(draw.randrange(len(running)))
                if draw.random() < 0.5:
                    ended.took(draw.randrange(ended.tokens + 1))
                turns.end(ended, now)
                served += 1
    while running or turns.waiting:
        if running:
            turns.end(running.pop(), now)
            served += 1
        elif (ticket := turns.next(now)) is not None:
            running.append(ticket)
    assert served + left == len(requests)
    assert turns.empty
    assert turns._lines == {}
