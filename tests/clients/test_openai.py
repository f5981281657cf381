"""OpenAI's own client, in its own virtual environment, against a real server with a tiny model."""

from pathlib import Path

import pytest

from tests.clients import harness
from tests.tiny import HERMES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CHECKS = Path(__file__).with_name("openai_checks.py")
IN_JAVASCRIPT = Path(__file__).with_name("openai_checks.mjs")
VERSIONS = ["3.57.0", "1.109.1"]


@pytest.fixture(scope="module", params=VERSIONS)
def client_python(request: pytest.FixtureRequest) -> Path:
    return harness.interpreter(request.config, "openai", request.param)


@pytest.fixture(scope="module", params=["plain template", "template with tools"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    with harness.running(tmp_path_factory.mktemp("home"), HERMES if "tools" in request.param else "") as address:
        yield address + "/v1"


@pytest.fixture(scope="module")
def outcomes(client_python: Path, server: str) -> dict[str, str]:
    return harness.found(client_python, CHECKS, server)


@pytest.mark.parametrize("name", harness.checks(CHECKS))
def test_the_client_is_satisfied(outcomes: dict[str, str], name: str):
    assert outcomes[name] == "", outcomes[name]


@pytest.fixture(scope="module")
def in_javascript(request: pytest.FixtureRequest, server: str) -> dict[str, str]:
    return harness.found_by_node(harness.node_folder(request.config, "openai", "7.57.0"), IN_JAVASCRIPT, server)


@pytest.mark.parametrize("name", harness.checks(IN_JAVASCRIPT))
def test_the_client_for_javascript_is_satisfied(in_javascript: dict[str, str], name: str):
    assert in_javascript[name] == "", in_javascript[name]
