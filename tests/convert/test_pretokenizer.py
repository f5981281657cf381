"""Names of pre-tokenizers from their structure."""

from typing import Any

import pytest

from freehold.convert.pretokenizer import LLAMA3, NAMES, QWEN2, pre_tokenizer_name
from freehold.core.errors import Unsupported
from tests.convert.folders import BYTES, GPT2, SPLITS, splitting

ANY_CASE = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def test_every_name_has_a_structure_that_the_tests_verify() -> None:
    assert set(NAMES.values()) == set(SPLITS)


@pytest.mark.parametrize(("name", "structure"), SPLITS.items())
def test_names(name: str, structure: dict[str, Any]) -> None:
    assert pre_tokenizer_name(structure, ignore_merges=name == "llama-bpe") == name


def test_the_published_spellings_are_known() -> None:
    qwen, llama = splitting(ANY_CASE + r"\p{N}" + REST), splitting(ANY_CASE + r"\p{N}{1,3}" + REST)
    assert pre_tokenizer_name(qwen, ignore_merges=False) == "qwen2"
    assert pre_tokenizer_name(llama, ignore_merges=True) == "llama-bpe"
    only = {"type": "Sequence", "pretokenizers": [GPT2]}
    assert pre_tokenizer_name(only, ignore_merges=False) == "gpt-2"


def changed(structure: dict[str, Any], **changes: Any) -> dict[str, Any]:
    first, *others = structure["pretokenizers"]
    return {"type": "Sequence", "pretokenizers": [first | changes, *others]}


@pytest.mark.parametrize(
    ("structure", "ignore_merges"),
    [
        (splitting(QWEN2), True),
        (splitting(QWEN2.replace(r"\p{N}", r"\p{N}{1,2}")), False),
        (changed(splitting(LLAMA3), behavior="Removed"), False),
        (changed(splitting(LLAMA3), invert=True), False),
        (changed(splitting(LLAMA3), pattern={"String": LLAMA3}), False),
        (GPT2 | {"add_prefix_space": True}, False),
        (BYTES, False),
        ({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": False}, GPT2]}, False),
        ({"type": "Sequence", "pretokenizers": [GPT2, GPT2]}, False),
        ({"type": "Sequence", "pretokenizers": 7}, False),
        ({"type": "Sequence", "pretokenizers": []}, False),
        ("bytes", False),
        ({}, False),
        (None, False),
    ],
)
def test_everything_else_is_refused(structure: Any, ignore_merges: bool) -> None:
    with pytest.raises(Unsupported, match="pre-tokenizer") as caught:
        pre_tokenizer_name(structure, ignore_merges=ignore_merges)
    assert "qwen2" in caught.value.remedy
