"""U-Net with a timm encoder, a segmentation-models-pytorch decoder and a branch at full resolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.models.libraries import require_encoder, smp
from geoxt.models.padding import pad


class UNet(nn.Module):
    """U-Net for any number of bands and images of any height and width.

    The first stage of an encoder halves the image, so that the finest features of a plain U-Net cover two pixels. This
    costs accuracy if classes change from pixel to pixel, as in land cover at 30 m. The `detail` branch adds features at
    full resolution to those of the decoder.

    Parameters
    ----------
    in_chans
        Number of input bands.
    num_classes
        Number of output channels.
    encoder
        Name of a segmentation-models-pytorch encoder, or `"tu-"` plus the name of a timm model.
    weights
        Name of pretrained encoder weights in segmentation-models-pytorch; `None` for random weights.
    depth
        Number of encoder stages, each of which halves the image.
    decoder
        Channels of each decoder stage, deepest first; `depth` numbers.
    detail
        Channels of the branch at full resolution; 0 for none.
    dropout
        Dropout rate of the last features.

    References
    ----------
    Ronneberger et al. 2015, https://doi.org/10.1007/978-3-319-24574-4_28
    """

    def __init__(
        self,
        *,
        in_chans: int,
        num_classes: int,
        encoder: str,
        weights: str | None,
        depth: int,
        decoder: Sequence[int],
        detail: int,
        dropout: float,
    ) -> None:
        super().__init__()
        if len(decoder) != depth:
            msg = f"Cannot build a U-Net of depth {depth} with {len(decoder)} decoder stages."
            remedy = f"Pass {{decoder}} with {depth} numbers."
            raise InputError(msg, remedy=remedy, value=tuple(decoder), argument="decoder")
        self.multiple = 2**depth
        self.encoder, self.decoder = _build_unet(encoder, weights, depth, tuple(decoder), in_chans)
        self.detail = _detail(in_chans, detail) if detail else None
        self.head = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(decoder[-1] + detail, num_classes, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, classes, H, W) of images (N, in_chans, H, W), float32."""
        logits: Tensor = self.head(self.features(image))
        return logits

    def features(self, image: Tensor) -> Tensor:
        """Return features (N, F, H, W) of images (N, in_chans, H, W), the input of the last layer."""
        height, width = image.shape[-2:]
        image = pad(image, self.multiple)
        features: Tensor = self.decoder(self.encoder(image))
        if self.detail is not None:
            features = torch.cat([features, self.detail(image)], dim=1)
        return features[..., :height, :width]

    @property
    def backbone(self) -> nn.Module:
        """Encoder, into which pretrained weights are loaded."""
        encoder: nn.Module = self.encoder
        return encoder


def _build_unet(
    name: str, weights: str | None, depth: int, channels: tuple[int, ...], in_chans: int
) -> tuple[Any, Any]:
    try:
        require_encoder(name)
        unet = smp().Unet(
            name,
            encoder_weights=weights,
            encoder_depth=depth,
            decoder_channels=channels,
            in_channels=in_chans,
            classes=1,
        )
    except (KeyError, RuntimeError, ValueError) as error:
        msg = f"Cannot build a U-Net on the encoder {name!r} ({error})."
        remedy = "Pass {encoder}, an encoder of timm or segmentation-models-pytorch."
        raise InputError(msg, remedy=remedy, value=name, argument="encoder") from error
    return unet.encoder, unet.decoder


def _detail(in_chans: int, channels: int) -> nn.Sequential:
    """Return a 1 x 1 convolution followed by a 3 x 3 convolution."""
    return nn.Sequential(
        nn.Conv2d(in_chans, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    )
