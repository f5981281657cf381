"""What a run does to signals while it lasts, and that it puts all back."""

import os
import signal
import subprocess
import sys

import pytest

from freehold.cli._lasting import Lasting

SHOW = "import signal; print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)"
NUMBERS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def test_a_hangup_ends_neither_the_run_nor_its_children() -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    with Lasting():
        os.kill(os.getpid(), signal.SIGHUP)
        done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
    assert [signal.getsignal(number) for number in NUMBERS] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_is_stopped_as_by_ctrl_c(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), Lasting():
        os.kill(os.getpid(), number)


def test_streams_are_those_of_before() -> None:
    before = sys.stdout, sys.stderr
    with Lasting() as lasting:
        print("seen")
        assert not lasting.left
    assert (sys.stdout, sys.stderr) == before
