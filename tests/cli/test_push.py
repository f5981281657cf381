"""freehold push: docs/pushing.md against servers on loopback, and what is refused before anything is sent."""

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.cli.conftest import Freehold, assert_refused
from tests.store.push_servers import HubPlace, HubState, RegistryPlace, RegistryState, serving

PAGE = Path(__file__).parents[2] / "docs" / "pushing.md"


# huggingface_hub hands its file to httpx2 in a way that httpx2 calls outdated.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_the_page(inside: Freehold, tiny: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The page's commands; the places that it names are servers on loopback."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    registry, hub = RegistryState(), HubState()
    commands = re.findall(r"^    freehold (.*)$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert len(commands) >= 4
    inside("cp", "tiny", "desk")
    with serving(RegistryPlace, registry) as host, serving(HubPlace, hub) as hub_host:
        monkeypatch.setenv("HF_ENDPOINT", f"http://{hub_host}")
        for line in commands:
            words = shlex.split(line.replace("registry.example", host), comments=True)
            done = inside(*words)
            assert done.returncode == 0, (words, done.stderr)
    assert "v1" in registry.manifests
    assert "# desk" in hub.files["README.md"].decode()
    assert set(hub.files) >= {"README.md", "tiny.gguf", "freehold-manifest.json"}


def test_dry_run_sends_nothing(inside: Freehold, tiny: str) -> None:
    done = inside("push", "tiny", "oci://127.0.0.1:9/tiny", "--dry-run")
    assert done.stdout == "would push tiny to oci://127.0.0.1:9/tiny: 496 kB\n"
    assert json.loads(inside("push", "tiny", "hf.co/org/tiny", "--dry-run", "--json").stdout)["files"] == 2


def test_wrong_input(inside: Freehold, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_refused(inside("push", "nope", "oci://127.0.0.1:9/x"), "no model named 'nope'")
    assert_refused(inside("push", "tiny", "oci://127.0.0.1:9/UP"), "not a place in a registry")
    assert_refused(inside("push", "tiny", "hf.co/x"), "not a repository of the Hub")
    monkeypatch.setenv("FREEHOLD_OFFLINE", "1")
    for target in ("oci://127.0.0.1:9/x", "hf.co/org/x"):
        assert_refused(inside("push", "tiny", target), "Freehold is offline")
