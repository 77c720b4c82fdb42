"""Where the time of a window goes: the engine's steps, timed one by one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import numpy as np

from geoxt.bridge.coalesce import coalesce
from geoxt.bridge.layer_reader import LayerReader
from geoxt.pixels import kernels, reader
from geoxt.pixels.transform import ControlGrid
from geoxt.source import Mosaic
from geoxt.windows import Window

STEPS: Mapping[str, tuple[Any, str]] = {
    "window": (LayerReader, "read"),
    "mosaic": (Mosaic, "read"),
    "decode": (reader, "_pixels"),
    "nodes": (ControlGrid, "__init__"),
    "coordinates": (ControlGrid, "coordinates"),
    "places": (kernels, "_sample_coordinates"),
    "buffer": (kernels, "_fill_buffer"),
    "bilinear": (kernels, "bilinear"),
    "nearest": (kernels, "nearest"),
    "grid_sample": (kernels, "grid_sample"),
}
"""Functions that are timed; one that others call stands within them."""


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """Give a dict to which each call of a step adds its seconds."""
    seconds: dict[str, float] = dict.fromkeys(STEPS, 0.0)
    kept = {name: getattr(*place) for name, place in STEPS.items()}
    for name, (owner, attribute) in STEPS.items():
        setattr(owner, attribute, _timed(kept[name], name, seconds))
    try:
        yield seconds
    finally:
        for name, (owner, attribute) in STEPS.items():
            setattr(owner, attribute, kept[name])


def _timed(call: Callable[..., Any], name: str, seconds: dict[str, float]) -> Callable[..., Any]:
    @wraps(call)
    def timed(*args: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return call(*args, **options)
        finally:
            seconds[name] += time.perf_counter() - start

    return timed


def stages(layers: Sequence[LayerReader], windows: Sequence[Window], repeats: int = 7) -> dict[str, float]:
    """Return milliseconds of each step for one window of all layers: means over windows of their quickest repeat.

    All windows have their turn before the next repeat, so that none finds its own blocks in GDAL's cache.
    """
    shape = windows[0].shape
    buffers = {a.name: (np.empty((1, *a.shape(windows[0])), a.dtype), np.empty((1, *shape), bool)) for a in layers}
    quickest: dict[Window, dict[str, float]] = {}
    for _ in range(repeats):
        for window in windows:
            with watched() as seconds:
                for layer in layers:
                    layer.read(coalesce([window])[0], *buffers[layer.name])
            if window not in quickest or seconds["window"] < quickest[window]["window"]:
                quickest[window] = dict(seconds)
    return {name: 1e3 * sum(q[name] for q in quickest.values()) / len(quickest) for name in STEPS}


def shares(found: Mapping[str, float]) -> dict[str, float]:
    """Return milliseconds in reading and decoding, in warping, and in the rest: validity, mosaic and copies."""
    warping = found["bilinear"] + found["nearest"] + found["nodes"]
    return {"decode": found["decode"], "warp": warping, "copy": found["window"] - found["decode"] - warping}
