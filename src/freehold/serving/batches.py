"""Batches: rows that are asked through the desk when nobody else asks, one batch after the other, kills or not."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec

from freehold.core.errors import BadInput, Busy, FreeholdError, Interrupted, NoRoom, NotFound, WorkerFailed
from freehold.core.event import Usage
from freehold.core.settings import Settings
from freehold.serving.admission import Preempted
from freehold.serving.described import surplus
from freehold.serving.jobs import MAX_ROWS, Fault, Folder, Job, Journal, Noted, new_id

if TYPE_CHECKING:
    from freehold.serving.desk import Desk

MAX_JOBS = 1000
"""Batches that are kept; a new one takes the place of the oldest that has ended."""
ROW_SECONDS = 3600.0
"""In which one row must be answered."""
_FAULTS = 100
"""Bad lines that are told of."""
_CHECKED = 1 << 32
"""Bytes of a row that was found to be short enough, whatever the settings say since."""
_TRIES = 3
"""Times that a row is asked whose worker dies."""
_PATIENCE = 30.0
"""Seconds between looks whether there is room again."""
_log = logging.getLogger("freehold.batches")


class Answer(NamedTuple):
    """What a row was answered."""

    body: Any
    usage: Usage


class Kind(Protocol):
    """What one vendor's batches are made of."""

    @property
    def name(self) -> str:
        """How jobs refer to it."""

    def check(self, job: Job, row: bytes) -> str:
        """The row's own id. Raises BadInput for a row that cannot be asked."""

    async def ask(self, desk: "Desk", job: Job, row: bytes) -> Answer:
        """The answer to a row. Raises FreeholdError."""

    def record(self, job: Job, row: bytes, answer: Answer | FreeholdError) -> Any:
        """What is written about an answer."""

    def left(self, job: Job, row: bytes) -> Any:
        """What is written about a row that was not asked before the batch ended."""

    def finish(self, desk: "Desk", job: Job, folder: Folder, journal: Journal) -> None:
        """Write what the client will fetch. Done again when the server is killed in it. Raises NoRoom."""


class Batches:
    """The batches of one home, and the task that works on them."""

    def __init__(self, desk: "Desk", settings: Settings, *, root: Path | None = None, hands: int = 0) -> None:
        """`root` is where they are kept; `hands` how many rows are asked at once where nobody else has to find room."""
        self.kinds: dict[str, Kind] = {}
        """By name; the dialects' own."""
        self._desk = desk
        self._root = root or settings.batches
        self._hands = hands
        self._longest = settings.max_body
        self._jobs: dict[str, Job] | None = None
        self._loading = asyncio.Lock()
        self._journals: dict[str, Journal] = {}
        """Of the batches in work."""
        self._runner: asyncio.Task[None] | None = None
        self._aside: set[asyncio.Task[None]] = set()
        """What ends cancelled batches while another is in work."""
        self._stopping: dict[str, asyncio.Event] = {}
        """Set when the rows of a batch need not be asked any more."""
        self._halted = threading.Event()

    def adopt(self, settings: Settings) -> None:
        """Go by other settings from the next batch on."""
        self._longest = settings.max_body

    def start(self) -> None:
        """Go on with what an earlier server left."""
        if self._root.is_dir():
            self._wake()

    async def stop(self) -> None:
        """Leave everything for the next server."""
        self._halted.set()
        tasks = [*self._aside, *([self._runner] if self._runner else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def create(
        self, kind: str, prefix: str, rows: Path | Sequence[bytes], seconds: float, about: dict[str, Any]
    ) -> Job:
        """A new batch, to be done within so many seconds. Raises NoRoom.

        Its rows are those of a file, which are checked first, or these lines, which were.
        """
        jobs = await self._loaded()
        now = time.time()
        job = Job(id=new_id(prefix), kind=kind, created=now, expires=now + seconds, about=about)
        if not isinstance(rows, Path):
            job.total = len(rows)
            job.turn("in_progress")

        gone = surplus(jobs, MAX_JOBS, "batches")

        def work() -> None:
            for old in gone:
                self.folder(old).remove()
            self._desk.files.admit(0 if isinstance(rows, Path) else sum(map(len, rows)))
            Folder(self._root, job.id).create(job, rows)

        await asyncio.to_thread(work)
        jobs[job.id] = job
        self._wake()
        return job

    async def all(self, kind: str) -> list[Job]:
        """Those of a kind, the newest first."""
        jobs = [self._counted(job) for job in (await self._loaded()).values() if job.kind == kind]
        return sorted(jobs, key=lambda job: (job.created, job.id), reverse=True)

    async def get(self, kind: str, identifier: str) -> Job:
        """One of them, with its counts as they are now. Raises NotFound."""
        job = (await self._loaded()).get(identifier)
        if job is None or job.kind != kind:
            raise NotFound(f"there is no batch {identifier[:80]!r}", "List the batches to see what is there")
        return self._counted(job)

    async def cancel(self, kind: str, identifier: str) -> Job:
        """Ask no more rows of it. Raises NotFound, and BadInput for one that has ended."""
        job = await self.get(kind, identifier)
        if job.ended or job.status == "finalizing":
            raise BadInput(
                f"the batch is {job.status} already", "Only a batch that is still worked on can be cancelled"
            )
        if job.status != "cancelling":
            job.end = "cancelled"
            job.turn("cancelling")
            await asyncio.to_thread(self.folder(job).save, job)
            if (stopping := self._stopping.get(job.id)) is not None:
                stopping.set()
            else:
                self._stopping[job.id] = asyncio.Event()  # before the runner can pick it up
                task = asyncio.create_task(self._bring(job))
                self._aside.add(task)
                task.add_done_callback(self._aside.discard)
        return job

    async def remove(self, kind: str, identifier: str) -> None:
        """Forget one that has ended. Raises NotFound, and BadInput for one that has not."""
        job = await self.get(kind, identifier)
        if not job.ended:
            raise BadInput(f"the batch is {job.status}", "Cancel it first, and wait for its end")
        await asyncio.to_thread(self.folder(job).remove)
        (await self._loaded()).pop(identifier, None)

    def folder(self, job: Job) -> Folder:
        """Where it is kept."""
        return Folder(self._root, job.id)

    def _counted(self, job: Job) -> Job:
        journal = self._journals.get(job.id)
        if journal is not None:
            _count(job, journal)
        return job

    async def _loaded(self) -> dict[str, Job]:
        async with self._loading:
            if self._jobs is None:
                self._jobs = await asyncio.to_thread(self._load)
        return self._jobs

    def _load(self) -> dict[str, Job]:
        names = sorted(path.name for path in self._root.iterdir()) if self._root.is_dir() else []
        jobs = [job for name in names if (job := Folder(self._root, name).load()) is not None]
        for job in jobs:
            if job.ended:
                self.folder(job).finish()
        return {job.id: job for job in jobs}

    def _wake(self) -> None:
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run())

    async def _run(self) -> None:
        await self._loaded()
        while (job := self._next()) is not None:
            await self._bring(job)

    def _next(self) -> Job | None:
        known = [job for job in (self._jobs or {}).values() if job.kind in self.kinds]  # others wait for their version
        waiting = [job for job in known if not job.ended and job.id not in self._stopping]
        return min(waiting, key=lambda job: (job.status != "cancelling", job.created), default=None)

    async def _bring(self, job: Job) -> None:
        """Bring a batch to its end; one that cannot be brought there costs no other."""
        (error,) = await asyncio.gather(self._work(job), return_exceptions=True)
        if error is not None:
            _log.error("the batch %s cannot be gone on with", job.id, exc_info=error)
            ours = _as_ours(error)
            job.faults = [Fault(ours.code, ours.line()[:300])]
            job.turn("failed")
            with suppress(FreeholdError, OSError):  # the next server tries again, if its folder is there
                await asyncio.to_thread(self.folder(job).save, job)

    async def _work(self, job: Job) -> None:
        """Do what is to be done, however often the disk is full meanwhile."""
        self._stopping.setdefault(job.id, asyncio.Event())
        try:
            while not job.ended:
                try:
                    await self._steps(job)
                except NoRoom as error:
                    _log.warning("the batch %s waits: %s", job.id, error.line())
                    await asyncio.sleep(_PATIENCE)
        finally:
            del self._stopping[job.id]

    async def _steps(self, job: Job) -> None:
        folder, kind = self.folder(job), self.kinds.get(job.kind)
        if kind is None:
            raise NotFound(f"nobody knows batches of the kind {job.kind!r}", "Run the version that made them")
        journal = self._journals[job.id] = await asyncio.to_thread(Journal, folder.journal)
        try:
            if job.status == "validating":
                await self._validate(job, folder, kind)
            if job.status == "in_progress":
                await self._ask_all(job, folder, kind, journal)
            if not job.ended:
                await _uncut(asyncio.to_thread(self._finish, job, folder, kind, journal))
        finally:
            del self._journals[job.id]
            journal.close()

    async def _validate(self, job: Job, folder: Folder, kind: Kind) -> None:
        total, found = await asyncio.to_thread(faults, kind, job, folder.rows(self._longest), self._halted.is_set)
        if job.status != "validating":
            return  # cancelled meanwhile
        if found:
            job.faults = found
            job.turn("failed")
        else:
            job.total = total
            job.turn("in_progress")
        await asyncio.to_thread(folder.save, job)
        if found:
            await asyncio.to_thread(folder.finish)

    async def _ask_all(self, job: Job, folder: Folder, kind: Kind, journal: Journal) -> None:
        """Have all rows answered, until the batch is cancelled or too old."""
        rows, turn = folder.rows(_CHECKED), asyncio.Lock()

        async def hand() -> None:
            while True:
                async with turn:  # a generator has one caller at a time
                    found = await asyncio.to_thread(_unanswered, rows, journal)
                if found is None:
                    return
                noted = await self._answered(job, kind, *found)
                await _uncut(asyncio.to_thread(journal.add, noted))

        hands = [asyncio.create_task(hand()) for _ in range(self._hands or self._desk.admission.spare)]
        answered = asyncio.gather(*hands)
        stopping = asyncio.create_task(self._stopping[job.id].wait())
        try:
            timeout = max(0.0, job.expires - time.time())
            either: set[asyncio.Future[Any]] = {answered, stopping}
            await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            whole = answered.done()
            if whole:
                answered.result()
        finally:
            for task in (*hands, stopping):
                task.cancel()
            await asyncio.gather(*hands, answered, stopping, return_exceptions=True)
        if job.status == "in_progress":
            job.end = "completed" if whole else "expired"
            job.turn("finalizing")
            await asyncio.to_thread(folder.save, job)

    async def _answered(self, job: Job, kind: Kind, number: int, row: bytes) -> Noted:
        """A row's answer, or the error that will not go away."""
        tries = 0
        while True:
            found: Answer | BaseException
            (found,) = await asyncio.gather(self._asked(job, kind, row), return_exceptions=True)
            if isinstance(found, Busy):
                await asyncio.sleep(min(found.retry_after, _PATIENCE))
            elif isinstance(found, Answer) or (
                isinstance(found, FreeholdError) and not isinstance(found, WorkerFailed)
            ):
                return _noted(kind, job, number, row, found)
            elif not isinstance(found, Preempted | asyncio.CancelledError):
                tries += 1
                if tries == _TRIES:
                    return _noted(kind, job, number, row, _as_ours(found))

    async def _asked(self, job: Job, kind: Kind, row: bytes) -> Answer:
        async with self._desk.admission.background():
            return await kind.ask(self._desk, job, row)

    def _finish(self, job: Job, folder: Folder, kind: Kind, journal: Journal) -> None:
        """Account for every row, and write what the client will fetch."""
        if job.end != "completed" and job.total:
            for number, row in folder.rows(_CHECKED):
                if number not in journal:
                    journal.add(Noted(number, "left", Usage(), _raw(kind.left(job, row))), sync=False)
        _count(job, journal)
        kind.finish(self._desk, job, folder, journal)
        job.turn(job.end)
        folder.save(job)
        folder.finish()


def faults(
    kind: Kind, job: Job, rows: Iterator[tuple[int, bytes]], halted: Callable[[], bool] = lambda: False
) -> tuple[int, list[Fault]]:
    """How many rows there are, and what is wrong with the first bad ones. Raises Interrupted once it is `halted`."""
    found: list[Fault] = []
    seen: dict[str, int] = {}
    try:
        for number, row in rows:
            if halted():
                raise Interrupted("the server ends", "It goes on when it is started again")
            try:
                name = kind.check(job, row)
            except BadInput as error:
                found.append(Fault(error.code, error.line(), number, error.param))
            else:
                if (before := seen.setdefault(name, number)) != number:
                    said = f"the custom_id {name[:80]!r} is that of line {before} too"
                    found.append(Fault("duplicate_custom_id", said, number, "custom_id"))
            if len(found) >= _FAULTS:
                break
            if len(seen) > MAX_ROWS:
                found.append(Fault("too_many_tasks", f"there are more than {MAX_ROWS} rows", number))
                break
    except BadInput as error:
        found.append(Fault(error.code, error.line()))
    if not seen and not found:
        found.append(Fault("empty_file", "there are no rows"))
    return len(seen), found


async def _uncut(work: Coroutine[Any, Any, None]) -> None:
    """Do this to its end, even when it is cancelled: a thread cannot be stopped in a write."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    finally:
        await asyncio.gather(task, return_exceptions=True)


def _unanswered(rows: Iterator[tuple[int, bytes]], journal: Journal) -> tuple[int, bytes] | None:
    return next((row for row in rows if row[0] not in journal), None)


def _count(job: Job, journal: Journal) -> None:
    job.done, job.failed, job.left = (journal.count[fate] for fate in ("done", "failed", "left"))
    job.usage = journal.usage


def _noted(kind: Kind, job: Job, number: int, row: bytes, found: Answer | FreeholdError) -> Noted:
    if isinstance(found, Answer):
        return Noted(number, "done", found.usage, _raw(kind.record(job, row, found)))
    return Noted(number, "failed", Usage(), _raw(kind.record(job, row, found)))


def _as_ours(error: BaseException) -> FreeholdError:
    if isinstance(error, FreeholdError):
        return error
    _log.error("a batch met an error that is ours", exc_info=error)
    return FreeholdError("the server failed at this request", "Its log says why; please report it")


def _raw(record: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(record))
