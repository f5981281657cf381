"""Write the text that the starter model is trained on: `python starter/generate.py --out DIR --seed 1 --rows N`.

The same seed and number of rows give the same bytes on every machine.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from text import skills
from text.kit import Draw, Retry, Sample, Skill, normalise
from text.weights import DEFAULT, WEIGHTS

ROWS = 170_000
HELD_PER_SKILL = 60
TRIES = 20_000


def draw_one(skill: Skill, d: Draw) -> Sample:
    """One sample of a skill; draws again where a draw led to the other side of the split."""
    for _ in range(TRIES):
        try:
            return skill.make(d)
        except Retry:
            continue
    raise SystemExit(f"The skill {skill.name} found no sample for {'held-out' if d.held else 'training'} rows.")


def prompt_keys(skill: Skill, sample: Sample) -> list[str]:
    """What may not be shared between the two files: all that the user said, and each thing on its own."""
    users = [message["content"] for message in sample.messages if message["role"] == "user"]
    if skill.keyed_by_system:
        return [normalise(" ".join(message["content"] for message in sample.messages[:-1]))]
    return [normalise(" ".join(users)), *map(normalise, users)]


def held_out(skill: Skill, seed: int, rows: int) -> dict[str, Sample]:
    """Held-out samples of a skill by prompt, all different."""
    d = Draw(Random(f"{seed}/{skill.name}/held out"), held=True)
    found: dict[str, Sample] = {}
    for _ in range(TRIES):
        sample = draw_one(skill, d)
        found.setdefault(prompt_keys(skill, sample)[0], sample)
        if len(found) == rows:
            break
    return found


def schedule(names: list[str], rows: int) -> Iterator[str]:
    """Which skill each training row is of: exact shares, spread evenly through the file."""
    weights = [WEIGHTS.get(name, DEFAULT) for name in names]
    total, credit = sum(weights), [0.0] * len(names)
    for _ in range(rows):
        credit = [have + weight / total for have, weight in zip(credit, weights, strict=True)]
        best = max(range(len(names)), key=credit.__getitem__)
        credit[best] -= 1
        yield names[best]


def training(known: Mapping[str, Skill], seed: int, rows: int, taken: set[str]) -> Iterator[tuple[Skill, Sample]]:
    """Training samples, none of which holds a prompt that is in `taken`."""
    draws = {name: Draw(Random(f"{seed}/{name}/train"), held=False) for name in known}
    for name in schedule(list(known), rows):
        sample = draw_one(known[name], draws[name])
        while not taken.isdisjoint(prompt_keys(known[name], sample)):
            sample = draw_one(known[name], draws[name])
        yield known[name], sample


def line(record: Mapping[str, Any]) -> str:
    """One record as a line of canonical JSON."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"


def held_record(skill: Skill, sample: Sample) -> dict[str, Any]:
    """A held-out row: the chat, its skill, and other right answers where there are any."""
    record: dict[str, Any] = {"messages": sample.messages, "skill": skill.name}
    return record | ({"accept": list(sample.accept)} if sample.accept else {})


def sizes(out: Path, seed: int, counts: Mapping[str, int], tests: Mapping[str, Mapping[str, Sample]]) -> dict[str, Any]:
    """What the data card says about the two files: rows, bytes, digests, and rows for each skill."""
    files = {}
    for path, rows in (
        (out / "train.jsonl", sum(counts.values())),
        (out / "held_out.jsonl", sum(map(len, tests.values()))),
    ):
        content = path.read_bytes()
        files[path.name] = {"rows": rows, "bytes": len(content), "digest": f"sha256:{sha256(content).hexdigest()}"}
    per_skill = {name: {"train": counts.get(name, 0), "held_out": len(found)} for name, found in tests.items()}
    return {"seed": seed, "files": files, "skills": per_skill}


def generate(out: Path, seed: int, rows: int) -> dict[str, Any]:
    """Write DIR/train.jsonl, DIR/held_out.jsonl and DIR/sizes.json; return what sizes.json holds."""
    out.mkdir(parents=True, exist_ok=True)
    known = skills()
    tests = {name: held_out(skill, seed, HELD_PER_SKILL) for name, skill in known.items()}
    taken = {key for found in tests.values() for key in found}
    records = [held_record(known[name], sample) for name, found in tests.items() for sample in found.values()]
    (out / "held_out.jsonl").write_bytes("".join(map(line, records)).encode())
    counts: Counter[str] = Counter()
    with (out / "train.jsonl").open("wb") as file:
        for skill, sample in training(known, seed, rows, taken):
            counts[skill.name] += 1
            file.write(line({"messages": sample.messages}).encode())
    facts = sizes(out, seed, counts, tests)
    (out / "sizes.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return facts


def main() -> None:
    """Read the command line, write the two files, print their sizes."""
    parser = argparse.ArgumentParser(description="Write the starter model's training and held-out text.")
    parser.add_argument("--out", type=Path, required=True, help="folder for train.jsonl and held_out.jsonl")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=int, default=ROWS, help="training rows (default %(default)s)")
    arguments = parser.parse_args()
    print(json.dumps(generate(arguments.out, arguments.seed, arguments.rows), indent=2))


if __name__ == "__main__":
    main()
