"""Tune a model on a data file: the recipe's tune step alone."""

import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from freehold.cli._lasting import Detach, Lasting
from freehold.cli._options import (
    Columns,
    Format,
    Home,
    Json,
    Kind,
    Quiet,
    all_finite,
    columns_of,
    finite,
    require_writable,
)
from freehold.cli._output import emit, line, pairs, table
from freehold.cli._spelling import as_options
from freehold.core.errors import BadInput, BadName
from freehold.core.name import Name
from freehold.core.settings import load

if TYPE_CHECKING:
    from freehold.core.settings import Settings
    from freehold.recipes.schema import RecipeFile
    from freehold.recipes.tuning import Tuned


def command(
    base: Annotated[str, typer.Argument(metavar="BASE", help="A model's name, or a folder with safetensors.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A data file, as for 'freehold make --new'.")],
    out: Annotated[str, typer.Option("--out", metavar="NAME", help="The name of what comes out.")] = "",
    method: Annotated[list[str] | None, typer.Option(metavar="METHOD", help="lora, rslora, dora, full.")] = None,
    objective: Annotated[
        str, typer.Option(metavar="AIM", help="sft, text, dpo, orpo, kto, grpo, embed, classify.")
    ] = "sft",
    reward: Annotated[list[str] | None, typer.Option(metavar="RULE", help="For grpo, as 'rewards'.")] = None,
    judge: Annotated[str, typer.Option(metavar="NAME", help="The model that grades for --reward judge.")] = "",
    rubric: Annotated[str, typer.Option(metavar="TEXT", help="What a good answer has, for the judge.")] = "",
    rank: Annotated[list[int] | None, typer.Option(min=1, max=4096, help="Of an adapter's matrices.")] = None,
    alpha: Annotated[list[float] | None, typer.Option(callback=all_finite, help="It counts alpha / rank.")] = None,
    learning_rate: Annotated[
        list[float] | None, typer.Option("--learning-rate", callback=all_finite, help="At its top.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, max=100_000_000, help="Optimiser steps.")] = None,
    epochs: Annotated[float | None, typer.Option(callback=finite, help="Times through the data.")] = None,
    time: Annotated[str, typer.Option("--time", metavar="SPAN", help="Time to fit, as in 45s, 30m, 1h30m.")] = "",
    batch: Annotated[int | None, typer.Option(min=1, max=1 << 20, help="Rows per step.")] = None,
    batch_tokens: Annotated[int | None, typer.Option(min=16, max=1 << 24, help="Tokens per step.")] = None,
    max_length: Annotated[int | None, typer.Option(min=16, max=1 << 20, help="Tokens of a row; more is cut.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=(1 << 63) - 1, help="Repeats a run.")] = None,
    dtype: Annotated[str, typer.Option(metavar="TYPE", help="auto, bf16, f32 or int8.")] = "auto",
    base_dtype: Annotated[str, typer.Option(metavar="TYPE", help="stored, or nf4: the base in 4 bits.")] = "stored",
    checkpointing: Annotated[str, typer.Option(metavar="WHEN", help="auto, on, off: compute layers twice.")] = "auto",
    scale: Annotated[float | None, typer.Option(callback=finite, help="Of cosines, for embed.")] = None,
    pooling: Annotated[str, typer.Option(metavar="HOW", help="mean or last, for embed.")] = "auto",
    offload: Annotated[
        str, typer.Option(metavar="WHEN", help="auto, on, off: hold layers' inputs off a GPU.")
    ] = "auto",
    backend: Annotated[
        str, typer.Option(metavar="WHO", help="freehold, or unsloth where it is installed: who computes.")
    ] = "freehold",
    patience: Annotated[int | None, typer.Option(min=1, max=1000, help="Stop when it gets no better.")] = None,
    held_out: Annotated[float | None, typer.Option("--held-out", callback=finite, help="Share not learned.")] = None,
    column: Columns = None,
    kind: Kind = "auto",
    format: Format = "auto",
    broken: Annotated[str, typer.Option(metavar="WAY", help="stop, or drop: rows that cannot be read.")] = "stop",
    threads: Annotated[int | None, typer.Option(min=1, max=1024, help="Of the processor.")] = None,
    report: Annotated[Path | None, typer.Option("--report", metavar="FILE", help="Write figures as JSON.")] = None,
    log: Annotated[str, typer.Option("--log", metavar="KIND", help="tensorboard, wandb, trackio: files here.")] = "",
    detach: Detach = False,
    plan: Annotated[bool, typer.Option("--plan", help="Say what it would take; change nothing.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """Tune BASE on DATA and keep what comes out as NAME: an adapter, or a model.

    Interrupted, the same command goes on; 'freehold runs' shows how far it is. An adapter runs beside its base:
    freehold run BASE+NAME. With --method, --rank, --alpha or --learning-rate given several times, each is tried, and
    the lowest held-out loss is taken.
    """
    if not out and not plan:
        raise BadInput("nothing says what the result is called", "Give --out NAME")
    given = {
        "method": _one(method) or "lora", "objective": objective, "rewards": reward or None, "judge": judge or None,
        "rubric": rubric or None, "rank": _one(rank), "alpha": _one(alpha),
        "learning_rate": _one(learning_rate), "steps": steps, "epochs": epochs, "time": time or None, "batch": batch,
        "batch_tokens": batch_tokens, "max_length": max_length, "seed": seed, "dtype": dtype,
        "checkpointing": checkpointing, "offload": _said(offload, "auto"), "patience": patience,
        "evaluations": max(10, patience + 2) if patience else None, "threads": threads,
        "log": log or None, "scale": scale, "pooling": _said(pooling, "auto"),
        "base_dtype": _said(base_dtype, "stored"), "backend": _said(backend, "freehold"),
    }  # fmt: skip
    section = {key: value for key, value in given.items() if value is not None}
    read = _read(held_out, columns_of(column), kind, format, broken)
    require_writable(report)
    settings = load({"home": home})
    if plan:
        from freehold.cli._planview import show_plan

        planned = partial(_recipe, base, data, "plan", read=read)
        show_plan(planned, section, method or (), settings, json=json, quiet=quiet)
        return
    file = _recipe(base, data, out, section, read)
    with Lasting(detach=detach) as lasting:
        tune_shown(file, settings, lasting, json=json, quiet=quiet, report=report)


def tune_shown(
    file: "RecipeFile", settings: "Settings", lasting: Lasting, *, json: bool, quiet: bool, report: Path | None = None
) -> None:
    """Tune as a recipe says, and show how it goes and what came out."""
    from freehold.cli._makeview import View
    from freehold.recipes.tuning import tune

    with as_options(file.path), View(quiet=quiet or json, lasting=lasting) as view:
        tuned = tune(file, settings, on_event=view, report=report and report.absolute(), left=lambda: lasting.left)
    if report is not None:
        _write(tuned, report)
    if json:
        emit(tuned)
    elif not quiet:
        _show(tuned, file.recipe.model.base)


def _said(value: str, usual: str) -> str | None:
    """An option's value, unless it is what goes without saying: recipes of earlier runs do not spell it."""
    return None if value == usual else value


def _read(held_out: float | None, columns: dict[str, str], kind: str, format: str, broken: str) -> dict[str, Any]:
    """The keys of [data] that say how DATA is read, where they were given."""
    keys = {"kind": _said(kind, "auto"), "format": _said(format, "auto"), "broken": _said(broken, "stop")}
    given: dict[str, Any] = {"held_out": held_out, "columns": columns or None, **keys}
    return {key: value for key, value in given.items() if value is not None}


def _one(values: Sequence[Any] | None) -> Any:
    """An option's only value, or all that it was given."""
    return values[0] if values and len(values) == 1 else values or None


def _recipe(base: str, data: Path, out: str, section: dict[str, Any], read: dict[str, Any]) -> "RecipeFile":
    from freehold.recipes.tuning import recipe_of

    name = Name.parse(out)
    values: dict[str, dict[str, Any]] = {
        "model": {"name": str(name), "base": base},
        "data": {"path": str(data.absolute()), **read},
        "tune": section,
    }
    with as_options(Path.cwd()):
        return recipe_of(values, Path.cwd())


def _write(tuned: "Tuned", path: Path) -> None:
    import msgspec

    from freehold.formats.atomic import replacing

    with replacing(path) as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(tuned, enc_hook=str), indent=2) + b"\n")


def _show(tuned: "Tuned", base: str) -> None:
    losses = f"{tuned.losses[0]:.3f} at the first step, {tuned.losses[-1]:.3f} at the last" if tuned.losses else ""
    held = [point["loss"] for point in tuned.held_out_losses]
    line(f"{tuned.name} is tuned: {tuned.tokens:,} tokens in {tuned.seconds:.0f} s.")
    rows = [
        ("loss", losses),
        ("held-out loss", f"{held[0]:.3f} before, {held[-1]:.3f} after" if held else ""),
        ("speed", f"{tuned.tokens_per_second:,.0f} tokens/s, computed in {tuned.settings['dtype']}{_by(tuned)}"),
        ("memory", f"{tuned.peak_rss_mb:,.0f} MB, of which {tuned.peak_private_mb:,.0f} MB are no pages of a file"),
        *_measured(tuned.measured),
        ("loss curve", str(tuned.folder / "loss.png")),
    ]
    pairs([row for row in rows if row[1]])
    if tuned.candidates:
        line()
        _show_candidates(tuned)
    from freehold.cli._makeview import show_embeddings

    line()
    line("Next")
    if tuned.settings["objective"] == "embed":
        show_embeddings(tuned.name)
        return
    if tuned.measured:
        line(f'  freehold classify {tuned.name} "…"')
        return
    named = tuned.name
    if tuned.method not in ("full", "dora"):
        kept = _kept_as(base, tuned.name)
        if kept != base:
            line(f"  freehold pull {shlex.quote(base)} --as {kept}")
        named = f"{kept}+{tuned.name}"
    line(f'  freehold run {named} "…"')


def _by(tuned: "Tuned") -> str:
    return f" by {tuned.settings['library']}" if tuned.settings["library"] else ""


def _kept_as(base: str, other: str) -> str:
    """What a base is called when an adapter runs beside it: a folder or file has to be in the store for that."""
    if not base.startswith((".", "/", "~")) and not Path(base).exists():
        return base
    try:
        name = str(Name.parse(Path(base).stem))
    except BadName:
        name = "base"
    return name if name != other else "base"


def _measured(measured: dict[str, float]) -> list[tuple[str, str]]:
    """What held-out rows say of a classifier or of vectors; nothing for other models."""
    from freehold.proofs.metrics import LABELS

    if not measured:
        return []
    rows = f"{measured['held_out_rows']:.0f} held-out rows"
    if "accuracy" in measured:
        usual = measured["accuracy_of_commonest"]
        told = f"{measured['accuracy']:.1%} of {rows}; {usual:.1%} for always the commonest label"
        return [("accuracy", told)]
    found = [(LABELS[name], name) for name in LABELS if name in measured]
    bases = {name: measured.get(f"{name}_of_base") for _, name in found}
    return [
        (label, f"{measured[name]:.3f}" + ("" if bases[name] is None else f"; {bases[name]:.3f} before"))
        for label, name in found
    ]


def _show_candidates(tuned: "Tuned") -> None:
    rows = [
        (each["name"], f"{each['held_out_loss']:.4f}", f"{each['steps']:,}", f"{each['seconds']:.0f} s")
        for each in sorted(tuned.candidates, key=lambda each: each["held_out_loss"])
    ]
    table(("tried", "held-out loss", "steps", "time"), rows)
    line(f"{tuned.why}.")
