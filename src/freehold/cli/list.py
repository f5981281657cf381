"""List the models; with --all those of Ollama, LM Studio, Hugging Face and llama.cpp too."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli._options import Home, Json, Quiet, listed
from freehold.cli._output import ago, count, emit, note, size, table
from freehold.core.errors import FreeholdError
from freehold.core.manifest import Details

if TYPE_CHECKING:
    from freehold.store import Listed
    from freehold.store.neighbours import Found

HEAD = ["NAME", "SIZE", "TYPE", "PARAMS", "CONTEXT", "MODIFIED"]


def command(
    everywhere: Annotated[
        bool, typer.Option("--all", help="Also what other tools keep, by names that 'freehold run' takes.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """List the models. A model of another tool that cannot be used is named with the reason."""
    entries = listed(home)
    if not everywhere:
        _print([describe(entry) for entry in entries], json)
        return
    foreign = _foreign()
    shown = [{**describe(entry), "tool": "freehold"} for entry in entries]
    _print([*shown, *(each for each in foreign if json or not each["problem"])], json)
    for each in foreign:
        if each["problem"]:
            note(f"{each['name']} cannot be used: {each['problem']}", quiet=quiet or json)


def _print(models: Sequence[dict[str, Any]], json: bool) -> None:
    if json:
        emit(models)
        return
    tools = any("tool" in each for each in models)
    now = time.time()
    table([*HEAD, *(["TOOL"] if tools else [])], [_row(each, now) for each in models])


def _row(model: dict[str, Any], now: float) -> list[str]:
    row = [
        model["name"],
        size(model["size"]),
        model["quantization"],
        count(model["parameters"]),
        str(model["context_length"] or ""),
        ago(now - model["modified"]),
    ]
    return [*row, model["tool"]] if "tool" in model else row


def describe(entry: "Listed") -> dict[str, Any]:
    """A catalog entry as `--json` shows it; sizes in bytes, times in seconds since 1970."""
    return {
        "name": entry.name,
        "digest": entry.digest,
        "size": entry.size,
        **_facts(entry.details),
        "licence": entry.licence,
        "modified": round(entry.modified),
    }


def _facts(details: Details) -> dict[str, Any]:
    return {
        "architecture": details.architecture,
        "quantization": details.quantization,
        "parameters": details.parameters,
        "context_length": details.context_length,
    }


def _foreign() -> list[dict[str, Any]]:
    from freehold.store.neighbours import everything

    return [_described(found) for found in everything()]


def _described(found: "Found") -> dict[str, Any]:
    from freehold.store.neighbours import inspect

    details, problem = Details(), found.problem
    if not problem:
        try:
            details = inspect(found)
        except FreeholdError as error:
            problem = error.message
    return {
        "name": found.label,
        "digest": str(found.stated or ""),
        "size": found.size,
        **_facts(details),
        "modified": round(found.modified),
        "path": str(found.path or ""),
        "tool": found.tool,
        "problem": problem,
        "remark": found.remark,
    }
