"""schemathesis, in its own environment, with the OpenAPI document of each dialect: whatever is sent, no 5xx.

First the boundary values of every field, which take little to make; then random ones, until there are enough.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from freehold.core.settings import Settings
from freehold.serving import openapi
from freehold.serving.app import create_app
from freehold.serving.own import OWN
from freehold.serving.routes import installed_dialects
from freehold.store import Store
from tests.clients import harness
from tests.serving.support import FakeEngine, add_model, live

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

CASES = int(os.environ.get("FREEHOLD_TEST_CASES", "10000"))
"""For each dialect. Continuous integration has time for fewer."""
DIALECTS = {dialect.name: dialect for dialect in (*installed_dialects(), OWN)}
REFUSALS = {"llamacpp": ["501"]}
"""What a dialect says on purpose of what it cannot do; a crash is a 500."""
CONFIG = """
[generation]
allow-extra-parameters = false
database = "none"
no-shrink = true

[checks.not_a_server_error]
expected-statuses = {statuses}
"""


@pytest.fixture(scope="module")
def schemathesis(request: pytest.FixtureRequest) -> Path:
    python = harness.interpreter(request.config, "schemathesis", "4.32.5")
    return python.with_name("schemathesis")


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A server that can reach nobody, with a model called as schemathesis may call one."""
    settings = Settings(home=tmp_path / "home", offline=True, queue=1000)
    with Store.open(settings.store) as store:
        for name in ("0", "a"):
            add_model(store, name)
        with live(create_app(settings, store, engine=FakeEngine())) as found:
            yield found


def sent(schemathesis: Path, document: str, folder: Path, *more: str) -> int:
    """How many cases were sent, none of which was answered as it must not be."""
    report = folder / "report.json"
    command = [schemathesis, "run", document, "--checks", "not_a_server_error", "--request-timeout", "120", *more]
    command += ["--report-json-path", report, "--suppress-health-check", "all", "--warnings", "off"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    told: dict[str, Any] = json.loads(report.read_text())
    assert (told["complete"], told["errors"], told["operations"]["errored"]) == (True, [], 0)
    return int(told["test_cases"]["generated"]) - int(told["test_cases"]["errored"])


def varied(document: dict[str, Any]) -> int:
    """Operations of which more than one case can be made."""
    operations = [each for path in document["paths"].values() for each in path.values()]
    return sum(bool(each["parameters"]) or "requestBody" in each for each in operations)


@pytest.mark.parametrize("name", DIALECTS)
def test_nothing_that_is_sent_breaks_the_server(schemathesis: Path, address: str, tmp_path: Path, name: str) -> None:
    statuses = ["2xx", "3xx", "4xx", *REFUSALS.get(name, ())]
    (tmp_path / "schemathesis.toml").write_text(CONFIG.format(statuses=json.dumps(statuses)))
    document = f"{address}/docs/{name}.json"
    count = sent(schemathesis, document, tmp_path, "--phases", "coverage")
    each = max(10, -(-(CASES - count) // varied(openapi.document(DIALECTS[name]))))
    count += sent(schemathesis, document, tmp_path, "--phases", "fuzzing", "--max-examples", str(each))
    assert count >= CASES
