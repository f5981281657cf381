"""'freehold data' looks at a file before anything is made of it."""

import json
from pathlib import Path

import pytest

from freehold.core.digest import Digest
from freehold.core.manifest import Lineage, Manifest
from freehold.core.name import Name
from freehold.core.settings import load
from freehold.data.checks import Found
from freehold.proofs import data_card
from freehold.store import Store
from tests.cli.conftest import Freehold, assert_refused
from tests.data.conftest import PAIRS

GOOD = "question,answer\n" + "".join(f'"{q}","{a}"\n' for q, a in PAIRS)
LAST = len(PAIRS) + 1


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    path = tmp_path / "desk.csv"
    path.write_text(GOOD)
    return path


def test_a_file_that_is_well(inside: Freehold, desk: Path) -> None:
    done = inside("data", "check", "desk.csv")
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("desk.csv: csv, chat rows\n")
    assert "assumed: user text is in column 'question'" in done.stdout
    assert done.stdout.endswith("nothing is wrong with it\n")
    quiet = inside("data", "check", "desk.csv", "-q")
    assert quiet.stdout.count("\n") == 3


def test_everything_that_is_wrong_is_said_at_once(inside: Freehold, desk: Path) -> None:
    desk.write_text(f'{GOOD}a,b,c\n"Who?",""\n"Mail?","ann@example.org"\n"Mail?","ann@example.org"\nd\n')
    done = inside("data", "check", "desk.csv")
    assert done.returncode == 1
    wrong = done.stdout.split("\n\n")[-1].splitlines()
    assert [line.split()[0] for line in wrong] == ["refused", "dropped", "dropped", "kept"]
    assert f"(line {LAST + 1}: has 3 fields where the header has 2; line {LAST + 5}: has 1 fields" in wrong[0]
    assert f"1 row without question or answer is left out (line {LAST + 2})" in wrong[1]
    assert f"1 exact repetition is left out (line {LAST + 4})" in wrong[2]
    assert f"1 row holds e-mail addresses (line {LAST + 3})" in wrong[3]
    assert "ann@" not in done.stdout


def test_the_same_for_programs(inside: Freehold, desk: Path) -> None:
    desk.write_text(GOOD + "a,b,c\n")
    done = inside("data", "check", "desk.csv", "--json", "--base", "starter")
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert (said["format"], said["kind"], said["records"]) == ("csv", "chat", LAST)
    assert said["base"]["template"] == "ChatML"
    [finding] = said["findings"]
    assert (finding["check"], finding["action"], finding["rows"]) == ("broken", "refused", 1)
    assert finding["named"] == [{"line": LAST + 1, "reason": "has 3 fields where the header has 2"}]
    assert said["facts"]["tokens.rows"] == len(PAIRS)
    assert sum(said["tables"]["tokens"].values()) == len(PAIRS)


def test_few_rows_are_a_finding_and_no_rows_are_wrong_input(inside: Freehold, desk: Path) -> None:
    desk.write_text("question,answer\nHow?,So.\n")
    done = inside("data", "check", "desk.csv")
    assert done.returncode == 1
    assert "1 usable row: at least 10 are needed" in done.stdout
    desk.write_text("question,answer\n")
    assert_refused(inside("data", "check", "desk.csv"), "desk.csv has no rows")
    assert_refused(inside("data", "check", "none.csv"), "no such file: none.csv")


def test_a_file_that_is_held_out(inside: Freehold, desk: Path) -> None:
    question, answer = PAIRS[3]
    (desk.parent / "exam.csv").write_text(f"question,answer\n{question.upper()},{answer}\n")
    done = inside("data", "check", "desk.csv", "--held-out", "exam.csv")
    assert done.returncode == 1
    assert "1 row to learn from asks what is held out too" in done.stdout
    assert "(line 5: the question of held-out row 2)" in done.stdout


def test_columns_and_kind_can_be_named(inside: Freehold, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n" + "".join(f'"{q}","{a}"\n' for q, a in PAIRS))
    assert_refused(inside("data", "check", "x.csv"), "no column is known to hold the user's text; columns: a, b")
    named = ("--column", "user=a", "--column", "assistant=b")
    assert inside("data", "check", "x.csv", *named).returncode == 0
    shown = inside("data", "check", "x.csv", *named, "--kind", "prompt")
    assert "prompt rows" in shown.stdout
    assert_refused(inside("data", "check", "x.csv", "--column", "user"), "'user' is no ROLE=NAME")
    assert_refused(inside("data", "check", "x.csv", *named, "--kind", "dpo"), "unknown kind 'dpo'")


def test_a_recipe_says_how_its_data_is_read(inside: Freehold, desk: Path) -> None:
    desk.write_text(f'{GOOD}"Mail?","ann@example.org"\n')
    recipe = desk.parent / "desk.toml"
    text = '[model]\nname = "desk"\n[data]\npath = "desk.csv"\npii = "mask"\n[tune]\nmax_length = 20\n'
    recipe.write_text(text)
    done = inside("data", "check", "desk.toml")
    assert "read by starter, chat template: ChatML" in done.stdout
    assert "masked   1 row holds e-mail addresses: masked as [email]" in done.stdout
    assert "rows are longer than 20 tokens and lose the end" in done.stdout
    shown = inside("data", "show", "desk.toml", "--row", str(LAST + 1))
    assert "[email]" in shown.stdout
    recipe.write_text(text.replace('path = "desk.csv"', 'generator = "make.py"'))
    assert_refused(inside("data", "check", "desk.toml"), "has a generator in place of a data file")


def test_a_row_as_the_base_reads_it(inside: Freehold, desk: Path) -> None:
    done = inside("data", "show", "desk.csv", "--base", "starter", "--row", "3")
    question, answer = PAIRS[1]
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("desk.csv line 3, chat row, as starter reads it\nchat template: ChatML (")
    assert f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n⟦{answer}<|im_end|>⟧\n" in done.stdout
    assert "\x1b" not in done.stdout
    first = inside("data", "show", "desk.csv")
    assert PAIRS[0][0] in first.stdout
    assert_refused(inside("data", "show", "desk.csv", "--row", "99"), "no usable row at line 99")


def test_a_terminal_gets_colours(
    inside: Freehold, desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    desk.write_text(GOOD.replace("Open My Loans", "Open \x1b[31mMy Loans"))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    done = inside("data", "show", "desk.csv")
    assert "\x1b[1;32mOpen [31mMy Loans and press Renew.<|im_end|>\x1b[0m" in done.stdout
    monkeypatch.setenv("NO_COLOR", "1")
    assert "⟦Open" in inside("data", "show", "desk.csv").stdout


def test_a_row_for_programs(inside: Freehold, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "How?", "chosen": "So.", "rejected": "No."}\n')
    said = json.loads(inside("data", "show", "p.jsonl", "--json").stdout)
    assert (said["kind"], said["template"], said["line"]) == ("preference", "ChatML", 1)
    learned = [piece["text"] for each in said["readings"] for piece in each["pieces"] if piece["state"] == "learned"]
    assert learned == ["So.<|im_end|>", "No.<|im_end|>"]


def test_a_base_that_is_none(inside: Freehold, desk: Path) -> None:
    assert_refused(inside("data", "check", "desk.csv", "--base", "nobody"), "nobody")


def test_a_base_that_is_a_gguf_file(inside: Freehold, desk: Path, tiny: str) -> None:
    done = inside("data", "show", "desk.csv", "--base", tiny)
    assert done.returncode == 0
    assert "counts in the loss" in done.stdout


def test_the_card_of_a_file(inside: Freehold, desk: Path) -> None:
    done = inside("data", "card", "desk.csv")
    assert done.returncode == 0
    assert done.stdout.startswith("# Data card\n")
    assert Digest.of_file(desk).text in done.stdout
    assert "- Where it comes from: nobody said." in done.stdout


def test_the_card_of_the_data_that_a_model_was_made_of(inside: Freehold, home: Path) -> None:
    sides = data_card.Sides(Digest.of_bytes(b"rows"))
    with Store.open(load({}).store) as store:
        part = store.add_bytes(b"{}")
        content = data_card.evidence(sides, Found(facts={"rows": 7}), {"kind": "chat"}, {})
        manifest = Manifest(parts=(), lineage=Lineage(data=(part,)), evidence=(part, store.add_bytes(content)))
        store.put(Name.parse("mine"), manifest)
        store.put(Name.parse("other"), Manifest(parts=(), evidence=(part,)))
    assert "| rows | 7 | verified |" in inside("data", "card", "mine").stdout
    assert_refused(inside("data", "card", "other"), "nothing is known of the data that other was made of")
    assert_refused(inside("data", "card", "nobody"), "nobody")


def test_make_new_says_what_is_wrong(inside: Freehold, desk: Path) -> None:
    desk.write_text(f'{GOOD}"Mail?","ann@example.org"\n"Nobody?",""\n')
    done = inside("make", "--new", "desk.csv")
    assert f"  found: 1 row without question or answer is left out (line {LAST + 2})" in done.stderr
    assert f"  found: 1 row holds e-mail addresses (line {LAST + 1})" in done.stderr
    assert "# pii =" in (desk.parent / "desk.toml").read_text()
