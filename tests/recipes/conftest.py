"""A recipe over a small CSV and a tiny base."""

from collections.abc import Callable
from pathlib import Path

import pytest

from freehold.core.settings import Settings
from freehold.recipes.events import RunEvent
from freehold.recipes.outcome import Outcome
from freehold.recipes.runner import make
from tests.recipes.kit import Fakes, write_base, write_csv

RECIPE = """
[model]
name = "desk"
base = "base"

[data]
path = "desk.csv"
held_out = 0.2

[tune]
{tune}

[quantize]
types = ["Q8_0"]

[evaluate]
{evaluate}

[gate]
{gate}
"""


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home=home, threads=1)


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    """A folder with base, data and recipe.toml."""
    folder = tmp_path / "workshop"
    write_base(folder / "base")
    write_csv(folder / "desk.csv")
    write_recipe(folder)
    return folder


def write_recipe(
    folder: Path, *, tune: str = "epochs = 3", evaluate: str = "", gate: str = "", extra: str = ""
) -> Path:
    """Write recipe.toml anew."""
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(tune=tune, evaluate=evaluate, gate=gate) + extra)
    return path


Run = Callable[..., Outcome]


@pytest.fixture
def run(workshop: Path, settings: Settings, fakes: Fakes) -> Run:
    """Make the workshop's recipe with the fakes."""

    def go(*, events: list[RunEvent] | None = None, given: Fakes | None = None) -> Outcome:
        on_event = (lambda event: None) if events is None else events.append
        return make(workshop / "recipe.toml", settings, on_event=on_event, tools=(given or fakes).tools())

    return go
