"""Predict: a scene and a model give a lazy map on the scene's grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import dask.array
import numpy as np
import xarray as xr
from affine import Affine
from dask.base import tokenize
from odc.geo.geobox import GeoBox
from torch import nn

from geoxt.errors import InputError
from geoxt.grid import coordinates
from geoxt.inference.accumulator import Finish
from geoxt.inference.blended_array import Blended
from geoxt.inference.model_bands import choose_bands
from geoxt.inference.output_kinds import Kind, output_of
from geoxt.inference.predict_tree import over_tree
from geoxt.inference.runner import Runner
from geoxt.inference.tile_reader import Feed
from geoxt.inference.tiles import Blend, Lattice
from geoxt.legend import Legend
from geoxt.models.card import Card
from geoxt.models.network import Network, from_checkpoint
from geoxt.source import View, view_of
from geoxt.tasks import Output
from geoxt.types import SomePath, SomeSize
from geoxt.windows import parse_size

T = TypeVar("T", xr.DataArray, xr.DataTree)
_MOST = 4096
"""Pixels: longest side of a chunk. Every tile runs once where chunks are computed in order; where they are not, those
on the edge of a chunk run in each chunk that they touch."""
_BYTES = 64 * 2**20
"""Bytes: most that a chunk of the map takes, and twice that for the input that dask works out for it."""


def predict(
    layer: T,
    model: nn.Module | SomePath,
    *,
    size: SomeSize = 256,
    overlap: SomeSize | None = None,
    batch_size: int = 8,
    blend: Blend = "linear",
    output: Output = "classes",
    bands: Mapping[str, str] | None = None,
    head: str | int | None = None,
    series: bool | None = None,
    legend: Legend | None = None,
    chunks: int | None = None,
) -> T:
    """Map a whole layer with a model.

    Parameters
    ----------
    layer
        Dimensions among (time, band, y, x). Or a tree with one image in each child, whatever class codes beside it.
    model
        A trained task, its network, or the path of its checkpoint; these bring bands, scaling and classes along. Any
        other module that maps float32 (N, C, H, W) to (N, K, H, W) works as well.
    size
        Height and width of the tiles that the model sees, in pixels.
    overlap
        Pixels that neighbouring tiles share, at least; by default a quarter of a tile.
    batch_size
        Tiles that run at once.
    blend
        How tiles are weighted where they overlap: `"linear"`, `"hann"` and `"gaussian"` trust them less towards their
        edges, `"none"` everywhere alike.
    output
        `"classes"` gives class codes; `"probabilities"` and `"logits"` a float32 band for each class; `"regression"` a
        band for each quantity; `"embeddings"` features, averaged where tiles overlap; `"values"` what the model gives.
        Embeddings may be coarser than the layer: their grid then has the model's stride times its pixel, and so has
        that of a model which gives one vector for a tile. They come from the model's `embed`, `forward_features` or
        `encoder`, whichever it has first, else from its output.
    bands
        The layer's name of a band by the model's name for it, where they differ.
    head
        Key or position of one output, of a model that gives several.
    series
        Whether the model takes all time steps of a tile at once, (N, T, C, H, W); by default each step is mapped alone,
        unless the model's card tells otherwise. Change takes two, the earlier one first.
    legend
        Codes, names and colours of the channels; by default the model's own, or 0, 1, 2, ...
    chunks
        Side of the dask chunks of the map, about, in its pixels; by default as large as 64 MB allow.

    Returns
    -------
    DataArray
        Lazy, on the grid of `layer`: ([time,] y, x) for classes, with CF `flag_values`, `flag_meanings` and
        `flag_colors`, else ([time,] band, y, x). The same for any chunks, cluster and number of cores: tiles lie on one
        lattice over the whole layer, and each batch runs on one core. The model is copied, as it is now.

        A step of a pixel is valid where all its bands are. Pixels that are not valid hold `_FillValue`: of a model of
        change those that lack either date, of a series those that lack every date. Where only some dates of a series
        lack, the model sees the mean of each band there.
    DataTree
        Of a tree: such a map for each child, as "prediction", on its own grid.

    Raises
    ------
    InputError
        Where the layer lacks a band that the model wants, or the model gives no map of the kind that is asked for.
    """
    network = network_of(model)
    if isinstance(layer, xr.DataTree):
        again = partial(
            predict, model=network, size=size, overlap=overlap, batch_size=batch_size, blend=blend, output=output,
            bands=bands, head=head, series=series, legend=legend, chunks=chunks,
        )  # fmt: skip
        return over_tree(layer, again)
    kind = output_of(output)
    card = network.card if isinstance(network, Network) else None
    chosen = choose_bands(layer, card, bands)
    dates = 1 if card is None else card.kind.dates
    whole = dates != 1 if series is None else series
    # a pixel that is invalid at one of a fixed number of dates cannot be compared with itself
    pair = whole and dates > 1
    if pair and chosen.sizes.get("time", 1) != dates:
        msg = f"Cannot predict change from {chosen.sizes.get('time', 1)} time steps: the model compares {dates}. "
        raise InputError(msg + "Pass a layer of two, such as xr.concat([before, after], 'time').")
    runner = Runner.of(network, stage=kind.stage, batch_size=batch_size, head=head)
    view, shape = view_of(chosen), parse_size(size)
    plan = _plan(view, runner, kind, series=whole, every=pair, size=shape, overlap=overlap, blend=blend)
    classes = legend or (card.legend if card and kind.classes else _numbered(plan.channels))
    if (kind.classes or legend) and len(classes) != plan.channels:
        count = f"the {plan.channels} channels of the model by a legend of {len(classes)} classes"
        msg = f"Cannot name {count}: pass legend= with {plan.channels}."
        raise InputError(msg)
    steps = chosen.sizes["time"] if "time" in chosen.dims and not whole else None
    finish = _finish(kind, classes, plan.channels, card)
    array = Blended(feed=plan.feed, runner=runner, lattice=plan.lattice, finish=finish, steps=steps)
    names = classes if kind.classes or legend else None
    if kind.name == "regression" and card is not None and len(card.names) == plan.channels:
        names = Legend(tuple(range(plan.channels)), tuple(card.names))
    found = _layer(array, plan.grid, kind, names, chunks)
    return found.assign_coords(time=chosen["time"]) if steps is not None and "time" in chosen.coords else found


def parse_overlap(overlap: SomeSize) -> tuple[int, int]:
    """Return the overlap (rows, columns) in pixels; unlike a size, it may be zero."""
    rows, cols = (overlap, overlap) if isinstance(overlap, (int, np.integer)) else overlap
    if min(rows, cols) < 0:
        msg = f"Cannot use overlap={overlap!r}: pass 0 pixels or more."
        raise InputError(msg)
    return int(rows), int(cols)


def network_of(model: nn.Module | SomePath) -> nn.Module:
    """Return the network of a task or a checkpoint; any other module as it is."""
    if not isinstance(model, nn.Module):
        return from_checkpoint(model)
    inner = getattr(model, "network", None)
    return inner if isinstance(inner, Network) else model


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """How tiles of a layer become tiles of a map."""

    feed: Feed
    """Reads the layer."""
    lattice: Lattice
    """The tiles, on the map's grid."""
    grid: GeoBox
    """The map's grid."""
    channels: int
    """Channels that the model gives."""


def _plan(
    view: View,
    runner: Runner,
    kind: Kind,
    *,
    series: bool,
    every: bool,
    size: tuple[int, int],
    overlap: SomeSize | None,
    blend: Blend,
) -> _Plan:
    asked = None if overlap is None else parse_overlap(overlap)
    if asked is not None:  # refused before the model runs
        Lattice(shape=view.grid.shape.yx, size=size, overlap=asked, blend=blend)
    channels, *found = runner.probe((*view.shape[:2], *size) if series else (view.shape[1], *size))
    factor = _factor(size, (found[0], found[1]), coarse=kind.coarse)
    rows, cols = (-(-length // step) for length, step in zip(view.grid.shape.yx, factor, strict=True))
    shared = _shared(asked, size, factor)
    grid = view.grid
    if factor != (1, 1):
        grid = GeoBox((rows, cols), grid.affine @ Affine.scale(factor[1], factor[0]), grid.crs)
    lattice = Lattice(shape=(rows, cols), size=(found[0], found[1]), overlap=shared, blend=blend)
    feed = Feed(view=view, series=series, every=every, factor=factor)
    return _Plan(feed=feed, lattice=lattice, grid=grid, channels=channels)


def _factor(size: tuple[int, int], found: tuple[int, int], *, coarse: bool) -> tuple[int, int]:
    """Return the rows and columns of the layer for one of the model's output."""
    if size == found:
        return 1, 1
    if not coarse and found != (1, 1):
        msg = f"Cannot map with this model: for images of {size} pixels it gives {found}. "
        raise InputError(msg + "Pass one that gives as many, or output='embeddings' for a coarser grid.")
    if any(one % other for one, other in zip(size, found, strict=True)):
        msg = f"Cannot place embeddings of {found} over tiles of {size} pixels: the stride is no whole number. "
        raise InputError(msg + "Pass size= a multiple of the model's stride.")
    return size[0] // found[0], size[1] // found[1]


def _shared(asked: tuple[int, int] | None, size: tuple[int, int], factor: tuple[int, int]) -> tuple[int, int]:
    """Return the overlap in pixels of the map."""
    if asked is None:
        return size[0] // 4 // factor[0], size[1] // 4 // factor[1]
    if any(one % step for one, step in zip(asked, factor, strict=True)):
        msg = f"Cannot overlap by {asked} pixels with a model whose output has a stride of {factor}: "
        raise InputError(msg + f"pass overlap= a multiple of {factor[0]}.")
    return asked[0] // factor[0], asked[1] // factor[1]


def _finish(kind: Kind, classes: Legend, channels: int, card: Card | None) -> Finish:
    if not kind.picks:
        return Finish(channels=channels, codes=None, dtype=np.dtype("float32"), nodata=np.nan)
    nodata = _nodata(classes, card)
    dtype = _dtype([*classes.codes, nodata])
    return Finish(channels=channels, codes=np.array(classes.codes, dtype), dtype=dtype, nodata=nodata)


def _numbered(channels: int) -> Legend:
    return Legend(tuple(range(channels)), tuple(map(str, range(channels))))


def _nodata(classes: Legend, card: Card | None) -> int:
    """Return the code for "no prediction": the labels' own, else 255, else the smallest that is no class."""
    wanted = () if card is None or card.nodata is None else (card.nodata,)
    free = (code for code in (*wanted, 255, *range(len(classes) + 1)) if code not in classes.codes)
    return next(free)


def _dtype(values: list[int]) -> np.dtype[Any]:
    return np.result_type(np.min_scalar_type(min(values)), np.min_scalar_type(max(values)))


def _side(array: Blended, axis: int, asked: int | None) -> int:
    """Return the side of a chunk: whole strides."""
    if asked is not None and asked < 1:
        msg = f"Cannot cut the map into chunks={asked!r}: pass 1 pixel or more."
        raise InputError(msg)
    step = array.lattice.stride[axis]
    pixel = (array.finish.channels if array.finish.codes is None else 1) * array.dtype.itemsize
    most = (_BYTES / pixel) ** 0.5
    if not array.feed.view.direct:
        below = array.feed.nbytes * array.feed.factor[0] * array.feed.factor[1]
        most = min(most, (2 * _BYTES / below) ** 0.5)
    return max(int(asked or min(most, _MOST)) // step, 1) * step


def _layer(array: Blended, grid: GeoBox, kind: Kind, classes: Legend | None, chunks: int | None) -> xr.DataArray:
    front = (1,) * (array.steps is not None) + array.finish.front
    lazy = dask.array.from_array(
        array,
        chunks=dask.array.core.normalize_chunks(
            (*front, _side(array, 0, chunks), _side(array, 1, chunks)), array.shape, dtype=array.dtype
        ),
        name=f"predict-{tokenize(array, chunks)}",
        asarray=False,
        meta=np.empty((0,) * array.ndim, array.dtype),
    )
    attrs: dict[str, Any] = {"_FillValue": array.dtype.type(array.finish.nodata), "long_name": kind.long_name}
    coords = dict(coordinates(grid))
    dims = (*(("time",) if array.steps is not None else ()), *(() if kind.picks else ("band",)), "y", "x")
    if classes is not None and kind.picks:
        attrs |= classes.attrs()
    elif classes is not None:
        coords["band"] = xr.DataArray(list(classes.distinct_names), dims="band")
    return xr.DataArray(lazy, dims=dims, coords=coords, attrs=attrs, name="prediction")
