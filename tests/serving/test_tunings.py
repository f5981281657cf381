"""Tuning jobs and the processes that do them, whatever these say and whenever their job is changed."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from freehold.core.errors import BadInput, NotFound
from freehold.core.settings import Settings
from freehold.formats.atomic import replacing
from freehold.serving import tunings
from freehold.serving.desk import Desk
from freehold.serving.diary import Room, Tuning
from freehold.serving.tunings import Tunings
from freehold.store import Store
from tests.serving.support import FakeEngine, in_loop, soon

CHILD = """
import sys
from pathlib import Path
order = sys.stdin.readline()
check = '"check":true' in order
folder = Path(sys.argv[1])
with (folder / "began").open("a") as began:
    began.write("check\\n" if check else "make\\n")
said = (folder / ("check" if check else "make")).read_bytes()
sys.stdout.buffer.write(said)
sys.stdout.flush()
if not said.endswith(b"\\n"):
    sys.stdin.read()
"""
"""Says what a file holds; when that does not end a line, waits to be told to end."""
PATIENCE = 50.0
"""Seconds: processes begin late, and disks write late, where others are at work."""
CHECKED = b'{"type":"checked","train":3,"held_out":1}\n'
CSV = "loss,held_out_loss\n2.5,3.0\n1.5,\n,2.0\n"


class Bench:
    """A desk whose jobs are done by the child, and what the child is to say."""

    def __init__(self, settings: Settings, store: Store, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self.desk = Desk(settings, store, FakeEngine())
        self.jobs.command = (sys.executable, "-c", CHILD, str(folder))
        self.say(check=CHECKED, make=self.made())
        (folder / "loss.csv").write_text(CSV)

    @property
    def jobs(self) -> Tunings:
        return self.desk.tunings

    def say(self, **lines: bytes) -> None:
        for what, said in lines.items():
            with replacing(self.folder / what) as written:  # a child may be about to read it
                written.write_bytes(said)

    def made(self, name: str = "ft:x") -> bytes:
        scores = [
            {"model": model, "token_f1": found, "exact_match": found / 2, "rows": 4}
            for model, found in (("base", 0.25), ("tuned", 0.75))
        ]
        told = {"type": "made", "name": name, "folder": str(self.folder), "tokens": 9, "scores": scores}
        return msgspec.json.encode(told) + b"\n"

    def add(self, identifier: str = "ftjob-1", **fields: Any) -> None:
        """A job as an earlier server left it."""
        job = Tuning(id=identifier, kind="openai", created=1.0, model="ft:x", about={"purpose": "results"}, **fields)
        data = self.folder / "data.jsonl"
        data.write_bytes(b"{}\n")
        Room(self.settings.tunings, identifier).create(job, b"[model]\n", data, data)

    @property
    def began(self) -> list[str]:
        path = self.folder / "began"
        return path.read_text().split() if path.exists() else []

    async def job(self, identifier: str = "ftjob-1") -> Tuning:
        return await self.jobs.get("openai", identifier)

    async def reached(self, *statuses: str, identifier: str = "ftjob-1") -> Tuning:
        self.jobs.start()
        job = await self.job(identifier)
        await soon(lambda: job.status in statuses, PATIENCE)
        return job

    async def diary(self) -> list[str]:
        return [said.text for said in await self.jobs.diary(await self.job())][::-1]

    async def close(self) -> None:
        await self.desk.close()


@pytest.fixture
def bench(settings: Settings, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(tunings, "_PATIENCE", 0.05)
    (tmp_path / "bench").mkdir()
    return Bench(settings, store, tmp_path / "bench")


@in_loop
async def test_a_job_is_checked_made_and_told_of(bench: Bench):
    bench.add()
    job = await bench.reached("succeeded", "failed")
    assert job.fault is None
    assert (job.tokens, job.steps, job.loss, job.held_out_loss) == (9, 2, 1.5, 2.0)
    assert job.finished is not None
    assert bench.began == ["check", "make"]
    assert [line for line in await bench.diary() if "Step" not in line] == [
        "Files validated, moving job to queued state",
        "Fine-tuning job started",
        "Of 4 held-out rows, the base answered 12.5% exactly; token F1 0.250",
        "Of 4 held-out rows, the new model answered 37.5% exactly; token F1 0.750",
        "New fine-tuned model created: ft:x",
        "The job has successfully completed",
    ]
    assert bench.desk.files.path(job.results).read_text().splitlines() == [
        "step,train_loss,valid_loss,valid_token_f1,valid_exact_match",
        "0,,3.0,0.25,0.125",
        "1,2.5,,,",
        "2,1.5,2.0,0.75,0.375",
    ]
    with pytest.raises(BadInput, match="is succeeded already"):
        await bench.jobs.cancel("openai", job.id)
    with pytest.raises(NotFound):
        await bench.jobs.get("another dialect", job.id)
    await bench.close()


@pytest.mark.parametrize("change", ["cancel", "pause"])
@pytest.mark.parametrize("check", [True, False])
@in_loop
async def test_a_job_that_is_changed_as_it_begins_is_not_made(bench: Bench, change: str, check: bool):
    """The process of the job is only being started, and is not known yet."""
    bench.add(**({} if check else {"status": "queued", "checked": True}))
    bench.jobs.start()
    job = await bench.job()
    if not check:
        while job.status != "running":
            await asyncio.sleep(0)
    await getattr(bench.jobs, change)("openai", job.id)
    ended = "cancelled" if change == "cancel" else "paused"
    assert job.status == ended
    for runner in bench.jobs._runners.values():
        await asyncio.wait_for(runner, PATIENCE)
    assert (job.status, job.fault, job.results) == (ended, None, "")
    assert "make" not in bench.began
    found = Room(bench.settings.tunings, job.id).load()
    assert found is not None
    assert found.status == ended, "the next server sees the same"
    await bench.close()


@in_loop
async def test_a_paused_job_goes_on_where_it_was(bench: Bench):
    bench.say(make=b"working")
    bench.add(status="queued", checked=True)
    job = await bench.reached("running")
    await soon(lambda: bench.began == ["make"], PATIENCE)
    await bench.jobs.pause("openai", job.id)
    assert (await bench.jobs.pause("openai", job.id)).status == "paused", "it stays so"
    await bench.jobs.resume("openai", job.id)
    with pytest.raises(BadInput, match=r"the job is (queued|running)"):
        await bench.jobs.resume("openai", job.id)
    await soon(lambda: len(bench.began) == 2, PATIENCE)
    await bench.jobs.pause("openai", job.id)
    bench.say(make=bench.made())
    await bench.jobs.resume("openai", job.id)
    await bench.reached("succeeded")
    assert bench.began == ["make"] * 3
    assert [line for line in await bench.diary() if line.startswith("The job was")] == [
        "The job was paused", "The job was resumed", "The job was paused", "The job was resumed",
    ]  # fmt: skip
    await bench.close()


def refused(kind: str) -> bytes:
    report = {"type": "error", "kind": kind, "message": "it is so", "remedy": "Change it"}
    return msgspec.json.encode(report) + b"\n"


ENDS: dict[str, tuple[Callable[[Bench], bytes], str, str]] = {
    "refuses": (lambda bench: refused("BadData"), "invalid_data", "it is so. Change it"),
    "has no memory": (lambda bench: refused("NotEnoughMemory"), "insufficient_memory", "it is so"),
    "the gate": (lambda bench: bench.made(""), "gate_failed", "kept the model"),
    "says nothing": (lambda bench: b"\n", "worker_failed", "the process of the job"),
    "nonsense": (lambda bench: b"{]\n", "worker_failed", "the process of the job"),
    "no letters": (lambda bench: b'{"type":"\xff"}\n', "worker_failed", "the process of the job"),
    "another form": (lambda bench: b'{"type":"made"}\n', "worker_failed", "the process of the job"),
    "no curve": (lambda bench: bench.made().replace(b"bench", b"nowhere"), "internal_error", "server failed at this"),
}


@pytest.mark.parametrize("how", ENDS)
@in_loop
async def test_how_a_job_fails(bench: Bench, how: str):
    said, code, words = ENDS[how]
    bench.say(make=said(bench))
    bench.add(status="queued", checked=True)
    bench.add("ftjob-2")
    job = await bench.reached("failed")
    assert job.fault is not None
    assert (job.fault.code, words in job.fault.message) == (code, True), job.fault
    folder = bench.settings.tunings / job.id
    await soon(
        lambda: {path.name for path in folder.iterdir()} == {"diary.jsonl", "recipe.toml", "state.json"}, PATIENCE
    )
    assert "The job failed" in (await bench.diary())[-1]
    bench.say(make=bench.made())
    await bench.reached("succeeded", "failed", identifier="ftjob-2")
    await bench.close()


@pytest.mark.parametrize("kind", ["DiskFull", "Conflict", "Busy"])
@in_loop
async def test_what_passes_is_waited_for(bench: Bench, kind: str):
    bench.say(make=refused(kind))
    bench.add(status="queued", checked=True)
    job = await bench.reached("running")
    await soon(lambda: len(bench.began) > 1, PATIENCE)
    assert job.status == "running"
    bench.say(make=bench.made())
    await bench.reached("succeeded")
    await bench.close()


@in_loop
async def test_a_server_that_ends_leaves_a_job_to_the_next(bench: Bench, store: Store):
    bench.say(make=b"working")
    bench.add(status="queued", checked=True)
    await bench.reached("running")
    await soon(lambda: bench.began == ["make"], PATIENCE)
    await bench.close()
    found = Room(bench.settings.tunings, "ftjob-1").load()
    assert found is not None
    assert (found.status, found.fault) == ("running", None)
    again = Bench(bench.settings, store, bench.folder)
    await again.reached("succeeded")
    assert again.began == ["make", "make"]
    assert (await again.diary()).count("Fine-tuning job started") == 1
    await again.close()
