"""The generator's files, made once for all tests of the starter model's text."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

STARTER = Path(__file__).resolve().parents[2] / "starter"
sys.path.insert(0, str(STARTER))

from generate import generate  # noqa: E402

ROWS = 12_000


@dataclass(frozen=True)
class Text:
    """What one run of the generator wrote."""

    folder: Path
    sizes: dict[str, Any]
    train: list[dict[str, Any]]
    held_out: list[dict[str, Any]]

    def of(self, skill: str) -> list[dict[str, Any]]:
        """The held-out rows of a skill."""
        return [row for row in self.held_out if row["skill"] == skill]


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Text:
    folder = tmp_path_factory.mktemp("starter")
    sizes = generate(folder, seed=1, rows=ROWS)
    return Text(folder, sizes, read(folder / "train.jsonl"), read(folder / "held_out.jsonl"))
