"""Notebooks for one GPU on a machine without: "cuda" means the processor, and memory figures are this machine's."""

import platform
from collections.abc import Callable
from functools import wraps
from types import SimpleNamespace
from typing import Any

import psutil

from freehold.notebooks.shim.session import Session

_MAKERS = (
    "tensor", "as_tensor", "zeros", "ones", "empty", "full", "arange", "linspace", "eye", "rand", "randn", "randint",
    "randperm", "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like",
)  # fmt: skip
"""Functions of torch that make tensors on the device that they are told."""


def install(session: Session) -> None:
    """Let tensors be made on "cuda" and modules be moved there, where torch finds none; tell what is asked of it."""
    import torch

    if torch.cuda.is_available():
        return
    total = psutil.virtual_memory().total
    device = SimpleNamespace(
        name=f"{platform.processor() or platform.machine()} (no GPU)", total_memory=total, major=0, minor=0
    )
    changes: dict[Any, dict[str, Any]] = {
        torch.Tensor: {"to": _moved(torch.Tensor.to), "cuda": lambda self, *_, **__: self},
        torch.nn.Module: {"to": _moved(torch.nn.Module.to), "cuda": lambda self, *_, **__: self},
        torch: {name: _made(getattr(torch, name)) for name in _MAKERS},
        torch.cuda: {
            "get_device_properties": lambda *_: device,
            "get_device_name": lambda *_: device.name,
            "get_device_capability": lambda *_: (0, 0),
            "max_memory_reserved": lambda *_: session.peak,
            "max_memory_allocated": lambda *_: session.peak,
            "memory_reserved": lambda *_: session.peak,
            "memory_allocated": lambda *_: session.peak,
            "mem_get_info": lambda *_: (psutil.virtual_memory().available, total),
            "reset_peak_memory_stats": lambda *_: None,
            "synchronize": lambda *_: None,
        },
    }
    with torch.device("cpu"):
        # The first such context notes which functions make tensors. They are to be torch's own, which ours call: else
        # none obeys a context, and models loaded in "meta" keep buffers that nobody fills.
        torch.empty(0)
    for owner, names in changes.items():
        for name, value in names.items():
            setattr(owner, name, value)


def _moved(function: Callable[..., Any]) -> Callable[..., Any]:
    """`to`, of which the first argument is what is moved, and a number is a GPU's."""

    @wraps(function)
    def moved(self: Any, *args: Any, **options: Any) -> Any:
        places = ["cpu" if type(value) is int else _here(value) for value in args]
        return function(self, *places, **_placed(options))

    return moved


def _made(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def made(*args: Any, **options: Any) -> Any:
        return function(*args, **_placed(options))

    return made


def _placed(options: dict[str, Any]) -> dict[str, Any]:
    if "device" not in options:
        return options
    device = options["device"]
    return options | {"device": "cpu" if type(device) is int else _here(device)}


def _here(value: Any) -> Any:
    import torch

    if isinstance(value, str) and value.partition(":")[0] == "cuda":
        return "cpu"
    if isinstance(value, torch.device) and value.type == "cuda":
        return torch.device("cpu")
    return value
