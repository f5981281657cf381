"""EleutherAI's evaluation harness: the same accuracy through the server as with its torch backend."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import freehold.assets
from tests.clients import harness

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

PACKAGES = ("lm_eval[api]==0.4.13", "torch==2.13.0", "transformers==5.24.0", "accelerate==1.15.0", "datasets==5.2.0")
STARTER = Path(freehold.assets.__file__).with_name("starter")
QUESTIONS = 60
TASK = """
task: facts
dataset_path: json
dataset_kwargs:
  data_files:
    test: {questions}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{text}}}}"
doc_to_choice: choices
doc_to_target: answer
metric_list:
  - metric: acc
  - metric: acc_norm
"""


class Found(NamedTuple):
    """What one run of the harness found."""

    scores: dict[str, Any]
    likelihoods: list[list[float]]


def questions() -> Iterator[dict[str, Any]]:
    """Passages that say who has what in which colour, and a question about one of them."""
    draw = random.Random(5)
    names, things = ["Anna", "Omar", "Lucia", "Peter", "Mei"], ["bag", "bicycle", "coat", "cup", "door"]
    colours = ["red", "blue", "green", "yellow", "black", "white"]
    for _ in range(QUESTIONS):
        people, choices = draw.sample(names, 3), draw.sample(colours, 4)
        thing, answer = draw.choice(things), draw.randrange(3)
        said = " ".join(f"{name} has a {colour} {thing}." for name, colour in zip(people, choices, strict=False))
        asked = f"{said} What colour is the {thing} of {people[answer]}?"
        text = f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\nIt is"
        yield {"text": text, "choices": choices, "answer": answer}


@pytest.fixture(scope="module")
def python(request: pytest.FixtureRequest) -> Path:
    return harness.interpreter(request.config, "lm_eval", "0.4.13", PACKAGES)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("task")
    lines = "".join(json.dumps(question) + "\n" for question in questions())
    (folder / "questions.jsonl").write_text(lines)
    (folder / "facts.yaml").write_text(TASK.format(questions=folder / "questions.jsonl"))
    return folder


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("home")
    freehold = [sys.executable, "-m", "freehold", "convert", str(STARTER), "--to", "f32", "--as", "exact"]
    subprocess.run([*freehold, "--home", str(home)], check=True, capture_output=True)
    with harness.running(home) as address:
        yield f"{address}/v1/completions"


def run(python: Path, task: Path, kind: str, arguments: str) -> Found:
    """One run of the harness, which can reach nothing but this machine."""
    out = task / kind
    command = [python, "-m", "lm_eval", "--model", kind, "--model_args", arguments, "--tasks", "facts"]
    command += ["--include_path", task, "--output_path", out, "--log_samples"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(task / "cache")}
    environment = {"PATH": os.environ["PATH"], "HOME": str(task), "OMP_NUM_THREADS": "2", **offline}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    results, samples = next(out.rglob("results_*.json")), next(out.rglob("samples_*.jsonl"))
    rows = sorted(map(json.loads, samples.read_text().splitlines()), key=lambda row: row["doc_id"])
    likelihoods = [[float(answer[0]) for answer in row["filtered_resps"]] for row in rows]
    return Found(json.loads(results.read_text())["results"]["facts"], likelihoods)


def test_the_same_accuracy_as_with_torch(python: Path, task: Path, address: str) -> None:
    limits = f"tokenizer={STARTER},max_length=1024"
    ours = run(python, task, "local-completions", f"model=exact,base_url={address},num_concurrent=4,{limits}")
    torch = run(python, task, "hf", f"pretrained={STARTER},dtype=float32,{limits}")
    assert len(ours.likelihoods) == QUESTIONS
    for metric in ("acc,none", "acc_norm,none"):
        assert ours.scores[metric] == torch.scores[metric]
    assert 0.3 < ours.scores["acc,none"] <= 1, "the model does better than chance"
    apart = [abs(a - b) for one, two in zip(ours.likelihoods, torch.likelihoods, strict=True) for a, b in zip(one, two)]  # noqa: B905
    assert max(apart) < 1e-3
