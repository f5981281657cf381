"""Last screens and tables: what people read when something is done, and what they are told to type next."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold.cli import _makeview as view
from freehold.cli._outlook import described, print_outlook
from freehold.cli._sizes import parse_size
from freehold.convert.outlook import Candidate, Outlook
from freehold.core.errors import BadInput
from freehold.engines.base import Fit
from freehold.recipes.outcome import Measured, Outcome, scores
from freehold.recipes.steps.gate import Condition
from tests.cli.conftest import Freehold, assert_refused

KIND = Condition("token F1 gained over the base", "tuned", 0.4, 0.0, True)
LOSS = Condition("token F1 lost in quantising", "Q4_K_M", 0.05, 0.03, False)


def outcome(**fields: Any) -> Outcome:
    usual: dict[str, Any] = {
        "name": "desk", "released": "Q4_K_M", "passed": True, "conditions": (KIND,),
        "measured": (
            Measured("base", 0.125, 0.0, 496_000, 50.4, 30), Measured("tuned", 0.5, 0.25, 9_990_000, 49.6, 30),
        ),
        "names": {"desk": "sha256:1", "desk:weights": "sha256:2"}, "evidence": {}, "folder": Path("/runs/desk"),
        "training": {}, "notes": (), "question": "Where is it?", "seconds": 125.0,
    }  # fmt: skip
    return Outcome(**(usual | fields))


def test_a_model_that_is_ready(capsys: pytest.CaptureFixture[str]) -> None:
    view.show_outcome(outcome())
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "desk is ready: tuned, measured, quantised and released in 2 min 5 s."
    head = next(number for number, line in enumerate(lines) if line.startswith("model"))
    assert lines[head + 1].split() == ["base", "0.125", "0.0%", "496", "kB", "50"]
    assert lines[head + 2].split() == ["tuned", "0.500", "25.0%", "10.0", "MB", "50"]
    assert "Measured on 30 held-out questions that were not learned from." in lines
    assert f"  {KIND.line()}" in lines
    said = dict(line.strip().split("  ", 1) for line in lines[-6:])
    assert {name: value.strip() for name, value in said.items()} == {
        "names": "desk, desk:weights",
        "manifest": "sha256:1",
        "data card": "/runs/desk/data-card.md",
        "loss curve": "/runs/desk/loss.png",
        "every answer": "/runs/desk/answers-Q4_K_M.json",
        "journal": "/runs/desk/journal.jsonl",
    }


def test_a_model_of_vectors(capsys: pytest.CaptureFixture[str]) -> None:
    figures = {"recall_at_1": 0.25, "recall_at_10": 0.75, "mrr": 0.5, "ndcg_at_10": 0.6}
    found = outcome(measured=(Measured("tuned", None, None, 496_000, 50.4, 30, figures),))
    view.show_outcome(found)
    lines = capsys.readouterr().out.splitlines()
    head = next(number for number, line in enumerate(lines) if line.startswith("model"))
    assert lines[head].split() == ["model", "recall@1", "recall@10", "MRR", "nDCG@10", "size", "tokens/s"]
    assert lines[head + 1].split() == ["tuned", "0.250", "0.750", "0.500", "0.600", "496", "kB", "50"]
    assert "Measured on 30 held-out pairs of texts that were not learned from." in lines
    assert scores(found.measured[0]) == {**figures, "size": 496_000, "tokens_per_second": 50.4, "rows": 30}
    view.show_next(found)
    said = capsys.readouterr().out.splitlines()
    assert said[2] == "  freehold serve"
    assert '/v1/embeddings --json \'{"model": "desk"' in said[3]


def test_a_model_that_the_gate_kept(capsys: pytest.CaptureFixture[str]) -> None:
    kept = outcome(passed=False, names={}, conditions=(KIND, LOSS))
    view.show_outcome(kept)
    shown = capsys.readouterr().out
    assert "desk was not released: the gate was not passed. The name is as it was before." in shown
    assert "FAILED by 0.020" in shown
    assert "manifest" not in shown
    assert "names" not in shown
    assert kept.failures() == [LOSS.line()]


QUESTIONS = [
    "Where is it?",
    'He said "no"',
    "a\n\tb",
    "word " * 40,
    "x" * 200,
    "$(date) $HOME \\ !! 'x'",
    "Is $5 too much? `date`",
    "",
    "It's",
]


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_to_type_next_is_one_command(capsys: pytest.CaptureFixture[str], question: str) -> None:
    view.show_next(outcome(name="org/desk:v1", question=question))
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["", "Next"]
    assert lines[-1] == "  freehold serve"
    assert len(lines) == 4, "the question stays on its line"
    done = subprocess.run(["sh", "-c", f"printf '%s\\n' {lines[2]}"], capture_output=True, text=True, check=True)
    *words, asked = done.stdout.splitlines()
    assert words == ["freehold", "run", "org/desk:v1"]
    assert asked == " ".join(question.split()) or (asked.endswith(" …") and len(asked) <= 80), (
        "and nothing of it is run"
    )


def fit(context: int, needed: int, available: int = 4_000_000_000) -> Fit:
    return Fit(needed // 2, needed // 4, needed - needed // 2 - needed // 4, available, context)


ROOMY = Outlook(900_000_000, 4, (fit(4096, 1_000_000_000), fit(32768, 5_000_000_000)), ())
TIGHT = Outlook(
    7_000_000_000, 1, (fit(4096, 8_000_000_000),),
    (
        Candidate("Q6_K", 5_000_000_000, fit(4096, 6_000_000_000)),
        Candidate("Q3_K_M", 3_000_000_000, fit(4096, 3_500_000_000)),
    ),
)  # fmt: skip


def test_a_model_that_fits(capsys: pytest.CaptureFixture[str]) -> None:
    print_outlook(ROOMY)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "memory, 4 conversations at a time; 4.0 GB free"
    assert lines[2].split() == ["CONTEXT", "WEIGHTS", "CACHE", "SCRATCH", "IN", "ALL", "HERE"]
    assert lines[3].split() == ["4096", "500", "MB", "250", "MB", "250", "MB", "1.0", "GB", "fits"]
    assert lines[4].endswith("1.0 GB too much")
    assert len(lines) == 5, "no advice where none is needed"


def test_a_model_that_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    print_outlook(TIGHT)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "memory, 1 conversation at a time; 4.0 GB free"
    assert lines[-1] == "Q3_K_M would fit: 3.0 GB on the disk, 3.5 GB in memory"
    print_outlook(Outlook(7_000_000_000, 1, TIGHT.fits, TIGHT.smaller[:1]))
    assert capsys.readouterr().out.endswith("no quantisation of it fits here\n")


def test_the_same_for_programs() -> None:
    told = described(TIGHT)
    assert {key: told[key] for key in ("size", "slots", "available", "advice")} == {
        "size": 7_000_000_000, "slots": 1, "available": 4_000_000_000, "advice": "Q3_K_M",
    }  # fmt: skip
    [context] = told["contexts"]
    assert context["needed"] == context["weights"] + context["cache"] + context["scratch"] == 8_000_000_000
    assert [(each["quantization"], each["fits"]) for each in told["smaller"]] == [("Q6_K", False), ("Q3_K_M", True)]
    assert described(ROOMY)["advice"] is None
    json.dumps(told)


@given(st.integers(0, 10**12), st.sampled_from(["", "K", "M", "G", "k", "m", "g"]), st.sampled_from(["", "B", "b"]))
def test_a_size_means_its_number_of_bytes(number: int, unit: str, end: str) -> None:
    power = " KMG".index(unit.upper() or " ")
    assert parse_size(f"{number}{unit}{end}") == number * 1000**power
    if unit:
        assert parse_size(f" {number} {unit}i{end}") == number * 1024**power


@given(st.text(st.sampled_from("0123456789.KMGTiB -+e"), max_size=12))
def test_any_text_is_a_size_or_is_refused(text: str) -> None:
    try:
        found = parse_size(text)
    except BadInput as error:
        said = error.line()
    else:
        assert 0 <= found < 1 << 120
        return
    assert said.startswith("not a size: ")


def test_a_copy_to_a_name_and_to_a_folder(inside: Freehold, tiny: str, tmp_path: Path) -> None:
    assert inside("cp", "tiny", "org/two:v1", "--dry-run").stdout == "would copy tiny to org/two:v1\n"
    assert "two" not in inside("list").stdout
    assert inside("cp", "tiny", "org/two:v1").stdout == "copied tiny to org/two:v1\n"
    one, two = (json.loads(inside("show", name, "--json").stdout)["digest"] for name in ("tiny", "org/two:v1"))
    assert one == two
    assert inside("cp", "tiny", "./out", "--dry-run").returncode == 0
    assert not (tmp_path / "out").exists()
    told = json.loads(inside("cp", "tiny", "./out", "--json").stdout)
    assert told == {"from": "tiny", "to": "./out", "digest": one, "dry_run": False}
    assert (tmp_path / "out/tiny.gguf").is_file()
    assert_refused(inside("cp", "tiny", "./out"), "exists", "empty or new")
    (tmp_path / "file").touch()
    assert_refused(inside("cp", "tiny", "./file"), "exists")
    assert_refused(inside("cp", "tiny", "a b", "--dry-run"), "not a model name")
    assert_refused(inside("cp", "nope", "two"), "nope")


def test_a_store_under_a_quota_says_how_much_is_left(
    inside: Freehold, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FREEHOLD_QUOTA", "5000000")
    assert inside("du").stdout.splitlines()[-1].endswith(" of 5.0 MB allowed")
    assert json.loads(inside("du", "--json").stdout)["quota"] == 5_000_000


def test_keys_are_made_once_and_can_be_encrypted(
    inside: Freehold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = json.loads(inside("keygen", "plain", "--json").stdout)
    assert (plain["private"], plain["encrypted"], len(plain["hint"])) == ("plain", False, 64)
    assert (tmp_path / "plain").stat().st_mode & 0o077 == 0
    monkeypatch.setenv("FREEHOLD_KEY_PASSPHRASE", "open sesame")
    secret = json.loads(inside("keygen", "secret", "--json").stdout)
    assert secret["encrypted"]
    assert secret["hint"] != plain["hint"]
    assert b"ENCRYPTED" in (tmp_path / "secret").read_bytes()
    (tmp_path / "data.bin").write_bytes(b"x")
    told = json.loads(inside("sign", "./data.bin", "--key", "secret", "--dry-run", "--json").stdout)
    assert (told["signed"], told["key"], told["dry_run"]) == ("./data.bin", secret["hint"], True)
    assert not (tmp_path / "data.bin.sig").exists()
    assert inside("sign", "./data.bin", "--key", "secret", "--out", "there.sig").returncode == 0
    assert_refused(inside("verify", "./data.bin", "--key", "secret.pub"), "is not signed")
    assert inside("verify", "./data.bin", "--key", "secret.pub", "--signature", "there.sig").returncode == 0
    assert_refused(inside("verify", "./data.bin", "--key", "plain.pub", "--signature", "there.sig"), "there.sig")
    monkeypatch.setenv("FREEHOLD_KEY_PASSPHRASE", "open barley")
    assert_refused(inside("sign", "./data.bin", "--key", "secret"), "secret")
    monkeypatch.delenv("FREEHOLD_KEY_PASSPHRASE")
    assert_refused(inside("sign", "./data.bin", "--key", "secret"), "FREEHOLD_KEY_PASSPHRASE")


def test_the_version_for_programs(inside: Freehold) -> None:
    from freehold import __version__

    assert json.loads(inside("version", "--json").stdout)["version"] == __version__


def test_no_server_is_told_for_programs_too(inside: Freehold) -> None:
    assert json.loads(inside("ps", "--json").stdout) == {"server": None, "workers": [], "loading": []}
    shown = inside("ps")
    assert shown.stdout.split() == ["NAME", "TASK", "MEMORY", "CONTEXT", "BUSY", "SERVED"]
    assert "freehold serve" in shown.stderr
    assert inside("ps", "-q").stderr == ""


def test_a_recipe_is_written_once(inside: Freehold, tmp_path: Path) -> None:
    asked = {
        "Where is the parcel of {}": ["Ann", "Ben", "Cid", "Dora", "Eve"],
        "When does the {} open": ["gate", "shop", "hall", "pool", "park"],
        "May I bring {} along": ["dogs", "bikes", "food", "music", "plants"],
        "How much are {} here": ["maps", "keys", "pens", "cups", "hats"],
    }
    lines = [f"{form.format(thing)}?,About {thing}." for form, things in asked.items() for thing in things]
    lines += lines[:3]
    (tmp_path / "desk.csv").write_text("\n".join(["question,answer", *lines]) + "\n")
    assert_refused(inside("make"), "either a recipe or --new")
    assert_refused(inside("make", "desk.toml", "--new", "desk.csv"), "either a recipe or --new")
    told = inside("make", "--new", "desk.csv", "--dry-run")
    assert told.stdout.startswith("would write desk.toml, which makes the model 'desk'")
    assert not (tmp_path / "desk.toml").exists()
    made = json.loads(inside("make", "--new", "desk.csv", "--json").stdout)
    assert (made["recipe"], made["name"]) == ("desk.toml", "desk")
    assert any(text.startswith("3 exact repetitions") for text in made["wrong"]), "those that are there twice"
    assert 'path = "desk.csv"' in (tmp_path / "desk.toml").read_text("utf-8")
    assert_refused(inside("make", "--new", "desk.csv"), "desk.toml exists", "freehold make desk.toml")
