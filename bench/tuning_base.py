"""The bases of random weights and the rows that bench.tune trains on."""

import json
import math
import random
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

SHAPES = {
    "tiny": {"hidden": 256, "intermediate": 512, "layers": 4, "heads": 4, "kv_heads": 2, "vocab": 4096},
    "smol": {"hidden": 576, "intermediate": 1536, "layers": 30, "heads": 9, "kv_heads": 3, "vocab": 49152},
    "half": {"hidden": 896, "intermediate": 4864, "layers": 24, "heads": 14, "kv_heads": 2, "vocab": 151936},
    "billion": {"hidden": 2048, "intermediate": 5632, "layers": 22, "heads": 32, "kv_heads": 4, "vocab": 32000},
    "eight": {
        "hidden": 4096, "intermediate": 14336, "layers": 32, "heads": 32, "kv_heads": 8, "vocab": 128256, "untied": 1,
    },
}  # fmt: skip
"""Those of SmolLM2-135M, Qwen2.5-0.5B, TinyLlama-1.1B and Llama-3.1-8B."""
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}<|im_end|>{% endgeneration %}\n"
    "{% else %}{{ message['content'] }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SHARD = 4_500_000_000
"""Bytes of a file of weights at most, unless one matrix has more."""


class Part(NamedTuple):
    """A tensor of the base."""

    name: str
    sizes: tuple[int, ...]
    spread: float
    """Of its numbers around 0; with none it is all ones."""

    @property
    def bytes(self) -> int:
        """In bfloat16."""
        return 2 * math.prod(self.sizes)


def write_base(folder: Path, shape: dict[str, int], device: str = "cpu") -> None:
    """A Llama of random weights in bfloat16 with the tokenizer of tests. A GPU draws other numbers, much faster."""
    folder.mkdir(parents=True)
    _write_companions(folder, shape)
    if device == "cpu":
        _write_weights(folder, shape, device)
        return
    # In a process of its own: what it holds of the GPU's memory ends with it.
    child = get_context("spawn").Process(target=_write_weights, args=(folder, shape, device))
    child.start()
    child.join()
    if child.exitcode:
        raise SystemExit(f"writing the base ended with {child.exitcode}")


def _write_companions(folder: Path, shape: dict[str, int]) -> None:
    from tests.tiny import tokenizer

    tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": shape["hidden"],
        "intermediate_size": shape["intermediate"], "num_hidden_layers": shape["layers"],
        "num_attention_heads": shape["heads"], "num_key_value_heads": shape["kv_heads"], "vocab_size": shape["vocab"],
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": not shape.get("untied"), "eos_token_id": 2, "pad_token_id": 0, "dtype": "bfloat16",
        "hidden_act": "silu",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
        )
    )


def _write_weights(folder: Path, shape: dict[str, int], device: str) -> None:
    import torch
    from safetensors.torch import save_file

    draw = torch.Generator(device).manual_seed(1)

    def made(part: Part) -> Any:
        if not part.spread:
            return torch.ones(part.sizes).bfloat16()
        return torch.randn(*part.sizes, generator=draw, device=device).mul_(part.spread).bfloat16().cpu()

    shards, places = _shards(list(_parts(shape))), {}
    for number, shard in enumerate(shards, 1):
        name = "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_file({part.name: made(part) for part in shard}, folder / name, metadata={"format": "pt"})
        places |= {part.name: name for part in shard}
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(part.bytes for part in _parts(shape))}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _parts(shape: dict[str, int]) -> Iterator[Part]:
    """All tensors, in the order in which they are drawn."""
    hidden, inter, size = shape["hidden"], shape["intermediate"], shape["hidden"] // shape["heads"]
    narrow = shape["kv_heads"] * size
    sizes = {
        "self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (narrow, hidden),
        "self_attn.v_proj": (narrow, hidden), "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (inter, hidden), "mlp.up_proj": (inter, hidden), "mlp.down_proj": (hidden, inter),
    }  # fmt: skip
    yield Part("model.embed_tokens.weight", (shape["vocab"], hidden), 0.02)
    for layer in range(shape["layers"]):
        for name, (rows, columns) in sizes.items():
            yield Part(f"model.layers.{layer}.{name}.weight", (rows, columns), columns**-0.5)
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield Part(f"model.layers.{layer}.{name}.weight", (hidden,), 0.0)
    yield Part("model.norm.weight", (hidden,), 0.0)
    if shape.get("untied"):
        yield Part("lm_head.weight", (shape["vocab"], hidden), 0.02)


def _shards(parts: list[Part]) -> list[list[Part]]:
    """The tensors of each file."""
    shards: list[list[Part]] = [[]]
    for part in parts:
        if shards[-1] and sum(each.bytes for each in shards[-1]) + part.bytes > _SHARD:
            shards.append([])
        shards[-1].append(part)
    return shards


def write_rows(path: Path, count: int, words: int) -> None:
    """Chats of about `words` words, three fifths of which are the answer's."""
    draw = random.Random(1)
    vocabulary = ["order", "parcel", "refund", "please", "the", "when", "arrives", "number", "thank", "you", "my", "is"]
    with path.open("w") as file:
        for _ in range(count):
            question, answer = (
                " ".join(draw.choices(vocabulary, k=round(words * share * draw.uniform(0.8, 1.2))))
                for share in (0.4, 0.6)
            )
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": turns}) + "\n")
