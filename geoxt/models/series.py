"""Segmentation of time series: U-TAE (Garnot and Landrieu 2021), and L-TAE per pixel after two convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.models.ltae import (
    LTAE,
    pixel_series,
    positions_in_dtype,
    repeat_for_pixels,
    resize_attention,
    zero_invalid_dates,
)
from geoxt.models.padding import pad

_GROUPS = 4


class PixelSeries(nn.Module):
    """Two convolutions per date, L-TAE over the dates of each pixel, and a linear layer.

    Parameters
    ----------
    in_chans
        Number of bands of each date.
    num_classes
        Number of output channels.
    width
        Feature channels per date, a multiple of `heads`.
    heads, keys, period, dropout
        As in `LTAE`.
    """

    def __init__(
        self, *, in_chans: int, num_classes: int, width: int, heads: int, keys: int, period: float, dropout: float
    ) -> None:
        super().__init__()
        self.stem = _convolutions([in_chans, width, width], norm="group")
        self.time = LTAE(width, width, heads=heads, width=width, keys=keys, period=period, dropout=dropout)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, series: Tensor, valid: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """Return logits (N, classes, H, W) of series (N, T, in_chans, H, W); see `UTAE.forward`."""
        logits: Tensor = self.head(self.features(series, valid, positions))
        return logits

    def features(self, series: Tensor, valid: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """Return features (N, width, H, W), the input of the last layer."""
        rows, columns = series.shape[-2:]
        images = pad(zero_invalid_dates(series, valid).flatten(0, 1), 1, least=2)
        height, width = images.shape[-2:]
        dates = self.stem(images).unflatten(0, series.shape[:2])
        times, dates_valid = (
            repeat_for_pixels(values, height, width) for values in (positions_in_dtype(series, positions), valid)
        )
        assert times is not None
        summary, _ = self.time(pixel_series(dates), times, dates_valid)
        return summary.view(len(series), height, width, -1).permute(0, 3, 1, 2)[..., :rows, :columns]


class UTAE(nn.Module):
    """U-TAE: a U-Net whose encoder runs on each date, with L-TAE at the deepest level and its attention on all skips.

    Differs from the publication in two points: invalid dates have no influence, and the last convolution returns logits
    without normalization and ReLU.

    Parameters
    ----------
    in_chans
        Number of bands of each date.
    num_classes
        Number of output channels.
    encoder
        Channels of each level, finest first; all levels but the first halve the image. Multiples of `heads`.
    decoder
        Channels of each decoder level, finest first; the last equals that of the encoder.
    heads, width, keys, period, dropout
        As in `LTAE`.

    References
    ----------
    Garnot and Landrieu 2021, https://doi.org/10.1109/ICCV48922.2021.00483, https://arxiv.org/abs/2107.07933
    """

    def __init__(
        self,
        *,
        in_chans: int,
        num_classes: int,
        encoder: Sequence[int],
        decoder: Sequence[int],
        heads: int,
        width: int,
        keys: int,
        period: float,
        dropout: float,
    ) -> None:
        super().__init__()
        if len(encoder) != len(decoder) or encoder[-1] != decoder[-1]:
            msg = f"Cannot build a U-TAE with encoder={tuple(encoder)} and decoder={tuple(decoder)}."
            remedy = "Pass {encoder} and {decoder} of equal length, with equal last numbers."
            raise InputError(msg, remedy=remedy)
        self.multiple = 2 ** (len(encoder) - 1)
        self.stem = _convolutions([in_chans, encoder[0], encoder[0]], norm="group")
        self.downs = nn.ModuleList(_Down(before, after) for before, after in pairwise(encoder))
        self.time = LTAE(encoder[-1], encoder[-1], heads=heads, width=width, keys=keys, period=period, dropout=dropout)
        levels = range(len(encoder) - 1, 0, -1)
        self.ups = nn.ModuleList(_Up(decoder[level], decoder[level - 1], encoder[level - 1]) for level in levels)
        self.last = _convolutions([decoder[0], decoder[0]], norm="batch")
        self.head = nn.Conv2d(decoder[0], num_classes, 3, padding=1, padding_mode="reflect")

    def forward(self, series: Tensor, valid: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """Return logits of time series.

        Parameters
        ----------
        series
            Float32 (N, T, in_chans, H, W).
        valid
            Bool (N, T): valid dates; all by default.
        positions
            Numbers (N, T): time of each date, usually in days; by default the index of the date.

        Returns
        -------
        Tensor
            Logits (N, classes, H, W).
        """
        height, width = series.shape[-2:]
        logits: Tensor = self.head(self._padded_features(series, valid, positions))
        return logits[..., :height, :width]

    def features(self, series: Tensor, valid: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """Return features (N, decoder[0], H, W), the input of the last layer."""
        height, width = series.shape[-2:]
        return self._padded_features(series, valid, positions)[..., :height, :width]

    def _padded_features(self, series: Tensor, valid: Tensor | None, positions: Tensor | None) -> Tensor:
        """Return features of the padded images."""
        x = self.stem(pad(zero_invalid_dates(series, valid).flatten(0, 1), self.multiple, least=2 * self.multiple))
        levels = [x]
        for down in self.downs:
            x = down(x)
            levels.append(x)
        dates = [level.unflatten(0, series.shape[:2]) for level in levels]
        x, attention = self._over_time(dates[-1], positions_in_dtype(series, positions), valid)
        for up, level in zip(self.ups, dates[-2::-1], strict=True):
            x = up(x, _collapse(level, attention))
        features: Tensor = self.last(x)
        return features

    def _over_time(self, dates: Tensor, positions: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        count, steps, _, height, width = dates.shape
        times, dates_valid = (repeat_for_pixels(values, height, width) for values in (positions, valid))
        assert times is not None
        summary, attention = self.time(pixel_series(dates), times, dates_valid)
        image = summary.view(count, height, width, -1).permute(0, 3, 1, 2)
        return image, attention.view(-1, count, height, width, steps).permute(0, 1, 4, 2, 3)


def _collapse(dates: Tensor, attention: Tensor) -> Tensor:
    """Return (N, T, C, H, W) summed over dates, each group of channels weighted by the attention of its head."""
    height, width = dates.shape[-2:]
    weight = resize_attention(attention, (height, width))
    grouped = dates.reshape(*dates.shape[:2], len(attention), -1, height, width)
    return torch.einsum("hntyx,nthcyx->nhcyx", weight, grouped).flatten(1, 2)


class _Down(nn.Module):
    """Downsampling by 2 and two convolutions, the second with a residual connection."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.halve = _block(nn.Conv2d(before, before, 4, stride=2, padding=1, padding_mode="reflect"), "group")
        self.first = _convolutions([before, after], norm="group")
        self.second = _convolutions([after, after], norm="group")

    def forward(self, image: Tensor) -> Tensor:
        x: Tensor = self.first(self.halve(image))
        return x + self.second(x)


class _Up(nn.Module):
    """Upsampling by 2, concatenation of the skip and two convolutions, the second with a residual connection."""

    def __init__(self, before: int, after: int, skip: int) -> None:
        super().__init__()
        self.skip = _block(nn.Conv2d(skip, skip, 1), "batch")
        self.grow = _block(nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), "batch")
        self.first = _convolutions([after + skip, after], norm="batch")
        self.second = _convolutions([after, after], norm="batch")

    def forward(self, image: Tensor, skip: Tensor) -> Tensor:
        x: Tensor = self.first(torch.cat([self.grow(image), self.skip(skip)], dim=1))
        return x + self.second(x)


def _convolutions(widths: Sequence[int], norm: str) -> nn.Sequential:
    pairs = pairwise(widths)
    return nn.Sequential(*[_block(nn.Conv2d(a, b, 3, padding=1, padding_mode="reflect"), norm) for a, b in pairs])


def _block(convolution: nn.Conv2d | nn.ConvTranspose2d, norm: str) -> nn.Sequential:
    width = convolution.out_channels
    normal = nn.GroupNorm(_GROUPS, width) if norm == "group" else nn.BatchNorm2d(width)
    return nn.Sequential(convolution, normal, nn.ReLU())
