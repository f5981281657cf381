"""Served answers beside the trainer's own: the same, spelt by other tokens, cut, or other ones."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
import torch

from freehold.core.errors import BadData, BadModelFile
from freehold.core.request import Message
from freehold.data.rows import Row, write_rows
from freehold.tuning import agreement, launch, lora, model
from freehold.tuning.decoder.sampling import sample
from freehold.tuning.job import Agreed, CompareJob, Progress, Said, TrainJob
from freehold.tuning.launch import train
from freehold.tuning.merge import merge
from freehold.tuning.render import Renderer
from tests.convert.torchmodels import write_model
from tests.tiny import CHATML
from tests.tuning.conftest import rows

CPU = torch.device("cpu")
MOST = 12


def quiet(_: Progress) -> None:
    return


def questions(count: int = 6) -> list[Row]:
    return rows(count, seed=7)


def told(folder: Path, asked: Sequence[Row]) -> list[Said]:
    """The likeliest answers, one token at a time."""
    decoder = model.load(folder, CPU, torch.float32, full=False)
    template, names = model.chat_template(folder)
    found = []
    with model.encoder(folder) as encoder:
        ends = model.ends(folder, encoder)
        renderer = Renderer(encoder, template, max_length=256, prompt_weight=0.0, **names)
        for read in renderer.samples(asked):
            prompt = list(read.ids)[: list(read.weights).index(1.0)]
            draw = torch.Generator().manual_seed(0)
            [ids] = sample(decoder, prompt, count=1, most=MOST, ends=ends, draw=draw, temperature=1e-6)
            found.append(Said(encoder.decode(ids, skip_special_tokens=True).strip(), ids[-1] in ends))
    return found


def compared(folder: Path, asked: Sequence[Row], said: Sequence[Said], adapter: Path | None = None) -> list[Agreed]:
    write_rows(folder.parent / "asked.jsonl", asked)
    job = CompareJob(
        out=folder.parent / "out", model=folder, adapter=adapter, rows=folder.parent / "asked.jsonl", said=tuple(said),
        max_tokens=MOST, threads=1,
    )  # fmt: skip
    return list(agreement.compare(job, quiet).answers)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory, base: Path, train_file: Path) -> Path:
    """A model that says who has what."""
    job = TrainJob(
        out=tmp_path_factory.mktemp("learned"), base=base, train=train_file, method="full", steps=100, batch_tokens=512,
        learning_rate=5e-3, dtype="f32", threads=1,
    )  # fmt: skip
    return train(job, quiet).model


@pytest.fixture
def folder(tmp_path: Path, learned: Path) -> Path:
    """The same, where more can be written beside it."""
    (tmp_path / "model").symlink_to(learned)
    return tmp_path / "model"


@pytest.mark.slow
def test_its_own_answers_are_the_same(folder: Path) -> None:
    asked = questions()
    assert compared(folder, asked, told(folder, asked)) == [Agreed(True)] * len(asked)


@pytest.mark.slow
def test_nothing_is_generated_where_each_token_is_the_likeliest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = questions(3)
    said = told(folder, asked)
    assert all(each.whole and each.answer.endswith("has it.") for each in said)
    monkeypatch.setattr(agreement, "sample", None)
    assert compared(folder, asked, said) == [Agreed(True)] * 3


@pytest.mark.slow
def test_another_answer_is_told_with_how_unlikely_it_is(folder: Path) -> None:
    asked = questions(3)
    right = told(folder, asked)
    found = compared(folder, asked, [right[0], Said("zzz qqq", True), right[2]])
    assert [each.same for each in found] == [True, False, True]
    assert found[1].gap > 1.0


@pytest.mark.slow
def test_an_answer_that_ended_too_early_differs(folder: Path) -> None:
    [row] = questions(1)
    [right] = told(folder, [row])
    assert len(right.answer) > 3
    [found] = compared(folder, [row], [Said(right.answer[:2], True)])
    assert not found.same
    [cut] = compared(folder, [row], [Said(right.answer[:2], False)])
    assert not cut.same, "what the limit cut is as long as the limit"


@pytest.mark.slow
def test_an_empty_answer_where_there_is_one(folder: Path) -> None:
    [found] = compared(folder, questions(1), [Said("", True)])
    assert not found.same


def test_an_answer_that_the_limit_cut(tmp_path: Path) -> None:
    """Random weights never end: all answers are cut, some within a character."""
    write_model(tmp_path / "model", "Llama")
    (tmp_path / "model" / "chat_template.jinja").write_text(CHATML)
    asked = questions(4)
    said = told(tmp_path / "model", asked)
    assert not any(each.whole for each in said)
    assert all(each.same for each in compared(tmp_path / "model", asked, said))


@pytest.mark.slow
def test_the_same_text_by_other_tokens_is_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The served tokens are not known, only their text: where it reads otherwise, the decoder says it itself."""
    asked = questions(2)
    said = told(folder, asked)
    gaps = agreement._Teller._gaps
    monkeypatch.setattr(agreement._Teller, "_gaps", lambda self, part: (0.7 for _ in gaps(self, part)))
    assert compared(folder, asked, said) == [Agreed(True)] * 2
    assert compared(folder, asked, [said[0], Said("no", True)])[1] == Agreed(False, 0.7)


@pytest.mark.slow
def test_a_conversation_is_compared_at_its_last_answer(folder: Path) -> None:
    turns = (Message("user", "Hello?"), Message("assistant", "zzz"), *questions(1)[0].messages)
    asked = [Row(turns)]
    decoder_says = _last(folder, asked)
    assert compared(folder, asked, decoder_says) == [Agreed(True)]


def _last(folder: Path, asked: Sequence[Row]) -> list[Said]:
    decoder = model.load(folder, CPU, torch.float32, full=False)
    template, names = model.chat_template(folder)
    with model.encoder(folder) as encoder:
        ends = model.ends(folder, encoder)
        renderer = Renderer(encoder, template, max_length=256, prompt_weight=0.0, **names)
        [read] = renderer.samples(asked)
        weights = list(read.weights)
        end = len(weights) - weights[::-1].index(1.0)
        begin = end - weights[:end][::-1].index(0.0)
        draw = torch.Generator().manual_seed(0)
        prompt = list(read.ids)[:begin]
        [ids] = sample(decoder, prompt, count=1, most=MOST, ends=ends, draw=draw, temperature=1e-6)
        return [Said(encoder.decode(ids, skip_special_tokens=True).strip(), ids[-1] in ends)]


@pytest.mark.slow
def test_many_long_ones_are_read_in_parts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = questions(5)
    said = told(folder, asked)
    monkeypatch.setattr(agreement, "_TOKENS", 60)
    monkeypatch.setattr(agreement, "_NUMBERS", 700)
    assert compared(folder, asked, said) == [Agreed(True)] * 5


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "rslora", "dora"])
def test_an_adapter_beside_its_base_is_what_is_merged(
    job: Callable[..., TrainJob], learned: Path, folder: Path, tmp_path: Path, method: str
) -> None:
    write_rows(tmp_path / "other.jsonl", [Row((row.messages[0], Message("assistant", "Nobody."))) for row in rows(40)])
    result = train(
        job(base=learned, train=tmp_path / "other.jsonl", method=method, steps=12, learning_rate=2e-2), quiet
    )
    merge(learned, result.model, tmp_path / "merged")
    asked = questions()
    said = told(tmp_path / "merged", asked)
    assert said != told(folder, asked), "the adapter changes what is said"
    assert all(each.same for each in compared(folder, asked, said, result.model))


@pytest.mark.slow
def test_an_adapter_of_another_base(job: Callable[..., TrainJob], tmp_path: Path) -> None:
    result = train(job(steps=1), quiet)
    write_model(tmp_path / "other", "Llama", num_hidden_layers=1)
    decoder = model.load(tmp_path / "other", CPU, torch.float32, full=False)
    with pytest.raises(BadModelFile, match=r"the base has no model\.layers\.1\."):
        lora.restore(decoder.linears, result.model)


@pytest.mark.slow
def test_an_answer_for_each_question(folder: Path) -> None:
    with pytest.raises(BadData, match="1 answers to 2 questions"):
        compared(folder, questions(2), [Said("x", True)])


@pytest.mark.slow
def test_in_a_process_of_its_own(folder: Path, tmp_path: Path) -> None:
    asked = questions(2)
    write_rows(tmp_path / "asked.jsonl", asked)
    said = (told(folder, asked)[0], Said("zzz qqq", True))
    job = CompareJob(
        out=tmp_path / "out", model=folder, rows=tmp_path / "asked.jsonl", said=said, max_tokens=MOST, threads=1
    )
    seen: list[Progress] = []
    found = launch.compare(job, seen.append)
    assert [each.same for each in found.answers] == [True, False]
    assert [(each.phase, each.step, each.steps) for each in seen][-1] == ("comparing", 2, 2)
    broken = msgspec.structs.replace(job, model=tmp_path / "nowhere")
    with pytest.raises(BadModelFile):
        launch.compare(broken, quiet)
