from pathlib import Path

import msgspec
import pytest

from freehold.core.errors import Busy, RateLimited
from freehold.core.settings import Settings
from freehold.guard.caller import Caller
from freehold.serving.room import Room
from freehold.serving.turns import Ticket

A, B, C = Caller("a"), Caller("b"), Caller("c")
SETTINGS = Settings(home=Path("/x"), queue=8, queue_tokens=1000, queue_share=0.5)


def come(room: Room, caller: Caller, tokens: int = 1, settings: Settings = SETTINGS) -> tuple[Ticket, list[Ticket]]:
    """One more that waits, and who had to leave for it."""
    ticket = Ticket(caller, tokens)
    leaving = room.admit(ticket, settings, 7)
    for each in leaving:
        room.leave(each)
    room.enter(ticket)
    return ticket, leaving


def held(room: Room) -> str:
    return "".join(sorted(ticket.caller.who for each in room._held.values() for ticket in each.tickets))


def test_alone_a_caller_may_fill_the_queue_and_no_more():
    room = Room()
    for _ in range(8):
        come(room, A)
    with pytest.raises(Busy, match="8 requests") as caught:
        come(room, A)
    assert (caught.value.status, caught.value.retry_after) == (503, 7)
    assert (room.waiting, room.tokens) == (8, 8)


def test_beside_others_a_caller_has_its_share():
    room = Room()
    room.begin(Ticket(B, 1))
    for _ in range(4):
        come(room, A)
    with pytest.raises(RateLimited, match="you have 4 requests") as caught:
        come(room, A)
    assert (caught.value.status, caught.value.retry_after) == (429, 7)
    come(room, B)


def test_the_share_counts_tokens_too_but_one_request_may_be_large():
    room = Room()
    come(room, B, 10)
    come(room, A, 600)
    with pytest.raises(RateLimited, match="600 tokens"):
        come(room, A, 1)


def test_whoever_holds_most_makes_room_the_youngest_first():
    room = Room()
    tickets = [come(room, A)[0] for _ in range(8)]
    assert come(room, B)[1] == [tickets[7]]
    assert come(room, B)[1] == [tickets[6]]
    assert held(room) == "aaaaaabb"


def test_room_is_made_until_all_have_as_much():
    room = Room()
    for _ in range(8):
        come(room, A)
    for _ in range(4):
        come(room, B)
    for _ in range(2):
        come(room, C)
    assert held(room) == "aaabbbcc"
    with pytest.raises(RateLimited, match="it is full"):
        come(room, C)


def test_when_each_holds_as_much_the_server_is_full():
    room = Room()
    for number in range(8):
        come(room, Caller(str(number)))
    with pytest.raises(Busy) as caught:
        come(room, A)
    assert caught.value.status == 503
    with pytest.raises(RateLimited):
        come(room, Caller("3"))


def test_room_in_tokens_is_made_by_who_holds_most_tokens():
    room = Room()
    for _ in range(3):
        come(room, B, 10)
    large = [come(room, A, 300)[0], come(room, C, 400)[0]]
    ticket, leaving = come(room, Caller("d"), 350)
    assert leaving == [large[1]]
    assert room.tokens == 30 + 300 + ticket.tokens
    with pytest.raises(Busy, match="680 tokens"):
        come(room, Caller("e"), 900)
    assert room.tokens == 680, "nobody leaves for one that has no room anyway"


def test_a_heavier_caller_may_hold_more():
    room, heavy = Room(), Caller("h", weight=1.75)
    room.begin(Ticket(A, 1))
    for _ in range(7):
        come(room, heavy)
    with pytest.raises(RateLimited):
        come(room, heavy)
    come(room, A)
    assert come(room, A)[1] != []


def test_what_is_of_the_background_takes_no_room():
    room = Room()
    for _ in range(100):
        room.enter(Ticket(A, 100, behind=True))
    assert (room.waiting, room.tokens) == (0, 0)


def test_a_smaller_queue_lets_those_stay_who_wait():
    room = Room()
    for _ in range(8):
        come(room, A)
    with pytest.raises(Busy):
        come(room, A, settings=msgspec.structs.replace(SETTINGS, queue=2))
    assert room.waiting == 8


def test_nobody_is_remembered():
    room = Room()
    ticket, _ = come(room, A)
    room.leave(ticket)
    room.begin(ticket)
    room.end(ticket)
    assert room._held == {}
