"""schemathesis, in its own environment, with the OpenAPI document of each dialect: whatever is sent, no 5xx."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from freehold.core.settings import Settings
from freehold.serving import openapi
from freehold.serving.app import create_app
from freehold.serving.own import OWN
from freehold.serving.routes import installed_dialects
from freehold.store import Store
from tests.clients import harness
from tests.serving.support import FakeEngine, add_model, live

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

CASES = 1_000
DIALECTS = {dialect.name: dialect for dialect in (*installed_dialects(), OWN)}


@pytest.fixture(scope="module")
def schemathesis(request: pytest.FixtureRequest) -> Path:
    python = harness.interpreter(request.config, "schemathesis", "4.32.5")
    return python.with_name("schemathesis")


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A server that can reach nobody, with a model called as schemathesis may call one."""
    settings = Settings(home=tmp_path, offline=True, queue=1000)
    with Store.open(settings.store) as store:
        for name in ("0", "a"):
            add_model(store, name)
        with live(create_app(settings, store, engine=FakeEngine())) as found:
            yield found


@pytest.mark.parametrize("name", DIALECTS)
def test_nothing_that_is_sent_breaks_the_server(schemathesis: Path, address: str, tmp_path: Path, name: str) -> None:
    operations = sum(len(found) for found in openapi.document(DIALECTS[name])["paths"].values())
    report = tmp_path / "report.json"
    command = [schemathesis, "run", f"{address}/docs/{name}.json", "--checks", "not_a_server_error"]
    command += ["--phases", "fuzzing", "--max-examples", str(CASES // operations), "--workers", "2", "--no-shrink"]
    command += ["--report-json-path", report, "--suppress-health-check", "all", "--warnings", "off"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert json.loads(report.read_text())
