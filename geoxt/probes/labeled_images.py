"""Labeled images for probes: an image folder or a benchmark dataset of classification, with its splits."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import ConcatDataset

from geoxt import datasets
from geoxt.bridge import collate, to_torch
from geoxt.datasets.locations import footprints
from geoxt.datasets.spec import RandomSplit
from geoxt.datasets.splits import assign
from geoxt.errors import InputError, did_you_mean
from geoxt.legend import Legend
from geoxt.models.band_match import BandNames
from geoxt.trainers.datamodules.image_folder import ImageFolder, read_image_folder, resized, stratified_split
from geoxt.types import Array, SomePath

PARTS = ("train", "val", "test")
Parts = Mapping[str, Array]
"""Positions of the samples of the training, validation and test part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabeledImages:
    """Labeled images, and their split into training, validation and test part."""

    name: str
    """Name of the dataset, or path of the image folder."""
    samples: Any
    """Map-style dataset of `image` (C, H, W) float32, stored values, and optionally `image_valid` (H, W)."""
    labels: Array
    """Class index of each sample, int64 (n,)."""
    classes: tuple[str, ...]
    """Class names."""
    bands: BandNames
    """Names, common names and wavelengths of the bands."""
    parts: Parts
    """Positions of the samples of each part."""
    split: str
    """Kind of the split: "published" or "random"."""
    size: int | None = None
    """Height and width in pixels to which images are resized; `None` for no resizing."""
    digest: str
    """Hash of the files and labels."""
    blocked: Callable[[float, Mapping[str, float], int], tuple[list[str | None], Array]] | None = field(repr=False)
    """Function of block size in metres, fractions and seed that returns part and center (n, 2) of each sample; `None`
    for images without coordinates."""

    def batch(self, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return images (n, C, H, W) float32 and their valid masks (n, H, W)."""
        batch = (
            self.samples.__getitems__(positions)
            if isinstance(self.samples, ImageFolder)
            else collate([self.samples[position] for position in positions])
        )
        images = resized(batch["image"], self.size)
        valid = batch.get("image_valid")
        if valid is None:
            return images, torch.ones_like(images[:, 0], dtype=torch.bool)
        return images, F.interpolate(valid[:, None].float(), size=tuple(images.shape[-2:]))[:, 0] > 0

    def describe(self) -> dict[str, Any]:
        """Return name, bands, split and hashes, which determine images, labels and parts, for JSON."""
        parts = hashlib.sha256(repr([self.parts[part].tolist() for part in PARTS]).encode()).hexdigest()
        metadata = {"name": self.name, "bands": list(self.bands.names), "split": self.split, "size": self.size}
        return {**metadata, "digest": self.digest, "parts": parts}

    def fractions(self) -> dict[str, float]:
        """Return the fraction of the samples in each part."""
        total = sum(map(len, self.parts.values()))
        return {part: len(positions) / total for part, positions in self.parts.items()}


def open_images(
    dataset: str,
    *,
    root: SomePath | None = None,
    bands: Sequence[str] | None = None,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    size: int | None = None,
    download: bool = False,
) -> LabeledImages:
    """Open labeled images for probes.

    Parameters
    ----------
    dataset
        Name of a benchmark dataset of classification, see `geoxt.datasets.names()`; or path of a folder or zip file
        with a folder of images per class, see `geoxt.trainers.read_image_folder`.
    root
        Folder of a benchmark dataset; by default `data/NAME` in the working directory.
    bands
        Bands of a benchmark dataset to read; by default all.
    fractions
        Fractions of the training, validation and test part of an image folder, which is split at random by class.
    seed
        Seed of the split.
    size
        Height and width in pixels to which images are resized; by default they are not resized.
    download
        Whether to download missing files of a benchmark dataset.

    Returns
    -------
    LabeledImages
        Images of a folder are in memory; images of a benchmark dataset are read on access.

    Raises
    ------
    InputError
        If the name is unknown, the dataset is not for classification, or the training or test part is empty.
    ReadError
        If files are missing or cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from geoxt import probes
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name, gray in (("forest", 40), ("water", 90)):
    ...     (folder / name).mkdir()
    ...     for number in range(10):
    ...         Image.new("L", (8, 8), gray + number).save(folder / name / f"{number}.png")
    >>> data = probes.open_images(str(folder), fractions=(0.6, 0.2, 0.2))
    >>> data.classes, data.fractions()
    (('forest', 'water'), {'train': 0.6, 'val': 0.2, 'test': 0.2})
    """
    if dataset in datasets.names():
        opened = _benchmark(dataset, root=root, bands=bands, download=download)
    else:
        opened = _folder(dataset, fractions=fractions, seed=seed)
    for part in ("train", "test"):
        if not len(opened.parts[part]):
            msg = f"Cannot probe on {opened.name!r}: its {part} part has no images."
            raise InputError(msg, remedy="Pass other {fractions}.", value=opened.fractions(), argument="fractions")
    return replace(opened, size=size)


def _folder(path: str, *, fractions: Sequence[float], seed: int) -> LabeledImages:
    """Return the images of a folder, split at random."""
    if not Path(path).exists():
        msg = f"Cannot find {path!r}. {did_you_mean(path, datasets.names())}".rstrip()
        remedy = "Pass {dataset}, a folder or zip file of images, or the name of a benchmark dataset."
        raise InputError(msg, remedy=remedy, value=path, argument="dataset")
    images, labels, classes = read_image_folder(path)
    digest = hashlib.sha256(images.numpy().tobytes() + labels.numpy().tobytes())
    parts = stratified_split(labels, fractions, seed=seed)
    return LabeledImages(
        name=str(path),
        samples=ImageFolder(images, labels, classes, torch.arange(len(labels))),
        labels=labels.numpy(),
        classes=classes,
        bands=BandNames(names=ImageFolder.bands, common_names=("red", "green", "blue")),
        parts={name: part.numpy() for name, part in zip(PARTS, parts, strict=True)},
        split="random",
        digest=digest.hexdigest(),
        blocked=None,
    )


def _benchmark(name: str, *, root: SomePath | None, bands: Sequence[str] | None, download: bool) -> LabeledImages:
    """Return the images of a benchmark dataset, by its splits."""
    spec = datasets.get(name)
    if spec.task != "classification" or spec.classes is None:
        msg = f"Cannot probe on {name!r}: its task is {spec.task}."
        names = [other for other in datasets.names() if datasets.get(other).task == "classification"]
        raise InputError(msg, remedy=f"Pass {{dataset}}, one of {', '.join(names)}.", value=name, argument="dataset")
    folder = Path("data") / name if root is None else Path(root).expanduser()
    splits = [part for part in PARTS if part in spec.split_names]
    loaded = {split: datasets.load(spec, folder, split, bands, download=download) for split in splits}
    entries = [entry for data in loaded.values() for entry in data.entries]
    labeled = [to_torch(data, keys=["label"]) for data in loaded.values()]
    codes = [int(samples[position]["label"]) for samples in labeled for position in range(len(samples))]
    ends = np.cumsum([0, *(len(data) for data in loaded.values())])
    ranges = dict(zip(loaded, pairwise(ends), strict=True))
    first = next(iter(loaded.values()))
    image = "image" if "image" in spec.assets else next(iter(spec.assets))
    known_bands = first.bands[image]

    def blocked(block: float, fractions: Mapping[str, float], seed: int) -> tuple[list[str | None], Array]:
        outlines = footprints(spec, folder, entries)
        rule = RandomSplit(fractions=dict(fractions), seed=seed, block=block)
        centers: Array = shapely.get_coordinates(shapely.centroid(outlines))
        return assign(replace(spec, splits=rule), entries, footprints=outlines), centers

    labels = np.searchsorted(spec.classes.codes, codes)
    return LabeledImages(
        name=name,
        samples=ConcatDataset([to_torch(data, keys=[image]) for data in loaded.values()]),
        labels=labels,
        classes=spec.classes.names,
        bands=BandNames(
            names=tuple(band.name for band in known_bands),
            common_names=tuple(band.common or "" for band in known_bands),
            wavelengths=tuple(math.nan if band.wavelength is None else band.wavelength for band in known_bands),
        ),
        parts={part: np.arange(*ranges.get(part, (0, 0))) for part in PARTS},
        split="random" if isinstance(spec.splits, RandomSplit) else "published",
        digest=_digest(folder, spec, entries, labels),
        blocked=blocked if spec.georeferenced else None,
    )


def _digest(folder: Path, spec: datasets.Spec, entries: Sequence[Any], labels: Array) -> str:
    """Return a hash of paths, sizes and modification times of the images, and of the labels."""
    key, asset = next(iter(spec.assets.items()))
    digest = hashlib.sha256(labels.tobytes())
    for entry in entries:
        for path in entry.paths(key, asset).values():
            stat = (folder / path).stat()
            digest.update(f"{path}:{stat.st_size}:{stat.st_mtime_ns}:{entry.fields}\n".encode())
    return digest.hexdigest()


def legend_of(data: LabeledImages) -> Legend:
    """Return the classes as a legend with the codes 0 to n - 1."""
    return Legend(tuple(range(len(data.classes))), data.classes)
