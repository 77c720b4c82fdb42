"""Random convolutional features (MOSAIKS): frozen patches, a rectifier of either sign, the mean over the image."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoxt.errors import InputError

_FLAT = 1e-8
"""A patch with a smaller norm is of one colour, and is left as it is."""


class RCF(nn.Module):
    """Random convolutional features: an embedding that is not trained, and a linear layer on it that is.

    Each patch w gives two features: the means over the image of max(0, w * x - threshold) and of
    max(0, -w * x - threshold).

    Parameters
    ----------
    in_chans
        Bands of an input image.
    classes
        Length of the output; `None` gives the features themselves.
    features
        Number of features, an even number.
    kernel
        Height and width of a patch, in pixels.
    threshold
        What a response must exceed to count.
    seed
        Seed of the patches.

    References
    ----------
    Rolf et al. 2021, https://doi.org/10.1038/s41467-021-24638-z
    """

    def __init__(
        self, *, in_chans: int, classes: int | None, features: int, kernel: int, threshold: float, seed: int
    ) -> None:
        super().__init__()
        if features < 2 or features % 2:
            msg = f"Cannot build RCF with features={features}: pass an even number, since a patch gives two features."
            raise InputError(msg)
        self.threshold = threshold
        generator = torch.Generator().manual_seed(seed)
        self.patches: Tensor
        self.register_buffer(
            "patches", torch.randn(features // 2, in_chans, kernel, kernel, generator=generator), persistent=True
        )
        self.head = nn.Identity() if classes is None else nn.Linear(features, classes)

    def features(self, image: Tensor) -> Tensor:
        """Return features (N, features) of images (N, in_chans, H, W)."""
        with torch.no_grad():
            response = F.conv2d(image, self.patches)
            over, under = (F.relu(sign * response - self.threshold).mean(dim=(2, 3)) for sign in (1, -1))
            return torch.cat([over, under], dim=1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the linear layer's output (N, classes), or the features (N, features) where there are no classes."""
        output: Tensor = self.head(self.features(image))
        return output

    def draw(self, images: Tensor, *, seed: int = 0, ridge: float = 1e-3) -> Self:
        """Take the patches from images (N, in_chans, H, W) instead: the paper's way.

        Each patch is set to mean 0 and norm 1. Then all are whitened (ZCA) twice: once for themselves, and once in
        place of the image's own patches, to which they are compared.

        Parameters
        ----------
        images
            What the patches are cut from, scaled as the model's input will be.
        seed
            Seed of their choice.
        ridge
            Added to the patches' variances before they are divided by them.

        Raises
        ------
        InputError
            Where the images have other bands than the model, or are smaller than a patch.
        """
        count, bands, kernel, _ = self.patches.shape
        if images.ndim != 4 or images.shape[1] != bands or min(images.shape[2:]) < kernel:
            shape = f"(N, {bands}, {kernel} or more, {kernel} or more)"
            msg = f"Cannot draw patches from images of shape {tuple(images.shape)}: pass images= of shape {shape}."
            raise InputError(msg)
        generator = torch.Generator().manual_seed(seed)
        ends = (len(images), images.shape[2] - kernel + 1, images.shape[3] - kernel + 1)
        picks = [torch.randint(end, (count,), generator=generator).tolist() for end in ends]
        cut = [images[n, :, y : y + kernel, x : x + kernel] for n, y, x in zip(*picks, strict=True)]
        self.patches.copy_(_whiten(torch.stack(cut).flatten(1), ridge).reshape(self.patches.shape))
        return self


def _whiten(patches: Tensor, ridge: float) -> Tensor:
    """Whiten patches (M, D) twice; worked out in float64."""
    centred = patches.double() - patches.double().mean(dim=1, keepdim=True)
    norms = centred.norm(dim=1, keepdim=True)
    unit = centred / norms.where(norms > _FLAT, 1)
    variances, axes = torch.linalg.eigh(unit.T @ unit / len(unit))
    return (unit @ (axes / (variances + ridge)) @ axes.T).to(patches.dtype)
