"""What the stand-ins of one notebook share: the values that the user gave, and where models and data are."""

import sys
from pathlib import Path
from typing import Any

import msgspec

from freehold.core.errors import BadInput, BadName, Forbidden, NotFound
from freehold.core.name import Name
from freehold.core.settings import load
from freehold.notebooks.job import NotebookJob

_KINDS = ("json", "csv", "parquet", "text")
"""Names by which load_dataset reads files of one's own."""


class Session:
    """One notebook's run."""

    def __init__(self, job: NotebookJob) -> None:
        self.job = job
        self.peak = 0
        """Bytes that a trainer held at most."""
        self._asked: set[str] = set()
        self._said: set[str] = set()
        self._folders = 0

    def value(self, name: str, given: Any) -> Any:
        """What `name` is: what the user gave, else `given`."""
        if name not in self.job.values:
            return given
        self._asked.add(name)
        return self.job.values[name]

    def values(self, options: dict[str, Any], *more: str) -> dict[str, Any]:
        """Options with the user's values in place of their own, and with those of `more` that the user gave."""
        names = (*options, *(name for name in more if name in self.job.values))
        return {name: self.value(name, options.get(name)) for name in names}

    def unused(self) -> tuple[str, ...]:
        """Values that nothing asked for."""
        return tuple(name for name in self.job.values if name not in self._asked)

    def say(self, text: str) -> None:
        """Tell the user something, once, beside what the notebook prints."""
        if text not in self._said:
            self._said.add(text)
            print(f"freehold: {text}", file=sys.__stderr__, flush=True)

    def room(self, what: str) -> Path:
        """A folder of its own, which is removed after the run."""
        self._folders += 1
        folder = self.job.work / f"{self._folders}-{what}"
        folder.mkdir(parents=True)
        return folder

    def model(self, name: str) -> Path:
        """A folder with the weights that `name` means here. Raises NotFound naming the way to a local one."""
        if not name:
            raise BadInput("no model is named", "Write model_name = ..., or name a local one: --model NAME")
        if Path(name).is_dir():
            return Path(name).absolute()
        wanted = self.job.model or name
        if wanted != name:
            self.say(f"{name} is {wanted} here")
        if Path(wanted).is_dir():
            return Path(wanted).absolute()
        return self._stored(wanted, name)

    def _stored(self, wanted: str, name: str) -> Path:
        from freehold.store import Store, importing

        settings = load({"home": self.job.home})
        with Store.open(settings.store, quota=settings.quota) as store:
            try:
                manifest = store.get(Name.parse(wanted))
            except (NotFound, BadName) as error:
                raise NotFound(
                    f"the model {name!r} is not on this machine",
                    "Name one that is, with safetensors weights: --model NAME ('freehold list' shows them)",
                ) from error
            if not any(part.role == "weights" for part in manifest.parts):
                raise BadInput(f"{wanted} has no safetensors weights", "Name a model that has: --model NAME")
            folder = self.room("base")
            importing.materialise(store, manifest, folder)
        return folder

    def from_a_hub(self, path: str) -> bool:
        """Whether load_dataset would fetch this."""
        return path not in _KINDS and not Path(path).exists()

    def records(self, path: str, files: Any) -> tuple[str, list[dict[str, Any]]]:
        """The name and the records of a data set on this machine. Raises NotFound and BadData."""
        found = files or path
        if self.from_a_hub(path) or "://" in str(found):
            if not self.job.data:
                raise NotFound(f"the data set {found!r} is not on this machine", "Name a file that is: --data FILE")
            self.say(f"the data set {found} is {self.job.data} here")
            found = self.job.data
        paths = found if isinstance(found, list | tuple) else [found]
        return str(found), [record for each in paths for record in _records(Path(each))]

    def refuse(self, what: str) -> None:
        """Raises Forbidden: nothing leaves the machine."""
        raise Forbidden(
            f"{what} would send the model away, and a notebook that Freehold runs sends nothing",
            "Skip the cell with --skip, and push what you want to with 'freehold push'",
        )

    def ignored(self, what: str, options: dict[str, Any]) -> None:
        """Say which options are set and not followed."""
        names = sorted(name for name, value in options.items() if not _unset(value))
        if names:
            self.say(f"{what}: not followed here: {', '.join(f'{name} = {options[name]!r}' for name in names)}")


def _unset(value: Any) -> bool:
    """Whether a value asks for nothing. Of arrays and tensors nobody may ask whether they are equal to something."""
    return value is None or (isinstance(value, bool | float | int | str | list) and value in (False, "none", "", []))


def _records(path: Path) -> list[dict[str, Any]]:
    """The rows of a data file in any form that Freehold reads. Raises BadData and NotFound."""
    from freehold.data.readers import readers

    if not path.is_file():
        raise NotFound(f"no such data file: {path}", "Name one with --data FILE; paths start at the notebook")
    with path.open("rb") as file:
        head = file.read(1 << 16).removeprefix(b"\xef\xbb\xbf")
    reader = max(readers().values(), key=lambda reader: reader.likelihood(head, path.suffix.lower()))
    return [msgspec.to_builtins(record) for _, record in reader.read(path).records]
