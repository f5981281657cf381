"""Memory beside the length of a row: each token of context costs the same, and with checkpointing far less."""

import random
from pathlib import Path

import pytest

from freehold.data.rows import Document, write_rows
from freehold.tuning.job import TrainJob, TrainResult
from freehold.tuning.launch import train
from tests.convert.torchmodels import write_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SHORT = 256
KILO = 1024
WORDS = ("the", "key", "of", "Ann", "lamp", "and", "map", "Ben", "has", "a", "ring", "for", "Dora")
MARGIN = 1.15
"""What the allocator may add, by chance."""


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Layers so wide that a token's numbers outweigh all else, with few heads, which most of the time goes to."""
    folder = tmp_path_factory.mktemp("wide") / "base"
    write_model(
        folder, "Llama", hidden_size=256, intermediate_size=768, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=64, max_position_embeddings=32 * KILO, tie_word_embeddings=True,
    )  # fmt: skip
    return folder


def tuned(base: Path, folder: Path, tokens: int, checkpointing: str) -> TrainResult:
    """A step on one row of so many tokens, and one on what is left of the text."""
    draw = random.Random(1)
    write_rows(folder / f"{tokens}.jsonl", [Document(" ".join(draw.choices(WORDS, k=tokens)))])
    job = TrainJob(
        out=folder / f"{tokens}-{checkpointing}", base=base, train=folder / f"{tokens}.jsonl", objective="text",
        batch_tokens=tokens, max_length=tokens, batch=1, steps=1, rank=4, dtype="f32", threads=1,
        checkpointing=checkpointing, evaluations=0,
    )  # fmt: skip
    result = train(job, lambda progress: None)
    assert result.tokens == tokens
    return result


def test_a_token_costs_the_same_in_a_long_row(wide: Path, tmp_path: Path) -> None:
    peaks = {n: tuned(wide, tmp_path, n, "off").peak_private for n in (SHORT, 4 * KILO, 8 * KILO, 16 * KILO)}
    each = {n: (peak - peaks[SHORT]) / (n - SHORT) for n, peak in peaks.items() if n > SHORT}
    print({n: round(cost) for n, cost in each.items()}, peaks)
    assert each[8 * KILO] < MARGIN * each[4 * KILO]
    assert each[16 * KILO] < MARGIN * each[8 * KILO]


def test_thirty_two_thousand_tokens_with_checkpointing(wide: Path, tmp_path: Path) -> None:
    kept = tuned(wide, tmp_path, 8 * KILO, "off")
    short, frugal, longest = (tuned(wide, tmp_path, n * KILO, "on") for n in (1, 8, 32))
    print([result.peak_private for result in (kept, short, frugal, longest)])
    assert frugal.peak_private < kept.peak_private
    each = [(result.peak_private - short.peak_private) / result.tokens for result in (frugal, longest)]
    assert each[1] < MARGIN * each[0]
