"""Requests that were sent away and told when to come again: until then they count, as if they waited elsewhere."""

import heapq


class Returning:
    """Those that are to be back. Whoever comes again and again counts no more than `most` tokens."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int]] = []
        """When each is to be back, the first of them first, and its tokens."""
        self._tokens = 0

    def tokens(self, now: float) -> int:
        """Of those that are not back yet."""
        while self._due and self._due[0][0] <= now:
            self._tokens -= heapq.heappop(self._due)[1]
        return self._tokens

    def told(self, tokens: int, now: float, seconds: float, most: int) -> None:
        """One of so many tokens was told to come again after so long."""
        if self.tokens(now) < most:
            heapq.heappush(self._due, (now + seconds, tokens))
            self._tokens += tokens
