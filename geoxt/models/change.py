"""Change detection of Daudt et al. 2018: FC-EF, FC-Siam-conc and FC-Siam-diff, as one U-Net with three fusions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoxt.errors import InputError
from geoxt.models.padding import pad

Fusion = Literal["early", "concatenate", "difference"]
"""Fusion of two dates: stacked input images, concatenated features, or the absolute difference of features."""
Deepest = Literal["second", "difference"]
"""Deepest input of a siamese decoder: features of the second date, or the absolute difference of both dates."""
_SKIPS = {"early": 1, "concatenate": 2, "difference": 1}


class ChangeUNet(nn.Module):
    """U-Net for pairs of images.

    FC-EF stacks the two images (`fusion="early"`). The siamese variants share one encoder: the decoder of FC-Siam-conc
    takes the features of both dates, that of FC-Siam-diff their absolute difference. As in the authors' code, the
    decoder starts from the deepest features of the second date, so that the output depends on the order of the dates;
    with `deepest="difference"` the output of FC-Siam-diff does not.

    Parameters
    ----------
    in_chans
        Number of bands of each image.
    num_classes
        Number of output channels.
    fusion
        Fusion of the two dates.
    deepest
        Deepest input of the decoder of a siamese network.
    widths
        Channels of each stage; each stage halves height and width.
    depths
        Convolutions of each stage.
    dropout
        Dropout rate of the channels after each convolution.

    References
    ----------
    Daudt et al. 2018, https://doi.org/10.1109/ICIP.2018.8451652, https://arxiv.org/abs/1810.08462
    """

    def __init__(
        self,
        *,
        in_chans: int,
        num_classes: int,
        fusion: Fusion,
        deepest: Deepest,
        widths: Sequence[int],
        depths: Sequence[int],
        dropout: float,
    ) -> None:
        super().__init__()
        if fusion not in _SKIPS or deepest not in {"second", "difference"}:
            msg = f"Cannot build a change U-Net with fusion={fusion!r} and deepest={deepest!r}."
            remedy = f"Pass {{fusion}}, one of {', '.join(_SKIPS)}, and {{deepest}}, one of second, difference."
            raise InputError(msg, remedy=remedy)
        if len(widths) != len(depths) or min(depths) < 2:
            msg = f"Cannot build a change U-Net with widths={tuple(widths)} and depths={tuple(depths)}."
            raise InputError(msg, remedy="Pass {widths} and {depths} of equal length, with depths of 2 or more.")
        self.fusion, self.deepest = fusion, deepest
        first = 2 * in_chans if fusion == "early" else in_chans
        in_widths = [first, *widths[:-1]]
        self.encoder = nn.ModuleList(
            _stage([before, *[width] * depth], dropout)
            for before, width, depth in zip(in_widths, widths, depths, strict=True)
        )
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(width, width, 3, stride=2, padding=1, output_padding=1) for width in reversed(widths)
        )
        skips = 1 + _SKIPS[fusion]
        out_widths = [widths[0], *widths[:-1]]
        self.decoder = nn.ModuleList(
            _stage([skips * width, *[width] * (depth - 1), after], dropout)
            for width, depth, after in list(zip(widths, depths, out_widths, strict=True))[:0:-1]
        )
        self.decoder.append(_stage([skips * widths[0], *[widths[0]] * (depths[0] - 1)], dropout))
        self.head = nn.Conv2d(widths[0], num_classes, 3, padding=1)

    def forward(self, pair: Tensor) -> Tensor:
        """Return logits (N, classes, H, W) of pairs (N, 2, in_chans, H, W), float32."""
        logits: Tensor = self.head(self.features(pair))
        return logits

    def features(self, pair: Tensor) -> Tensor:
        """Return features (N, F, H, W) of pairs (N, 2, in_chans, H, W), the input of the last layer."""
        height, width = pair.shape[-2:]
        multiple = 2 ** len(self.encoder)
        if self.fusion == "early":
            skips, x = self._encode(pad(pair.flatten(1, 2), multiple))
        else:
            first, start = self._encode(pad(pair[:, 0], multiple))
            second, x = self._encode(pad(pair[:, 1], multiple))
            skips = [self._fuse(before, after) for before, after in zip(first, second, strict=True)]
            x = (start - x).abs() if self.deepest == "difference" else x
        for up, skip, stage in zip(self.ups, reversed(skips), self.decoder, strict=True):
            x = stage(torch.cat([up(x), skip], dim=1))
        return x[..., :height, :width]

    def _encode(self, image: Tensor) -> tuple[list[Tensor], Tensor]:
        skips = []
        for stage in self.encoder:
            skips.append(stage(image))
            image = F.max_pool2d(skips[-1], 2)
        return skips, image

    def _fuse(self, first: Tensor, second: Tensor) -> Tensor:
        return (first - second).abs() if self.fusion == "difference" else torch.cat([first, second], dim=1)


def _stage(widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Return 3 x 3 convolutions between consecutive widths."""
    stage = nn.Sequential()
    for before, after in pairwise(widths):
        stage.extend(
            [
                nn.Conv2d(before, after, 3, padding=1),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
                nn.Dropout2d(dropout),
            ]
        )
    return stage
