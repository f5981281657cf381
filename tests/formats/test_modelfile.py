"""Modelfiles: Ollama's syntax, and every mistake named with its line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.errors import BadInput, FreeholdError, NotFound, Unsupported
from freehold.core.parameters import Parameters
from freehold.core.request import Message, Sampling
from freehold.formats.modelfile import MAX_FILE, Modelfile, parse, quoted, read

WHOLE = '''# What a help desk needs
FROM llama3.2:1b

PARAMETER temperature 0.7
parameter top_k 40
PARAMETER stop "<|user|>"
PARAMETER stop Human:
PARAMETER seed -1
PARAMETER num_ctx 2048
PARAMETER num_predict 100
PARAMETER num_thread 8
TEMPLATE """{{ if .System }}<s>{{ .System }}</s>
{{ end }}{{ .Prompt }}"""
SYSTEM """
You answer "shortly".
# This is no comment.
"""
ADAPTER ./adapter.gguf
LICENSE Apache-2.0
LICENSE """
Second licence
"""
MESSAGE user Where is my order?
MESSAGE assistant """On its
way."""
'''


def test_everything() -> None:
    found = parse(WHOLE)
    assert found.base == "llama3.2:1b"
    assert found.parameters == Parameters(
        sampling=Sampling(temperature=0.7, top_k=40, seed=-1),
        stop=("<|user|>", "Human:"),
        max_tokens=100,
        context_length=2048,
    )
    assert found.template == "{{ if .System }}<s>{{ .System }}</s>\n{{ end }}{{ .Prompt }}"
    assert found.system == '\nYou answer "shortly".\n# This is no comment.\n'
    assert found.adapters == ("./adapter.gguf",)
    assert found.licences == ("Apache-2.0", "\nSecond licence\n")
    assert found.messages == (Message("user", "Where is my order?"), Message("assistant", "On its\nway."))
    assert found.ignored == ("num_thread",)
    assert (found.base_line, found.template_line) == (2, 12)


@pytest.mark.parametrize(
    ("text", "system"),
    [
        ("SYSTEM hello", "hello"),
        ("system   hello world  ", "hello world"),
        ('SYSTEM "in quotes"', "in quotes"),
        ('SYSTEM "a "b" c"', 'a "b" c'),
        ('SYSTEM """one line"""', "one line"),
        ("SYSTEM", ""),
        ('SYSTEM ""', ""),
        ("SYSTEM café ☕ # no comment", "café ☕ # no comment"),
    ],
)
def test_values(text: str, system: str) -> None:
    assert parse(f"FROM x\r\n{text}\r\n").system == system


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "no FROM"),
        ("# nothing\n", 1, "no FROM"),
        ("FROM a\nFROM b\nFROM c", 3, "a third FROM"),
        ("FROM", 1, "FROM without a value"),
        ("FROM a\nSISTEM x", 2, "unknown command 'SISTEM'. Did you mean SYSTEM?"),
        ("FROM a\n\n#\nfoo bar", 4, "unknown command 'foo'"),
        ('FROM a\nSYSTEM """x\ny\n', 2, "three quotes that are never closed"),
        ('FROM a\nSYSTEM "x', 2, "a quote that is never closed"),
        ('FROM a\nSYSTEM """x""" y', 2, 'text after the closing """'),
        ("FROM a\nSYSTEM x\nSYSTEM y", 3, "a second SYSTEM"),
        ("FROM a\nTEMPLATE x\nTEMPLATE y", 3, "a second TEMPLATE"),
        ("FROM a\nPARAMETER", 2, "PARAMETER without a value"),
        ("FROM a\nPARAMETER tempreture 1", 2, "unknown parameter 'tempreture'. Did you mean temperature?"),
        ("FROM a\nPARAMETER temperature hot", 2, "temperature is 'hot', not a number"),
        ("FROM a\nPARAMETER top_k 1.5", 2, "top_k is '1.5', not a whole number"),
        ("FROM a\nPARAMETER temperature 3", 2, "<= 2.0"),
        ("FROM a\nPARAMETER temperature nan", 2, "temperature"),
        ("FROM a\nPARAMETER num_ctx 0", 2, ">= 16"),
        ("FROM a\nPARAMETER top_k -1", 2, ">= 0"),
        ("FROM a\nPARAMETER stop", 2, "length >= 1"),
        ("FROM a\n" + "PARAMETER stop x\n" * 17, 18, "length <= 16"),
        ("FROM a\nPARAMETER seed " + "9" * 5000, 2, "seed"),
        ("FROM a\nPARAMETER mirostat 1", 2, "mirostat has no counterpart here"),
        ("FROM a\nMESSAGE bot Hi", 2, "unknown role 'bot'"),
        ("FROM a\nMESSAGE assistent Hi", 2, "Did you mean assistant?"),
        ("FROM a\n" + "LICENSE x\n" * 5000, 4097, "more than 4096 commands"),
    ],
)
def test_mistakes_are_named_with_their_line(text: str, line: int, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse(text)
    assert caught.value.line().startswith(f"Modelfile:{line}: ")
    assert said in caught.value.line()


def test_no_limit_of_its_own() -> None:
    assert parse("FROM a\nPARAMETER num_predict -1").parameters.max_tokens is None


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "Modelfile"
    with pytest.raises(NotFound, match="no such file"):
        read(path)
    path.write_bytes(b"\xef\xbb\xbfFROM a\n")
    assert read(path).base == "a"
    path.write_bytes(b"FROM \xff")
    with pytest.raises(BadInput, match="not UTF-8"):
        read(path)
    path.write_bytes(b"#" * (MAX_FILE + 1))
    with pytest.raises(BadInput, match="too many"):
        read(path)


PROSE = st.text(st.characters(exclude_characters="\r", exclude_categories=("Cs",)), max_size=60)
WORD = st.from_regex(r"[a-z][a-z0-9./:]{0,20}", fullmatch=True)


@given(
    st.builds(
        Modelfile,
        base=WORD,
        parameters=st.builds(
            Parameters,
            sampling=st.builds(
                Sampling,
                temperature=st.none() | st.sampled_from([0.0, 0.25, 2.0]),
                top_k=st.none() | st.integers(0, 100),
                seed=st.none() | st.integers(-9, 9),
            ),
            stop=st.lists(PROSE.filter(bool), max_size=3).map(tuple),
            max_tokens=st.none() | st.integers(1, 1 << 20),
            context_length=st.none() | st.integers(16, 1 << 24),
        ),
        template=st.none() | PROSE,
        system=st.none() | PROSE,
        adapters=st.lists(WORD, max_size=2).map(tuple),
        licences=st.lists(PROSE, max_size=2).map(tuple),
        messages=st.lists(
            st.builds(Message, role=st.sampled_from(["system", "user", "assistant"]), content=PROSE), max_size=3
        ).map(tuple),
    )
)
def test_what_is_written_reads_back(made: Modelfile) -> None:
    try:
        text = made.text()
    except Unsupported:
        return
    found = parse(text)
    for field in ("base", "parameters", "template", "system", "adapters", "licences", "messages"):
        assert getattr(found, field) == getattr(made, field), text


@given(st.text())
def test_any_text_is_a_modelfile_or_one_line(text: str) -> None:
    for given_text in (text, "FROM a\n" + text):
        try:
            parse(given_text)
        except FreeholdError as error:
            assert "\n" not in error.line()  # noqa: PT017


def test_quotes_that_cannot_be_written() -> None:
    for text in ('a\n"', 'a\n"""b', '""'):
        with pytest.raises(Unsupported):
            quoted(text)


NUMBERS = st.builds(
    Sampling,
    temperature=st.none() | st.floats(0, 2),
    top_p=st.none() | st.floats(0, 1),
    top_k=st.none() | st.integers(0, 1 << 20),
    min_p=st.none() | st.floats(0, 1),
    repeat_penalty=st.none() | st.floats(0, 10),
    presence_penalty=st.none() | st.floats(-2, 2),
    frequency_penalty=st.none() | st.floats(-2, 2),
    seed=st.none() | st.integers(-(1 << 53), 1 << 53),
)
GIVEN = st.builds(
    Parameters,
    sampling=NUMBERS,
    stop=st.lists(st.text(st.sampled_from("ab <|>:\n"), min_size=1, max_size=6), max_size=4, unique=True).map(tuple),
    max_tokens=st.none() | st.integers(1, 1 << 20),
    context_length=st.none() | st.integers(16, 1 << 24),
)


@given(GIVEN)
def test_no_parameter_changes_on_its_way_through_a_modelfile(given_parameters: Parameters) -> None:
    """Every digit counts: a seed or a temperature that is nearly the same draws other tokens."""
    assert parse(Modelfile(base="base", parameters=given_parameters).text()).parameters == given_parameters
