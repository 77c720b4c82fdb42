"""Random augmentations of images into views for contrastive learning."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from geoxt.trainers.tasks.flips import turn_and_flip


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """Random augmentation of normalized images (N, C, H, W), drawn per image from torch's global generator.

    Examples
    --------
    >>> Views(crop=0.5, noise=0)(torch.zeros(4, 3, 32, 32)).shape
    torch.Size([4, 3, 32, 32])
    """

    crop: float = 0.3
    """Smallest fraction of the image area in a random crop, which is resized to the image size; 1 for no crop."""
    flip_rotate: bool = True
    """Whether images are flipped and rotated by quarter turns."""
    brightness: float = 0.4
    """Largest shift of all bands, in standard deviations of a band."""
    contrast: float = 0.4
    """Largest relative change of contrast."""
    band_dropout: float = 0.1
    """Probability for each band to be replaced by its mean."""
    noise: float = 0.05
    """Standard deviation of Gaussian noise added to each pixel."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return one view of each image, of the same shape."""
        if self.flip_rotate:
            (images,) = turn_and_flip([images])
        if self.crop < 1:
            images = random_resized_crop(images, self.crop)
        shape = (len(images), 1, 1, 1)
        mean = images.mean(dim=(2, 3), keepdim=True)
        images = (images - mean) * (1 + self.contrast * _uniform(shape, images)) + mean
        images = images + self.brightness * _uniform(shape, images)
        if self.band_dropout:
            # 0 is the mean of a band in normalized images.
            images = images * (torch.rand((*images.shape[:2], 1, 1), device=images.device) >= self.band_dropout)
        return images + self.noise * torch.randn_like(images) if self.noise else images


def random_resized_crop(images: Tensor, min_area: float) -> Tensor:
    """Return a random crop of each image, with at least a fraction of its area, resized to the image size."""
    count = len(images)
    side = torch.empty(count, device=images.device).uniform_(min_area, 1).sqrt()
    offset = (1 - side)[:, None] * (2 * torch.rand(count, 2, device=images.device) - 1)
    # Affine maps from output to input coordinates, both from -1 to 1: scale by `side`, then shift inside the image.
    theta = torch.zeros(count, 2, 3, device=images.device)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, :, 2] = offset
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid.to(images.dtype), padding_mode="reflection", align_corners=False)


def _uniform(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Return uniform random numbers in [-1, 1) on the device of a tensor."""
    return 2 * torch.rand(shape, device=like.device) - 1
