"""A tiny projector of random weights, of llava's form: with it the model of tests/tiny.py sees 28 by 28 pixels."""

from pathlib import Path

import numpy as np
from gguf import GGUFWriter

SIDE, PATCH = 28, 14
TOKENS = (SIDE // PATCH) ** 2
"""Of one image, whatever its size."""
_WIDTH, _LAYERS = 32, 2


def write_projector(path: Path, *, hidden: int = 64, seed: int = 0, kind: str = "mlp", sees: bool = True) -> Path:
    """Write the projector for a model whose embeddings have `hidden` dimensions; `kind` is llama.cpp's name."""
    writer = GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_name("tiny projector")
    writer.add_file_type(0)
    writer.add_bool("clip.has_vision_encoder" if sees else "clip.has_audio_encoder", True)
    writer.add_string("clip.projector_type", kind)
    writer.add_bool("clip.use_gelu", True)
    writer.add_uint32("clip.vision.image_size", SIDE)
    writer.add_uint32("clip.vision.patch_size", PATCH)
    writer.add_uint32("clip.vision.embedding_length", _WIDTH)
    writer.add_uint32("clip.vision.feed_forward_length", 2 * _WIDTH)
    writer.add_uint32("clip.vision.block_count", _LAYERS)
    writer.add_uint32("clip.vision.attention.head_count", 2)
    writer.add_uint32("clip.vision.projection_dim", hidden)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    draw = np.random.default_rng(seed)
    for name, shape in _shapes(hidden).items():
        norm = "ln" in name and name.endswith("weight")
        drawn = np.ones(shape) if norm else draw.normal(0, 0.2, shape)
        writer.add_tensor(name, drawn.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _shapes(hidden: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "v.class_embd": (_WIDTH,),
        "v.patch_embd.weight": (_WIDTH, 3, PATCH, PATCH),
        "v.position_embd.weight": (TOKENS + 1, _WIDTH),
        "v.pre_ln.weight": (_WIDTH,),
        "v.pre_ln.bias": (_WIDTH,),
        "mm.0.weight": (hidden, _WIDTH),
        "mm.0.bias": (hidden,),
        "mm.2.weight": (hidden, hidden),
        "mm.2.bias": (hidden,),
    }
    for layer in range(_LAYERS):
        square = {f"v.blk.{layer}.attn_{part}": (_WIDTH, _WIDTH) for part in ("q", "k", "v", "out")}
        square |= {f"v.blk.{layer}.ffn_up": (2 * _WIDTH, _WIDTH), f"v.blk.{layer}.ffn_down": (_WIDTH, 2 * _WIDTH)}
        norms = {f"v.blk.{layer}.ln{number}": (_WIDTH,) for number in (1, 2)}
        for name, shape in (square | norms).items():
            shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return shapes
