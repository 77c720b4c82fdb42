"""Decoders of segmentation-models-pytorch on encoders of timm: a row of logits, or of numbers, a pixel."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.models.libraries import any_shape, smp
from geoxt.models.padding import pad

_MULTIPLE = 32


class Dense(nn.Module):
    """An encoder and a decoder for any number of bands and images of any height and width.

    Parameters
    ----------
    in_chans
        Bands of an input image.
    classes
        Channels of the output.
    decoder
        Name of a model of segmentation-models-pytorch, such as `"FPN"`.
    encoder
        Any encoder of segmentation-models-pytorch; with `"tu-"` before it, any model of timm that halves the image five
        times.
    options
        Further options of the decoder, in its library's terms.
    """

    def __init__(self, *, in_chans: int, classes: int, decoder: str, encoder: str, **options: Any) -> None:
        super().__init__()
        build = getattr(smp(), decoder)
        options |= any_shape(encoder.removeprefix("tu-")) if encoder.startswith("tu-") else {}
        try:
            self.body: Any = build(encoder, encoder_weights=None, in_channels=in_chans, classes=classes, **options)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            msg = f"Cannot build {decoder} on {encoder!r} ({error}): pass encoder= one that timm or smp knows."
            raise InputError(msg) from error

    @property
    def backbone(self) -> nn.Module:
        """The part that pretrained weights are for."""
        encoder: nn.Module = self.body.encoder
        return encoder

    def features(self, image: Tensor) -> Tensor:
        """Return features (N, F, H, W) of images (N, in_chans, H, W): what the last layer sees, at the image's size."""
        height, width = image.shape[-2:]
        upsample = self.body.segmentation_head[1]
        found: Tensor = upsample(self.body.decoder(self.body.encoder(pad(image, _MULTIPLE))))
        return found[..., :height, :width]

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, classes, H, W) of images (N, in_chans, H, W), float32."""
        height, width = image.shape[-2:]
        logits: Tensor = self.body(pad(image, _MULTIPLE))
        return logits[..., :height, :width]
