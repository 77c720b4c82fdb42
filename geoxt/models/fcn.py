"""Fully convolutional network at full resolution: 3 x 3 convolutions and a linear classifier per pixel."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


class FCN(nn.Module):
    """3 x 3 convolutions with ReLU and a final 1 x 1 convolution; the receptive field is `2 * layers + 1` pixels wide.

    Parameters
    ----------
    in_chans
        Number of input bands.
    num_classes
        Number of output channels.
    width
        Channels of each layer.
    layers
        Number of 3 x 3 convolutions.

    References
    ----------
    Long et al. 2015, https://doi.org/10.1109/CVPR.2015.7298965
    """

    def __init__(self, *, in_chans: int, num_classes: int, width: int, layers: int) -> None:
        super().__init__()
        widths = [in_chans, *[width] * layers]
        self.body = nn.Sequential()
        for before, after in pairwise(widths):
            self.body.extend([nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True)])
        self.head = nn.Conv2d(widths[-1], num_classes, 1)

    def features(self, image: Tensor) -> Tensor:
        """Return features (N, width, H, W) of images (N, in_chans, H, W), the input of the last layer."""
        features: Tensor = self.body(image)
        return features

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, classes, H, W) of images (N, in_chans, H, W), float32."""
        logits: Tensor = self.head(self.features(image))
        return logits
