"""Plot samples: images and masks side by side, boxes, and labels in the title."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap
from typing import Any

import numpy as np
import xarray as xr

from geoxt.datasets.entries import Entry, name_of
from geoxt.datasets.read_sample import Reader, Sample
from geoxt.datasets.spec import Spec
from geoxt.legend import Legend, palette
from geoxt.plot import images as plot_images
from geoxt.source import is_categorical
from geoxt.types import Array

_NATURAL = ("red", "green", "blue")
_PERCENT = (2.0, 98.0)
_MAX_PANELS = 6
"""Maximum number of panels of a figure."""
_TITLE_WIDTH = 42
"""Characters of the title per panel."""


def draw(spec: Spec, sample: Sample, reader: Reader, entry: Entry) -> Any:
    """Return a matplotlib figure of a sample."""
    layers = [panel for key, layer in sample.items() if isinstance(layer, xr.DataArray) for panel in _steps(key, layer)]
    categorical = [layer for layer in layers if is_categorical(layer[1])][-_MAX_PANELS:]
    images = [layer for layer in layers if not is_categorical(layer[1])][
        : _MAX_PANELS - min(len(categorical), _MAX_PANELS - 1)
    ]
    panels = {title: _rgb(layer, spec, reader) for title, layer in [*images, *categorical][:_MAX_PANELS]}
    width = _TITLE_WIDTH * max(len(panels), 1)
    title = [part for line in _title(spec, sample, entry).splitlines() for part in wrap(line, width)]
    return plot_images(panels, boxes=_boxes(sample, spec.classes), title="\n".join(title))


def _steps(key: str, layer: xr.DataArray) -> list[tuple[str, xr.DataArray]]:
    if "time" not in layer.dims:
        return _bands(key, layer)
    times = layer.time.values
    texts = np.datetime_as_string(times, "D") if times.dtype.kind == "M" else times
    return [panel for i, text in enumerate(texts) for panel in _bands(f"{key} {text}", layer.isel(time=i))]


def _bands(title: str, layer: xr.DataArray) -> list[tuple[str, xr.DataArray]]:
    """Return a panel for each of two bands, such as the polarizations of a radar; else one of all bands."""
    if layer.sizes.get("band") != 2 or is_categorical(layer):
        return [(title, layer)]
    names = layer["band"].values if "band" in layer.coords else (0, 1)
    return [(f"{title}: {name}", layer.isel(band=[i])) for i, name in enumerate(names)]


def _rgb(layer: xr.DataArray, spec: Spec, reader: Reader) -> Array:
    """Return a mask in its class colors, instances in distinct colors, or a contrast-stretched image."""
    if is_categorical(layer):
        return Legend.of(layer).rgb(layer.values)
    if "band" in layer.dims:
        return _picture(layer, spec, layer.name, reader)
    numbers = [int(number) for number in np.unique(layer.values)]
    colors = ("#000000", *palette(max(len(numbers) - 1, 0))) if numbers[0] == 0 else palette(len(numbers))
    return Legend(tuple(numbers), tuple(map(str, numbers)), colors).rgb(layer.values)


def _picture(layer: xr.DataArray, spec: Spec, key: Any, reader: Reader) -> Array:
    """Return a contrast-stretched RGB image of the red, green and blue bands, else of the first three bands or one."""
    bands = getattr(spec.assets[str(key)], "bands", ())
    selected = [bands[i] for i in reader.bands.get(str(key), ())]
    commons = [band.common for band in selected]
    values = np.asarray(layer.values, np.float32)
    if all(name in commons for name in _NATURAL):
        values = values[[commons.index(name) for name in _NATURAL]]
    else:
        values = values[:3] if len(values) >= 3 else values[:1]
    finite = np.where(np.isfinite(values), values, 0)
    low, high = (np.percentile(finite, p, axis=(1, 2), keepdims=True) for p in _PERCENT)
    stretched = np.clip((finite - low) / np.maximum(high - low, 1e-6), 0, 1)
    return np.moveaxis(np.broadcast_to(stretched, (3, *stretched.shape[1:])), 0, -1)


def _boxes(sample: Sample, legend: Legend | None) -> Iterator[tuple[tuple[float, float, float, float], str]]:
    for box, code in zip(sample.get("boxes", ()), sample.get("labels", ()), strict=True):
        left, top, right, bottom = (float(side) for side in box)
        yield (left, top, right, bottom), legend.colors[legend.codes.index(int(code))] if legend else "#ffff00"


def _title(spec: Spec, sample: Sample, entry: Entry) -> str:
    parts = [spec.title, name_of(entry.fields)]
    label = sample.get("label")
    if label is not None and spec.classes is not None:
        codes = [spec.classes.codes[i] for i in np.flatnonzero(label)] if np.ndim(label) else [int(label)]
        parts.append(", ".join(spec.classes.name(code) for code in codes))
    elif label is not None:
        parts.append(f"{float(label):g}")
    return "\n".join(parts)
