"""The loss curve, as a picture and as the numbers behind it."""

import csv
from collections.abc import Sequence
from pathlib import Path

from freehold.tuning.job import HeldOutLoss

_SMOOTH = 0.9
"""Share of the running mean that a new loss leaves in place."""


def write_numbers(losses: Sequence[float], held_out: Sequence[HeldOutLoss], path: Path) -> None:
    """CSV with one line per step: step, loss, held_out_loss (empty where it was not measured)."""
    measured = {point.step: point.loss for point in held_out}
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["step", "loss", "held_out_loss"])
        for step in range(len(losses) + 1):
            loss = repr(losses[step]) if step < len(losses) else ""
            rows.writerow([step, loss, repr(measured[step]) if step in measured else ""])


def draw(losses: Sequence[float], held_out: Sequence[HeldOutLoss], path: Path) -> None:
    """PNG of the loss per step, its running mean, and the held-out loss."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(losses, color="0.8", linewidth=0.8, label="each step")
    axes.plot(_smooth(losses), color="tab:blue", label="running mean")
    if held_out:
        axes.plot([p.step for p in held_out], [p.loss for p in held_out], "o-", color="tab:orange", label="held out")
    axes.set(xlabel="step", ylabel="loss (nats per token)", title="Training loss")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path, metadata={"Software": None})


def _smooth(losses: Sequence[float]) -> list[float]:
    means: list[float] = []
    total = weight = 0.0
    for loss in losses:
        total = _SMOOTH * total + (1 - _SMOOTH) * loss
        weight = _SMOOTH * weight + (1 - _SMOOTH)
        means.append(total / weight)
    return means
