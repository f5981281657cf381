"""The device that trains, and all in which its kind makes a difference: nothing else in the trainer asks for it.

AMD's ROCm calls itself cuda, in torch too.
"""

import time
from typing import Any

import psutil
import torch

from freehold.tuning.memory import Room, peak_rss

_MACOS = 14
"""The first with bfloat16 on its GPUs."""


class Device:
    """The processor: it computes in this process's memory."""

    device = torch.device("cpu")
    resident = False
    """Whether packed bytes of a base lie in the device's own memory, and are dequantised there."""
    repeats = True
    """Whether torch can do all that training needs in an order that is always the same."""

    def room(self) -> Room:
        """The memory that is free."""
        return Room(psutil.virtual_memory().available)

    def held(self) -> int:
        """Bytes of memory that training held at most so far."""
        return peak_rss()

    def peak(self) -> int:
        """The same, of a memory of its own; 0 where it has none."""
        return 0

    def computes_bfloat16(self) -> bool | None:
        """Whether it is made for bfloat16; None where only a try can say."""
        return None

    def now(self) -> float:
        """Seconds of computing, which differ by what was computed in between: the time that this thread had a core."""
        return time.thread_time()


class Cuda(Device):
    """A GPU with memory of its own, by NVIDIA or AMD. `library` answers as torch.cuda does."""

    device = torch.device("cuda")
    resident = True

    def __init__(self, library: Any = torch.cuda) -> None:
        self._library = library

    def room(self) -> Room:
        """The GPU's memory, and beside it the host's."""
        free, _ = self._library.mem_get_info()
        return Room(int(free), copies=True, host=psutil.virtual_memory().available, name=" on the GPU")

    def held(self) -> int:
        """Of the GPU's memory."""
        return self.peak()

    def peak(self) -> int:
        """What torch's allocator took at most, whether it was full or not."""
        return int(self._library.max_memory_reserved())

    def computes_bfloat16(self) -> bool:
        """Older GPUs only imitate it, slowly."""
        return bool(self._library.is_bf16_supported(including_emulation=False))

    def now(self) -> float:
        """By the clock, when the GPU has nothing left to do."""
        self._library.synchronize()
        return time.perf_counter()


class Metal(Device):
    """Apple's GPU, which shares the host's memory. `library` answers as torch.mps does."""

    device = torch.device("mps")
    resident = True
    repeats = False

    def __init__(self, library: Any = torch.mps) -> None:
        self._library, self._most = library, 0

    def room(self) -> Room:
        """What is free of the host's memory, and at most what Metal recommends. There is nowhere else to go to."""
        left = self._library.recommended_max_memory() - self._library.driver_allocated_memory()
        return Room(max(0, min(int(left), psutil.virtual_memory().available)), copies=True)

    def held(self) -> int:
        """What the driver gave. It tells what it gives now: this is the most of all times that it was asked."""
        return self.peak()

    def peak(self) -> int:
        """The same."""
        self._most = max(self._most, int(self._library.driver_allocated_memory()))
        return self._most

    def now(self) -> float:
        """By the clock, when the GPU has nothing left to do."""
        self._library.synchronize()
        return time.perf_counter()


def find(library: Any = torch) -> Device:
    """The best device of this machine, as torch finds them."""
    if library.cuda.is_available():
        return Cuda(library.cuda)
    metal = library.backends.mps
    if metal.is_available() and metal.is_macos_or_newer(_MACOS, 0):
        return Metal(library.mps)
    return Device()
