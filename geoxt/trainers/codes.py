"""Class codes, as they stand in labels, to class indices, as losses want them, and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

IGNORE = -100
"""The index of pixels that neither loss nor metric counts (torch's own default)."""


class Codes(nn.Module):
    """Maps codes to their position in a list of codes; any other code becomes `IGNORE`.

    Examples
    --------
    >>> import torch
    >>> codes = Codes([11, 42, 7])
    >>> codes(torch.tensor([7, 11, 0]))
    tensor([   2,    0, -100])
    >>> codes.decode(torch.tensor([2, 0]))
    tensor([ 7, 11])
    """

    def __init__(self, codes: Sequence[int]) -> None:
        super().__init__()
        table = torch.tensor(list(codes), dtype=torch.int64)
        self.codes: Tensor
        self.order: Tensor
        self.ordered: Tensor
        self.register_buffer("codes", table, persistent=False)
        ordered, order = table.sort()
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("ordered", ordered, persistent=False)

    def forward(self, mask: Tensor) -> Tensor:
        """Return the class index of every pixel, int64, of the shape of `mask`."""
        place = torch.searchsorted(self.ordered, mask.contiguous()).clamp_(max=len(self.ordered) - 1)
        return torch.where(self.ordered[place] == mask, self.order[place], IGNORE)

    def decode(self, indices: Tensor) -> Tensor:
        """Return the code of every class index."""
        return self.codes[indices]
