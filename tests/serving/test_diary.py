from pathlib import Path

from freehold.serving.diary import Diary, Metrics, Room, Tuning


def test_a_line_that_a_kill_tore_is_none(tmp_path: Path):
    path = tmp_path / "diary.jsonl"
    diary = Diary(path)
    assert diary.read() == []
    diary.add("info", "one")
    diary.add("warn", "two", Metrics(1, 2, 3.5))
    diary.add("info", "three", Metrics(1, 2, held_out_loss=4.5))
    path.write_bytes(path.read_bytes() + b'{"number":3,"at')
    again = Diary(path)
    assert [said.text for said in again.read()] == ["one", "two", "three"]
    assert again.measured() == ({1}, {1})
    again.add("error", "four")
    assert [(said.number, said.text) for said in Diary(path).read()][-1] == (3, "four")


def test_a_job_is_what_it_was_after_a_restart(tmp_path: Path):
    data = tmp_path / "data"
    data.write_bytes(b"rows")
    room = Room(tmp_path / "tunings", "ftjob-1")
    job = Tuning(id="ftjob-1", kind="openai", created=1.0, model="ft:x")
    room.create(job, b"[model]", data, data)
    data.unlink()
    job.turn("failed")
    room.save(job)
    assert Room(tmp_path / "tunings", "ftjob-1").load() == job
    assert job.finished is not None
    assert sorted(path.name for path in room.path.iterdir()) == [
        "recipe.toml",
        "state.json",
        "training_file.jsonl",
        "validation_file.jsonl",
    ]
    room.finish()
    assert sorted(path.name for path in room.path.iterdir()) == ["recipe.toml", "state.json"]
