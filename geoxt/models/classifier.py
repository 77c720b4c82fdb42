"""Classification: any model of timm, for any number of bands and images of any shape."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from geoxt.models.libraries import encoder_of
from geoxt.models.padding import pad


class Classifier(nn.Module):
    """A model of timm: one row of logits, or of numbers, an image.

    Parameters
    ----------
    in_chans
        Bands of an input image.
    classes
        Length of the output.
    encoder
        Name of a model of timm.
    dropout
        Share of the last features dropped in training.
    options
        Further options of timm's model.
    """

    def __init__(self, *, in_chans: int, classes: int, encoder: str, dropout: float, **options: Any) -> None:
        super().__init__()
        self.body: Any = encoder_of(encoder, in_chans=in_chans, num_classes=classes, drop_rate=dropout, **options)
        patch = getattr(getattr(self.body, "patch_embed", None), "patch_size", (1, 1))
        self.multiple = max(patch)

    @property
    def backbone(self) -> nn.Module:
        """The part that pretrained weights are for."""
        body: nn.Module = self.body
        return body

    def features(self, image: Tensor) -> Tensor:
        """Return embeddings (N, F) of images (N, in_chans, H, W): what the last layer sees."""
        embedding: Tensor = self.body.forward_head(self.body.forward_features(self._whole(image)), pre_logits=True)
        return embedding

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, classes) of images (N, in_chans, H, W), float32."""
        logits: Tensor = self.body(self._whole(image))
        return logits

    def _whole(self, image: Tensor) -> Tensor:
        """Pad images to whole patches, where the model cuts them into patches."""
        return pad(image, self.multiple)
