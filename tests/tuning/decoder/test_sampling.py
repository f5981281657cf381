"""Drawn answers: what is read token by token is what is read at once."""

import torch

from freehold.tuning import model
from freehold.tuning.decoder.attention import Rows
from freehold.tuning.decoder.cache import Cache
from freehold.tuning.decoder.sampling import sample

CPU = torch.device("cpu")
PROMPT = torch.randint(3, 512, (11,), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_reading_on_is_reading_at_once(decoder: model.Decoder) -> None:
    more = torch.randint(3, 512, (3, 4), generator=torch.Generator().manual_seed(2))
    wanted = [decoder(torch.cat([PROMPT, row]), Rows.of([15], CPU))[11:] for row in more]
    cache = Cache(CPU)
    cache.begin(len(PROMPT))
    decoder(PROMPT, cache)
    cache.spread(3)
    got = []
    for column in more.unbind(1):
        cache.begin(1)
        got.append(decoder(column, cache))
    torch.testing.assert_close(torch.stack(got, 1), torch.stack(wanted), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_likeliest_is_drawn_when_nothing_is_left_to_chance(decoder: model.Decoder) -> None:
    draw = torch.Generator().manual_seed(1)
    one, other = sample(decoder, PROMPT.tolist(), count=2, most=6, ends=(), draw=draw, temperature=1e-4)
    assert one == other
    ids = PROMPT
    for token in one:
        logits = decoder(ids, Rows.of([len(ids)], CPU))[-1] @ decoder.head.dense(torch.float32).T
        assert token == logits.argmax()
        ids = torch.cat([ids, torch.tensor([token])])


def test_answers_end_where_they_end_and_are_the_same_for_the_same_seed(decoder: model.Decoder) -> None:
    def drawn(seed: int, ends: set[int]) -> list[list[int]]:
        draw = torch.Generator().manual_seed(seed)
        return sample(decoder, PROMPT.tolist(), count=8, most=12, ends=ends, draw=draw, temperature=2.0)

    whole = drawn(1, set())
    assert drawn(1, set()) == whole != drawn(2, set())
    assert all(len(row) == 12 for row in whole)
    ends = {row[4] for row in whole}
    for cut, row in zip(drawn(1, ends), whole, strict=True):
        assert cut == row[: len(cut)]
        assert cut[-1] in ends
        assert not ends & set(cut[:-1])
