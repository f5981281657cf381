"""How well a short look at a job predicts the time and the memory that the job then takes, over ten settings.

    python -m bench.plan [--probe 20] [--seconds 60] [--only NAME …] [--json]

Each setting is probed as `freehold tune --plan` does, then trained for about so many seconds. Ends with 1 when the
memory is off by more than 15 percent or the time by more than 25.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from bench.tune import SHAPES, write_base, write_rows

from freehold.core.request import Message
from freehold.data.rows import Preference
from freehold.data.rows import write_rows as write
from freehold.tuning.job import TrainJob, TrainPlan
from freehold.tuning.launch import plan, train

MEMORY, TIME = 0.15, 0.25
"""By how much a prediction may be off."""
_GLANCE = 5.0
"""Seconds."""
SMALL = SHAPES["smol"] | {"layers": 10, "vocab": 16384}
SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {},
    "lora, checkpointing": {"checkpointing": "on"},
    "lora, float32": {"dtype": "f32"},
    "lora, rank 64, large steps": {"rank": 64, "batch_tokens": 8192},
    "lora, one row a step": {"batch": 1},
    "rslora, long rows": {"method": "rslora", "words": 900, "batch_tokens": 2048},
    "dora": {"method": "dora"},
    "full": {"method": "full", "batch_tokens": 2048},
    "nf4": {"base_dtype": "nf4"},
    "dpo": {"objective": "dpo"},
}


class Found(NamedTuple):
    """A prediction beside what came."""

    setting: str
    memory: float
    """Predicted over held, in private bytes."""
    time: float
    """Predicted over taken."""
    seconds: float
    """Taken."""
    megabytes: float
    """Held."""

    @property
    def good(self) -> bool:
        """Whether both are near."""
        return abs(self.memory - 1) <= MEMORY and abs(self.time - 1) <= TIME


def preferences(path: Path, rows: Path) -> None:
    """The same questions with an answer that is wanted and one that is not."""
    chats = [json.loads(line)["messages"] for line in rows.read_text().splitlines()]
    write(
        path,
        [
            Preference(
                (Message("user", question["content"]),),
                chosen=(Message("assistant", answer["content"]),),
                rejected=(Message("assistant", answer["content"][::-1]),),
            )
            for question, answer in chats
        ],
    )


def job(folder: Path, name: str) -> TrainJob:
    """The job of a setting."""
    changes = dict(SETTINGS[name])
    rows = folder / f"rows-{changes.get('words', 110)}.jsonl"
    if not rows.exists():
        write_rows(rows, 3000, changes.get("words", 110))
    changes.pop("words", None)
    if changes.get("objective") == "dpo":
        preferences(folder / "preferences.jsonl", rows)
        rows = folder / "preferences.jsonl"
    given: dict[str, Any] = {"batch_tokens": 4096, "max_length": 4096, "learning_rate": 1e-4, "evaluations": 0}
    return TrainJob(out=folder / name.replace(" ", "-"), train=rows, base=folder / "base", **(given | changes))


def look(job: TrainJob, seconds: float) -> TrainPlan:
    """What a short look at it says."""
    out = job.out.with_name(f"{job.out.name}-look")
    return plan(msgspec.structs.replace(job, out=out, probe=seconds), lambda progress: None)


def measured(asked: TrainJob, name: str, probe: float, seconds: float) -> Found:
    """Look, then do. A glance before tells how many steps there are to be: the largest differs with their number."""
    glance = look(msgspec.structs.replace(asked, steps=1000), _GLANCE)
    job = msgspec.structs.replace(asked, steps=max(4, round(seconds * glance.steps / glance.seconds)))
    told, done = look(job, probe), train(job, lambda progress: None)
    memory, time = told.peak_private / done.peak_private, told.seconds / done.seconds
    return Found(name, memory, time, done.seconds, done.peak_private / 2**20)


def main() -> int:
    """Print the figures; 1 when one is off by too much."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--probe", type=float, default=20, help="seconds of each look")
    parser.add_argument("--seconds", type=float, default=60, help="of each training")
    parser.add_argument("--only", nargs="*", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory(prefix="bench-plan-") as text:
        folder = Path(text)
        write_base(folder / "base", SMALL)
        for name in args.only:
            found.append(measured(job(folder, name), name, args.probe, args.seconds))
            if not args.json:
                each = found[-1]
                mark = "" if each.good else "  OFF"
                print(
                    f"{name:28} memory {each.memory:5.2f} of {each.megabytes:6.0f} MB   "
                    f"time {each.time:5.2f} of {each.seconds:5.0f} s{mark}",
                    flush=True,
                )
    if args.json:
        print(json.dumps([each._asdict() | {"good": each.good} for each in found], indent=2))
    return int(not all(each.good for each in found))


if __name__ == "__main__":
    sys.exit(main())
