"""Class codes, as they stand in labels, to class indices, as losses want them, and back."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geoxt.errors import LabelWarning

IGNORE = -100
"""The index of pixels that neither loss nor metric counts (torch's own default)."""
_SHOWN = 12
"""Codes that a warning lists, at most."""


class Codes(nn.Module):
    """Maps codes to their position in a list of codes; any other code becomes `IGNORE`.

    A code of no class is warned of once, unless it says that nothing is known: a negative one, or `nodata`.

    Parameters
    ----------
    codes
        Of the classes, in their order.
    nodata
        The code that stands for "no label", if there is one.

    Examples
    --------
    >>> import torch
    >>> codes = Codes([11, 42, 7])
    >>> codes(torch.tensor([7, 11, -1]))
    tensor([   2,    0, -100])
    >>> codes.decode(torch.tensor([2, 0]))
    tensor([ 7, 11])
    """

    def __init__(self, codes: Sequence[int], *, nodata: int | None = None) -> None:
        super().__init__()
        self.nodata = nodata
        self._told: set[int] = set()
        table = torch.tensor(list(codes), dtype=torch.int64)
        self.codes: Tensor
        self.order: Tensor
        self.ordered: Tensor
        self.register_buffer("codes", table, persistent=False)
        ordered, order = table.sort()
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("ordered", ordered, persistent=False)

    def forward(self, mask: Tensor, known: Tensor | None = None) -> Tensor:
        """Return the class index of every pixel, int64, of the shape of `mask`; `IGNORE` where it is not known."""
        place = torch.searchsorted(self.ordered, mask.contiguous()).clamp_(max=len(self.ordered) - 1)
        named = self.ordered[place] == mask
        strange = ~named & (mask >= 0) if known is None else ~named & (mask >= 0) & known
        if bool(strange.any()):
            self._warn(set(torch.unique(mask[strange]).tolist()))
        return torch.where(named if known is None else named & known, self.order[place], IGNORE)

    def decode(self, indices: Tensor) -> Tensor:
        """Return the code of every class index."""
        return self.codes[indices]

    def _warn(self, found: set[int]) -> None:
        new = sorted(found - self._told - {self.nodata})
        if not new:
            return
        self._told |= set(new)
        codes, classes = (", ".join(map(str, some[:_SHOWN])) + ", …" * (len(some) > _SHOWN)
                          for some in (new, self.codes.tolist()))  # fmt: skip
        msg = f"Labels hold {codes}, codes of none of the classes {classes}: neither learnt from nor scored. Pass "
        msg += "card(legend=) one that has them; or, if they mean that nothing is known, mark them as not valid."
        warnings.warn(msg, LabelWarning, stacklevel=2)
