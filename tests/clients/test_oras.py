"""ORAS, the OCI project's own client for such artefacts, reads what was pushed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from freehold.core.digest import Digest
from freehold.core.name import Name
from freehold.core.settings import Settings
from freehold.store import Store
from freehold.store.importing import import_gguf
from freehold.store.pushing import oci
from tests.store.models import gguf
from tests.store.push_servers import RegistryPlace, RegistryState, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

VERSION = "0.2.43"
READ = """
import json, sys
import oras.client
client = oras.client.OrasClient(hostname=sys.argv[1], insecure=True)
place = client.get_container(sys.argv[2])
accepted = ["application/vnd.docker.distribution.manifest.v2+json"]
manifest = client.get_manifest(place, allowed_media_type=accepted)
for layer in [manifest["config"], *manifest["layers"]]:
    client.download_blob(place, layer["digest"], sys.argv[3] + "/" + layer["digest"].split(":")[1])
print(json.dumps(manifest))
"""


@pytest.fixture(scope="module")
def python(request: pytest.FixtureRequest) -> Path:
    """The interpreter of an environment that holds the client."""
    place = request.config.cache.mkdir(f"oras-{VERSION}")
    found, ready = place / "bin" / "python", place / "ready"
    if not ready.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        install = [found, "-m", "pip", "install", "-q", "--disable-pip-version-check", f"oras=={VERSION}"]
        done = subprocess.run(install, capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"oras cannot be installed here: {done.stderr.strip().splitlines()[-1:]}")
        ready.touch()
    return found


def test_oras_reads_what_was_pushed(python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    out = tmp_path / "out"
    out.mkdir()
    with Store.open(tmp_path / "store") as store, serving(RegistryPlace, RegistryState()) as host:
        model = import_gguf(store, gguf(tmp_path / "m.gguf"), Name.parse("m"))
        oci.push(store, Name.parse("m"), oci.Target.parse(f"oci://{host}/org/m:v1"), Settings(home=tmp_path))
        command = [python, "-c", READ, host, f"{host}/org/m:v1", out]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    layers = {layer["mediaType"]: layer["digest"] for layer in json.loads(done.stdout)["layers"]}
    assert layers["application/vnd.ollama.image.model"] == str(model.parts[0].digest)
    for file in out.iterdir():
        assert Digest.of_file(file).hex == file.name
