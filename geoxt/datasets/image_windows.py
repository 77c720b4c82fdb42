"""Samples as windows of large images, and instances shared by windows of several splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from geoxt.datasets.entries import Entry
from geoxt.datasets.rasters import Crop
from geoxt.datasets.read_sample import Reader
from geoxt.samplers.grid_sampler import positions
from geoxt.windows import Window


def cut(reader: Reader, images: Sequence[Entry], side: int) -> list[Entry]:
    """Return the windows of images on a lattice, with the fields `top` and `left` (row and column of the first pixel).

    Parameters
    ----------
    reader
        Reader of the dataset.
    images
        Index entries of the images. The header of the first file of each is read.
    side
        Height and width of the windows in pixels.
    """
    return [window for image in images for window in _windows(reader, image, side)]


def _windows(reader: Reader, image: Entry, side: int) -> Iterator[Entry]:
    key, lead = next(iter(reader.spec.assets.items()))
    (_, _, *shape), _, _ = reader.pixels(key, lead, image).header()
    height, width = shape
    window_height, window_width = min(side, height), min(side, width)
    starts = (
        positions(height, window_height, window_height, "shift").tolist(),
        positions(width, window_width, window_width, "shift").tolist(),
    )
    for top, left in product(*starts):
        crop = Crop(window=Window(top, left, window_height, window_width), image_shape=(height, width))
        yield replace(image, fields={**image.fields, "top": top, "left": left}, crop=crop)


def first_windows(entries: Sequence[Entry]) -> list[Entry]:
    """Return one entry per image: its upper left window, or the entry itself if samples are not windows."""
    return [e for e in entries if e.crop is None or (e.crop.window.row, e.crop.window.col) == (0, 0)]


def instances_of_other_splits(
    reader: Reader, entries: Sequence[Entry], splits: Sequence[str | None], names: Sequence[str], key: str
) -> list[int]:
    """Return the numbers of instances in windows of some splits that have more pixels in another split.

    Parameters
    ----------
    reader
        Reader of the dataset.
    entries, splits
        All windows, and the split of each window.
    names
        Names of the splits.
    key
        Key of the instance mask. Of splits with equally many pixels, the first has the instance.
    """
    pixels: dict[int, Counter[str]] = {}
    for entry, entry_split in zip(entries, splits, strict=True):
        if entry_split is None or entry.problem is not None:
            continue
        mask = reader.value(key, entry)
        numbers, counts = np.unique(mask[mask != 0], return_counts=True)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            pixels.setdefault(number, Counter())[entry_split] += count
    order = reader.spec.split_names
    home = {number: max(order, key=lambda name: counts[name]) for number, counts in pixels.items()}
    return sorted(
        number for number, name in home.items() if name not in names and any(pixels[number][n] for n in names)
    )
