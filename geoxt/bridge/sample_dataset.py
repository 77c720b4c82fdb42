"""Samples of benchmark datasets -> tensors, under the keys that windows of layers have too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import rasterio.features
import torch
from torch.utils.data import Dataset as TorchDataset

from geoxt.bridge.layer_reader import TensorDtype, stored_dtype
from geoxt.bridge.read_batch import Sample, geometry, sample_at
from geoxt.datasets import Dataset, Raster
from geoxt.datasets.assets import Array as ArrayAsset
from geoxt.datasets.assets import Audio, Vector
from geoxt.datasets.read_sample import is_mask
from geoxt.errors import InputError
from geoxt.grid import full_window
from geoxt.legend import Legend
from geoxt.types import Array


class SampleDataset(TorchDataset[Sample]):
    """A map-style torch dataset of a dataset's samples.

    Parameters
    ----------
    data
        The samples.
    transform
        Applied to every sample.
    dtype
        "float32": images become float32. "stored": they keep their type where torch has it.
    keys
        Assets to read; all by default.

    Notes
    -----
    A sample has, by key of the dataset: `image` (time, band, y, x), absent dimensions left out, and `image_valid`
    (time, y, x), true where no band is nodata; `mask` of class codes as int64, and `mask_valid`, true where there is a
    label; `label`, int64, or float32 for numbers and for several classes (ones for those that are there); `boxes`
    (n, 4) float32 left, top, right, bottom in pixels, `labels` (n,) int64 (of numbered shapes where the mask is read,
    or there is one class; shapes of which the mask says that they have no label are left out) and `masks` (n, y, x)
    uint8; recordings as float32 (channel, time); and, of georeferenced images, `bounds`, `transform` and `crs`. It
    pickles without open files, so it goes to workers by fork or spawn.
    """

    def __init__(
        self,
        data: Dataset,
        *,
        transform: Callable[[Sample], Sample] | None = None,
        dtype: TensorDtype = "float32",
        keys: Sequence[str] | None = None,
    ) -> None:
        unknown = sorted(set(keys or ()) - {*data.spec.assets, "label"})
        if unknown:
            msg = f"Cannot read {unknown[0]!r} of {data.spec.name!r}: it has {', '.join(data.spec.assets)}. Mend keys=."
            raise InputError(msg)
        if keys is not None:
            data = data.only(keys)
        self.data, self.transform, self.dtype = data, transform, dtype

    @property
    def classes(self) -> Legend | None:
        """Codes, names and colours of what is labelled, without the codes that mean that there is no label."""
        spec = self.data.spec
        without = {code for asset in spec.assets.values() for code in getattr(asset, "ignore", ())}
        return spec.classes and spec.classes.only([code for code in spec.classes.codes if code not in without])

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands of `image`; none where the dataset does not say."""
        return tuple(band.name for band in self.data.bands.get("image", ()))

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Sample:
        values, grid = self.data.reader.read(self.data.entries[index])
        sample: Sample = {}
        for key, asset in self.data.spec.assets.items():
            if key not in values:
                continue
            if isinstance(asset, Raster | ArrayAsset | Vector) and np.ndim(values[key]) >= 2:
                sample |= self._pixels(key, asset, values[key])
            elif isinstance(asset, Audio):
                sample[key] = torch.from_numpy(np.ascontiguousarray(values[key]))
            elif key != "boxes":
                sample[key] = _label(values[key])
        if "label" in values and "label" not in sample:
            sample["label"] = _label(values["label"])
        if "boxes" in values:
            sample |= _objects(values, _size(sample))
        elif "instances" in sample:
            sample |= _from_instances(sample["instances"].numpy(), self._codes(sample), self._labelled(sample))
        if grid is not None:
            sample |= sample_at(geometry({"": grid}, [full_window(grid)]), 0)
        return sample if self.transform is None else self.transform(sample)

    def _pixels(self, key: str, asset: Any, values: Array) -> Sample:
        """Return the tensors of an image or a mask, and where they are valid."""
        if is_mask(asset):
            ignored = getattr(asset, "ignore", ())
            codes = values.astype(np.int64)
            valid = ~np.isin(codes, ignored) if ignored else np.ones(codes.shape, bool)
            return {key: torch.from_numpy(codes), f"{key}_valid": torch.from_numpy(valid)}
        nodata = getattr(asset, "nodata", None)
        good = np.ones(values.shape, bool) if nodata is None else values != nodata
        if values.dtype.kind == "f":
            good &= np.isfinite(values)
        return {key: torch.from_numpy(self._typed(values)), f"{key}_valid": torch.from_numpy(good.all(axis=-3))}

    def _codes(self, sample: Sample) -> Array | None:
        """Return the class of every pixel that is in a numbered shape; `None` where neither mask nor legend tell."""
        if "mask" in sample:
            return sample["mask"].numpy()
        legend = self.data.classes
        only = legend.codes[-1] if legend is not None and len(legend) == 2 else None
        return None if only is None else np.full(tuple(sample["instances"].shape), only)

    @staticmethod
    def _labelled(sample: Sample) -> Array:
        """Return where the class of a numbered shape may be told: everywhere without a mask."""
        found = sample["mask_valid"] if "mask" in sample else sample["instances_valid"]
        return np.asarray(found.numpy())

    def _typed(self, values: Array) -> Array:
        if self.dtype == "float32":
            return values.astype(np.float32)
        return np.ascontiguousarray(values.astype(stored_dtype(values.dtype)))


def _label(value: Any) -> torch.Tensor:
    array = np.asarray(value)
    whole_number = array.ndim == 0 and array.dtype.kind in "iu"
    return torch.as_tensor(array.astype(np.int64 if whole_number else np.float32))


def _size(sample: Sample) -> tuple[int, int]:
    height, width = next(v.shape[-2:] for k, v in sample.items() if k.endswith("_valid"))
    return int(height), int(width)


def _objects(values: Sample, size: tuple[int, int]) -> Sample:
    """Return boxes, their classes and their outlines as masks."""
    masks = np.zeros((len(values["boxes"]), *size), np.uint8)
    for mask, rings in zip(masks, values["outlines"], strict=True):
        shapes = [{"type": "Polygon", "coordinates": [ring.tolist()]} for ring in rings if len(ring) > 3]
        if shapes:
            mask[...] = rasterio.features.rasterize(shapes, size)
    kinds = {"boxes": values["boxes"], "labels": values["labels"], "masks": masks}
    return {key: torch.from_numpy(np.ascontiguousarray(array)) for key, array in kinds.items()}


def _from_instances(numbers: Array, codes: Array | None, labelled: Array) -> Sample:
    """Return boxes and masks of shapes that are numbered from 1, and the class that most labelled pixels of each have.

    Shapes without a labelled pixel are left out.
    """
    found = [number for number in np.unique(numbers[labelled]).tolist() if number]
    masks = np.stack([numbers == number for number in found]) if found else np.zeros((0, *numbers.shape), bool)
    boxes = np.zeros((len(found), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box[:] = cols[0], rows[0], cols[-1] + 1, rows[-1] + 1
    out = {"boxes": torch.from_numpy(boxes), "masks": torch.from_numpy(masks.astype(np.uint8))}
    if codes is not None:
        of = [int(np.bincount(codes[mask & labelled]).argmax()) for mask in masks]
        out["labels"] = torch.tensor(of, dtype=torch.int64)
    return out
