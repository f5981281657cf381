"""What products are made in is what was asked for, or what this machine is faster with; training is true to it."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from freehold.convert import quantize, to_gguf
from freehold.core.errors import BadInput
from freehold.tuning import precision
from freehold.tuning.decoder.common import Common
from freehold.tuning.device import Cuda, Device
from freehold.tuning.job import Progress, TrainJob, TrainResult
from freehold.tuning.precision import in_int8
from freehold.tuning.trainer import Trainer
from freehold.tuning.unpack import unpack
from tests.convert.torchmodels import write_model

Jobs = Callable[..., TrainJob]
LARGE, SMALL = 2048, 256


def packed(folder: Path, kind: str) -> Path:
    """A base as a GGUF file whose matrices divide into blocks of 256."""
    write_model(folder / "base", "Llama", hidden_size=256, intermediate_size=512)
    to_gguf(folder / "base", folder / "plain.gguf")
    if kind == "F16":
        return unpack(folder / "plain.gguf", folder / "packed")
    quantize(folder / "plain.gguf", folder / f"{kind}.gguf", kind, threads=1)
    return unpack(folder / f"{kind}.gguf", folder / "packed")


@pytest.fixture
def faster(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A machine that is twice as fast in 8 bits, and how often it was tried."""
    tried: list[int] = []

    def seconds(device: Device, *products: Callable[[], object]) -> list[float]:
        tried.append(len(products))
        return [2.0, 1.0]

    monkeypatch.setattr(precision, "_seconds", seconds)
    return tried


@pytest.mark.parametrize(("kind", "coarse"), [("Q4_K_M", True), ("Q8_0", False), ("F16", False)])
def test_auto_rounds_no_base_that_is_finer(
    kind: str, coarse: bool, faster: list[int], job: Jobs, tmp_path: Path
) -> None:
    base = packed(tmp_path, kind)
    assert in_int8(job(dtype="auto"), base, LARGE, torch.bfloat16, Device()) is coarse
    assert bool(faster) is coarse
    assert in_int8(job(dtype="int8"), base, LARGE, torch.bfloat16, Device())
    assert not in_int8(job(dtype="bf16"), base, LARGE, torch.bfloat16, Device())


def test_auto_is_for_large_models_on_processors_that_gain(
    faster: list[int], job: Jobs, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nf4, plain = job(dtype="auto", base_dtype="nf4"), job(dtype="auto")
    gpu = Cuda(SimpleNamespace())
    assert in_int8(nf4, base, LARGE, torch.bfloat16, Device())
    assert not in_int8(nf4, base, SMALL, torch.bfloat16, Device())
    assert not in_int8(plain, base, LARGE, torch.bfloat16, Device())
    assert not in_int8(nf4, base, LARGE, torch.bfloat16, gpu)
    assert not in_int8(job(dtype="auto", method="full"), base, LARGE, torch.bfloat16, Device())
    monkeypatch.setattr(precision, "_seconds", lambda device, *products: [1.2, 1.0])
    assert not in_int8(nf4, base, LARGE, torch.bfloat16, Device())


def test_what_else_keeps_the_processor_busy_decides_nothing() -> None:
    """A run would be computed in other numbers than the same run before."""

    def kept_waiting() -> None:
        time.sleep(0.02)

    def worked() -> None:
        begun = time.thread_time()
        while time.thread_time() - begun < 0.002:
            pass

    waiting, working = precision._seconds(Device(), kept_waiting, worked)
    assert waiting < working / 2


def test_a_try_ends_with_an_answer(job: Jobs, base: Path) -> None:
    threads = torch.get_num_threads()
    job = job(dtype="auto", base_dtype="nf4")
    assert in_int8(job, base, LARGE, torch.float32, Device()) in (True, False)
    assert torch.get_num_threads() == threads


def test_what_cannot_be_is_told(job: Jobs, base: Path) -> None:
    for fields, device in (({"method": "full"}, Device()), ({"backend": "unsloth"}, Device()), ({}, Cuda(object()))):
        with pytest.raises(BadInput, match="'int8' is for adapters beside a frozen base"):
            in_int8(job(dtype="int8", **fields), base, LARGE, torch.float32, device)


def trained(job: TrainJob) -> tuple[TrainResult, bytes]:
    result = Trainer(job, lambda report: None).run()
    assert isinstance(result, TrainResult)
    return result, (result.model / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize(("base_dtype", "dtype"), [("stored", "bf16"), ("nf4", "int8")])
@pytest.mark.usefixtures("restored")
def test_a_run_goes_on_in_the_types_that_it_began_in(
    base_dtype: str, dtype: str, job: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the machine is faster with by then: another run may keep it busy."""
    fields = {"dtype": "auto", "base_dtype": base_dtype, "steps": 4}
    monkeypatch.setattr(precision, "_HIDDEN", 1)
    monkeypatch.setattr(precision, "_seconds", lambda device, *products: [2.0, 1.0])
    whole, weights = trained(job(out=tmp_path / "whole", **fields))
    broken = Trainer(job(out=tmp_path / "broken", **fields), lambda report: None)
    broken.say = lambda report: setattr(broken, "stopping", isinstance(report, Progress) and report.step == 2)
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    monkeypatch.setattr(precision, "_seconds", lambda device, *products: [1.0, 2.0])
    resumed, again = trained(job(out=tmp_path / "broken", **fields))
    assert (whole.dtype, resumed.dtype, resumed.resumed) == (dtype, dtype, 1)
    assert (resumed.losses, again) == (whole.losses, weights)
    assert trained(job(out=tmp_path / "anew", **fields))[0].dtype == "f32"


@pytest.mark.usefixtures("restored")
def test_8_bits_that_were_chosen_are_left_where_they_cannot_be(faster: list[int], job: Jobs, base: Path) -> None:
    asked = job(dtype="auto", base_dtype="nf4")
    assert in_int8(asked, base, SMALL, torch.bfloat16, Device(), "int8")
    assert not in_int8(asked, base, LARGE, torch.bfloat16, Device(), "bf16")
    assert not in_int8(asked, base, LARGE, torch.bfloat16, Cuda(SimpleNamespace()), "int8")
    assert not faster


@pytest.mark.parametrize("fields", [{}, {"base_dtype": "nf4"}, {"method": "dora"}, {"checkpointing": "on"}])
@pytest.mark.usefixtures("restored", "faster")
def test_training_in_8_bits_is_near_that_in_more(fields: dict[str, object], job: Jobs, tmp_path: Path) -> None:
    plain, _ = trained(job(out=tmp_path / "plain", **fields))
    whole, weights = trained(job(out=tmp_path / "whole", dtype="int8", **fields))
    assert (plain.dtype, whole.dtype) == ("f32", "int8")
    assert whole.losses != plain.losses
    for ours, theirs in zip(whole.losses, plain.losses, strict=True):
        assert abs(ours - theirs) < 0.02
    for ours, theirs in zip(whole.held_out_losses, plain.held_out_losses, strict=True):
        assert abs(ours.loss - theirs.loss) < 0.02
    assert trained(job(out=tmp_path / "again", dtype="int8", **fields))[1] == weights


@pytest.mark.parametrize("dtype", [pytest.param("f32", marks=pytest.mark.slow), "bf16", "int8"])
@pytest.mark.usefixtures("restored", "faster")
def test_matrices_that_are_made_together_change_nothing(
    dtype: str, job: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {"dtype": dtype, "base_dtype": "nf4", "threads": 2}
    made: list[bool] = []
    make = Common.make

    def counted(self: Common, *arguments: Any) -> torch.Tensor | None:
        found = make(self, *arguments)
        made.append(found is not None)
        return found

    monkeypatch.setattr(Common, "make", counted)
    together = trained(job(out=tmp_path / "together", **fields))
    assert made.count(True) > 100
    made.clear()
    monkeypatch.setattr(Common, "open", lambda self, members: None)
    alone = trained(job(out=tmp_path / "alone", **fields))
    assert not any(made)
    assert together[0].losses == alone[0].losses
    assert together[1] == alone[1]
