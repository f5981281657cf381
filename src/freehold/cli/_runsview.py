"""What 'freehold runs' shows: the list, one run, several side by side, and a run's log."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from freehold.cli._makeview import duration, figure
from freehold.cli._output import ago, line, pairs, printable, size, table, write
from freehold.core.settings import Settings
from freehold.proofs.metrics import LABELS
from freehold.recipes import records
from freehold.recipes.events import on_a_line, said
from freehold.recipes.records import LOG, Record
from freehold.tuning.job import Architecture

CUTS = {"asked": "as asked", "time": "its time being over"}
_SHOWN = 12
"""Steps of which the figures are shown, spread over the run."""
_ASKED = 4
"""Measurements of which samples are shown, spread over the run."""
_CHARACTERS = 100
"""Of a question, and of an answer."""
_LOOK = 0.25
"""Seconds between two looks at a log that is followed."""


def summary(settings: Settings, record: Record) -> dict[str, Any]:
    """One line of the list."""
    task = records.shown_task(settings, record)
    point = records.last_point(records.place_of(settings, record.run), task)
    steps = record.figures.get("steps", 0)
    return {
        "run": record.run,
        "name": record.name,
        "kind": record.kind,
        "recipe": str(record.path),
        "state": record.now,
        "task": record.task,
        "candidate": task.partition(" ")[2],
        "step": point.step if point else steps,
        "steps": point.steps if point else steps,
        "loss": point.loss if point else record.figures.get("last_loss"),
        "tokens_per_second": point.tokens_per_second if point else None,
        "started": record.started,
        "seconds": records.seconds(settings, record),
        "resumed": record.resumed,
        "result": record.result,
        "passed": record.passed,
        "error": record.error,
    }


def show_list(settings: Settings, known: Sequence[Record]) -> None:
    """Each run on a line, the newest first."""
    rows = []
    for each in (summary(settings, record) for record in known):
        rows.append(
            (
                each["run"],
                each["name"],
                each["state"],
                f"{each['step']}/{each['steps']}" if each["steps"] else "",
                _figure(each["loss"]),
                _count(each["tokens_per_second"]),
                ago(time.time() - each["started"]),
                _result(each),
            )
        )
    table(("RUN", "NAME", "STATE", "STEP", "LOSS", "TOKENS/S", "STARTED", "RESULT"), rows)


def _result(each: dict[str, Any]) -> str:
    if each["state"] == "done":
        return ", ".join(each["result"]) if each["passed"] else "kept back by its gate"
    return each["error"] or f"in {each['task']}"


def detail(settings: Settings, record: Record) -> dict[str, Any]:
    """All that is known of a run."""
    place = records.place_of(settings, record.run)
    return {
        **summary(settings, record),
        "ended": record.ended,
        "pid": record.pid if record.now == "running" else None,
        "figures": record.figures,
        "scores": record.scores,
        "settings": record.settings,
        "points": [msgspec.to_builtins(point) for point in records.points(place)],
        "samples": record.samples or _last_said(place, records.shown_task(settings, record)),
        "folder": str(record.folder),
        "report": str(record.report) if record.report else None,
        "log": str(place / LOG),
    }


def show_run(settings: Settings, record: Record) -> None:
    """One run for people."""
    place = records.place_of(settings, record.run)
    each = summary(settings, record)
    line(f"{record.run}: {record.kind} of {record.name}, {each['state']}")
    pairs(
        [
            ("step", f"{each['step']} of {each['steps']}" if each["steps"] else ""),
            ("candidate", each["candidate"]),
            ("cut short", _cut(record.figures)),
            ("in", record.task if each["state"] != "done" else ""),
            ("process", str(record.pid) if each["state"] == "running" else ""),
            ("started", ago(time.time() - record.started)),
            ("took", duration(each["seconds"])),
            ("resumed", _times(record.resumed)),
            ("error", record.error),
            ("result", ", ".join(record.result)),
            ("recipe", str(record.path) if record.kind == "make" else ""),
            ("report", str(record.report or "")),
            ("log", str(place / LOG)),
            ("files", _existing(record.folder)),
            ("board", _existing(place / "tensorboard")),
        ]
    )
    task = records.shown_task(settings, record)
    _show_points(place, task)
    _show_progress(place, task)
    _show_scores(record)
    _show_samples(record)
    line()
    line("Settings")
    pairs([(key, _spelt(value)) for key, value in record.settings.items() if _matters(record, key)])


def _cut(figures: dict[str, Any]) -> str:
    """Where training ended before its last step, and why."""
    if not figures.get("cut"):
        return ""
    return f"at step {figures['steps']:,} of {figures['planned']:,}, {CUTS[figures['cut']]}"


def _matters(record: Record, key: str) -> bool:
    """Whether a run of this kind reads the setting."""
    section, _, name = key.partition(".")
    if section == "tune" and name in Architecture.__struct_fields__:
        return record.settings.get("tune.method") == "scratch"
    return record.kind == "make" or section in ("model", "data", "tune")


def _show_points(place: Path, task: str) -> None:
    found = {(point.step, point.loss is None): point for point in records.course(place, task)}
    if not found:
        return
    steps = sorted(step for step, measured in found if not measured)
    chosen = {steps[round(part * (len(steps) - 1) / (_SHOWN - 1))] for part in range(_SHOWN)} if steps else set()
    held_out = sorted(step for step, measured in found if measured)
    rows = []
    for step in sorted({*chosen, *held_out}):
        after, before = found.get((step, False)), found.get((step, True))
        rows.append(
            (
                str(step),
                _figure(after.loss if after else None),
                _figure(before.held_out_loss if before else None),
                _figure(after.gradient_norm if after else None),
                _count(after.tokens_per_second if after else None),
                size(after.memory) if after and after.memory else "",
            )
        )
    line()
    table(("step", "loss", "held-out loss", "gradient norm", "tokens/s", "memory"), rows)


def _show_scores(record: Record) -> None:
    if record.scores:
        line()
        names = [name for name in LABELS if all(name in each for each in record.scores.values())]
        rows = [(model, *(figure(name, each[name]) for name in names)) for model, each in record.scores.items()]
        table(("model", *(LABELS[name] for name in names)), rows)


def _last_said(place: Path, task: str) -> list[dict[str, Any]]:
    """What the model said when it was asked last, of a run that has not measured its answers."""
    found = [point for point in records.course(place, task) if point.samples]
    return [{**msgspec.to_builtins(each), "step": point.step} for point in found[-1:] for each in point.samples]


def _show_progress(place: Path, task: str) -> None:
    """What the model said to held-out prompts while it was trained: to each, in the order of steps."""
    found = [point for point in records.course(place, task) if point.samples]
    if not found:
        return
    last = len(found) - 1
    shown = [found[at] for at in sorted({round(part * last / (_ASKED - 1)) for part in range(_ASKED)})]
    # A base that is slow has time for fewer of them.
    most = max(shown, key=lambda point: len(point.samples))
    line()
    line("Samples while it was tuned")
    for number, first in enumerate(most.samples):
        line(f"  > {on_a_line(first.question, _CHARACTERS)}")
        told = [(f"step {p.step}", said(p.samples[number], _CHARACTERS)) for p in shown if number < len(p.samples)]
        pairs(told)


def _show_samples(record: Record) -> None:
    if record.samples:
        line()
        line("Samples")
    for each in record.samples:
        line(f"  > {on_a_line(each.get('question', ''), _CHARACTERS)}")
        line(f"  {on_a_line(each.get('answer', ''), _CHARACTERS)}")


def comparison(settings: Settings, found: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """Runs side by side: for each run, the settings in which any two differ, and what it came to."""
    keys = dict.fromkeys(key for record in found for key in record.settings)
    differ = [key for key in keys if len({_spelt(record.settings.get(key)) for record in found}) > 1]
    return {record.run: _side(settings, record, differ) for record in found}


def _side(settings: Settings, record: Record, differ: Sequence[str]) -> dict[str, Any]:
    place, task = records.place_of(settings, record.run), records.shown_task(settings, record)
    each, held_out = records.losses(place, task)
    point = records.last_point(place, task)
    return {
        "settings": {key: record.settings.get(key) for key in differ},
        "state": record.now,
        "steps": max(each, default=0) or record.figures.get("steps"),
        "first_loss": each[min(each)] if each else record.figures.get("first_loss"),
        "last_loss": each[max(each)] if each else record.figures.get("last_loss"),
        "held_out_loss": held_out[max(held_out)] if held_out else record.figures.get("held_out_loss"),
        "lowest_held_out_loss": min(held_out.values(), default=record.figures.get("held_out_loss")),
        "tokens": record.figures.get("tokens") or (point.tokens if point else None),
        "tokens_per_second": point.tokens_per_second if point else None,
        "training_seconds": record.figures.get("seconds"),
        "seconds": records.seconds(settings, record),
        "memory": record.figures.get("peak_rss") or (point.memory if point else None),
        "scores": record.scores,
    }


def show_comparison(sides: dict[str, dict[str, Any]]) -> None:
    """A table with a column for each run."""
    rows: list[tuple[str, ...]] = []
    for key in next(iter(sides.values()))["settings"]:
        rows.append((key, *(_spelt(side["settings"][key]) for side in sides.values())))
    if not rows:
        rows.append(("settings", *("the same" for _ in sides)))
    for key, spelt in _ROWS.items():
        rows.append((key.replace("_", " "), *(spelt(side[key]) for side in sides.values())))
    for model in dict.fromkeys(model for side in sides.values() for model in side["scores"]):
        for score in LABELS:
            values = (side["scores"].get(model, {}).get(score) for side in sides.values())
            rows.append((f"{score.replace('_', ' ')} of {model}", *map(_figure, values)))
    table(("", *sides), [row for row in rows if any(row[1:])])


def show_log(settings: Settings, record: Record, *, follow: bool) -> None:
    """What a run said; with `follow`, until it ends."""
    path = records.place_of(settings, record.run) / LOG
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        while True:
            # Asked before the rest is read: what a run says last is not missed.
            running = follow and record.now == "running"
            for text in file:
                write(printable(text))
            if not running:
                return
            time.sleep(_LOOK)


def _times(count: int) -> str:
    return {0: "", 1: "once", 2: "twice"}.get(count, f"{count} times")


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _count(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _size(value: int | None) -> str:
    return size(value) if value else ""


def _took(value: float | None) -> str:
    return duration(value) if value else ""


_ROWS: dict[str, Callable[[Any], str]] = {
    "state": str,
    "steps": _count,
    "tokens": _count,
    "first_loss": _figure,
    "last_loss": _figure,
    "held_out_loss": _figure,
    "lowest_held_out_loss": _figure,
    "tokens_per_second": _count,
    "training_seconds": _took,
    "seconds": _took,
    "memory": _size,
}


def _spelt(value: Any) -> str:
    if value in ("", None, [], {}, ()):
        return ""
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def _existing(path: Path) -> str:
    return str(path) if path.exists() else ""
