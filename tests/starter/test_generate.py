"""The generator: the same bytes everywhere, well-formed chats, and held-out rows that training never saw."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from generate import draw_one, generate, held_out, prompt_keys, schedule
from text import skills
from text.kit import Draw, Retry, Sample, Skill, chat, normalise
from text.weights import WEIGHTS

from .conftest import ROWS, STARTER, Text

NAMES = sorted(WEIGHTS)


def users(row: dict) -> list[str]:
    return [message["content"] for message in row["messages"] if message["role"] == "user"]


def contents(rows: list[dict]) -> list[str]:
    return [message["content"] for row in rows for message in row["messages"]]


def run(folder: Path, hash_seed: str) -> list[bytes]:
    command = [sys.executable, str(STARTER / "generate.py"), "--out", str(folder), "--seed", "7", "--rows", "600"]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"PYTHONHASHSEED": hash_seed})
    return [(folder / name).read_bytes() for name in ("train.jsonl", "held_out.jsonl", "sizes.json")]


def test_the_same_seed_gives_the_same_bytes_whatever_the_hash_seed(tmp_path: Path):
    assert run(tmp_path / "a", "1") == run(tmp_path / "b", "2")


def test_another_seed_gives_other_rows(tmp_path: Path, text: Text):
    generate(tmp_path, seed=2, rows=200)
    other = (tmp_path / "train.jsonl").read_bytes()
    assert other.splitlines() != (text.folder / "train.jsonl").read_bytes().splitlines()[:200]


def test_more_rows_begin_with_the_same_rows(tmp_path: Path, text: Text):
    generate(tmp_path, seed=1, rows=300)
    few, many = ((folder / "train.jsonl").read_bytes().splitlines() for folder in (tmp_path, text.folder))
    assert few == many[:300]


def test_sizes_are_those_of_the_files(text: Text):
    assert text.sizes == json.loads((text.folder / "sizes.json").read_text())
    for name, rows in (("train.jsonl", text.train), ("held_out.jsonl", text.held_out)):
        content = (text.folder / name).read_bytes()
        facts = text.sizes["files"][name]
        assert facts["rows"] == len(rows)
        assert facts["bytes"] == len(content)
        assert facts["digest"] == "sha256:" + hashlib.sha256(content).hexdigest()


def test_every_module_with_a_skill_is_found_and_weighted():
    assert sorted(skills()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_skill_has_its_share_of_rows_and_sixty_held_out(name: str, text: Text):
    expected = ROWS * WEIGHTS[name] / sum(WEIGHTS.values())
    assert text.sizes["skills"][name]["train"] == pytest.approx(expected, abs=2)
    assert len(text.of(name)) == text.sizes["skills"][name]["held_out"] == 60


def test_the_schedule_spreads_skills_evenly():
    order = list(schedule(NAMES, 1000))
    for start in range(0, 1000, 250):
        assert set(order[start : start + 250]) == set(NAMES)


def test_rows_are_canonical_json(text: Text):
    for name in ("train.jsonl", "held_out.jsonl"):
        for line in (text.folder / name).read_text(encoding="utf-8").splitlines():
            assert line == json.dumps(json.loads(line), ensure_ascii=False, separators=(",", ":"))


def test_chats_alternate_and_end_with_an_answer(text: Text):
    for row in text.train + text.held_out:
        roles = [message["role"] for message in row["messages"]]
        turns = roles[1:] if roles[0] == "system" else roles
        assert turns == ["user", "assistant"] * (len(turns) // 2)
        assert turns
        assert all(set(message) == {"role", "content"} for message in row["messages"])


def test_training_rows_hold_nothing_but_messages(text: Text):
    assert {tuple(row) for row in text.train} == {("messages",)}
    assert {tuple(row) for row in text.held_out} == {("messages", "skill"), ("messages", "skill", "accept")}


def test_no_slot_is_left_open_and_spacing_is_clean(text: Text):
    for content in contents(text.train + text.held_out):
        assert content == content.strip()
        assert content
        assert not re.search(r"\{[a-zA-Z_0-9]*\}", content)
    assert not [answer for row in text.train if "  " in (answer := row["messages"][-1]["content"])]


def test_rows_are_short_enough_for_the_context(text: Text):
    sizes = [sum(len(message["content"]) for message in row["messages"]) for row in text.train]
    assert max(sizes) < 1200
    assert 120 < sum(sizes) / len(sizes) < 220


def test_answers_use_the_right_article(text: Text):
    answers = [row["messages"][-1]["content"] for row in text.train]
    wrong = [answer for answer in answers if re.search(r"\ba [aeio][a-z]+\b(?<!\ba one)", answer)]
    wrong += [answer for answer in answers if re.search(r"\b[Aa]n (?!hour|LLM)[bcdfgjklmnpqrstvwxyz]", answer)]
    assert wrong == []


def test_the_vocabulary_is_modest(text: Text):
    words = Counter(re.findall(r"\b[a-z]{2,}\b", " ".join(contents(text.train))))
    assert sum(count >= 5 for count in words.values()) < 3500


def test_prompts_are_varied(text: Text):
    assert len({json.dumps(row) for row in text.train}) > 0.9 * len(text.train)


def keys(row: dict, system: bool) -> set[str]:
    said = users(row)
    whole = [message["content"] for message in row["messages"][:-1]] if system else said
    return {normalise(" ".join(whole)), *([] if system else map(normalise, said))}


def test_no_held_out_prompt_is_in_the_training_rows(text: Text):
    trained = set().union(*(keys(row, system=False) for row in text.train))
    for row in text.held_out:
        if row["skill"] != "persona":
            assert normalise(" ".join(users(row))) not in trained


def test_no_held_out_shop_is_in_the_training_rows(text: Text):
    systems = {row["messages"][0]["content"] for row in text.train}
    assert all(row["messages"][0]["content"] not in systems for row in text.of("persona"))


def test_held_out_prompts_differ_from_each_other(text: Text):
    for name in NAMES:
        found = {normalise(" ".join(m["content"] for m in row["messages"][:-1])) for row in text.of(name)}
        assert len(found) == 60


def test_a_taken_prompt_is_drawn_again():
    made = iter(("seen", "seen", "new"))
    skill = Skill("toy", lambda d: Sample(chat(next(made), "yes")), "exact")
    d = Draw(Random(1), held=False)
    first = draw_one(skill, d)
    assert prompt_keys(skill, first) == ["seen", "seen"]


def test_held_out_stops_when_a_skill_runs_dry():
    skill = Skill("toy", lambda d: Sample(chat(d.pick(("one", "two")), "yes")), "exact")
    assert sorted(held_out(skill, seed=1, rows=60)) == ["one", "two"]


def test_a_skill_without_samples_is_an_error():
    def never(d: Draw) -> Sample:
        raise Retry

    with pytest.raises(SystemExit, match="toy"):
        draw_one(Skill("toy", never, "exact"), Draw(Random(1), held=True))
