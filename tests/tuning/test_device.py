"""Each kind of device is chosen where it is, and tells of its own memory and types; training on one is the same."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from freehold.convert import quantize, to_gguf
from freehold.tuning.decoder.resident import Resident, ResidentBlocks
from freehold.tuning.device import Cuda, Device, Metal, find
from freehold.tuning.job import TrainJob, TrainResult
from freehold.tuning.memory import Room
from freehold.tuning.precision import choose
from freehold.tuning.trainer import Trainer

Jobs = Callable[..., TrainJob]
GIB = 1 << 30


def machine(*, cuda: bool = False, mps: bool = False, macos: int = 0) -> Any:
    """As torch would answer there."""
    metal = SimpleNamespace(
        is_available=lambda: mps, is_macos_or_newer=lambda major, minor: (macos, 0) >= (major, minor)
    )
    return SimpleNamespace(
        cuda=SimpleNamespace(is_available=lambda: cuda), mps=SimpleNamespace(), backends=SimpleNamespace(mps=metal)
    )


@pytest.mark.parametrize(
    ("there", "kind"),
    [
        ({}, "cpu"),
        ({"cuda": True}, "cuda"),
        ({"mps": True, "macos": 26}, "mps"),
        ({"mps": True, "macos": 14}, "mps"),
        ({"mps": True, "macos": 13}, "cpu"),
        ({"mps": False, "macos": 26}, "cpu"),
    ],
)
def test_the_best_device_is_taken(there: dict[str, Any], kind: str) -> None:
    found = find(machine(**there))
    assert found.device.type == kind
    assert found.resident is (kind != "cpu")
    assert found.repeats is (kind != "mps")


def test_a_gpu_tells_of_its_own_memory() -> None:
    library = SimpleNamespace(mem_get_info=lambda: (7 * GIB, 80 * GIB), max_memory_reserved=lambda: 3 * GIB)
    found = Cuda(library)
    room = found.room()
    assert room[:2] == (7 * GIB, True)
    assert 0 < room.host <= psutil.virtual_memory().total
    assert found.held() == found.peak() == 3 * GIB


def test_memory_that_is_shared_is_the_least_of_both_and_has_no_elsewhere() -> None:
    given = [2 * GIB, 5 * GIB, 4 * GIB]
    for recommended, free in ((6 * GIB, 4 * GIB), (GIB, 0), (1 << 60, psutil.virtual_memory().total)):
        library = SimpleNamespace(
            recommended_max_memory=lambda most=recommended: most, driver_allocated_memory=lambda: 2 * GIB
        )
        room = Metal(library).room()
        assert room.free <= free
        assert room == Room(room.free, copies=True, host=0)
    found = Metal(SimpleNamespace(driver_allocated_memory=lambda: given.pop(0)))
    assert [found.held(), found.peak(), found.held()] == [2 * GIB, 5 * GIB, 5 * GIB]


def test_a_processor_tells_of_this_process() -> None:
    found = Device()
    assert found.room().host == 0
    assert not found.room().copies
    assert found.peak() == 0
    assert found.held() > 50 << 20


@pytest.mark.parametrize(("made", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bfloat16_is_for_gpus_that_do_not_imitate_it(made: bool, dtype: torch.dtype) -> None:
    found = Cuda(SimpleNamespace(is_bf16_supported=lambda including_emulation: made or including_emulation))
    assert choose("auto", found) is dtype
    assert choose("bf16", found) is torch.bfloat16


def test_where_only_a_try_can_say_one_is_made() -> None:
    class Looking(Device):
        looked = 0

        def now(self) -> float:
            self.looked += 1
            return super().now()

    found = Looking()
    assert choose("auto", found) in (torch.float32, torch.bfloat16)
    assert found.looked > 2
    found.looked = 0
    choose("f32", found)
    assert found.looked == 0


def test_a_gpu_is_done_when_it_is_looked_at() -> None:
    waited: list[bool] = []
    library = SimpleNamespace(synchronize=lambda: waited.append(True))
    for count, found in enumerate((Cuda(library), Metal(library)), 1):
        begun = time.perf_counter()
        assert begun <= found.now() <= time.perf_counter()
        assert len(waited) == count


class Forced(Device):
    """The processor, by the ways of a GPU."""

    resident = True


def trained(job: TrainJob, place: Device) -> tuple[Trainer, TrainResult]:
    trainer = Trainer(job, lambda report: None, place)
    result = trainer.run()
    assert isinstance(result, TrainResult)
    return trainer, result


def made(result: TrainResult) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(result.model / "adapter_model.safetensors")


@pytest.mark.parametrize("kind", ["nf4", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("Q8_0", "Q4_0"))])
@pytest.mark.usefixtures("restored")
def test_a_training_by_the_ways_of_a_gpu_is_the_same(kind: str, job: Jobs, base: Path, tmp_path: Path) -> None:
    fields: dict[str, Any] = {"base_dtype": "nf4"}
    if kind != "nf4":
        to_gguf(base, tmp_path / "plain.gguf")
        quantize(tmp_path / "plain.gguf", tmp_path / "base.gguf", kind, threads=1)
        fields = {"base": tmp_path / "base.gguf"}
    _, one = trained(job(out=tmp_path / "one", **fields), Device())
    there, other = trained(job(out=tmp_path / "other", **fields), Forced())
    held = {type(linear.matrix) for linear in there.model.linears.values()}
    assert held <= {Resident, ResidentBlocks}
    assert len(other.losses) == 6
    assert other.losses == one.losses
    assert other.gradient_norms == one.gradient_norms
    assert other.held_out_losses == one.held_out_losses


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.usefixtures("restored")
def test_offloaded_inputs_change_nothing(method: str, job: Jobs, tmp_path: Path) -> None:
    runs = {}
    for name, fields in (("kept", {"checkpointing": "on"}), ("moved", {"offload": "on"})):
        _, runs[name] = trained(job(out=tmp_path / name, method=method, **fields), Device())
    kept, moved = runs["kept"], runs["moved"]
    assert (kept.checkpointing, kept.offload) == (True, False)
    assert (moved.checkpointing, moved.offload) == (True, True)
    assert moved.losses == kept.losses
    assert moved.gradient_norms == kept.gradient_norms
    if method == "lora":
        wanted = made(kept)
        assert all(torch.equal(value, wanted[name]) for name, value in made(moved).items())
