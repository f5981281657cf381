"""A base made from nothing: a byte-level BPE tokenizer learned from the rows, and a Llama of random weights."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from freehold.core.errors import BadData, BadInput
from freehold.tuning.job import Architecture

END, TURN, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_SPACE = "Ġ"
"""A space in the byte-level alphabet."""
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""The `qwen2` split of llama.cpp: single digits, words with the space or sign before them."""
_PARTS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+| "
"""A finer split, which merges are learned on: what stands before a word is no part of it."""
_WORD = re.compile(r"( ?)([^\W\d_]+|[^\w\s]+)")
_SPACED_SHARE = 8
"""One token in this many may be a word with its space."""
_SPACED_ALWAYS = 0.95
"""How often a word must follow a space for the two to become one token."""
_SPACED_WHOLE = 0.99
"""How often such a word must be the whole word, and not the first part of a longer one."""


def make(folder: Path, rows: Sequence[Sequence[str]], shape: Architecture, seed: int) -> None:
    """Write a model folder (config, tokenizer, chat template, random weights) for `shape` into `folder`.

    Raises BadInput for a shape that cannot be, BadData when the rows are too few for the vocabulary.
    """
    if shape.hidden % shape.heads or shape.heads % shape.kv_heads:
        raise BadInput(
            f"{shape.heads} heads and {shape.kv_heads} kv_heads do not divide hidden {shape.hidden}",
            "hidden must be a multiple of heads, and heads of kv_heads",
        )
    folder.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(folder, [text for row in rows for text in row], shape.vocab)
    _write_model(folder, shape, seed)


def _write_tokenizer(folder: Path, texts: Sequence[str], vocab: int) -> None:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    learned = _learn(texts, vocab)
    tokens, merges = learned["vocab"], [tuple(pair) for pair in learned["merges"]]
    ordered = sorted(tokens, key=tokens.__getitem__)
    most = vocab // _SPACED_SHARE
    without = models.BPE(
        vocab={token: index for index, token in enumerate(ordered[: vocab - most])}, merges=merges[: len(merges) - most]
    )
    parts = Tokenizer(without)
    parts.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    spaced = _spaced(texts, parts, most)
    kept = len(merges) - len(spaced)
    ordered = ordered[: vocab - len(spaced)] + [_SPACE + word for word in spaced]
    merges = merges[:kept] + [(_SPACE, word) for word in spaced]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(ordered)}, merges=merges))
    tokenizer.add_special_tokens([END, TURN, TURN_END])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
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


def _learn(texts: Sequence[str], vocab: int) -> dict[str, Any]:
    """A byte-pair encoding as tokenizer.json holds it: {"vocab": token -> id, "merges": pairs in their order}.

    No merge joins a space or a sign to a word, so that a word is the same token wherever it stands: a small model
    learns to copy names out of its prompt several times sooner.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PARTS), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
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
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return model


def _spaced(texts: Iterable[str], parts: Any, most: int) -> list[str]:
    """The commonest words that are tokens of `parts`, hardly ever stand without a space and hardly ever begin another.

    A word that begins others would take the space from them: "tower" would begin differently behind a space.
    """
    after, alone, first = Counter[str](), Counter[str](), Counter[str]()
    for text in texts:
        for space, word in _WORD.findall(text):
            (after if space else alone)[word] += 1
    found = sorted(after)
    for word, encoding in zip(found, parts.encode_batch(found), strict=True):
        first[encoding.tokens[0]] += after[word]
    vocab = parts.get_vocab()
    words = [
        word
        for word in found
        if word in vocab
        and alone[word] <= (1 - _SPACED_ALWAYS) * after[word]
        and after[word] >= _SPACED_WHOLE * first[word]
    ]
    return sorted(words, key=lambda word: (-after[word], word))[:most]


def _write_model(folder: Path, shape: Architecture, seed: int) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from freehold.tuning import files

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
    files.write(tensors, folder / "model.safetensors", {"format": "pt"})
    config.save_pretrained(folder)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", "utf-8")
