"""Room that one matrix after another is made in."""

import torch
from torch import Tensor


class Buffers:
    """Room for matrices of one model, one at a time: a buffer for each type, as large as the largest."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._buffers: dict[torch.dtype, Tensor] = {}

    def buffer(self, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
        """Room for a matrix, [rows, columns]; what it held before is gone."""
        found = self._buffers.get(dtype)
        if found is None or found.numel() < rows * columns:
            found = self._buffers[dtype] = torch.empty(rows * columns, dtype=dtype, device=self.device)
        return found[: rows * columns].view(rows, columns)
