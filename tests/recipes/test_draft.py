"""A recipe for a data file: it can be run as it is, and says what was seen."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from freehold import data
from freehold.core.errors import BadData, Unsupported
from freehold.recipes.draft import draft
from freehold.recipes.schema import parse
from tests.recipes.kit import TOPICS, pairs, write_csv


def test_recipe_of_a_csv(tmp_path: Path) -> None:
    made = draft(write_csv(tmp_path / "My tickets (2).csv"), tmp_path)
    recipe = parse(tomllib.loads(made.text), tmp_path / "r.toml")
    assert made.name == recipe.model.name == "my-tickets-2"
    assert recipe.data.path == "My tickets (2).csv"
    assert recipe.data.columns == {"user": "question", "assistant": "answer"}
    found = dict(made.findings)
    assert found["format"] == "csv"
    assert found["rows"] == "72, with 24 different answers"
    assert found["held out"].startswith("7 rows")
    assert "72 groups" in found["near-duplicates"]
    assert "cut" not in found
    assert "user text is in column 'question'" in made.notes


def test_path_from_elsewhere_is_absolute(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv")
    recipe = parse(tomllib.loads(draft(path, tmp_path / "other").text), tmp_path / "r.toml")
    assert Path(recipe.data.path) == path


def test_odd_names_are_quoted(tmp_path: Path) -> None:
    path = tmp_path / 'ein "Ü\x7f\\.csv'
    rows = "".join(f"{q}\t{a}\n" for q, a in pairs())
    path.write_text('Quéstion "x"\tanswer\n' + rows)
    with pytest.raises(BadData):
        draft(path, tmp_path)
    path.write_text("Customer Message\tanswer\n" + rows)
    recipe = parse(tomllib.loads(draft(path, tmp_path).text), tmp_path / "r.toml")
    assert (tmp_path / recipe.data.path) == path
    assert data.load(path, columns=recipe.data.columns, format=recipe.data.format).rows


def test_chat_file_has_no_columns(tmp_path: Path) -> None:
    turns = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in pairs()]
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps({"messages": each}) + "\n" for each in turns))
    made = draft(path, tmp_path)
    assert parse(tomllib.loads(made.text), path).data.columns == {}
    assert "columns" not in dict(made.findings)


@pytest.mark.parametrize(("head", "figure"), [("query,passage", "MRR"), ("sentence1,sentence2,score", "Spearman")])
def test_pairs_of_texts_are_for_vectors(tmp_path: Path, head: str, figure: str) -> None:
    lines = [f"{question},{answer},{number / 100}" for number, (question, answer) in enumerate(pairs())]
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join([head, *(line if "score" in head else line.rpartition(",")[0] for line in lines)]) + "\n")
    made = draft(path, tmp_path)
    recipe = parse(tomllib.loads(made.text), tmp_path / "r.toml")
    assert (recipe.tune.objective, recipe.data.kind) == ("embed", "pair")
    assert f"# {figure} that tuning must gain" in made.text


def test_rows_that_would_be_cut_are_counted(tmp_path: Path) -> None:
    long = ("Tell me everything", " ".join(f"word{number}" for number in range(2000)))
    made = draft(write_csv(tmp_path / "a.csv", [*pairs(), long]), tmp_path)
    assert dict(made.findings)["cut"].startswith("1 rows are longer")


def test_name_that_cannot_be_one(tmp_path: Path) -> None:
    assert draft(write_csv(tmp_path / "---.csv"), tmp_path).name == "model"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ({"prompt": "{}?", "chosen": "yes {}", "rejected": "no"}, {"objective": "dpo"}),
        ({"prompt": "{}?", "completion": "yes {}", "label": True}, {"objective": "kto"}),
        ({"prompt": "{}?", "solution": "7"}, {"objective": "grpo", "rewards": ("maths",)}),
        ({"prompt": "{}?", "solution": "word {}"}, {"objective": "grpo", "rewards": ("exact",)}),
    ],
)
def test_a_recipe_learns_from_the_rows_that_there_are(
    tmp_path: Path, rows: dict[str, Any], said: dict[str, Any]
) -> None:
    path = tmp_path / "rows.jsonl"
    filled = [{key: str(value).format(topic) for key, value in rows.items()} for topic in TOPICS]
    path.write_text("\n".join(json.dumps(row) for row in filled))
    recipe = parse(tomllib.loads(draft(path, tmp_path).text), tmp_path / "rows.toml")
    assert {key: getattr(recipe.tune, key) for key in said} == said


@pytest.mark.parametrize(
    ("rows", "command"),
    [
        ({"text": "Text {} and more."}, "tune BASE {} --out NAME --objective text"),
        ({"text": "Text {} and more.", "label": "a"}, "tune BASE {} --out NAME --objective classify"),
        ({"prompt": "{}?"}, "tune BASE {} --out NAME --objective grpo --reward RULE"),
    ],
)
def test_what_is_only_tuned_is_told_how(tmp_path: Path, rows: dict[str, str], command: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({key: text.format(each) for key, text in rows.items()}) for each in TOPICS))
    with pytest.raises(Unsupported) as caught:
        draft(path, tmp_path)
    assert caught.value.remedy == "Run: freehold " + command.format(path)
