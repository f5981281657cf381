"""What answers are worth, by rules and by functions of the user's own."""

from pathlib import Path

import pytest

from freehold.core.errors import BadInput, BadRecipe
from freehold.tuning.rewards import Answer, rewards


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
        ("raise RuntimeError('no')", "failed"), ("return None", "failed"), ("return 'x'", "failed"),
        ("return float('nan')", "gave"), ("return 1e300", "gave"), ("import os; os._exit(3)", "failed"),
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
