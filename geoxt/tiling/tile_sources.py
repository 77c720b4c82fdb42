"""Scenes and model of a map, from the dask graph of the layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
import xarray as xr
from dask.base import tokenize

from geoxt.inference.blended_map import BlendedMap
from geoxt.models.card import Card
from geoxt.models.file_body import FileNetwork
from geoxt.models.network import Network
from geoxt.source import Mosaic, View, view_of
from geoxt.source.scene_assets import missing_files
from geoxt.types import Array, Floats
from geoxt.windows import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class MapSources:
    """Scenes and model of a map."""

    token: str
    """Hash of the inputs and of all options that determine the values, so without the device."""
    model: str | None
    """Fingerprint of the model; `None` for a layer that is not a prediction."""
    card: Card | None
    """Card of a checkpoint's model, or `None`."""
    pixel_bytes: int
    """Bytes of one scene's pixel at a pixel of the map, all bands."""
    areas: tuple[shapely.Geometry, ...]
    """Areas of the scenes that can hold valid pixels, in pixels of the map."""
    ids: tuple[str, ...]
    """Identifier of each scene; empty if the source has none."""
    datetimes: tuple[str, str] | None
    """First and last time of the scenes; `None` if unknown."""
    missing: tuple[str, ...]
    """Local files of the scenes that are missing, unless the layer has nodata in their stead."""

    def scenes_of(self, windows: Sequence[Window]) -> list[list[int]]:
        """Return the indices of the scenes that each window intersects."""
        tree = shapely.STRtree(self.areas)
        # Interpolation reaches one pixel beyond a scene.
        box, scene = tree.query(_boxes(windows, margin=1), predicate="intersects")
        indices: list[list[int]] = [[] for _ in windows]
        for i, j in zip(box.tolist(), scene.tolist(), strict=True):
            indices[i].append(j)
        return [sorted(scenes) for scenes in indices]

    def pixels_of(self, windows: Sequence[Window], scenes: Sequence[Sequence[int]]) -> Floats:
        """Return the pixels of each window that its scenes cover, counted once for each scene."""
        counts = [len(indices) for indices in scenes]
        if not sum(counts):
            return np.zeros(len(windows))
        box = np.repeat(np.arange(len(windows)), counts)
        areas = np.asarray(self.areas)[np.concatenate([np.asarray(i, int) for i in scenes if len(i)])]
        pixels = shapely.area(shapely.intersection(_boxes(windows)[box], areas))
        return np.bincount(box, pixels, minlength=len(windows)).astype(float)


def map_sources(layer: xr.DataArray) -> MapSources:
    """Return the sources of a lazy map, or of any other layer."""
    prediction = _prediction(layer)
    if prediction is None:
        view, factor, model, card = view_of(layer), (1, 1), None, None
        inputs = view if isinstance(view.source, Mosaic) else layer  # the name of its dask array is that of its opening
        token = tokenize(inputs, sorted(map(str, layer.attrs.items())))
    else:
        view, factor, runner = prediction.reader.view, prediction.reader.factor, prediction.runner
        inference = runner.digest, runner.stage, runner.head, runner.batch_size, runner.options.precision
        geometry = prediction.lattice, prediction.encoding.token, prediction.steps
        token = tokenize(prediction.reader, geometry, inference, sorted(map(str, layer.attrs.items())))
        model, network = runner.digest, runner.model
        # The item of an ONNX file by another author cannot be derived from its card.
        card = network.card if isinstance(network, Network) and not isinstance(network, FileNetwork) else None
    areas, ids, datetimes = _scene_areas(view)
    scale = np.array([factor[1], factor[0]], float)
    areas = shapely.transform(areas, lambda points: points / scale)
    pixel_bytes = len(view.bands) * view.dtype.itemsize * factor[0] * factor[1]
    return MapSources(
        token=token, model=model, card=card, pixel_bytes=pixel_bytes,
        areas=tuple(areas), ids=ids, datetimes=datetimes, missing=_missing_files(view),
    )  # fmt: skip


def _prediction(layer: xr.DataArray) -> BlendedMap | None:
    """Return the array of an unmodified map of `predict`; `None` of any other layer."""
    if layer.chunks is None:
        return None
    name = f"original-{layer.data.name}"
    graph = getattr(layer.data.dask, "layers", {})
    array = dict(graph[name])[name] if name in graph else None
    array = getattr(array, "value", array)
    return array if isinstance(array, BlendedMap) else None


def _scene_areas(view: View) -> tuple[Array, tuple[str, ...], tuple[str, str] | None]:
    """Return areas, identifiers and time range of a layer's scenes; of other sources one area."""
    if not isinstance(view.source, Mosaic):
        return np.array([view.footprint()]), (), None
    scenes = view.source.scene_areas(view.times)
    offset = view.window.col, view.window.row
    areas = shapely.transform(np.array([area for _, area in scenes]), lambda points: points - offset)
    times = [time for scene, _ in scenes for time in (scene.start, scene.end) if time is not None]
    datetimes = (_datetime(min(times)), _datetime(max(times))) if times else None
    return areas, tuple(scene.id for scene, _ in scenes), datetimes


def _missing_files(view: View) -> tuple[str, ...]:
    source = view.source
    return tuple(missing_files(source.scenes)) if isinstance(source, Mosaic) and source.errors == "raise" else ()


def _datetime(time: np.datetime64) -> str:
    """Return a time in UTC, as RFC 3339."""
    return f"{np.datetime_as_string(time, unit='ms')}Z"


def _boxes(windows: Sequence[Window], *, margin: float = 0) -> Array:
    edges = np.array([(w.col, w.row, w.stop[1], w.stop[0]) for w in windows], float).reshape(-1, 4)
    left, top, right, bottom = (edges + np.array([-margin, -margin, margin, margin])).T
    return np.asarray(shapely.box(left, top, right, bottom))
