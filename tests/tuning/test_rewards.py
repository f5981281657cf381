"""What answers are worth, by rules and by functions of the user's own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from freehold.core.errors import BadInput, BadRecipe
from freehold.core.system import on_linux
from freehold.tuning.rewards import Answer, rewards
from tests.serving.support import wait_for


def worth(spec: str, text: str, reference: str = "", folder: Path = Path()) -> float:
    [found] = rewards([spec], folder)([Answer("", text, reference)])
    return found


@pytest.mark.parametrize(
    ("spec", "text", "reference", "wanted"),
    [
        ("json", "NaN", "", 0),
        ("json", "[1, -Infinity]", "", 0),
        ("json", '{"a": 1}', "", 1), ("json", "{'a': 1}", "", 0), ("json", "", "", 0), ("json", "[" * 99_999, "", 0),
        ("number", "It is 12.", "12", 1), ("number", "3 and 4 make 1,200", "so 1200", 1), ("number", "12", "21", 0),
        ("number", "none", "3", 0), ("number", "3", "none", 0), ("number", "-5", "5", 0), ("number", "2.50", "2.5", 0),
        ("maths", "so 2.50", "2.5", 1), ("maths", "1,200 in all", "1200", 1), ("maths", "it is 3/6", "0.5", 1),
        ("maths", r"\frac{1}{2}", "1/2", 1),
        ("maths", r"\boxed{-\frac{3}{4}} of 9", "-0.75", 1), ("maths", "1/0", "1", 0),
        ("maths", r"x = \boxed{7}, not 8", "7", 1), ("maths", "10-4 = 6", "6", 1), ("maths", "none", "3", 0),
        ("maths", "5", "-5", 0), ("maths", "3", "none", 0), ("maths", "9" * 70_000, "9", 0), ("maths", "1,,2", "2", 1),
        ("exact", " Yes,  Sir ", "yes, sir", 1), ("exact", "yes", "no", 0),
        (r"regex:^\d+:\d+$", "12:30", "", 1), (r"regex:^\d+$", "12a", "", 0),
    ],
)  # fmt: skip
def test_rules(spec: str, text: str, reference: str, wanted: float):
    assert worth(spec, text, reference) == wanted


def test_rewards_add_up():
    total = rewards(["json", r"regex:\d", "number"], Path())
    assert total([Answer("", "7", "7"), Answer("", "x7", "8"), Answer("", "x", "")]) == [3, 1, 0]


def test_a_function_of_ones_own_is_asked_and_keeps_its_state(tmp_path: Path):
    (tmp_path / "own.py").write_text(
        "seen = []\ndef score(prompt, answer, reference):\n"
        "    seen.append(answer)\n    print('noise')\n    return len(seen) + (prompt == reference) / 2\n"
    )
    found = rewards(["own.py:score"], tmp_path)
    assert found([Answer("p", "a", "p"), Answer("p", "b", "q")]) == [1.5, 2.0]
    assert found([Answer("p", "c", "q")]) == [3.0]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise RuntimeError('no')", "failed in line 2: RuntimeError: no"), ("return None", "gave None"),
        ("return 1 / 0", "failed in line 2: ZeroDivisionError: division by zero"), ("return 'x'", "gave 'x'"),
        ("return float('nan')", "gave nan"), ("return 1e300", r"gave 1e\+300"), ("return 1 << 9999", "gave"),
        ("import os; os._exit(3)", "failed: its process ended with code 3"),
    ],
)  # fmt: skip
def test_a_function_that_fails_is_named(tmp_path: Path, body: str, said: str):
    (tmp_path / "own.py").write_text(f"def score(prompt, answer, reference):\n    {body}\n")
    with pytest.raises(BadInput, match=rf"own\.py:score {said}"):
        rewards(["own.py:score"], tmp_path)([Answer("", "", "")])


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "unknown reward"), ("jsonx", "unknown"), ("json:x", "unknown"), ("regex:(", "no pattern"),
        ("none.py:score", "no such file"), ("own.py", "unknown"), ("own.py:a b", "unknown"), ("own.sh:run", "unknown"),
    ],
)  # fmt: skip
def test_what_is_no_reward_is_refused(tmp_path: Path, spec: str, said: str):
    with pytest.raises(BadRecipe, match=said):
        rewards([spec], tmp_path)


def test_none_at_all_is_refused():
    with pytest.raises(BadRecipe, match="needs rewards"):
        rewards([], Path())


OWN = """
import json, helper
def plain(prompt, answer, reference):
    if answer == "bad":
        raise KeyError(prompt)
    return helper.worth(answer)
async def late(prompt, answer, reference):
    return 1
def flag(prompt, answer, reference):
    return answer == reference
def text(prompt, answer, reference):
    return " 2.5 "
def several(prompt, answer, reference):
    return [1.0, 2.0]
def noisy(prompt, answer, reference):
    print("x" * 200_000)
    return float(len(answer))
def ends(prompt, answer, reference):
    raise SystemExit(0)
def few(prompt):
    return 1
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with functions, and a module beside them."""
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "helper.py").write_text("def worth(answer):\n    return len(answer)\n")
    return tmp_path


def test_functions_may_use_what_lies_beside_them_and_say_worth_in_several_ways(own: Path):
    assert worth("own.py:plain", "abc", folder=own) == 3
    assert worth("own.py:flag", "a", "a", folder=own) == 1
    assert worth("own.py:text", "a", folder=own) == 2.5
    # More than a pipe holds, both ways, and characters of all kinds.
    assert worth("own.py:noisy", "é\n\udc00" * 100_000, folder=own) == 300_000


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("late", "gave <coroutine object late"), ("several", r"gave \[1\.0, 2\.0\]"),
        ("ends", "failed in line 19: SystemExit: 0"), ("few", r"failed: TypeError: few\(\) takes 1 positional"),
        ("nothing", "failed: AttributeError: .* no attribute 'nothing'"), ("__name__", "failed: TypeError: 'str'"),
    ],
)  # fmt: skip
def test_what_is_no_reward_function_is_named(own: Path, name: str, said: str):
    with pytest.raises(BadInput, match=rf"own\.py:{name} {said}"):
        worth(f"own.py:{name}", "a", folder=own)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("\ndef score(:", " in line 2: SyntaxError"), ("import no_such_package", " in line 1: ModuleNotFoundError"),
        ("raise SystemExit(1)", " in line 1: SystemExit: 1"), ("", ": AttributeError"), ("\x00", ".*null bytes"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_loaded_is_named(tmp_path: Path, body: str, said: str):
    (tmp_path / "own.py").write_text(body)
    with pytest.raises(BadInput, match=rf"own\.py:score failed{said}"):
        worth("own.py:score", "a", folder=tmp_path)


def test_who_wants_to_know_more_is_told_the_whole_path_of_the_log(own: Path):
    with pytest.raises(BadInput) as caught:
        rewards(["own.py:ends"], own, log=own / "trainer.log")([Answer("", "", "")])
    assert caught.value.remedy == f"Correct the function; all that it said is in {own}/trainer.log"


@pytest.mark.parametrize("body", ["def score(*_):\n    while True: pass\n", "import time\ntime.sleep(900)\n"])
def test_a_function_that_hangs_is_ended_and_named(tmp_path: Path, body: str, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "own.py").write_text(body)
    monkeypatch.setattr("freehold.tuning.rewards._PATIENCE", 0.5)
    with pytest.raises(BadInput, match=r"own\.py:score took more than 0 minutes for one answer"):
        # More than a pipe holds: it waits for whoever reads it.
        worth("own.py:score", "x" * 200_000, folder=tmp_path)


def test_one_answer_that_fails_fails_all_and_the_next_are_asked_anew(own: Path):
    total = rewards(["own.py:plain"], own)
    assert total([]) == []
    with pytest.raises(BadInput, match="failed"):
        total([Answer("", "abc", ""), Answer("", "bad", "")])
    assert total([Answer("", "abc", "")]) == [3]


TRAINER = """
import signal, sys
from pathlib import Path
from freehold.tuning.rewards import Answer, rewards
signal.signal(signal.SIGINT, lambda *_: None)
print(rewards(["own.py:slow"], Path(sys.argv[1]))([Answer("", sys.argv[2], "")]), flush=True)
"""


@pytest.fixture
def trainer(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A process in a terminal of its own that waits for a function to say what an answer is worth."""
    (tmp_path / "own.py").write_text(
        "import os, time\nfrom pathlib import Path\ndef slow(prompt, answer, reference):\n"
        "    Path('new').write_text(str(os.getpid()))\n    Path('new').rename('pid')\n"
        "    time.sleep(float(answer))\n    return 3\n"
    )
    command = [sys.executable, "-c", TRAINER, str(tmp_path), str(request.param)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            wait_for((tmp_path / "pid").exists)
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("trainer", [0.5], indirect=True)
def test_ctrl_c_in_a_terminal_lets_a_function_of_ones_own_answer(trainer: subprocess.Popen[str]):
    os.killpg(trainer.pid, signal.SIGINT)
    assert trainer.communicate()[0] == "[3.0]\n"


@pytest.mark.skipif(not on_linux(), reason="elsewhere a function is not broken off")
@pytest.mark.parametrize("trainer", [600], indirect=True)
def test_a_function_that_never_answers_ends_with_a_killed_trainer(trainer: subprocess.Popen[str], tmp_path: Path):
    function = psutil.Process(int((tmp_path / "pid").read_text()))
    trainer.kill()
    wait_for(lambda: not function.is_running() or function.status() == psutil.STATUS_ZOMBIE)


def test_a_judge_that_nobody_named_is_refused():
    with pytest.raises(BadRecipe, match="judge needs to know who grades"):
        rewards(["json", "judge"], Path())
    assert rewards(["judge", "json"], Path(), lambda answers: [0.25] * len(answers))([Answer("", "1", "")]) == [1.25]


@pytest.mark.parametrize(
    ("spec", "text", "reference", "wanted"),
    [
        ("exact", "STRASSE", "straße", 1), ("exact", "", "", 1), ("exact", "", "x", 0), ("exact", "a\tb\n", "a b", 1),
        ("json", " null ", "", 1), ("json", '{"a": 1} and more', "", 0), ("json", '"\\ud800"', "", 1),
        ("number", "", "", 0), ("number", "1,2,3", "123", 1), ("number", "12 of 30", "30", 1),
        ("maths", "", "", 0), ("maths", r"\boxed{}", "3", 0), ("maths", "0/5", "0", 1), ("maths", "-0", "0", 1),
        ("maths", r"\boxed{\frac{10}{4}}", "2.5", 1), ("maths", "1/3", "0.333", 0), ("maths", r"\boxed{3", "3", 1),
        ("regex:b$", "a" * 65_535 + "b", "", 1), ("regex:b", "a" * 65_536 + "b", "", 0), ("regex:", "", "", 1),
        ("regex:a:b", "a:b", "", 1),
    ],
)  # fmt: skip
def test_rules_at_their_edges(spec: str, text: str, reference: str, wanted: float):
    assert worth(spec, text, reference) == wanted
