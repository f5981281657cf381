"""What people type as a source: one place for each, whatever it is, and never a way out of a folder."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.errors import BadName, FreeholdError, Unsupported
from freehold.core.reference import Reference, is_quant, parse

HUB = [
    ("org/repo", "hf://org/repo"),
    ("org/repo:Q4_K_M", "hf://org/repo:Q4_K_M"),
    ("org/repo:q4_k_m", "hf://org/repo:Q4_K_M"),
    ("org/repo:latest", "hf://org/repo"),
    ("org/repo@q8_0", "hf://org/repo:Q8_0"),
    ("org/repo@main", "hf://org/repo@main"),
    ("org/repo@v1.0:IQ4_XS", "hf://org/repo@v1.0:IQ4_XS"),
    ("hf.co/org/repo", "hf://org/repo"),
    ("HF.co/org/repo:UD-Q4_K_XL", "hf://org/repo:UD-Q4_K_XL"),
    ("huggingface.co/org/repo:bf16", "hf://org/repo:BF16"),
    ("hf://org/repo@refs/pr/3", "hf://org/repo@refs/pr/3"),
    ("hf://org/repo@Q4_0", "hf://org/repo@Q4_0"),
    ("hf://org/repo/sub/x.gguf", "hf://org/repo//sub/x.gguf"),
    ("huggingface://org/repo", "hf://org/repo"),
    ("https://huggingface.co/org/repo", "hf://org/repo"),
    ("https://huggingface.co/org/repo/tree/main", "hf://org/repo@main"),
    ("https://hf.co/org/repo/blob/main/x-Q4_0.gguf", "hf://org/repo@main//x-Q4_0.gguf"),
    ("https://huggingface.co/org/repo/resolve/main/a/x.gguf?download=true", "hf://org/repo@main//a/x.gguf"),
    ("qwen2.5-7b-instruct@q4_k_m", "hf://lmstudio-community/qwen2.5-7b-instruct-GGUF:Q4_K_M"),
]
OLLAMA = [
    ("llama3.2", "ollama://registry.ollama.ai/library/llama3.2:latest"),
    ("llama3.2:1b", "ollama://registry.ollama.ai/library/llama3.2:1b"),
    ("Llama3.2:1b-instruct-q4_K_M", "ollama://registry.ollama.ai/library/llama3.2:1b-instruct-q4_K_M"),
    ("ollama://llama3:8b", "ollama://registry.ollama.ai/library/llama3:8b"),
    ("ollama://me/mine", "ollama://registry.ollama.ai/me/mine:latest"),
    ("ollama://127.0.0.1:5000/me/mine:x", "ollama://127.0.0.1:5000/me/mine:x"),
    ("ollama.com/library/llama3", "ollama://registry.ollama.ai/library/llama3:latest"),
    ("https://ollama.com/library/llama3:8b", "ollama://registry.ollama.ai/library/llama3:8b"),
    ("registry.ollama.ai/me/mine:x", "ollama://registry.ollama.ai/me/mine:x"),
]
OTHERS = [
    ("./x.gguf", "./x.gguf"),
    ("../a/b", "../a/b"),
    ("/a/b c.gguf", "/a/b c.gguf"),
    ("~/models/x", "~/models/x"),
    ("x.gguf", "./x.gguf"),
    ("a/b/x.GGUF", "./a/b/x.GGUF"),
    ("file:///a/x.gguf", "/a/x.gguf"),
    ("https://example.com/a/x.gguf?sig=1", "https://example.com/a/x.gguf?sig=1"),
    ("http://127.0.0.1:80/x.gguf#sha256=00", "http://127.0.0.1:80/x.gguf#sha256=00"),
]


@pytest.mark.parametrize(("text", "canonical"), [*HUB, *OLLAMA, *OTHERS])
def test_each_way_of_writing_means_one_place(text: str, canonical: str) -> None:
    found = parse(text)
    assert str(found) == canonical
    assert found.why
    assert str(parse(str(found))) == canonical


@pytest.mark.parametrize(
    ("text", "kind"), [(HUB[0][0], "hub"), (OLLAMA[1][0], "ollama"), (OTHERS[4][0], "path"), (OTHERS[7][0], "url")]
)
def test_kinds(text: str, kind: str) -> None:
    assert parse(text).kind == kind


@pytest.mark.parametrize("text", ["llama3", "org/repo", "here"])
def test_what_is_here_goes_first(text: str) -> None:
    found = parse(text, {"llama3", "org/repo", "here"}.__contains__)
    assert (found.kind, found.place) == ("path", text)
    assert "here" in found.why
    assert parse(f"hf.co/{text}/x" if "/" not in text else f"hf://{text}", lambda path: True).kind == "hub"


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "a b", "org/", "org/repo:", "org/repo@", "org/repo:Q4:Q5", "org/repo:a/b", "model:",
        "org/../repo", "org/..", "..org/repo", "hf://", "hf://org", "hf://org/repo@", "hf://org/repo/../x.gguf",
        "hf://org/repo//a//x.gguf", "hf://org/repo//x.gguf:Q4_0", "hf.co/org/repo/..%2fx.gguf", "hf://org/repo/%2e%2e/x",
        "hf://org\\repo/x", "ollama://", "ollama://a/b/c/d", "ollama://../x", "ollama://ho st/a/b", "ollama://m:../x",
        "https://", "https:///x", "https://user:pw@host/x.gguf", "https://token@host/x.gguf", "https://host", "http://h/",
        "https://[::1/x", "https://host:99999999/x", "file://relative", "model@main", "sha256:00/x", "a" * 3000,
        "org/repo\x00", "org/re\npo", "org/repo\u202e", "https://huggingface.co/org/repo/settings/x", "https://hf.co/org/repo/tree",
        "https://huggingface.co/org/repo/resolve/main/..%2f..%2fetc/passwd", "C:\\models\\x", "\\\\host\\share",
    ],
)  # fmt: skip
def test_what_means_nothing(text: str) -> None:
    with pytest.raises(BadName) as caught:
        parse(text)
    assert caught.value.remedy
    assert "\n" not in caught.value.message
    assert "pw" not in caught.value.message


@pytest.mark.parametrize("text", ["oci://host/x", "s3://bucket/x", "javascript://x", "docker://x"])
def test_other_places(text: str) -> None:
    with pytest.raises(Unsupported):
        parse(text)


def test_a_revision_can_be_chosen_where_there_are_some() -> None:
    assert str(parse("org/repo:Q4_0").at("v2")) == "hf://org/repo@v2:Q4_0"
    with pytest.raises(Unsupported):
        parse("llama3").at("v2")
    for wrong in ("", "../x", "a//b", "a b", "-x"):
        with pytest.raises(BadName):
            parse("org/repo").at(wrong)


@pytest.mark.parametrize("text", ["Q4_K_M", "q8_0", "IQ4_XS", "UD-Q2_K_XL", "bf16", "F16", "fp16", "MXFP4", "TQ1_0"])
def test_quantisation_types(text: str) -> None:
    assert is_quant(text)


@pytest.mark.parametrize("text", ["", "main", "Q4", "Q9_0", "v1.0", "8b", "q4_k_m.gguf", "int4"])
def test_what_is_no_quantisation_type(text: str) -> None:
    assert not is_quant(text)


PIECES = st.sampled_from(
    ["org", "repo", "a", "..", ".", "/", "//", ":", "@", "://", "hf", "ollama", "https", "hf.co", "Q4_K_M", "main",
     "%2e", "\\", "~", "#", "?", "[", "]", "x.gguf", "blob", "resolve", "127.0.0.1:80", "\x00", "é", " "]
)  # fmt: skip
TEXTS = st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=9).map("".join))


def steps(found: Reference) -> list[str]:
    return [*f"{found.org}/{found.model}/{found.revision}/{found.file}/{found.variant}".split("/")]


def parsed(text: str, here: bool) -> Reference | FreeholdError:
    try:
        return parse(text, lambda path: here)
    except FreeholdError as error:
        return error


@given(TEXTS, st.booleans())
def test_any_text_means_one_safe_place_or_is_refused(text: str, here: bool) -> None:
    found = parsed(text, here)
    if isinstance(found, FreeholdError):
        assert found.exit_code == 2
        assert found.remedy
        assert len(found.line()) < 600
        return
    again = parse(str(found), lambda path: here)
    assert str(again) == str(found)
    assert again.kind == found.kind
    if found.kind in ("hub", "ollama"):
        assert not any(".." in step or "\\" in step or "%" in step for step in steps(found))
        assert not any(step.startswith(("-", ".", " ")) for step in steps(found))
        assert re.fullmatch(r"[ -~]+", str(found))
    if found.kind == "url":
        assert "@" not in found.place.split("/")[2]
