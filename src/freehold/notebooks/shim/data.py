"""What notebooks do with `datasets`, on files of this machine, for where that package is not installed."""

import math
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

from freehold.core.errors import BadInput
from freehold.notebooks.shim.session import Session

_BATCH = 1000
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatgpt": "assistant"}
"""ShareGPT's words for who speaks."""
_SPLIT = re.compile(r"(\w+)(?:\[(-?\d*)(%?):(-?\d*)(%?)\])?")
Columns = dict[str, list[Any]]


class Dataset:
    """Rows in columns of equal length. Nothing is changed in place."""

    def __init__(self, columns: Mapping[str, Sequence[Any]]) -> None:
        self._columns: Columns = {name: list(values) for name, values in columns.items()}
        if len({len(values) for values in self._columns.values()}) > 1:
            raise BadInput("the columns of a data set are of different lengths", "Give one value for each row")

    @classmethod
    def from_list(cls, rows: Sequence[Mapping[str, Any]]) -> "Dataset":
        """From rows; what a row lacks is None."""
        names = dict.fromkeys(name for row in rows for name in row)
        return cls({name: [row.get(name) for row in rows] for name in names})

    @classmethod
    def from_dict(cls, columns: Mapping[str, Sequence[Any]]) -> "Dataset":
        """From columns."""
        return cls(columns)

    @classmethod
    def from_pandas(cls, frame: Any, **_: Any) -> "Dataset":
        """From a table of pandas."""
        return cls({str(name): frame[name].tolist() for name in frame.columns})

    @property
    def column_names(self) -> list[str]:
        """Names of the columns."""
        return list(self._columns)

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return len(self)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self), len(self._columns)

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()), []))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[index] for index in range(len(self)))

    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, key: str) -> list[Any]: ...
    @overload
    def __getitem__(self, key: slice) -> Columns: ...
    def __getitem__(self, key: int | str | slice) -> Any:
        if isinstance(key, str):
            return self._columns[key]
        return {name: values[key] for name, values in self._columns.items()}

    def __repr__(self) -> str:
        return f"Dataset({{\n    features: {self.column_names},\n    num_rows: {len(self)}\n}})"

    def map(
        self,
        function: Callable[..., Mapping[str, Any]],
        *,
        batched: bool = False,
        batch_size: int | None = _BATCH,
        remove_columns: Sequence[str] | str | None = None,
        fn_kwargs: Mapping[str, Any] | None = None,
        with_indices: bool = False,
        input_columns: Sequence[str] | str | None = None,
        **_: Any,
    ) -> "Dataset":
        """With the columns that `function` gives added, or put in the place of those of their name.

        What gives nothing back changes nothing.
        """
        dropped, call = _names(remove_columns), _caller(function, input_columns, with_indices, fn_kwargs)
        made: list[dict[str, Any]] = []
        step = (batch_size if batch_size and batch_size > 0 else len(self) or 1) if batched else 1
        for begin in range(0, len(self), step):
            indices = list(range(begin, min(begin + step, len(self))))
            batch: Any = self[begin : begin + step] if batched else self[begin]
            found = dict(call(batch, indices if batched else begin) or {})
            if batched:
                made += Dataset(_joined(self._kept(begin, step, dropped, found), found)).to_list()
            else:
                made.append({**{name: value for name, value in batch.items() if name not in dropped}, **found})
        return Dataset.from_list(made)

    def _kept(self, begin: int, step: int, dropped: Sequence[str], found: Mapping[str, Sequence[Any]]) -> Columns:
        """The columns that stay beside what was found; with another number of rows, none can."""
        count = len(next(iter(found.values()), ()))
        kept = {name: values[begin : begin + step] for name, values in self._columns.items() if name not in dropped}
        return kept if all(len(values) == count for values in kept.values()) or not found else {}

    def filter(
        self,
        function: Callable[..., Any],
        *,
        batched: bool = False,
        fn_kwargs: Mapping[str, Any] | None = None,
        with_indices: bool = False,
        input_columns: Sequence[str] | str | None = None,
        **_: Any,
    ) -> "Dataset":
        """The rows for which `function` is true; of a batch it says so for each row."""
        call = _caller(function, input_columns, with_indices, fn_kwargs)
        if batched:
            kept = call(self[:], list(range(len(self))))
        else:
            kept = [call(row, index) for index, row in enumerate(self)]
        return self.select([index for index, keep in enumerate(kept) if keep])

    def select(self, indices: Sequence[int]) -> "Dataset":
        """The rows of these numbers. Raises BadInput for one that is not there."""
        chosen = list(indices)
        missing = next((index for index in chosen if not -len(self) <= index < len(self)), None)
        if missing is not None:
            raise BadInput(f"the data set has {len(self)} rows, and no row {missing}", "Give a file with more rows")
        return Dataset({name: [values[index] for index in chosen] for name, values in self._columns.items()})

    def shuffle(self, seed: int | None = None, **_: Any) -> "Dataset":
        """The rows in another order, the same for the same seed."""
        order = list(range(len(self)))
        random.Random(seed or 0).shuffle(order)  # noqa: S311  an order, not a secret
        return self.select(order)

    def train_test_split(
        self,
        test_size: float | None = None,
        train_size: float | None = None,
        shuffle: bool = True,
        seed: int | None = None,
        **_: Any,
    ) -> "dict[str, Dataset]":
        """Two parts, `train` and `test`: shares of the rows or numbers of them. Raises BadInput for an empty one."""
        total = len(self)
        if test_size is None:
            test_size = 0.25 if train_size is None else (1.0 if isinstance(train_size, float) else total) - train_size
        tested = math.ceil(round(test_size * total, 6)) if isinstance(test_size, float) else test_size
        if isinstance(train_size, float):
            train_size = math.floor(round(train_size * total, 6))
        trained = total - tested if train_size is None else int(train_size)
        if min(tested, trained) < 1 or tested + trained > total:
            raise BadInput(f"{total} rows make no {trained} to train and {tested} to test", "Change test_size")
        rows = self.shuffle(seed) if shuffle else self
        first = rows.select(range(tested)) if shuffle else rows.select(range(trained, trained + tested))
        rest = range(tested, tested + trained) if shuffle else range(trained)
        return {"train": rows.select(rest), "test": first}

    def rename_column(self, before: str, after: str) -> "Dataset":
        """With another name for a column."""
        return Dataset({after if name == before else name: values for name, values in self._columns.items()})

    def remove_columns(self, names: Sequence[str] | str) -> "Dataset":
        """Without these columns."""
        return Dataset({name: values for name, values in self._columns.items() if name not in _names(names)})

    def select_columns(self, names: Sequence[str] | str) -> "Dataset":
        """With these columns alone."""
        return Dataset({name: self._columns[name] for name in _names(names)})

    def add_column(self, name: str, column: Sequence[Any]) -> "Dataset":
        """With one more column."""
        return Dataset({**self._columns, name: column})

    def to_list(self) -> list[dict[str, Any]]:
        """All rows."""
        return list(self)

    def to_pandas(self) -> Any:
        """A table of pandas."""
        import pandas  # type: ignore[import-untyped]

        return pandas.DataFrame(self._columns)


def _caller(
    function: Callable[..., Any],
    columns: Sequence[str] | str | None,
    indexed: bool,
    given: Mapping[str, Any] | None,
) -> Callable[[Mapping[str, Any], Any], Any]:
    """A function as it is told of a row or a batch: whole, or by some columns; their numbers too, if it asks."""
    names = _names(columns)

    def call(batch: Mapping[str, Any], at: Any) -> Any:
        values = [batch[name] for name in names] if names else [batch]
        return function(*values, *([at] if indexed else []), **(given or {}))

    return call


def loader(session: Session) -> Callable[..., Any]:
    """`load_dataset` for files of this machine, and for what the user named in place of a hub's."""

    def load_dataset(
        path: str, name: str | None = None, data_files: Any = None, split: Any = None, **_: Any
    ) -> "Dataset | dict[str, Dataset] | list[Dataset]":
        if isinstance(split, list | tuple):
            return [part(path, data_files, str(each)) for each in split]
        if split is not None:
            return part(path, data_files, str(split))
        names = map(str, data_files) if isinstance(data_files, dict) else ["train"]
        return {each: load(path, data_files, each) for each in names}

    def load(path: str, files: Any, split: str) -> Dataset:
        said, records = session.records(path, _files(path, files, split))
        if not records:
            raise BadInput(f"{said} has no rows", "Give a file that has")
        return Dataset.from_list(records)

    def part(path: str, files: Any, split: str) -> Dataset:
        """`train[:500]` and `train[10%:20%]` as `datasets` means them; of one file every split has all rows."""
        if not isinstance(files, dict) or session.from_a_hub(path):
            tell_same(session, path, split)
        whole = load(path, files, split)
        return whole.select(chosen(split, len(whole)))

    return load_dataset


def tell_same(session: Session, path: str, split: str) -> None:
    """Say that what a notebook may measure on is what it learns from."""
    if _split_name(split) != "train":
        session.say(f"split {split!r} of {path} has the same rows as 'train' here: it is one file")


def _split_name(split: str) -> str:
    return split.partition("[")[0]


def _files(path: str, files: Any, split: str) -> Any:
    """Those of a split, where each has its own."""
    if not isinstance(files, dict):
        return files
    name = _split_name(split)
    if name not in files:
        raise BadInput(f"the data set {path!r} has no split {name!r}, only {', '.join(map(str, files))}", "Name one")
    return files[name]


def chosen(split: str, count: int) -> range:
    """Which of `count` rows a split takes. Raises BadInput."""
    found = _SPLIT.fullmatch(split)
    if found is None:
        raise BadInput(f"the split {split!r} is not understood", "As in split = 'train[:500]'")
    ends = []
    for text, percent, otherwise in ((found[2], found[3], 0), (found[4], found[5], count)):
        value = otherwise if text in (None, "", "-") else int(text)
        value = round(count * value / 100) if text and percent else value
        ends.append(max(0, count + value) if value < 0 else min(value, count))
    return range(*ends)


def standardize(dataset: Any, *_: Any, **__: Any) -> Any:
    """Conversations in ShareGPT's words ("from", "value") in those of chat templates; others as they are."""
    column = next((name for name in ("conversations", "messages", "conversation") if name in dataset.column_names), "")
    if not column:
        return dataset
    rows = [[_turn(turn) for turn in conversation] for conversation in dataset[column]]
    return dataset.map(lambda _, index: {column: rows[index]}, with_indices=True)


def _turn(turn: Mapping[str, Any]) -> dict[str, Any]:
    role = turn.get("role", turn.get("from"))
    role = _ROLES.get(str(role), role)
    if "from" in turn or "value" in turn:
        return {"role": role, "content": turn.get("content", turn.get("value"))}
    return {**turn, "role": role}


def _joined(kept: Columns, found: Mapping[str, Any]) -> Columns:
    return {**kept, **{name: list(values) for name, values in found.items()}}


def _names(names: Sequence[str] | str | None) -> list[str]:
    return [names] if isinstance(names, str) else list(names or ())
