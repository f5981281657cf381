"""Rows that teach nothing, or too much at once: losses and gradients stay numbers, and say what they should."""

import json
import math
from array import array
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from freehold.core.errors import BadData, WorkerFailed
from freehold.core.request import Message
from freehold.data.rows import AnyRow, Document, Judged, Labelled, Preference, Prompt, Row, write_rows
from freehold.tuning import classifier, model
from freehold.tuning.classifier import Head, measure
from freehold.tuning.job import TrainJob
from freehold.tuning.objectives import objectives
from freehold.tuning.objectives.base import Drawn, Example
from freehold.tuning.render import Renderer, Sample
from tests.recipes.kit import write_adapter, write_base
from tests.tuning.test_objectives import Run, run

__all__ = ["run"]

SAMPLE = Sample(array("i", [1, 2]), array("f", [0.0, 1.0]), cut=False)


class Told:
    """A model whose log-probabilities are given, by its answers' sums and those of the model it began as."""

    def __init__(self, sums: Sequence[float], first: Sequence[float], beta: float, tokens: float = 4.0) -> None:
        self.sums = torch.tensor(sums, requires_grad=True)
        self.first, self.beta, self.tokens = torch.tensor(first), beta, tokens
        self.worth: list[list[float]] = []

    def loss(self, samples: Sequence[Sample]) -> Tensor:
        return -self.sums.mean()

    def answers(self, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        return self.sums, torch.full_like(self.sums, self.tokens)

    def reference(self, examples: Sequence[Example]) -> Tensor:
        return self.first.view(len(examples), -1)

    def draw(self, example: Example) -> Drawn:
        worth = self.worth[example.number]
        return Drawn((SAMPLE,) * len(worth), torch.tensor(worth))

    def compared(self, samples: Sequence[Sample]) -> tuple[Tensor, Tensor, Tensor]:
        return self.sums, self.first, torch.arange(len(samples))

    def classified(self, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


def examples(count: int, sequences: int, labels: Sequence[float] = ()) -> list[Example]:
    return [Example((SAMPLE,) * sequences, number, label=labels[number] if labels else 0.0) for number in range(count)]


def taught(policy: Told, name: str, made: list[Example]) -> tuple[float, list[float]]:
    """The loss, and what it would change of each sum."""
    loss = objectives()[name].loss(policy, made)
    loss.backward()  # type: ignore[no-untyped-call]
    assert policy.sums.grad is not None
    return float(loss.detach()), policy.sums.grad.tolist()


@pytest.mark.parametrize(
    ("sums", "beta", "loss", "slope"),
    [
        ([-5.0, -5.0], 0.1, math.log(2), -0.05),  # both answers are the same: a push, of which nothing remains
        ([-5.0, -1.0], 0.0, math.log(2), 0.0),
        ([0.0, -1e5], 1.0, 0.0, 0.0),
        ([-1e5, 0.0], 1.0, 1e5, -1.0),
        ([-1e5, 0.0], 1000.0, 1e8, -1000.0),
    ],
)
def test_dpo_of_pairs_that_say_nothing_or_all(sums: list[float], beta: float, loss: float, slope: float) -> None:
    found, slopes = taught(Told(sums, [-3.0, -3.0], beta), "dpo", examples(1, 2))
    assert found == pytest.approx(loss)
    assert slopes == pytest.approx([slope, -slope])


@pytest.mark.parametrize("sums", [[0.0, 0.0], [0.0, -1e5], [-1e5, 0.0], [-1e-9, -1e-9], [-5.0, -5.0]])
@pytest.mark.parametrize("beta", [0.0, 0.1, 1000.0])
def test_orpo_of_answers_that_are_certain_or_impossible(sums: list[float], beta: float) -> None:
    found, slopes = taught(Told(sums, [], beta), "orpo", examples(1, 2))
    assert math.isfinite(found)
    assert all(map(math.isfinite, slopes))
    if beta == 0.0:
        assert found == pytest.approx(-sums[0] / 4)
        assert slopes == pytest.approx([-0.25, 0.0])


@pytest.mark.parametrize("labels", [[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
def test_kto_of_answers_that_are_all_alike(labels: list[float]) -> None:
    start, slopes = taught(Told([-4.0] * 4, [-4.0] * 4, 0.5), "kto", examples(2, 2, labels))
    assert start == pytest.approx(0.5)
    assert [math.copysign(1, each) for each in slopes[::2]] == [-1.0 if label else 1.0 for label in labels]
    assert slopes[1::2] == [0.0, 0.0], "answers to other prompts are only looked at"


def test_kto_counts_a_drift_of_others_but_none_below_zero() -> None:
    # One row is its own neighbour: what it gained, all gained.
    risen, _ = taught(Told([-1.0, -1.0], [-4.0, -4.0], 1.0), "kto", examples(1, 2, [1.0]))
    assert risen == pytest.approx(0.5)
    fallen, _ = taught(Told([-4.0, -9.0], [-4.0, -4.0], 1.0), "kto", examples(1, 2, [1.0]))
    assert fallen == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("worth", "pulls"),
    [
        ([1.0, 1.0], [0.0, 0.0]),
        ([0.0, 0.0], [0.0, 0.0]),
        ([0.0, 1.0], [0.5**0.5, -(0.5**0.5)]),
        ([-1e8, 1e8], [0.5**0.5, -(0.5**0.5)]),
    ],
)
def test_grpo_learns_from_answers_of_different_worth_alone(worth: list[float], pulls: list[float]) -> None:
    policy = Told([-2.0, -2.0], [-2.0, -2.0], 0.04)
    policy.worth = [worth]
    loss, slopes = taught(policy, "grpo", examples(1, 1))
    assert slopes == pytest.approx([pull / 2 for pull in pulls], rel=1e-3)
    assert loss == pytest.approx(0.0, abs=1e-6)
    with torch.no_grad():
        assert float(objectives()["grpo"].loss(policy, examples(1, 1))) == -sum(worth) / 2


def test_grpo_is_drawn_back_to_where_it_began() -> None:
    policy = Told([-1.0, -3.0], [-2.0, -2.0], 1.0)
    policy.worth = [[1.0, 1.0]]
    _, slopes = taught(policy, "grpo", examples(1, 1))
    assert slopes[0] > 0 > slopes[1], "what became likelier is to be less so, and the other way round"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("base") / "base")


def renderer(base: Path, most: int = 1000, **fields: object) -> Renderer:
    template, names = model.chat_template(base)
    settings = {"max_length": most, "prompt_weight": 0.0} | names | fields
    return Renderer(model.tokenizer(base), template, **settings)  # type: ignore[arg-type]


def spelt(base: Path, sample: Sample) -> str:
    """What is learned of a sample."""
    ids = [token for token, weight in zip(sample.ids, sample.weights, strict=True) if weight]
    return model.tokenizer(base).decode(ids, skip_special_tokens=False)


def turns(*said: str, first: str = "user") -> tuple[Message, ...]:
    roles = (first, "user" if first == "assistant" else "assistant") * len(said)
    return tuple(Message(role, text) for role, text in zip(roles, said, strict=False))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("messages", "learned"),
    [
        (turns("Who?", ""), "<|im_end|>"),
        (turns("Who?", "  \n "), "  \n <|im_end|>"),
        (turns("", "Ann."), "Ann.<|im_end|>"),
        (turns("Ann.", first="assistant"), "Ann.<|im_end|>"),
        (turns("a", "b", "c"), "b<|im_end|>"),
        (turns("a", "<|im_end|>"), "<|im_end|><|im_end|>"),
        (turns("a", "b\n\n"), "b\n\n<|im_end|>"),
        (turns("a", "é𝄞\u200d"), "é𝄞\u200d<|im_end|>"),
        ((Message("user", "a"), Message("assistant", "b"), Message("assistant", "c")), "b<|im_end|>c<|im_end|>"),
    ],
)
def test_of_odd_rows_the_answers_are_learned(base: Path, messages: tuple[Message, ...], learned: str) -> None:
    [sample] = renderer(base).samples([messages])
    assert spelt(base, sample) == learned
    assert sample.supervised


@pytest.mark.parametrize(("over", "cut", "learned"), [(0, False, True), (1, True, True), (9, True, False)])
def test_rows_at_the_edge_of_their_length(base: Path, over: int, cut: bool, learned: bool) -> None:
    row = turns("Who is it?", "Ann.")
    [whole] = renderer(base).samples([row])
    [sample] = renderer(base, len(whole.ids) - over).samples([row])
    assert (sample.cut, sample.supervised) == (cut, learned)
    assert list(sample.ids) == list(whole.ids)[: len(whole.ids) - over]


def test_rows_whose_answers_count_nothing_are_no_rows(base: Path) -> None:
    messages = turns("a", "b", "c", "d")
    none, one = renderer(base).samples([Row(messages, weights=(1, 0, 1, 0)), Row(messages, weights=(0, 0, 0, 1))])
    assert not none.supervised
    assert spelt(base, one) == "d<|im_end|>"


def test_prompts_at_the_edge_of_their_length(base: Path) -> None:
    """A prompt that fills all there is leaves no room for an answer."""
    row = Prompt(turns("Who is it?"))
    [whole] = renderer(base).prompts([row])
    sizes = {more: next(renderer(base, len(whole.ids) + more).prompts([row])) for more in (0, 1)}
    assert [(each.cut, each.supervised) for each in sizes.values()] == [(True, False), (False, True)]
    empty = Renderer(model.tokenizer(base), "", max_length=9, prompt_weight=0.0)
    [sample] = empty.prompts([row])
    assert (len(sample.ids), len(sample.weights), sample.supervised) == (0, 0, False)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 31, 32, 33, 100])
def test_texts_are_cut_into_pieces_without_a_loss(base: Path, count: int) -> None:
    text = "x" * count
    pieces = list(renderer(base, 16).texts([text, "y"]))
    ids = [token for piece in pieces for token in piece.ids]
    assert model.tokenizer(base).decode(ids, skip_special_tokens=False) == f"{text}<|im_end|>y<|im_end|>"
    assert max(len(piece.ids) for piece in pieces) <= 16
    assert [len(piece.ids) for piece in pieces[:-1]] == [16] * ((count + 1) // 16) + [(count + 1) % 16] * bool(
        (count + 1) % 16
    )


def test_texts_of_a_model_that_names_no_end_have_none(base: Path) -> None:
    assert list(renderer(base, eos_token="").texts([""])) == []
    [piece] = renderer(base, eos_token="<nowhere>").texts(["x"])
    assert len(piece.ids) == 1


def test_pairs_of_which_one_answer_is_cut_away_are_not_learned(base: Path) -> None:
    long, short = Message("assistant", "word " * 40), Message("assistant", "no")
    question = turns("Q" * 30)
    most = len(next(iter(renderer(base).samples([(*question, short)]))).ids)
    rows = [
        Preference(question, chosen=(long,), rejected=(short,)),
        Preference(turns("Q" * 90), chosen=(short,), rejected=(long,)),
    ]
    first, second = objectives()["dpo"].examples(rows, renderer(base, most))
    assert (first.supervised, second.supervised) == (True, False)
    assert [sample.cut for sample in first.samples] == [True, False]


def test_only_the_last_answer_of_judged_rows_counts(base: Path) -> None:
    made = list(objectives()["kto"].examples([Judged(turns("a", "b", "c", "d"), label=True)], renderer(base)))
    [example] = made
    assert (len(example.samples), example.label) == (2, 1.0)
    assert {spelt(base, sample) for sample in example.samples} == {"d<|im_end|>"}


def test_labels_of_texts(base: Path) -> None:
    rows = [Labelled("x y z", "b"), Labelled("", "a"), Labelled("x", "b")]
    made = list(objectives()["classify"].examples(rows, renderer(base)))
    assert [each.reference for each in made] == ["b", "a", "b"]
    # One token has nothing before it that could be weighed, and is a text all the same.
    assert [len(each.samples[0].ids) for each in made] == [5, 0, 1]
    assert [each.supervised for each in made] == [True, False, True]
    head = Head.of(made, 8, torch.device("cpu"))
    assert (head.labels, head.targets(made).tolist()) == (("a", "b"), [1, 0, 1])
    with pytest.raises(BadData, match="label 'c' is held out and nowhere learned"):
        head.targets([made[0]._replace(reference="c")])
    for one in ([made[0]], [made[0]._replace(reference=str(number)) for number in range(4097)]):
        with pytest.raises(
            BadData, match=f"needs 2 to 4096 labels, and the rows have {len({e.reference for e in one})}"
        ):
            Head.of(one, 8, torch.device("cpu"))


@pytest.mark.parametrize(
    ("right", "said", "learned", "accuracy", "commonest"),
    [(["a"], ["a"], ["b", "b", "a"], 1.0, 0.0), (["a", "b"], ["b", "a"], ["b", "a"], 0.0, 0.5)],
)
def test_accuracy_of_few_rows(
    right: list[str], said: list[str], learned: list[str], accuracy: float, commonest: float
) -> None:
    found = measure(right, said, learned)
    assert (found["accuracy"], found["accuracy_of_commonest"]) == (accuracy, commonest)
    assert measure([], [], learned) == {}


def test_documents_are_examples_of_their_own(base: Path) -> None:
    made = list(objectives()["text"].examples([Document("x" * 20), Document("y")], renderer(base, 16)))
    assert [each.number for each in made] == list(range(len(made)))
    assert len(made) == 3


SAME = Message("assistant", "yes")
ODD: dict[str, tuple[list[AnyRow], float | None]] = {
    "sft": ([Row(turns("Who?", ""))], None),
    "text": ([Document("x")], None),
    "dpo": ([Preference(turns("Who?"), chosen=(SAME,), rejected=(SAME,))], math.log(2)),
    "orpo": ([Preference(turns("Who?"), chosen=(SAME,), rejected=(SAME,))], None),
    "kto": ([Judged(turns("Who?", "yes"), label=False)], 0.5),
    "grpo": ([Prompt(turns("Who?"))], 0.0),
    "classify": ([Labelled("x", "a"), Labelled("y", "b")], math.log(2)),
}


@pytest.mark.parametrize("objective", list(ODD))
def test_one_row_is_enough_to_train_and_never_too_little_for_a_number(
    base: Path, run: Run, tmp_path: Path, objective: str
) -> None:
    rows, start = ODD[objective]
    write_rows(tmp_path / "rows.jsonl", rows)
    job = TrainJob(
        out=tmp_path / "run", train=tmp_path / "rows.jsonl", held_out=tmp_path / "rows.jsonl", base=base, steps=3,
        objective=objective, rank=2, dtype="f32", threads=1, rewards=("regex:",), group=2, max_answer=4,  # type: ignore[arg-type]
        learning_rate=5e-2,
    )  # fmt: skip
    result = run(job)
    assert (result.rows, result.rows_dropped, len(result.losses)) == (len(rows), 0, 3)
    assert all(map(math.isfinite, (*result.losses, *result.gradient_norms)))
    if start is not None:
        assert result.losses[0] == pytest.approx(start, abs=1e-5)
    if objective == "dpo":
        assert result.losses == pytest.approx([start] * 3), "of two equal answers none becomes likelier"
        assert result.gradient_norms == pytest.approx([0.0] * 3, abs=1e-5)
    if objective == "classify":
        assert result.measured["accuracy"] == 1.0


def test_a_held_out_loss_that_is_no_number_ends_it_at_once(base: Path, run: Run, tmp_path: Path) -> None:
    """And not hours later, with an answer that cannot be read."""
    broken = tmp_path / "broken"
    write_base(broken)
    tensors = load_file(broken / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    [lost] = model.tokenizer(base).encode("@").ids
    tensors["model.embed_tokens.weight"][lost] = math.nan
    save_file(tensors, broken / "model.safetensors")
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    write_rows(tmp_path / "train.jsonl", [Row(turns("a", "b"))])
    write_rows(tmp_path / "held_out.jsonl", [Row(turns("@", "b"))])
    job = TrainJob(
        out=tmp_path / "run", train=tmp_path / "train.jsonl", held_out=tmp_path / "held_out.jsonl", base=broken,
        steps=2, rank=2, dtype="f32", threads=1,
    )  # fmt: skip
    with pytest.raises(WorkerFailed, match="not a number at step 0, before anything was learned"):
        run(job)


def test_a_classifier_of_a_base_whose_last_file_is_its_head(base: Path, tmp_path: Path) -> None:
    """As those of Qwen 2.5 7B are: what is taken out of that file leaves none of its own."""
    parted, out = tmp_path / "parted", tmp_path / "out"
    write_base(parted)
    tensors = {name: value.half() for name, value in load_file(parted / "model.safetensors").items()}
    (parted / "model.safetensors").unlink()
    shards = {"model-1-of-2.safetensors": tensors, "model-2-of-2.safetensors": {"lm_head.weight": torch.ones(372, 64)}}
    for file, part in shards.items():
        save_file({name: value.half() for name, value in part.items()}, parted / file)
    index = {"metadata": {}, "weight_map": {name: file for file, part in shards.items() for name in part}}
    (parted / "model.safetensors.index.json").write_text(json.dumps(index))
    config = json.loads((parted / "config.json").read_text())
    (parted / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    head = Head(("no", "yes"), torch.nn.Parameter(torch.stack([torch.zeros(64), torch.ones(64)])))
    classifier.save(parted, write_adapter(tmp_path / "adapter", 1), head, out)
    last = load_file(out / "model-2-of-2.safetensors")
    assert {name: (value.dtype, tuple(value.shape)) for name, value in last.items()} == {
        "score.weight": (torch.float16, (2, 64))
    }
    listed = json.loads((out / "model.safetensors.index.json").read_text())["weight_map"]
    assert (listed["score.weight"], "lm_head.weight" in listed) == ("model-2-of-2.safetensors", False)
    [guesses] = classifier.classify(out, ["Who?"])
    assert {guess.label for guess in guesses} == {"no", "yes"}
    assert sum(guess.probability for guess in guesses) == pytest.approx(1.0)
