"""llama.cpp's C API for adapters, as far as tests need it."""

import ctypes
from pathlib import Path

import numpy as np

from tests.convert.libllama import Llama

_P, _F = ctypes.c_void_p, ctypes.c_float


class AdaptedLlama(Llama):
    """A loaded GGUF file with a GGUF adapter on it."""

    def __init__(self, path: Path, adapter: Path) -> None:
        super().__init__(path)
        self.lib.llama_adapter_lora_init.restype = _P
        self.lib.llama_adapter_lora_init.argtypes = [_P, ctypes.c_char_p]
        self.lib.llama_set_adapters_lora.restype = ctypes.c_int32
        self.lib.llama_set_adapters_lora.argtypes = [_P, ctypes.POINTER(_P), ctypes.c_size_t, ctypes.POINTER(_F)]
        self.adapter = self.lib.llama_adapter_lora_init(self.model, str(adapter).encode())
        if not self.adapter:
            raise ValueError(f"llama.cpp does not load {adapter}")
        self.begin, self.lib.llama_init_from_model = self.lib.llama_init_from_model, self._adapted

    def _adapted(self, *arguments: object) -> int:
        context: int = self.begin(*arguments)
        assert self.lib.llama_set_adapters_lora(context, (_P * 1)(self.adapter), 1, (_F * 1)(1.0)) == 0
        return context

    def logits(self, tokens: list[int]) -> np.ndarray:
        """[len(tokens), vocabulary] in F32, with the adapter."""
        return super().logits(tokens)
