"""A GGUF LoRA adapter for the tiny model, large enough to change what it says."""

from pathlib import Path

import numpy as np
from gguf import GGUFWriter


def write_adapter(path: Path, *, hidden: int = 64, layers: int = 2, rank: int = 4, seed: int = 7) -> Path:
    """Write it to `path`."""
    draw = np.random.default_rng(seed)
    writer = GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(rank))
    for layer in range(layers):
        name = f"blk.{layer}.attn_output.weight"
        writer.add_tensor(f"{name}.lora_a", draw.normal(size=(rank, hidden)).astype(np.float32))
        back = draw.normal(size=(hidden, rank)).astype(np.float32)
        back[0] = 0.0  # as in the model, the dimension that keeps answers from ending
        writer.add_tensor(f"{name}.lora_b", back)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
