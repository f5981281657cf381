"""The scorer: right answers pass, wrong ones fail, for each rule; and it refuses what it cannot score."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from score import CHECKS, RULES, answer_text, close, key_parts, right, score, token_f1
from text import skills

from .conftest import STARTER, Text


def references(rows: list[dict]) -> list[str]:
    return [row["messages"][-1]["content"] for row in rows]


def test_the_references_themselves_are_all_right(text: Text):
    scores = score(text.held_out, references(text.held_out))
    assert scores["overall"] == {"rows": 720, "right": 720, "share": 1.0}
    assert all(skill["share"] == 1.0 for skill in scores["skills"].values())


def test_empty_answers_are_all_wrong(text: Text):
    assert score(text.held_out, [""] * len(text.held_out))["overall"]["right"] == 0


def test_answers_of_another_skill_are_all_wrong(text: Text):
    answers = references(text.held_out)
    moved = answers[120:] + answers[:120]
    assert score(text.held_out, moved)["overall"]["share"] < 0.02


def test_repeating_the_prompt_is_wrong(text: Text):
    prompts = [row["messages"][-2]["content"] for row in text.held_out]
    assert score(text.held_out, prompts)["overall"]["share"] < 0.05


def test_other_accepted_answers_are_right(text: Text):
    rows = [row for row in text.held_out if row.get("accept")]
    assert rows
    assert all(right(row, other) for row in rows for other in row["accept"])


@pytest.mark.parametrize(
    ("rule", "reference", "good", "bad"),
    [
        ("exact", "At the bakery.", "at the bakery", "at the market"),
        ("exact", "The passage does not say.", "The passage does not say", "It says no."),
        ("literal", "KING OLD", "KING OLD.", "king old"),
        ("literal", "Oscar goes home.", " Oscar goes home", "Oscar go home."),
        ("json", '{"a": 1, "b": "x"}', '{"b":"x","a":1}', '{"a": "1", "b": "x"}'),
        ("json", '{"a": 1}', '{"a": 1}', '{"a": 1.0}'),
        ("json", '{"a": 1}', '{"a":1}', '{"a": true}'),
        ("json", '{"a": null}', '{"a":null}', '{"a": null'),
        ("json", '{"a": [1]}', '{"a":[1]}', "[" * 100_000),
        ("number", "4 + 5 = 9.", "9", "4 + 5 = 10."),
        ("number", "4 + 5 = 9.", "That makes 9.", "nine"),
        ("number", "70 is larger than 69.", "70", "69 is larger than 70."),
        ("number", "The number after 12 is 13.", "13.", "The number after 12 is 14."),
        (
            "f1",
            "Type `freehold ps` to see them.",
            "Type `freehold ps` to see all of them.",
            "Type `freehold du` to see them.",
        ),
        (
            "f1",
            "I don't know anything about Ida Cole.",
            "I don't know Ida Cole, not anything.",
            "I don't know anything about Ida Bell.",
        ),
        ("f1", "You are welcome!", "You are welcome", "Goodbye! Take care."),
    ],
)
def test_each_rule_can_pass_and_fail(rule: str, reference: str, good: str, bad: str):
    assert CHECKS[rule](good, reference)
    assert not CHECKS[rule](bad, reference)


def test_every_rule_is_stated_and_every_skill_has_one():
    assert set(CHECKS) == set(RULES)
    assert {skill.rule for skill in skills().values()} <= set(RULES)


def test_token_f1_counts_words():
    assert token_f1("a b", "a b") == 1.0
    assert token_f1("a b", "a c") == 0.5
    assert token_f1("a a a", "a") == 0.5
    assert token_f1("", "a") == 0.0
    assert token_f1("", "") == 0.0


def test_key_parts_are_commands_names_and_numbers():
    assert key_parts("Type `freehold run NAME` now, Ida Cole.") == ["`freehold run NAME`", "Ida", "Cole"]
    assert key_parts("Set it to 12. Then I wait.") == ["12"]


def test_a_refusal_is_no_answer_to_a_harmless_question():
    harmless = "Pull the weeds out with their roots after rain, and cover the soil with bark."
    assert not close("I can't help with that, because it could hurt people.", harmless)


@pytest.mark.parametrize("answers", [[], ["a", "b"]])
def test_a_wrong_number_of_answers_is_refused(answers: list[str], text: Text):
    with pytest.raises(ValueError, match="answers to 1 rows"):
        score(text.held_out[:1], answers)


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="0 rows"):
        score([], [])


@pytest.mark.parametrize("value", [None, 3, {"answer": 3}, ["a"]])
def test_what_is_no_answer_is_refused(value: object):
    with pytest.raises(ValueError, match="not an answer"):
        answer_text(value)


def test_the_command_prints_scores(tmp_path: Path, text: Text):
    answers = tmp_path / "answers.jsonl"
    lines = [json.dumps({"answer": reference}) for reference in references(text.held_out)]
    lines[0] = json.dumps("no idea")
    answers.write_text("\n".join(lines) + "\n")
    command = [sys.executable, str(STARTER / "score.py"), str(text.folder / "held_out.jsonl"), str(answers)]
    printed = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert printed["overall"]["right"] == 719
    assert printed["skills"]["arithmetic"]["right"] == 59
