"""Small Llama folders with random weights, written without torch, as transformers 5 or 4 would spell them."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from freehold.convert.dtypes import from_f32
from freehold.convert.pretokenizer import LLAMA3, QWEN2

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
GPT2 = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
TORTURE = (
    "Hello, world! It's don't WE'LL I'D he'S they'Ve 12345 3.14159 １２３ ٣٤٥ ²³¼ Ⅷ 一二三 1,000,000\r\n\r\n"
    "  leading   spaces\ttabs\t\t \n \n newline   \n\t\n\nGrüße façade naïve cafe\u0301 Ångström İstanbul ẞ Straße\n"
    "Привет, мир! Ελληνικά العربية مرحبا שלום हिन्दी नमस्ते বাংলা தமிழ் ไทยภาษา 日本語テキスト、ひらがな 한국어 中文测试。\n"
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 ❤️ 🇩🇪 zero\u200bwidth nbsp\u00a0here thin\u2009space\u3000wide \u0085 \u2028 \ufeff …—“”\n"
    "def f(x): yield {\"a\": [1,2,3], 'b': None}  # x<=3 && y>=4 || !z: $f@bar.com https://x.y/z?q=1&r=2#h \\\\ /* */\n"
    "camelCase HTTPServer ABCdef XMLHttpRequest iPhone12Pro A1b2 'S'T'RE'VE  ''' ```--- ===\n   trailing   "
)
SPLITS: dict[str, Any] = {
    "gpt-2": GPT2,
    "smollm": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, GPT2]},
}


def splitting(pattern: str) -> dict[str, Any]:
    """A `pre_tokenizer` that cuts by a regular expression and then spells words in bytes."""
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, BYTES]}


SPLITS |= {"qwen2": splitting(QWEN2), "llama-bpe": splitting(LLAMA3), "smaug-bpe": splitting(LLAMA3)}


def tokenizer_json(pre: str = "qwen2", size: int = 512) -> dict[str, Any]:
    """A trained byte-level BPE tokenizer; always the same for the same arguments."""
    return json.loads(_trained(pre, size))


@lru_cache
def _trained(pre: str, size: int) -> str:
    described = json.loads(Tokenizer(models.BPE()).to_str()) | {"pre_tokenizer": SPLITS[pre], "decoder": BYTES}
    described["model"]["ignore_merges"] = pre == "llama-bpe"
    bpe = Tokenizer.from_str(json.dumps(described))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator([TORTURE] * 4, trainer)
    return bpe.to_str()


def config_json(**changes: Any) -> dict[str, Any]:
    """A config.json in the spelling of transformers 5."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "vocab_size": 520,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "dtype": "float32",
        "bos_token_id": None,
        "eos_token_id": 2,
    } | changes


def tensors(config: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights that fit the config, of a spread that gives a lively output distribution."""
    rng = np.random.default_rng(seed)
    hidden, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads, kv = (config[key] * config["head_dim"] for key in ("num_attention_heads", "num_key_value_heads"))
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, hidden), "model.norm.weight": (hidden,)}
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (vocab, hidden)
    linears = {
        "self_attn.q_proj": (heads, hidden, config["attention_bias"]),
        "self_attn.k_proj": (kv, hidden, config["attention_bias"]),
        "self_attn.v_proj": (kv, hidden, config["attention_bias"]),
        "self_attn.o_proj": (hidden, heads, config["attention_bias"]),
        "mlp.gate_proj": (inner, hidden, config["mlp_bias"]),
        "mlp.up_proj": (inner, hidden, config["mlp_bias"]),
        "mlp.down_proj": (hidden, inner, config["mlp_bias"]),
    }
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for name, (outputs, inputs, bias) in linears.items():
            shapes[f"{prefix}{name}.weight"] = (outputs, inputs)
            if bias:
                shapes[f"{prefix}{name}.bias"] = (outputs,)
        shapes[f"{prefix}input_layernorm.weight"] = shapes[f"{prefix}post_attention_layernorm.weight"] = (hidden,)
    made = {name: (rng.standard_normal(shape) * 1.2 / hidden**0.5).astype(np.float32) for name, shape in shapes.items()}
    return {name: value + 1 if "norm" in name else value for name, value in made.items()}


def write_safetensors(path: Path, values: dict[str, np.ndarray], dtype: str = "F32") -> None:
    """A safetensors file, the tensors stored as F32, F16 or BF16."""
    header: dict[str, Any] = {}
    data = b""
    for name, value in values.items():
        packed = from_f32(value, dtype, name).tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": list(value.shape),
            "data_offsets": [len(data), len(data) + len(packed)],
        }
        data += packed
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + data)


def write_folder(
    folder: Path, *, dtype: str = "F32", pre: str = "qwen2", seed: int = 0, **changes: Any
) -> dict[str, np.ndarray]:
    """A whole model folder; returns its tensors. `changes` go into config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    config = config_json(**changes)
    values = tensors(config, seed)
    write_json(folder / "config.json", config)
    write_tokenizer(folder, pre)
    write_safetensors(folder / "model.safetensors", values, dtype)
    return values


def write_tokenizer(folder: Path, pre: str = "qwen2") -> None:
    """The files of a byte-level BPE tokenizer with a chat template."""
    write_json(folder / "tokenizer.json", tokenizer_json(pre))
    write_json(
        folder / "tokenizer_config.json",
        {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "tokenizer_class": "TokenizersBackend"},
    )
    write_json(folder / "generation_config.json", {"eos_token_id": [2, 0]})
    (folder / "chat_template.jinja").write_text(CHATML)


def write_json(path: Path, value: Any) -> None:
    """`value` as JSON."""
    path.write_text(json.dumps(value))


def change_json(path: Path, **changes: Any) -> None:
    """Set keys of a JSON object; None removes one."""
    value = json.loads(path.read_text()) | changes
    write_json(path, {key: item for key, item in value.items() if item is not None})
