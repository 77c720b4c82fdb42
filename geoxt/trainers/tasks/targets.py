"""Training targets of a batch; unknown labels are `IGNORE` among class indices and NaN among values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from geoxt.errors import InputError
from geoxt.metrics.label_codes import IGNORE, Codes

Batch = dict[str, Any]
"""A batch of samples: tensors by key, with the valid mask of a layer under `<key>_valid`."""
_Reduce = Callable[..., Tensor]
"""`torch.any` or `torch.all`."""


def entry(batch: Batch, key: str) -> Any:
    """Return an entry of a batch.

    Raises
    ------
    InputError
        If the batch lacks it.
    """
    if key not in batch:
        msg = f"Cannot train on samples without {key!r}: their keys are {', '.join(map(str, batch))}."
        raise InputError(msg, remedy="Rename one. Or pass its key to Task by {names}.", value=key, argument="names")
    return batch[key]


def validity(batch: Batch, key: str) -> Tensor | None:
    """Return the valid mask of a layer, bool (N, H, W) or (N, T, H, W); None if all pixels are valid."""
    valid: Tensor | None = batch.get(f"{key}_valid")
    return valid


def mask_nonfinite(batch: Batch, image: str) -> Batch:
    """Return a batch whose image is also invalid at pixels that are not finite; on CPUs the same batch if all are."""
    pixels: Tensor = entry(batch, image)
    if not isinstance(pixels, Tensor):
        shapes = sorted({tuple(item.shape) for item in pixels})
        msg = f"Cannot stack {image!r} into one batch: samples have the shapes {shapes[:4]}."
        raise InputError(msg, remedy="Pass batch_size=1 and eval_size=1, or datasets with images of one size.")
    if not pixels.is_floating_point():
        return batch
    # One pass: NaN and Inf propagate to the sum. On CUDA it would wait for the previous batch.
    if not pixels.is_cuda and bool(pixels.sum().isfinite()):
        return batch
    finite = pixels.isfinite().all(dim=-3) if pixels.ndim > 3 else pixels.isfinite()
    valid = validity(batch, image)
    return {**batch, f"{image}_valid": finite if valid is None else finite & valid}


def known_count(target: Tensor) -> int:
    """Return the number of class indices that are not `IGNORE`, or of values that are not NaN."""
    labeled = ~target.isnan() if target.is_floating_point() else target != IGNORE
    return int(labeled.sum())


def pixel_classes(batch: Batch, image: str, target: str, codes: Codes) -> Tensor:
    """Return class indices int64 (N, H, W); `IGNORE` at invalid image or label pixels and codes of no class.

    A time series is valid at pixels valid on one date or more: `image_valid` (N, T, H, W) is false on masked dates
    (clouds) and on the padding of shorter series, whose pixels are the band means.
    """
    return _class_indices(batch, image, target, codes, torch.any)


def change_classes(batch: Batch, image: str, target: str, codes: Codes) -> Tensor:
    """Return class indices as `pixel_classes`; `IGNORE` also at pixels that are invalid on either date."""
    return _class_indices(batch, image, target, codes, torch.all)


def pixel_values(batch: Batch, image: str, target: str, codes: Codes) -> Tensor:
    """Return values float32 (N, K, H, W); NaN at invalid image or label pixels."""
    del codes
    values = entry(batch, target).float()
    values = values[:, None] if values.ndim == 3 else values
    valid = _valid_in_both(batch, image, target, torch.any)
    return values if valid is None else values.where(valid[:, None], torch.nan)


def image_class(batch: Batch, image: str, target: str, codes: Codes) -> Tensor:
    """Return class indices int64 (N,), `IGNORE` for codes of no class; or class probabilities of mixed samples.

    Mixed labels, float (N, largest code + 1), become probabilities float32 (N, K).
    """
    del image
    label = entry(batch, target)
    if label.is_floating_point() and label.ndim == 2:
        probabilities: Tensor = label.float()[:, codes.codes]
        return probabilities
    indices: Tensor = codes(label.long())
    return indices


def image_labels(batch: Batch, image: str, target: str, codes: Codes) -> Tensor:
    """Return multi-label targets float32 (N, K): 0, 1, or NaN for negative (unknown) labels."""
    del image, codes
    labels = entry(batch, target).float()
    return labels.where(labels >= 0, torch.nan)


def image_values(batch: Batch, image: str, target: str, codes: Codes) -> Tensor:
    """Return values float32 (N, K); NaN is unknown."""
    del image, codes
    values = entry(batch, target).float()
    return values[:, None] if values.ndim == 1 else values


def _class_indices(batch: Batch, image: str, target: str, codes: Codes, over_dates: _Reduce) -> Tensor:
    mask = _without_band(entry(batch, target), target)
    valid = _valid_in_both(batch, image, target, over_dates)
    if mask.is_floating_point():
        mask, valid = _whole_numbers(mask, valid, target)
    indices: Tensor = codes(mask.long(), valid)
    return indices


def _whole_numbers(mask: Tensor, valid: Tensor | None, key: str) -> tuple[Tensor, Tensor]:
    """Return floating-point labels of whole numbers and their valid mask: NaN and infinite ones are invalid."""
    finite = mask.isfinite()
    valid = finite if valid is None else valid & finite
    fractions = mask[valid & (mask != mask.round())]
    if len(fractions):
        msg = f"Cannot train on {key!r}: {float(fractions[0]):g} is not a whole number, so it is not a class code."
        remedy = "Open class codes by open_cogs(…, categorical=True), which are never interpolated."
        raise InputError(msg, remedy=remedy)
    return mask.nan_to_num(), valid


def _without_band(mask: Tensor, key: str) -> Tensor:
    """Return labels (N, H, W) without a band or time dimension of length 1."""
    while mask.ndim > 3 and mask.shape[1] == 1:
        mask = mask[:, 0]
    if mask.ndim != 3:
        msg = f"Cannot train on {key!r} of shape {tuple(mask.shape)}: a sample needs one class per pixel."
        raise InputError(msg, remedy="Choose one of its bands or times, e.g. mask.isel(time=-1).")
    return mask


def _valid_in_both(batch: Batch, image: str, target: str, over_dates: _Reduce) -> Tensor | None:
    """Return pixels valid in labels and image, bool (N, H, W); `over_dates` reduces the image's time dimension."""
    label_valid, image_valid = validity(batch, target), validity(batch, image)
    if label_valid is not None and label_valid.ndim == 4:
        label_valid = label_valid.all(dim=1)
    if image_valid is not None and image_valid.ndim == 4:
        image_valid = over_dates(image_valid, dim=1)
    if label_valid is None or image_valid is None:
        return image_valid if label_valid is None else label_valid
    return label_valid & image_valid
