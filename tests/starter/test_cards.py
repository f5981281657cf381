"""The cards: generated parts are filled from figures, and the data card states what the generator really writes."""

import json
from pathlib import Path

import cards
import pytest
from generate import ROWS as DEFAULT_ROWS
from generate import generate
from score import score
from text.weights import WEIGHTS

from .conftest import STARTER, Text


def test_a_section_is_replaced_and_the_rest_kept():
    card = "# A\n<!-- generated: x -->\nold\n<!-- end of x -->\nend\n"
    once = cards.filled(card, "x", "new")
    assert once == "# A\n<!-- generated: x -->\n\nnew\n\n<!-- end of x -->\nend\n"
    assert cards.filled(once, "x", "new") == once


@pytest.mark.parametrize("card", ["", "<!-- generated: x -->\n<!-- end of x -->" * 2])
def test_a_card_without_its_section_is_refused(card: str):
    with pytest.raises(ValueError, match="called x"):
        cards.filled(card, "x", "new")


def test_sections_hold_backslashes_as_they_are():
    assert r"\1 \g<0>" in cards.filled("<!-- generated: x -->\n<!-- end of x -->", "x", r"\1 \g<0>")


def test_the_size_section_names_every_skill_and_file(text: Text):
    section = cards.size_section(text.sizes)
    assert all(f"| {name} |" in section for name in WEIGHTS)
    assert text.sizes["files"]["train.jsonl"]["digest"] in section
    assert "12,000" in section


def test_the_score_section_shows_wrong_answers(text: Text):
    answers = [row["messages"][-1]["content"] for row in text.held_out]
    answers[:60] = [""] * 60
    section = cards.score_section({"scores": score(text.held_out, answers), "training": {"seconds": 12}})
    assert "| arithmetic | 60 | 0 | 0.0% |" in section
    assert "| all | 720 | 660 | 91.7% |" in section
    assert "| seconds | 12 |" in section


def test_the_command_fills_both_cards(tmp_path: Path, text: Text, monkeypatch: pytest.MonkeyPatch):
    for name in ("MODEL_CARD.md", "DATA_CARD.md"):
        (tmp_path / name).write_bytes((STARTER / name).read_bytes())
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"scores": score(text.held_out, ["?"] * 720)}))
    monkeypatch.setattr(cards, "HERE", tmp_path)
    sizes = text.folder / "sizes.json"
    monkeypatch.setattr("sys.argv", ["cards.py", "--sizes", str(sizes), "--report", str(report)])
    cards.main()
    assert "12,000" in (tmp_path / "DATA_CARD.md").read_text()
    assert "| all | 720 | 0 | 0.0% |" in (tmp_path / "MODEL_CARD.md").read_text()


def test_the_data_card_describes_every_skill():
    card = (STARTER / "DATA_CARD.md").read_text()
    assert all(f"| {name} |" in card for name in WEIGHTS)


@pytest.mark.slow
def test_the_data_card_states_the_real_sizes(tmp_path: Path):
    sizes = generate(tmp_path, seed=1, rows=DEFAULT_ROWS)
    assert cards.size_section(sizes) in (STARTER / "DATA_CARD.md").read_text()
