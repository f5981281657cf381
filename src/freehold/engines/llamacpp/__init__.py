"""llama.cpp: GGUF models on CPU and GPU. `LlamaCpp()` is the engine.

The server of the xllamacpp wheel runs in a child (`worker`); `plan` and `wire` say what is asked of it and read what
it answers, `tools` supplies the tool calling that a model's template lacks, `memory` estimates before a load.
What a request would have it compile is compiled before in a process that can be ended (`checker`, `compiling`).
Given text is scored in a process of its own (`scorer`) with llama.cpp's C API in it (`libllama`, `scoring`).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from freehold.engines.llamacpp.engine import LlamaCpp

__all__ = ["LlamaCpp"]


def __getattr__(name: str) -> Any:
    # The scoring process imports modules of this package too, and has no use for the server's client.
    if name == "LlamaCpp":
        from freehold.engines.llamacpp.engine import LlamaCpp

        return LlamaCpp
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
