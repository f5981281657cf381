"""The official model-signing tool, in its own virtual environment: it verifies our signatures and we verify its."""

import subprocess
import sys
from pathlib import Path

import pytest

from freehold.core.errors import Forbidden
from freehold.core.name import Name
from freehold.proofs.sign import keys, models
from freehold.store import Store
from freehold.store.importing import import_folder, materialise
from tests.store.models import folder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

VERSION = "1.1.1"


@pytest.fixture(scope="module")
def tool(request: pytest.FixtureRequest) -> Path:
    """The official command."""
    place = request.config.cache.mkdir(f"model-signing-{VERSION}")
    command, ready = place / "bin" / "model_signing", place / "ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        packages = [f"model-signing=={VERSION}", "pyOpenSSL"]
        install = [place / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages]
        done = subprocess.run(install, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"model-signing cannot be installed here: {done.stderr.strip().splitlines()[-1:]}")
        ready.touch()
    return command


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    keys.make(tmp_path / "key")
    return tmp_path / "key"


def official(tool: Path, verb: str, model: Path, signature: Path, key: Path) -> subprocess.CompletedProcess[str]:
    flag = ["--private_key", key] if verb == "sign" else ["--public_key", f"{key}.pub"]
    command = [tool, verb, "key", "--signature", signature, *flag, model]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


SPOILERS = {
    "changed": lambda model: (model / "config.json").write_text("{}"),
    "missing": lambda model: (model / "tokenizer.json").unlink(),
    "added": lambda model: (model / "new").write_text("x"),
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    made = folder(tmp_path / "model")
    (made / "sub").mkdir()
    (made / "sub" / "deep.txt").write_text("deep")
    (made / "sub-").write_text("sorts before or after sub/")
    return made


@pytest.mark.parametrize("spoiler", [None, *SPOILERS])
def test_the_official_tool_verifies_ours(tool: Path, model: Path, key_file: Path, spoiler: str | None) -> None:
    signature = models.sign_path(model, keys.private(key_file))
    if spoiler:
        SPOILERS[spoiler](model)
    done = official(tool, "verify", model, signature, key_file)
    assert (done.returncode == 0) == (spoiler is None), done.stderr + done.stdout


@pytest.mark.parametrize("spoiler", [None, *SPOILERS])
def test_we_verify_the_official_tools(tool: Path, model: Path, key_file: Path, spoiler: str | None) -> None:
    done = official(tool, "sign", model, model / "model.sig", key_file)
    assert done.returncode == 0, done.stderr
    public = [keys.public(Path(f"{key_file}.pub"))]
    if spoiler is None:
        assert models.verify_path(model, public).subject == "model"
        return
    SPOILERS[spoiler](model)
    with pytest.raises(Forbidden, match="of something else"):
        models.verify_path(model, public)


def test_single_files_both_ways(tool: Path, tmp_path: Path, key_file: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"weights")
    ours = models.sign_path(tmp_path / "m.gguf", keys.private(key_file))
    assert official(tool, "verify", tmp_path / "m.gguf", ours, key_file).returncode == 0
    assert official(tool, "sign", tmp_path / "m.gguf", tmp_path / "theirs.sig", key_file).returncode == 0
    public = [keys.public(Path(f"{key_file}.pub"))]
    models.verify_path(tmp_path / "m.gguf", public, tmp_path / "theirs.sig")
    (tmp_path / "m.gguf").write_bytes(b"changed")
    assert official(tool, "verify", tmp_path / "m.gguf", ours, key_file).returncode != 0
    with pytest.raises(Forbidden):
        models.verify_path(tmp_path / "m.gguf", public, tmp_path / "theirs.sig")


def test_a_model_out_of_the_store(tool: Path, tmp_path: Path, key_file: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        manifest = import_folder(store, folder(tmp_path / "in"), Name.parse("org/m"))
        signature = models.sign_model(store, Name.parse("org/m"), keys.private(key_file))
        materialise(store, manifest, tmp_path / "out")
    (tmp_path / "m.sig").write_bytes(signature)
    assert official(tool, "verify", tmp_path / "out", tmp_path / "m.sig", key_file).returncode == 0
    keys.make(tmp_path / "other")
    assert official(tool, "verify", tmp_path / "out", tmp_path / "m.sig", tmp_path / "other").returncode != 0
