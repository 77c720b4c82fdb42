"""Time per step of a window read."""

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
    "control grid": (ControlGrid, "__init__"),
    "coordinates": (ControlGrid, "coordinates"),
    "positions": (kernels, "_sample_coordinates"),
    "buffer": (kernels, "_fill_buffer"),
    "bilinear": (kernels, "bilinear"),
    "nearest": (kernels, "nearest"),
    "grid_sample": (kernels, "grid_sample"),
}
"""Timed functions by step; the time of a step includes the steps that it calls."""


@contextmanager
def timed_steps() -> Iterator[dict[str, float]]:
    """Yield a dict to which each call of a step adds its duration in seconds."""
    seconds: dict[str, float] = dict.fromkeys(STEPS, 0.0)
    originals = {name: getattr(*function) for name, function in STEPS.items()}
    for name, (owner, attribute) in STEPS.items():
        setattr(owner, attribute, _timed(originals[name], name, seconds))
    try:
        yield seconds
    finally:
        for name, (owner, attribute) in STEPS.items():
            setattr(owner, attribute, originals[name])


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
    """Return milliseconds per step and window of all layers: the mean over windows of the fastest repeat.

    Each repeat reads all windows, so that no window finds its blocks in GDAL's cache.
    """
    shape = windows[0].shape
    buffers = {a.name: (np.empty((1, *a.shape(windows[0])), a.dtype), np.empty((1, *shape), bool)) for a in layers}
    fastest: dict[Window, dict[str, float]] = {}
    for _ in range(repeats):
        for window in windows:
            with timed_steps() as seconds:
                for layer in layers:
                    layer.read(coalesce([window])[0], *buffers[layer.name])
            if window not in fastest or seconds["window"] < fastest[window]["window"]:
                fastest[window] = dict(seconds)
    return {name: 1e3 * sum(q[name] for q in fastest.values()) / len(fastest) for name in STEPS}


def summarize(milliseconds: Mapping[str, float]) -> dict[str, float]:
    """Return milliseconds of decoding, of warping, and of all other steps: valid masks, mosaic and copies."""
    warping = milliseconds["bilinear"] + milliseconds["nearest"] + milliseconds["control grid"]
    return {
        "decode": milliseconds["decode"],
        "warp": warping,
        "copy": milliseconds["window"] - milliseconds["decode"] - warping,
    }
