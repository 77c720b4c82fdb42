"""Kornia augmentations of whole batches: geometry is composed first, and every layer is resampled once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from geoxt.errors import InputError, optional_import
from geoxt.torch_devices import float64_device
from geoxt.transforms.batch import (
    BOXES,
    GEOREFERENCE,
    MASKS,
    VALID,
    Sample,
    expand_bands,
    image_of,
    layers_of,
    size_of,
    valid_of,
)
from geoxt.transforms.geometry import (
    clip_boxes,
    instance_masks,
    invalidate_geometry,
    transform_boxes,
    transform_geometry,
)
from geoxt.transforms.random_stream import RandomStream
from geoxt.transforms.resampling import nearest, resample


class Augment(nn.Module):
    """Applies kornia augmentations to batches, to all layers and time steps of a sample alike.

    Parameters
    ----------
    *steps
        Augmentations of `kornia.augmentation`, such as `RandomAffine` or `RandomGaussianNoise`. Geometric ones are
        applied to every layer, in order; intensity ones to `image` only, after them.
    image
        Layer for intensity augmentations: (batch, band, …) or (batch, time, band, …). Kornia sees the bands of all
        time steps as the channels of one image.
    ignore
        Class code of pixels from outside the window; 0 by default. They are invalid in either case.
    seed
        Seed of this transform; by default torch's global generator is used. See `RandomStream`.

    Notes
    -----
    Kornia's `AugmentationSequential` draws the parameters and returns the matrices of a batch (for elastic and other
    non-rigid warps: a warped image of the coordinates). Every layer is then resampled once at these coordinates,
    however many steps there are: class codes and valid masks by nearest neighbour, other layers bilinearly from valid
    neighbours only. A pixel without enough valid neighbours is invalid. Samples that no step moves keep their bits.

    `transform`, `bounds` and boxes follow affine steps; `bounds` then enclose the window. After a perspective or a
    non-rigid warp, `bounds` and `transform` are NaN. For flips and rotations by 90 degrees alone, `RandomFlipRotate` is
    faster and exact.

    References
    ----------
    Riba et al. 2020, Kornia, https://doi.org/10.1109/WACV45572.2020.9093363

    Raises
    ------
    InputError
        If a step is not an augmentation of single images.
    """

    def __init__(
        self, *steps: nn.Module, image: str = "image", ignore: int | None = None, seed: int | None = None
    ) -> None:
        super().__init__()
        kornia = _kornia()
        geometric = [step for step in steps if not isinstance(step, kornia.IntensityAugmentationBase2D)]
        for step in steps:
            if not isinstance(step, kornia.AugmentationBase2D):
                msg = f"Cannot augment with {type(step).__name__}: it is not an augmentation of single images."
                remedy = "Pass the steps of a container one by one. To mix samples use MixUp or CutMix."
                raise InputError(msg, remedy=remedy)
        self.rigid = all(isinstance(step, kornia.GeometricAugmentationBase2D) for step in geometric)
        # kornia 0.8: without align_corners, warps differ from their own matrices at the edges
        align = {_data_key().IMAGE: {"align_corners": True}}
        self.geometric = (
            kornia.AugmentationSequential(*geometric, data_keys=["input"], extra_args=align) if geometric else None
        )
        self.intensity = nn.ModuleList(step for step in steps if step not in geometric)
        self.image = image
        self.ignore = ignore
        self.rng = RandomStream(seed)

    def forward(self, sample: Sample) -> Sample:
        """Return the augmented batch."""
        layers = layers_of(sample)
        with self.rng.seed_global(next(iter(layers.values())).device):
            moved = sample if self.geometric is None else self._apply_geometric(sample, layers)
            return {**moved, self.image: self._apply_intensity(moved)} if len(self.intensity) else moved

    def _apply_geometric(self, sample: Sample, layers: dict[str, Tensor]) -> Sample:
        count, *size = size_of(layers)
        device = float64_device(next(iter(layers.values())).device)
        if not self.rigid:
            return self._warp_nonrigid(sample, (count, size[0], size[1]), device)
        assert self.geometric is not None
        probe = self.geometric(torch.zeros(count, 1, *size, dtype=torch.float64, device=device))
        new = probe.shape[-2], probe.shape[-1]
        old_from_new = torch.linalg.inv(self.geometric.transform_matrix.double())
        identity = torch.eye(3, dtype=torch.float64, device=device)
        is_identity = (old_from_new == identity).all(2).all(1)
        if new != tuple(size):
            is_identity = torch.zeros_like(is_identity)
        moved = _resample_layers(sample, _coordinates(old_from_new, new), is_identity, self.ignore)
        corner = identity.clone()
        corner[:2, 2] = 0.5  # kornia's origin is the centre of the first pixel, ours its corner
        matrix = corner @ old_from_new @ torch.linalg.inv(corner)
        matrix = torch.where(is_identity[:, None, None], identity, matrix)
        affine = (matrix[:, 2, :2].abs() < 1e-12).all(1)
        geometry = transform_geometry(sample, matrix / matrix[:, 2:, 2:], new)
        for name in GEOREFERENCE:
            if name in geometry:  # samples that do not move keep their bits
                geometry[name] = geometry[name].where(~is_identity.to(geometry[name].device)[:, None], sample[name])
        moved |= invalidate_geometry(geometry, ~affine) | transform_boxes(sample, torch.linalg.inv(matrix))
        return {**sample, **moved, **clip_boxes({**sample, **moved}, new)}

    def _warp_nonrigid(self, sample: Sample, size: tuple[int, int, int], device: torch.device) -> Sample:
        """Return a batch warped by the displacement that kornia applied to an image of its coordinates."""
        if BOXES in sample:
            msg = "Cannot warp boxes with a non-rigid augmentation: kornia does not return the new corners."
            raise InputError(msg, remedy="Leave such steps out, or remove the boxes from the batch.")
        assert self.geometric is not None
        columns, rows = _pixels(size[1:], device)
        ramp = torch.stack([columns, rows, torch.ones_like(rows)]).float().expand(size[0], -1, -1, -1)
        image = self.geometric(ramp.contiguous())
        x, y, weight = image.unbind(1)
        coordinates = torch.stack([x / weight, y / weight], dim=-1)
        coordinates = coordinates.where((weight >= 0.5)[..., None], -2 * max(size))
        is_identity = (
            (image == ramp).flatten(1).all(1) if image.shape == ramp.shape else torch.zeros(size[0], dtype=torch.bool)
        )
        moved = _resample_layers(sample, coordinates, is_identity, self.ignore)
        return {**sample, **moved, **invalidate_geometry(sample, ~is_identity)}

    def _apply_intensity(self, sample: Sample) -> Tensor:
        """Return the image after the intensity augmentations; invalid pixels are unchanged."""
        image = image_of(sample, self.image)
        valid = expand_bands(valid_of(sample, self.image), image)
        changed = image.where(valid, 0).flatten(1, -3)
        for step in self.intensity:
            changed = step(changed)
        return changed.reshape(image.shape).where(valid, image)


def _resample_layers(sample: Sample, coordinates: Tensor, is_identity: Tensor, ignore: int | None) -> Sample:
    """Return the layers resampled at coordinates; samples with `is_identity` keep their bits."""
    coordinates = coordinates.to(next(iter(layers_of(sample).values())).device)
    layers = resample(sample, coordinates, ignore=ignore)
    masks = instance_masks(sample)
    if masks is not None:
        layers[MASKS] = [nearest(mask[None], points[None])[0] for mask, points in zip(masks, coordinates, strict=True)]
    for name, value in layers.items():
        if name == MASKS or not is_identity.any():
            continue
        before = (
            valid_of(sample, name.removesuffix(VALID)) if name.endswith(VALID) and name not in sample else sample[name]
        )
        unmoved = is_identity.to(value.device)
        layers[name] = torch.where(unmoved.reshape(-1, *[1] * (value.ndim - 1)), before, value)
    return layers


def _pixels(size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the column and row numbers of a window's pixels, each (height, width) float64."""
    height, width = size
    rows = torch.arange(height, dtype=torch.float64, device=device)[:, None].expand(height, width)
    return torch.arange(width, dtype=torch.float64, device=device).expand(height, width), rows


def _coordinates(old_from_new: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the source column and row of each output pixel, (batch, height, width, 2) float32."""
    columns, rows = _pixels(size, old_from_new.device)
    products = []
    for row in old_from_new.unbind(1):  # broadcast a row and a column: only their sum has the size of the image
        across, down, constant = (row[:, index, None, None] for index in range(3))
        products.append(across * columns[:1] + (down * rows[:, :1] + constant))
    x, y, scale = products
    return torch.stack([(x / scale).float(), (y / scale).float()], dim=-1)


def _kornia() -> Any:
    with optional_import("kornia", "train", "augment"):
        import kornia.augmentation
    return kornia.augmentation


def _data_key() -> Any:
    from kornia.constants import DataKey

    return DataKey
