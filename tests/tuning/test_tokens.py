"""Ids and weights that are given are what is learned."""

from collections.abc import Callable
from pathlib import Path

import pytest

from freehold.core.errors import BadData, BadModelFile
from freehold.data.rows import read_rows
from freehold.tuning.job import TrainJob
from freehold.tuning.launch import train
from freehold.tuning.model import chat_template, tokenizer
from freehold.tuning.objectives.tokens import Tokens, read, write
from freehold.tuning.render import Renderer
from tests.tuning.test_objectives import Run, run

__all__ = ["run"]


def test_rows_come_back(tmp_path: Path) -> None:
    rows = (Tokens((1, 2, 3), (0.0, 1.0, 0.5)), Tokens((4,), (1.0,), True))
    write(tmp_path / "rows.jsonl", rows)
    assert read(tmp_path / "rows.jsonl") == rows


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2"),
        ('{"ids": [1, 2], "weights": [1]}', "line 2 has not one weight for each id"),
        ('{"ids": [], "weights": []}', "line 2 has not one weight"),
        ('{"ids": [-1], "weights": [1]}', "line 2"),
        ('{"ids": [1], "weights": [2]}', "line 2"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"ids": [1], "weights": [1]}\n' + line + "\n")
    with pytest.raises(BadData, match=said):
        read(path)


@pytest.mark.slow
def test_they_are_learned_as_the_same_rows_rendered(job: Callable[..., TrainJob], base: Path, tmp_path: Path) -> None:
    chats = job(steps=3, out=tmp_path / "chats", held_out=None)
    template, names = chat_template(base)
    renderer = Renderer(tokenizer(base), template, max_length=chats.max_length, prompt_weight=0.0, **names)
    samples = renderer.samples(read_rows(chats.train))
    write(tmp_path / "rows.jsonl", [Tokens(tuple(each.ids), tuple(each.weights), each.cut) for each in samples])
    given = job(steps=3, out=tmp_path / "tokens", held_out=None, objective="tokens", train=tmp_path / "rows.jsonl")
    first, second = train(chats, lambda report: None), train(given, lambda report: None)
    assert first.losses == second.losses
    assert first.gradient_norms == second.gradient_norms
    assert len(first.gradient_norms) == 3
    assert all(norm > 0 for norm in first.gradient_norms)


@pytest.mark.parametrize("where", ["train", "held_out"])
def test_tokens_that_the_base_does_not_know_are_refused(
    job: Callable[..., TrainJob], base: Path, run: Run, tmp_path: Path, where: str
) -> None:
    """As of a tokenizer to which a notebook added some."""
    files = {name: tmp_path / f"{name}.jsonl" for name in ("train", "held_out")}
    for name, path in files.items():
        write(path, [Tokens((1, 2), (1, 1)), Tokens((299, 300 if name == where else 299), (1, 1))])
    with pytest.raises(BadModelFile, match=rf"the rows have token 300, and {base.name} knows only 300"):
        run(job(objective="tokens", **files))
