"""When the other side of a connection is done, without a word about what it says before that.

Linux alone can tell. Elsewhere nothing is told, and who waits does so for as long as was meant.
"""

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

if sys.platform == "linux":
    import select


class End:
    """Of one connection."""

    def __init__(self) -> None:
        self.here = False
        self._waiting: asyncio.Future[None] | None = None

    async def within(self, seconds: float) -> None:
        """Until the end, or for so long."""
        if self.here:
            return
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        timer = loop.call_later(seconds, self._wake)
        try:
            await self._waiting
        finally:
            timer.cancel()
            self._waiting = None

    def come(self) -> None:
        """It is here."""
        self.here = True
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class Ends:
    """Of all connections to one worker. For one event loop at a time."""

    def __init__(self) -> None:
        self._watched: dict[int, End] = {}

    @contextmanager
    def watch(self, connected: socket.socket) -> Iterator[End]:
        """The end of a connection, which is open until this is left."""
        end = End()
        if sys.platform != "linux":
            yield end
            return
        number = connected.fileno()
        self._add(number, end)
        try:
            yield end
        finally:
            self._drop(number)

    if sys.platform == "linux":

        def _add(self, number: int, end: End) -> None:
            if not self._watched:
                self._poll, self._loop = select.epoll(), asyncio.get_running_loop()
                # The loop waits for this one to know of something, and this one is not told of what can be read.
                self._loop.add_reader(self._poll.fileno(), self._look)
            self._watched[number] = end
            self._poll.register(number, select.EPOLLRDHUP | select.EPOLLONESHOT)

        def _drop(self, number: int) -> None:
            self._poll.unregister(number)
            del self._watched[number]
            if not self._watched:
                self._loop.remove_reader(self._poll.fileno())
                self._poll.close()

        def _look(self) -> None:
            for number, _ in self._poll.poll(0):
                self._watched[number].come()
