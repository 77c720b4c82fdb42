"""A map-style torch dataset of benchmark samples, with the keys that windows of layers have."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from geoxt.bridge.layer_reader import TensorDtype, stored_dtype
from geoxt.bridge.read_batch import Sample, geometry, sample_at
from geoxt.datasets import Dataset, Raster
from geoxt.datasets.assets import Audio, HDF5Array, Vector
from geoxt.datasets.find_files import is_shared
from geoxt.datasets.read_sample import is_mask
from geoxt.errors import InputError
from geoxt.grid import full_window
from geoxt.legend import Legend
from geoxt.pixels.scanline import PixelGeometries, burn, find_spans
from geoxt.types import Array
from geoxt.windows import Window

_MAX_LISTED = 4096
"""Maximum number of samples whose files are listed."""


class SampleDataset(TorchDataset[Sample]):
    """A map-style torch dataset of the samples of a benchmark dataset.

    Parameters
    ----------
    data
        A dataset, as `geoxt.datasets.load` returns it.
    transform
        Applied to every sample.
    dtype
        "float32": images become float32. "stored": they keep their dtype if torch supports it.
    keys
        Assets to read. Default: all.

    Notes
    -----
    Entries of a sample, depending on the dataset:

    - `image` (time, band, y, x) without the dimensions it lacks, and `image_valid` (time, y, x), true where no band is
      nodata;
    - `mask` of class codes, int64, and `mask_valid`, true where pixels are labeled;
    - `label`: int64 for a class, float32 for a number, or for several classes 1 at each class that is present;
    - `boxes` (n, 4) float32 left, top, right, bottom in pixels, `labels` (n,) int64 and `masks` (n, y, x) uint8. Of
      numbered instances, `labels` need the mask or a single class; instances without labeled pixels are left out;
    - recordings, float32 (channel, time);
    - `bounds`, `transform` and `crs` of georeferenced images.

    It pickles without open files, so that workers can be forked or spawned.
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
            raise InputError(
                f"Cannot read {unknown[0]!r} of {data.spec.name!r}: its assets are {', '.join(data.spec.assets)}.",
                remedy="Pass some of them as {keys}.",
            )
        if keys is not None:
            data = data.select_assets(keys)
        self.data, self.transform, self.dtype = data, transform, dtype

    @property
    def classes(self) -> Legend | None:
        """Codes, names and colors of the classes, without the codes of unlabeled pixels."""
        spec = self.data.spec
        ignored = {code for asset in spec.assets.values() for code in getattr(asset, "ignore", ())}
        return spec.classes and spec.classes.only([code for code in spec.classes.codes if code not in ignored])

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands of `image`; empty if the dataset does not state them."""
        return tuple(band.name for band in self.data.bands.get("image", ()))

    def __dask_tokenize__(self) -> str:
        """Return a token of the fields and windows of the samples, in order."""
        digest = blake2b(digest_size=16)
        for entry in self.data.entries:
            digest.update(repr((sorted(entry.fields.items()), entry.crop)).encode())
        return digest.hexdigest()

    def paths(self) -> Iterator[str]:
        """Yield the paths of the files of the samples; of many samples, of evenly spaced ones."""
        reader = self.data.reader
        for key, asset in self.data.spec.assets.items():
            if key not in reader.excluded and is_shared(asset):
                yield from (str(path) for template in asset.templates for path, _ in template.find(reader.root))
        step = -(-len(self.data) // _MAX_LISTED) or 1
        for entry in self.data.entries[::step]:
            for key in entry.files.keys() - reader.excluded:
                yield from (str(reader.root / path) for path in entry.paths(key, self.data.spec.assets[key]).values())

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Sample:
        values, grid = self.data.reader.read(self.data.entries[index])
        sample: Sample = {}
        for key, asset in self.data.spec.assets.items():
            if key not in values:
                continue
            if isinstance(asset, Raster | HDF5Array | Vector) and np.ndim(values[key]) >= 2:
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
            sample |= _from_instances(sample["instances"].numpy(), self._codes(sample), self._labeled_pixels(sample))
        if grid is not None:
            sample |= sample_at(geometry({"": grid}, [full_window(grid)]), 0)
        return sample if self.transform is None else self.transform(sample)

    def _pixels(self, key: str, asset: Any, values: Array) -> Sample:
        """Return the tensor and the valid mask of an image or a mask."""
        if is_mask(asset):
            ignored = getattr(asset, "ignore", ())
            codes = values.astype(np.int64)
            valid = ~np.isin(codes, ignored) if ignored else np.ones(codes.shape, bool)
            return {key: torch.from_numpy(codes), f"{key}_valid": torch.from_numpy(valid)}
        nodata = getattr(asset, "nodata", None)
        valid = np.ones(values.shape, bool) if nodata is None else values != nodata
        if values.dtype.kind == "f":
            valid &= np.isfinite(values)
        return {
            key: torch.from_numpy(self._to_stored_dtype(values)),
            f"{key}_valid": torch.from_numpy(valid.all(axis=-3)),
        }

    def _codes(self, sample: Sample) -> Array | None:
        """Return the class code of every pixel of an instance; `None` if neither mask nor legend determine it."""
        if "mask" in sample:
            return sample["mask"].numpy()
        legend = self.data.classes
        single = legend.codes[-1] if legend is not None and len(legend) == 2 else None  # background and one class
        return None if single is None else np.full(tuple(sample["instances"].shape), single)

    @staticmethod
    def _labeled_pixels(sample: Sample) -> Array:
        """Return the labeled pixels: those of the mask, if the sample has one."""
        valid = sample["mask_valid"] if "mask" in sample else sample["instances_valid"]
        return np.asarray(valid.numpy())

    def _to_stored_dtype(self, values: Array) -> Array:
        if self.dtype == "float32":
            return values.astype(np.float32)
        return np.ascontiguousarray(values.astype(stored_dtype(values.dtype)))


def _label(value: Any) -> torch.Tensor:
    array = np.asarray(value)
    is_class = array.ndim == 0 and array.dtype.kind in "iu"
    return torch.as_tensor(array.astype(np.int64 if is_class else np.float32))


def _size(sample: Sample) -> tuple[int, int]:
    height, width = next(v.shape[-2:] for k, v in sample.items() if k.endswith("_valid"))
    return int(height), int(width)


def _objects(values: Sample, size: tuple[int, int]) -> Sample:
    """Return boxes, their labels, and masks rasterized from their outlines."""
    masks = np.zeros((len(values["boxes"]), *size), np.uint8)
    for mask, rings in zip(masks, values["outlines"], strict=True):
        closed = [np.concatenate((ring, ring[:1])).astype(np.float64) for ring in rings if len(ring) > 2]
        if closed:  # COCO repeats the first point of a ring or not; a second repetition is an edge of length zero
            offsets, parts = np.cumsum([0, *map(len, closed)]), np.arange(len(closed) + 1)
            polygons = PixelGeometries.of(np.concatenate(closed), offsets, parts, np.ones(len(closed), bool))
            spans = find_spans(polygons, parts[:-1], Window(0, 0, *size), all_touched=False)
            burn(mask, spans, np.ones(len(closed), np.uint8))
    arrays = {"boxes": values["boxes"], "labels": values["labels"], "masks": masks}
    return {key: torch.from_numpy(np.ascontiguousarray(array)) for key, array in arrays.items()}


def _from_instances(numbers: Array, codes: Array | None, labeled: Array) -> Sample:
    """Return boxes and masks of instances numbered from 1, each with the most frequent class of its labeled pixels.

    Instances without a labeled pixel are left out.
    """
    instances = [number for number in np.unique(numbers[labeled]).tolist() if number]
    masks = np.stack([numbers == n for n in instances]) if instances else np.zeros((0, *numbers.shape), bool)
    boxes = np.zeros((len(instances), 4), np.float32)
    for box, mask in zip(boxes, masks, strict=True):
        rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box[:] = cols[0], rows[0], cols[-1] + 1, rows[-1] + 1
    sample = {"boxes": torch.from_numpy(boxes), "masks": torch.from_numpy(masks.astype(np.uint8))}
    if codes is not None:
        labels = [int(np.bincount(codes[mask & labeled]).argmax()) for mask in masks]
        sample["labels"] = torch.tensor(labels, dtype=torch.int64)
    return sample
