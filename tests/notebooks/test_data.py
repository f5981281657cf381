"""What stands in for `datasets`: columns of rows, on files of this machine."""

import json
from pathlib import Path
from typing import Any

import pytest

from freehold.core.errors import BadInput, NotFound
from freehold.notebooks.job import NotebookJob
from freehold.notebooks.shim.data import Dataset, loader, standardize
from freehold.notebooks.shim.session import Session

ROWS = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}, {"a": 3, "b": "z"}]


def session(folder: Path, **fields: Any) -> Session:
    job = {"notebook": folder / "n.ipynb", "out": folder / "o.ipynb", "home": folder, "work": folder / "work"}
    return Session(NotebookJob(**(job | fields)))


def test_rows_and_columns() -> None:
    made = Dataset.from_list(ROWS)
    assert (len(made), made.column_names, made.shape) == (3, ["a", "b"], (3, 2))
    assert (made[1], made["b"], made[-1]["a"]) == ({"a": 2, "b": "y"}, ["x", "y", "z"], 3)
    assert made[:2] == {"a": [1, 2], "b": ["x", "y"]}
    assert list(made) == made.to_list() == ROWS
    assert "num_rows: 3" in repr(made)
    with pytest.raises(BadInput, match="different lengths"):
        Dataset({"a": [1], "b": []})


def test_map() -> None:
    made = Dataset.from_list(ROWS)
    whole = made.map(
        lambda batch: {"text": [f"{a}{b}" for a, b in zip(batch["a"], batch["b"], strict=True)]}, batched=True
    )
    assert whole["text"] == ["1x", "2y", "3z"]
    assert whole.column_names == ["a", "b", "text"]
    assert made.map(lambda row: {"a": row["a"] * 2}, remove_columns="b").to_list() == [{"a": 2}, {"a": 4}, {"a": 6}]
    assert made.map(lambda row, index: {"n": index}, with_indices=True)["n"] == [0, 1, 2]
    assert made.map(lambda row, plus: {"a": row["a"] + plus}, fn_kwargs={"plus": 1})["a"] == [2, 3, 4]
    fewer = made.map(lambda batch: {"c": batch["a"][:1]}, batched=True, batch_size=3, remove_columns=["a", "b"])
    assert fewer.to_list() == [{"c": 1}]


def test_choosing_rows_and_columns() -> None:
    made = Dataset.from_list(ROWS)
    assert made.filter(lambda row: row["a"] > 1)["b"] == ["y", "z"]
    assert made.select(range(1))["a"] == [1]
    assert sorted(made.shuffle(seed=3)["a"]) == [1, 2, 3]
    assert made.shuffle(seed=3)["a"] == made.shuffle(seed=3)["a"]
    parts = made.train_test_split(test_size=1, seed=1)
    assert (len(parts["train"]), len(parts["test"])) == (2, 1)
    assert made.rename_column("a", "c").column_names == ["c", "b"]
    assert made.remove_columns(["a"]).column_names == ["b"]
    assert made.add_column("c", [0, 0, 0])[0] == {"a": 1, "b": "x", "c": 0}


def test_files_are_loaded(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    load = loader(session(tmp_path))
    assert load("json", data_files=str(path), split="train").to_list() == ROWS
    assert load(str(path))["train"].to_list() == ROWS
    assert load("json", data_files={"train": [str(path)]}, split="train[1:]")["a"] == [2, 3]
    assert load("json", data_files=str(path), split="train[:34%]")["a"] == [1]
    with pytest.raises(NotFound, match=r"no such data file: .*nothing"):
        load("json", data_files="nothing.jsonl", split="train")
    with pytest.raises(NotFound, match="'org/set' is not on this machine"):
        load("org/set", split="train")
    with pytest.raises(NotFound, match="not on this machine"):
        load("json", data_files="https://example.org/rows.jsonl", split="train")


def test_what_the_user_names_stands_for_a_hub(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("instruction,output\nadd,2\n")
    made = loader(session(tmp_path, data=str(path)))("org/set", split="train")
    assert made.to_list() == [{"instruction": "add", "output": "2"}]


def test_conversations_of_sharegpt_are_those_of_templates() -> None:
    turns = [{"from": "system", "value": "s"}, {"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    [row] = standardize(Dataset.from_list([{"conversations": turns}]))
    assert row["conversations"] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a"},
    ]
    plain = Dataset.from_list(ROWS)
    assert standardize(plain) is plain


def test_values_of_the_user_take_the_place_of_others(tmp_path: Path) -> None:
    given = session(tmp_path, values={"max_steps": 5, "r": 4})
    assert given.values({"max_steps": 60, "seed": 1}) == {"max_steps": 5, "seed": 1}
    assert given.unused() == ("r",)
    assert given.values({}, "r", "other") == {"r": 4}
    assert given.unused() == ()
