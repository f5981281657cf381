"""A tiny llama-architecture GGUF with random weights and a real BPE vocabulary, for tests of real llama.cpp."""

from pathlib import Path

import numpy as np
from gguf import GGUFWriter, TokenType
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% if message.reasoning_content %}<think>\n"
    "{{ message.reasoning_content }}\n</think>\n\n{% endif %}{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
"""Every answer begins with thoughts; a model of random weights does not come to their end."""
HERMES = """\
{% if tools %}<|im_start|>system
# Tools
<tools>
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}</tools>
For each function call return a json object with function name and arguments within <tool_call></tool_call> tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
{% endif %}{% for message in messages %}{% if message.tool_calls %}<|im_start|>assistant
{% for call in message.tool_calls %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% elif message.role == 'tool' %}<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% else %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""The tool-calling template that many models share, written out shortly."""
CORPUS = (
    "The quick brown fox jumps over the lazy dog. Where is my order? You can cancel an order within 30 days. "
    '{"name": "Ada", "city": "Paris", "age": 36, "ok": true} What is the weather in Berlin? Please help me, thank you.'
)


def tokenizer(vocab_size: int = 400) -> Tokenizer:
    """A byte-level BPE tokenizer trained on a few sentences; always the same."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator([CORPUS] * 8, trainer)
    return bpe


def write_gguf(
    path: Path,
    *,
    hidden: int = 64,
    layers: int = 2,
    context: int = 1024,
    template: str = CHATML,
    seed: int = 0,
    split: int = 0,
    pooling: int | None = None,
    infill: bool = False,
    ends: bool = False,
) -> Path:
    """Write the model to `path`, or to parts of `split` tensors each beside it.

    The larger `hidden` and `layers`, the slower it generates. `pooling` is llama.cpp's number for how vectors are made
    of it; with `infill` some of its tokens mark the place where text is to be written. With `ends` the answers that it
    draws end by themselves, at a moment of chance; without, none does.
    """
    vocabulary, merges = _vocabulary(tokenizer())
    writer = GGUFWriter(path, "llama", split_max_tensors=split)
    writer.add_name("tiny")
    writer.add_context_length(context)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(hidden * 2)
    writer.add_head_count(hidden // 16)
    writer.add_head_count_kv(hidden // 32)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(len(vocabulary))
    writer.add_file_type(0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([TokenType.CONTROL if token in SPECIAL else TokenType.NORMAL for token in vocabulary])
    writer.add_token_merges(merges)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)
    if pooling is not None:
        writer.add_uint32("llama.pooling_type", pooling)
    for token, mark in enumerate(("pre", "suf", "mid", "rep", "sep") if infill else (), start=250):
        writer.add_uint32(f"tokenizer.ggml.fim_{mark}_token_id", token)
    writer.add_chat_template(template)
    weights = _weights(hidden, layers, len(vocabulary), seed)
    if not ends:
        _make_endless(weights)
    norms = [f"blk.{layer}.{norm}_norm.weight" for layer in range(layers) for norm in ("attn", "ffn")]
    for name in [*norms, "output_norm.weight"]:
        writer.add_tensor(name, np.ones(hidden, np.float32))
    for name, numbers in weights.items():
        writer.add_tensor(name, numbers.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _vocabulary(bpe: Tokenizer) -> tuple[list[str], list[str]]:
    import json

    described = json.loads(bpe.to_str())["model"]
    tokens = sorted(described["vocab"], key=described["vocab"].__getitem__)
    return tokens, [" ".join(pair) for pair in described["merges"]]


def _weights(hidden: int, layers: int, vocab: int, seed: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    shapes = {"token_embd.weight": (vocab, hidden), "output.weight": (vocab, hidden)}
    for layer in range(layers):
        shapes |= {
            f"blk.{layer}.attn_q.weight": (hidden, hidden),
            f"blk.{layer}.attn_k.weight": (hidden // 2, hidden),
            f"blk.{layer}.attn_v.weight": (hidden // 2, hidden),
            f"blk.{layer}.attn_output.weight": (hidden, hidden),
            f"blk.{layer}.ffn_gate.weight": (hidden * 2, hidden),
            f"blk.{layer}.ffn_up.weight": (hidden * 2, hidden),
            f"blk.{layer}.ffn_down.weight": (hidden, hidden * 2),
        }
    return {name: draw.normal(0, 0.05 if "blk" in name else 0.3, shape) for name, shape in shapes.items()}


def _make_endless(weights: dict[str, np.ndarray]) -> None:
    """No drawn answer ends by itself, so the number of its tokens is not a matter of chance.

    One dimension of the residual stream is the same at every token, and only the tokens that end a turn read it. So
    that all else is still read, attention weighs more: the answer to one picture is not that to another.
    """
    weights["token_embd.weight"][:, 0] = 0.3
    for name, written in weights.items():
        if name.endswith(("attn_v.weight", "attn_output.weight")):
            written *= 3.0
        if name.endswith(("attn_output.weight", "ffn_down.weight")):
            written[0] = 0.0
    weights["output.weight"][:, 0] = 0.0
    weights["output.weight"][: len(SPECIAL)] = 0.0
    weights["output.weight"][: len(SPECIAL), 0] = -100.0
