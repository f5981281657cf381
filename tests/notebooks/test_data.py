"""What stands in for `datasets`: columns of rows, on files of this machine."""

import json
from pathlib import Path
from typing import Any

import pytest

from freehold.core.errors import BadInput, NotFound
from freehold.notebooks.job import NotebookJob
from freehold.notebooks.shim.data import Dataset, chosen, loader, standardize
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


def test_batches_are_as_large_as_is_asked() -> None:
    made = Dataset.from_list(ROWS)

    def sizes(**options: Any) -> list[int]:
        seen: list[int] = []
        whole = made.map(lambda batch: seen.append(len(batch["a"])), batched=True, **options)
        assert whole.to_list() == ROWS, "what gives nothing back changes nothing"
        return seen

    assert sizes() == sizes(batch_size=None) == sizes(batch_size=-1) == sizes(batch_size=0) == [3]
    assert sizes(batch_size=2) == [2, 1]
    assert sizes(batch_size=1) == [1, 1, 1]
    assert made.map(lambda row: None).to_list() == ROWS
    assert Dataset({"a": []}).map(lambda batch: {"b": batch["a"]}, batched=True, batch_size=-1).to_list() == []


def test_functions_are_given_the_columns_that_they_ask_for() -> None:
    made = Dataset.from_list(ROWS)
    assert made.map(lambda b, a: {"c": f"{a}{b}"}, input_columns=["b", "a"])["c"] == ["1x", "2y", "3z"]
    assert made.map(lambda a: {"a": [n + 1 for n in a]}, input_columns="a", batched=True)["a"] == [2, 3, 4]
    batched = made.map(
        lambda a, at, plus: {"n": [plus + each for each in at]}, input_columns="a", batched=True, batch_size=2,
        with_indices=True, fn_kwargs={"plus": 10},
    )  # fmt: skip
    assert batched["n"] == [10, 11, 12]


@pytest.mark.parametrize(
    ("options", "function"),
    [
        ({}, lambda row: row["a"] != 2),
        ({"batched": True}, lambda rows: [a != 2 for a in rows["a"]]),
        ({"with_indices": True}, lambda row, index: index != 1),
        ({"with_indices": True, "batched": True}, lambda rows, at: [index != 1 for index in at]),
        ({"input_columns": "a"}, lambda a: a != 2),
        ({"input_columns": ["b", "a"], "fn_kwargs": {"no": 2}}, lambda b, a, no: a != no),
        ({"num_proc": 4, "desc": "sifting"}, lambda row: row["b"] != "y"),
    ],
)
def test_rows_are_filtered_however_a_function_says_so(options: dict[str, Any], function: Any) -> None:
    assert Dataset.from_list(ROWS).filter(function, **options)["a"] == [1, 3]


def test_of_filtered_rows_none_may_be_left() -> None:
    none = Dataset.from_list(ROWS).filter(lambda row: False)
    assert (len(none), none.column_names, none.to_list()) == (0, ["a", "b"], [])


@pytest.mark.parametrize(
    ("options", "train", "test"),
    [
        ({}, 7, 3),  # a quarter, rounded up
        ({"test_size": 0.1}, 9, 1),
        ({"test_size": 0.11}, 8, 2),
        ({"test_size": 3}, 7, 3),
        ({"train_size": 0.8}, 8, 2),
        ({"train_size": 4}, 4, 6),
        ({"train_size": 4, "test_size": 2}, 4, 2),
        ({"train_size": 0.5, "test_size": 0.25}, 5, 3),
    ],
)
def test_parts_are_as_large_as_datasets_makes_them(options: dict[str, Any], train: int, test: int) -> None:
    made = Dataset({"n": list(range(10))})
    parts = made.train_test_split(**options, seed=3)
    assert (len(parts["train"]), len(parts["test"])) == (train, test)
    assert not set(parts["train"]["n"]) & set(parts["test"]["n"])
    assert parts["train"]["n"] == made.train_test_split(**options, seed=3)["train"]["n"]
    plain = made.train_test_split(**options, shuffle=False)
    assert plain["train"]["n"] == list(range(train))
    assert plain["test"]["n"] == list(range(train, train + test))


@pytest.mark.parametrize("options", [{"test_size": 1.0}, {"test_size": 0}, {"test_size": 11}, {"train_size": 10}])
def test_parts_without_rows_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="10 rows make no"):
        Dataset({"n": list(range(10))}).train_test_split(**options)


def test_more_rows_than_there_are_are_refused() -> None:
    """A file of the user's is smaller than the hub's set in whose place it is."""
    with pytest.raises(BadInput, match=r"has 3 rows, and no row 3"):
        Dataset.from_list(ROWS).select(range(1000))
    assert Dataset.from_list(ROWS).select([2, 0, -1])["a"] == [3, 1, 3]


@pytest.mark.parametrize(
    ("split", "rows"),
    [
        ("train", range(10)),
        ("train[:3]", range(3)),
        ("train[3:]", range(3, 10)),
        ("train[2:4]", range(2, 4)),
        ("train[:20%]", range(2)),
        ("train[80%:]", range(8, 10)),
        ("train[:-2]", range(8)),
        ("train[-20%:]", range(8, 10)),
        ("train[-3:-1]", range(7, 9)),
        ("train[-99:]", range(10)),
        ("train[:1000]", range(10)),
        ("train[:0]", range(0)),
        ("train[50:60]", range(0)),
    ],
)
def test_splits(split: str, rows: range) -> None:
    assert list(chosen(split, 10)) == list(rows)


@pytest.mark.parametrize("split", ["train+test", "train[1]", "train[a:b]", "", "train[:10%", "train[0.5:]"])
def test_splits_that_are_not_understood_are_refused(split: str) -> None:
    with pytest.raises(BadInput, match="is not understood"):
        chosen(split, 10)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Files of rows to train and to test."""
    paths = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    for path, row in zip(paths, ({"a": "train"}, {"a": "test"}), strict=True):
        path.write_text(json.dumps(row) + "\n")
    return paths


def test_each_split_has_its_own_file(tmp_path: Path, two: tuple[Path, Path], capfd: pytest.CaptureFixture[str]) -> None:
    """Or a notebook would measure on what it learned."""
    load, files = loader(session(tmp_path)), {"train": str(two[0]), "test": [str(two[1])]}
    assert load("json", data_files=files, split="test").to_list() == [{"a": "test"}]
    assert load("json", data_files=files, split="train[:50%]").to_list() == []
    assert [each["a"] for each in load("json", data_files=files, split=["test", "train"])] == [["test"], ["train"]]
    whole = load("json", data_files=files)
    assert (list(whole), whole["test"]["a"]) == (["train", "test"], ["test"])
    assert load("json", data_files=[str(path) for path in two], split="train")["a"] == ["train", "test"]
    with pytest.raises(BadInput, match="'json' has no split 'dev', only train, test"):
        load("json", data_files=files, split="dev")
    assert capfd.readouterr().err == ""


def test_of_one_file_other_splits_are_told_to_be_the_same_rows(
    tmp_path: Path, two: tuple[Path, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    load = loader(session(tmp_path, data=str(two[0])))
    assert load("org/set", split="train")["a"] == ["train"]
    assert "same rows" not in capfd.readouterr().err
    assert load("org/set", split="test[:10]")["a"] == ["train"]
    assert "split 'test[:10]' of org/set has the same rows as 'train' here" in capfd.readouterr().err
    files = {"train": "https://example.org/a.json", "test": "https://example.org/b.json"}
    assert load("org/set", data_files=files, split="test")["a"] == ["train"]


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").touch()
    with pytest.raises((BadInput, NotFound), match=r"none\.jsonl"):
        loader(session(tmp_path))(str(tmp_path / "none.jsonl"))


def test_turns_that_are_in_the_words_of_templates_keep_what_they_have() -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    turns = [{"role": "human", "content": "q", "weight": 0}, call]
    [row] = standardize(Dataset.from_list([{"messages": turns, "id": 7}]))
    assert row == {"messages": [{"role": "user", "content": "q", "weight": 0}, call], "id": 7}


def test_rows_that_lack_something_have_none() -> None:
    made = Dataset.from_list([{"a": 1}, {"b": 2}])
    assert made.to_list() == [{"a": 1, "b": None}, {"a": None, "b": 2}]
    assert (len(Dataset.from_list([])), Dataset({}).column_names) == (0, [])


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, False), (False, False), (0, False), (0.0, False), ("none", False), ("", False), ([], False),
        (True, True), (0.1, True), ("all", True), ({"a": 1}, True),
    ],
)  # fmt: skip
def test_what_is_not_followed_is_told_unless_it_asks_for_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], value: Any, told: bool
) -> None:
    found = session(tmp_path)
    for _ in range(2):
        found.ignored("f", {"option": value})
    assert capfd.readouterr().err.count(f"f: not followed here: option = {value!r}") == told


def test_arrays_among_the_options_are_told_of(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    session(tmp_path).ignored("f", {"weights": np.ones(3)})
    assert "weights = array([1., 1., 1.])" in capfd.readouterr().err


def test_no_model_at_all_is_refused(tmp_path: Path) -> None:
    """And is not the folder where the notebook lies."""
    with pytest.raises(BadInput, match="no model is named"):
        session(tmp_path).model("")
