"""Unsloth in the place of our decoder, by a stand-in for its package: only arithmetic differs from our own trainer."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from freehold.core.digest import Digest
from freehold.core.errors import BadInput, FreeholdError, MissingExtra, Unsupported
from freehold.tuning import lora, model
from freehold.tuning.decoder.attention import Rows
from freehold.tuning.job import Progress, TrainJob, TrainResult
from freehold.tuning.launch import train
from freehold.tuning.trainer import Trainer
from tests.tiny import write_gguf
from tests.tuning import standin
from tests.tuning.test_train import kill_after_first_checkpoint

Jobs = Callable[..., TrainJob]
CPU = torch.device("cpu")


def quiet(_: Progress) -> None:
    return


def use(monkeypatch: pytest.MonkeyPatch, packages: Path) -> None:
    """Have trainers run in the interpreter whose packages these are."""
    monkeypatch.setattr(sys, "executable", str(packages.parents[2] / "bin" / "python"))
    monkeypatch.syspath_prepend(str(packages))


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return standin.write(tmp_path_factory.mktemp("interpreter") / "env")


@pytest.fixture
def installed(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, packages)


def differs(one: TrainResult, other: TrainResult) -> float:
    """By how many nats their losses differ at most."""
    assert len(one.losses) == len(other.losses)
    held = zip(one.held_out_losses, other.held_out_losses, strict=True)
    steps = [abs(a - b) for a, b in zip(one.losses, other.losses, strict=True)]
    return max([*steps, *(abs(a.loss - b.loss) for a, b in held)])


@pytest.mark.usefixtures("installed")
def test_it_computes_what_our_own_decoder_does(job: Jobs, tmp_path: Path, base: Path) -> None:
    fields: dict[str, object] = {"steps": 8, "prompt_weight": 0.25, "checkpointing": "off"}
    own = train(job(out=tmp_path / "own", **fields), quiet)
    said: list[Progress] = []
    other = train(job(out=tmp_path / "other", backend="unsloth", **fields), said.append)
    assert differs(own, other) < 1e-3
    assert other.losses[-1] < own.losses[0] - 0.01
    same = ("tokens", "supervised_tokens", "trainable", "rows", "steps", "method", "checkpointing")
    assert [getattr(own, name) for name in same] == [getattr(other, name) for name in same]
    assert (own.library, other.library) == ("", "unsloth 2026.10.9")
    assert [each.step for each in said if each.phase == "training"] == list(range(1, 9))
    assert not any(each.samples for each in said), "it reads no text token by token"
    _same_adapter(own, other, base)
    _stays_in_its_room(tmp_path / "other")


def _same_adapter(own: TrainResult, other: TrainResult, base: Path) -> None:
    """Both are files of the same form, and the model says the same with them."""
    names = ("adapter_config.json", "adapter_model.safetensors")
    assert sorted(path.name for path in other.model.iterdir()) == sorted(names)
    assert (own.model / names[0]).read_bytes() == (other.model / names[0]).read_bytes()
    ids = torch.arange(3, 23)
    states = []
    for result in (own, other):
        decoder = model.load(base, CPU, torch.float32, full=False)
        lora.restore(decoder.linears, result.model)
        states.append(decoder(ids, Rows.of([20], CPU)))
    assert torch.allclose(*states, atol=5e-3)


def _stays_in_its_room(out: Path) -> None:
    """What it was told: to write beside the run alone, to ask no network; and that it came before transformers."""
    told = json.loads((out / "unsloth" / "unsloth_compiled_cache" / "told.json").read_bytes())
    assert told["before"] == []
    assert told["way"] is False
    environment = told["environment"]
    assert [environment.pop(name) for name in ("UNSLOTH_DISABLE_STATISTICS", "HF_HUB_OFFLINE")] == ["1", "1"]
    assert environment.pop("UNSLOTH_AUTO_INSTALL") == "0"
    assert all(Path(path).is_relative_to(out / "unsloth") for path in environment.values())
    assert "a banner on stdout" in (out / "trainer.log").read_text()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")  # PEFT calls what transformers renames
@pytest.mark.usefixtures("installed")
def test_its_adapter_is_peft_s_and_checkpointing_changes_nothing(job: Jobs, tmp_path: Path, base: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    result = train(job(out=tmp_path / "a", backend="unsloth", method="rslora", checkpointing="on"), quiet)
    assert (result.checkpointing, result.offload) == (True, True)
    own = train(job(out=tmp_path / "b", method="rslora"), quiet)
    assert differs(own, result) < 1e-3
    ids = torch.arange(3, 23)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(plain, result.model)
    decoder = model.load(base, CPU, torch.float32, full=False)
    lora.restore(decoder.linears, result.model)
    ours = decoder(ids, Rows.of([20], CPU)) @ decoder.head.dense(torch.float32).T
    with torch.no_grad():
        assert torch.allclose(adapted(input_ids=ids[None]).logits[0], ours, atol=1e-3)


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("fields", [{"method": "dora"}, {"objective": "tokens"}, {"dtype": "bf16"}, {"batch": 3}])
def test_other_jobs_are_computed_alike(job: Jobs, tmp_path: Path, fields: dict[str, object]) -> None:
    if fields.get("objective") == "tokens":
        lines = [{"ids": list(range(3, 3 + size)), "weights": [1.0] * size} for size in (5, 90, 7, 30, 6, 4, 200)]
        (tmp_path / "tokens.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        fields = {**fields, "train": tmp_path / "tokens.jsonl", "held_out": None}
    own, other = (train(job(out=tmp_path / name, backend=name, **fields), quiet) for name in ("freehold", "unsloth"))
    assert differs(own, other) < 1e-2


@pytest.mark.slow
def test_models_that_tell_no_hidden_states_are_asked_elsewhere(
    job: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, standin.write(tmp_path / "env", tells=False))
    own, other = (train(job(out=tmp_path / name, backend=name), quiet) for name in ("freehold", "unsloth"))
    assert differs(own, other) < 1e-3


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_a_killed_run_goes_on_with_the_same_losses(job: Jobs, tmp_path: Path) -> None:
    fields: dict[str, object] = {"backend": "unsloth", "steps": 40, "checkpoint_seconds": 0.01}
    whole = train(job(out=tmp_path / "whole", **fields), quiet)
    broken = job(out=tmp_path / "broken", **fields)
    kill_after_first_checkpoint(broken)
    resumed = train(broken, quiet)
    assert resumed.resumed == 1
    assert resumed.losses == whole.losses
    weights = [Digest.of_file(result.model / "adapter_model.safetensors") for result in (whole, resumed)]
    assert weights[0] == weights[1]


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_the_whole_command(base: Path, tmp_path: Path) -> None:
    pairs = [{"question": f"Who has the {thing}?", "answer": f"{name} has it."} for thing, name in _pairs()]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    words = ["tune", str(base), "rows.jsonl", "--out", "who", "--backend", "unsloth", "--steps", "3", "--json"]
    more = ["--dtype", "f32", "--threads", "1", "--home", str(tmp_path / "home")]
    command = [sys.executable, "-m", "freehold", *words, *more]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["settings"]["library"] == "unsloth 2026.10.9"
    assert len(told["losses"]) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "rows.jsonl"]


def _pairs() -> list[tuple[str, str]]:
    return [(f"{thing} {number}", name) for thing, name in (("key", "Ann"), ("map", "Ben")) for number in range(20)]


def test_a_run_of_one_backend_is_not_gone_on_with_by_the_other(job: Jobs) -> None:
    from freehold.tuning.checkpoint import identity

    assert identity(job(backend="unsloth")) != identity(job())


def test_without_the_package_nothing_begins(job: Jobs) -> None:
    with pytest.raises(MissingExtra) as caught:
        train(job(backend="unsloth"), quiet)
    assert caught.value.line().endswith("Run: pip install unsloth")
    assert not job().out.exists()


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        (standin.NO_GPU, Unsupported, 'no GPU that it can train on: Unsloth cannot find any torch accelerator?'),
        (standin.LACKING, MissingExtra, "No module named 'a_package_that_nobody_has'"),
    ],
)  # fmt: skip
def test_one_that_cannot_be_imported_is_told_in_a_line(
    job: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, kind: type[FreeholdError], words: str
) -> None:
    use(monkeypatch, standin.write(tmp_path / "env", source))
    with pytest.raises(kind) as caught:
        train(job(backend="unsloth"), quiet)
    assert words in caught.value.line()
    assert "\n" not in caught.value.line()
    assert caught.value.exit_code == 2


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"objective": "dpo"}, BadInput, "backend unsloth is not for objective dpo"),
        ({"method": "full"}, BadInput, "backend unsloth is not for method full"),
        ({"base": "GGUF"}, Unsupported, "is a GGUF file, which unsloth does not train on"),
    ],
)
def test_what_it_cannot_do_is_refused(
    job: Jobs, tmp_path: Path, fields: dict[str, object], kind: type[FreeholdError], words: str
) -> None:
    if "base" in fields:
        fields = {"base": write_gguf(tmp_path / "base.gguf")}
    with pytest.raises(kind) as caught:
        Trainer(job(backend="unsloth", **fields), lambda _: None).run()
    assert words in caught.value.message
    assert "freehold" in caught.value.remedy


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"base_dtype": "nf4"}, MissingExtra, "without 4 bits"),
        ({"objective": "text", "max_length": 2048}, BadInput, "is made for 256, which unsloth would stretch"),
    ],
)
def test_what_it_would_do_otherwise_in_silence_is_refused(
    job: Jobs, tmp_path: Path, fields: dict[str, object], kind: type[FreeholdError], words: str
) -> None:
    if fields.get("objective") == "text":
        (tmp_path / "long.jsonl").write_text(json.dumps({"text": "Ann has the key. " * 400}) + "\n")
        fields = {**fields, "train": tmp_path / "long.jsonl", "held_out": None, "batch_tokens": 4096}
    with pytest.raises(kind) as caught:
        train(job(backend="unsloth", **fields), quiet)
    assert words in caught.value.message
