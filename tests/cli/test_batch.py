"""freehold batch: a file of requests answered by a real worker, in a process that may be killed."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Freehold, assert_refused, command

HELLO = [{"role": "user", "content": "Where is my order?"}]
BODY = {"model": "tiny", "messages": HELLO, "max_tokens": 4, "temperature": 0}


def row(name: str, **body: Any) -> str:
    asked = {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": {**BODY, **body}}
    return json.dumps(asked)


@pytest.fixture
def rows(tmp_path: Path, tiny: str) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(row(f"r{i}") for i in range(3)))
    return path


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_a_file_is_answered(freehold: Freehold, rows: Path, tmp_path: Path) -> None:
    planned = freehold("batch", "rows.jsonl", "--dry-run")
    assert (planned.returncode, planned.stdout) == (
        0, "would ask tiny for 3 rows of /v1/chat/completions and write rows.out.jsonl\n"
    )  # fmt: skip
    done = freehold("batch", "rows.jsonl")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "3 of 3 rows are answered: rows.out.jsonl\n"
    assert "answered: 3 of 3 rows" in done.stderr
    assert "tokens were read" in done.stderr
    told = read(tmp_path / "rows.out.jsonl")
    assert [each["custom_id"] for each in told] == ["r0", "r1", "r2"]
    assert len({each["response"]["body"]["choices"][0]["message"]["content"] for each in told}) == 1
    assert_refused(freehold("batch", "rows.jsonl"), "rows.out.jsonl exists", "--force")
    again = freehold("batch", "rows.jsonl", "--force", "-q")
    assert (again.returncode, again.stderr) == (0, "")


def test_rows_that_are_not_answered_are_a_finding(freehold: Freehold, rows: Path, tmp_path: Path) -> None:
    rows.write_text("\n".join([row("good"), row("bad", temperature=9)]))
    done = freehold("batch", "rows.jsonl", "--out", "answers.jsonl", "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["input_tokens"] > 4
    assert told.items() >= {
        "status": "completed", "total": 2, "answered": 1, "failed": 1,
        "out": "answers.jsonl", "errors": "answers.errors.jsonl",
    }.items()  # fmt: skip
    assert read(tmp_path / "answers.errors.jsonl")[0]["custom_id"] == "bad"


def test_what_cannot_be_asked(freehold: Freehold, rows: Path, tmp_path: Path) -> None:
    assert_refused(freehold("batch", "nothing.jsonl"), "no such file")
    assert_refused(freehold("batch", "rows.jsonl", "--out", "rows.jsonl"), "written over")
    assert_refused(freehold("batch", "rows.jsonl", "--out", "no/where.jsonl"), "no folder")
    assert_refused(freehold("batch", "rows.jsonl", "--model", "gpt-4o"), "gpt-4o")
    rows.write_text(f"{row('a')}\nnonsense\n{row('a')}\n")
    for more in ([], ["--dry-run"]):
        done = freehold("batch", "rows.jsonl", *more)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("error: rows.jsonl cannot be asked: line 2: ")
        assert "line 3: " in done.stderr
    told = freehold("batch", "rows.jsonl", "--json")
    assert (told.returncode, [fault["line"] for fault in json.loads(told.stdout)["faults"]]) == (2, [2, 3])
    assert not (tmp_path / "rows.out.jsonl").exists()


def test_a_killed_run_goes_on(freehold: Freehold, rows: Path, tmp_path: Path, home: Path) -> None:
    rows.write_text("\n".join(row(f"r{i}", max_tokens=200, logit_bias={"0": -100, "2": -100}) for i in range(24)))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "FREEHOLD_THREADS": "1", "FREEHOLD_PARALLEL": "2"}

    def answered() -> int:
        return sum(path.read_bytes().count(b"\n") for path in home.glob("batch/*/jobs/*/journal.jsonl"))

    for number, (kill, code) in enumerate(((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130))):
        with subprocess.Popen(command("batch", "rows.jsonl"), cwd=tmp_path, env=env, stderr=subprocess.PIPE) as process:
            end = time.monotonic() + 60
            while answered() < 2 + 2 * number:
                assert time.monotonic() < end
                time.sleep(0.02)
            process.send_signal(kill)
            assert process.wait(30) == code
            assert process.stderr is not None
            told = process.stderr.read()
        assert not (tmp_path / "rows.out.jsonl").exists()
    assert b"run the same command to resume" in told
    before = answered()
    done = freehold("batch", "rows.jsonl", "--json")
    assert done.returncode == 0, done.stderr
    assert [each["custom_id"] for each in read(tmp_path / "rows.out.jsonl")] == [f"r{i}" for i in range(24)]
    assert 4 <= before < 24
    assert not list((home / "batch").iterdir())
