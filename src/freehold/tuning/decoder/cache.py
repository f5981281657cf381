"""Keys and values of what was read, so that text can be continued token by token."""

import torch
from torch import Tensor


class Cache:
    """Stands where the layout of packed rows does: `rows` texts of the same length, each of which sees itself alone.

    Every layer in turn adds its keys and values for the new tokens, [rows * new tokens, heads, size].
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.rows, self.length = device, 1, 0
        self.positions = torch.zeros(0, dtype=torch.long, device=device)
        self.lengths = self.positions
        """Of the row that each new token is of."""
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._layer = 0

    def begin(self, new: int) -> None:
        """Before the decoder reads `new` tokens of each row."""
        self._layer = 0
        self.positions = torch.arange(self.length, self.length + new, device=self.device).repeat(self.rows)
        self.length += new
        self.lengths = torch.full_like(self.positions, self.length)

    def spread(self, rows: int) -> None:
        """Go on from the one text in as many ways."""
        self.rows = rows
        for parts in (self._keys, self._values):
            parts[:] = [part.expand(rows, -1, -1, -1).contiguous() for part in parts]

    def attend(self, q: Tensor, k: Tensor, v: Tensor, *, scale: float, window: int = 0, cap: float = 0.0) -> Tensor:
        """[rows * new, heads, size] -> [rows * new, heads * size]."""
        tokens, heads, _ = q.shape
        q, k, v = (part.view(self.rows, -1, *part.shape[1:]).transpose(1, 2) for part in (q, k, v))
        k, v = self._joined(self._keys, k), self._joined(self._values, v)
        self._layer += 1
        repeat = heads // k.shape[1]
        k, v = (part.repeat_interleave(repeat, 1) for part in (k, v))
        scores = (q @ k.transpose(2, 3)).float().mul_(scale)
        if cap:
            scores = (scores / cap).tanh_().mul_(cap)
        out = torch.softmax(scores.masked_fill_(~self._seen(q.shape[2], window), float("-inf")), -1).to(v.dtype) @ v
        return out.transpose(1, 2).reshape(tokens, -1)

    def _joined(self, parts: list[Tensor], new: Tensor) -> Tensor:
        if self._layer == len(parts):
            parts.append(new)
        else:
            parts[self._layer] = torch.cat([parts[self._layer], new], 2)
        return parts[self._layer]

    def _seen(self, new: int, window: int) -> Tensor:
        """Which tokens each new one sees, [new, length]."""
        at = torch.arange(self.length - new, self.length, device=self.device)[:, None]
        other = torch.arange(self.length, device=self.device)
        return (other <= at) & (other > at - (window or self.length))
