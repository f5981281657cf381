"""What will run, and why: each task's key, and whether the store remembers its result."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from freehold.core.digest import Digest
from freehold.core.settings import Settings
from freehold.recipes.names import check_free, check_own
from freehold.recipes.schema import RecipeFile, read
from freehold.recipes.sources import settled
from freehold.recipes.task import Result, Task, steps
from freehold.recipes.versions import version_of
from freehold.store import Store

State = Literal["done", "run", "waits"]


class Ingredients(msgspec.Struct, frozen=True):
    """All that a task's key is made of."""

    version: str
    parameters: dict[str, Any]
    inputs: dict[str, str]

    def key(self, step: str) -> Digest:
        """The identity of what the task makes."""
        return Digest.of_json({"step": step, **msgspec.structs.asdict(self)})


History = Mapping[str, Ingredients]
"""What each task was last made of, in this recipe."""


class Planned(msgspec.Struct, frozen=True):
    """A task whose inputs are there: its key, and its result if that is remembered."""

    task: Task
    why: str
    key: Digest
    ingredients: Ingredients
    result: Result | None


class Entry(msgspec.Struct, frozen=True):
    """What becomes of a task, for people. `key` is empty while what it needs is not there."""

    task: str
    state: State
    why: str
    key: str = ""
    parameters: dict[str, Any] = {}


class Plan(msgspec.Struct, frozen=True):
    """All tasks of a recipe, in the order in which they run."""

    entries: tuple[Entry, ...]

    def runs(self, *steps: str) -> bool:
        """Whether a task of one of these steps is not done yet."""
        return any(entry.state != "done" and entry.task.split()[0] in steps for entry in self.entries)


def plan(file: RecipeFile, store: Store, settings: Settings, history: History | None = None) -> Plan:
    """The plan of a recipe, changing nothing. Raises what finding base and data raises."""
    from freehold.recipes.history import read_history

    file = settled(file, store)
    known = read_history(file, settings) if history is None else history
    results: dict[str, Result] = {}
    return Plan(tuple(_entry(task, results, store, known) for task in tasks_of(file, store)))


def plan_of(path: Path, settings: Settings) -> Plan:
    """The plan of the recipe in a file."""
    file = read(path)
    with Store.open(settings.store, quota=settings.quota) as store:
        check_own(file.recipe)
        found = plan(file, store, settings)
        check_free(settled(file, store), store, "make")
        return found


def _entry(task: Task, results: dict[str, Result], store: Store, history: History) -> Entry:
    """The entry of a task; its result, where it is remembered, joins `results`."""
    missing = [need for need in task.needs if need not in results]
    if missing:
        return Entry(task.name, "waits", f"after {', '.join(missing)}", parameters=task.parameters)
    item = look(task, results, store, history)
    if item.result is not None:
        results[task.name] = item.result
    return Entry(task.name, "done" if item.result else "run", item.why, item.key.text, task.parameters)


def tasks_of(file: RecipeFile, store: Store) -> list[Task]:
    """Every task, each after those that it needs."""
    tasks = {task.name: task for step in steps().values() for task in step.tasks(file, store)}
    depths: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in depths:
            depths[name] = 1 + max((depth(need) for need in tasks[name].needs), default=-1)
        return depths[name]

    return sorted(tasks.values(), key=lambda task: (depth(task.name), steps()[task.step].order, task.name))


def look(task: Task, results: Mapping[str, Result], store: Store, history: History) -> Planned:
    """A task's key, given the results that it needs, and what is remembered of it."""
    step = steps()[task.step]
    inputs = {need: results[need].digest.text for need in task.needs}
    ingredients = Ingredients(version_of(step).text, task.parameters, inputs)
    key = ingredients.key(step.name)
    result = recall(store, key)
    if result is None:
        return Planned(task, _why(ingredients, history.get(task.name)), key, ingredients, None)
    if not step.holds(store, result):
        return Planned(task, "because what it made was replaced or removed", key, ingredients, None)
    return Planned(task, f"done before: key {key.short}", key, ingredients, result)


def recall(store: Store, key: Digest) -> Result | None:
    """The remembered result of a key, if all its files are still there."""
    found = store.runs.recall_step(_record(key))
    return None if found is None else msgspec.json.decode(found, type=Result)


def remember(store: Store, key: Digest, result: Result) -> None:
    """Keep a result and its files."""
    store.runs.remember_step(_record(key), msgspec.json.encode(result), result.digests)


def _record(key: Digest) -> str:
    return f"task:{key.hex}"


def _why(now: Ingredients, before: Ingredients | None) -> str:
    """What is new since this recipe's last run of the task."""
    if before is None:
        return "not done before"
    changes = [*_changed(now.parameters, before.parameters, _parameter), *_changed(now.inputs, before.inputs, _input)]
    if changes:
        return f"because {', '.join(changes)}"
    return "because the program's code changed" if now.version != before.version else "was not finished"


def _changed(now: Mapping[str, Any], before: Mapping[str, Any], say: Callable[[str, Any, Any], str]) -> list[str]:
    return [say(key, before.get(key), now.get(key)) for key in {**now, **before} if now.get(key) != before.get(key)]


def _parameter(key: str, before: Any, now: Any) -> str:
    if str(now).startswith("sha256:") or isinstance(now, list | dict):
        return f"{key} changed"
    return f"{key} changed from {before!r} to {now!r}"


def _input(key: str, before: Any, now: Any) -> str:
    return f"what {key!r} made changed"
