"""Mixing augmentations: MixUp, CutMix and SlideMix. Labels are mixed alike; the georeference becomes NaN."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoxt.errors import InputError
from geoxt.torch_devices import same_device
from geoxt.transforms.batch import (
    BOXES,
    VALID,
    Sample,
    broadcast_per_sample,
    image_of,
    is_labels,
    layers_of,
    size_of,
    valid_of,
)
from geoxt.transforms.geometry import invalidate_geometry
from geoxt.transforms.random_stream import RandomStream


def mixup(
    sample: Sample, partners: Tensor, weights: Tensor, *, image: str, label: str, num_classes: int | None
) -> Sample:
    """Return the weighted mean of each sample and its partner; see `MixUp`.

    Parameters
    ----------
    sample
        The batch.
    partners
        (batch,) int64: index of the sample that each is mixed with.
    weights
        (batch,) in [0, 1]: weight of the sample; its partner has the remaining weight.
    image, label, num_classes
        As for `MixUp`.

    Examples
    --------
    >>> import torch
    >>> from geoxt.transforms import mixup
    >>> sample = {"image": torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1), "label": torch.tensor([0, 1])}
    >>> weights = torch.tensor([0.75, 1.0])
    >>> mixup(sample, torch.tensor([1, 0]), weights, image="image", label="label", num_classes=2)["label"]
    tensor([[0.7500, 0.2500],
            [0.0000, 1.0000]])
    """
    values, valid = image_of(sample, image), valid_of(sample, image)
    codes = [name for name, layer in layers_of(sample).items() if is_labels(layer) and not name.endswith(VALID)]
    if codes:
        msg = f"Cannot average class codes: the batch has the layers {codes}."
        raise InputError(msg, remedy="Leave them out of the batch, or use CutMix.")
    weight, other = broadcast_per_sample(weights, values).to(values.dtype), same_device(partners, values)
    unmixed = broadcast_per_sample(weights == 1, values)
    mixed = (weight * values + (1 - weight) * values[other]).where(~unmixed, values)
    new_valid = (valid & valid[other]).where(~broadcast_per_sample(weights == 1, valid), valid)
    batch = {**sample, image: mixed, image + VALID: new_valid}
    return batch | _labels(sample, label, num_classes, partners, weights) | invalidate_geometry(sample, weights < 1)


def cutmix(sample: Sample, partners: Tensor, rectangles: Tensor, *, label: str, num_classes: int | None) -> Sample:
    """Replace a rectangle of each sample by that of its partner, in every layer; see `CutMix`.

    Parameters
    ----------
    sample
        The batch.
    partners
        (batch,) int64: index of the sample that each rectangle is taken from.
    rectangles
        (batch, 4) int64: top, left, bottom, right in pixels, the last two exclusive.
    label, num_classes
        As for `CutMix`.

    Examples
    --------
    >>> import torch
    >>> from geoxt.transforms import cutmix
    >>> sample = {"image": torch.arange(2.0).reshape(2, 1, 1, 1).repeat(1, 1, 2, 2), "label": torch.tensor([0, 1])}
    >>> mixed = cutmix(sample, torch.tensor([1, 0]), torch.tensor([[0, 0, 1, 2]] * 2), label="label", num_classes=2)
    >>> mixed["image"][0, 0], mixed["label"]
    (tensor([[1., 1.],
            [0., 0.]]), tensor([[0.5000, 0.5000],
            [0.5000, 0.5000]]))
    """
    _require_no_boxes(sample)
    layers = layers_of(sample)
    count, height, width = size_of(layers)
    top, left, bottom, right = (rectangles[:, side, None, None] for side in range(4))
    rows, columns = torch.arange(height)[None, :, None], torch.arange(width)[None, None, :]
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    mixed = {}
    for name, value in layers.items():
        mask = same_device(inside, value).reshape(count, *[1] * (value.ndim - 3), height, width)
        mixed[name] = value[same_device(partners, value)].where(mask, value)
    weights = 1 - inside.flatten(1).float().mean(1)
    labels = _labels(sample, label, num_classes, partners, weights)
    return {**sample, **mixed, **labels, **invalidate_geometry(sample, weights < 1)}


def roll(sample: Sample, shifts: Tensor) -> Sample:
    """Roll all layers of each sample by the same number of pixels, with wrap-around; see `SlideMix`.

    Parameters
    ----------
    sample
        The batch.
    shifts
        (batch, 2) int64: shift in rows (down) and columns (right).

    Examples
    --------
    >>> import torch
    >>> from geoxt.transforms import roll
    >>> sample = {"image": torch.arange(3.0).reshape(1, 1, 1, 3)}
    >>> roll(sample, torch.tensor([[0, 1]]))["image"]
    tensor([[[[2., 0., 1.]]]])
    """
    _require_no_boxes(sample)
    amounts = [(int(row), int(col)) for row, col in shifts.tolist()]
    rolled = {
        name: torch.stack([image.roll(amount, (-2, -1)) for image, amount in zip(value, amounts, strict=True)])
        for name, value in layers_of(sample).items()
    }
    _, height, width = size_of(layers_of(sample))
    lost = (shifts[:, 0] % height != 0) | (shifts[:, 1] % width != 0)
    return {**sample, **rolled, **invalidate_geometry(sample, lost)}


def _labels(sample: Sample, label: str, num_classes: int | None, partners: Tensor, weights: Tensor) -> Sample:
    """Return the weighted mean of labels: class probabilities (batch, classes), or numbers."""
    if label not in sample:
        return {}
    target: Tensor = sample[label]
    if not target.is_floating_point():
        if num_classes is None or int(target.min()) < 0 or int(target.max()) >= num_classes:
            msg = f"Cannot mix labels from {int(target.min())} to {int(target.max())} with num_classes={num_classes}."
            raise InputError(msg, remedy="Pass class indices from 0. Pass the number of classes as {num_classes}.")
        target = F.one_hot(target.long(), num_classes).float()
    weight, other = broadcast_per_sample(weights, target).to(target.dtype), target[same_device(partners, target)]
    return {label: weight * target + (1 - weight) * other}


def _require_no_boxes(sample: Sample) -> None:
    if BOXES in sample:
        msg = "Cannot mix samples with boxes: objects cut by the mixing would keep their whole box."
        raise InputError(msg, remedy="Remove the boxes from the batch.")


class MixUp(nn.Module):
    """Replaces each sample by the weighted mean of itself and another sample of the batch, labels included.

    Parameters
    ----------
    p
        Probability of mixing a sample.
    alpha
        Parameter of the distribution Beta(alpha, alpha) of the weights.
    num_classes
        Number of classes if labels are class indices (batch,); they become probabilities (batch, classes). Floating
        point labels (probabilities, regression targets) are averaged.
    image, label
        Keys of the image and of the label, if the batch has one.
    seed
        Seed of this transform; by default torch's global generator is used. See `RandomStream`.

    Notes
    -----
    A pixel is valid if it is valid in both samples. `bounds` and `transform` of mixed samples are NaN.

    References
    ----------
    Zhang et al. 2018, mixup, https://arxiv.org/abs/1710.09412
    """

    def __init__(
        self, p: float = 1.0, *, alpha: float = 0.2, num_classes: int | None = None, image: str = "image",
        label: str = "label", seed: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        _require_positive(alpha)
        self.p, self.alpha, self.num_classes, self.image, self.label = p, alpha, num_classes, image, label
        self.rng = RandomStream(seed)

    def forward(self, sample: Sample) -> Sample:
        """Return the mixed batch."""
        count = len(image_of(sample, self.image))
        partners, applied = _partners(self.rng, count), self.rng.bernoulli(self.p, count)
        weights = self.rng.beta(self.alpha, count).where(applied & (partners != torch.arange(count)), 1)
        return mixup(sample, partners, weights, image=self.image, label=self.label, num_classes=self.num_classes)


class CutMix(nn.Module):
    """Pastes a rectangle of another sample of the batch into each sample: image, class codes and valid mask alike.

    Parameters
    ----------
    p
        Probability of mixing a sample.
    alpha
        Parameter of the distribution Beta(alpha, alpha) of the fraction of the window that remains.
    num_classes
        As for `MixUp`; the weight is the fraction of the window that remains.
    label
        Key of the label, if the batch has one.
    seed
        Seed of this transform; by default torch's global generator is used. See `RandomStream`.

    Notes
    -----
    `bounds` and `transform` of mixed samples are NaN.

    References
    ----------
    Yun et al. 2019, CutMix, https://doi.org/10.1109/ICCV.2019.00612; for satellite images Hopkins et al. 2025
    (Sat-CutMix), https://doi.org/10.1609/aaai.v39i27.35028
    """

    def __init__(
        self, p: float = 0.5, *, alpha: float = 1.0, num_classes: int | None = None, label: str = "label",
        seed: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        _require_positive(alpha)
        self.p, self.alpha, self.num_classes, self.label = p, alpha, num_classes, label
        self.rng = RandomStream(seed)

    def forward(self, sample: Sample) -> Sample:
        """Return the mixed batch."""
        count, height, width = size_of(layers_of(sample))
        partners, applied = _partners(self.rng, count), self.rng.bernoulli(self.p, count)
        # a rectangle of the window's shape: each side has the square root of the area's fraction (Yun et al., eq. 2)
        side = (1 - self.rng.beta(self.alpha, count)).sqrt()
        side = side.where(applied & (partners != torch.arange(count)), 0)
        limits = []
        for length in (height, width):
            center, half = self.rng.integers(length, count), (side * length / 2).round().long()
            limits.append(((center - half).clamp(min=0), (center + half).clamp(max=length)))
        rectangles = torch.stack([limits[0][0], limits[1][0], limits[0][1], limits[1][1]], dim=1)
        return cutmix(sample, partners, rectangles, label=self.label, num_classes=self.num_classes)


class SlideMix(nn.Module):
    """Rolls each sample along its rows or its columns, with wrap-around.

    Parameters
    ----------
    p
        Probability of rolling a sample.
    max_shift
        Largest shift as a fraction of the window.
    seed
        Seed of this transform; by default torch's global generator is used. See `RandomStream`.

    Notes
    -----
    Labels are unchanged. `bounds` and `transform` of rolled samples are NaN.

    References
    ----------
    Hopkins et al. 2025 (Sat-SlideMix), https://doi.org/10.1609/aaai.v39i27.35028
    """

    def __init__(self, p: float = 0.5, *, max_shift: float = 1.0, seed: int | None = None) -> None:
        super().__init__()
        self.p, self.max_shift = p, max_shift
        self.rng = RandomStream(seed)

    def forward(self, sample: Sample) -> Sample:
        """Return the rolled batch."""
        count, height, width = size_of(layers_of(sample))
        applied, across = self.rng.bernoulli(self.p, count), self.rng.bernoulli(0.5, count)
        fraction = (2 * self.rng.uniform(count) - 1) * self.max_shift * applied
        down = (fraction * height).round().long().where(~across, 0)
        return roll(sample, torch.stack([down, (fraction * width).round().long().where(across, 0)], dim=1))


def _partners(rng: RandomStream, count: int) -> Tensor:
    """Return a random permutation of the samples."""
    return rng.uniform(count).argsort()


def _require_positive(alpha: float) -> None:
    if not alpha > 0:
        msg = f"Cannot draw weights from Beta(alpha, alpha) with alpha={alpha}."
        raise InputError(msg, remedy="Pass a positive {alpha}.")
