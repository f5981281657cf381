"""Whole runs through the child process: they learn, they resume, and they end in the same bytes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from freehold.core.digest import Digest
from freehold.core.errors import BadData, BadInput, BadModelFile, Interrupted, NotEnoughMemory, Unsupported
from freehold.core.request import Message
from freehold.data.rows import Row, write_rows
from freehold.tuning.job import Architecture, Progress, TrainJob, TrainResult, encode
from freehold.tuning.launch import train
from freehold.tuning.merge import merge
from tests.tiny import tokenizer

Jobs = Callable[..., TrainJob]


def quiet(_: Progress) -> None:
    return


def weights(result: TrainResult) -> Digest:
    [path] = result.model.glob("*.safetensors")
    return Digest.of_file(path)


@pytest.mark.parametrize("method", ["lora", pytest.param("full", marks=pytest.mark.slow)])
def test_tuning_lowers_the_held_out_loss(job: Jobs, method: str) -> None:
    said: list[Progress] = []
    result = train(job(method=method, steps=60, learning_rate=3e-3, rank=16, alpha=64.0), said.append)
    assert result.held_out_losses[0].step == 0
    assert result.held_out_losses[-1].step == 60
    assert 0 < result.step_seconds < result.seconds
    assert result.held_out_losses[-1].loss < 0.9 * result.held_out_losses[0].loss
    assert len(result.losses) == 60
    assert [progress.step for progress in said if progress.phase == "training"] == list(range(1, 61))
    assert result.supervised_tokens < result.tokens


def test_a_template_whose_prompt_ends_in_a_space_is_told_of(job: Jobs, base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "base")
    template = (base / "chat_template.jinja").read_text()
    template = template.replace("}}\n{{", "}}: {{").replace("assistant\n", "assistant: ")
    (tmp_path / "base" / "chat_template.jinja").write_text(template)
    tokenizer(300).save(str(tmp_path / "base" / "tokenizer.json"))  # in which words take the space before them
    write_rows(tmp_path / "rows.jsonl", [Row((Message("user", "Who?"), Message("assistant", "the dog")))] * 3)
    said: list[Progress] = []
    train(job(base=tmp_path / "base", train=tmp_path / "rows.jsonl", held_out=None, steps=1), said.append)
    assert any("3 answers begin in one token with the space" in progress.note for progress in said)


@pytest.mark.slow
def test_the_same_job_gives_the_same_bytes(job: Jobs, tmp_path: Path) -> None:
    first, second = (train(job(out=tmp_path / name), quiet) for name in ("a", "b"))
    assert weights(first) == weights(second)
    assert first.losses == second.losses
    assert weights(train(job(out=tmp_path / "c", seed=2), quiet)) != weights(first)


@pytest.mark.parametrize(
    "method", ["lora", *(pytest.param(each, marks=pytest.mark.slow) for each in ("dora", "scratch"))]
)
def test_a_killed_run_resumes_with_the_same_curve_and_bytes(job: Jobs, tmp_path: Path, method: str) -> None:
    shape = Architecture(vocab=300, hidden=64, layers=2, heads=4, kv_heads=2, intermediate=96, context=256)
    fields: dict[str, object] = {"method": method, "steps": 60, "checkpoint_seconds": 0.01, "architecture": shape}
    if method == "scratch":
        fields["base"] = None
    whole = train(job(out=tmp_path / "whole", **fields), quiet)
    broken = job(out=tmp_path / "broken", **fields)
    kill_after_first_checkpoint(broken)
    resumed = train(broken, quiet)
    assert resumed.resumed == 1
    assert resumed.losses == whole.losses
    assert weights(resumed) == weights(whole)


def test_a_run_that_was_done_is_not_done_again(job: Jobs) -> None:
    """Killed before its caller has put the model in safety, it says at once what it said."""
    done = train(job(), quiet)
    said: list[Progress] = []
    again = train(job(), said.append)
    assert again.resumed == 1
    assert (again.losses, again.held_out_losses) == (done.losses, done.held_out_losses)
    assert weights(again) == weights(done)
    assert [progress.phase for progress in said] == ["loading", "saving"]


@pytest.mark.slow
def test_another_job_in_the_same_folder_begins_anew(job: Jobs, tmp_path: Path) -> None:
    train(job(), quiet)
    other = train(job(rank=8), quiet)
    assert other.resumed == 0
    assert weights(other) == weights(train(job(rank=8, out=tmp_path / "clean"), quiet))


def kill_after_first_checkpoint(job: TrainJob) -> None:
    job.out.mkdir()
    path = job.out / "job.json"
    path.write_bytes(encode(job))
    child = subprocess.Popen([sys.executable, "-m", "freehold.tuning.child", str(path)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 100
    while not (job.out / "checkpoint").exists():
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.kill()
    child.wait()


@pytest.mark.slow
def test_an_interrupted_run_says_so_and_goes_on(job: Jobs) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="interrupted"):
        train(job(steps=200), interrupt)
    result = train(job(steps=200), quiet)
    assert result.resumed == 1
    assert len(result.losses) == 200


def test_a_killed_trainer_is_an_error_with_a_remedy(job: Jobs) -> None:
    def kill(progress: Progress) -> None:
        if progress.step == 2:
            children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
            for child in children:
                if b"freehold.tuning.child" in Path(f"/proc/{child}/cmdline").read_bytes():
                    os.kill(int(child), signal.SIGKILL)

    with pytest.raises(NotEnoughMemory, match="killed"):
        train(job(steps=2000), kill)


@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")  # PEFT calls what transformers renames
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_adapter_in_peft_and_merged_model_say_the_same(job: Jobs, base: Path, tmp_path: Path, method: str) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    result = train(job(method=method, steps=12), quiet)
    merge(base, result.model, tmp_path / "merged")
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    ids = torch.randint(3, 299, (1, 20))
    before = plain(input_ids=ids).logits
    adapted = PeftModel.from_pretrained(plain, result.model)(input_ids=ids).logits
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)(input_ids=ids).logits
    assert (adapted - before).abs().max() > 0.1
    # The merged weights are rounded to the base's bfloat16, the adapter's are not.
    torch.testing.assert_close(merged, adapted, rtol=0.05, atol=0.1)
    for name in ("tokenizer.json", "chat_template.jinja", "tokenizer_config.json"):
        assert (tmp_path / "merged" / name).read_bytes() == (base / name).read_bytes()


@pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
@pytest.mark.parametrize("method", ["lora", "rslora", "dora"])
def test_a_merge_in_float32_is_that_of_peft(base: Path, tmp_path: Path, method: str) -> None:
    import torch
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    from freehold.tuning import lora, model

    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    plain.save_pretrained(tmp_path / "base")
    cpu = torch.device("cpu")
    linears = model.load(tmp_path / "base", cpu, torch.float32, full=False).linears
    trained = lora.attach(linears, 4, lora.scale(method, 4, 6.0), 1, cpu, dora=method == "dora")
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in trained.values():
            value.add_(torch.randn(value.shape, generator=draw), alpha=0.1)
    lora.save(trained, tmp_path / "adapter", method=method, rank=4, alpha=6.0, base="base")
    merge(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged")
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    theirs = PeftModel.from_pretrained(plain, tmp_path / "adapter").merge_and_unload().state_dict()
    for name, value in merged.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-5, atol=1e-6)


def test_magnitudes_that_do_not_belong_are_refused(base: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from freehold.tuning import lora, model

    cpu = torch.device("cpu")
    trained = lora.attach(model.load(base, cpu, torch.float32, full=False).linears, 4, 1.0, 1, cpu, dora=True)
    lora.save(trained, tmp_path / "adapter", method="dora", rank=4, alpha=4.0, base="base")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    whole = load_file(file)
    name = next(name for name in whole if name.endswith("q_proj.lora_magnitude_vector"))
    for wrong, said in (
        ({key: value for key, value in whole.items() if key != name}, "q_proj.lora_magnitude_vector of the adapter"),
        (whole | {name: whole[name][1:].clone()}, "does not fit"),
    ):
        save_file(wrong, file)
        with pytest.raises(BadModelFile, match=said):
            merge(base, tmp_path / "adapter", tmp_path / "merged")


@pytest.mark.slow
def test_an_adapter_for_another_base_is_refused(job: Jobs, base: Path, tmp_path: Path) -> None:
    result = train(job(steps=1), quiet)
    config = json.loads((result.model / "adapter_config.json").read_text())
    (result.model / "adapter_config.json").write_text(json.dumps(config | {"bias": "all"}))
    with pytest.raises(Unsupported, match="only plain LoRA"):
        merge(base, result.model, tmp_path / "merged")
    (result.model / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))
    with pytest.raises(BadModelFile, match="lora_magnitude_vector of the adapter is no half of a pair"):
        merge(base, result.model, tmp_path / "merged")
    (result.model / "adapter_config.json").write_text(json.dumps(config))
    other = TrainJob(
        out=tmp_path / "other", train=job().train, method="scratch", steps=1, batch_tokens=64, threads=1, dtype="f32",
        architecture=Architecture(vocab=300, hidden=32, layers=1, heads=2, kv_heads=1, intermediate=32, context=64),
    )  # fmt: skip
    with pytest.raises(BadModelFile, match=r"does not fit|lacks"):
        merge(train(other, quiet).model, result.model, tmp_path / "merged2")


def test_long_rows_are_counted_and_told(job: Jobs, tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    short, long = "Ann has it.", "Ann has the key and the map and the ring. " * 20
    write_rows(path, [Row((Message("user", "Who?"), Message("assistant", text))) for text in [short] * 5 + [long] * 2])
    said: list[Progress] = []
    result = train(job(train=path, max_length=64, steps=1), said.append)
    assert result.rows_cut == 2
    assert any("2 are longer than 64 tokens" in progress.note for progress in said)


def test_rows_without_room_for_an_answer_are_refused(job: Jobs, tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    write_rows(path, [Row((Message("user", "Who has it? " * 50), Message("assistant", "Ann.")))] * 3)
    with pytest.raises(BadData, match="has an answer within max_length"):
        train(job(train=path, max_length=32), quiet)


def test_a_base_that_cannot_be_tuned_is_refused(job: Jobs, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="needs a base"):
        train(job(base=None), quiet)
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "config.json").write_text('{"model_type": "mamba"}')
    (strange / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    with pytest.raises(BadModelFile, match="tokenizer"):
        train(job(base=strange), quiet)


def test_a_shape_that_cannot_be_is_refused(job: Jobs) -> None:
    shape = Architecture(vocab=300, hidden=60, layers=1, heads=8, kv_heads=2, intermediate=64, context=64)
    with pytest.raises(BadInput, match="do not divide hidden 60"):
        train(job(base=None, method="scratch", architecture=shape), quiet)


def test_what_was_learned_is_taken_when_it_is_asked_for(job: Jobs, tmp_path: Path) -> None:
    """It ends as a whole training does, and the same job goes on from there to the same bytes as one without a stop."""
    request = tmp_path / "keep"
    notes: list[str] = []

    def ask(progress: Progress) -> None:
        notes.extend(filter(None, [progress.note]))
        if progress.phase == "training":
            request.touch()

    cut = train(job(steps=2000, request=request), ask)
    assert (cut.cut, cut.planned) == ("asked", 2000)
    assert 0 < cut.steps == len(cut.losses) < 2000
    assert cut.held_out_losses[-1].step == cut.steps
    assert (cut.model / "adapter_model.safetensors").exists()
    assert notes == [f"cut short at step {cut.steps} of 2000, as it was asked to; the same command goes on to the end"]
    again = train(job(steps=2000, request=request), quiet)  # of a run that is paused, its last checkpoint is taken
    assert (weights(again), again.held_out_losses) == (weights(cut), cut.held_out_losses)


@pytest.mark.parametrize("patience", [pytest.param(0, marks=pytest.mark.slow), 9])
def test_a_run_that_was_cut_goes_on_as_if_it_was_not(job: Jobs, tmp_path: Path, patience: int) -> None:
    request = tmp_path / "keep"
    fields = {"steps": 40, "evaluations": 11, "patience": patience}

    def ask(progress: Progress) -> None:
        if progress.step == 1:
            request.touch()

    cut = train(job(request=request, **fields), ask)
    assert cut.cut == "asked"
    request.unlink()
    resumed = train(job(request=request, **fields), quiet)
    whole = train(job(out=tmp_path / "whole", **fields), quiet)
    assert (resumed.cut, resumed.steps, resumed.resumed) == ("", whole.steps, 1)
    assert (resumed.losses, resumed.held_out_losses) == (whole.losses, whole.held_out_losses)
    assert weights(resumed) == weights(whole)


def test_a_training_that_is_asked_before_it_begins_takes_one_step(job: Jobs, tmp_path: Path) -> None:
    request = tmp_path / "keep"
    request.touch()
    assert train(job(request=request), quiet).steps == 1
