"""A tiny base trained from scratch by the trainer itself, and rows to tune it on."""

import fcntl
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from freehold.core.request import Message
from freehold.data.rows import Row, write_rows
from freehold.tuning.job import Architecture, TrainJob

TINY = Architecture(vocab=300, hidden=64, layers=2, heads=4, kv_heads=2, intermediate=96, context=256)


def rows(count: int, seed: int = 0) -> list[Row]:
    """Questions whose answer is a word of the question."""
    draw = random.Random(seed)
    names, things = ["Ann", "Ben", "Cid", "Dora", "Eve"], ["key", "lamp", "map", "pen", "ring"]
    made = []
    for line in range(count):
        name, thing = draw.choice(names), draw.choice(things)
        question = Message("user", f"{name} has the {thing}. Who has the {thing}?")
        made.append(Row((question, Message("assistant", f"{name} has it.")), line + 1))
    return made


@pytest.fixture(scope="session")
def train_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "train.jsonl"
    write_rows(path, rows(200))
    return path


@pytest.fixture(scope="session")
def held_out_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "held_out.jsonl"
    write_rows(path, rows(30, seed=1))
    return path


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, train_file: Path) -> Path:
    """A tiny Llama that has seen the rows for a few steps. Made once, for all processes of a run."""
    from freehold.tuning.launch import train

    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    job = TrainJob(
        out=shared / "tuning-base", train=train_file, method="scratch", architecture=TINY, steps=30, batch_tokens=512,
        learning_rate=5e-3, dtype="f32", threads=1,
    )  # fmt: skip
    made = shared / "tuning-base.made"
    with (shared / "tuning-base.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            made.write_text(str(train(job, lambda _: None).model))
    return Path(made.read_text())


@pytest.fixture
def restored() -> Iterator[None]:
    """A trainer is made for a process of its own: what it changes of this one is put back."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)
    torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


@pytest.fixture
def job(tmp_path: Path, base: Path, train_file: Path, held_out_file: Path) -> Callable[..., TrainJob]:
    def make(**fields: object) -> TrainJob:
        defaults: dict[str, object] = {
            "out": tmp_path / "run", "base": base, "train": train_file, "held_out": held_out_file, "steps": 6,
            "batch_tokens": 512, "learning_rate": 5e-3, "rank": 4, "alpha": 8.0, "dtype": "f32", "threads": 1,
        }  # fmt: skip
        return TrainJob(**(defaults | fields))  # type: ignore[arg-type]

    return make
