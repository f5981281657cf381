"""What the disk spoiled of files, batches and tuning jobs: it is left out and stays, and costs nothing else."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from msgspec import Raw

from freehold.core.event import Usage
from freehold.core.settings import Settings
from freehold.serving.app import create_app
from freehold.serving.desk import Desk
from freehold.serving.diary import Diary, Room, Tuning
from freehold.serving.files import Files
from freehold.serving.jobs import Folder, Job, Journal, Noted
from freehold.store import Store
from freehold.store.kept import Kept
from tests.serving.support import FakeEngine, in_loop

DAMAGE = {
    "cut": lambda data: data[: len(data) // 2],
    "no JSON": lambda data: b"{",
    "another form": lambda data: b'{"id": 1}',
    "letters that are none": lambda data: data.replace(b"rows", b"r\xffws"),
    "another's": lambda data: data.replace(b"-", b"_", 1),
    "nothing": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
}


@pytest.fixture
def files(settings: Settings) -> Files:
    return Files(settings)


def job(identifier: str, status: str = "completed", kind: str = "rows") -> Job:
    return Job(id=identifier, kind=kind, created=1.0, expires=time.time() + 999, status=status, about={"a": "rows"})


def tuning(identifier: str) -> Tuning:
    return Tuning(id=identifier, kind="rows", created=1.0, model="ft:x", status="succeeded")


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_description_costs_its_file_alone(files: Files, settings: Settings, what: str):
    whole, spoilt = (files.write([b"a", b"b"], f"{name}.jsonl", "batch") for name in ("whole-rows", "rows"))
    path = files.folder / f"{spoilt.id}.json"
    damaged = DAMAGE[what](path.read_bytes())
    path.write_bytes(damaged)
    again = Files(settings)
    assert [kept.id for kept in again.all()] == [whole.id]
    assert again.path(whole.id).read_bytes() == b"a\nb\n"
    assert path.read_bytes() == damaged
    assert (files.folder / f"{spoilt.id}.data").read_bytes() == b"a\nb\n", "what was sent is not thrown away"
    assert again.held() > 2 * 4, "it takes its place"
    assert again.write([b"c"], "new", "batch").size == 2


def test_what_is_no_file_of_ours_is_let_alone(files: Files, settings: Settings):
    kept = files.write([b"a"], "rows", "batch")
    (files.folder / "lost+found").mkdir()
    (files.folder / ".Trash-0").mkdir()
    (files.folder / "notes.txt").write_text("mine")
    again = Files(settings)
    assert [each.id for each in again.all()] == [kept.id]
    again.remove(kept.id)
    assert {path.name for path in files.folder.iterdir()} == {"lost+found", ".Trash-0", "notes.txt"}


def test_a_folder_that_was_removed_is_made_again(files: Files, settings: Settings):
    lost = files.write([b"a"], "rows", "batch")
    shutil.rmtree(settings.files)
    kept = files.write([b"b"], "rows", "batch")
    assert files.path(kept.id).read_bytes() == b"b\n"
    files.remove(lost.id)
    assert [each.id for each in files.all()] == [kept.id]


def test_what_is_kept_of_conversations_is_found_beside_what_is_not(settings: Settings):
    Kept(settings.answers, 1 << 20).put("resp_1", b"one")
    for name in (".Trash-0", "resp_2.z", "lost+found"):
        (settings.answers / name).mkdir()
    (settings.answers / ".resp_3.z.abc.tmp").write_bytes(b"half")
    again = Kept(settings.answers, 1 << 20)
    assert again.keys("resp_") == ["resp_1"]
    assert again.put("resp_4", b"two")
    assert (again.get("resp_1"), again.get("resp_4")) == (b"one", b"two")
    assert not (settings.answers / ".resp_3.z.abc.tmp").exists()


def test_what_another_process_is_sending_stays_until_it_ends(files: Files, settings: Settings):
    files.all()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as sender:
        parts = [files.folder / f"{pid}-abc.part" for pid in (sender.pid, os.getpid())]
        for part in parts:
            part.write_bytes(b"half")
        assert Files(settings).all() == []
        assert [part.exists() for part in parts] == [True, False]
        sender.communicate(b"\n")
    Files(settings).all()
    assert not parts[0].exists()


@pytest.mark.parametrize("what", DAMAGE)
@in_loop
async def test_a_damaged_batch_or_tuning_job_costs_no_other(settings: Settings, store: Store, what: str):
    for name in ("job-1", "job-2"):
        Folder(settings.batches, name).create(job(name), [b"{}"])
        Room(settings.tunings, name).begin(tuning(name), lambda: None)
    for root in (settings.batches, settings.tunings):
        state = root / "job-1" / "state.json"
        state.write_bytes(DAMAGE[what](state.read_bytes()))
        (root / "notes.txt").write_text("mine")
    desk = Desk(settings, store, FakeEngine())
    assert [each.id for each in await desk.batches.all("rows")][-1:] == ["job-2"]
    assert [each.id for each in await desk.tunings.all("rows")][-1:] == ["job-2"]
    for root in (settings.batches, settings.tunings):
        assert (root / "job-1" / "state.json").exists()
    await desk.close()


@in_loop
async def test_the_routes_answer_beside_damage(settings: Settings, store: Store):
    Files(settings).write([b"a"], "rows", "batch")
    Folder(settings.batches, "batch_1").create(job("batch_1", kind="openai"), [b"{}"])
    for path in (*settings.files.glob("*.json"), settings.batches / "batch_1" / "state.json"):
        path.write_bytes(path.read_bytes().replace(b"rows", b"\xc3\x28"))
    app = create_app(settings, store, engine=FakeEngine())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        for path in ("/v1/files", "/v1/batches", "/v1/fine_tuning/jobs"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["data"]) == (200, [])
    await app.state.desk.close()


@pytest.mark.parametrize("damage", [b'{"row":2,"fate":"done"}\n', b"\xff\n", b'{"row":2,"fate":"d\xff","usage":{}}\n'])
def test_a_journal_counts_up_to_what_is_damaged(tmp_path: Path, damage: bytes):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for row in (1, 2):
        journal.add(Noted(row, "done", Usage(1, 1), Raw(b'{"r":%d}' % row)))
    journal.close()
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + damage + second)
    again = Journal(path)
    assert (1 in again, 2 in again) == (True, False), "a row that cannot be read is asked again"
    again.add(Noted(2, "failed", Usage(1, 1), Raw(b'{"r":3}')))
    assert list(again.records("done", "failed")) == [b'{"r":1}', b'{"r":3}']
    again.close()


def test_a_diary_tells_up_to_what_is_damaged(tmp_path: Path):
    path = tmp_path / "diary.jsonl"
    diary = Diary(path)
    for text in ("one", "two", "three"):
        diary.add("info", text)
    path.write_bytes(path.read_bytes().replace(b"two", b"t\xffo"))
    again = Diary(path)
    assert [said.text for said in again.read()] == ["one"]
    again.add("info", "four")
    assert [(said.number, said.text) for said in Diary(path).read()] == [(0, "one"), (1, "four")]


@in_loop
async def test_a_batch_of_another_version_waits_for_it(settings: Settings, store: Store):
    waiting = job("job-1", "in_progress", "of the future")
    Folder(settings.batches, "job-1").create(waiting, [b"{}"])
    before = (settings.batches / "job-1" / "state.json").read_bytes()
    app = create_app(settings, store, engine=FakeEngine())
    desk = app.state.desk
    desk.batches.start()
    await desk.batches._runner
    assert (settings.batches / "job-1" / "state.json").read_bytes() == before
    assert json.loads(before)["status"] == "in_progress"
    await desk.close()
