"""A card shows what the manifest and its facts say, gaps included, whatever somebody wrote into them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.core.digest import Digest
from freehold.core.manifest import Lineage
from freehold.proofs import card
from freehold.proofs.evaluate import Answer, Evaluation
from freehold.store import Store
from freehold.store.importing import import_folder, import_gguf
from tests.store.models import folder, gguf, name

SUBJECT = Digest.of_bytes(b"model")
FACT = {"subject": "x", "name": "n", "value": 1, "grade": "verified"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


def _cells(line: str) -> list[str]:
    """The cells of a row of a table, as a reader of Markdown splits them."""
    return [re.sub(r"\\(.)", r"\1", cell.strip()) for cell in re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1]]


def _row(text: str, first: str) -> list[str]:
    return next(cells for line in text.splitlines() if (cells := _cells(line)) and cells[0] == first)


@pytest.mark.parametrize(
    "evidence",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"5",
        b'{"facts": 5}',
        b'{"facts": null}',
        b'{"facts": {"a": 1}}',
        b'{"facts": [5, null, [], {}]}',
        b'{"facts": "subject name value grade"}',
        b"[" * 100_000,
        b'{"facts": ' + b"[" * 100_000,
    ],
    ids=lambda evidence: evidence[:16].decode("latin-1"),
)
def test_evidence_in_another_form_holds_no_facts(evidence: bytes) -> None:
    assert card.facts_in(evidence) == []


def test_a_fact_needs_its_four_parts_and_may_have_more() -> None:
    whole = [FACT, FACT | {"unit": "nats"}]
    parts = [{key: value for key, value in FACT.items() if key != missing} for missing in FACT]
    assert card.facts_in(json.dumps({"facts": [*whole, *parts]}).encode()) == whole


def test_an_evaluation_is_on_the_card(store: Store, tmp_path: Path) -> None:
    answers = tuple(Answer(SUBJECT, "q", "a", "a", "stop", value, 0.0) for value in (1.0, 0.0, 1.0))
    proof = store.add_bytes(Evaluation(answers).report(SUBJECT, 16))
    import_gguf(store, gguf(tmp_path / "m.gguf"), name("m"), evidence=[proof])
    text = card.of(store, name("m"))
    assert _row(text, "evaluation.token_f1") == ["evaluation.token_f1", "0.6667", "verified", SUBJECT.text]
    assert _row(text, "evaluation.rows")[1] == "3"


def test_what_is_not_known_is_said_to_be_unknown(store: Store, tmp_path: Path) -> None:
    import_folder(store, folder(tmp_path / "m"), name("m"))
    text = card.of(store, name("m"))
    assert _row(text, "licence")[1] == "unknown"
    assert "## Made from\n\nUnknown.\n" in text
    assert "## Evidence\n\nNone was recorded.\n" in text
    assert "gguf" not in text.partition("---\n\n")[0]


def test_a_base_is_named_where_it_is_known(store: Store, tmp_path: Path) -> None:
    base = import_gguf(store, gguf(tmp_path / "base.gguf"), name("org/base"))
    lineage = Lineage(base=base.digest, recipe=Digest.of_bytes(b"recipe"), data=(SUBJECT,))
    import_gguf(store, gguf(tmp_path / "m.gguf", seed=1), name("m"), lineage=lineage)
    text = card.of(store, name("m"))
    assert _row(text, "base") == ["base", base.digest.text, str(name("org/base"))]
    assert _row(text, "recipe") == ["recipe", Digest.of_bytes(b"recipe").text, ""]
    assert _row(text, "data") == ["data", SUBJECT.text, ""]


def test_every_file_is_listed_with_its_digest(store: Store, tmp_path: Path) -> None:
    made = import_folder(store, folder(tmp_path / "m"), name("m"))
    text = card.of(store, name("m"))
    for part in made.parts:
        assert _row(text, part.filename) == [part.filename, part.role, str(part.size), part.digest.text]


HOSTILE = st.text(st.sampled_from("ab|\\`*[]<>&\n\r\u2028\u202e-#: "), max_size=30)


@given(HOSTILE, HOSTILE, HOSTILE)
def test_no_fact_leaves_its_row(fact: str, value: str, grade: str) -> None:
    lines = card._facts([{"subject": "s", "name": fact, "value": value, "grade": grade}]).splitlines()
    assert lines[:2] == ["## Evidence", ""]
    [row] = lines[4:]
    bare = re.sub(r"\\[\\|`*\[\]<>&]", "", row)
    assert bare.count("|") == 5, "four cells"
    assert not set(bare) & set("`*[]<>&\\\u2028\u202e")


@given(st.text(max_size=30))
def test_the_front_matter_is_as_many_lines_as_it_has_keys(licence: str) -> None:
    """A licence comes out of a file's header: it must not bring keys of its own."""
    from freehold.core.manifest import Manifest

    lines = card._front(Manifest(parts=(), licence=licence)).split("\n")
    assert lines[0] == lines[-2] == "---"
    values = dict(line.split(": ", 1) for line in lines[1:-2])
    assert set(values) == ({"tags", "license"} if licence else {"tags"})
    if licence:
        assert json.loads(values["license"]) == licence.lower()


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.123456, "0.1235"), (3, "3"), (True, "True"), (None, "unknown"), ({"text": "sha256:1"}, "sha256:1")],
)
def test_how_a_value_is_shown(value: object, shown: str) -> None:
    text = card._facts([FACT | {"value": value}])
    assert _row(text, "n")[1] == shown
