"""Draft questions and answers about a PDF or text, as rows to check and learn from."""

import asyncio
import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from freehold.cli._answer import asker, stream
from freehold.cli._options import DryRun, Home, Json, Quiet, full_name, opened, require_writable
from freehold.cli._output import emit, line, note
from freehold.core.errors import Conflict, FreeholdError, Interrupted, WorkerFailed
from freehold.core.name import PLUS, SEPARATOR, Name

if TYPE_CHECKING:
    from freehold.core.settings import Settings
    from freehold.data.drafting import Judged, Passage
    from freehold.store import Store


class _Drafting:
    """What has been drafted so far."""

    def __init__(self, path: Path, model: str, written_by: str, *, pairs: int, seed: int, quiet: bool) -> None:
        from freehold.core.digest import Digest

        self.source = Digest.of_file(path)
        self.model, self.written_by = model, written_by
        self.pairs, self.seed, self.quiet = pairs, seed, quiet
        self.lines: list[bytes] = []
        self.known: list[str] = []
        self.left_out: Counter[str] = Counter()
        self.done = 0

    async def run(self, settings: "Settings", store: "Store", passages: "list[Passage]") -> None:
        """Ask about each passage in turn."""
        from freehold.data import drafting

        async with asker(settings, store) as ask:
            for passage in passages:
                asked = drafting.request(passage, self.model, count=self.pairs, seed=self.seed)
                answer = await stream(ask, asked, show=False)
                self._take(drafting.judge(answer.text, passage, self.known), passage)
                self.done += 1
                note(f"{self.done}/{len(passages)} passages, {len(self.lines)} rows", quiet=self.quiet)

    def _take(self, judged: "Judged", passage: "Passage") -> None:
        from freehold.data import drafting
        from freehold.data.normal import plain

        for draft in judged.kept:
            self.known.append(plain(draft.question))
            self.lines.append(drafting.line(draft, self.written_by, self.source, passage.place))
        self.left_out.update(judged.reasons)


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A PDF, Markdown, plain text, or a file of texts.")],
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="The model that writes.")] = "starter",
    out: Annotated[Path | None, typer.Option("--out", metavar="ROWS", help="Rows as JSON Lines; FILE.jsonl.")] = None,
    pairs: Annotated[int, typer.Option(min=1, max=20, help="Questions wanted of each passage.")] = 3,
    passages: Annotated[int, typer.Option(min=0, max=1_000_000, help="Passages at most; 0 asks about all.")] = 0,
    seed: Annotated[int, typer.Option(min=0, max=(1 << 63) - 1, help="Repeats a run.")] = 1,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
    home: Home = None,
) -> None:
    """Draft questions and answers about a text with a model. Each row is marked as written by it: read them before
    anything learns from them.
    """
    target = out or Path(f"{file.stem}.jsonl")
    if target.exists():
        raise Conflict(f"{target} exists", "Give --out another name, or move it away first")
    require_writable(target)
    from freehold.data import drafting

    found = drafting.passages(file)
    wanted = found[:passages] if passages else found
    if dry_run:
        _say(target, file, len(wanted), None, json=json, quiet=quiet)
        return
    with opened(home) as (settings, store):
        drafts = _Drafting(file, full_name(model), _author(store, model), pairs=pairs, seed=seed, quiet=quiet or json)
        try:
            asyncio.run(drafts.run(settings, store, wanted))
        except (KeyboardInterrupt, FreeholdError) as error:
            _write(target, drafts)
            kept = f"{len(drafts.lines)} rows about {drafts.done} of {len(wanted)} passages are in {target}"
            if isinstance(error, FreeholdError):
                note(kept, quiet=not drafts.lines)
                raise
            raise Interrupted(f"interrupted; {kept}" if drafts.lines else "interrupted") from error
    if not drafts.lines:
        reasons = "; ".join(f"{count} times {reason}" for reason, count in drafts.left_out.most_common())
        raise WorkerFailed(f"{model} drafted nothing that can be kept: {reasons}", "Name a larger model: --model NAME")
    _write(target, drafts)
    _say(target, file, len(wanted), drafts, json=json, quiet=quiet)


def _author(store: "Store", model: str) -> str:
    """The name that rows are marked with: the model's, and the digest of what it stands for now."""
    from freehold.serving.ready import source

    source(store, model)
    if SEPARATOR in model or PLUS in model:
        return model
    return f"{Name.parse(model)} ({store.resolve(Name.parse(model))})"


def _write(target: Path, drafts: _Drafting) -> None:
    from freehold.formats.atomic import replacing

    if drafts.lines:
        with replacing(target) as temporary:
            temporary.write_bytes(b"".join(drafts.lines))


def _say(target: Path, file: Path, passages: int, drafts: _Drafting | None, *, json: bool, quiet: bool) -> None:
    rows = len(drafts.lines) if drafts else 0
    left_out = dict(drafts.left_out) if drafts else {}
    if json:
        emit({"out": target, "passages": passages, "rows": rows, "left_out": left_out, "dry_run": drafts is None})
        return
    if drafts is None:
        line(f"would ask about {passages} passages of {file} and write {target}")
        return
    line(f"wrote {target}: {rows} rows about {passages} passages of {file}, each marked as written by {drafts.model}")
    for reason, count in sorted(left_out.items()):
        note(f"  left out {count}: {reason}", quiet=quiet)
    note("Read them: nobody has checked that they are right.", quiet=quiet)
    line(f"Next: freehold data check {shlex.quote(str(target))}")
