"""L-TAE: attention over the dates of a time series with one learned query per head (Garnot and Landrieu 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoxt.errors import InputError


class LTAE(nn.Module):
    """Lightweight temporal attention encoder, applied to each pixel separately.

    Invalid dates have no influence: attention and the statistics of the first normalization leave them out. If no date
    is valid, all have equal attention.

    Parameters
    ----------
    in_chans
        Channels of the input, a multiple of `heads`.
    out_chans
        Channels of the output, a multiple of `heads`.
    heads
        Attention heads, among which the channels are divided.
    width
        Channels of all heads together, a multiple of `heads`.
    keys
        Length of a key.
    period
        Longest wavelength of the positional encoding, in units of the positions.
    dropout
        Dropout rate.

    References
    ----------
    Garnot and Landrieu 2020, https://doi.org/10.1007/978-3-030-65742-0_12, https://arxiv.org/abs/2007.00586
    """

    def __init__(
        self, in_chans: int, out_chans: int, *, heads: int, width: int, keys: int, period: float, dropout: float
    ) -> None:
        super().__init__()
        if in_chans % heads or out_chans % heads or width % heads:
            msg = f"Cannot divide {in_chans}, {width} and {out_chans} channels among {heads} heads."
            raise InputError(msg, remedy="Pass {heads} that divides all of them.", value=heads, argument="heads")
        self.heads, self.keys = heads, keys
        self.norm_in = nn.GroupNorm(heads, in_chans)
        self.widen = nn.Conv1d(in_chans, width, 1)
        self.to_keys = nn.Linear(width, heads * keys)
        self.queries = nn.Parameter(torch.empty(heads, keys))
        for weight in (self.to_keys.weight, self.queries):
            nn.init.normal_(weight, std=(2 / keys) ** 0.5)
        self.mlp = nn.Sequential(nn.Linear(width, out_chans), nn.BatchNorm1d(out_chans), nn.ReLU(), nn.Dropout(dropout))
        self.norm_out = nn.GroupNorm(heads, out_chans)
        self.dropout = nn.Dropout(dropout)
        self.waves: Tensor
        self.register_buffer("waves", _waves(width // heads, period), persistent=False)

    def forward(self, series: Tensor, positions: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return a summary of each series over its dates, and the attention.

        Parameters
        ----------
        series
            Float32 (M, T, in_chans): M pixels, T dates.
        positions
            Float32 (M, T): time of each date, usually in days.
        valid
            Bool (M, T): valid dates.

        Returns
        -------
        summary, attention
            Float32 (M, out_chans), and (heads, M, T), which sums to one over the dates.
        """
        count, dates, _ = series.shape
        normal = _group_norm(series.transpose(1, 2), self.norm_in, valid)
        values = self.widen(normal).transpose(1, 2) + self._encode_positions(positions)
        keys = self.to_keys(values).view(count, dates, self.heads, self.keys)
        scores = torch.einsum("mthk,hk->hmt", keys, self.queries) / self.keys**0.5
        if valid is not None:
            scores = scores.masked_fill(~valid, torch.finfo(scores.dtype).min)
        attention = scores.softmax(dim=-1)
        grouped = values.view(count, dates, self.heads, -1)
        summary = torch.einsum("hmt,mthc->mhc", self.dropout(attention), grouped).flatten(1)
        return self.norm_out(self.mlp(summary)), attention

    def _encode_positions(self, positions: Tensor) -> Tensor:
        angles = positions[..., None] / self.waves
        even = torch.arange(len(self.waves), device=angles.device) % 2 == 0
        return torch.where(even, angles.sin(), angles.cos()).repeat(1, 1, self.heads)


def _waves(count: int, period: float) -> Tensor:
    """Return wavelengths over 2 pi, from 1 to almost `period`, one per sine-cosine pair (Vaswani et al. 2017)."""
    return period ** (2 * (torch.arange(count) // 2) / count)


def _group_norm(series: Tensor, norm: nn.GroupNorm, valid: Tensor | None) -> Tensor:
    """Return (M, C, T) normalized over the channels of each group and the valid dates."""
    if valid is None:
        return norm(series)
    count, channels, dates = series.shape
    grouped = series.view(count, norm.num_groups, -1, dates)
    weight = valid[:, None, None].to(series.dtype)
    number = weight.sum(dim=-1, keepdim=True).clamp(min=1) * grouped.shape[2]
    mean = (grouped * weight).sum(dim=(2, 3), keepdim=True) / number
    variance = ((grouped - mean).square() * weight).sum(dim=(2, 3), keepdim=True) / number
    normal = ((grouped - mean) * (variance + norm.eps).rsqrt()).view(count, channels, dates)
    return torch.addcmul(norm.bias[:, None], normal, norm.weight[:, None])


def pixel_series(series: Tensor) -> Tensor:
    """Reshape series of images (N, T, C, H, W) to series of pixels (N * H * W, T, C)."""
    return series.permute(0, 3, 4, 1, 2).flatten(0, 2)


def repeat_for_pixels(values: Tensor | None, height: int, width: int) -> Tensor | None:
    """Return values per image (N, T) repeated for each of its pixels (N * H * W, T)."""
    return None if values is None else values.repeat_interleave(height * width, dim=0)


def positions_in_dtype(series: Tensor, positions: Tensor | None) -> Tensor:
    """Return positions (N, T) in the dtype of `series`; by default the index of each date."""
    if positions is None:
        return torch.arange(series.shape[1], device=series.device, dtype=series.dtype).expand(len(series), -1)
    return positions.to(series.dtype)


def zero_invalid_dates(series: Tensor, valid: Tensor | None) -> Tensor:
    """Return a series with invalid dates set to zero, so that NaN in them cannot propagate."""
    return series if valid is None else series.masked_fill(~valid[:, :, None, None, None], 0)


def resize_attention(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Return attention (heads, N, T, h, w) resized bilinearly, which keeps its sum over dates at one."""
    resized = F.interpolate(masks.flatten(0, 1), size, mode="bilinear", align_corners=False)
    return resized.view(*masks.shape[:3], *size)
