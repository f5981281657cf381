"""Fixtures that every room uses."""

import os
import signal
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("freehold", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("freehold")

# Read once, when the Hub's client is first imported: its other protocol speaks to servers that tests do not run.
os.environ["HF_HUB_DISABLE_XET"] = "1"

# Where each core has a process of tests, threads of torch would only take turns, and spin while they wait for it.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

OTHERS = ("HF_", "HUGGING_FACE_", "TRANSFORMERS_")
KEPT = ("FREEHOLD_TEST_DATA", "FREEHOLD_TEST_TOOLS", "HF_HUB_DISABLE_XET")

# A shell that runs the tests in the background has Ctrl-C ignored, as nohup has the end of its terminal, and every
# child would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores: some test always waits for a process that it started."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests reaches them."""
    for name in list(os.environ):
        if name.startswith(("FREEHOLD_", *OTHERS)) and name not in KEPT:
            monkeypatch.delenv(name)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty FREEHOLD_HOME, in force for this process and its children."""
    folder = tmp_path / "home"
    monkeypatch.setenv("FREEHOLD_HOME", str(folder))
    return folder


@pytest.fixture
def test_data() -> Path:
    """The folder of real data sets that FREEHOLD_TEST_DATA names; skips where there is none."""
    folder = os.environ.get("FREEHOLD_TEST_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("FREEHOLD_TEST_DATA names no folder")
    return Path(folder)
