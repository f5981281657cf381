"""llama.cpp: GGUF models on CPU and GPU. `LlamaCpp()` is the engine.

The server of the xllamacpp wheel runs in a child (`worker`); `plan` and `wire` say what is asked of it and read what
it answers, `tools` supplies the tool calling that a model's template lacks, `memory` estimates before a load.
"""

from freehold.engines.llamacpp.engine import LlamaCpp

__all__ = ["LlamaCpp"]
