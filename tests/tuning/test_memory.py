"""Estimates of memory beside what is held, and the plan that is made of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from freehold.core.errors import BadInput, NotEnoughMemory
from freehold.core.request import Message
from freehold.data.rows import Preference, write_rows
from freehold.tuning import memory
from freehold.tuning.decoder.shape import Layer, Shape
from freehold.tuning.job import TrainJob
from freehold.tuning.memory import Keeping, Room, Watch, estimate, plan, shortage
from freehold.tuning.trainer import Trainer
from tests.serving.support import wait_for

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
    brief = estimate(SHAPE, job(), 0, 200, checkpointing=True, size=2, brief=True).kept
    assert frugal < brief < kept[1] / 2


@pytest.mark.parametrize(("wanted", "got"), [("on", True), ("off", False)])
def test_what_is_said_is_done(job: Jobs, wanted: str, got: bool) -> None:
    assert plan(SHAPE, job(checkpointing=wanted), 0, 100, 2) == Keeping(got, offload=False)


def test_auto_goes_by_the_free_memory(job: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 16 << 30

    monkeypatch.setattr(memory.psutil, "virtual_memory", Memory)
    assert plan(SHAPE, job(), 0, 1000, 2) == Keeping(checkpointing=False, offload=False)
    Memory.available = 1200 << 20
    assert plan(SHAPE, job(), 0, 1000, 2) == Keeping(checkpointing=True, offload=False)
    Memory.available = 500 << 20
    with pytest.raises(NotEnoughMemory, match=r"needs about \d+ MB and 500 MB are free"):
        plan(SHAPE, job(), 0, 1000, 2)


def test_a_base_on_a_gpu_counts_and_one_in_a_file_does_not(job: Jobs) -> None:
    found = estimate(SHAPE, job(), 1 << 30, 400, checkpointing=True, size=2)
    dense = SHAPE.vocab * SHAPE.hidden * 2  # the head, the largest matrix
    assert found.within(Room(0)) == found.private
    assert found.within(Room(0, copies=True, host=1)) == found.private + (1 << 30) + dense
    whole = estimate(SHAPE, job(method="full"), 1 << 30, 400, checkpointing=True, size=2)
    assert whole.copied == dense  # its weights are among those that are trained
    beside = estimate(SHAPE, job(method="full"), 1 << 30, 400, checkpointing=True, size=2, compared=True)
    assert beside.copied == (1 << 30) + dense


def test_of_a_base_in_4_bits_a_gpu_holds_projections_packed_and_the_rest_as_it_was(job: Jobs) -> None:
    numbers = 134_515_008 - 61 * 576  # without the norms
    found = estimate(SHAPE, job(base_dtype="nf4"), 2 * numbers, 400, checkpointing=True, size=2)
    head = SHAPE.vocab * SHAPE.hidden
    assert found.copied == 2 * head + 2 * head
    assert found.packed == (numbers - head) * 9 // 16


def test_inputs_of_layers_leave_a_gpu_when_nothing_less_fits(job: Jobs) -> None:
    """16,000 tokens: kept, computed again, and computed again out of what the host holds."""
    gib = 1 << 30
    full, frugal, least = (
        estimate(SHAPE, job(), gib, 16_000, size=2, checkpointing=checkpointing, offload=offload)
        for checkpointing, offload in ((False, False), (True, False), (True, True))
    )
    inputs = 16_000 * 30 * 576 * 2
    assert frugal.kept - least.kept == least.offloaded == inputs

    def planned(free: float, host: int = 64 * gib, **fields: Any) -> Keeping:
        return plan(SHAPE, job(**fields), gib, 16_000, 2, Room(int(free), copies=True, host=host, name=" on the GPU"))

    gpu = Room(0, copies=True, host=1)
    assert planned(full.within(gpu) / 0.79) == Keeping(checkpointing=False, offload=False)
    assert planned(full.within(gpu) / 0.81) == Keeping(checkpointing=True, offload=False)
    assert planned(frugal.within(gpu) / 0.79) == Keeping(checkpointing=True, offload=False)
    assert planned(frugal.within(gpu) - 1) == Keeping(checkpointing=True, offload=True)
    assert planned(frugal.within(gpu) / 0.79, offload="on") == Keeping(checkpointing=True, offload=True)
    assert planned(frugal.within(gpu), offload="off") == Keeping(checkpointing=True, offload=False)
    assert planned(frugal.within(gpu), checkpointing="off") == Keeping(checkpointing=False, offload=False)
    refused: tuple[dict[str, Any], ...] = ({"offload": "off"}, {"checkpointing": "off"})
    for fields in refused:
        with pytest.raises(NotEnoughMemory, match=r"MB are free on the GPU"):
            planned(frugal.within(gpu) - 1, **fields)
    with pytest.raises(NotEnoughMemory, match=r"MB are free on the GPU"):
        planned(least.within(gpu) - 1)
    with pytest.raises(NotEnoughMemory, match=rf"about {inputs >> 20} MB and 1 MB are free in the host"):
        planned(frugal.within(gpu) - 1, host=1 << 20)


def test_what_leaves_for_the_same_memory_counts_there(job: Jobs) -> None:
    """On a processor, and on a GPU that shares the host's memory."""
    gib = 1 << 30
    for copies in (False, True):
        assert plan(SHAPE, job(), gib, 16_000, 2, Room(64 * gib, copies)) == Keeping(False, False)
        moved = plan(SHAPE, job(offload="on"), gib, 16_000, 2, Room(64 * gib, copies))
        assert moved == Keeping(checkpointing=True, offload=True)
        frugal = estimate(SHAPE, job(), gib, 16_000, size=2, checkpointing=True)
        least = Room(frugal.within(Room(0, copies)), copies)
        assert plan(SHAPE, job(), gib, 16_000, 2, least) == Keeping(checkpointing=True, offload=False)
        plan(SHAPE, job(offload="on"), gib, 16_000, 2, least)
        with pytest.raises(NotEnoughMemory):
            plan(SHAPE, job(offload="on"), gib, 16_000, 2, least._replace(free=least.free - 1))


def test_nothing_is_moved_that_is_not_kept(job: Jobs) -> None:
    with pytest.raises(BadInput, match="offload moves what checkpointing keeps, which is off"):
        plan(SHAPE, job(offload="on", checkpointing="off"), 0, 100, 2)


def test_what_runs_out_says_what_would_hold_less(job: Jobs) -> None:
    assert shortage(job(), checkpointing=False).remedy.startswith('Set checkpointing = "on"')
    assert shortage(job(), checkpointing=True, movable=True).remedy.startswith('Set offload = "on"')
    assert shortage(job(), checkpointing=True).remedy == "Set batch_tokens = 256 or max_length = 512"


@pytest.mark.parametrize(("words", "brief"), [(40, True), (80, False)])
@pytest.mark.usefixtures("restored")
def test_rows_are_short_or_long_each_by_itself(
    job: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: int, brief: bool
) -> None:
    """Two answers to a prompt are two rows, whatever they have together."""
    said: list[bool] = []

    def planning(*arguments: object, **named: Any) -> Keeping:
        said.append(named["brief"])
        return Keeping(checkpointing=True, offload=False)

    monkeypatch.setattr(memory, "plan", planning)
    answers = [(Message("assistant", text),) for text in ("Ann has it.", "Ben has it.")]
    prompt = (Message("user", "Who has the key? " * words),)
    write_rows(tmp_path / "rows.jsonl", [Preference(prompt, 1, chosen=answers[0], rejected=answers[1])])
    asked = job(objective="dpo", train=tmp_path / "rows.jsonl", held_out=None, dtype="bf16", steps=1)
    trainer = Trainer(asked, lambda report: None)
    trainer.run()
    lengths = [len(row.ids) for row in trainer.examples[0].samples]
    assert said == [brief]
    assert sum(lengths) > 512
    assert all((length <= 512) is brief for length in lengths)


def test_processes_beside_take_what_activations_leave() -> None:
    assert memory.beside(Room(100 << 20)) == 0
    assert memory.beside(Room(4 << 30)) == 4


def test_a_watch_sees_what_was_held_for_a_while() -> None:
    before = memory.anonymous()
    with Watch() as watch:
        held = torch.ones(1 << 26)  # 256 MB
        wait_for(lambda: watch.private > before + (1 << 27))
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
