"""What `freehold tune` asks of the trainer, keeps, prints and writes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from freehold.cli import main
from freehold.cli._planview import recommended
from freehold.core.errors import NotEnoughMemory
from freehold.core.name import Name
from freehold.core.settings import load
from freehold.recipes import tools
from freehold.serving import ready
from freehold.store import Store
from freehold.tuning.job import Progress, TrainJob, TrainPlan
from tests.recipes.kit import Fakes, pairs, write_csv


@pytest.fixture
def command(workshop: Path, home: Path, fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a command whose trainer and engine are the fakes."""
    monkeypatch.setattr(tools, "real", fakes.tools)
    monkeypatch.chdir(workshop)
    return workshop


def tuned(capsys: pytest.CaptureFixture[str], *more: str, code: int = 0) -> tuple[str, str]:
    """What is printed on stdout and stderr."""
    capsys.readouterr()
    assert main.run(["tune", "./base", "desk.csv", *more]) == code
    shown = capsys.readouterr()
    return shown.out, shown.err


def names() -> list[str]:
    with Store.open(load({}).store) as store:
        return [str(entry.name) for entry in store.list()]


def test_an_adapter_and_how_to_run_it(command: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = tuned(capsys, "--out", "desk")
    lines = out.splitlines()
    assert lines[0] == "desk is tuned: 100 tokens in 0 s."
    said = dict(line.strip().split("  ", 1) for line in lines if line.startswith("  ") and "freehold" not in line)
    assert said["loss"].strip() == "2.000 at the first step, 1.000 at the last"
    assert "held-out loss" not in said, "the trainer measured none"
    assert said["speed"].endswith("tokens/s, computed in f32")
    curve = Path(said["loss curve"].strip())
    assert {path.name for path in curve.parent.iterdir()} >= {"loss.png", "data-card.md", "journal.jsonl"}
    assert lines[-2:] == ["  freehold pull ./base --as base", '  freehold run base+desk "…"']
    assert main.run(lines[-2].split()[1:]) == 0
    with Store.open(load({}).store) as store:
        assert ready.source(store, "base+desk").adapter_file().exists(), "and it runs so"
    assert "[3/3] tune" in err
    with Store.open(load({}).store) as store:
        assert store.get(Name.parse("desk")).part("adapter")


def test_a_whole_model_runs_alone(command: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = tuned(capsys, "--out", "org/desk:v1", "--method", "full")
    assert out.splitlines()[-1] == '  freehold run org/desk:v1 "…"'
    assert names() == ["org/desk:v1"]


@pytest.mark.parametrize(
    ("base", "out", "said"),
    [
        ("my base", "desk", ["freehold pull 'my base' --as base", 'freehold run base+desk "…"']),
        ("../workshop/base", "desk", ["freehold pull ../workshop/base --as base", 'freehold run base+desk "…"']),
        ("kept", "desk", ['freehold run kept+desk "…"']),
    ],
)
def test_what_to_type_next_can_be_typed(
    command: Path, capsys: pytest.CaptureFixture[str], base: str, out: str, said: list[str]
) -> None:
    if base == "kept":
        assert main.run(["pull", "./base", "--as", "kept"]) == 0
    elif base == "my base":
        (command / "base").rename(command / "my base")
    capsys.readouterr()
    assert main.run(["tune", base, "desk.csv", "--out", out]) == 0
    assert [line.strip() for line in capsys.readouterr().out.splitlines()][-len(said) :] == said


OPTIONS: list[tuple[list[str], dict[str, Any]]] = [
    (
        ["--rank", "3", "--alpha", "6", "--learning-rate", "0.01", "--seed", "7", "--steps", "9", "--batch", "4",
         "--max-length", "64", "--dtype", "f32", "--checkpointing", "on", "--offload", "on", "--threads", "1",
         "--patience", "20"],
        {"rank": 3, "alpha": 6.0, "learning_rate": 0.01, "seed": 7, "steps": 9, "batch": 4, "max_length": 64,
         "dtype": "f32", "checkpointing": "on", "offload": "on", "threads": 1, "patience": 20, "evaluations": 22},
    ),
    (
        ["--time", "1m30s", "--batch-tokens", "512", "--patience", "2"],
        {"seconds": 90.0, "batch_tokens": 512, "patience": 2, "evaluations": 10, "method": "lora", "rank": 16},
    ),
    (["--epochs", "2.5", "--method", "rslora"], {"epochs": 2.5, "method": "rslora", "objective": "sft", "steps": 0}),
    (
        ["--objective", "grpo", "--reward", "maths", "--reward", "regex:^It", "--alpha", "3", "--checkpointing", "off"],
        {"objective": "grpo", "rewards": ("maths", "regex:^It"), "alpha": 3.0, "checkpointing": "off"},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("options", "asked"), OPTIONS, ids=["many", "time", "epochs", "rewards"])
def test_each_option_reaches_the_trainer(
    command: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str], options: list[str], asked: dict[str, Any]
) -> None:
    tuned(capsys, "--out", "desk", *options)
    [job] = fakes.jobs
    assert {key: getattr(job, key) for key in asked} == asked


def test_how_many_rows_are_held_out(command: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    for number, (share, rows) in enumerate((("0.5", 36), ("9", 9))):
        seen: list[int] = []
        fakes.during_training = lambda job, seen=seen: seen.append(  # type: ignore[misc]
            len(job.held_out.read_bytes().splitlines()) - 1
        )
        tuned(capsys, "--out", f"desk{number}", "--held-out", share)
        assert abs(seen[0] - rows) <= 1


def test_it_is_not_done_twice(command: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    first, _ = tuned(capsys, "--out", "desk")
    second, err = tuned(capsys, "--out", "desk")
    assert second == first
    assert err.count("done before") == 3
    assert fakes.calls == ["train"]
    tuned(capsys, "--out", "desk", "--seed", "5")
    assert fakes.calls == ["train", "train"]


def test_rows_that_changed_are_learned_anew(command: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    tuned(capsys, "--out", "desk")
    write_csv(command / "desk.csv", pairs()[:40])
    tuned(capsys, "--out", "desk")
    assert fakes.calls == ["train", "train"]


def test_as_json_and_as_a_report(command: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = tuned(capsys, "--out", "desk", "--json", "--report", "figures.json")
    told = json.loads(out)
    assert err == ""
    assert told["losses"] == [2.0, 1.0]
    assert told["settings"]["rank"] == 16
    assert json.loads((command / "figures.json").read_text("utf-8")) == told
    with Store.open(load({}).store) as store:
        assert told["digest"] == str(store.get(Name.parse("desk")).digest)


def test_quiet_says_nothing(command: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tuned(capsys, "--out", "desk", "-q") == ("", "")
    assert names() == ["desk"]


def test_a_plan_tries_each_method_and_keeps_nothing(
    command: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = tuned(capsys, "--plan", "--steps", "5")
    head, *rows, advice = [line.split() for line in out.splitlines()]
    assert head == ["method", "steps", "tokens", "time", "tokens/s", "memory", "private", "checkpointing"]
    assert rows == [
        [method, "5", "500", "0.2", "min", "50", "1.0", "MB", "524", "kB", "off"]
        for method in ("lora", "qlora", "dora", "full")
    ]
    assert advice[:4] == ["Take", "lora", "(--method", "lora):"]
    assert err.count("rows to learn from") == 1
    jobs = [(job.method, job.base_dtype) for job in fakes.jobs]
    assert jobs == [("lora", "stored"), ("lora", "nf4"), ("dora", "stored"), ("full", "stored")]
    assert all(job.probe > 0 and job.steps == 5 for job in fakes.jobs)
    assert "train" not in fakes.calls
    assert names() == []
    told = json.loads(tuned(capsys, "--plan", "--json")[0])
    assert {method: each["tokens"] for method, each in told.items()} == dict.fromkeys(told, 500)
    assert [method for method, each in told.items() if each["recommended"]] == ["lora"]


def test_a_plan_is_of_the_methods_that_are_named(
    command: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = tuned(capsys, "--plan", "--method", "dora", "--method", "rslora")
    assert [line.split()[0] for line in out.splitlines()] == ["method", "dora", "rslora", "Take"]
    assert out.splitlines()[-1].startswith("Take dora")


def test_a_method_that_cannot_be_spoils_no_plan(
    command: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fakes._plan

    def refusing(job: TrainJob, on_progress: Callable[[Progress], None]) -> TrainPlan:
        if job.method == "full":
            raise NotEnoughMemory("tuning needs about 900 MB and 800 MB are free", "Use a smaller base")
        return real(job, on_progress)

    monkeypatch.setattr(fakes, "_plan", refusing)
    out, _ = tuned(capsys, "--plan")
    assert "full cannot be: tuning needs about 900 MB and 800 MB are free" in out.splitlines()
    out, _ = tuned(capsys, "--plan", "--json")
    assert json.loads(out)["full"] == {"impossible": "tuning needs about 900 MB and 800 MB are free"}
    out, err = tuned(capsys, "--plan", "--method", "full", code=2)
    assert (out, err.splitlines()[-1].count("needs about 900 MB")) == ("", 1)


def planned(speed: float, *, checkpointing: bool) -> TrainPlan:
    return TrainPlan(
        steps=1, tokens=1, seconds=1.0, tokens_per_second=speed, peak_rss=1, peak_private=1,
        checkpointing=checkpointing, dtype="f32",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("lora", "qlora", "taken"),
    [
        (planned(10, checkpointing=False), planned(20, checkpointing=False), "lora"),
        (planned(10, checkpointing=True), planned(20, checkpointing=False), "qlora"),
        (planned(10, checkpointing=True), planned(9, checkpointing=False), "lora"),
        (planned(10, checkpointing=True), planned(20, checkpointing=True), "lora"),
    ],
)
def test_four_bits_are_recommended_where_they_make_room(lora: TrainPlan, qlora: TrainPlan, taken: str) -> None:
    assert recommended({"lora": lora, "qlora": qlora})[0] == taken
    assert recommended({"qlora": qlora})[0] == "qlora"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "Give --out NAME"),
        (["--out", "a b"], "not a model name"),
        (
            ["--out", "desk", "--method", "magic"],
            "--method: 'magic' is unknown. Known: lora, rslora, dora, full, scratch",
        ),
        (["--out", "desk", "--objective", "fame"], "--objective: 'fame' is unknown. Known: sft, text, dpo"),
        (["--out", "desk", "--time", "soon"], "'soon' is no span of time"),
        (["--out", "desk", "--time", "5m", "--steps", "3"], "--steps and --time both say how long to tune"),
        (["--out", "desk", "--dtype", "f64"], "--dtype: 'f64' is unknown"),
        (["--out", "desk", "--checkpointing", "maybe"], "--checkpointing: 'maybe' is unknown. Known: auto, on, off"),
        (["--out", "desk", "--held-out", "1.5"], "--held-out is 1.5"),
        (["--out", "desk", "--learning-rate", "nan"], "--learning-rate"),
        (["--plan", "--method", "full", "--time", "-5m"], "time"),
        (["--plan", "--held-out", "1.5"], "--held-out is 1.5"),
        (
            ["--out", "desk", "--objective", "grpo", "--reward", "judge", "--judge", "x"],
            "--reward has judge. Name a model in --judge, and say in --rubric",
        ),
        (
            ["--out", "desk", "--judge", "x"],
            "--judge and --rubric are for rewards that have judge. Give --reward judge",
        ),
        (
            ["--out", "desk", "--rubric", "x"],
            "--judge and --rubric are for rewards that have judge. Give --reward judge",
        ),
        (["--out", "desk", "--log", "paper"], "--log: 'paper' is unknown. Known: tensorboard, wandb, trackio"),
        (
            ["--out", "desk", "--steps", "5", "--epochs", "3"],
            "--steps and --epochs both say how long to tune. Keep one",
        ),
        (["--out", "desk", "--epochs", "0"], "error: --epochs: expected a number > 0.0"),
        (["--out", "desk", "--method", "qlora"], "It is --method lora with --base-dtype nf4"),
        (["--out", "desk", "--method", "full", "--rank", "2", "--rank", "3"], "Give --method lora, rslora or dora"),
        (["--out", "desk", "--report", "none/x.json"], "there is no folder none"),
    ],
)
def test_what_cannot_be_asked(
    command: Path, home: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    out, err = tuned(capsys, *more, code=2)
    assert (out, err.count("\n"), fakes.calls) == ("", 1, [])
    assert said in err
    assert not home.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nobody", "desk.csv"], "nobody"),
        (["./base", "none.csv"], "none.csv. Check DATA"),
        (["./base/config.json", "desk.csv"], "config.json"),
        (["./base", "base"], "base"),
    ],
)
def test_what_is_not_there(
    command: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main.run(["tune", *arguments, "--out", "desk", "-q"]) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert said in shown.err
    assert fakes.calls == []
    assert names() == []


def test_without_the_extra_it_is_named(command: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    fakes.installed = False
    _, err = tuned(capsys, "--out", "desk", code=2)
    assert "pip install 'freehold[tune]'" in err
    assert names() == []


def test_rows_that_lose_their_end_are_told(command: Path, fakes: Fakes, capsys: pytest.CaptureFixture[str]) -> None:
    fakes.cut = 3
    assert "3 rows lose their end" in tuned(capsys, "--out", "desk")[1]
