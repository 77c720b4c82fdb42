"""U-Net: an encoder of timm, a decoder of segmentation-models-pytorch, and a branch that keeps each pixel's detail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.models.libraries import smp
from geoxt.models.padding import pad


class UNet(nn.Module):
    """U-Net for any number of bands and images of any height and width.

    An encoder's first step halves the image, so that a plain U-Net's finest features are two pixels wide; where a class
    is a matter of single pixels, as in a land-cover map at 30 m, that costs accuracy. The `detail` branch puts a few
    features at full resolution beside the decoder's.

    Parameters
    ----------
    in_chans
        Bands of an input image.
    classes
        Channels of the output.
    encoder
        Any encoder of segmentation-models-pytorch; with `"tu-"` before it, any model of timm.
    weights
        Pretrained weights of the encoder in its library's terms; `None` starts from random ones.
    depth
        How often the encoder halves the image.
    decoder
        Channels after each step up, deepest first; as many as `depth`.
    detail
        Channels of the branch at full resolution; 0 leaves it out.
    dropout
        Share of the last features dropped in training.

    References
    ----------
    Ronneberger et al. 2015, https://doi.org/10.1007/978-3-319-24574-4_28
    """

    def __init__(
        self,
        *,
        in_chans: int,
        classes: int,
        encoder: str,
        weights: str | None,
        depth: int,
        decoder: Sequence[int],
        detail: int,
        dropout: float,
    ) -> None:
        super().__init__()
        if len(decoder) != depth:
            msg = f"Cannot build a U-Net of depth {depth} with {len(decoder)} decoder steps: pass {depth} in decoder=."
            raise InputError(msg)
        self.multiple = 2**depth
        self.encoder, self.decoder = _halves(encoder, weights, depth, tuple(decoder), in_chans)
        self.detail = _detail(in_chans, detail) if detail else None
        self.head = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(decoder[-1] + detail, classes, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, classes, H, W) of images (N, in_chans, H, W), float32."""
        logits: Tensor = self.head(self.features(image))
        return logits

    def features(self, image: Tensor) -> Tensor:
        """Return features (N, F, H, W) of images (N, in_chans, H, W): what the last layer sees."""
        height, width = image.shape[-2:]
        image = pad(image, self.multiple)
        features: Tensor = self.decoder(self.encoder(image))
        if self.detail is not None:
            features = torch.cat([features, self.detail(image)], dim=1)
        return features[..., :height, :width]

    @property
    def backbone(self) -> nn.Module:
        """The part that pretrained weights are for."""
        encoder: nn.Module = self.encoder
        return encoder


def _halves(name: str, weights: str | None, depth: int, steps: tuple[int, ...], in_chans: int) -> tuple[Any, Any]:
    try:
        unet = smp().Unet(
            name, encoder_weights=weights, encoder_depth=depth, decoder_channels=steps, in_channels=in_chans, classes=1
        )
    except (KeyError, RuntimeError) as error:
        msg = f"Cannot build a U-Net on the encoder {name!r} ({error}): pass encoder= one that timm or smp knows."
        raise InputError(msg) from error
    return unet.encoder, unet.decoder


def _detail(in_chans: int, channels: int) -> nn.Sequential:
    """Features of single pixels, then of their 3 x 3 neighbours."""
    return nn.Sequential(
        nn.Conv2d(in_chans, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )
