"""Go templates of chat formats say the same in Jinja; others are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.errors import Unsupported
from freehold.formats.chat_template import render
from freehold.formats.go_template import insertion, is_go, to_jinja

CHAT = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "U1"},
    {"role": "assistant", "content": "A1"},
    {"role": "user", "content": "U2"},
]
CHATML = "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n"
CHATML += "<|im_start|>user\nU2<|im_end|>\n<|im_start|>assistant\n"
LLAMA3 = "".join(
    f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>"
    for role, text in (("system", "S"), ("user", "U1"), ("assistant", "A1"), ("user", "U2"))
)
LLAMA3 += "<|start_header_id|>assistant<|end_header_id|>\n\n"
KNOWN = {
    "chatml by fields": (
        "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}{{ if .Prompt }}<|im_start|>user\n"
        "{{ .Prompt }}<|im_end|>\n{{ end }}<|im_start|>assistant\n{{ .Response }}<|im_end|>\n",
        CHATML,
    ),
    "chatml in a loop": (
        "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n",
        CHATML,
    ),
    "with trim marks": (
        "{{- /* comment */ -}}\n{{- if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end -}}\n\n"
        "{{- if .Prompt }}<|im_start|>user\n{{ .Prompt }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
        "{{ .Response }}<|im_end|>\n",
        CHATML,
    ),
    "llama 3": (
        "{{ if .System }}<|start_header_id|>system<|end_header_id|>\n\n{{ .System }}<|eot_id|>{{ end }}{{ if .Prompt }}"
        "<|start_header_id|>user<|end_header_id|>\n\n{{ .Prompt }}<|eot_id|>{{ end }}"
        "<|start_header_id|>assistant<|end_header_id|>\n\n{{ .Response }}<|eot_id|>",
        LLAMA3,
    ),
    "system inside the user's turn": (
        "[INST] {{ if .System }}{{ .System }} {{ end }}{{ .Prompt }} [/INST]",
        "[INST] S U1 [/INST]A1[INST] U2 [/INST]",
    ),
    "system inside a guarded turn": (
        "{{ if .Prompt }}<user>{{ if .System }}{{ .System }}\n{{ end }}{{ .Prompt }}</user>{{ end }}<model>"
        "{{ .Response }}</model>",
        "<user>S\nU1</user><model>A1</model><user>U2</user><model>",
    ),
    "alpaca": (
        "{{ if .System }}{{ .System }}\n\n{{ end }}### Instruction:\n{{ .Prompt }}\n\n### Response:\n"
        "{{ .Response }}\n\n",
        "S\n\n### Instruction:\nU1\n\n### Response:\nA1\n\n### Instruction:\nU2\n\n### Response:\n",
    ),
    "by role": (
        '{{ range .Messages }}{{ if eq .Role "system" }}<S>{{ .Content }}</S>{{ else if eq .Role "user" }}<U>'
        '{{ .Content }}</U>{{ else if eq .Role "assistant" }}<A>{{ .Content }}</A>{{ end }}{{ end }}<A>',
        "<S>S</S><U>U1</U><A>A1</A><U>U2</U><A>",
    ),
    "with a beginning": (
        "<bos>{{ range .Messages }}[{{ .Role }}]{{ .Content }}{{ end }}[assistant]{{ .Response }}",
        "<bos>[system]S[user]U1[assistant]A1[user]U2[assistant]",
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_formats(name: str) -> None:
    template, expected = KNOWN[name]
    assert is_go(template)
    assert render(to_jinja(template), CHAT, add_generation_prompt=True) == expected


def test_without_a_system_message_and_without_an_answer_to_come() -> None:
    template, expected = KNOWN["chatml by fields"]
    shown = render(to_jinja(template), CHAT[1:3], add_generation_prompt=False)
    assert shown == expected.partition("S<|im_end|>\n")[2].partition("<|im_start|>user\nU2")[0]


UNKNOWN = [
    "{{ .Tools }}{{ .Prompt }}",
    "{{ if .Tools }}tools{{ end }}{{ .Prompt }}",
    "{{ range $i, $_ := .Messages }}{{ .Content }}{{ end }}",
    "{{ range .Messages }}{{ .Content | json }}{{ end }}",
    "{{ range .Messages }}{{ range .Messages }}{{ .Content }}{{ end }}{{ end }}",
    "{{ if .System }}{{ .System }}{{ .Prompt }}",
    "{{ .Prompt }}{{ .Prompt }}",
    "{{ .Prompt }}{{ end }}",
    '{{ template "x" }}',
    "{{ call .System }}",
    "{{ .System }}{{ .Prompt }}",
    "{{ if .System }}a{{ .System }}{{ end }}x{{ if .Prompt }}{{ .Prompt }}{{ end }}",
    '{{ range .Messages }}{{ if eq .Role "user" }}{{ .Content }}{{ else }}x{{ end }}{{ end }}',
    "only text",
    "",
    "x" * 70_000,
]


@pytest.mark.parametrize("template", UNKNOWN, ids=[text[:30] for text in UNKNOWN])
def test_other_templates_are_refused(template: str) -> None:
    with pytest.raises(Unsupported) as caught:
        to_jinja(template)
    assert "TEMPLATE" in caught.value.message
    assert "\n" not in caught.value.line()


@pytest.mark.parametrize(
    "template", ["{% for message in messages %}{{ message.content }}{% endfor %}", "{{ messages[0].content }}", "text"]
)
def test_jinja_is_not_go(template: str) -> None:
    assert not is_go(template)


@given(st.text(max_size=40).filter(lambda text: "{{" not in text and "}}" not in text))
def test_literal_text_cannot_become_code(text: str) -> None:
    template = "x" + text + "{{ .Prompt }}"
    made = to_jinja(template)
    if "{{" not in template.replace("{{ .Prompt }}", "") and "\r" not in text:
        assert render(made, [CHAT[1]], add_generation_prompt=False) == "x" + text + "U1"


PIECES = ["{{ if .System }}", "{{ .System }}", "{{ end }}", "{{ .Prompt }}", "{{ range .Messages }}", "{{ .Role }}"]
PIECES += ["{{ .Content }}", "{{ .Response }}", "{{- else }}", "text", "{%", "}}", "{{", "{{-  -}}", '"', "\\"]


@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_any_pieces_are_translated_or_refused(pieces: list[str]) -> None:
    try:
        made = to_jinja("".join(pieces))
    except Unsupported:
        return
    render(made, CHAT, add_generation_prompt=True)


INSERTING = {
    "<PRE> {{ .Prompt }} <SUF>{{ .Suffix }} <MID>": "<PRE> a <SUF>b <MID>",
    "{{- if .Suffix }}<p>{{ .Prompt }}<s>{{ .Suffix }}<m>\n{{- else }}{{ .Prompt }}{{ end }}": "<p>a<s>b<m>",
    "{{ if .Suffix }}[SUFFIX]{{ .Suffix }}[PREFIX] {{ .Prompt }}{{ else if .Messages }}{{ range .Messages }}x{{ end }}"
    "{{ end }}": "[SUFFIX]b[PREFIX] a",
    "<S>{{ if .Suffix }}{{ .Prompt }}|{{ .Suffix }}{{ end }}{{ .Response }}": "<S>a|b",
}


@pytest.mark.parametrize("template", INSERTING)
def test_a_place_to_write_at(template: str) -> None:
    found = insertion(template)
    assert found is not None
    assert found.text("a", "b") == INSERTING[template]
    assert found.text("{{ .Suffix }}", "") == INSERTING[template].replace("b", "", 1).replace("a", "{{ .Suffix }}")


@pytest.mark.parametrize(
    "template",
    [
        "{{ .Prompt }}",
        "{{ if .Suffix }}{{ .Suffix }}{{ end }}",
        "{{ if .Suffix }}{{ .Prompt }}{{ .Suffix }}{{ .Suffix }}{{ end }}",
        "{{ if .System }}{{ .System }}{{ end }}{{ if .Suffix }}{{ .Prompt }}{{ .Suffix }}{{ end }}",
        "{{ if .Suffix }}{{ if .System }}x{{ end }}{{ .Prompt }}{{ .Suffix }}{{ end }}",
        "{{ .Prompt }}{{ .Suffix | json }}",
        "{{ .Prompt }}{{ .Suffix }}" + "x" * 70_000,
    ],
    ids=range(7),
)
def test_no_place_that_is_understood(template: str) -> None:
    assert insertion(template) is None
