"""A plain fully convolutional network: a few convolutions at the image's own resolution, and nothing else."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


class FCN(nn.Module):
    """Convolutions of 3 x 3 pixels, each with a ReLU, and one of 1 x 1: it sees `layers` pixels to every side.

    Parameters
    ----------
    in_chans
        Bands of an input image.
    classes
        Channels of the output.
    width
        Channels of every layer.
    layers
        Convolutions before the last.

    References
    ----------
    Long et al. 2015, https://doi.org/10.1109/CVPR.2015.7298965
    """

    def __init__(self, *, in_chans: int, classes: int, width: int, layers: int) -> None:
        super().__init__()
        widths = [in_chans, *[width] * layers]
        self.body = nn.Sequential()
        for before, after in pairwise(widths):
            self.body.extend([nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True)])
        self.head = nn.Conv2d(widths[-1], classes, 1)

    def features(self, image: Tensor) -> Tensor:
        """Return features (N, width, H, W) of images (N, in_chans, H, W): what the last layer sees."""
        found: Tensor = self.body(image)
        return found

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (N, classes, H, W) of images (N, in_chans, H, W), float32."""
        logits: Tensor = self.head(self.features(image))
        return logits
