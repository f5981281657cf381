"""The loss curve is drawn, and its numbers are those of the run."""

import csv
from pathlib import Path

from freehold.tuning.job import HeldOutLoss
from freehold.tuning.plot import draw, write_numbers

LOSSES, HELD_OUT = [3.0, 2.0, 1.5], [HeldOutLoss(0, 3.5), HeldOutLoss(3, 1.25)]


def test_numbers_are_those_of_the_run(tmp_path: Path) -> None:
    write_numbers(LOSSES, HELD_OUT, tmp_path / "loss.csv")
    rows = list(csv.DictReader((tmp_path / "loss.csv").read_text().splitlines()))
    assert [float(row["loss"]) for row in rows if row["loss"]] == LOSSES
    assert {int(row["step"]): float(row["held_out_loss"]) for row in rows if row["held_out_loss"]} == {0: 3.5, 3: 1.25}


def test_the_picture_is_a_png_and_always_the_same(tmp_path: Path) -> None:
    draw(LOSSES, HELD_OUT, tmp_path / "a.png")
    draw(LOSSES, HELD_OUT, tmp_path / "b.png")
    data = (tmp_path / "a.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    assert data == (tmp_path / "b.png").read_bytes()
    assert len(data) > 5000
