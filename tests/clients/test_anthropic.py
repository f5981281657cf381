"""Anthropic's own client, in its own virtual environment, against a real server with a tiny model."""

from pathlib import Path

import pytest

from tests.clients import harness
from tests.tiny import HERMES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CHECKS = Path(__file__).with_name("anthropic_checks.py")
VERSIONS = ["2.14.0", "0.125.0"]


@pytest.fixture(scope="module", params=VERSIONS)
def client_python(request: pytest.FixtureRequest) -> Path:
    return harness.interpreter(request.config, "anthropic", request.param)


@pytest.fixture(scope="module", params=["plain template", "template with tools", "own mount"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    with harness.running(tmp_path_factory.mktemp("home"), HERMES if "tools" in request.param else "") as address:
        yield address + ("/anthropic" if request.param == "own mount" else "")


@pytest.fixture(scope="module")
def outcomes(client_python: Path, server: str) -> dict[str, str]:
    return harness.found(client_python, CHECKS, server)


@pytest.mark.parametrize("name", harness.checks(CHECKS))
def test_the_client_is_satisfied(outcomes: dict[str, str], name: str):
    assert outcomes[name] == "", outcomes[name]
