"""llama.cpp's own server suite, run against freehold-llama-server, and beside it against a real llama-server.

The suite comes from the source archive of llama-cpp-python in the folder that FREEHOLD_TEST_TOOLS names. Its models
are not there: each of its presets gets one of ours in their place, so that of its cases only those say anything which
the real server passes with these. LLAMA_SERVER_BIN_PATH names a real one, which then says which these are;
without it they are those that llama-server b1-0c1e570, built from the same archive, passed.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from freehold import convert
from freehold.convert import borrowed
from tests.clients.harness import interpreter
from tests.tiny import write_gguf

TOOLS = Path(os.environ.get("FREEHOLD_TEST_TOOLS", "/nonexistent"))
REAL = os.environ.get("LLAMA_SERVER_BIN_PATH", "")
PASSED = Path(__file__).with_name("llama_suite_passed.json")
SHARE = 0.95
"""Of the cases that the real server passes."""
DIFFERENT = {
    "unit/test_compat_anthropic.py::test_anthropic_empty_messages": "Anthropic refuses a conversation of no messages",
    "unit/test_compat_anthropic.py::test_anthropic_tool_result_with_image": "an image is refused with 400, not 500",
    "unit/test_compat_anthropic.py::test_anthropic_vision_format_accepted": "an image is refused with 400, not 500",
    "unit/test_kv_keep_only_active.py::test_clear_and_restore": "it looks for marks in llama.cpp's log",
    "unit/test_security.py::test_cors_origins_defaults_to_localhost_with_tools_enabled": "the server runs no tools",
    "unit/test_security.py::test_cors_proxy_only_forwards_explicit_proxy_headers": "it fetches nothing for pages",
    "unit/test_sleep.py::test_server_sleep_metrics_buckets": "rates told asleep are those of the last moment awake",
}
"""Cases that are answered otherwise on purpose."""
LEFT_OUT = ("router", "mcp_servers", "tools_builtin", "proxy", "speculative")
"""Files whose cases take a server that starts others or runs tools, or a second model."""
PACKAGES = ["pytest==8.4.2", "pytest-timeout==2.4.0", "openai", "requests", "filelock", "wget", "numpy"]
PATCH = """

def _local(method):
    def preset():
        server = method()
        server.offline = True
        server.model_hf_repo = server.model_hf_file = None
        kind = "EMBEDDING" if server.server_embeddings else "INFILL" if "infill" in server.model_alias else "MODEL"
        server.model_file = os.environ["LOCAL_" + kind]
        return server
    return staticmethod(preset)


for _name, _method in list(vars(ServerPreset).items()):
    if isinstance(_method, staticmethod) and _name not in ("load_all", "router"):
        setattr(ServerPreset, _name, _local(_method.__func__))
ServerPreset.load_all = staticmethod(lambda: None)
"""
RUNNER = """
import json, sys
import pytest

class Outcomes:
    def __init__(self):
        self.found = {}
    def pytest_runtest_logreport(self, report):
        if report.when == "call" or report.outcome != "passed":
            self.found[report.nodeid] = report.outcome

outcomes = Outcomes()
options = ["-q", "-p", "no:cacheprovider", "--timeout=90", "--tb=no", "-m", "not slow", "--"]
pytest.main([*options, *json.load(sys.stdin)], [outcomes])
print(json.dumps(outcomes.found))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        not (TOOLS / borrowed.ARCHIVE).exists(), reason=f"FREEHOLD_TEST_TOOLS names no folder with {borrowed.ARCHIVE}"
    ),
]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suite, with a model of ours in the place of its own."""
    folder = tmp_path_factory.mktemp("llama")
    wanted = ("tools/server/tests/", "models/templates/")
    with tarfile.open(TOOLS / borrowed.ARCHIVE) as archive:
        for member in archive:
            inner = member.name.partition("/vendor/llama.cpp/")[2]
            if inner.startswith(wanted) and member.isfile():
                member.name = inner
                archive.extract(member, folder, filter="data")
    tests = folder / "tools" / "server" / "tests"
    with (tests / "utils.py").open("a") as file:
        file.write(PATCH)
    return tests


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables in which the suite finds its models."""
    from importlib import resources

    folder = tmp_path_factory.mktemp("models")
    with resources.as_file(resources.files("freehold.assets") / "starter") as starter:
        convert.to_gguf(starter, folder / "starter.gguf", dtype="f32")
    embedding = write_gguf(folder / "embedding.gguf", pooling=3)
    infill = write_gguf(folder / "infill.gguf", context=2048, infill=True)
    made = {"MODEL": folder / "starter.gguf", "EMBEDDING": embedding, "INFILL": infill}
    return {f"LOCAL_{kind}": str(path) for kind, path in made.items()}


def outcomes(
    config: pytest.Config, suite: Path, models: dict[str, str], binary: str, cases: Sequence[str], home: Path
) -> dict[str, str]:
    """What became of each case with the server in `binary`."""
    python = interpreter(config, "llama-suite", "1", PACKAGES)
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "FREEHOLD_HOME": str(home / "freehold"),
        "LLAMA_SERVER_BIN_PATH": binary,
        **models,
        "PORT": str(_free_port()),
        "OMP_WAIT_POLICY": "passive",  # two servers and a test share what may be two cores
    }
    done = subprocess.run(
        [python, "-c", RUNNER],
        input=json.dumps(list(cases)),
        capture_output=True,
        text=True,
        cwd=suite,
        env=environment,
        timeout=3000,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def _ours(folder: Path) -> str:
    """The command of this very interpreter, whether it is installed or not."""
    command = folder / "freehold-llama-server"
    source = Path(convert.__file__).parents[2]
    command.write_text(
        f"#!/bin/sh\nPYTHONPATH={source} exec {sys.executable} -c "
        "'from freehold.cli._llama_server import main; main()' \"$@\"\n"
    )
    command.chmod(0o755)
    return str(command)


def test_as_many_cases_pass_as_with_llama_server(
    pytestconfig: pytest.Config, suite: Path, models: dict[str, str], tmp_path: Path
) -> None:
    if REAL:
        if shutil.which(REAL) is None:
            pytest.skip(f"there is no llama-server at {REAL}")
        files = sorted(file for file in (suite / "unit").glob("test_*.py") if file.stem[5:] not in LEFT_OUT)
        named = [str(file.relative_to(suite)) for file in files]
        told = outcomes(pytestconfig, suite, models, REAL, named, tmp_path)
        passed = [case for case, outcome in told.items() if outcome == "passed"]
        assert len(passed) > 150, told
    else:
        passed = json.loads(PASSED.read_text("utf-8"))
    ours = outcomes(pytestconfig, suite, models, _ours(tmp_path), passed, tmp_path)
    failed = {case for case in passed if ours.get(case) != "passed"}
    print(f"{len(passed) - len(failed)} of {len(passed)}; failed: {sorted(failed)}")
    assert len(failed) <= (1 - SHARE) * len(passed), sorted(failed - set(DIFFERENT))
