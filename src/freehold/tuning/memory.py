"""What training holds in memory: an estimate before it starts, and the most that it held."""

import os
import resource
import threading
from typing import NamedTuple

import msgspec
import psutil
import torch

from freehold.core.errors import BadInput, NotEnoughMemory
from freehold.core.resident import Held, status
from freehold.tuning.decoder.shape import Shape
from freehold.tuning.job import ADAPTERS, TrainJob

_PERIOD = 0.02
"""Seconds between two looks at the memory: a layer of a step takes longer."""
_SHARE = 0.8
"""Of the free memory that activations may take before they are computed again instead of kept, or leave a GPU."""
_PROGRAM = 400 << 20
"""Bytes of Python, torch and their libraries."""
_WORDS = ("can't allocate memory", "not enough memory", "std::bad_alloc", "out of memory")
"""Of torch and its libraries, when a tensor finds no room."""
_LOGITS = 3 * (1 << 23) * 4
"""Bytes of the loss head's chunk: logits, their exponentials and the gradient."""

_MATE = _LOGITS + (100 << 20)
"""Bytes of a process that computes a share of a step: its chunk of logits, and what libraries write."""


class Room(NamedTuple):
    """The memory that a job may take."""

    free: int
    """Bytes."""
    copies: bool = False
    """Whether the base is copied into it: a GPU has no pages of files."""
    host: int = 0
    """Bytes free elsewhere, for what leaves it; 0 where there is no elsewhere."""
    name: str = ""
    """What messages say behind its figures."""


class Keeping(NamedTuple):
    """What becomes of activations until the backward pass."""

    checkpointing: bool
    """They are computed again, out of the inputs of the layers."""
    offload: bool
    """And those wait in the host's memory."""


class Estimate(msgspec.Struct, frozen=True):
    """Bytes that a job holds at its largest step."""

    weights: int
    """Of the base: pages of its file when it is frozen."""
    states: int
    """Parameters that are trained, their gradients and the optimiser's moments."""
    kept: int
    """What the forward pass keeps for the backward pass."""
    packed: int = 0
    """Of a base that is held in 4 bits, or in 8 for products: its projections, which are not its file's."""
    copied: int = 0
    """Of the base, where it is copied to a device: all that is frozen, and room for its largest matrix in full."""
    offloaded: int = 0
    """What the forward pass keeps elsewhere."""

    @property
    def private(self) -> int:
        """What no file backs."""
        return self.states + self.kept + self.packed + _LOGITS + _PROGRAM

    def within(self, room: Room) -> int:
        """What it takes of this room."""
        return self.private + (self.copied if room.copies else 0) + (0 if room.host else self.offloaded)


def estimate(
    shape: Shape, job: TrainJob, weights: int, tokens: int, *, checkpointing: bool, size: int, offload: bool = False,
    compared: bool = False, brief: bool = False, rounded: bool = False,
) -> Estimate:  # fmt: skip
    """What `job` holds: `weights` bytes of base, steps of `tokens` tokens, computed in numbers of `size` bytes.

    `compared` says that the base is there beside a model that is trained as a whole, `brief` that attention is not
    computed again with its layer, `rounded` that the layers' matrices are kept in 8 bits too.
    """
    adapted = job.method in ADAPTERS
    sizes, layers = linears(shape), len(shape.layers)
    if adapted:
        trained = layers * job.rank * sum(rows + columns for rows, columns in sizes)
    else:
        heads = 1 if shape.tied else 2
        trained = layers * sum(rows * columns for rows, columns in sizes) + heads * shape.vocab * shape.hidden
    stream = shape.hidden * (size if adapted else 4)
    # The inputs of both norms and what they give, attention's three parts and its result, gate and up.
    layer = 2 * stream + size * (2 * shape.hidden + 4 * shape.heads * shape.head_dim + 2 * shape.intermediate)
    if job.method == "dora":
        # Lengths, and each product before it is brought to them.
        trained += layers * sum(rows for rows, _ in sizes)
        layer += size * sum(rows for rows, _ in sizes)
    inputs = layers * stream
    attended = 2 * (shape.heads + shape.kv_heads) * shape.head_dim + shape.hidden
    waiting = layers * size * attended if brief and adapted else 0
    kept = (0 if offload else inputs) + waiting + layer if checkpointing else layers * layer
    numbers = layers * sum(rows * columns for rows, columns in sizes)
    packed = numbers * 9 // 16 if adapted and job.base_dtype == "nf4" else numbers if rounded else 0
    return Estimate(
        weights,
        # Weights, gradients and two moments, in float32; a layer's parts come and go while it is computed.
        trained * 16,
        tokens * (kept + 2 * layer),
        packed,
        _copied(shape, weights if adapted or compared else 0, size, packed=packed > 0),
        tokens * inputs if checkpointing and offload else 0,
    )


def _copied(shape: Shape, weights: int, size: int, *, packed: bool) -> int:
    """Bytes of a frozen base on a device, without projections that are packed, and of a matrix made dense."""
    sizes = [rows * columns for rows, columns in linears(shape)]
    head = shape.vocab * shape.hidden
    within, around = len(shape.layers) * sum(sizes), head * (1 if shape.tied else 2)
    rest = weights * around // (within + around) if packed else weights
    return rest + max(head, *sizes) * size


def beside(room: Room) -> int:
    """Processes that may compute beside this one, in the part of the free memory that activations leave."""
    return int((1 - _SHARE) * room.free) // _MATE


def linears(shape: Shape) -> list[tuple[int, int]]:
    """Rows and columns of a layer's matrices."""
    wide, narrow, hidden = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim, shape.hidden
    attention = [(wide, hidden), (narrow, hidden), (narrow, hidden), (hidden, wide)]
    return [*attention, *[(shape.intermediate, hidden)] * 2, (hidden, shape.intermediate)]


def plan(
    shape: Shape, job: TrainJob, weights: int, tokens: int, size: int, room: Room | None = None, *,
    compared: bool = False, brief: bool = False, rounded: bool = False,
) -> Keeping:  # fmt: skip
    """What becomes of activations, in the `room` that there is: the host's free memory where none is given.

    Raises NotEnoughMemory, with the numbers in MB, for what fits in no way, and BadInput for settings that cannot be.
    """
    if job.offload == "on" and job.checkpointing == "off":
        raise BadInput("offload moves what checkpointing keeps, which is off", "Set checkpointing to auto or on")
    room = Room(psutil.virtual_memory().available) if room is None else room

    def needed(*, checkpointing: bool, offload: bool = False) -> Estimate:
        return estimate(
            shape, job, weights, tokens, checkpointing=checkpointing, size=size, offload=offload, compared=compared,
            brief=brief, rounded=rounded,
        )  # fmt: skip

    least = needed(checkpointing=True)
    offload = job.offload == "on" or (job.offload == "auto" and job.checkpointing != "off" and _leaves(least, room))
    if offload:
        least = needed(checkpointing=True, offload=True)
        _check(least.offloaded, room.host or room.free, " in the host")
    _check(least.within(room), room.free, room.name)
    if offload or job.checkpointing != "auto":
        return Keeping(offload or job.checkpointing == "on", offload)
    return Keeping(needed(checkpointing=False).within(room) > _SHARE * room.free, offload=False)


def _leaves(frugal: Estimate, room: Room) -> bool:
    """Whether even inputs of layers had better leave the room, for one that has an elsewhere."""
    return room.host > 0 and frugal.within(room) > _SHARE * room.free


def _check(needed: int, free: int, name: str) -> None:
    if needed > free:
        raise NotEnoughMemory(
            f"tuning needs about {needed >> 20} MB and {free >> 20} MB are free{name}",
            "Lower batch_tokens, use method = 'lora', or a smaller base",
        )


def shortage(job: TrainJob, *, checkpointing: bool, movable: bool = False) -> NotEnoughMemory:
    """The error for memory that ran out, with the settings that would hold less.

    `movable` says that what checkpointing keeps is on a device, and could leave it.
    """
    smaller = f"set batch_tokens = {max(16, job.batch_tokens // 2)} or max_length = {max(16, job.max_length // 2)}"
    if not checkpointing:
        smaller = f'set checkpointing = "on", which goes on from the last checkpoint; else {smaller}'
    elif movable:
        smaller = f'set offload = "on", which goes on from the last checkpoint; else {smaller}'
    return NotEnoughMemory("memory ran out while tuning", smaller[0].upper() + smaller[1:])


def ran_out(error: MemoryError | RuntimeError) -> bool:
    """Whether that is what the error says: torch has a kind for it on GPUs alone."""
    words = str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(each in words for each in _WORDS)


class Watch:
    """Looks at this process's memory all the while, from a thread of its own, and at that of processes it was told of.

    `private` and `resident` are the most bytes that it saw: those that no file backs, and all.
    """

    def __init__(self) -> None:
        self.private = self.resident = 0
        self._held = Held(os.getpid())
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="memory", daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def add(self, pid: int) -> None:
        """Count a process too."""
        self._held.add(pid)

    def _look(self) -> None:
        while True:
            found = self._held.now()
            self.private, self.resident = max(self.private, found.private), max(self.resident, found.resident)
            if self._over.wait(_PERIOD):
                return


def anonymous() -> int:
    """Bytes of this process's memory that no file backs; 0 where the system does not tell."""
    return status().get("RssAnon", 0)


def peak_rss() -> int:
    """Bytes of memory that this process held at most. Linux's getrusage would count its parent's too."""
    return status().get("VmHWM", 0) or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def number_size(compute: torch.dtype) -> int:
    """Bytes of a number."""
    return torch.finfo(compute).bits // 8
