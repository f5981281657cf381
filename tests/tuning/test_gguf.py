"""Adapters tuned on a GGUF file: they learn, and llama.cpp says with that very file what the trainer measured."""

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from freehold.convert import quantize, to_gguf
from freehold.core.errors import BadModelFile, FreeholdError, Unsupported
from freehold.core.request import Message
from freehold.data.rows import Row, read_rows, write_rows
from freehold.engines.llamacpp.vocabulary import vocabulary
from freehold.formats.gguf import read_header
from freehold.tuning import lora, model
from freehold.tuning.decoder.attention import Rows
from freehold.tuning.job import Progress, TrainJob, TrainResult
from freehold.tuning.launch import train
from freehold.tuning.render import Renderer, Sample
from freehold.tuning.unpack import unpack
from tests.convert.libadapters import AdaptedLlama
from tests.convert.libllama import Llama
from tests.tiny import write_gguf

Jobs = Callable[..., TrainJob]
CPU = torch.device("cpu")


def quiet(_: Progress) -> None:
    return


@pytest.fixture(scope="session")
def file(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base as Q8_0."""
    folder = tmp_path_factory.mktemp("file")
    to_gguf(base, folder / "plain.gguf")
    quantize(folder / "plain.gguf", folder / "tiny.Q8_0.gguf", "Q8_0", threads=1)
    return folder / "tiny.Q8_0.gguf"


def samples(job: TrainJob, file: Path, rows: Path) -> list[Sample]:
    folder = job.out.parent / "looked"
    template, names = model.chat_template(unpack(file, folder))
    with vocabulary(file) as words:
        renderer = Renderer(words, template, max_length=job.max_length, prompt_weight=job.prompt_weight, **names)
        return list(renderer.samples([row.messages for row in read_rows(rows)]))


def loss(llama: Llama, chosen: list[Sample]) -> float:
    """Mean loss per supervised token, as llama.cpp computes logits."""
    total = weight = 0.0
    for sample in chosen:
        ids, weights = np.array(sample.ids), np.array(sample.weights)[1:]
        logits = llama.logits(ids.tolist())[:-1].astype(np.float64)
        logits -= logits.max(-1, keepdims=True)
        logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        total -= float((logp[np.arange(len(weights)), ids[1:]] * weights).sum())
        weight += float(weights.sum())
    return total / weight


def test_what_was_learned_is_what_llama_cpp_says_with_that_file(job: Jobs, file: Path) -> None:
    asked = job(base=file, steps=40, learning_rate=3e-3, rank=16, alpha=64.0)
    told: list[Progress] = []
    result = train(asked, told.append)
    assert result.held_out_losses[-1].loss < 0.9 * result.held_out_losses[0].loss
    assert [len(each.samples) for each in told if each.held_out_loss is not None] == [3] * 4
    assert asked.held_out is not None
    held_out = samples(asked, file, asked.held_out)
    # llama.cpp rounds activations to 8 bits before it multiplies them with a Q8_0 matrix.
    with Llama(file) as llama:
        assert loss(llama, held_out) == pytest.approx(result.held_out_losses[0].loss, rel=0.01)
    with AdaptedLlama(file, asked.out / "adapter.gguf") as llama:
        assert loss(llama, held_out) == pytest.approx(result.held_out_losses[-1].loss, rel=0.02)
    config = json.loads((result.model / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == file.name
    header = read_header(asked.out / "adapter.gguf")
    assert header.metadata["general.type"] == "adapter"
    assert len(header.tensors) == 2 * 2 * 7


def test_a_folder_may_bring_another_template(job: Jobs, file: Path, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "x.gguf").symlink_to(file)
    template = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    (tmp_path / "base" / "chat_template.jinja").write_text(template)
    path = tmp_path / "one.jsonl"
    write_rows(path, [Row((Message("user", "Who?"), Message("assistant", "Ann")))])
    result = train(job(base=tmp_path / "base", train=path, held_out=None, steps=1), quiet)
    with vocabulary(file) as words:
        assert result.tokens == len(words.encode("Who?<|im_end|>Ann<|im_end|>").ids)


@pytest.mark.slow
def test_a_run_on_a_file_goes_on_where_it_was(job: Jobs, file: Path) -> None:
    whole = train(job(base=file, steps=20), quiet)

    def interrupt(progress: Progress) -> None:
        if progress.step == 5:
            raise KeyboardInterrupt

    again = job(base=file, steps=20, out=job().out.parent / "again")
    with pytest.raises(FreeholdError, match="interrupted"):
        train(again, interrupt)
    resumed = train(again, quiet)
    assert resumed.resumed == 1
    assert resumed.losses == whole.losses
    assert (again.out / "adapter.gguf").read_bytes() == (job().out / "adapter.gguf").read_bytes()


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_an_adapter_learns_on_nf4(job: Jobs, method: str) -> None:
    result = train(job(method=method, base_dtype="nf4", steps=30, learning_rate=3e-3, rank=16, alpha=64.0), quiet)
    assert result.held_out_losses[-1].loss < 0.95 * result.held_out_losses[0].loss


def cases(raw: bytes) -> dict[str, bytes]:
    """Files that are not what they say."""
    return {
        "cut": raw[:-5000],
        "header": raw[:200],
        "none": b"",
        "other": raw.replace(b"\x05\x00\x00\x00\x00\x00\x00\x00llama", b"\x05\x00\x00\x00\x00\x00\x00\x00mamba"),
        "missing": raw.replace(b"blk.1.ffn_down.weight", b"blk.1.ffn_dawn.weight"),
        "counts": raw.replace(b"llama.block_count\x04\0\0\0\x02", b"llama.block_count\x04\0\0\0\x7f"),
    }


@pytest.mark.parametrize("case", ["cut", "header", "none", "other", "missing", "counts"])
def test_files_that_cannot_be_a_base_are_refused(case: str, file: Path, tmp_path: Path) -> None:
    path = tmp_path / f"{case}.gguf"
    path.write_bytes(cases(file.read_bytes())[case])
    assert path.read_bytes() != file.read_bytes()
    with pytest.raises((BadModelFile, Unsupported)) as caught:
        unpack(path, tmp_path / "unpacked")
    assert case in caught.value.line() or "mamba" in caught.value.line()


def test_the_trainer_says_so(job: Jobs, file: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.gguf").write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(BadModelFile, match=r"cut\.gguf: .*truncated"):
        train(job(base=tmp_path / "cut.gguf"), quiet)
    assert not (job().out / "adapter").exists()


def test_a_file_without_a_template_is_refused(tmp_path: Path) -> None:
    folder = unpack(write_gguf(tmp_path / "plain.gguf", template=""), tmp_path / "unpacked")
    with pytest.raises(BadModelFile, match="no chat template"):
        model.chat_template(folder)


def test_method_full_is_refused(job: Jobs, file: Path) -> None:
    with pytest.raises(Unsupported, match="stays as it is"):
        train(job(base=file, method="full"), quiet)


def test_method_dora_is_refused_before_anything_is_learned(job: Jobs, file: Path) -> None:
    with pytest.raises(Unsupported, match="has no magnitudes"):
        train(job(base=file, method="dora"), quiet)
    assert not (job().out / "base").exists()


def greedy(decoder: model.Decoder, prompt: list[int], count: int) -> list[int]:
    """The likeliest continuation by the trainer's own decoder."""
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            hidden = decoder(torch.tensor(ids), Rows.of([len(ids)], CPU))[-1:]
            ids.append(int((hidden @ decoder.head.dense(torch.float32).T).argmax()))
    return ids[len(prompt) :]


def adapted(result: TrainResult, job: TrainJob) -> model.Decoder:
    """The trainer's decoder with the adapter that came out."""
    from safetensors.torch import load_file

    decoder = model.load(job.out / "base", CPU, torch.float32, full=False)
    halves = lora.attach(decoder.linears, job.rank, lora.scale(job.method, job.rank, job.alpha), 1, CPU)
    stored = load_file(result.model / "adapter_model.safetensors")
    with torch.no_grad():
        for name, half in halves.items():
            half.copy_(stored[f"base_model.model.{name}"])
    return decoder


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K_M"])
def test_the_starter_says_in_llama_cpp_what_it_learned(kind: str, job: Jobs, tmp_path: Path) -> None:
    """Token for token what the trainer's own decoder says."""
    with resources.as_file(resources.files("freehold.assets").joinpath("starter")) as starter:
        to_gguf(starter, tmp_path / "plain.gguf")
    file = tmp_path / f"starter.{kind}.gguf"
    quantize(tmp_path / "plain.gguf", file, kind, threads=1)
    asked = job(base=file, steps=30, batch_tokens=1024, learning_rate=2e-3, rank=8, alpha=16.0)
    result = train(asked, quiet)
    assert result.held_out_losses[-1].loss < 0.1 * result.held_out_losses[0].loss
    decoder = adapted(result, asked)
    assert asked.held_out is not None
    chosen = samples(asked, file, asked.held_out)[:6]
    with AdaptedLlama(file, asked.out / "adapter.gguf") as llama, Llama(file) as alone:
        for sample in chosen:
            start = list(sample.weights).index(1.0)
            prompt, answer = list(sample.ids[:start]), list(sample.ids[start:])
            said = llama.greedy(prompt, len(answer))
            assert said == greedy(decoder, prompt, len(answer))
            assert said[:-1] == answer[:-1], "it learned them by heart"
            assert alone.greedy(prompt, len(answer)) != said
