"""Segmentation and pixelwise regression by segmentation-models-pytorch decoders on timm encoders."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.models.libraries import any_shape, require_encoder, require_model_options, smp
from geoxt.models.padding import pad

_MULTIPLE = 32


class Dense(nn.Module):
    """Encoder and decoder for any number of bands and images of any height and width.

    Parameters
    ----------
    in_chans
        Number of input bands.
    num_classes
        Number of output channels.
    decoder
        Class name of a segmentation-models-pytorch model, such as `"FPN"`.
    encoder
        Name of a segmentation-models-pytorch encoder, or `"tu-"` plus the name of a timm model of stride 32.
    options
        Further options of the segmentation-models-pytorch model.
    """

    def __init__(self, *, in_chans: int, num_classes: int, decoder: str, encoder: str, **options: Any) -> None:
        super().__init__()
        if decoder not in {model.__name__ for model in smp().MODEL_ARCHITECTURES_MAPPING.values()}:
            msg = f"Cannot build the decoder {decoder!r}: segmentation-models-pytorch has no such model."
            raise InputError(msg, remedy="Pass {decoder:'FPN'}.", value=decoder, argument="decoder")
        require_model_options(options)
        build = getattr(smp(), decoder)
        options |= any_shape(encoder.removeprefix("tu-")) if encoder.startswith("tu-") else {}
        try:
            require_encoder(encoder)
            self.body: Any = build(encoder, encoder_weights=None, in_channels=in_chans, classes=num_classes, **options)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            msg = f"Cannot build {decoder} on {encoder!r} ({error})."
            remedy = "Pass {encoder}, an encoder of timm or segmentation-models-pytorch."
            raise InputError(msg, remedy=remedy, value=encoder, argument="encoder") from error

    @property
    def backbone(self) -> nn.Module:
        """Encoder, into which pretrained weights are loaded."""
        encoder: nn.Module = self.body.encoder
        return encoder

    def features(self, image: Tensor) -> Tensor:
        """Return features (N, F, H, W) of images (N, in_chans, H, W), the last layer's full-resolution input."""
        height, width = image.shape[-2:]
        upsample = self.body.segmentation_head[1]
        features: Tensor = upsample(self.body.decoder(self.body.encoder(pad(image, _MULTIPLE))))
        return features[..., :height, :width]

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, classes, H, W) of images (N, in_chans, H, W), float32."""
        height, width = image.shape[-2:]
        logits: Tensor = self.body(pad(image, _MULTIPLE))
        return logits[..., :height, :width]
