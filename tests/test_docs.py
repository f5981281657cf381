"""The generated parts of the user guide say what the source says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from freehold.cli import main

ROOT = Path(__file__).parent.parent


def test_generated_parts_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "docs", "--check"], capture_output=True, text=True, check=False
    )
    assert done.stdout + done.stderr == ""
    assert done.returncode == 0


@pytest.mark.parametrize("script", ["scripts/check", "scripts/docs", ".ci/run"])
def test_scripts_can_be_run(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)


def test_the_guide_mentions_every_verb() -> None:
    text = "".join(page.read_text("utf-8") for page in (ROOT / "docs").glob("*.md"))
    assert [verb for verb in main.verbs() if f"freehold {verb}" not in text] == []
