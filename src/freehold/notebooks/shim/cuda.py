"""Notebooks for one GPU on a machine without: "cuda" means the processor, and memory figures are this machine's."""

import platform
from types import SimpleNamespace
from typing import Any

import psutil

from freehold.notebooks.shim.session import Session


def install(session: Session) -> None:
    """Let tensors and modules be moved to "cuda", where torch finds none; tell what is asked of the device."""
    import torch

    if torch.cuda.is_available():
        return
    tensor_to, module_to = torch.Tensor.to, torch.nn.Module.to

    def of_tensor(self: Any, *args: Any, **options: Any) -> Any:
        return tensor_to(self, *map(_here, args), **{key: _here(value) for key, value in options.items()})

    def of_module(self: Any, *args: Any, **options: Any) -> Any:
        return module_to(self, *map(_here, args), **{key: _here(value) for key, value in options.items()})

    total = psutil.virtual_memory().total
    device = SimpleNamespace(
        name=f"{platform.processor() or platform.machine()} (no GPU)", total_memory=total, major=0, minor=0
    )
    changes: dict[Any, dict[str, Any]] = {
        torch.Tensor: {"to": of_tensor, "cuda": lambda self, *_, **__: self},
        torch.nn.Module: {"to": of_module, "cuda": lambda self, *_, **__: self},
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
    for owner, names in changes.items():
        for name, value in names.items():
            setattr(owner, name, value)


def _here(value: Any) -> Any:
    import torch

    if isinstance(value, str) and value.partition(":")[0] == "cuda":
        return "cpu"
    if isinstance(value, torch.device) and value.type == "cuda":
        return torch.device("cpu")
    return value
