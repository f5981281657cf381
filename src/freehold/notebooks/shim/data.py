"""What notebooks do with `datasets`, on files of this machine, for where that package is not installed."""

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

from freehold.core.errors import BadInput
from freehold.notebooks.shim.session import Session

_BATCH = 1000
_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatgpt": "assistant"}
"""ShareGPT's words for who speaks."""
_SPLIT = re.compile(r"(\w+)(?:\[(\d*)(%?):(\d*)(%?)\])?")
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
        batch_size: int = _BATCH,
        remove_columns: Sequence[str] | str | None = None,
        fn_kwargs: Mapping[str, Any] | None = None,
        with_indices: bool = False,
        **_: Any,
    ) -> "Dataset":
        """With the columns that `function` gives added, or put in the place of those of their name."""
        given, dropped = dict(fn_kwargs or {}), _names(remove_columns)
        made: list[dict[str, Any]] = []
        step = batch_size if batched else 1
        for begin in range(0, len(self), step):
            indices = list(range(begin, min(begin + step, len(self))))
            batch: Any = self[begin : begin + step] if batched else self[begin]
            extra = (indices if batched else begin,) if with_indices else ()
            found = dict(function(batch, *extra, **given))
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

    def filter(self, function: Callable[..., bool], **_: Any) -> "Dataset":
        """The rows for which `function` is true."""
        return self.select([index for index in range(len(self)) if function(self[index])])

    def select(self, indices: Sequence[int]) -> "Dataset":
        """The rows of these numbers."""
        chosen = list(indices)
        return Dataset({name: [values[index] for index in chosen] for name, values in self._columns.items()})

    def shuffle(self, seed: int | None = None, **_: Any) -> "Dataset":
        """The rows in another order, the same for the same seed."""
        order = list(range(len(self)))
        random.Random(seed or 0).shuffle(order)  # noqa: S311  an order, not a secret
        return self.select(order)

    def train_test_split(self, test_size: float = 0.25, seed: int | None = None, **_: Any) -> "dict[str, Dataset]":
        """Two parts, `train` and `test`: a share of the rows or a number of them."""
        count = round(test_size * len(self)) if isinstance(test_size, float) else test_size
        mixed = self.shuffle(seed)
        return {"train": mixed.select(range(count, len(self))), "test": mixed.select(range(count))}

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


def loader(session: Session) -> Callable[..., Any]:
    """`load_dataset` for files of this machine, and for what the user named in place of a hub's."""

    def load_dataset(
        path: str, name: str | None = None, data_files: Any = None, split: str | None = None, **_: Any
    ) -> "Dataset | dict[str, Dataset]":
        said, records = session.records(path, data_files)
        if not records:
            raise BadInput(f"{said} has no rows", "Give a file that has")
        made = Dataset.from_list(records)
        return {"train": made} if split is None else _part(made, split)

    return load_dataset


def _part(whole: Dataset, split: str) -> Dataset:
    """`train[:500]` and `train[10%:20%]` as `datasets` means them; every name means the one split that there is."""
    return whole.select(chosen(split, len(whole)))


def chosen(split: str, count: int) -> range:
    """Which of `count` rows a split takes. Raises BadInput."""
    found = _SPLIT.fullmatch(split)
    if found is None:
        raise BadInput(f"the split {split!r} is not understood", "As in split = 'train[:500]'")
    ends = []
    for text, percent, otherwise in ((found[2], found[3], 0), (found[4], found[5], count)):
        value = int(text) if text else otherwise
        ends.append(round(count * value / 100) if text and percent else value)
    return range(min(ends[0], count), min(ends[1], count))


def standardize(dataset: Any, *_: Any, **__: Any) -> Any:
    """Conversations in ShareGPT's words ("from", "value") in those of chat templates; others as they are."""
    column = next((name for name in ("conversations", "messages", "conversation") if name in dataset.column_names), "")
    if not column:
        return dataset
    rows = [[_turn(turn) for turn in conversation] for conversation in dataset[column]]
    return dataset.map(lambda _, index: {column: rows[index]}, with_indices=True)


def _turn(turn: Mapping[str, Any]) -> dict[str, Any]:
    role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
    return {"role": _ROLES.get(str(role), role), "content": content}


def _joined(kept: Columns, found: Mapping[str, Any]) -> Columns:
    return {**kept, **{name: list(values) for name, values in found.items()}}


def _names(names: Sequence[str] | str | None) -> list[str]:
    return [names] if isinstance(names, str) else list(names or ())
