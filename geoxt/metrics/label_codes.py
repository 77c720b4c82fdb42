"""Conversion of class codes, as labels hold them, to class indices, as losses and metrics take them, and back."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geoxt.errors import LabelWarning

IGNORE = -100
"""Class index of pixels that losses and metrics leave out (torch's default `ignore_index`)."""
_MAX_LISTED = 12
"""Maximum number of codes in a warning."""


class Codes(nn.Module):
    """Maps class codes to class indices, their positions in `codes`; other codes become `IGNORE`.

    One warning is issued for each code that is not a class, unless it means "unknown": a negative code, or `nodata`.

    Parameters
    ----------
    codes
        Class codes, in the order of the model's channels.
    nodata
        Code of pixels without a label.

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
        self._warned: set[int] = set()
        table = torch.tensor(list(codes), dtype=torch.int64)
        self.codes: Tensor
        self.order: Tensor
        self.ordered: Tensor
        self.register_buffer("codes", table, persistent=False)
        ordered, order = table.sort()
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("ordered", ordered, persistent=False)

    def forward(self, mask: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return class indices, int64, of the shape of `mask`; `IGNORE` for other codes and invalid pixels."""
        position = torch.searchsorted(self.ordered, mask.contiguous()).clamp_(max=len(self.ordered) - 1)
        is_class = self.ordered[position] == mask
        unexpected = ~is_class & (mask >= 0) if valid is None else ~is_class & (mask >= 0) & valid
        if bool(unexpected.any()):
            self._warn(set(torch.unique(mask[unexpected]).tolist()))
        return torch.where(is_class if valid is None else is_class & valid, self.order[position], IGNORE)

    def decode(self, indices: Tensor) -> Tensor:
        """Return the class codes of class indices."""
        return self.codes[indices]

    def _warn(self, unexpected: set[int]) -> None:
        new = sorted(unexpected - self._warned - {self.nodata})
        if not new:
            return
        self._warned |= set(new)
        msg = f"Labels hold {_format_codes(new)}, codes of none of the classes {_format_codes(self.codes.tolist())}: "
        msg += "such pixels are neither trained on nor scored. Pass card(legend=) with these codes; or mark the pixels "
        msg += "as invalid."
        warnings.warn(msg, LabelWarning, stacklevel=2)


def _format_codes(codes: list[int]) -> str:
    return ", ".join(map(str, codes[:_MAX_LISTED])) + ", …" * (len(codes) > _MAX_LISTED)
