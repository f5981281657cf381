"""OpenAI's own client, in its own virtual environment, against a real server with a tiny model."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from freehold.core.settings import Settings
from freehold.store import Store
from tests.serving.support import add_gguf
from tests.tiny import HERMES, write_gguf

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CHECKS = Path(__file__).with_name("openai_checks.py")
NAMES = sorted(
    node.name
    for node in ast.parse(CHECKS.read_text("utf-8")).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
)
VERSIONS = ["3.54.0", "1.109.1"]
SERVER = """
from freehold.core.settings import load
from freehold.serving.run import serve
from freehold.store import Store
settings = load({"port": 0, "parallel": 4})
with Store.open(settings.store) as store:
    serve(settings, store, lambda state: print(state.url, flush=True))
"""


@pytest.fixture(scope="module", params=VERSIONS)
def client_python(request: pytest.FixtureRequest) -> Path:
    """The interpreter of an environment that holds one version of the client and nothing of ours."""
    folder = request.config.cache.mkdir(f"openai-{request.param}")
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", f"openai=={request.param}"]
        done = subprocess.run(install, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"openai {request.param} cannot be installed here: {done.stderr.strip().splitlines()[-1:]}")
        ready.touch()
    return python


@pytest.fixture(scope="module", params=["plain template", "template with tools"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """The address of a server with a model `tiny`, also known as `org/tiny`."""
    home = tmp_path_factory.mktemp("home")
    options = {"template": HERMES} if request.param == "template with tools" else {}
    model = write_gguf(home / "tiny.gguf", **options)
    with Store.open(Settings(home=home).store) as store:
        add_gguf(store, "tiny", model)
        add_gguf(store, "org/tiny", model)
    environment = {"FREEHOLD_HOME": str(home), "PATH": "/usr/bin:/bin"}
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True, env=environment)
    yield process.stdout.readline().strip() + "/v1"
    process.terminate()
    assert process.wait(20) == 0
    process.stdout.close()


@pytest.fixture(scope="module")
def outcomes(client_python: Path, server: str) -> dict[str, str]:
    """What each check found: nothing, or a traceback."""
    command = [client_python, "-W", "error", CHECKS, server, "tiny"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_the_client_is_satisfied(outcomes: dict[str, str], name: str):
    assert outcomes[name] == "", outcomes[name]
