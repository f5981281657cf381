"""A notebook in a process of its own: the stand-ins and whatever it does to Python end with it."""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from freehold.core.errors import BadInput, WorkerFailed
from freehold.notebooks.job import NotebookJob, Ran
from freehold.notebooks.notebook import read
from freehold.tuning.launch import ENVIRONMENT, require_extra

_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "WANDB_MODE": "offline",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MPLBACKEND": "agg",
}
_SECRETS = re.compile(r"TOKEN|SECRET|PASSWORD|API_KEY", re.IGNORECASE)
_PATIENCE = 60.0
"""Seconds in which an interrupted notebook may stop its trainer."""


def run(job: NotebookJob) -> Ran:
    """Execute a notebook and write it with its outputs. What it prints goes to stdout as it comes.

    Raises BadInput for what is no notebook, MissingExtra, and WorkerFailed when its process dies; an error of a cell is
    told in the answer.
    """
    require_extra()
    read(job.notebook)
    for pattern in job.skip:
        _check(pattern)
    job.work.mkdir(parents=True, exist_ok=True)
    asked, answer = job.work / "job.json", job.work / "ran.json"
    asked.write_bytes(msgspec.json.encode(job, enc_hook=str))
    sys.stdout.flush()
    # Its folder is where a notebook's own relative paths start, as in Jupyter.
    command = [sys.executable, "-m", "freehold.notebooks.child", str(asked), str(answer)]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=_environment(), cwd=job.notebook.parent)
    try:
        child.wait()
    except KeyboardInterrupt:
        child.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            child.wait(_PATIENCE)
        raise
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    if not answer.exists():
        raise WorkerFailed(
            f"the notebook's process ended with code {child.returncode}", "What it printed last may say why"
        )
    return msgspec.json.decode(answer.read_bytes(), type=Ran, dec_hook=_path)


def _environment() -> dict[str, str]:
    """The user's, without what opens doors elsewhere: a notebook from the web is no better than its author."""
    kept = {key: value for key, value in os.environ.items() if not _SECRETS.search(key)}
    return kept | ENVIRONMENT | _OFFLINE


def _check(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise BadInput(f"--skip {pattern!r} is no regular expression: {error}", "As in --skip 'push_to_hub'") from error


def _path(kind: type, value: Any) -> Any:
    return Path(value) if kind is Path else kind(value)
