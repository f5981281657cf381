"""Tiny models and settings for the engine tests."""

from pathlib import Path

import pytest

from freehold.core.settings import Settings
from tests.tiny import HERMES, write_gguf


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers at once."""
    return write_gguf(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(scope="session")
def tools_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a chat template that knows tools."""
    return write_gguf(tmp_path_factory.mktemp("tools") / "tools.gguf", template=HERMES)


@pytest.fixture(scope="session")
def slow_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes a while for hundreds of tokens."""
    return write_gguf(tmp_path_factory.mktemp("slow") / "slow.gguf", hidden=512, layers=4, context=4096)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", threads=1, parallel=3)
