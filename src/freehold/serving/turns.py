"""Whose turn it is: the queue of one model. It decides and does nothing else: no IO, no clock of its own.

Of those who wait, the caller goes next that has had the fewest tokens; each caller's own requests stay in their order.
A request counts with what it may take while it runs, and with what it took afterwards (fair queueing by virtual time,
as Linux' CFS shares a processor).
"""

from collections import deque
from dataclasses import dataclass, field

from freehold.core.event import Event, Finished, Reasoning, Started, Text, ToolCallPart
from freehold.guard.caller import Caller

_REMEMBERED = 10_000
"""Callers whose share is known; beyond, those that had least are as new."""
_MEMORY = 0.9
"""What an earlier request counts for the pace, against the next."""


@dataclass(eq=False)
class Ticket:
    """One request, waiting or running."""

    caller: Caller
    tokens: int
    """Those that it may take at most."""
    behind: bool = False
    """Whether it is of the background and lets everybody go first."""
    used: int | None = None
    """Those that it took so far; None as long as nobody knows."""
    whole: bool = False
    """Whether it came to its end, so that others may be expected to take as long."""
    begun: float | None = None
    """When its turn came, and its model was there."""

    def took(self, tokens: int) -> None:
        """It came to its end with so many."""
        self.used, self.whole = tokens, True


class Meter:
    """Writes on a ticket what a request takes, event by event; the engine's own count when it has come to its end."""

    def __init__(self, ticket: Ticket, choices: int) -> None:
        self._ticket = ticket
        self._open = choices
        self._parts = self._counted = 0

    def feed(self, event: Event) -> None:
        """One more event of the answer."""
        match event:
            case Started(index=0, prompt_tokens=tokens):
                self._parts += tokens
            case Text() | Reasoning() | ToolCallPart():
                self._parts += 1
            case Finished(usage=usage):
                self._counted += usage.prompt_tokens + usage.completion_tokens
                self._open -= 1
        if self._open:
            self._ticket.used = max(self._parts, self._counted)
        else:
            self._ticket.took(self._counted)


@dataclass
class _Line:
    """The requests of one caller."""

    spent: float
    """Tokens that it had, by its weight, as far as they count still."""
    pending: float = 0.0
    """The same of those that what runs may take."""
    served: int = 0
    """When it was its turn last, in turns."""
    waiting: deque[Ticket] = field(default_factory=deque)
    running: int = 0

    @property
    def idle(self) -> bool:
        """Whether it has no request here."""
        return not self.waiting and not self.running

    @property
    def share(self) -> float:
        """What it has had, and is having: who has least goes next."""
        return self.spent + self.pending


class Turns:
    """The queue of one model."""

    def __init__(self) -> None:
        self.running: set[Ticket] = set()
        self._lines: dict[str, _Line] = {}
        self._behind: deque[Ticket] = deque()
        self._turns = 0
        self._seconds = self._tokens = 0.0

    @property
    def waiting(self) -> bool:
        """Whether anybody waits, of the background or not."""
        return bool(self._behind) or any(line.waiting for line in self._lines.values())

    @property
    def empty(self) -> bool:
        """Whether nobody waits or runs."""
        return not self.running and not self.waiting

    def enter(self, ticket: Ticket) -> None:
        """Wait for a turn."""
        (self._behind if ticket.behind else self._line(ticket.caller).waiting).append(ticket)

    def leave(self, ticket: Ticket) -> None:
        """Wait no more."""
        (self._behind if ticket.behind else self._lines[ticket.caller.who].waiting).remove(ticket)
        self._forget()

    def next(self, now: float) -> Ticket | None:
        """The one whose turn it is, from now on running; None when nobody waits."""
        waiting = [line for line in self._lines.values() if line.waiting]
        if waiting:
            ticket = min(waiting, key=lambda line: (line.share, line.served)).waiting.popleft()
        elif self._behind:
            ticket = self._behind.popleft()
        else:
            return None
        self.begin(ticket, now)
        return ticket

    def begin(self, ticket: Ticket, now: float) -> None:
        """It runs, without having waited or after it."""
        ticket.begun = now
        self.running.add(ticket)
        if not ticket.behind:
            line = self._line(ticket.caller)
            self._turns += 1
            line.served, line.running = self._turns, line.running + 1
            line.pending += ticket.tokens / ticket.caller.weight

    def end(self, ticket: Ticket, now: float) -> None:
        """It has ended."""
        self.running.discard(ticket)
        if ticket.whole and ticket.begun is not None:
            self._seconds = self._seconds * _MEMORY + (now - ticket.begun)
            self._tokens = self._tokens * _MEMORY + ticket.tokens
        if not ticket.behind:
            line = self._lines[ticket.caller.who]
            line.running -= 1
            line.pending = line.pending - ticket.tokens / ticket.caller.weight if line.running else 0.0
            line.spent += (ticket.tokens if ticket.used is None else ticket.used) / ticket.caller.weight
            self._forget()

    def pace(self) -> float | None:
        """Seconds that a place takes for each token that a request may take, as the last ones did; None at first."""
        return self._seconds / self._tokens if self._tokens else None

    def wait(self, ticket: Ticket, places: int, now: float) -> float | None:
        """Seconds until it will be the turn of one that enters now; None while nobody knows the pace."""
        pace = self.pace()
        if pace is None:
            return None
        left = [max(0.0, each.tokens * pace - (now - (each.begun or now))) for each in self.running]
        first = min(left, default=0.0) if len(self.running) >= places else 0.0
        return first + self._before(ticket) * pace / max(1, places)

    def _before(self, ticket: Ticket) -> float:
        """Tokens that will be asked for before one that enters now gets its turn."""
        own = self._lines.get(ticket.caller.who, _Line(0.0))
        mine = sum(each.tokens for each in own.waiting)
        start = (max(own.share, self._floor()) if own.idle else own.share) + mine / ticket.caller.weight
        before = float(mine)
        for line in self._lines.values():
            if line is not own and line.waiting:
                weight = line.waiting[0].caller.weight
                before += min(sum(each.tokens for each in line.waiting), max(0.0, (start - line.share) * weight))
        return before

    def _line(self, caller: Caller) -> _Line:
        """Its requests. One that had none begins where those are that had least: credit cannot be saved up."""
        line = self._lines.get(caller.who)
        if line is None:
            line = self._lines[caller.who] = _Line(self._floor())
        elif line.idle:
            line.spent = max(line.spent, self._floor())
        return line

    def _floor(self) -> float:
        return min((line.spent for line in self._lines.values() if not line.idle), default=0.0)

    def _forget(self) -> None:
        """Callers whose past makes no difference any more."""
        floor = self._floor()
        busy = any(not line.idle for line in self._lines.values())
        gone = [who for who, line in self._lines.items() if line.idle and (not busy or line.spent <= floor)]
        for who in gone:
            del self._lines[who]
        surplus = len(self._lines) - _REMEMBERED
        if surplus > 0:
            idle = sorted((line.spent, who) for who, line in self._lines.items() if line.idle)
            for _, who in idle[:surplus]:
                del self._lines[who]
