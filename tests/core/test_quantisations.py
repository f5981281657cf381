"""Quantisation types in the names of files, as they are found on the Hub."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.reference import is_quant, parse, quant_in

TYPES = ["Q4_K_M", "Q8_0", "IQ2_XXS", "IQ4_XS", "UD-Q2_K_XL", "TQ1_0", "MXFP4", "MXFP4_MOE", "NVFP4", "BF16", "F16",
         "FP16", "F32", "FP32", "Q5_K_S", "Q3_K_L", "Q6_K", "Q4_0_4_4"]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("qwen2.5-7b-instruct-q4_k_m.gguf", "Q4_K_M"),
        ("Llama-3.2-1B.Q8_0.gguf", "Q8_0"),
        ("model-UD-Q2_K_XL-00001-of-00003.gguf", "UD-Q2_K_XL"),
        ("tiny_f16.gguf", "F16"),
        ("gpt-oss-20b-MXFP4_MOE.gguf", "MXFP4_MOE"),
        ("mmproj-BF16.gguf", "BF16"),
        ("BF16", "BF16"),
        ("a Q4_0 b", "Q4_0"),
        ("model-Q4_K_M-imat-Q8_0.gguf", "Q8_0"),
        ("model.gguf", ""),
        ("v1.0", ""),
        ("llama3-8b", ""),
        ("unQ4_0.gguf", ""),
        ("xF16y", ""),
        ("", ""),
    ],
)
def test_the_type_that_a_file_is_named_for(name: str, found: str) -> None:
    assert quant_in(name) == found


ENDS = st.sampled_from([".gguf", "-00001-of-00002.gguf", ""])


@given(st.sampled_from(TYPES), st.sampled_from(["-", ".", " ", "_"]), ENDS)
def test_every_type_is_found_in_either_case(kind: str, joint: str, end: str) -> None:
    for spelt in (kind, kind.lower()):
        assert is_quant(spelt)
        assert quant_in(f"some.model-7b{joint}{spelt}{end}") == kind
    assert not is_quant(f"{kind}.x")
    assert not is_quant(f" {kind}")


@given(st.sampled_from(TYPES), st.booleans())
def test_a_type_after_a_repository_is_asked_for_in_capitals(kind: str, lower: bool) -> None:
    text = kind.lower() if lower else kind
    for reference in (f"org/repo:{text}", f"hf.co/org/repo:{text}", f"org/repo@{text}"):
        found = parse(reference)
        assert (found.kind, found.variant, found.revision) == ("hub", kind, "")
        assert parse(f"org/repo@v1:{text}").revision == "v1"


@pytest.mark.parametrize("text", ["org/repo@main", "org/repo@refs/pr/3", "org/repo@abc123", "org/repo@v2.0"])
def test_what_is_no_type_after_an_at_sign_is_a_revision(text: str) -> None:
    found = parse(text)
    assert (found.variant, found.revision) == ("", text.partition("@")[2])
