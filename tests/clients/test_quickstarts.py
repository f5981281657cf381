"""Frameworks that stand on the vendors' clients, set up by the lines that `freehold connect` shows."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients import harness

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CHECKS = Path(__file__).with_name("quickstart_checks.py")
PACKAGES = (
    "langchain-openai==1.7.4",
    "langchain-ollama==1.1.0",
    "llama-index-llms-openai-like==0.8.1",
    "llama-index-llms-ollama==0.11.0",
    "litellm==1.110.2",
)


@pytest.fixture(scope="module")
def python(request: pytest.FixtureRequest) -> Path:
    return harness.interpreter(request.config, "quickstarts", "1", PACKAGES)


@pytest.fixture(scope="module")
def outcomes(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    home = tmp_path_factory.mktemp("home")
    with harness.running(home) as address:
        command = [sys.executable, "-m", "freehold", "connect", "--json", "--model", "tiny", "--home", str(home)]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert json.loads(shown)["url"] == address
        lines = home / "lines.json"
        lines.write_text(shown)
        yield harness.found(python, CHECKS, address, lines, warnings="ignore")


@pytest.mark.parametrize("name", harness.checks(CHECKS))
def test_the_framework_is_satisfied(outcomes: dict[str, str], name: str) -> None:
    assert outcomes[name] == "", outcomes[name]
