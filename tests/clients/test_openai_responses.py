"""The Responses API as OpenAI's own clients see it, against a real server with a tiny model."""

from pathlib import Path

import pytest

from tests.clients import harness
from tests.tiny import HERMES, THINKING

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CHECKS = Path(__file__).with_name("openai_responses_checks.py")
THOUGHTS = Path(__file__).with_name("openai_thoughts_checks.py")
IN_JAVASCRIPT = Path(__file__).with_name("openai_responses_checks.mjs")


@pytest.fixture(scope="module", params=["plain template", "template with tools"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    with harness.running(tmp_path_factory.mktemp("home"), HERMES if "tools" in request.param else "") as address:
        yield address + "/v1"


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, server: str) -> dict[str, str]:
    return harness.found(harness.interpreter(request.config, "openai", "3.57.0"), CHECKS, server)


@pytest.mark.parametrize("name", harness.checks(CHECKS))
def test_the_client_is_satisfied(outcomes: dict[str, str], name: str):
    assert outcomes[name] == "", outcomes[name]


@pytest.fixture(scope="module")
def in_javascript(request: pytest.FixtureRequest, server: str) -> dict[str, str]:
    return harness.found_by_node(harness.node_folder(request.config, "openai", "7.57.0"), IN_JAVASCRIPT, server)


@pytest.mark.parametrize("name", harness.checks(IN_JAVASCRIPT))
def test_the_client_for_javascript_is_satisfied(in_javascript: dict[str, str], name: str):
    assert in_javascript[name] == "", in_javascript[name]


@pytest.fixture(scope="module")
def about_thoughts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    python = harness.interpreter(request.config, "openai", "3.57.0")
    with harness.running(tmp_path_factory.mktemp("home"), THINKING) as address:
        return harness.found(python, THOUGHTS, address + "/v1")


@pytest.mark.parametrize("name", harness.checks(THOUGHTS))
def test_the_client_sees_what_a_model_thinks(about_thoughts: dict[str, str], name: str):
    assert about_thoughts[name] == "", about_thoughts[name]
