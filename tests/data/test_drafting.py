"""A model is asked about each passage of a text, and only drafts that the passage bears out are kept."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold import data
from freehold.core.digest import Digest
from freehold.core.errors import BadData
from freehold.data import drafting
from freehold.data.drafting import Draft, Passage
from freehold.data.normal import plain
from tests.data.conftest import Write
from tests.data.files import pdf

TEXT = (
    "The library opens at nine in the morning and closes at six in the evening. A card costs two pounds and lasts for "
    "three years. Books may be borrowed for three weeks."
)
PASSAGE = Passage(TEXT, "line 1")


def answer(*pairs: tuple[str, str]) -> str:
    return json.dumps({"pairs": [{"question": question, "answer": said} for question, said in pairs]})


def test_passages_of_a_text_and_of_a_pdf(write: Write, tmp_path: Path) -> None:
    found = drafting.passages(write("a.md", f"# Hours\n\n{TEXT}\n" * 20))
    assert all(80 <= len(passage.text) <= drafting.LONGEST for passage in found)
    assert found[0].place == "line 1"
    assert "# Hours" in found[0].text
    pytest.importorskip("pypdf")
    assert drafting.passages(pdf(tmp_path / "a.pdf", ["", TEXT]))[0].place == "page 2"
    with pytest.raises(BadData, match="no passage of 80 characters"):
        drafting.passages(write("b.md", "Too short."))


def test_what_a_model_is_asked() -> None:
    asked = drafting.request(PASSAGE, "starter", count=2, seed=7)
    assert TEXT in asked.messages[0].content
    assert "Write 2 questions" in asked.messages[0].content
    assert asked.constraint is not None
    assert asked.constraint.schema["properties"]["pairs"]["maxItems"] == 2
    assert (asked.sampling.seed, asked.sampling.temperature) == (7, 0.0)


def test_drafts_that_the_passage_bears_out_are_kept() -> None:
    good = ("When does the library open?", "It opens at nine in the morning.")
    found = drafting.judge(
        answer(
            good,
            ("when does the LIBRARY open", "At nine."),
            ("Who runs the library?", "The mayor's brother, since last winter."),
            ("", "At nine."),
            ("How long?", ""),
        ),
        PASSAGE,
        [],
    )
    assert found.kept == (Draft(*good),)
    assert found.reasons == (
        "the question was asked before",
        "the answer says what the passage does not",
        "the question or the answer is empty",
        "the question or the answer is empty",
    )
    again = drafting.judge(answer(good), PASSAGE, [plain(good[0])])
    assert again.reasons == ("the question was asked before",)


@pytest.mark.parametrize("text", ["", "no", '{"pairs": [', '{"pairs": [{"question": 1, "answer": "x"}]}', "[" * 9999])
def test_answers_that_broke_off(text: str) -> None:
    assert drafting.judge(text, PASSAGE, []) == ((), ("the answer broke off or is no JSON",))


@given(st.text(max_size=60))
def test_any_answer_is_judged(text: str) -> None:
    assert drafting.judge(text, PASSAGE, []).kept == ()


def test_drafts_without_blanks_and_of_another_year_are_kept() -> None:
    passage = drafting.Passage("图书馆在星期日下午四点关门，一九一四年开放。", "line 1")
    judged = drafting.judge(
        answer(("图书馆几点关门", "星期日下午四点关门"), ("图书馆在哪里", "在北京的市中心")), passage, []
    )
    assert [draft.question for draft in judged.kept] == ["图书馆几点关门"]
    asked = [plain("What happened in 1914?")]
    judged = drafting.judge(answer(("What happened in 1918?", "A war ended.")), PASSAGE, asked)
    assert "the question was asked before" not in judged.reasons


def test_rows_say_who_wrote_them(write: Write) -> None:
    source = Digest.of_bytes(b"x")
    line = drafting.line(Draft("When?", "At nine."), "starter (sha256:00)", source, "page 2")
    assert json.loads(line)["place"] == "page 2"
    assert json.loads(line)["source"] == source.text
    [row] = data.load(write("a.jsonl", line), minimum=1).rows
    assert row.synthetic == "starter (sha256:00)"
    assert row.question == "When?"
