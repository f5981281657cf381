"""Who may wait: the room of the queue over all models, and whose requests have to leave when it is full.

A caller may fill it as long as nobody else asks. Others beside it leave it its share; and whoever holds more than the
one who comes makes room for it, the longest queue first, its youngest request first.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from freehold.core.errors import Busy, RateLimited
from freehold.core.settings import Settings
from freehold.serving.turns import Ticket

_FEWER = "Send fewer at a time, or try again later"


@dataclass
class _Held:
    """What one caller holds."""

    tickets: dict[Ticket, None] = field(default_factory=dict)
    """Those that wait, the oldest first."""
    tokens: int = 0
    running: int = 0


class _Load(NamedTuple):
    """A caller's part of what there is not enough of, by its weight."""

    part: float
    who: str


class Room:
    """Counts what waits and runs, and for whom; what is of the background takes no room."""

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return sum(len(held.tickets) for held in self._held.values())

    @property
    def tokens(self) -> int:
        """Tokens that they may take."""
        return sum(held.tokens for held in self._held.values())

    def enter(self, ticket: Ticket) -> None:
        """It waits."""
        if ticket.behind:
            return
        held = self._held.setdefault(ticket.caller.who, _Held())
        held.tickets[ticket] = None
        held.tokens += ticket.tokens

    def leave(self, ticket: Ticket) -> None:
        """It waits no more."""
        if ticket.behind:
            return
        held = self._held[ticket.caller.who]
        del held.tickets[ticket]
        held.tokens -= ticket.tokens
        self._forget(ticket.caller.who)

    def begin(self, ticket: Ticket) -> None:
        """It runs."""
        if ticket.behind:
            return
        self._held.setdefault(ticket.caller.who, _Held()).running += 1

    def end(self, ticket: Ticket) -> None:
        """It runs no more."""
        if ticket.behind:
            return
        self._held[ticket.caller.who].running -= 1
        self._forget(ticket.caller.who)

    def admit(self, ticket: Ticket, settings: Settings, retry_after: int) -> list[Ticket]:
        """Those that have to leave so that this one can wait. Raises RateLimited and Busy when it cannot."""
        self._check_share(ticket, settings, retry_after)
        if self.waiting < settings.queue and self.tokens + ticket.tokens <= settings.queue_tokens:
            return []
        left = {who: dict(held.tickets) for who, held in self._held.items()}
        leaving: list[Ticket] = []
        while True:
            count, tokens = sum(map(len, left.values())), sum(each.tokens for held in left.values() for each in held)
            crowded = count >= settings.queue
            if not crowded and tokens + ticket.tokens <= settings.queue_tokens:
                return leaving
            worst = self._worst(left, ticket, crowded)
            if worst is None:
                raise self._full(ticket, settings, retry_after)
            youngest = next(reversed(left[worst]))
            del left[worst][youngest]
            leaving.append(youngest)

    def _check_share(self, ticket: Ticket, settings: Settings, retry_after: int) -> None:
        mine = self._held.get(ticket.caller.who)
        if mine is None or not mine.tickets or len(self._held) == 1:
            return
        share = min(1.0, settings.queue_share * ticket.caller.weight)
        if (
            len(mine.tickets) + 1 > share * settings.queue
            or mine.tokens + ticket.tokens > share * settings.queue_tokens
        ):
            said = f"you have {_many(len(mine.tickets))} of {mine.tokens} tokens in the queue, and others ask too"
            raise RateLimited(said, _FEWER, retry_after=retry_after)

    def _worst(self, left: Mapping[str, Mapping[Ticket, None]], ticket: Ticket, crowded: bool) -> str | None:
        """Who holds most of what is short, if that is more than the one who comes would."""

        def load(held: Mapping[Ticket, None], more: int = 0) -> float:
            weight = next(iter(held), ticket).caller.weight
            return (len(held) + bool(more) if crowded else sum(each.tokens for each in held) + more) / weight

        mine = load(left.get(ticket.caller.who, {}), ticket.tokens)
        others = (_Load(load(held), who) for who, held in left.items() if held and who != ticket.caller.who)
        worst = max(others, default=None)
        return worst.who if worst is not None and worst.part > mine else None

    def _full(self, ticket: Ticket, settings: Settings, retry_after: int) -> Busy:
        mine = self._held.get(ticket.caller.who)
        if mine is not None and mine.tickets and len(self._held) > 1:
            said = f"you have {_many(len(mine.tickets))} in the queue, and it is full"
            return RateLimited(said, _FEWER, retry_after=retry_after)
        what = f"{self.waiting} requests" if self.waiting >= settings.queue else f"{self.tokens} tokens"
        return Busy(f"{what} are waiting already", "Try again later", retry_after=retry_after)

    def _forget(self, who: str) -> None:
        held = self._held[who]
        if not held.tickets and not held.running:
            del self._held[who]


def displaced(retry_after: int) -> RateLimited:
    """Why a request that waited has to leave."""
    return RateLimited(
        "the queue is full, and others with fewer requests ask too",
        _FEWER,
        retry_after=retry_after,
    )


def _many(count: int) -> str:
    return "1 request" if count == 1 else f"{count} requests"
