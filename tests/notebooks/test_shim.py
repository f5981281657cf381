"""What a notebook's imports give: templates, masks, and the job that the trainer gets."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from freehold.core.errors import BadData, BadInput, Forbidden, Unsupported
from freehold.notebooks.shim import Module, templates, trainer
from freehold.notebooks.shim.data import Dataset
from freehold.notebooks.shim.models import Lora, Model, fast
from freehold.tuning.objectives.tokens import read
from tests.notebooks.test_data import session
from tests.recipes.kit import write_base

CHATS = [
    {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ann."}]},
    {"messages": [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "There."}]},
]


@pytest.fixture
def loaded(tmp_path: Path) -> tuple[Model, Any]:
    """A tiny model and its tokenizer, as a notebook gets them."""
    write_base(tmp_path / "base")
    found = session(tmp_path)
    model, tokenizer = fast(found).from_pretrained(str(tmp_path / "base"), max_seq_length=64)
    model.lora = Lora(8, 16.0, 1, rooted=False)
    return model, tokenizer


def sft(loaded: tuple[Model, Any], dataset: Any, **options: Any) -> Any:
    model, tokenizer = loaded
    return trainer.sft(model.session)(model=model, tokenizer=tokenizer, train_dataset=dataset, **options)


def test_only_answers_are_learned(loaded: tuple[Model, Any]) -> None:
    made = trainer.responses_only(loaded[0].session)(sft(loaded, Dataset.from_list(CHATS)))
    tokenizer = loaded[1]
    for row, answer in zip(made.train_dataset, ("Ann.", "There."), strict=True):
        learned = [token for token in row["labels"] if token != trainer.IGNORED]
        assert tokenizer.decode(learned).strip() == f"{answer}<|im_end|>"
        assert [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label >= 0] == learned
    given = trainer.responses_only(loaded[0].session)(
        sft(loaded, Dataset.from_list(CHATS)), "<|im_start|>user\n", "<|im_start|>assistant\n"
    )
    assert given.train_dataset["labels"] == made.train_dataset["labels"]


def test_spans_end_where_the_next_question_begins() -> None:
    text = "Q: a A: b Q: c A: d"
    assert [text[begin:end] for begin, end in trainer.spans(text, "Q:", "A:")] == [" b ", " d"]
    assert trainer.spans("Q: a", "Q:", "A:") == []


def test_the_job_is_what_the_notebook_says(loaded: tuple[Model, Any], tmp_path: Path) -> None:
    arguments = trainer.config(loaded[0].session)(
        per_device_train_batch_size=2, gradient_accumulation_steps=4, warmup_steps=5, max_steps=50, learning_rate=2e-4,
        weight_decay=0.01, seed=7, output_dir="outputs", optim="adamw_8bit",
    )  # fmt: skip
    job = sft(loaded, Dataset.from_list(CHATS), args=arguments)._job()
    assert (job.method, job.rank, job.alpha, job.objective) == ("lora", 8, 16.0, "tokens")
    assert (job.batch, job.steps, job.warmup, job.learning_rate) == (8, 50, 0.1, 2e-4)
    assert (job.weight_decay, job.seed, job.max_length, job.batch_tokens) == (0.01, 7, 64, 512)
    rows = read(job.train)
    assert len(rows) == 2
    assert all(set(row.weights) == {1.0} for row in rows)


def test_texts_come_from_the_field_or_the_function(loaded: tuple[Model, Any]) -> None:
    rows = Dataset.from_list([{"text": "one", "words": "two"}])
    assert sft(loaded, rows).train_dataset["text"] == ["one"]
    assert sft(loaded, rows, dataset_text_field="words").train_dataset["text"] == ["two"]
    assert sft(loaded, rows, formatting_func=lambda row: [f"<{t}>" for t in row["text"]]).train_dataset["text"] == [
        "<one>"
    ]
    with pytest.raises(BadData, match=r"no column 'text', only words"):
        sft(loaded, rows.remove_columns("text"))
    long = sft(loaded, Dataset.from_list([{"text": "word " * 500}]), max_seq_length=20)
    assert len(long.train_dataset["input_ids"][0]) == 20


def test_a_template_is_taken_where_its_end_is_known(
    loaded: tuple[Model, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    model, tokenizer = loaded
    own = tokenizer.chat_template
    get = templates.getter(model.session)
    assert get(tokenizer, chat_template="llama-3.1").chat_template == own
    assert "own chat template stays" in capfd.readouterr().err
    get(tokenizer, chat_template="chatml", mapping={"role": "from", "content": "value", "user": "human"})
    text = tokenizer.apply_chat_template(
        [{"from": "human", "value": "Who?"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n"
    get(tokenizer, chat_template=("{{ messages[0]['content'] }}", "eos_token"))
    assert tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False) == "x"
    with pytest.raises(BadInput, match="unknown chat template 'other'"):
        get(tokenizer, chat_template="other")


@pytest.mark.parametrize("name", sorted(templates.TEMPLATES))
def test_every_template_shows_where_answers_begin(loaded: tuple[Model, Any], name: str) -> None:
    _, tokenizer = loaded
    tokenizer.chat_template, _ = templates.TEMPLATES[name]
    instruction, response = trainer.parts(tokenizer)
    assert response
    chat = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ann."}] * 2
    text = tokenizer.apply_chat_template(chat, tokenize=False)
    inside = [text[begin:end] for begin, end in trainer.spans(text, instruction, response)]
    assert [each.startswith("Ann.") for each in inside] == [True, True]
    assert "Who?" not in "".join(inside)


def test_nothing_is_sent_away(loaded: tuple[Model, Any]) -> None:
    model, tokenizer = loaded
    for send in (model.push_to_hub, model.push_to_hub_merged, model.push_to_hub_gguf, tokenizer.push_to_hub):
        with pytest.raises(Forbidden, match="sends nothing"):
            send("name", token="t")


def test_what_is_not_there_is_named() -> None:
    module = Module("unsloth", known=1)
    assert module.known == 1
    with pytest.raises(Unsupported, match=r"unsloth.FastVisionModel has no counterpart"):
        _ = module.FastVisionModel
    assert not hasattr(module, "__wrapped__")


def test_an_untrained_adapter_cannot_be_saved(loaded: tuple[Model, Any], tmp_path: Path) -> None:
    model, _ = loaded
    with pytest.raises(BadInput, match="nothing was trained"):
        model.save_pretrained(str(tmp_path / "lora"))
    with pytest.raises(BadInput, match="unknown quantisation 'q9'"):
        model.save_pretrained_gguf(str(tmp_path / "out"), None, "q9")
    with pytest.raises(Unsupported, match="4-bit"):
        model.save_pretrained_merged(str(tmp_path / "out"), None, "merged_4bit")
    with pytest.raises(BadInput, match="wants a model of FastLanguageModel"):
        trainer.sft(model.session)(model=SimpleNamespace())
