"""Prompts answered side by side: each as if it was alone, in the time that there is."""

from typing import Any

import pytest
import torch

from freehold.tuning import model
from freehold.tuning.decoder import answering
from freehold.tuning.decoder.answering import PIECE, answers, ended
from freehold.tuning.decoder.attention import Rows
from freehold.tuning.decoder.sampling import sample

CPU = torch.device("cpu")
PROMPTS = [
    torch.randint(3, 512, (length,), generator=torch.Generator().manual_seed(length)).tolist()
    for length in (5, PIECE, PIECE + 1, 1)
]


def said(decoder: model.Decoder, most: int = 6, seconds: float = 60.0, ends: tuple[int, ...] = ()) -> list[list[int]]:
    return answers(decoder, PROMPTS, most=most, ends=ends, seconds=seconds, device=CPU)


@torch.no_grad()
def test_each_token_is_the_likeliest(decoder: model.Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "_NUMBERS", 100 * decoder.shape.hidden)
    made = said(decoder)
    assert [len(answer) for answer in made] == [6] * len(PROMPTS)
    for prompt, answer in zip(PROMPTS, made, strict=True):
        ids = torch.tensor([*prompt, *answer])
        logits = decoder(ids, Rows.of([len(ids)], CPU))[len(prompt) - 1 : -1] @ decoder.head.dense(torch.float32).T
        assert answer == logits.argmax(-1).tolist()


def test_an_answer_ends_where_it_ends_while_others_go_on(decoder: model.Decoder) -> None:
    whole = said(decoder)
    end = whole[0][2]
    made = said(decoder, ends=(end,))
    for answer, free in zip(made, whole, strict=True):
        assert answer == (free[: free.index(end) + 1] if end in free else free)
        assert ended(answer, (end,)) == (end in free)


def test_when_time_is_up_there_is_what_there_is(decoder: model.Decoder) -> None:
    whole, made = said(decoder), said(decoder, seconds=0.0)
    assert made == [whole[0][:1]]


def test_texts_of_any_length_are_few_sizes(decoder: model.Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each new size of a product oneDNN makes code, and keeps it."""
    sizes = set()
    attend = answering.Room.attend

    def attending(room: answering.Room, q: Any, k: Any, v: Any, **how: Any) -> Any:
        sizes.add((len(q), room._room))
        return attend(room, q, k, v, **how)

    monkeypatch.setattr(answering.Room, "attend", attending)
    said(decoder, most=40)
    assert sizes == {(new, room) for new in (PIECE, 1) for room in (PIECE, 2 * PIECE)}


def test_chance_has_no_part_in_it(decoder: model.Decoder) -> None:
    before = torch.get_rng_state()
    made = said(decoder)
    assert torch.equal(torch.get_rng_state(), before)
    draw = torch.Generator().manual_seed(1)
    assert [made[0]] == sample(decoder, PROMPTS[0], count=1, most=6, ends=(), draw=draw, temperature=1e-5)
