"""The loss curve is drawn, and its numbers are those of the run."""

import csv
from pathlib import Path

import pytest

from freehold.tuning.job import HeldOutLoss
from freehold.tuning.plot import compare, draw, write_numbers

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


def coloured(path: Path, colour: tuple[int, int, int]) -> int:
    """Pixels of a colour."""
    import numpy as np
    from PIL import Image

    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return int((abs(pixels - np.array(colour)).sum(-1) < 30).sum())


@pytest.mark.parametrize("several", [False, True])
def test_what_rewards_make_negative_is_drawn_too(tmp_path: Path, several: bool) -> None:
    def drawn(name: str, sign: int) -> int:
        losses, held_out = [sign * loss for loss in LOSSES], [HeldOutLoss(p.step, sign * p.loss) for p in HELD_OUT]
        if several:
            curve = dict(enumerate(losses)), {point.step: point.loss for point in held_out}
            compare({"a": curve}, tmp_path / name)
            return coloured(tmp_path / name, (31, 119, 180))
        draw(losses, held_out, tmp_path / name)
        return coloured(tmp_path / name, (255, 127, 14))

    assert drawn("below.png", -1) > 0.6 * drawn("above.png", 1) > 100


def test_a_run_without_steps_and_one_that_was_resumed_late(tmp_path: Path) -> None:
    write_numbers([], [HeldOutLoss(0, 2.0)], tmp_path / "none.csv")
    assert (tmp_path / "none.csv").read_text().splitlines()[1:] == ["0,,2.0,"]
    write_numbers([3.0, 2.0], [], tmp_path / "norms.csv", norms=[0.5])
    assert (tmp_path / "norms.csv").read_text().splitlines()[1:] == ["0,3.0,,0.5", "1,2.0,,", "2,,,"]
    draw([], [], tmp_path / "none.png")
    compare({"late": ({7: 1.0, 8: 0.5}, {}), "none": ({}, {})}, tmp_path / "late.png")
    assert (tmp_path / "late.png").read_bytes().startswith(b"\x89PNG")
