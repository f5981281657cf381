"""Let Ollama, LM Studio or Hugging Face's libraries use a model of the store."""

from typing import Annotated

import typer

from freehold.cli._options import DryRun, Home, Json, Model, Quiet, opened
from freehold.cli._output import emit, line, note
from freehold.core.name import Name


def command(
    name: Model,
    tool: Annotated[str, typer.Option("--to", metavar="TOOL", help="ollama, lmstudio or hf.")],
    remove: Annotated[
        bool, typer.Option("--remove", help="Undo it: remove what was linked. The model here stays.")
    ] = False,
    copy: Annotated[bool, typer.Option("--copy", help="Copy where the other folder is on another disk.")] = False,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """Let Ollama, LM Studio or Hugging Face's libraries use a model of the store, without a second copy."""
    from freehold.store import linking

    parsed = Name.parse(name)
    with opened(home) as (_, store):
        if remove:
            changes = linking.unlink(store, parsed, tool, dry_run=dry_run)
        else:
            changes = linking.link(store, parsed, tool, copy=copy, dry_run=dry_run)
    if json:
        listed = [{"path": change.path, "copied": change.copied} for change in changes]
        emit({"name": str(parsed), "tool": tool, "removed" if remove else "linked": listed, "dry_run": dry_run})
        return
    verb = "remove" if remove else "link"
    for change in changes:
        line(f"would {verb} {change.path}" if dry_run else f"{verb}{'d' if remove else 'ed'} {change.path}")
    note("nothing to do", quiet=quiet or bool(changes))
