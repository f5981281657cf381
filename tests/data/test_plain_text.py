"""Plain text and Markdown in sections: nothing is lost but blanks, and none is too long."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold import data
from freehold.data.readers import readers
from freehold.data.sections import LONGEST, SHORTEST, WANTED, sections
from tests.data.conftest import Write

PROSE = "The library opens at nine, and it closes at six. On Sundays it is closed.\n"


@given(
    st.text(st.sampled_from("ab \n.#\f"), max_size=300) | st.text(max_size=100),
    st.integers(1, 60),
)
def test_no_word_is_lost_and_no_section_is_too_long(text: str, longest: int) -> None:
    found = list(sections(text, longest))
    assert all(0 < len(piece) <= longest and piece == piece.strip() for _, piece in found)
    assert re.sub(r"\s", "", "".join(piece for _, piece in found)) == re.sub(r"\s", "", text)
    lines = text.split("\n")
    for line, piece in found:
        assert piece.split("\n")[0] in lines[line - 1]


def test_sections_end_where_a_text_breaks_best() -> None:
    text = "# One\n" + PROSE * 3 + "\n# Two\n" + PROSE * 3
    assert [piece.split("\n")[0] for _, piece in sections(text, 300)] == ["# One", "# Two"]
    paragraphs = "\n\n".join([PROSE.strip()] * 4)
    assert [piece for _, piece in sections(paragraphs, 160)] == [f"{PROSE}\n{PROSE}".strip()] * 2
    sentences = "One is here. Two is here. Three is here. "
    assert [piece for _, piece in sections(sentences, 30)] == ["One is here. Two is here.", "Three is here."]
    assert [piece for _, piece in sections("a\fb\n<|endoftext|>\nc")] == ["a", "b", "c"]
    assert [len(piece) for _, piece in sections("x" * 25, 10)] == [10, 10, 5]


def test_short_texts_make_enough_sections_to_hold_some_out() -> None:
    assert WANTED - 5 <= len(list(sections(PROSE * 200))) <= 2 * WANTED + 5
    assert len(list(sections(PROSE))) == 1
    assert max(len(piece) for _, piece in sections(PROSE * 5)) <= SHORTEST
    assert max(len(piece) for _, piece in sections(PROSE * 9000)) <= LONGEST


@pytest.mark.parametrize("name", ["a.txt", "a.text", "a.md", "a.markdown", "a.rst"])
def test_files_of_text(write: Write, name: str) -> None:
    found = data.load(write(name, "".join(f"{number}. {PROSE}\n" for number in range(60))))
    assert (found.format, found.kind) == ("text", "text")
    assert found.rows[0].line == 1
    assert found.rows[1].line > 2
    assert f"the text is read in {found.records} sections" in found.notes


@pytest.mark.parametrize(
    ("head", "suffix", "format"),
    [
        (PROSE.encode() * 3, ".txt", "text"),
        (b"question,answer\nHow?,So.\nWhy?,Thus.\n", ".txt", "csv"),
        (b'"question";"answer"\n"a, b";"c"\n', ".txt", "csv"),
        (b"a,b\n", ".md", "text"),
        (b"only\none\ncolumn\n", ".txt", "text"),
        (b"%PDF-1.4", ".txt", "pdf"),
    ],
)
def test_whose_file_it_is(head: bytes, suffix: str, format: str) -> None:
    assert max(readers().values(), key=lambda reader: reader.likelihood(head, suffix)).name == format
