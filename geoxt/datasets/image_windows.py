"""Few large images -> windows on a lattice, each a sample; and what shapes of other splits a split's windows show."""

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


def cut(reader: Reader, images: Sequence[Entry]) -> list[Entry]:
    """Return the windows of images, with the fields `top` and `left`: the first pixel's row and column.

    Parameters
    ----------
    reader
        What reads the dataset; its spec says how large windows are.
    images
        Its samples as they come. The header of the first file of each is read.
    """
    return [window for image in images for window in _windows(reader, image)]


def _windows(reader: Reader, image: Entry) -> Iterator[Entry]:
    side = reader.spec.window
    assert side is not None
    key, lead = next(iter(reader.spec.assets.items()))
    (_, _, *shape), _, _ = reader.pixels(key, lead, image).header()
    height, width = shape
    tall, wide = min(side, height), min(side, width)
    starts = positions(height, tall, tall, "shift").tolist(), positions(width, wide, wide, "shift").tolist()
    for top, left in product(*starts):
        crop = Crop(window=Window(top, left, tall, wide), image_shape=(height, width))
        yield replace(image, fields={**image.fields, "top": top, "left": left}, crop=crop)


def first_windows(entries: Sequence[Entry]) -> list[Entry]:
    """Return one sample for each image: all that are no windows, and of windows those in the upper left."""
    return [e for e in entries if e.crop is None or (e.crop.window.row, e.crop.window.col) == (0, 0)]


def instances_of_other_splits(
    reader: Reader, entries: Sequence[Entry], of: Sequence[str | None], split: str, key: str
) -> list[int]:
    """Return the numbers of shapes that windows of a split show, but of which another split has more pixels.

    Parameters
    ----------
    reader
        What reads the masks.
    entries, of
        All windows, and the split of each.
    split
        The split that is read.
    key
        Key of the mask that numbers shapes. Of several splits with as many pixels, the first has the shape.
    """
    pixels: dict[int, Counter[str]] = {}
    for entry, own in zip(entries, of, strict=True):
        if own is None:
            continue
        found = reader.value(key, entry)
        numbers, counts = np.unique(found[found != 0], return_counts=True)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            pixels.setdefault(number, Counter())[own] += count
    order = reader.spec.split_names
    home = {number: max(order, key=lambda name: found[name]) for number, found in pixels.items()}
    return sorted(number for number, name in home.items() if name != split and pixels[number][split])
