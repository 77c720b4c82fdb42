"""Random convolutional features (MOSAIKS): fixed patches, ReLU of both signs, mean over the image."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoxt.errors import InputError

_FLAT = 1e-8
"""Norm below which a centered patch is constant and not divided by its norm."""


class RCF(nn.Module):
    """Random convolutional features: a fixed embedding and a trainable linear layer.

    Each patch w gives two features: the means over the image of max(0, w * x - threshold) and of
    max(0, -w * x - threshold).

    Parameters
    ----------
    in_chans
        Number of input bands.
    num_classes
        Length of the output; `None` returns the features.
    features
        Number of features; even.
    kernel
        Height and width of a patch, in pixels.
    threshold
        Threshold subtracted from responses before the ReLU.
    seed
        Seed of the patches.

    References
    ----------
    Rolf et al. 2021, https://doi.org/10.1038/s41467-021-24638-z
    """

    def __init__(
        self, *, in_chans: int, num_classes: int | None, features: int, kernel: int, threshold: float, seed: int
    ) -> None:
        super().__init__()
        if features < 2 or features % 2:
            msg = f"Cannot build RCF with features={features}: each patch gives two."
            raise InputError(msg, remedy="Pass {features}, an even number.", value=features, argument="features")
        self.threshold = threshold
        generator = torch.Generator().manual_seed(seed)
        self.patches: Tensor
        self.register_buffer(
            "patches", torch.randn(features // 2, in_chans, kernel, kernel, generator=generator), persistent=True
        )
        self.head = nn.Identity() if num_classes is None else nn.Linear(features, num_classes)

    def features(self, image: Tensor) -> Tensor:
        """Return features (N, features) of images (N, in_chans, H, W)."""
        with torch.no_grad():
            response = F.conv2d(image, self.patches)
            over, under = (F.relu(sign * response - self.threshold).mean(dim=(2, 3)) for sign in (1, -1))
            return torch.cat([over, under], dim=1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the linear layer's output (N, classes), or the features (N, features) without classes."""
        output: Tensor = self.head(self.features(image))
        return output

    def draw(self, images: Tensor, *, seed: int = 0, ridge: float = 1e-3) -> Self:
        """Replace the patches by patches of images, as the paper does, and return the model.

        Each patch is normalized to mean 0 and norm 1. All patches are then whitened (ZCA) twice: once for themselves,
        and once in place of the image patches that they are convolved with.

        Parameters
        ----------
        images
            Images (N, in_chans, H, W) to cut patches from, scaled as the model's input.
        seed
            Seed of the patch positions.
        ridge
            Regularization added to the variances before division.

        Raises
        ------
        InputError
            If the number of bands differs, or the images are smaller than a patch.
        """
        count, bands, kernel, _ = self.patches.shape
        if images.ndim != 4 or images.shape[1] != bands or min(images.shape[2:]) < kernel:
            shape = f"(N, {bands}, {kernel} or more, {kernel} or more)"
            msg = f"Cannot draw patches from images of shape {tuple(images.shape)}."
            raise InputError(msg, remedy=f"Pass {{images}} of shape {shape}.", argument="images")
        generator = torch.Generator().manual_seed(seed)
        ends = (len(images), images.shape[2] - kernel + 1, images.shape[3] - kernel + 1)
        positions = [torch.randint(end, (count,), generator=generator).tolist() for end in ends]
        patches = [images[n, :, y : y + kernel, x : x + kernel] for n, y, x in zip(*positions, strict=True)]
        self.patches.copy_(_whiten(torch.stack(patches).flatten(1), ridge).reshape(self.patches.shape))
        return self


def _whiten(patches: Tensor, ridge: float) -> Tensor:
    """Return patches (M, D) whitened twice; computed in float64."""
    centered = patches.double() - patches.double().mean(dim=1, keepdim=True)
    norms = centered.norm(dim=1, keepdim=True)
    unit = centered / norms.where(norms > _FLAT, 1)
    variances, axes = torch.linalg.eigh(unit.T @ unit / len(unit))
    return (unit @ (axes / (variances + ridge)) @ axes.T).to(patches.dtype)
