"""Stand-ins for the packages that Unsloth's notebooks import, put among this process's modules and nowhere else."""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from freehold.core.errors import Unsupported
from freehold.notebooks.shim.session import Session


class Module(ModuleType):
    """A package of names; for what it does not have, it says what to do."""

    def __init__(self, name: str, **names: Any) -> None:
        super().__init__(name, f"Stands in for {name}.")
        self.__path__: list[str] = []
        # Packages look one another up by it before they import them.
        self.__spec__ = ModuleSpec(name, None)
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise Unsupported(
            f"{self.__name__}.{name} has no counterpart here",
            "Skip its cells with --skip, or write the step with 'freehold tune'",
        )


def install(session: Session) -> None:
    """Put the stand-ins in place. Must come before the notebook imports anything."""
    from freehold.notebooks.shim import cuda, data, models, templates, trainer

    cuda.install(session)
    fast = models.fast(session)
    names = {
        "get_chat_template": templates.getter(session),
        "train_on_responses_only": trainer.responses_only(session),
        "standardize_sharegpt": data.standardize,
        "standardize_data_formats": data.standardize,
    }
    config, arguments = trainer.config(session), trainer.arguments(session)
    sft = {"SFTConfig": config, "SFTTrainer": trainer.sft(session)}
    modules = [
        Module("unsloth", FastLanguageModel=fast, FastModel=fast, __version__="0", **models.HELPERS, **names),
        Module("unsloth.chat_templates", **names),
        Module("trl", **sft, __version__="0"),
        Module("unsloth.trainer", UnslothTrainer=sft["SFTTrainer"], UnslothTrainingArguments=config),
    ]
    if find_spec("datasets") is None:
        modules.append(Module("datasets", load_dataset=data.loader(session), Dataset=data.Dataset, __version__="0"))
    else:
        _map_real(session)
    sys.modules.update({module.__name__: module for module in modules})
    modules[0].__dict__["chat_templates"] = modules[1]
    # Notebooks of before SFTConfig pass these; the real ones want packages that only real trainers need.
    import transformers

    transformers.TrainingArguments = arguments


def _map_real(session: Session) -> None:
    """The real package where it is: data sets of a hub are the user's file."""
    import datasets

    from freehold.notebooks.shim import data

    real = datasets.load_dataset

    def load_dataset(path: str, *args: Any, **options: Any) -> Any:
        if not session.from_a_hub(path):
            return real(path, *args, **options)
        _, records = session.records(path, None)
        made, split = datasets.Dataset.from_list(records), options.get("split")
        if split is None:
            return datasets.DatasetDict({"train": made})
        parts = []
        for each in map(str, split) if isinstance(split, list | tuple) else [str(split)]:
            data.tell_same(session, path, each)
            parts.append(made.select(data.chosen(each, len(made))))
        return parts if isinstance(split, list | tuple) else parts[0]

    datasets.load_dataset = load_dataset
