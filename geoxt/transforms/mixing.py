"""Mixing: two samples become one, or one is slid round; labels follow, geometry is marked lost."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geoxt.errors import InputError
from geoxt.transforms.draws import Draws
from geoxt.transforms.place import lose
from geoxt.transforms.sample import BOXES, VALID, Sample, image_of, is_labels, layers_of, per_sample, size_of, valid_of


def mixup(sample: Sample, partners: Tensor, shares: Tensor, *, image: str, label: str, classes: int | None) -> Sample:
    """Return a batch of weighted means of samples; see `MixUp`.

    Parameters
    ----------
    sample
        The batch.
    partners
        (batch,) int64: with which sample each is mixed.
    shares
        (batch,) from 0 to 1: how much of itself each keeps.
    image, label, classes
        As for `MixUp`.
    """
    values, valid = image_of(sample, image), valid_of(sample, image)
    codes = [name for name, layer in layers_of(sample).items() if is_labels(layer) and not name.endswith(VALID)]
    if codes:
        msg = f"Cannot take the mean of class codes {codes}: leave them out of the batch, or use CutMix."
        raise InputError(msg)
    keep, other = per_sample(shares, values).to(values.dtype), partners.to(values.device)
    whole = per_sample(shares == 1, values)
    mixed = (keep * values + (1 - keep) * values[other]).where(~whole, values)
    good = (valid & valid[other]).where(~per_sample(shares == 1, valid), valid)
    found = {**sample, image: mixed, image + VALID: good}
    return found | _labels(sample, label, classes, partners, shares) | lose(sample, shares < 1)


def cutmix(sample: Sample, partners: Tensor, frames: Tensor, *, label: str, classes: int | None) -> Sample:
    """Return a batch with a rectangle of each sample taken from another, in every layer; see `CutMix`.

    Parameters
    ----------
    sample
        The batch.
    partners
        (batch,) int64: from which sample each rectangle comes.
    frames
        (batch, 4) int64: top, left, bottom, right in pixels, the last two excluded.
    label, classes
        As for `CutMix`.
    """
    _refuse_boxes(sample)
    layers = layers_of(sample)
    count, height, width = size_of(layers)
    top, left, bottom, right = (frames[:, side, None, None] for side in range(4))
    rows, columns = torch.arange(height)[None, :, None], torch.arange(width)[None, None, :]
    inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    moved = {}
    for name, value in layers.items():
        here = inside.to(value.device).reshape(count, *[1] * (value.ndim - 3), height, width)
        moved[name] = value[partners.to(value.device)].where(here, value)
    shares = 1 - inside.flatten(1).float().mean(1)
    return {**sample, **moved, **_labels(sample, label, classes, partners, shares), **lose(sample, shares < 1)}


def slide(sample: Sample, shifts: Tensor) -> Sample:
    """Return a batch rolled by whole pixels: what leaves on one side comes in on the other; see `SlideMix`.

    Parameters
    ----------
    sample
        The batch.
    shifts
        (batch, 2) int64: rows and columns, downwards and to the right.
    """
    _refuse_boxes(sample)
    amounts = [(int(row), int(col)) for row, col in shifts.tolist()]
    moved = {
        name: torch.stack([one.roll(amount, (-2, -1)) for one, amount in zip(value, amounts, strict=True)])
        for name, value in layers_of(sample).items()
    }
    _, height, width = size_of(layers_of(sample))
    lost = (shifts[:, 0] % height != 0) | (shifts[:, 1] % width != 0)
    return {**sample, **moved, **lose(sample, lost)}


def _labels(sample: Sample, label: str, classes: int | None, partners: Tensor, shares: Tensor) -> Sample:
    """Return labels mixed in shares: probabilities of classes, or means of numbers."""
    if label not in sample:
        return {}
    known: Tensor = sample[label]
    if not known.is_floating_point():
        if classes is None or int(known.min()) < 0 or int(known.max()) >= classes:
            found = f"{int(known.min())} to {int(known.max())}, classes={classes}"
            msg = f"Cannot mix labels {found}: pass class indices from 0, and classes= the number of them."
            raise InputError(msg)
        known = F.one_hot(known.long(), classes).float()
    keep, other = per_sample(shares, known).to(known.dtype), known[partners.to(known.device)]
    return {label: keep * known + (1 - keep) * other}


def _refuse_boxes(sample: Sample) -> None:
    if BOXES in sample:
        msg = "Cannot mix samples with boxes: parts of things would have none. Take the boxes out of the batch."
        raise InputError(msg)


class MixUp(nn.Module):
    """Mixes each sample with another one of the batch: weighted means of images and of labels.

    Parameters
    ----------
    p
        Probability of each sample.
    alpha
        The weight is drawn from Beta(alpha, alpha).
    classes
        Number of classes, where labels are class indices (batch,); they become probabilities (batch, classes). Labels
        of floating point (probabilities, or numbers to regress) are mixed as they are.
    image, label
        Names of the layer, and of its label if there is one.
    seed
        See `Draws`.

    Notes
    -----
    A pixel is valid where it is in both samples. `bounds` and `transform` are NaN where samples were mixed.

    References
    ----------
    Zhang et al. 2018, mixup, https://arxiv.org/abs/1710.09412
    """

    def __init__(
        self, p: float = 1.0, *, alpha: float = 0.2, classes: int | None = None, image: str = "image",
        label: str = "label", seed: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        _require_positive(alpha)
        self.p, self.alpha, self.classes, self.image, self.label = p, alpha, classes, image, label
        self.draws = Draws(seed)

    def forward(self, sample: Sample) -> Sample:
        """Return the batch, mixed."""
        count = len(image_of(sample, self.image))
        partners, hit = _partners(self.draws, count), self.draws.happens(self.p, count)
        shares = self.draws.beta(self.alpha, count).where(hit & (partners != torch.arange(count)), 1)
        return mixup(sample, partners, shares, image=self.image, label=self.label, classes=self.classes)


class CutMix(nn.Module):
    """Pastes a rectangle of another sample of the batch into each: image, class codes and validity alike.

    Parameters
    ----------
    p
        Probability of each sample.
    alpha
        The share of the window that stays is drawn from Beta(alpha, alpha).
    classes
        As for `MixUp`; the weight is the share of the window that stayed.
    label
        Name of the samples' label, if they have one.
    seed
        See `Draws`.

    Notes
    -----
    `bounds` and `transform` are NaN where something was pasted.

    References
    ----------
    Yun et al. 2019, CutMix, https://doi.org/10.1109/ICCV.2019.00612; for satellite images Hopkins et al. 2025
    (Sat-CutMix), https://doi.org/10.1609/aaai.v39i27.35028
    """

    def __init__(
        self, p: float = 0.5, *, alpha: float = 1.0, classes: int | None = None, label: str = "label",
        seed: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        _require_positive(alpha)
        self.p, self.alpha, self.classes, self.label = p, alpha, classes, label
        self.draws = Draws(seed)

    def forward(self, sample: Sample) -> Sample:
        """Return the batch, mixed."""
        count, height, width = size_of(layers_of(sample))
        partners, hit = _partners(self.draws, count), self.draws.happens(self.p, count)
        side = (1 - self.draws.beta(self.alpha, count)).sqrt()
        side = side.where(hit & (partners != torch.arange(count)), 0)
        ends = []
        for length in (height, width):
            middle, half = self.draws.integers(length, count), (side * length / 2).round().long()
            ends.append(((middle - half).clamp(min=0), (middle + half).clamp(max=length)))
        frames = torch.stack([ends[0][0], ends[1][0], ends[0][1], ends[1][1]], dim=1)
        return cutmix(sample, partners, frames, label=self.label, classes=self.classes)


class SlideMix(nn.Module):
    """Slides each sample along its rows or its columns, round to the other side: from above, no place is the middle.

    Parameters
    ----------
    p
        Probability of each sample.
    most
        Largest shift, as a share of the window.
    seed
        See `Draws`.

    Notes
    -----
    Labels stay. `bounds` and `transform` are NaN where something was moved.

    References
    ----------
    Hopkins et al. 2025 (Sat-SlideMix), https://doi.org/10.1609/aaai.v39i27.35028
    """

    def __init__(self, p: float = 0.5, *, most: float = 1.0, seed: int | None = None) -> None:
        super().__init__()
        self.p, self.most = p, most
        self.draws = Draws(seed)

    def forward(self, sample: Sample) -> Sample:
        """Return the batch, slid."""
        count, height, width = size_of(layers_of(sample))
        hit, across = self.draws.happens(self.p, count), self.draws.happens(0.5, count)
        share = (2 * self.draws.uniform(count) - 1) * self.most * hit
        down = (share * height).round().long().where(~across, 0)
        return slide(sample, torch.stack([down, (share * width).round().long().where(across, 0)], dim=1))


def _partners(draws: Draws, count: int) -> Tensor:
    """Return a random order of the samples: with which each is mixed."""
    return draws.uniform(count).argsort()


def _require_positive(alpha: float) -> None:
    if not alpha > 0:
        msg = f"Cannot draw shares with alpha={alpha}: pass alpha= above zero."
        raise InputError(msg)
