"""The C library's heap, kept from growing while steps of many sizes come and go.

What one step frees is kept for the next, which is faster than to ask the system anew. But the next is of another size,
between its tensors lies what stays, and so each leaves pages behind that are of no use to others.
"""

import ctypes
from collections.abc import Callable

from freehold.tuning.memory import anonymous

_SLACK = 1.15
"""Times what a step holds that may be left behind. To give pages back costs the next step about a tenth of its time.

Between 1.15 and 1.3 no difference in speed was measured, but a tenth in memory; and a short look then tells what a long
training will hold."""


class Heap:
    """Gives back what steps have left behind once that is too much. `trim` does it; None where nothing can."""

    def __init__(self, trim: Callable[[int], int] | None, held: Callable[[], int] = anonymous) -> None:
        self._trim, self._held = trim, held
        self._needed = 0
        """Bytes that the largest step held that began with nothing left behind."""
        self._clean = True
        """Whether the next one does so."""

    @classmethod
    def of_this_process(cls) -> "Heap":
        """The heap that torch's tensors on processors are in."""
        return cls(getattr(ctypes.CDLL(None), "malloc_trim", None))

    def tidy(self) -> None:
        """To be called when a step is over."""
        if self._trim is None:
            return
        held = self._held()
        if self._clean:
            self._needed, self._clean = max(self._needed, held), False
        elif held > _SLACK * self._needed:
            self.trim()

    def trim(self) -> None:
        """Give back all that nothing lies in."""
        if self._trim is not None:
            self._trim(0)
            self._clean = True
