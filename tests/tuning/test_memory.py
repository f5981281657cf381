"""Estimates of memory beside what is held, and the plan that is made of them."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch

from freehold.core.errors import NotEnoughMemory
from freehold.tuning import memory
from freehold.tuning.decoder.shape import Layer, Shape
from freehold.tuning.job import TrainJob
from freehold.tuning.memory import Watch, estimate, plan

Jobs = Callable[..., TrainJob]
SHAPE = Shape(
    family="llama", hidden=576, intermediate=1536, heads=9, kv_heads=3, head_dim=64, vocab=49152, context=8192,
    eps=1e-5, tied=True, norms="before", layers=(Layer(),) * 30, attention_scale=0.125,
)  # fmt: skip


def test_an_adapter_trains_little_and_a_whole_model_all(job: Jobs) -> None:
    small = estimate(SHAPE, job(method="lora", rank=16), 1 << 28, 400, checkpointing=False, size=2)
    whole = estimate(SHAPE, job(method="full"), 1 << 28, 400, checkpointing=False, size=2)
    assert small.states == 16 * 4_884_480  # parameters that PEFT trains of SmolLM2-135M at rank 16
    longer = estimate(SHAPE, job(method="dora", rank=16), 1 << 28, 400, checkpointing=False, size=2)
    assert longer.states - small.states == 16 * 30 * (2 * 576 + 2 * 192 + 2 * 1536 + 576)  # a length to each row
    assert longer.kept > small.kept
    assert whole.states == 16 * (134_515_008 - 61 * 576)  # all but the norms


def test_checkpointing_keeps_less_and_tokens_cost_the_same_each(job: Jobs) -> None:
    kept = [estimate(SHAPE, job(), 0, n, checkpointing=False, size=2).kept for n in (100, 200)]
    frugal = estimate(SHAPE, job(), 0, 200, checkpointing=True, size=2).kept
    assert kept[1] == 2 * kept[0]
    assert frugal < kept[1] / 5


@pytest.mark.parametrize(("wanted", "got"), [("on", True), ("off", False)])
def test_what_is_said_is_done(job: Jobs, wanted: str, got: bool) -> None:
    assert plan(SHAPE, job(checkpointing=wanted), 0, 100, 2) is got


def test_auto_goes_by_the_free_memory(job: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 16 << 30

    monkeypatch.setattr(memory.psutil, "virtual_memory", Memory)
    assert not plan(SHAPE, job(), 0, 1000, 2)
    Memory.available = 1200 << 20
    assert plan(SHAPE, job(), 0, 1000, 2)
    Memory.available = 500 << 20
    with pytest.raises(NotEnoughMemory, match=r"needs about \d+ MB and 500 MB are free"):
        plan(SHAPE, job(), 0, 1000, 2)


def test_a_watch_sees_what_was_held_for_a_while() -> None:
    with Watch() as watch:
        held = torch.ones(1 << 26)  # 256 MB
        before = watch.private
        import time

        end = time.monotonic() + 10
        while watch.private < before + held.nbytes // 2 and time.monotonic() < end:
            time.sleep(0.01)
        del held
    assert watch.private > 256 << 20


def test_the_peak_is_this_processes_own(tmp_path: Path) -> None:
    assert 50 << 20 < memory.peak_rss() < 1 << 40


def test_a_base_in_four_bits_is_held_beside_its_file(job: Jobs) -> None:
    plain, packed = (
        estimate(SHAPE, job(base_dtype=kind), 1 << 28, 400, checkpointing=False, size=2) for kind in ("stored", "nf4")
    )
    numbers = 30 * (2 * 576 * 576 + 2 * 192 * 576 + 3 * 1536 * 576)
    assert packed.packed == numbers * 9 // 16  # four bits each, and a float32 to 64 of them
    assert packed.private - plain.private == packed.packed
    whole = estimate(SHAPE, job(base_dtype="nf4", method="full"), 1 << 28, 400, checkpointing=False, size=2)
    assert whole.packed == 0, "what is trained is not quantised"


def test_a_head_of_its_own_is_trained_too(job: Jobs) -> None:
    untied = msgspec.structs.replace(SHAPE, tied=False)
    one, two = (
        estimate(shape, job(method="full"), 0, 400, checkpointing=False, size=2).states for shape in (SHAPE, untied)
    )
    assert two - one == 16 * 49152 * 576


@pytest.mark.parametrize(
    ("fields", "checkpointing", "remedy"),
    [
        ({"batch_tokens": 4096, "max_length": 1024}, True, "Set batch_tokens = 2048 or max_length = 512"),
        ({"batch_tokens": 20, "max_length": 16}, True, "Set batch_tokens = 16 or max_length = 16"),
        (
            {"batch_tokens": 64, "max_length": 64},
            False,
            'Set checkpointing = "on", which goes on from the last checkpoint; else set batch_tokens = 32 or '
            "max_length = 32",
        ),
    ],
)
def test_the_way_out_of_a_shortage_asks_for_what_a_job_can_have(
    job: Jobs, fields: dict[str, object], checkpointing: bool, remedy: str
) -> None:
    assert memory.shortage(job(**fields), checkpointing=checkpointing).remedy == remedy


@pytest.mark.parametrize(
    ("error", "out"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (RuntimeError(), False),
    ],
)
def test_memory_that_ran_out_is_told_from_other_errors(error: RuntimeError, out: bool) -> None:
    assert memory.ran_out(error) is out
