"""Ask a model folder the held-out questions and score it: `python starter/measure.py MODEL HELD_OUT.jsonl`.

The answers come from the engine that serves the model, greedy, from its GGUF. The figures are printed and, with
`--report starter/report.json`, written for the model card.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from score import read_lines, right, score

from freehold import convert, data
from freehold.core.settings import Settings
from freehold.engines.base import ModelFile
from freehold.engines.llamacpp import LlamaCpp
from freehold.proofs.evaluate import evaluate

MAX_TOKENS = 200
PARALLEL = 1
"""Answers at a time: one, so that the figures are the same every time."""


async def answers(gguf: Path, held_out: Path, home: Path) -> list[str]:
    """The model's answers, in the order of the questions."""
    settings = Settings(home=home, context_length=1024, parallel=PARALLEL)
    worker = await LlamaCpp().start(ModelFile(gguf, "starter"), settings)
    try:
        found = await evaluate(worker, data.read_rows(held_out), max_tokens=MAX_TOKENS, parallel=PARALLEL)
    finally:
        await worker.stop()
    return [answer.answer for answer in found.answers]


def measure(model: Path, held_out: Path, kind: str = "") -> tuple[dict[str, Any], list[str]]:
    """The scores of the model folder `model`, quantised to `kind` when given, and its answers."""
    with tempfile.TemporaryDirectory() as folder:
        gguf = Path(folder, "model.gguf")
        convert.to_gguf(model, gguf)
        if kind:
            convert.quantize(gguf, Path(folder, "small.gguf"), kind)
            gguf = Path(folder, "small.gguf")
        said = asyncio.run(answers(gguf, held_out, Path(folder)))
    return score(read_lines(held_out), said), said


def show_wrong(rows: list[dict[str, Any]], said: list[str]) -> None:
    """Print the wrong answers beside what was wanted."""
    for row, answer in zip(rows, said, strict=True):
        if not right(row, answer):
            question, reference = (message["content"] for message in row["messages"][-2:])
            print(f"[{row['skill']}] {question!r}\n  wanted {reference!r}\n  got    {answer!r}")


def main() -> None:
    """Measure, print, and write the report when asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("held_out", type=Path)
    parser.add_argument("--quantize", default="", metavar="TYPE")
    parser.add_argument("--report", type=Path)
    parser.add_argument("--wrong", action="store_true", help="print the wrong answers")
    arguments = parser.parse_args()
    scores, said = measure(arguments.model, arguments.held_out, arguments.quantize)
    if arguments.wrong:
        show_wrong(read_lines(arguments.held_out), said)
    for skill, figures in (*scores["skills"].items(), ("overall", scores["overall"])):
        print(f"{skill:12} {figures['right']:4} of {figures['rows']:4}  {figures['share']:.1%}")
    if arguments.report:
        known = json.loads(arguments.report.read_text("utf-8")) if arguments.report.exists() else {}
        arguments.report.write_text(json.dumps(known | {"scores": scores}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
