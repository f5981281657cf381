"""What waits for the backward pass, held in the host's memory instead of the device's."""

from typing import NamedTuple

import torch
from torch import Tensor


class Held(NamedTuple):
    """A copy in the host's memory, and where it came from."""

    copy: Tensor
    device: torch.device


class OnHost(torch.autograd.graph.saved_tensors_hooks):
    """While it is entered, what is saved for the backward pass leaves its device.

    Around a checkpointed layer that is the layer's input alone: what the layer saves within is not kept at all. On CUDA
    and ROCm copies are made to and from pinned memory without waiting: they stay in the order of the device's stream,
    and only the device reads them.
    """

    def __init__(self) -> None:
        super().__init__(_taken, _brought)


def _taken(tensor: Tensor) -> Held:
    pinned = tensor.device.type == "cuda"
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pinned)
    copy.copy_(tensor, non_blocking=pinned)
    return Held(copy, tensor.device)


def _brought(held: Held) -> Tensor:
    return held.copy.to(held.device, non_blocking=held.device.type == "cuda")
