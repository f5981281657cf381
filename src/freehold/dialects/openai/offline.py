"""A file of OpenAI's batch rows answered without a server: by the same machine, gone on with after any stop."""

import asyncio
import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from freehold.core.errors import BadInput, NotFound
from freehold.core.request import EmbedRequest, Request
from freehold.core.settings import Settings
from freehold.dialects.openai import asking
from freehold.dialects.openai.batches import OpenAIBatches, row_of
from freehold.engines.base import Engine
from freehold.formats.atomic import disk_errors, replacing
from freehold.formats.locks import locked
from freehold.serving.batches import Answer, Batches, faults
from freehold.serving.desk import Desk
from freehold.serving.engine import Lazy
from freehold.serving.jobs import Fate, Fault, Folder, Job, Journal, rows
from freehold.store import Store

_WINDOW = 3650 * 86400.0
"""Seconds: nobody waits for the end of this one."""
_LOOKS = 0.2
"""Seconds between two looks how far it is."""
_LONGEST = 32 << 20
"""Bytes of a row."""


class Wish(NamedTuple):
    """What is to be answered, where the answers go and the errors, and by which model in place of those in the rows."""

    rows: Path
    out: Path
    errors: Path
    model: str = ""


class FileBatches(OpenAIBatches):
    """OpenAI's rows, the first of which says the endpoint of all."""

    name = "file"

    def __init__(self, wish: Wish) -> None:
        self._wish = wish

    def check(self, job: Job, row: bytes) -> str:
        """The row's custom_id. Raises BadInput."""
        endpoint = job.about.setdefault("endpoint", row_of(row).url)
        if endpoint not in asking.ENDPOINTS:
            known = ", ".join(asking.ENDPOINTS)
            raise BadInput(f"the url is {endpoint[:80]!r}", f"Choose one of {known}", param="url")
        return super().check(job, row)

    async def ask(self, desk: Desk, job: Job, row: bytes) -> Answer:
        """The answer to the row's body. Raises FreeholdError."""
        body = row_of(row).body
        return await asking.row(
            desk, job.about["endpoint"], body | ({"model": self._wish.model} if self._wish.model else {})
        )

    def finish(self, desk: Desk, job: Job, folder: Folder, journal: Journal) -> None:
        """Write the two files, each if it has any lines."""
        _write(self._wish.out, journal, "done")
        _write(self._wish.errors, journal, "failed", "left")


def _write(path: Path, journal: Journal, *fates: Fate) -> None:
    if any(journal.count[fate] for fate in fates):
        path.parent.mkdir(parents=True, exist_ok=True)  # somebody removed it while the rows were asked
        with replacing(path) as temporary, temporary.open("wb") as file:
            file.writelines(record + b"\n" for record in journal.records(*fates))
    else:
        path.unlink(missing_ok=True)


def checked(wish: Wish) -> tuple[Job, list[Fault]]:
    """What the rows are, and what is wrong with the first bad ones. Nothing is asked."""
    job = Job(id="batch", kind=FileBatches.name, created=0, expires=0)
    job.total, found = faults(FileBatches(wish), job, rows(wish.rows, _LONGEST))
    return job, found


async def answered(
    settings: Settings, store: Store, wish: Wish, tell: Callable[[Job], None], engine: Engine | None = None
) -> Job:
    """The batch when it has ended; `tell` hears how far it is. What was answered in an earlier run is not asked again.

    Raises Conflict while another process works on it, and what keeps its model from being loaded.
    """
    refused, found = await asyncio.to_thread(checked, wish)
    if found:
        refused.faults = found
        refused.turn("failed")
        return refused
    with _room(settings, wish) as (folder, copy):
        desk = Desk(settings, store, engine or Lazy())
        batches = Batches(desk, settings, root=folder / "jobs", hands=settings.parallel)
        kind = FileBatches(wish)
        batches.kinds = {kind.name: kind}
        try:
            await _ready(desk, wish, copy)
            begun = [job for job in await batches.all(kind.name) if not job.ended]
            job = begun[0] if begun else await batches.create(kind.name, "batch", copy, _WINDOW, {})
            batches.start()
            while not job.ended:
                tell(await batches.get(kind.name, job.id))
                await asyncio.sleep(_LOOKS)
            tell(job)
        finally:
            await batches.stop()
            await desk.close()
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return job


@contextmanager
def _room(settings: Settings, wish: Wish) -> Iterator[tuple[Path, Path]]:
    """The folder of this very batch, held for this process, and a copy of the rows that nobody changes."""
    key = hashlib.sha256(f"{wish.model}\n".encode())
    with wish.rows.open("rb") as file:
        while piece := file.read(1 << 20):
            key.update(piece)
    folder = settings.home / "batch" / key.hexdigest()[:32]
    copy = folder / "rows.jsonl"
    with locked(folder, f"the batch of {wish.rows.name[:120]}"):
        with disk_errors(folder, wish.rows.stat().st_size):
            folder.chmod(0o700)
            if not copy.exists():
                with replacing(copy) as temporary:
                    shutil.copyfile(wish.rows, temporary)
        yield folder, copy


async def _ready(desk: Desk, wish: Wish, path: Path) -> None:
    """Load the model of the first row, so that what would fail every row is said once. Raises what keeps it."""
    row = row_of(next(rows(path, _LONGEST))[1])
    named: Any = wish.model or row.body.get("model")
    if not isinstance(named, str) or not 0 < len(named) <= 256:
        return  # which is this row's error alone
    try:
        if row.url == "/v1/embeddings":
            await desk.embed(EmbedRequest(model=named, inputs=("a",)))
        else:
            await desk.load(Request(model=named))
    except NotFound as error:
        raise NotFound(
            error.message, f"{error.remedy}. --model NAME takes another in its place".lstrip(". ")
        ) from error
