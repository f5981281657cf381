import stat
from pathlib import Path

import msgspec
import pytest

from freehold.core.errors import BadInput, DiskFull, Interrupted, TooLarge
from freehold.core.event import Usage
from freehold.serving.jobs import Fate, Folder, Job, Journal, Noted, new_id


def job(identifier: str = "batch_1") -> Job:
    return Job(id=identifier, kind="openai", created=1.0, expires=2.0, about={"a": [1, None]})


def noted(row: int, fate: Fate = "done", text: str = "x") -> Noted:
    return Noted(row, fate, Usage(1, 2), msgspec.Raw(msgspec.json.encode({"row": row, "text": text})))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def test_a_batch_is_what_it_was_after_a_restart(tmp_path: Path):
    folder = Folder(tmp_path / "batches", "batch_1")
    made = job()
    made.turn("in_progress")
    folder.create(made, [b'{"a":1}', b'{"b":2}'])
    assert Folder(tmp_path / "batches", "batch_1").load() == made
    assert list(folder.rows(100)) == [(1, b'{"a":1}'), (2, b'{"b":2}')]
    for each in (folder.path, folder.path.parent):
        assert stat.S_IMODE(each.stat().st_mode) == 0o700
    made.turn("completed")
    folder.save(made)
    folder.finish()
    assert [found.name for found in folder.path.iterdir()] == ["state.json"]
    folder.remove()
    assert not folder.path.exists()


def test_rows_of_a_file_stay_when_the_file_goes(tmp_path: Path):
    source = tmp_path / "in"
    source.write_bytes(b"one\r\n\n  \ntwo")
    folder = Folder(tmp_path / "batches", "b")
    folder.create(job("b"), source)
    source.unlink()
    assert list(folder.rows(100)) == [(1, b"one"), (4, b"two")]
    with pytest.raises(BadInput, match="not there any more"):
        Folder(tmp_path / "batches", "c").create(job("c"), source)
    assert [each.name for each in (tmp_path / "batches").iterdir()] == ["b"]


def test_a_creation_that_was_cut_short_leaves_nothing(tmp_path: Path):
    folder = Folder(tmp_path, "batch_1")
    folder.path.mkdir()
    folder.input.write_bytes(b"x")
    assert folder.load() is None
    assert not folder.path.exists()


def test_a_damaged_description_is_left_out_and_kept_for_who_looks(tmp_path: Path):
    folder = Folder(tmp_path, "batch_1")
    folder.create(job(), [])
    (folder.path / "state.json").write_bytes(b"{")
    assert folder.load() is None
    assert folder.path.exists()
    folder.save(job("batch_2"))
    assert folder.load() is None, "it is another's"


def test_long_rows_are_refused_by_their_number(tmp_path: Path):
    folder = Folder(tmp_path, "b")
    folder.create(job("b"), [b"x" * 10, b"x" * 11])
    assert len(list(folder.rows(11))) == 2
    with pytest.raises(TooLarge, match="line 2"):
        list(folder.rows(10))


def test_the_journal_knows_what_was_written_before(path: Path):
    journal = Journal(path)
    for row, fate in ((3, "done"), (1, "failed"), (2, "done"), (4, "left")):
        journal.add(noted(row, fate))
    journal.add(noted(2, "failed", "a second answer"))
    journal.close()
    again = Journal(path)
    assert [row in again for row in range(6)] == [False, True, True, True, True, False]
    assert again.count == {"done": 2, "failed": 1, "left": 1}
    assert again.usage == Usage(4, 8)
    assert [msgspec.json.decode(each)["row"] for each in again.records("done", "failed", "left")] == [1, 2, 3, 4]
    assert [msgspec.json.decode(each) for each in again.records("failed")] == [{"row": 1, "text": "x"}]
    again.close()


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_line_that_a_kill_tore_is_none(path: Path, cut: int):
    journal = Journal(path)
    journal.add(noted(1))
    whole = path.read_bytes()
    journal.add(noted(2))
    journal.close()
    path.write_bytes(path.read_bytes()[:-cut])
    again = Journal(path)
    assert (1 in again, 2 in again) == (True, False)
    assert path.read_bytes() == whole
    again.add(noted(2, "done", "new"))
    assert [msgspec.json.decode(each)["text"] for each in again.records("done")] == ["x", "new"]
    again.close()


def test_a_full_disk_leaves_the_journal_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch):
    journal = Journal(path)
    journal.add(noted(1))
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("freehold.serving.jobs.os.fsync", full)
        with pytest.raises(DiskFull):
            journal.add(noted(2))
    assert 2 not in journal
    assert path.read_bytes() == before
    journal.add(noted(2))
    assert path.read_bytes().count(b"\n") == 2
    journal.close()
    with pytest.raises(Interrupted):
        journal.add(noted(3))


def test_names_differ():
    assert len({new_id("batch") for _ in range(100)}) == 100
