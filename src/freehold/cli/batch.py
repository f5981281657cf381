"""Answer a file of requests, as OpenAI's batches have them, without a server."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli._options import DryRun, Home, Json, Quiet, opened, require_writable
from freehold.cli._output import Bar, emit, line, note
from freehold.core.errors import BadInput, Conflict, NotFound

if TYPE_CHECKING:
    from freehold.dialects.openai.offline import Wish
    from freehold.serving.jobs import Fault, Job

_SHOWN = 10
"""Bad rows that are shown one by one."""


def command(
    rows: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="Requests, one a line: custom_id, url, body.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="OUT", help="Answers; FILE.out.jsonl by default.")
    ] = None,
    errors: Annotated[
        Path | None,
        typer.Option("--errors", metavar="FILE", help="What was not answered; OUT with .errors by default."),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", metavar="NAME", help="The model, in place of those in the rows.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace OUT and its errors if they are there.")] = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """Answer a file of requests, as OpenAI's batches have them, without a server.

    A run that was stopped goes on where it was: the same command again. Exit 1 when some rows were not answered.
    """
    wish = _wish(rows, out, errors, model)
    if not force and not dry_run:
        _refuse_taken(wish)
    if dry_run:
        _say_checked(wish, json=json)
        return
    from freehold.dialects.openai.offline import answered

    bar = Bar("answered", quiet=quiet, units="rows")

    def tell(job: "Job") -> None:
        if job.total:
            bar(job.done + job.failed, job.total)

    with opened(home) as (settings, store):
        job = asyncio.run(answered(settings, store, wish, tell))
    if job.status != "completed":
        _refuse(wish, job.faults, json=json)
    _say(wish, job, json=json, quiet=quiet)
    if job.failed:
        raise typer.Exit(1)


def _wish(rows: Path, out: Path | None, errors: Path | None, model: str) -> "Wish":
    from freehold.dialects.openai.offline import Wish

    if not rows.is_file():
        raise NotFound(f"no such file: {rows}", "Name a file of requests, one a line")
    out = out or rows.with_suffix(".out.jsonl")
    errors = errors or out.with_suffix(f".errors{out.suffix}")
    same = [path for path in (out, errors) if path.absolute() == rows.absolute()]
    if same or out.absolute() == errors.absolute():
        raise BadInput(f"{(same or [out])[0]} would be written over", "Choose other names with --out and --errors")
    require_writable(out, errors)
    return Wish(rows, out, errors, model)


def _refuse_taken(wish: "Wish") -> None:
    for path in (wish.out, wish.errors):
        if path.exists():
            raise Conflict(f"{path} exists", "Choose another with --out, or replace it with --force")


def _say_checked(wish: "Wish", *, json: bool) -> None:
    from freehold.dialects.openai.offline import checked

    job, found = checked(wish)
    if found:
        _refuse(wish, found, json=json)
    told = wish.model or job.about.get("model") or "several models"
    if json:
        emit({"rows": job.total, "endpoint": job.about["endpoint"], "model": told, "out": wish.out, "dry_run": True})
    else:
        line(f"would ask {told} for {job.total} rows of {job.about['endpoint']} and write {wish.out}")


def _refuse(wish: "Wish", found: "list[Fault]", *, json: bool) -> None:
    """Say what is wrong with the rows. Raises BadInput, or typer.Exit where it was said as JSON."""
    if json:
        emit({"status": "failed", "faults": found})
        raise typer.Exit(2)
    for fault in found[:_SHOWN] if len(found) > 1 else ():
        note(f"line {fault.line}: {fault.message}" if fault.line else fault.message)
    first = f"line {found[0].line}: {found[0].message}" if found[0].line else found[0].message
    count = f" and {len(found) - 1} more" if len(found) > 1 else ""
    raise BadInput(f"{wish.rows} cannot be asked: {first.rstrip('. ')}{count}", "Correct the rows; nothing was asked")


def _say(wish: "Wish", job: "Job", *, json: bool, quiet: bool) -> None:
    usage = job.usage
    if json:
        told = {"status": job.status, "total": job.total, "answered": job.done, "failed": job.failed}
        files = {"out": wish.out if job.done else None, "errors": wish.errors if job.failed else None}
        emit({**told, "input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens, **files})
        return
    if job.done:
        line(f"{job.done} of {job.total} rows are answered: {wish.out}")
    note(f"{usage.prompt_tokens} tokens were read and {usage.completion_tokens} written", quiet=quiet)
    if job.failed:
        line(f"{job.failed} of {job.total} rows were not answered: {wish.errors}")
