"""Image classification by any timm model, for any number of bands and any image shape."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from geoxt.models.libraries import encoder_of
from geoxt.models.padding import pad


class Classifier(nn.Module):
    """timm model that maps an image to logits or values.

    Parameters
    ----------
    in_chans
        Number of input bands.
    num_classes
        Length of the output, K.
    encoder
        Name of a timm model.
    dropout
        Dropout rate of the last features.
    options
        Further options of the timm model.
    """

    def __init__(self, *, in_chans: int, num_classes: int, encoder: str, dropout: float, **options: Any) -> None:
        super().__init__()
        self.body: Any = encoder_of(encoder, in_chans=in_chans, num_classes=num_classes, drop_rate=dropout, **options)
        patch = getattr(getattr(self.body, "patch_embed", None), "patch_size", (1, 1))
        self.multiple = max(patch)

    @property
    def backbone(self) -> nn.Module:
        """Encoder, into which pretrained weights are loaded."""
        body: nn.Module = self.body
        return body

    def features(self, image: Tensor) -> Tensor:
        """Return embeddings (N, F) of images (N, in_chans, H, W), the input of the last layer."""
        embedding: Tensor = self.body.forward_head(
            self.body.forward_features(pad(image, self.multiple)), pre_logits=True
        )
        return embedding

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, classes) of images (N, in_chans, H, W), float32."""
        logits: Tensor = self.body(pad(image, self.multiple))
        return logits
