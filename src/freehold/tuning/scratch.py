"""A base made from nothing: a byte-level BPE tokenizer learned from the rows, and a Llama of random weights."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from freehold.core.errors import BadData, BadInput
from freehold.core.request import Message
from freehold.tuning.job import Architecture

END, TURN, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""The `qwen2` split of llama.cpp: single digits, words with their leading space."""


def make(folder: Path, rows: Sequence[Sequence[Message]], shape: Architecture, seed: int) -> None:
    """Write a model folder (config, tokenizer, chat template, random weights) for `shape` into `folder`.

    Raises BadInput for a shape that cannot be, BadData when the rows are too few for the vocabulary.
    """
    if shape.hidden % shape.heads or shape.heads % shape.kv_heads:
        raise BadInput(
            f"{shape.heads} heads and {shape.kv_heads} kv_heads do not divide hidden {shape.hidden}",
            "hidden must be a multiple of heads, and heads of kv_heads",
        )
    folder.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(folder, (message.content for row in rows for message in row), shape.vocab)
    _write_model(folder, shape, seed)


def _write_tokenizer(folder: Path, texts: Iterable[str], vocab: int) -> None:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[END, TURN, TURN_END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    # Roles are words of every rendered chat, though no message contains them.
    tokenizer.train_from_iterator([*texts, *["system\n", "user\n", "assistant\n"] * 1000], trainer)
    if tokenizer.get_vocab_size() < vocab:
        raise BadData(
            f"the text yields only {tokenizer.get_vocab_size()} tokens of the {vocab} asked for",
            "Lower vocab or give more text",
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(TEMPLATE, "utf-8")
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": None,
            "eos_token": TURN_END,
            "pad_token": END,
            "add_bos_token": False,
            "clean_up_tokenization_spaces": False,
        },
    )
    _write_json(folder / "generation_config.json", {"eos_token_id": 2, "pad_token_id": 0, "do_sample": False})


def _write_model(folder: Path, shape: Architecture, seed: int) -> None:
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        intermediate_size=shape.intermediate,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=2,
        pad_token_id=0,
        dtype="float32",
        architectures=["LlamaForCausalLM"],
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    tensors = {name: value for name, value in model.state_dict().items() if name != "lm_head.weight"}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", "utf-8")
