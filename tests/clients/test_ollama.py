"""Ollama's own client, in its own virtual environment, against a real server with a tiny model."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from freehold.core.event import Reasoning, Text, ToolCallPart
from freehold.core.settings import Settings
from freehold.serving.app import create_app
from freehold.serving.listening import USUAL
from freehold.store import Store
from tests.clients import harness
from tests.serving.support import FakeEngine, add_model, live
from tests.tiny import HERMES, write_gguf
from tests.tinyvision import write_projector

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CHECKS = Path(__file__).with_name("ollama_checks.py")
IN_JAVASCRIPT = Path(__file__).with_name("ollama_checks.mjs")
CALLS = Path(__file__).with_name("ollama_call_checks.py")
CALLS_IN_JAVASCRIPT = CALLS.with_suffix(".mjs")
VERSIONS = ["0.6.3", "0.4.9"]


@pytest.fixture(scope="module", params=VERSIONS)
def client_python(request: pytest.FixtureRequest) -> Path:
    return harness.interpreter(request.config, "ollama", request.param)


@pytest.fixture(scope="module", params=["plain template", "template with tools", "own mount"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with harness.running(tmp_path_factory.mktemp("home"), HERMES if "tools" in request.param else "") as address:
        yield address + ("/ollama" if request.param == "own mount" else "")


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("file") / "tiny.gguf")


@pytest.fixture(scope="module")
def outcomes(client_python: Path, server: str, model_file: Path) -> dict[str, str]:
    projector = write_projector(model_file.with_name("mmproj.gguf"))
    return harness.found(client_python, CHECKS, server, model_file, projector)


@pytest.mark.parametrize("name", harness.checks(CHECKS))
def test_the_client_is_satisfied(outcomes: dict[str, str], name: str) -> None:
    assert outcomes[name] == "", outcomes[name]


@pytest.fixture(scope="module")
def in_javascript(request: pytest.FixtureRequest, server: str, model_file: Path) -> dict[str, str]:
    folder = harness.node_folder(request.config, "ollama", "0.6.4")
    return harness.found_by_node(folder, IN_JAVASCRIPT, server, model_file)


@pytest.mark.parametrize("name", harness.checks(IN_JAVASCRIPT))
def test_the_client_for_javascript_is_satisfied(in_javascript: dict[str, str], name: str) -> None:
    assert in_javascript[name] == "", in_javascript[name]


@pytest.fixture(scope="module")
def called(client_python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    with calling(tmp_path_factory.mktemp("home")) as address:
        return harness.found(client_python, CALLS, address)


@contextmanager
def calling(home: Path) -> Iterator[str]:
    """A server with a model that thinks and calls tools, as no tiny one does."""
    settings = Settings(home=home)
    engine = FakeEngine()
    engine.script = [
        Reasoning("hm"),
        Text("Let me see."),
        ToolCallPart(0, "c1", "weather", '{"city": '),
        ToolCallPart(0, arguments='"Ulm"}'),
        ToolCallPart(1, "c2", "clock", "{}"),
    ]
    with Store.open(settings.store) as store:
        add_model(store, "tiny")
        with live(create_app(settings, store, engine=engine)) as address:
            yield address


@pytest.fixture(scope="module")
def called_in_javascript(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    folder = harness.node_folder(request.config, "ollama", "0.6.4")
    with calling(tmp_path_factory.mktemp("home")) as address:
        yield harness.found_by_node(folder, CALLS_IN_JAVASCRIPT, address)


@pytest.mark.parametrize("name", harness.checks(CALLS_IN_JAVASCRIPT))
def test_calls_and_thoughts_in_javascript(called_in_javascript: dict[str, str], name: str) -> None:
    assert called_in_javascript[name] == "", called_in_javascript[name]


@pytest.mark.parametrize("name", harness.checks(CALLS))
def test_calls_and_thoughts(called: dict[str, str], name: str) -> None:
    assert called[name] == "", called[name]


def test_a_client_with_no_setting_at_all_finds_the_server(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    try:
        socket.create_server(("127.0.0.1", USUAL["ollama"])).close()
    except OSError:
        pytest.skip(f"port {USUAL['ollama']} is taken")
    python = harness.interpreter(request.config, "ollama", VERSIONS[0])
    ask = "import ollama; print([model.model for model in ollama.list().models])"
    with harness.running(tmp_path, also="ollama"):
        done = subprocess.run([python, "-c", ask], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
    assert "tiny:latest" in done.stdout, done.stderr
