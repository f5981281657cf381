"""Score answers to the starter model's held-out questions: `python starter/score.py HELD_OUT.jsonl ANSWERS.jsonl`.

Each line of ANSWERS is a JSON string, or an object with the key "answer", in the order of HELD_OUT. An answer is
right or wrong by its skill's rule; a row's last message is the reference, its "accept" list holds other references.
"""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from text import skills
from text.kit import normalise

RULES = {
    "exact": "the same words as a reference; case, punctuation and spacing do not count",
    "literal": "the same text as a reference; only spacing at the ends and a last full stop do not count",
    "json": "JSON that is equal to the reference's: the same keys and values of the same types, in any order",
    "number": "the reference's result: the last number of the answer, or for a comparison its first number",
    "f1": "a token F1 of at least 0.6 with a reference, and every name, number and command of that reference",
}
ENOUGH = 0.6


def token_f1(answer: str, reference: str) -> float:
    """The F1 of the two texts' words as multisets, from 0 to 1."""
    said, wanted = Counter(normalise(answer).split()), Counter(normalise(reference).split())
    shared = sum((said & wanted).values())
    return 2 * shared / (said.total() + wanted.total()) if shared else 0.0


def key_parts(reference: str) -> list[str]:
    """What a right answer cannot do without: commands in backticks, numbers, and names inside sentences."""
    commands = re.findall(r"`[^`]+`", reference)
    prose = re.sub(r"`[^`]+`", "", reference)
    names = re.findall(r"(?<=[\w,] )(?!I\b)[A-Z]\w*", prose)
    return commands + names + re.findall(r"\d+", prose)


def exact(answer: str, reference: str) -> bool:
    """Rule `exact`."""
    return normalise(answer) == normalise(reference)


def literal(answer: str, reference: str) -> bool:
    """Rule `literal`."""
    return answer.strip().removesuffix(".") == reference.strip().removesuffix(".")


def typed(value: Any) -> Any:
    """A JSON value with its type, since Python holds 1, 1.0 and True for equal."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    return [typed(item) for item in value] if isinstance(value, list) else (type(value).__name__, value)


def same_json(answer: str, reference: str) -> bool:
    """Rule `json`."""
    try:
        return bool(typed(json.loads(answer)) == typed(json.loads(reference)))
    except (ValueError, RecursionError):
        return False


def number(answer: str, reference: str) -> bool:
    """Rule `number`."""
    at = 0 if " than " in reference else -1
    said, wanted = (re.findall(r"\d+", text) for text in (answer, reference))
    return bool(said) and said[at] == wanted[at]


def close(answer: str, reference: str) -> bool:
    """Rule `f1`."""
    present = all(part in answer for part in key_parts(reference))
    return present and token_f1(answer, reference) >= ENOUGH


CHECKS: Mapping[str, Callable[[str, str], bool]] = {
    "exact": exact,
    "literal": literal,
    "json": same_json,
    "number": number,
    "f1": close,
}


def right(row: Mapping[str, Any], answer: str) -> bool:
    """Whether an answer to a held-out row is right."""
    check = CHECKS[skills()[row["skill"]].rule]
    references = [row["messages"][-1]["content"], *row.get("accept", [])]
    return any(check(answer, reference) for reference in references)


def share(rows: int, found: int) -> dict[str, Any]:
    """How many of the rows were answered right."""
    return {"rows": rows, "right": found, "share": found / rows}


def score(rows: Sequence[Mapping[str, Any]], answers: Sequence[str]) -> dict[str, Any]:
    """Right answers per skill and in all, with each skill's rule; ValueError unless each row has one answer."""
    if not rows or len(rows) != len(answers):
        raise ValueError(f"there are {len(answers)} answers to {len(rows)} rows")
    asked, found = Counter[str](), Counter[str]()
    for row, answer in zip(rows, answers, strict=True):
        asked[row["skill"]] += 1
        found[row["skill"]] += right(row, answer)
    known = skills()
    per_skill = {name: share(asked[name], found[name]) | {"rule": known[name].rule} for name in sorted(asked)}
    return {"overall": share(len(rows), found.total()), "skills": per_skill, "rules": RULES}


def read_lines(path: Path) -> list[Any]:
    """The JSON values of a file with one on each line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def answer_text(value: Any) -> str:
    """The answer of one line of the answers file."""
    text = value["answer"] if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise ValueError(f"not an answer: {value!r}")
    return text


def main() -> None:
    """Read the two files and print the scores as JSON."""
    parser = argparse.ArgumentParser(description="Score answers to the starter model's held-out questions.")
    parser.add_argument("held_out", type=Path)
    parser.add_argument("answers", type=Path)
    arguments = parser.parse_args()
    rows, answers = read_lines(arguments.held_out), [answer_text(value) for value in read_lines(arguments.answers)]
    print(json.dumps(score(rows, answers), indent=2))


if __name__ == "__main__":
    main()
