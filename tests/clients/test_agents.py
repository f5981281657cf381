"""OpenAI's Agents SDK, whose agents ask the Responses API, against a real server with a tiny model."""

from pathlib import Path

import pytest

from tests.clients import harness
from tests.tiny import HERMES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CHECKS = Path(__file__).with_name("agents_checks.py")
PACKAGES = ("openai-agents==0.24.0", "openai==3.57.0")


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    python = harness.interpreter(request.config, "openai-agents", "0.24.0", PACKAGES)
    with harness.running(tmp_path_factory.mktemp("home"), HERMES, ends=True) as address:
        return harness.found(python, CHECKS, address + "/v1", warnings="ignore")


@pytest.mark.parametrize("name", harness.checks(CHECKS))
def test_the_agents_are_satisfied(outcomes: dict[str, str], name: str):
    assert outcomes[name] == "", outcomes[name]
