"""Kornia's augmentations on whole batches: kornia draws and says where pixels come from, each is sampled once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from geoxt.errors import InputError, MissingDependency
from geoxt.transforms.draws import Draws
from geoxt.transforms.place import clip_boxes, follow, instances, lose, move_boxes
from geoxt.transforms.resampling import nearest, resample
from geoxt.transforms.sample import (
    BOXES,
    MASKS,
    PLACED,
    VALID,
    Sample,
    image_of,
    layers_of,
    over_bands,
    size_of,
    valid_of,
)


class Augment(nn.Module):
    """Applies augmentations of kornia to batches, all layers and time steps of a sample alike.

    Parameters
    ----------
    *steps
        Augmentations of `kornia.augmentation`, such as `RandomAffine` or `RandomGaussianNoise`. Those that move pixels
        are applied to every layer, in their order; those that change values to `image` alone, after them.
    image
        The layer whose values are changed: (batch, band, …) or (batch, time, band, …). To kornia the bands of all time
        steps are one image's channels.
    ignore
        Class code of pixels that come in from beyond the window. Left out they keep code 0; either way they are not
        valid.
    seed
        See `Draws`.

    Notes
    -----
    Kornia's `AugmentationSequential` draws, and gives the matrices of a batch (for an elastic or another free warp: the
    image of the coordinates). All layers are then sampled at these coordinates, once however many steps there are:
    class codes and validity from the nearest pixel, all else bilinearly from valid neighbours only. A pixel without
    enough of these is not valid. A sample that no step moves keeps its bits.

    `transform`, `bounds` and boxes follow every affine map; `bounds` is then what encloses the window. After a
    perspective or a free warp `bounds` and `transform` are NaN. Flips and quarter turns alone are quicker, and exact,
    with `RandomTurn`.

    References
    ----------
    Riba et al. 2020, Kornia, https://doi.org/10.1109/WACV45572.2020.9093363

    Raises
    ------
    InputError
        Where a step is no augmentation of single images.
    """

    def __init__(
        self, *steps: nn.Module, image: str = "image", ignore: int | None = None, seed: int | None = None
    ) -> None:
        super().__init__()
        kornia = _kornia()
        moving = [step for step in steps if not isinstance(step, kornia.IntensityAugmentationBase2D)]
        for step in steps:
            if not isinstance(step, kornia.AugmentationBase2D):
                msg = f"Cannot augment with {type(step).__name__}: it is no augmentation of single images. "
                raise InputError(msg + "Pass the parts of a container one by one; to mix samples use MixUp or CutMix.")
        self.rigid = all(isinstance(step, kornia.GeometricAugmentationBase2D) for step in moving)
        align = {_data_key().IMAGE: {"align_corners": True}}  # else warps differ from their own matrices at the edges
        self.moving = kornia.AugmentationSequential(*moving, data_keys=["input"], extra_args=align) if moving else None
        self.changing = nn.ModuleList(step for step in steps if step not in moving)
        self.image = image
        self.ignore = ignore
        self.draws = Draws(seed)

    def forward(self, sample: Sample) -> Sample:
        """Return the batch, augmented."""
        layers = layers_of(sample)
        with self.draws.everywhere(next(iter(layers.values())).device):
            moved = sample if self.moving is None else self._moved(sample, layers)
            return {**moved, self.image: self._changed(moved)} if len(self.changing) else moved

    def _moved(self, sample: Sample, layers: dict[str, Tensor]) -> Sample:
        count, *size = size_of(layers)
        device = next(iter(layers.values())).device
        if not self.rigid:
            return self._freely(sample, (count, size[0], size[1]), device)
        assert self.moving is not None
        probe = self.moving(torch.zeros(count, 1, *size, dtype=torch.float64, device=device))
        new = probe.shape[-2], probe.shape[-1]
        old_from_new = torch.linalg.inv(self.moving.transform_matrix.double())
        still = (old_from_new == torch.eye(3, dtype=torch.float64, device=device)).all(2).all(1)
        if new != tuple(size):
            still = torch.zeros_like(still)
        moved = _sampled(sample, _coordinates(old_from_new, new), still, self.ignore)
        corner = torch.eye(3, dtype=torch.float64, device=device)
        corner[:2, 2] = 0.5  # from the centre of the first pixel, as kornia counts, to its corner
        matrix = corner @ old_from_new @ torch.linalg.inv(corner)
        matrix = torch.where(still[:, None, None], torch.eye(3, dtype=torch.float64, device=device), matrix)
        affine = (matrix[:, 2, :2].abs() < 1e-12).all(1)
        there = follow(sample, matrix / matrix[:, 2:, 2:], new)
        for name in PLACED:
            if name in there:  # to the bit where nothing moved
                there[name] = there[name].where(~still.to(there[name].device)[:, None], sample[name])
        moved |= lose(there, ~affine) | move_boxes(sample, torch.linalg.inv(matrix))
        return {**sample, **moved, **clip_boxes({**sample, **moved}, new)}

    def _freely(self, sample: Sample, size: tuple[int, int, int], device: torch.device) -> Sample:
        """Return a batch warped as the image of its own coordinates was."""
        if BOXES in sample:
            msg = "Cannot move boxes by a free warp: kornia does not say where their corners go. "
            raise InputError(msg + "Leave such steps out, or take the boxes out of the batch.")
        assert self.moving is not None
        columns, rows = _pixels(size[1:], device)
        ramp = torch.stack([columns, rows, torch.ones_like(rows)]).float().expand(size[0], -1, -1, -1)
        image = self.moving(ramp.contiguous())
        x, y, weight = image.unbind(1)
        places = torch.stack([x / weight, y / weight], dim=-1)
        places = places.where((weight >= 0.5)[..., None], -2 * max(size))
        still = (
            (image == ramp).flatten(1).all(1) if image.shape == ramp.shape else torch.zeros(size[0], dtype=torch.bool)
        )
        moved = _sampled(sample, places, still, self.ignore)
        return {**sample, **moved, **lose(sample, ~still)}

    def _changed(self, sample: Sample) -> Tensor:
        """Return the image with its values changed where they are valid."""
        image = image_of(sample, self.image)
        valid = over_bands(valid_of(sample, self.image), image)
        changed = image.where(valid, 0).flatten(1, -3)
        for step in self.changing:
            changed = step(changed)
        return changed.reshape(image.shape).where(valid, image)


def _sampled(sample: Sample, coordinates: Tensor, still: Tensor, ignore: int | None) -> Sample:
    """Return layers sampled at coordinates; samples that stand still keep their bits."""
    found = resample(sample, coordinates, ignore=ignore)
    masks = instances(sample)
    if masks is not None:
        found[MASKS] = [nearest(one[None], places[None])[0] for one, places in zip(masks, coordinates, strict=True)]
    for name, value in found.items():
        if name == MASKS or not still.any():
            continue
        before = (
            valid_of(sample, name.removesuffix(VALID)) if name.endswith(VALID) and name not in sample else sample[name]
        )
        keep = still.to(value.device)
        found[name] = torch.where(keep.reshape(-1, *[1] * (value.ndim - 1)), before, value)
    return found


def _pixels(size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the columns and the rows of a window's pixels, each (height, width) float64."""
    height, width = size
    rows = torch.arange(height, dtype=torch.float64, device=device)[:, None].expand(height, width)
    return torch.arange(width, dtype=torch.float64, device=device).expand(height, width), rows


def _coordinates(old_from_new: Tensor, size: tuple[int, int]) -> Tensor:
    """Return where each pixel of a new window lies in the old one, (batch, height, width, 2) float32."""
    columns, rows = _pixels(size, old_from_new.device)
    lines = []
    for line in old_from_new.unbind(1):  # column by column and row by row: the sum of both is all that is as large
        across, down, constant = (line[:, place, None, None] for place in range(3))
        lines.append(across * columns[:1] + (down * rows[:, :1] + constant))
    x, y, scale = lines
    return torch.stack([(x / scale).float(), (y / scale).float()], dim=-1)


def _kornia() -> Any:
    try:
        import kornia.augmentation
    except ImportError as error:
        msg = "Cannot augment with kornia, which is not installed: pip install 'geoxt[train]'."
        raise MissingDependency(msg) from error
    return kornia.augmentation


def _data_key() -> Any:
    from kornia.constants import DataKey

    return DataKey
