"""A turn of Codex CLI, set up by the lines of `freehold connect`, against a real server with a tiny model."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.clients import harness
from tests.tiny import HERMES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

VERSION = "0.162.1"
CONTEXT = 65536
"""The tiny model's tokenizer makes 30,000 tokens of Codex's first request."""


@pytest.fixture
def codex(request: pytest.FixtureRequest) -> Path:
    return harness.node_folder(request.config, "@openai/codex", VERSION) / "node_modules" / ".bin" / "codex"


def turn(codex: Path, settings: Path, work: Path) -> list[dict[str, Any]]:
    """The events of a turn that went well."""
    told = subprocess.run(
        [codex, "exec", "--json", "--skip-git-repo-check", "say hi"],
        cwd=work,
        env={"PATH": "/usr/bin:/bin", "HOME": str(work.parent), "CODEX_HOME": str(settings)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert told.returncode == 0, told.stdout[-2000:] + told.stderr[-2000:]
    events = [json.loads(line) for line in told.stdout.splitlines()]
    assert events[-1]["type"] == "turn.completed"
    assert events[-1]["usage"]["output_tokens"] > 0
    return events


def test_codex_has_its_turn_answered(codex: Path, tmp_path: Path) -> None:
    settings, work = tmp_path / "codex", tmp_path / "work"
    settings.mkdir()
    work.mkdir()
    with harness.running(tmp_path, HERMES, CONTEXT, ends=True, context_length=str(CONTEXT), parallel="1"):
        connect = [sys.executable, "-m", "freehold", "connect", "codex", "--json", "--model", "tiny"]
        shown = subprocess.run([*connect, "--home", tmp_path], capture_output=True, text=True, check=True).stdout
        (settings / "config.toml").write_text(json.loads(shown)["clients"][0]["text"])
        # A model of random weights now and then ends before it has said anything.
        for _ in range(3):
            events = turn(codex, settings, work)
            said = [event["item"]["text"] for event in events if event.get("item", {}).get("type") == "agent_message"]
            if said[-1]:
                break
    assert said[-1]
