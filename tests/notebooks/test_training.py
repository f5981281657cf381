"""Trainings as notebooks write them: which texts, which of their tokens, and what job comes of unusual arguments."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from freehold.core.errors import BadData, BadInput, NotFound, Unsupported
from freehold.notebooks.job import NotebookJob
from freehold.notebooks.shim import templates, trainer
from freehold.notebooks.shim.data import Dataset
from freehold.notebooks.shim.models import Model, fast
from freehold.notebooks.shim.session import Session
from freehold.tuning.job import Progress
from freehold.tuning.objectives.tokens import read
from tests.notebooks.test_shim import CHATS, loaded, sft
from tests.recipes.kit import write_adapter, write_base
from tests.tiny import HERMES

__all__ = ["loaded"]

Loaded = tuple[Model, Any]


def given(loaded: Loaded, **values: Any) -> Session:
    """A session of the same notebook, for which the user has set values."""
    job = loaded[0].session.job
    fields = {name: getattr(job, name) for name in job.__struct_fields__}
    return Session(NotebookJob(**(fields | {"values": values})))


def learned(loaded: Loaded, made: Any, row: int = 0) -> str:
    labels = made.train_dataset["labels"][row]
    return str(loaded[1].decode([token for token in labels if token != trainer.IGNORED]))


def chat(*said: str) -> dict[str, Any]:
    roles = ("user", "assistant") * len(said)
    return {"messages": [{"role": role, "content": text} for role, text in zip(roles, said, strict=False)]}


@pytest.mark.parametrize("name", ["chatml", "vicuna", "unsloth", "alpaca", "mistral"])
def test_the_first_word_of_an_answer_is_learned_too(loaded: Loaded, name: str) -> None:
    """Where a template ends in a space before it, both are one token."""
    model, tokenizer = loaded
    model.max_seq_length = 512
    tokenizer.chat_template, _ = templates.TEMPLATES[name]
    rows = Dataset.from_list([chat("Where is my order?", "my order is my order", "What?", "lazy dog")])
    made = trainer.responses_only(model.session)(sft(loaded, rows))
    text = learned(loaded, made).replace("<|im_end|>", " ")
    assert text.split() == ["my", "order", "is", "my", "order", "lazy", "dog"]


def test_an_answer_that_is_cut_is_learned_up_to_there(loaded: Loaded) -> None:
    rows = Dataset.from_list([chat("a", "bcdefgh " * 9), chat("a" * 99, "b"), chat("a", "b")])
    made = trainer.responses_only(loaded[0].session)(sft(loaded, rows, max_seq_length=30))
    first, second, _ = made.train_dataset["labels"]
    assert len(first) == len(second) == 30
    assert first[-1] != trainer.IGNORED
    assert set(second) == {trainer.IGNORED}
    assert learned(loaded, made, 2).startswith("b<|im_end|>")
    tokens = read(made._job().train)
    assert [row.cut for row in tokens] == [True, True, False]
    assert [sum(row.weights) > 0 for row in tokens] == [True, False, True]
    assert [row.ids for row in tokens] == [tuple(ids) for ids in made.train_dataset["input_ids"]]


def test_rows_without_any_answer_are_refused(loaded: Loaded) -> None:
    made = sft(loaded, Dataset.from_list([chat("a" * 200, "b")]), max_seq_length=20)
    with pytest.raises(BadData, match="no row has an answer to learn from"):
        trainer.responses_only(loaded[0].session)(made)


def test_parts_that_no_text_has_are_taken_from_the_template(loaded: Loaded, capfd: pytest.CaptureFixture[str]) -> None:
    made = trainer.responses_only(loaded[0].session)(sft(loaded, Dataset.from_list(CHATS)), "[INST]", "[/INST]")
    assert learned(loaded, made).startswith("Ann.")
    assert "no text has '[/INST]'" in capfd.readouterr().err


def test_held_out_rows_are_masked_as_the_others(loaded: Loaded) -> None:
    made = sft(loaded, Dataset.from_list(CHATS), eval_dataset=Dataset.from_list(CHATS[1:]))
    trainer.responses_only(loaded[0].session)(made)
    job = made._job()
    assert job.held_out is not None
    [held_out], [_, second] = read(job.held_out), read(job.train)
    assert held_out == second
    assert 0 < sum(held_out.weights) < len(held_out.weights)


@pytest.mark.parametrize(
    "function",
    [
        lambda rows: [q + a for q, a in zip(rows["q"], rows["a"], strict=True)],
        lambda row: row["q"] + row["a"] + "",
        lambda row: f"{row['q']}{row['a']}".replace("'", ""),
        lambda row: row["q"].strip() + row["a"].strip(),
        lambda row: [f"{row['q']}{row['a']}"],
    ],
    ids=["a batch", "a row", "any", "a row's methods", "a row, in a list"],
)
def test_functions_for_rows_and_for_batches_give_the_same_texts(loaded: Loaded, function: Callable[..., Any]) -> None:
    rows = Dataset.from_list([{"q": "x", "a": "1"}, {"q": "y", "a": "2"}, {"q": "z", "a": "3"}])
    assert sft(loaded, rows, formatting_func=function).train_dataset["text"] == ["x1", "y2", "z3"]


def test_a_function_may_make_other_rows_of_a_batch(loaded: Loaded) -> None:
    rows = Dataset.from_list([{"text": "ab"}, {"text": "cd"}])
    whole = sft(loaded, rows, formatting_func=lambda batch: [text * n for text in batch["text"] for n in (1, 2)])
    assert whole.train_dataset["text"] == ["ab", "abab", "cd", "cdcd"]


@pytest.mark.parametrize(
    ("rows", "options", "said"),
    [
        ([{"text": "a"}, {"other": "b"}], {}, "row 2 has no text: column 'text' says None"),
        ([{"text": "a"}], {"formatting_func": lambda batch: [None]}, "row 1 has no text: formatting_func says None"),
        ([], {}, "no column 'text'"),
        ([{"q": "a"}], {"dataset_text_field": "words"}, "no column 'words', only q"),
    ],
)
def test_rows_without_a_text_are_refused(
    loaded: Loaded, rows: list[dict[str, Any]], options: dict[str, Any], said: str
) -> None:
    """And not learned as the word None."""
    with pytest.raises(BadData, match=said):
        sft(loaded, Dataset.from_list(rows), **options)


def test_empty_rows_and_no_rows(loaded: Loaded) -> None:
    with pytest.raises(BadData, match="has no rows"):
        sft(loaded, Dataset({"text": []}))
    with pytest.raises(BadInput, match="no train_dataset"):
        sft(loaded, None)
    made = sft(loaded, Dataset.from_list([{"text": ""}, {"text": "a"}]))
    assert len(read(made._job().train)) == 1


@pytest.mark.parametrize("spelt", [False, True], ids=["as objects", "as JSON"])
def test_tools_that_rows_offer_are_shown(loaded: Loaded, spelt: bool) -> None:
    loaded[1].chat_template = HERMES
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    rows = [{**chat("a", "b"), "tools": json.dumps(tools) if spelt else tools}, {**chat("a", "b"), "tools": None}]
    first, second = sft(loaded, Dataset.from_list(rows)).train_dataset["text"]
    assert '"name": "look"' in first
    assert "# Tools" not in second


def test_a_data_set_that_takes_the_place_of_the_trainers_is_refused(loaded: Loaded) -> None:
    """Its tokens are those of other rows."""
    made = sft(loaded, Dataset.from_list(CHATS))
    made.train_dataset = made.train_dataset.select([0])
    for ask in (made._job, lambda: made.learn_responses(None, None)):
        with pytest.raises(BadInput, match="changed after it was made"):
            ask()


JOBS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"batch": 8, "epochs": 3.0, "steps": 0, "warmup": 0.1, "learning_rate": 5e-5, "seed": 3407}),
    ({"max_steps": 4, "warmup_steps": 8}, {"steps": 4, "warmup": 1.0}),
    ({"max_steps": 20, "warmup_steps": 5, "warmup_ratio": 0.5}, {"steps": 20, "warmup": 0.25}),
    ({"max_steps": 20, "warmup_steps": 0.3}, {"warmup": 0.3}),
    ({"max_steps": 20, "warmup_steps": 0, "warmup_ratio": 0.0}, {"warmup": 0.0}),
    # Two rows in batches of one: four steps in two epochs.
    (
        {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1, "num_train_epochs": 2, "warmup_steps": 1},
        {"batch": 1, "epochs": 2.0, "steps": 0, "warmup": 0.25, "batch_tokens": 64},
    ),
    ({"max_steps": 0, "num_train_epochs": 0.5}, {"steps": 0, "epochs": 0.5}),
    ({"learning_rate": "2e-4", "seed": "7"}, {"learning_rate": 2e-4, "seed": 7}),
    ({"max_seq_length": 4}, {"max_length": 16, "batch_tokens": 32}),
    ({"max_length": 40}, {"max_length": 40}),
    ({"per_device_train_batch_size": 1 << 20, "max_seq_length": 1 << 15}, {"batch_tokens": 1 << 24}),
]


@pytest.mark.parametrize(("options", "wanted"), JOBS)
def test_the_job_of_unusual_arguments(loaded: Loaded, options: dict[str, Any], wanted: dict[str, Any]) -> None:
    made = sft(loaded, Dataset.from_list(CHATS), args=trainer.config(loaded[0].session)(**options))
    job = made._job()
    assert {name: getattr(job, name) for name in wanted} == wanted


def test_a_batch_of_no_rows_is_refused(loaded: Loaded) -> None:
    arguments = trainer.config(loaded[0].session)(per_device_train_batch_size=0)
    with pytest.raises(BadInput, match="a batch of 0 rows"):
        sft(loaded, Dataset.from_list(CHATS), args=arguments)._job()


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        ({"learning_rate": 2}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"weight_decay": -1}, "weight_decay"),
        ({"seed": -1}, "seed"),
        ({"num_train_epochs": 0}, "epochs"),
        ({"warmup_steps": -5}, "warmup"),
    ],
)
def test_arguments_that_no_training_can_have_are_named(loaded: Loaded, options: dict[str, Any], setting: str) -> None:
    made = sft(loaded, Dataset.from_list(CHATS), args=trainer.config(loaded[0].session)(**options))
    with pytest.raises(BadInput, match=rf"no such training: Expected .* at `{setting}`"):
        made.train()


def test_methods(loaded: Loaded) -> None:
    model, rows = loaded[0], Dataset.from_list(CHATS)
    peft = fast(model.session).get_peft_model
    peft(model, 32, lora_alpha=8, use_rslora=True)
    job = sft(loaded, rows)._job()
    assert (job.method, job.rank, job.alpha) == ("rslora", 32, 8.0)
    peft(model, r=8, lora_alpha=None, use_rslora=False)
    job = sft(loaded, rows)._job()
    assert (job.method, job.rank, job.alpha) == ("lora", 8, 16.0)
    model.lora = None
    assert sft(loaded, rows)._job().method == "full"


def test_what_of_an_adapter_is_not_followed_is_told(loaded: Loaded, capfd: pytest.CaptureFixture[str]) -> None:
    model = loaded[0]
    fast(model.session).get_peft_model(
        model, r=4, target_modules=["q_proj", "lm_head"], lora_dropout=0.1, modules_to_save=["lm_head"], bias="none",
        loftq_config=None, use_gradient_checkpointing="unsloth", random_state=0,
    )  # fmt: skip
    said = capfd.readouterr().err
    assert "not for q_proj, lm_head alone" in said
    assert "lora_dropout = 0.1, modules_to_save = ['lm_head']" in said
    assert "loftq_config" not in said


def test_a_rank_of_the_users_takes_the_place_of_the_notebooks(loaded: Loaded) -> None:
    own = given(loaded, r=2, lora_alpha=3, max_steps=5)
    fast(own).get_peft_model(loaded[0], r=64)
    arguments = trainer.config(own)(max_steps=60, num_train_epochs=9)
    made = trainer.sft(own)(
        model=loaded[0], tokenizer=loaded[1], train_dataset=Dataset.from_list(CHATS), args=arguments
    )
    job = made._job()
    assert (job.rank, job.alpha, job.steps) == (2, 3.0, 5)
    assert own.unused() == ()


def test_epochs_of_the_users_are_not_ended_by_the_notebooks_steps(loaded: Loaded) -> None:
    own = given(loaded, num_train_epochs=2)
    assert trainer.config(own)(max_steps=60).max_steps == -1
    assert trainer.config(given(loaded, num_train_epochs=2, max_steps=9))(max_steps=60).max_steps == 9
    assert trainer.config(given(loaded))(max_steps=60).max_steps == 60


def test_arguments_of_transformers_begin_from_its_own_values(loaded: Loaded) -> None:
    plain, ours = (kind(loaded[0].session)("folder") for kind in (trainer.arguments, trainer.config))
    assert (plain.output_dir, plain.seed, plain.per_device_train_batch_size, plain.warmup_ratio) == (
        "folder",
        42,
        8,
        0.0,
    )
    assert (ours.output_dir, ours.seed, ours.per_device_train_batch_size, ours.warmup_ratio) == ("folder", 3407, 4, 0.1)


def test_what_a_training_does_not_follow_is_told(loaded: Loaded, capfd: pytest.CaptureFixture[str]) -> None:
    session = loaded[0].session
    arguments = trainer.config(session)(
        lr_scheduler_type="cosine", neftune_noise_alpha=5, fp16=True, report_to="none", label_smoothing_factor=0.0
    )
    sft(loaded, Dataset.from_list(CHATS), args=arguments, peft_config={"r": 4}, compute_metrics=len, packing=True)
    said = capfd.readouterr().err
    for told in (
        "lr_scheduler_type = 'cosine'",
        "SFTConfig: not followed here: neftune_noise_alpha = 5",
        "peft_config is not followed",
        "compute_metrics = <built-in function len>",
    ):
        assert told in said
    for silent in ("fp16", "packing", "report_to", "label_smoothing"):
        assert silent not in said


def test_steps_are_logged_as_often_as_is_asked(loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    made = sft(loaded, Dataset.from_list(CHATS), args=trainer.config(loaded[0].session)(logging_steps=2))
    for step in range(1, 6):
        made._tell(Progress("training", step, 5, 1.0 / step, gradient_norm=0.5))
    made._tell(Progress("measuring", 5, 5, held_out_loss=0.25))
    made._tell(Progress("loading", note="a note"))
    assert [entry["step"] for entry in made.state.log_history] == [2, 4, 5, 5]
    assert made.state.log_history[-1] == {"step": 5, "eval_loss": 0.25}
    printed = capsys.readouterr().out
    assert "step 4/5  loss 0.2500\nstep 5/5  loss 0.2000\nstep 5/5  eval loss 0.2500\na note\n" in printed


@pytest.mark.parametrize("steps", [0, 0.1, 1, -3])
def test_odd_logging_steps_are_every_step(loaded: Loaded, steps: float) -> None:
    made = sft(loaded, Dataset.from_list(CHATS), args=trainer.config(loaded[0].session)(logging_steps=steps))
    for step in (1, 2):
        made._tell(Progress("training", step, 9, 1.0))
    assert len(made.state.log_history) == 2


def test_a_model_that_was_trained_is_not_trained_again(loaded: Loaded, tmp_path: Path) -> None:
    model = loaded[0]
    write_adapter(tmp_path / "lora", 1)
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    with pytest.raises(NotFound, match="does not say what its base is"):
        fast(model.session).from_pretrained(str(tmp_path / "lora"))
    config["base_model_name_or_path"] = str(tmp_path / "base")
    (tmp_path / "lora" / "adapter_config.json").write_text(json.dumps(config))
    again, tokenizer = fast(model.session).from_pretrained(str(tmp_path / "lora"), max_seq_length=64)
    assert (again.base, again.adapter) == (tmp_path / "base", tmp_path / "lora")
    with pytest.raises(Unsupported, match="trained already"):
        sft((again, tokenizer), Dataset.from_list(CHATS)).train()


def test_a_model_stays_itself_wherever_it_is_put(loaded: Loaded) -> None:
    """A notebook trains what these give."""
    import torch

    model = loaded[0]
    for same in (model.eval(), model.train(), model.train(False), model.cuda(), model.to("cpu")):
        assert same is model
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, model.live()(input_ids=ids).logits)
    model.to(torch.float64)
    assert model.live().dtype == torch.float64
    assert model.config.model_type == "llama"
    assert not hasattr(model, "__array__")


def test_tokens_are_not_added_behind_the_trainers_back(loaded: Loaded) -> None:
    model = loaded[0]
    known = model.live().get_input_embeddings().num_embeddings
    assert model.resize_token_embeddings(known).num_embeddings == known
    assert model.resize_token_embeddings().num_embeddings == known
    with pytest.raises(Unsupported, match=rf"knows {known} tokens, and none can be added to make {known + 1}"):
        model.resize_token_embeddings(known + 1)


def test_a_chat_or_several_are_rendered(loaded: Loaded) -> None:
    tokenizer = loaded[1]
    one, two = (row["messages"] for row in CHATS)
    texts = tokenizer.apply_chat_template([one, two], tokenize=False)
    assert texts == [tokenizer.apply_chat_template(each, tokenize=False) for each in (one, two)]
    ids = tokenizer.apply_chat_template(one, tokenize=True)
    assert ids == tokenizer(texts[0], add_special_tokens=False)["input_ids"]


def test_a_mapping_reads_chats_in_both_spellings(loaded: Loaded) -> None:
    model, tokenizer = loaded
    names = {"role": "from", "content": "value", "user": "human", "assistant": "gpt"}
    templates.getter(model.session)(tokenizer, chat_template="chatml", mapping=names)
    theirs = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}, {"from": "tool", "value": "c"}]
    ours = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "tool", "content": "c"}]
    assert tokenizer.apply_chat_template(theirs, tokenize=False) == tokenizer.apply_chat_template(ours, tokenize=False)
    templates.getter(model.session)(tokenizer, chat_template="chatml")
    assert tokenizer.mapping is None, "the next template begins without"


def test_full_tuning_and_names_as_the_notebook_says_them(loaded: Loaded, tmp_path: Path, capfd: Any) -> None:
    own = given(loaded, max_seq_length=99)
    model, _ = fast(own).from_pretrained(
        str(tmp_path / "base"), 2048, None, True, full_finetuning=True, gpu_memory_utilization=0.6, fast_inference=True
    )
    assert (model.max_seq_length, model.full) == (99, True)
    said = capfd.readouterr().err
    assert "fast_inference = True, gpu_memory_utilization = 0.6" in said
    assert "load_in_4bit" not in said
    model.print_trainable_parameters()
    assert capfd.readouterr().out == f"all weights of {tmp_path / 'base'}\n"
    assert repr(model) == f"<{tmp_path / 'base'}: {tmp_path / 'base'}>"


def test_a_folder_of_the_notebooks_comes_before_the_users_model(tmp_path: Path, capfd: Any) -> None:
    """What it has just saved is what it loads again; a hub's name is the user's model."""
    for name in ("mine", "theirs"):
        write_base(tmp_path / name)
    job = NotebookJob(
        notebook=tmp_path / "n", out=tmp_path / "o", home=tmp_path, work=tmp_path / "w", model=str(tmp_path / "mine")
    )
    found = Session(job)
    assert found.model(str(tmp_path / "theirs")) == tmp_path / "theirs"
    assert capfd.readouterr().err == ""
    for _ in range(2):
        assert found.model("org/name") == tmp_path / "mine"
    assert capfd.readouterr().err.count(f"org/name is {tmp_path / 'mine'} here") == 1
