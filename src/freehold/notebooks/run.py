"""A notebook in a process of its own: the stand-ins and whatever it does to Python end with it."""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from freehold.core.errors import BadInput, NotEnoughMemory, WorkerFailed
from freehold.notebooks.job import NotebookJob, Ran, decode, encode
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
_SECRETS = re.compile(r"TOKEN|SECRET|PASSW|PASSPHRASE|_PWD|KEY|CREDENTIAL|AUTH", re.IGNORECASE)
_PATIENCE = 60.0
"""Seconds in which an interrupted notebook may stop its trainer."""


def run(job: NotebookJob) -> Ran:
    """Execute a notebook and write it with its outputs. What it prints goes to stdout as it comes.

    Raises BadInput for what is no notebook and for a place where none can be written, MissingExtra, and WorkerFailed or
    NotEnoughMemory when its process dies; an error of a cell is told in the answer.
    """
    require_extra()
    read(job.notebook)
    _check_place(job.out)
    for pattern in job.skip:
        _check(pattern)
    job.work.mkdir(parents=True, exist_ok=True)
    asked, answer = job.work / "job.json", job.work / "ran.json"
    asked.write_bytes(encode(job))
    sys.stdout.flush()
    # Its folder is where a notebook's own relative paths start, as in Jupyter.
    command = [sys.executable, "-P", "-m", "freehold.notebooks.child", str(asked), str(answer)]
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
        raise _death(child.returncode)
    return decode(answer.read_bytes(), Ran)


def _death(code: int) -> NotEnoughMemory | WorkerFailed:
    if code == -signal.SIGKILL:
        return NotEnoughMemory(
            "the notebook's process was killed, most likely because memory ran out", "Take a smaller model or batch"
        )
    return WorkerFailed(f"the notebook's process ended with code {code}", "What it printed last may say why")


def _check_place(out: Path) -> None:
    """Now: it is written when hours of work are done."""
    if out.is_dir():
        raise BadInput(f"--out {out} is a folder", "Name a file in it")
    if not out.parent.is_dir():
        raise BadInput(f"--out: no such folder: {out.parent}", "Make it, or name another")


def _environment() -> dict[str, str]:
    """The user's, without what opens doors elsewhere: a notebook from the web is no better than its author."""
    kept = {key: value for key, value in os.environ.items() if not _SECRETS.search(key)}
    return kept | ENVIRONMENT | _OFFLINE


def _check(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise BadInput(f"--skip {pattern!r} is no regular expression: {error}", "As in --skip 'push_to_hub'") from error
