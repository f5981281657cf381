"""The loss curve, as a picture and as the numbers behind it."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from freehold.tuning.job import HeldOutLoss

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = tuple[Mapping[int, float], Mapping[int, float]]
"""Losses and held-out losses by step."""
_SMOOTH = 0.9
"""Share of the running mean that a new loss leaves in place."""


def write_numbers(
    losses: Sequence[float], held_out: Sequence[HeldOutLoss], path: Path, norms: Sequence[float] = ()
) -> None:
    """CSV with one line per step: step, loss, held_out_loss, gradient_norm (empty where it was not measured)."""
    measured = {point.step: point.loss for point in held_out}
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["step", "loss", "held_out_loss", "gradient_norm"])
        for step in range(len(losses) + 1):
            loss = repr(losses[step]) if step < len(losses) else ""
            norm = repr(norms[step]) if step < len(norms) else ""
            rows.writerow([step, loss, repr(measured[step]) if step in measured else "", norm])


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
    _floor(axes, [*losses, *(point.loss for point in held_out)])
    axes.legend()
    figure.savefig(path, metadata={"Software": None})


def compare(curves: Mapping[str, Curve], path: Path) -> None:
    """PNG of several runs' losses in one picture: running means as lines, held-out losses as points."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    for number, (name, (losses, held_out)) in enumerate(curves.items()):
        colour = f"C{number % 10}"
        # A resumed run's log can begin late: the steps are those that were seen.
        axes.plot(list(losses), _smooth([*losses.values()]), color=colour, label=name)
        if held_out:
            axes.plot(list(held_out), list(held_out.values()), "o--", color=colour, label=f"{name}, held out")
    axes.set(xlabel="step", ylabel="loss (nats per token)", title="Training loss, running mean")
    _floor(axes, [loss for curve in curves.values() for part in curve for loss in part.values()])
    axes.legend()
    figure.savefig(path, format="png", metadata={"Software": None})


def _floor(axes: "Axes", losses: Sequence[float]) -> None:
    """Begin at zero, unless rewards made losses negative."""
    if min(losses, default=0.0) >= 0:
        axes.set_ylim(bottom=0)


def _smooth(losses: Sequence[float]) -> list[float]:
    means: list[float] = []
    total = weight = 0.0
    for loss in losses:
        total = _SMOOTH * total + (1 - _SMOOTH) * loss
        weight = _SMOOTH * weight + (1 - _SMOOTH)
        means.append(total / weight)
    return means
