"""What is wrong with a base or with data, said of what the user named and not of where its content lies."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from freehold.core.errors import FreeholdError
from freehold.recipes.schema import RecipeFile
from freehold.recipes.task import Result

_BASES = ("base-model", "base")
"""What the folders are called in which a step has the base."""


@contextmanager
def labelled(file: RecipeFile, inputs: Mapping[str, Result], folder: Path) -> Iterator[None]:
    """Errors of a step that works in `folder` on `inputs` name the recipe's base and data."""
    try:
        yield
    except FreeholdError as error:
        error.message = _spelt(error.message, file, inputs, folder)
        raise


def _spelt(text: str, file: RecipeFile, inputs: Mapping[str, Result], folder: Path) -> str:
    base = file.recipe.model.base
    for name in _BASES:
        text = base.join(re.split(rf"{re.escape(str(folder / name))}(?![\w-])", text))
    text = base.join(re.split(r"(?<![\w./-])base-model(?![\w-])", text))
    for task, result in inputs.items():
        for output in result.files:
            label = _data(file) if task == "data" else output.name
            text = label.join(re.split(rf"(?:/[^\s/]+)*/?\b{output.digest.hex}\b", text))
    return text


def _data(file: RecipeFile) -> str:
    return file.recipe.data.path or file.recipe.data.generator
