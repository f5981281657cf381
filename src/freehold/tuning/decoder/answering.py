"""Some prompts answered side by side, each token the likeliest, by a model that is otherwise trained.

Products have few sizes here: for each new one oneDNN makes code, which takes longer than the product and is never
forgotten. So there is room for a whole text from the start, prompts are read in pieces of one size, and texts that are
over are gone on with for as long as others are not.
"""

import time
from collections.abc import Collection, Iterator, Sequence

import torch
from torch import Tensor

from freehold.tuning.decoder.cache import Cache
from freehold.tuning.decoder.model import Network
from freehold.tuning.decoder.weights import Matrix, Pieced

PIECE = 128
"""Tokens of a prompt that are read at a time."""
_NUMBERS = 1 << 24
"""Of the head that are made dense at a time."""


class Room(Cache):
    """Keys and values of one text, with room for so many tokens."""

    def __init__(self, room: int, device: torch.device) -> None:
        super().__init__(device)
        self._room = room

    def cut(self, length: int) -> None:
        """Go on behind so many tokens, as if no more had been read."""
        self.length = length

    def _joined(self, parts: list[Tensor], new: Tensor) -> Tensor:
        if self._layer == len(parts):
            parts.append(new.new_zeros(*new.shape[:2], self._room, new.shape[3]))
        parts[self._layer][:, :, self.length - new.shape[2] : self.length] = new
        return parts[self._layer]

    def _seen(self, new: int, window: int) -> Tensor:
        at = torch.arange(self.length - new, self.length, device=self.device)[:, None]
        other = torch.arange(self._room, device=self.device)
        return (other <= at) & (other > at - (window or self._room))


class Abreast(Cache):
    """Several texts, of each of which one token is read at a time."""

    def __init__(self, texts: Sequence[Cache], device: torch.device) -> None:
        super().__init__(device)
        self._texts = texts

    def begin(self, new: int) -> None:
        """Before the decoder reads `new` tokens of each."""
        for text in self._texts:
            text.begin(new)
        self.positions = torch.cat([text.positions for text in self._texts])
        self.lengths = torch.cat([text.lengths for text in self._texts])

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int = 0, cap: float = 0.0) -> Tensor:
        """Each by itself: they are of different lengths."""
        count = len(self._texts)
        parts = zip(self._texts, q.chunk(count), k.chunk(count), v.chunk(count), strict=True)
        return torch.cat([text.attend(*part, scale=scale, window=window, cap=cap) for text, *part in parts])


@torch.no_grad()
def answers(
    decoder: Network,
    prompts: Sequence[Sequence[int]],
    *,
    most: int,
    ends: Collection[int],
    seconds: float,
    device: torch.device,
) -> list[list[int]]:
    """The likeliest continuations, of at most `most` tokens, each with the token of `ends` that ended it.

    After `seconds` there is what there is by then: at least a token, and of prompts at least the first.
    """
    begun = time.monotonic()
    read: list[tuple[Room, Tensor]] = []
    for prompt in prompts:
        if read and time.monotonic() - begun > seconds / 2:
            break
        read.append(_read(decoder, prompt, most, device))
    made: list[list[int]] = [[] for _ in read]
    rows = Abreast([room for room, _ in read], device)
    hidden = torch.cat([last for _, last in read])
    while True:
        chosen = _likeliest(hidden, decoder.head)
        for answer, token in zip(made, chosen.tolist(), strict=True):
            if not ended(answer, ends):
                answer.append(token)
        over = max(map(len, made)) >= most or all(ended(answer, ends) for answer in made)
        if over or time.monotonic() - begun > seconds:
            return made
        rows.begin(1)
        hidden = decoder(chosen, rows)


def ended(answer: Sequence[int], ends: Collection[int]) -> bool:
    """Whether the model itself ended it."""
    return bool(answer) and answer[-1] in ends


def _read(decoder: Network, prompt: Sequence[int], most: int, device: torch.device) -> tuple[Room, Tensor]:
    """What a prompt leaves, and the hidden state of its last token, [1, hidden]."""
    room = Room(-(-(len(prompt) + most) // PIECE) * PIECE, device)
    hidden = torch.empty(0)
    for begin in range(0, len(prompt), PIECE):
        part = prompt[begin : begin + PIECE]
        room.begin(PIECE)
        # Nobody sees the tokens that fill it up: they are behind all others, and written over.
        hidden = decoder(torch.tensor([*part, *[0] * (PIECE - len(part))], device=device), room)
    room.cut(len(prompt))
    last = (len(prompt) - 1) % PIECE
    return room, hidden[last : last + 1].clone()


def _likeliest(hidden: Tensor, head: Matrix) -> Tensor:
    """The token behind each state, [rows]. A scale or a cap of logits makes no other the likeliest, and is left out."""
    best, chosen = hidden.new_full((len(hidden),), float("-inf"), dtype=torch.float32), None
    for begin, part in _pieces(head, hidden.dtype):
        value, place = (hidden @ part.T).float().max(1)
        place += begin
        chosen = place if chosen is None else torch.where(value > best, place, chosen)
        best = torch.maximum(best, value)
    if chosen is None:
        raise ValueError("a head without tokens")
    return chosen


def _pieces(head: Matrix, dtype: torch.dtype) -> Iterator[tuple[int, Tensor]]:
    """Of a head that is cast or dequantised no whole copy is made."""
    if isinstance(head, Pieced):
        return head.pieces(dtype, max(1, _NUMBERS // head.shape[1]))
    return iter([(0, head.dense(dtype))])
