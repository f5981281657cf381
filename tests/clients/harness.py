"""What tests of vendors' clients share: environments, a server of ours, and what the checks found."""

import ast
import fcntl
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.store import Store, importing
from tests.serving.support import add_gguf
from tests.tiny import CHATML, write_gguf
from tests.tinyvision import write_projector

SERVER = """
from freehold.core.settings import load
from freehold.serving.run import serve
from freehold.store import Store
settings = load({"port": 0, "parallel": 4})
with Store.open(settings.store) as store:
    serve(settings, store, lambda state: print(state.url, flush=True))
"""


def checks(script: Path) -> list[str]:
    """The names of the checks in a script."""
    if script.suffix == ".mjs":
        return sorted(re.findall(r"async (check_\w+)\(\)", script.read_text("utf-8")))
    body = ast.parse(script.read_text("utf-8")).body
    functions = (node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return sorted(node.name for node in functions if node.name.startswith("check_"))


@contextmanager
def made_once(folder: Path) -> Iterator[Path]:
    """The file that says that a folder is whole, while no other process of the tests works on that folder."""
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder / "ready"


def interpreter(config: pytest.Config, package: str, version: str, packages: Sequence[str] = ()) -> Path:
    """The interpreter of an environment that holds one version of a client, or `packages`, and nothing of ours."""
    folder = config.cache.mkdir(f"{package}-{version}")
    python = folder / "bin" / "python"
    with made_once(folder) as ready:
        if not ready.exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
            install += packages or [f"{package}=={version}"]
            done = subprocess.run(install, capture_output=True, text=True)
            if done.returncode != 0:
                pytest.skip(f"{package} {version} cannot be installed here: {done.stderr.strip().splitlines()[-1:]}")
            ready.touch()
    return python


def node_folder(config: pytest.Config, package: str, version: str) -> Path:
    """A folder in which node finds one version of a client."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm here")
    folder = config.cache.mkdir(f"node-{package.replace('/', '+')}-{version}")
    with made_once(folder) as ready:
        if not ready.exists():
            install = ["npm", "install", "--silent", "--no-audit", "--no-fund", f"{package}@{version}"]
            done = subprocess.run(install, capture_output=True, text=True, cwd=folder)
            if done.returncode != 0:
                pytest.skip(f"{package} {version} cannot be installed here: {done.stderr.strip().splitlines()[-1:]}")
            ready.touch()
    return folder


def found_by_node(folder: Path, script: Path, address: str, *more: Path) -> dict[str, str]:
    """The same of a script for node, which looks for packages beside itself."""
    beside = folder / script.name
    for each in (script, script.with_name("checking.mjs")):
        shutil.copy(each, folder / each.name)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    command = ["node", beside, address, "tiny", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return outcomes


@contextmanager
def running(
    home: Path, template: str = "", context: int = 1024, *, ends: bool = False, **settings: str
) -> Iterator[str]:
    """The address of a server with a model `tiny`, also known as `org/tiny`, and `coder`, which inserts text.

    With `ends` its answers end by themselves, for clients that set no limit and take no answer that is cut.
    """
    model = write_gguf(home / "tiny.gguf", context=context, template=template or CHATML, ends=ends)
    projector = write_projector(home / "mmproj.gguf")
    with Store.open(Settings(home=home).store) as store:
        add_gguf(store, "tiny", model)
        add_gguf(store, "org/tiny", model)
        add_gguf(store, "coder", write_gguf(home / "coder.gguf", infill=True))
        importing.import_gguf(store, model, Name.parse("eye"), projector=projector)
    environment = {"FREEHOLD_HOME": str(home), "PATH": "/usr/bin:/bin"}
    environment |= {f"FREEHOLD_{name.upper()}": value for name, value in settings.items()}
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.terminate()
    assert process.wait(20) == 0
    process.stdout.close()


def found(
    python: Path, script: Path, address: str, *more: Path, warnings: str = "error", seconds: float = 300
) -> dict[str, str]:
    """What each check found: nothing, or a traceback."""
    command = [python, "-W", warnings, script, address, "tiny", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return outcomes
