"""`SFTConfig`, `SFTTrainer` and `train_on_responses_only`, on Freehold's trainer."""

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

from freehold.core.errors import BadData, BadInput, Unsupported
from freehold.notebooks.shim.data import Dataset
from freehold.notebooks.shim.models import Model
from freehold.notebooks.shim.session import Session
from freehold.tuning.job import Progress, TrainJob, TrainResult

IGNORED = -100
"""The label of a token that is not learned."""
_DEFAULTS: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "max_steps": -1,
    "num_train_epochs": 3.0,
    "learning_rate": 5e-5,
    "warmup_steps": 0,
    "warmup_ratio": 0.1,
    "weight_decay": 0.001,
    "logging_steps": 1,
    "seed": 3407,
    "output_dir": "outputs",
    "max_seq_length": None,
    "max_length": None,
    "dataset_text_field": None,
}
"""What is followed, with what Unsloth takes where nothing is said (its `models/rl.py`)."""
_TRANSFORMERS = {
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "warmup_ratio": 0.0,
    "weight_decay": 0.0,
    "logging_steps": 500,
    "seed": 42,
}
"""Where TrainingArguments of transformers take something else."""
_MEANT = {
    "fp16", "bf16", "optim", "packing", "dataset_num_proc", "save_steps", "save_strategy", "save_total_limit",
    "lr_scheduler_type", "eval_strategy", "evaluation_strategy", "eval_steps", "per_device_eval_batch_size",
    "gradient_checkpointing", "report_to", "group_by_length", "remove_unused_columns", "do_train", "logging_dir",
    "run_name", "overwrite_output_dir", "average_tokens_across_devices", "dataset_kwargs", "logging_strategy",
}  # fmt: skip
"""What the trainer decides by itself, or what changes nothing that is made here."""
_OURS = {"linear": True, "SchedulerType.LINEAR": True}
_WORDS = ("first question", "first answer", "second question", "second answer")


class Output(NamedTuple):
    """What `train` gives, as transformers has it."""

    global_step: int
    training_loss: float
    metrics: dict[str, float]


class Labels(NamedTuple):
    """Rows as tokens: texts with, for each token, the characters that it stands for."""

    ids: list[list[int]]
    offsets: list[list[tuple[int, int]]]
    cut: list[bool]
    texts: list[str]


def arguments(session: Session) -> type:
    """The class `TrainingArguments` of one notebook, as those of before SFTConfig import it."""
    return config(session, _TRANSFORMERS)


def config(session: Session, defaults: Mapping[str, Any] = MappingProxyType({})) -> type:
    """The class `SFTConfig` of one notebook."""

    class SFTConfig(SimpleNamespace):
        """Arguments of a training."""

        def __init__(self, output_dir: Any = None, **options: Any) -> None:
            given = options if output_dir is None else {"output_dir": output_dir, **options}
            wanted = session.values({**_DEFAULTS, **defaults, **given}, *_DEFAULTS)
            if "num_train_epochs" in session.job.values and "max_steps" not in session.job.values:
                wanted["max_steps"] = -1
            super().__init__(**wanted)
            session.ignored("SFTConfig", {key: given[key] for key in given if key not in {*_DEFAULTS, *_MEANT}})
            schedule = str(given.get("lr_scheduler_type", "linear"))
            if schedule not in _OURS:
                session.say(f"the learning rate falls linearly, not as lr_scheduler_type = {schedule!r} says")

    return SFTConfig


def sft(session: Session) -> type:
    """The class `SFTTrainer` of one notebook."""
    plain = config(session)

    class SFTTrainer(Trainer):
        """Trains a model that `FastLanguageModel` gave."""

        def __init__(
            self,
            model: Any = None,
            args: Any = None,
            train_dataset: Any = None,
            eval_dataset: Any = None,
            tokenizer: Any = None,
            processing_class: Any = None,
            formatting_func: Callable[..., Any] | None = None,
            **options: Any,
        ) -> None:
            if not isinstance(model, Model):
                raise BadInput("SFTTrainer wants a model of FastLanguageModel.from_pretrained", "Load it with that")
            known = {key: options.pop(key) for key in tuple(options) if key in _DEFAULTS}
            for name in ("data_collator", "packing", "dataset_num_proc", "peft_config", "callbacks"):
                if name in ("peft_config", "callbacks") and options.get(name):
                    session.say(f"SFTTrainer: {name} is not followed")
                options.pop(name, None)
            session.ignored("SFTTrainer", options)
            args = args if args is not None else plain()
            for key, value in session.values(known).items():
                setattr(args, key, value)
            super().__init__(session, model, processing_class or tokenizer, args)
            self.train_dataset = self.tokens(train_dataset, formatting_func)
            self.eval_dataset = None if eval_dataset is None else self.tokens(eval_dataset, formatting_func)

    return SFTTrainer


class Trainer:
    """One training: rows as token ids with labels, and the job that learns them."""

    train_dataset: Dataset
    eval_dataset: Dataset | None

    def __init__(self, session: Session, model: Model, tokenizer: Any, args: Any) -> None:
        if tokenizer is None:
            raise BadInput("SFTTrainer was given no tokenizer", "Pass tokenizer = tokenizer")
        self.session, self.model, self.tokenizer, self.args = session, model, tokenizer, args
        self.processing_class = tokenizer
        self.state = SimpleNamespace(log_history=[], global_step=0)
        self._labels: dict[int, tuple[Dataset, Labels]] = {}
        """By the number of a data set, which it keeps only for as long as it lives."""

    @property
    def length(self) -> int:
        """Tokens of a row at most."""
        return int(self.args.max_seq_length or self.args.max_length or self.model.max_seq_length)

    def tokens(self, dataset: Any, formatting: Callable[..., Any] | None) -> Dataset:
        """The rows as ids, all of them to be learned."""
        texts = self._rendered(dataset, formatting)
        if not texts:
            raise BadData("the data set has no rows", "Give some to learn from")
        bos = self.tokenizer.bos_token
        # A template writes the first token itself; it would stand there twice.
        special = not (bos and texts[0].startswith(bos))
        found = self.tokenizer(texts, add_special_tokens=special, return_offsets_mapping=True)
        most = self.length
        ids = [row[:most] for row in found["input_ids"]]
        made = Dataset({"text": texts, "input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]})
        cut = [len(row) > most for row in found["input_ids"]]
        self._labels[id(made)] = made, Labels(ids, found["offset_mapping"], cut, texts)
        return made

    def _rendered(self, dataset: Any, formatting: Callable[..., Any] | None) -> list[str]:
        if dataset is None:
            raise BadInput("SFTTrainer was given no train_dataset", "Pass one")
        field = self.args.dataset_text_field or "text"
        if formatting is not None:
            return _formatted(dataset, formatting)
        if field in dataset.column_names:
            return _texts(dataset[field], f"column {field!r}")
        for name in ("messages", "conversations"):
            if name in dataset.column_names:
                offered = dataset["tools"] if "tools" in dataset.column_names else [None] * len(dataset)
                return [self._chat(chat, tools) for chat, tools in zip(dataset[name], offered, strict=True)]
        raise BadData(
            f"the data set has no column {field!r}, only {', '.join(dataset.column_names)}",
            "Name it with dataset_text_field, or give formatting_func",
        )

    def _chat(self, chat: Any, tools: Any) -> str:
        tools = json.loads(tools) if isinstance(tools, str) and tools else tools
        return str(self.tokenizer.apply_chat_template(chat, tools=tools or None, tokenize=False))

    def learn_responses(self, instruction: str | None, response: str | None) -> None:
        """From here on only what stands between `response` and the next `instruction` is learned."""
        self.train_dataset = self._masked(self.train_dataset, instruction, response)
        if self.eval_dataset is not None:
            self.eval_dataset = self._masked(self.eval_dataset, instruction, response)

    def _masked(self, dataset: Dataset, instruction: str | None, response: str | None) -> Dataset:
        found = self._found(dataset)
        texts = found.texts
        if response is None or instruction is None or not any(response in text for text in texts):
            if response is not None:
                self.session.say(f"no text has {response!r}: where answers begin is taken from the chat template")
            instruction, response = parts(self.tokenizer)
        labels = []
        for text, ids, offsets in zip(texts, found.ids, found.offsets, strict=True):
            inside = spans(text, instruction, response)
            labels.append(
                [token if _within(at, inside, text) else IGNORED for token, at in zip(ids, offsets, strict=False)]
            )
        if all(set(row) == {IGNORED} for row in labels):
            raise BadData("no row has an answer to learn from", f"Check that answers begin with {response!r}")
        made = dataset.add_column("labels", labels)
        self._labels[id(made)] = made, found
        return made

    def _found(self, dataset: Dataset) -> Labels:
        """The tokens of a data set. Raises BadInput for one that was put in the place of those given."""
        if id(dataset) not in self._labels:
            raise BadInput(
                "the trainer's data set was changed after it was made", "Change the rows before SFTTrainer gets them"
            )
        return self._labels[id(dataset)][1]

    def train(self, resume_from_checkpoint: Any = None, **options: Any) -> Output:
        """Train in a process of its own; the loss is printed as steps are done."""
        from freehold.tuning.launch import train

        self.session.ignored("train", {"resume_from_checkpoint": resume_from_checkpoint, **options})
        if self.model.trained:
            raise Unsupported(
                "the model was trained already, and a second training would begin from its merged weights",
                "Load it again with from_pretrained, from where save_pretrained_merged wrote it",
            )
        result = train(self._job(), self._tell)
        self._finish(result)
        metrics = {
            "train_runtime": result.seconds,
            "train_samples_per_second": len(self.train_dataset) / max(result.seconds, 1e-9),
            "train_steps_per_second": result.steps / max(result.seconds, 1e-9),
            "train_loss": sum(result.losses) / max(len(result.losses), 1),
            "total_tokens": float(result.tokens),
        }
        return Output(result.steps, metrics["train_loss"], metrics)

    def _finish(self, result: TrainResult) -> None:
        kept = self.session.room("trained") / result.model.name
        shutil.move(result.model, kept)
        self.model.took(kept)
        self.session.peak = max(self.session.peak, result.peak_rss)
        self.state.global_step = result.steps

    def _job(self) -> TrainJob:
        from freehold.tuning.objectives.tokens import write

        args, lora, out = self.args, self.model.lora, self.session.room("training")
        write(out / "train.jsonl", _rows(self.train_dataset, self._found(self.train_dataset)))
        held_out = None
        if self.eval_dataset is not None:
            held_out = out / "held_out.jsonl"
            write(held_out, _rows(self.eval_dataset, self._found(self.eval_dataset)))
        batch = int(args.per_device_train_batch_size) * int(args.gradient_accumulation_steps)
        if batch < 1:
            raise BadInput(f"a batch of {batch} rows is none", "Set per_device_train_batch_size = 1 or more")
        planned = int(args.max_steps) if args.max_steps > 0 else 0
        steps = planned or max(1, round(float(args.num_train_epochs) * math.ceil(len(self.train_dataset) / batch)))
        # As transformers 5 has it, a number below one is a share.
        share = args.warmup_steps if args.warmup_steps < 1 else args.warmup_steps / steps
        warmup = share or args.warmup_ratio
        method = lora.method if lora else "full"
        adapter = {"rank": lora.rank, "alpha": lora.alpha} if lora else {}
        return TrainJob(
            out=out / "out",
            train=out / "train.jsonl",
            held_out=held_out,
            base=self.model.folder(),
            method=method,  # type: ignore[arg-type]
            objective="tokens",
            learning_rate=float(args.learning_rate),
            warmup=min(1.0, float(warmup)),
            weight_decay=float(args.weight_decay),
            epochs=float(args.num_train_epochs),
            steps=planned,
            batch=batch,
            batch_tokens=max(16, min(1 << 24, batch * self.length)),
            max_length=max(16, self.length),
            seed=int(args.seed),
            **adapter,  # type: ignore[arg-type]
        )

    def _tell(self, report: Progress) -> None:
        every = max(1, int(args_steps) if (args_steps := self.args.logging_steps) >= 1 else 1)
        if report.note:
            print(report.note)  # noqa: T201
        if report.held_out_loss is not None:
            self.state.log_history.append({"step": report.step, "eval_loss": report.held_out_loss})
            print(f"step {report.step}/{report.steps}  eval loss {report.held_out_loss:.4f}")  # noqa: T201
        elif report.phase == "training":
            self.session.peak = max(self.session.peak, report.memory)
            if report.step % every == 0 or report.step == report.steps:
                entry = {"step": report.step, "loss": report.loss, "grad_norm": report.gradient_norm}
                self.state.log_history.append(entry)
                print(f"step {report.step}/{report.steps}  loss {report.loss:.4f}")  # noqa: T201

    def save_model(self, folder: str | None = None, **_: Any) -> None:
        """Write what was trained."""
        self.model.save_pretrained(folder or self.args.output_dir)

    def push_to_hub(self, *_: Any, **__: Any) -> None:
        """Raises Forbidden."""
        self.session.refuse("push_to_hub")


def responses_only(session: Session) -> Callable[..., Any]:
    """`train_on_responses_only` of one notebook."""

    def train_on_responses_only(
        trainer: Trainer, instruction_part: str | None = None, response_part: str | None = None, **_: Any
    ) -> Trainer:
        trainer.learn_responses(instruction_part, response_part)
        return trainer

    return train_on_responses_only


def parts(tokenizer: Any) -> tuple[str, str]:
    """What stands before a question and before an answer, as the chat template writes them. Raises BadInput."""
    roles = ("user", "assistant", "user", "assistant")
    chat = [{"role": role, "content": words} for role, words in zip(roles, _WORDS, strict=True)]
    kept, tokenizer.mapping = tokenizer.mapping, None
    try:
        text = tokenizer.apply_chat_template(chat, tokenize=False)
        before = tokenizer.apply_chat_template(chat[:2], tokenize=False)
    finally:
        tokenizer.mapping = kept
    at = [text.find(words) for words in _WORDS]
    if -1 in at or not text.startswith(before):
        raise BadInput("the chat template does not show where answers begin", "Give instruction_part and response_part")
    response = text[at[2] + len(_WORDS[2]) : at[3]]
    return text[len(before) : at[2]].strip("\n") or text[len(before) : at[2]], response


def spans(text: str, instruction: str, response: str) -> list[tuple[int, int]]:
    """The characters that answers take, what ends them included."""
    found, at = [], 0
    while (begin := text.find(response, at)) >= 0:
        begin += len(response)
        end = text.find(instruction, begin) if instruction else -1
        found.append((begin, len(text) if end < 0 else end))
        at = found[-1][1]
    return found


def _within(token: tuple[int, int], inside: Sequence[tuple[int, int]], text: str) -> bool:
    """Whether an answer has the token: its first word too, of which the space may be the end of what stands before."""
    first, last = token
    return last > first and any(
        begin < last <= end and (begin <= first or not text[first:begin].strip(" ")) for begin, end in inside
    )


def _formatted(dataset: Any, formatting: Callable[..., Any]) -> list[str]:
    """Texts of a function that takes all rows at once, or one after the other."""
    try:
        whole = formatting(dataset[:])
    except (TypeError, AttributeError):
        whole = None  # it wants the texts of one row
    if isinstance(whole, list) and len(whole) == len(dataset):
        return _texts(whole, "formatting_func")
    one = formatting(dataset[0])
    if isinstance(whole, list) and not (isinstance(one, list) and len(one) == 1):
        return _texts(whole, "formatting_func")
    made = [formatting(row) for row in dataset]
    return _texts([text for each in made for text in (each if isinstance(each, list) else [each])], "formatting_func")


def _texts(values: Sequence[Any], where: str) -> list[str]:
    """Raises BadData for a row without a text, which would be learned as the word None."""
    for number, value in enumerate(values, 1):
        if value is None:
            raise BadData(f"row {number} has no text: {where} says None", "Leave the row out, or give it a text")
    return [str(value) for value in values]


def _rows(dataset: Dataset, found: Labels) -> list[Any]:
    from freehold.tuning.objectives.tokens import Tokens

    labels = dataset["labels"] if "labels" in dataset.column_names else found.ids
    return [
        Tokens(tuple(ids), tuple(0.0 if label == IGNORED else 1.0 for label in row), cut)
        for ids, row, cut in zip(found.ids, labels, found.cut, strict=True)
        if ids
    ]


def folder_of(path: str) -> Path:
    """A path of the notebook."""
    return Path(path)
