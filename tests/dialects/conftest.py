"""Fixtures of the dialect tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from freehold.core.settings import Settings
from freehold.store import Store


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", parallel=2, queue=2)


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with Store.open(settings.store) as opened:
        yield opened
