"""Views: the same images, changed at random so that only what matters stays the same."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from geoxt.trainers.tasks.flips import turn_and_flip


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """How a view is made of a batch of scaled images (N, C, H, W): each image is changed in its own way."""

    crop: float = 0.3
    """Least share of the image's area that a crop, scaled back to full size, shows; 1 leaves it out."""
    turn: bool = True
    """Whether images are flipped and turned."""
    brightness: float = 0.4
    """Greatest shift of all bands, in deviations of a band."""
    contrast: float = 0.4
    """Greatest change of contrast, as a share."""
    drop: float = 0.1
    """Chance of each band to be set to its mean."""
    noise: float = 0.05
    """Deviation of noise added to each pixel."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return one view of each image, of the same shape; draws from torch's global generator."""
        if self.turn:
            (images,) = turn_and_flip([images])
        if self.crop < 1:
            images = crop(images, self.crop)
        shape = (len(images), 1, 1, 1)
        mean = images.mean(dim=(2, 3), keepdim=True)
        images = (images - mean) * (1 + self.contrast * _either(shape, images)) + mean
        images = images + self.brightness * _either(shape, images)
        if self.drop:
            images = images * (torch.rand((*images.shape[:2], 1, 1), device=images.device) >= self.drop)
        return images + self.noise * torch.randn_like(images) if self.noise else images


def crop(images: Tensor, least: float) -> Tensor:
    """Cut a square part of a random size and place out of each image, and scale it to the image's size."""
    count = len(images)
    side = torch.empty(count, device=images.device).uniform_(least, 1).sqrt()
    offset = (1 - side)[:, None] * (2 * torch.rand(count, 2, device=images.device) - 1)
    theta = torch.zeros(count, 2, 3, device=images.device)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, :, 2] = offset
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid.to(images.dtype), padding_mode="reflection", align_corners=False)


def _either(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Return random numbers from -1 to 1."""
    return 2 * torch.rand(shape, device=like.device) - 1
