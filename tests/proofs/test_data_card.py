"""The data card is a view of facts: what is not known stands in it as a gap, and no text of the data does."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.digest import Digest
from freehold.core.errors import BadData
from freehold.data.checks import Found, Material, examine
from freehold.data.findings import finding
from freehold.proofs import card as model_card
from freehold.proofs import data_card
from tests.data import strategies

SIDES = data_card.Sides(Digest.of_bytes(b"train"), Digest.of_bytes(b"held out"))
FOUND = Found(
    (finding("empty", "dropped", "row{s} without an answer {are} left out", [3, 9]),),
    {"rows": 1200, "held_out.rows": 30, "language": "en", "pii.email": 2, "near_duplicates.similarity": 0.8},
    {"languages": (("en", 900), ("de", 300))},
)


def test_facts_are_about_their_side_and_graded() -> None:
    content = json.loads(data_card.evidence(SIDES, FOUND, {"kind": "chat"}, {"licence": "CC0-1.0"}))
    facts = {fact["name"]: fact for fact in content["facts"]}
    assert facts["data.rows"]["subject"]["text"] == SIDES.train.text
    assert facts["data.held_out.rows"]["subject"]["text"] == SIDES.held_out.text  # type: ignore[union-attr]
    grades = {name: fact["grade"] for name, fact in facts.items()}
    assert grades["data.rows"] == grades["data.dropped.empty"] == "verified"
    assert grades["data.language"] == grades["data.pii.email"] == "inferred"
    assert grades["data.licence"] == "declared"
    assert grades["data.consent"] == "unknown"
    assert facts["data.consent"]["value"] is None
    assert facts["data.dropped.empty"]["value"] == 2


def test_the_card() -> None:
    text = data_card.card(data_card.evidence(SIDES, FOUND, {"kind": "chat"}, {"licence": "CC0-1.0"}))
    assert text.startswith("# Data card\n")
    assert f"| digest of the rows to learn from | {SIDES.train.text} | verified |" in text
    assert "| rows | 1,200 | verified |" in text
    assert "| The licence under which it may be used | CC0-1.0 | declared |" in text
    assert text.count(": nobody said.") == len(data_card.ABOUT) - 1
    assert "| 2 rows without an answer are left out | dropped | line 3, 9 |" in text
    assert "| en | 900 | 75.0% |" in text
    assert "No sentence" not in text


def test_reasons_that_quote_the_data_stay_here() -> None:
    told = finding("broken", "dropped", "broken row{s} {are} left out", [(3, "has the label 'Ann Lee'")])
    content = data_card.evidence(SIDES, Found((told,)), {}, {})
    assert b"Ann Lee" not in content
    assert "| 1 broken row is left out | dropped | line 3 |" in data_card.card(content)


def test_a_card_without_findings_and_without_gaps() -> None:
    about = dict.fromkeys(data_card.ABOUT, "said")
    text = data_card.card(data_card.evidence(data_card.Sides(SIDES.train), Found(), {}, about))
    assert "Nothing was found wrong." in text
    assert "None of the questions that are asked here is open." in text
    assert "held out" not in text


def test_what_is_declared_is_no_markup() -> None:
    text = data_card.card(data_card.evidence(SIDES, FOUND, {}, {"source": "a | b\n# <b>x</b>"}))
    assert r"a \| b # \<b\>x\</b\>" in text


def test_the_model_card_reads_the_same_facts() -> None:
    facts = model_card.facts_in(data_card.evidence(SIDES, FOUND, {"kind": "chat"}, {}))
    assert {"data.kind", "data.rows", "data.licence"} <= {fact["name"] for fact in facts}
    assert "| data.consent | unknown | unknown |" in model_card._facts(facts)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1]", b'{"kind": "data"}', b'{"facts": 5, "findings": [], "tables": {}}']
)
def test_what_is_no_such_evidence(content: bytes) -> None:
    with pytest.raises(BadData, match="no evidence about data"):
        data_card.card(content)


def test_evidence_is_told_from_other_evidence() -> None:
    assert data_card.is_one(data_card.evidence(SIDES, FOUND, {}, {}))
    assert not data_card.is_one(b'{"kind": "training"}')
    assert not data_card.is_one(b"\xff")


@given(st.lists(strategies.ANY, min_size=1, max_size=6))
def test_any_rows_have_a_card(rows: list[object]) -> None:
    found = examine(Material(rows=tuple(rows)))  # type: ignore[arg-type]
    content = data_card.evidence(data_card.Sides(SIDES.train), found, {"kind": "mixed"}, {})
    assert data_card.evidence(data_card.Sides(SIDES.train), found, {"kind": "mixed"}, {}) == content
    assert data_card.card(content).endswith("\n")
