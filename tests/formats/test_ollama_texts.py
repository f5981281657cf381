"""Texts of Ollama's registry mean the same here, and what has no counterpart is left out, never guessed."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.parameters import Parameters, decode_messages, decode_parameters
from freehold.core.request import Message, Sampling
from freehold.formats import chat_template
from freehold.formats.ollama_texts import FILENAMES, translated

CHATML = b"""{{- if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}{{ if .Prompt }}<|im_start|>user
{{ .Prompt }}<|im_end|>
{{ end }}<|im_start|>assistant
{{ .Response }}<|im_end|>
"""


def test_parameters():
    params = {"stop": ["<|im_end|>", "</s>"], "temperature": 0.5, "num_ctx": 4096, "top_k": 20.0, "num_gpu": 9}
    data = msgspec.json.encode({**params, "mirostat": 1, "use_mmap": True, "later": "x", "top_p": 7, "min_p": None})
    found = decode_parameters(translated({FILENAMES["params"]: data})["parameters"])
    assert found == Parameters(
        sampling=Sampling(temperature=0.5, top_k=20), stop=("<|im_end|>", "</s>"), context_length=4096
    )


def test_template_system_and_messages():
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    texts = {
        FILENAMES["template"]: CHATML,
        FILENAMES["system"]: b"Be brief.",
        FILENAMES["messages"]: msgspec.json.encode(turns),
    }
    made = translated(texts)
    assert made["system"] == b"Be brief."
    assert decode_messages(made["messages"]) == (Message("user", "Hi"), Message("assistant", "Hello"))
    shown = chat_template.render(made["chat_template"].decode(), turns[:1], add_generation_prompt=True)
    assert shown == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("template", b"{{ if .Tools }}{{ .Tools }}{{ end }}{{ .Prompt }}"),
        ("template", b"\xff"),
        ("template", b"plain"),
        ("system", b" \n"),
        ("params", b"[1]"),
        ("params", b"{}"),
        ("params", b'{"num_gpu": 1}'),
        ("params", b'{"stop": [[]]}'),
        ("messages", b'[{"role": "tool", "content": "x"}]'),
        ("messages", b'[{"role": "narrator", "content": "x"}]'),
        ("messages", b"[]"),
    ],
)
def test_what_says_nothing_here_is_left_out(kind: str, data: bytes):
    assert translated({FILENAMES[kind]: data}) == {}


@given(st.sampled_from(sorted(FILENAMES)), st.binary(max_size=200))
def test_any_bytes_are_survived(kind: str, data: bytes):
    if kind != "template":
        translated({FILENAMES[kind]: data})
