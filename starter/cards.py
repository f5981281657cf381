"""Fill the generated parts of the two cards: `python starter/cards.py --sizes DIR/sizes.json [--report report.json]`.

sizes.json is written by generate.py; report.json holds what score.py printed under "scores" and, under "training",
plain facts of the training run. Only the text between a card's markers changes.
"""

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


def table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def size_section(sizes: Mapping[str, Any]) -> str:
    """The files and the rows of each skill."""
    files = [
        (name, f"{facts['rows']:,}", f"{facts['bytes']:,}", facts["digest"]) for name, facts in sizes["files"].items()
    ]
    skills = [(name, f"{rows['train']:,}", rows["held_out"]) for name, rows in sizes["skills"].items()]
    return "\n\n".join(
        (
            f"Made with seed {sizes['seed']}.",
            table(("file", "rows", "bytes", "digest"), files),
            table(("skill", "training rows", "held-out rows"), skills),
        )
    )


def score_section(report: Mapping[str, Any]) -> str:
    """The scores of each skill, and the facts of the training run where there are any."""
    scores = report["scores"]
    rows = [(name, s["rows"], s["right"], f"{s['share']:.1%}", s["rule"]) for name, s in scores["skills"].items()]
    whole = scores["overall"]
    rows.append(("all", whole["rows"], whole["right"], f"{whole['share']:.1%}", ""))
    parts = [table(("skill", "questions", "right", "share", "rule"), rows)]
    parts += [table(("rule", "an answer is right when it is"), list(scores["rules"].items()))]
    facts = report.get("training", {})
    return "\n\n".join([*parts, *([table(("training", ""), list(facts.items()))] if facts else [])])


def filled(card: str, name: str, section: str) -> str:
    """The card with one generated section replaced; raises ValueError when the card lacks its markers."""
    pattern = re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    found, count = pattern.subn(lambda match: f"{match[1]}\n{section}\n\n{match[2]}", card)
    if count != 1:
        raise ValueError(f"the card has {count} sections called {name}; one is needed")
    return found


def fill(path: Path, name: str, section: str) -> None:
    """Replace one generated section of a card file."""
    path.write_text(filled(path.read_text(encoding="utf-8"), name, section), encoding="utf-8")


def main() -> None:
    """Read the command line and fill the cards."""
    parser = argparse.ArgumentParser(description="Fill the generated parts of the starter model's cards.")
    parser.add_argument("--sizes", type=Path, help="sizes.json of generate.py")
    parser.add_argument("--report", type=Path, help="report.json with the scores")
    arguments = parser.parse_args()
    if arguments.sizes:
        fill(HERE / "DATA_CARD.md", "sizes", size_section(json.loads(arguments.sizes.read_text(encoding="utf-8"))))
    if arguments.report:
        fill(HERE / "MODEL_CARD.md", "scores", score_section(json.loads(arguments.report.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
