"""Predict: a scene and a model give a lazy map on the scene's grid."""

from __future__ import annotations

from typing import Any, Literal

import dask.array
import numpy as np
import xarray as xr
from dask.base import tokenize
from torch import nn

from geoxt.errors import InputError
from geoxt.grid import coordinates
from geoxt.legend import Legend
from geoxt.models.card import Card
from geoxt.models.network import Network, from_checkpoint
from geoxt.predict.blended import Blended
from geoxt.predict.runner import Runner
from geoxt.predict.tiles import Blend, Lattice
from geoxt.source import view_of
from geoxt.types import SomePath, SomeSize
from geoxt.windows import parse_size

Output = Literal["classes", "probabilities", "values"]
"""The most probable class of each pixel, a band of probabilities per class, or the model's output as it is."""

_CHUNK = 1024
"""Pixels: least side of a chunk. A chunk runs all tiles that touch it, so that large chunks run fewer twice."""


def predict(
    layer: xr.DataArray,
    model: nn.Module | SomePath,
    *,
    size: SomeSize = 256,
    overlap: SomeSize = 64,
    batch_size: int = 8,
    blend: Blend = "linear",
    output: Output = "classes",
    legend: Legend | None = None,
) -> xr.DataArray:
    """Map a whole layer with a model.

    Parameters
    ----------
    layer
        Dimensions (band, y, x), (y, x), or (time, band, y, x) with one time step.
    model
        A trained task, its network, or the path of its checkpoint; these bring bands, scaling and classes along. Any
        other module that maps float32 (N, C, H, W) to (N, K, H, W) of the same H and W works as well.
    size
        Height and width of the tiles that the model sees, in pixels.
    overlap
        Pixels that neighbouring tiles share, at least.
    batch_size
        Tiles that run at once.
    blend
        How tiles are weighted where they overlap: `"linear"` trusts them less towards their edges.
    output
        `"classes"` gives class codes, `"probabilities"` a float32 band for each class, `"values"` the model's own
        output.
    legend
        Codes, names and colours of the channels; by default the model's own, or 0, 1, 2, ...

    Returns
    -------
    DataArray
        Lazy, on the grid of `layer`: (y, x) for classes, with CF `flag_values`, `flag_meanings` and `flag_colors`,
        else (band, y, x). Pixels that are not valid in every band of the layer hold `_FillValue`. The same for any
        chunks: tiles lie on one lattice over the whole layer. The model is copied, as it is now.

    Raises
    ------
    InputError
        Where the layer lacks a band that the model wants, or has several time steps.
    """
    network = _network(model)
    card = network.card if isinstance(network, Network) else None
    view = view_of(_one_step(_bands(layer, card)))
    shape = parse_size(size)
    lattice = Lattice(shape=view.grid.shape.yx, size=shape, overlap=parse_overlap(overlap), blend=blend)
    runner = Runner.of(network, activate=output != "values", batch_size=batch_size)
    channels = runner.channels(view.shape[1], shape)
    classes = legend or (card.legend if card else _numbered(channels))
    _check(output, classes, channels)
    nodata = _nodata(classes, card) if output == "classes" else np.nan
    codes = np.array(classes.codes) if output == "classes" else None
    array = Blended(
        view=view,
        runner=runner,
        lattice=lattice,
        channels=channels,
        codes=codes,
        dtype=_dtype([*classes.codes, int(nodata)]) if codes is not None else np.dtype("float32"),
        nodata=nodata,
    )
    return _layer(array, classes if output != "values" else None)


def parse_overlap(overlap: SomeSize) -> tuple[int, int]:
    """Return the overlap (rows, columns) in pixels; unlike a size, it may be zero."""
    rows, cols = (overlap, overlap) if isinstance(overlap, int) else overlap
    if min(rows, cols) < 0:
        msg = f"Cannot use overlap={overlap!r}: pass 0 pixels or more."
        raise InputError(msg)
    return rows, cols


def _network(model: nn.Module | SomePath) -> nn.Module:
    if not isinstance(model, nn.Module):
        return from_checkpoint(model)
    inner = getattr(model, "network", None)
    return inner if isinstance(inner, Network) else model


def _bands(layer: xr.DataArray, card: Card | None) -> xr.DataArray:
    """Return the bands that the model wants, in its order."""
    if card is None:
        return layer
    if "band" not in layer.coords or "band" not in layer.dims:
        count = layer.sizes.get("band", 1)
        if count == len(card.bands):
            return layer
        msg = f"Cannot predict: the layer has {count} bands without names, the model wants {', '.join(card.bands)}."
        raise InputError(msg + " Choose and name them: layer.assign_coords(band=[...]).")
    found = [str(name) for name in layer["band"].values]
    missing = [name for name in card.bands if name not in found]
    if missing:
        wanted = f"the model was trained on {', '.join(card.bands)}"
        msg = f"Cannot predict: the layer has no band {missing[0]!r}, only {', '.join(found)}; {wanted}."
        raise InputError(msg + " Rename the layer's bands, or open the ones it wants.")
    if found == list(card.bands):
        return layer
    return layer.isel(band=[found.index(name) for name in card.bands])


def _one_step(layer: xr.DataArray) -> xr.DataArray:
    if layer.sizes.get("time", 1) > 1:
        msg = f"Cannot predict {layer.sizes['time']} time steps at once: choose one, e.g. layer.isel(time=0)."
        raise InputError(msg)
    return layer.isel(time=0) if "time" in layer.dims else layer


def _numbered(channels: int) -> Legend:
    return Legend(tuple(range(channels)), tuple(map(str, range(channels))))


def _check(output: str, classes: Legend, channels: int) -> None:
    if output not in {"classes", "probabilities", "values"}:
        msg = f"Cannot predict output={output!r}: pass 'classes', 'probabilities' or 'values'."
        raise InputError(msg)
    if output != "values" and len(classes) != channels:
        msg = f"Cannot name the {channels} channels of the model by a legend of {len(classes)} classes: pass legend=."
        raise InputError(msg)


def _nodata(classes: Legend, card: Card | None) -> int:
    """Return the code for "no prediction": the labels' own, else 255, else the smallest that is no class."""
    wanted = () if card is None or card.nodata is None else (card.nodata,)
    free = (code for code in (*wanted, 255, *range(len(classes) + 1)) if code not in classes.codes)
    return next(free)


def _dtype(values: list[int]) -> np.dtype[Any]:
    return np.result_type(np.min_scalar_type(min(values)), np.min_scalar_type(max(values)))


def _layer(array: Blended, classes: Legend | None) -> xr.DataArray:
    sides = [max(_CHUNK // step, 1) * step for step in array.lattice.stride]
    chunks = (*array.shape[:-2], *sides)
    lazy = dask.array.from_array(
        array,
        chunks=dask.array.core.normalize_chunks(chunks, array.shape, dtype=array.dtype),
        name=f"predict-{tokenize(array)}",
        asarray=False,
        meta=np.empty((0,) * array.ndim, array.dtype),
    )
    attrs: dict[str, Any] = {"_FillValue": array.dtype.type(array.nodata)}
    coords = dict(coordinates(array.view.grid))
    dims = ("y", "x") if array.codes is not None else ("band", "y", "x")
    if classes is not None and array.codes is not None:
        attrs |= {"long_name": "predicted class", **classes.attrs()}
    elif classes is not None:
        attrs |= {"long_name": "probability of a class"}
        coords["band"] = xr.DataArray(list(classes.distinct_names), dims="band")
    return xr.DataArray(lazy, dims=dims, coords=coords, attrs=attrs, name="prediction")
