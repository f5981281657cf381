"""The tokens that mark where text is to be written: as a file says, else by their names."""

import pytest

from freehold.formats.infill import Marks, marks

SAID = {f"tokenizer.ggml.fim_{mark}_token_id": number for number, mark in enumerate(("pre", "suf", "mid"), 7)}
TOKENS = ["a", "<|fim_prefix|>", "b", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_prefix|>"]


def test_what_a_file_says_goes_before_names():
    assert marks(SAID) == Marks(7, 8, 9)
    assert marks({**SAID, "tokenizer.ggml.tokens": TOKENS}) == Marks(7, 8, 9)


def test_tokens_are_known_by_name():
    assert marks({"tokenizer.ggml.tokens": TOKENS}) == Marks(1, 4, 3)
    middle = "tokenizer.ggml.fim_mid_token_id"
    assert marks({"tokenizer.ggml.tokens": TOKENS, middle: 0}) == Marks(1, 4, 0)
    assert marks({"tokenizer.ggml.tokens": ["▁<PRE>", "▁<SUF>", "▁<MID>"]}) == Marks(0, 1, 2)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"tokenizer.ggml.tokens": TOKENS[:4]},
        {"tokenizer.ggml.tokens": 5},
        {name: number for name, number in SAID.items() if "mid" not in name},
        {**SAID, "tokenizer.ggml.fim_pre_token_id": "7"},
    ],
)
def test_all_three_are_needed(metadata: dict):
    assert marks(metadata) is None
