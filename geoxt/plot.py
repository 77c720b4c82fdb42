"""Figures of layers: stretched images, class maps with a legend, several side by side, sheets of samples."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from geoxt.errors import InputError, MissingDependency
from geoxt.grid import grid_of
from geoxt.legend import Legend
from geoxt.source import is_categorical, nodata_of, view_of
from geoxt.trees import children
from geoxt.types import Array, Mask
from geoxt.windows import Window

__all__ = ["classes", "compare", "pictures", "plot", "rgb", "samples"]

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NATURAL = ("red", "green", "blue")
_PIXELS = 1200
"""Most pixels along a side of a panel; a larger layer is thinned out."""
_PERCENT = (2.0, 98.0)
"""Percentiles of the valid pixels that become black and white."""
_MANY = 12
"""Classes of a legend up to which its letters are of common size."""
_LETTERS = (10.0, 7.0)
"""Points: size of letters of a legend of some classes, and of many."""


def rgb(layer: xr.DataArray, *, bands: Sequence[str | int] | None = None) -> Array:
    """Return a picture of a layer, stretched between percentiles 2 and 98 of each band.

    Parameters
    ----------
    layer
        Continuous: (band, y, x), (y, x), or with a time of one step. It is computed.
    bands
        Names or positions of the bands for red, green and blue. By default those so called, in the names or common
        names; else the third, second and first, as sensors count from blue; else the first in grey.

    Returns
    -------
    ndarray
        float32 (y, x, 4), red, green, blue and opacity, 0 to 1; where a band is not valid it is transparent.
    """
    values, valid = _cube(layer)
    chosen = _natural(layer, len(values)) if bands is None else [_position(layer, band) for band in bands]
    return _stretch(values[chosen], np.all(valid[chosen], axis=0))


def classes(layer: xr.DataArray, legend: Legend | None = None) -> Array:
    """Return a picture of a categorical layer in its colours.

    Returns
    -------
    ndarray
        float32 (y, x, 4), red, green, blue and opacity, 0 to 1; nodata and codes that the legend lacks are transparent.
    """
    legend = legend or Legend.of(layer)
    values = _plane(layer.to_numpy(), layer)
    known = legend.encode(values, missing=-1) >= 0
    nodata = nodata_of(layer)
    if nodata is not None:
        known &= values != nodata
    return np.dstack((legend.rgb(values) / 255, known)).astype("float32")


def plot(
    data: xr.DataArray | xr.Dataset | xr.DataTree, *, title: str | None = None, legend: Legend | None = None
) -> Figure:
    """Plot layers side by side: categorical ones in their class colors, others as stretched images.

    Parameters
    ----------
    data
        A layer with dims (y, x), (band, y, x), or with a time dimension of length 1. Of a Dataset or tree, every layer
        gets a panel. Pixels are computed; a large layer is subsampled.
    title
        Title of the figure; by default the layer's `long_name`, or its name.
    legend
        Classes to show; by default those of the layer.

    Returns
    -------
    matplotlib.figure.Figure
        Save it with `figure.savefig(path)`.
    """
    if isinstance(data, xr.DataArray):
        name = str(data.attrs.get("long_name", "" if data.name is None else data.name))
        return compare({title or name: data}, legend=legend)
    return compare(_panels(data), legend=legend, title=title)


def _panels(data: xr.Dataset | xr.DataTree) -> dict[str, xr.DataArray]:
    """Return the layers of a Dataset or tree by panel title."""
    nodes = children(data) if isinstance(data, xr.DataTree) else {"": data}
    layers = {
        (node, str(name)): layer
        for node, child in nodes.items()
        for name, layer in child.data_vars.items()
        if {"y", "x"} <= set(layer.dims)
    }
    if not layers:
        raise InputError("Cannot plot the Dataset: none of its variables has the dims y and x.", argument="data")
    same_name = len({name for _, name in layers}) == 1
    return {
        node if node and same_name else f"{node}: {name}".removeprefix(": "): layer
        for (node, name), layer in layers.items()
    }


def compare(
    panels: Mapping[str, xr.DataArray],
    *,
    legend: Legend | None = None,
    outlines: Iterable[Window] = (),
    title: str | None = None,
) -> Figure:
    """Draw layers side by side, with one legend for all class maps.

    Parameters
    ----------
    panels
        Layers by the title of their panel. Categorical ones are drawn in their colours, others as stretched images.
    legend
        Classes to show; by default those that occur.
    outlines
        Windows of the grid to outline on every panel.
    title
        Stands above all panels.

    Returns
    -------
    matplotlib.figure.Figure
        Save it with `figure.savefig(path)`.
    """
    shapes = [grid_of(layer).shape for layer in panels.values()]
    thinned = {name: _thin(layer).compute() for name, layer in panels.items()}
    maps = [layer for layer in thinned.values() if is_categorical(layer)]
    legend = legend or (_shown(Legend.of(maps[0]), maps) if maps else None)
    key = _key(legend, 4.4 * len(panels))
    figure = _figure(key.width, 4.2 * max(rows / cols for rows, cols in shapes) + 0.6 + key.height)
    windows = list(outlines)
    places = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (rows, cols), (name, thin) in zip(places, shapes, thinned.items(), strict=True):
        picture = classes(thin, legend) if is_categorical(thin) else rgb(thin)
        axes.imshow(picture, extent=(0, cols, rows, 0), interpolation="nearest")
        for window in windows:
            _outline(axes, window)
        _bare(axes, name)
    if legend:
        _legend(figure, legend, key)
    if title:
        figure.suptitle(title)
    return figure


def pictures(
    panels: Mapping[str, Array],
    *,
    boxes: Iterable[tuple[tuple[float, float, float, float], str]] = (),
    title: str | None = None,
) -> Figure:
    """Draw pictures side by side.

    Parameters
    ----------
    panels
        Red, green and blue (y, x, 3), uint8 or 0 to 1, by the title of the panel.
    boxes
        Rectangles to outline on the first one: left, top, right and bottom in pixels, and a colour.
    title
        Stands above all panels.

    Returns
    -------
    matplotlib.figure.Figure
        Save it with `figure.savefig(path)`.
    """
    count = max(len(panels), 1)
    figure = _figure(3.4 * count, 3.8)
    axes = figure.subplots(1, count, squeeze=False)[0]
    for place, (name, picture) in zip(axes, panels.items(), strict=False):
        place.imshow(picture, interpolation="nearest")
        _bare(place, name)
    for (left, top, right, bottom), color in boxes:
        corners = (left, right, right, left, left), (top, top, bottom, bottom, top)
        axes[0].plot(*corners, color=color, linewidth=1.2)
    if title:
        figure.suptitle(title, fontsize=9)
    return figure


def samples(
    data: xr.Dataset, windows: Iterable[Window], *, image: str = "image", mask: str = "mask", columns: int = 8
) -> Figure:
    """Draw windows of an image, each above its mask, as training sees them.

    Parameters
    ----------
    data
        Layers on one grid; the mask is categorical.
    windows
        Windows of the grid, such as some of a sampler's.
    image, mask
        Names of the layers.
    columns
        Samples in a row.

    Returns
    -------
    matplotlib.figure.Figure
        Save it with `figure.savefig(path)`.
    """
    chosen = list(windows)
    if not chosen:
        msg = "Cannot draw samples without windows: pass some of a sampler's."
        raise InputError(msg)
    columns = min(columns, len(chosen))
    rows = -(-len(chosen) // columns)
    read = [view_of(data[mask]).read(window) for window in chosen]
    legend = _occurring(Legend.of(data[mask]), [codes[valid] for codes, valid in read])
    key = _key(legend, 1.5 * columns)
    figure = _figure(key.width, 3.1 * rows + 0.2 + key.height)
    axes = figure.subplots(2 * rows, columns, squeeze=False)
    for one in axes.flat:
        _bare(one, None)
    for index, window in enumerate(chosen):
        row, column = divmod(index, columns)
        picture, labels = _pictures(data, window, image, mask, legend)
        axes[2 * row, column].imshow(picture, interpolation="nearest")
        axes[2 * row + 1, column].imshow(labels, interpolation="nearest")
    if legend:
        _legend(figure, legend, key)
    return figure


def _shown(legend: Legend, maps: Iterable[xr.DataArray]) -> Legend:
    """Return the classes that occur in maps; all of them where none does."""
    found = [layer.to_numpy()[_valid(layer)] for layer in maps]
    return _occurring(legend, found) or legend


def _valid(layer: xr.DataArray) -> Mask:
    """Return which pixels of a layer in memory are finite, and not its nodata."""
    values, nodata = layer.to_numpy(), nodata_of(layer)
    valid: Mask = np.isfinite(values)
    return valid if nodata is None else valid & (values != nodata)


def _occurring(legend: Legend, found: Iterable[Array]) -> Legend:
    """Return the classes that occur; of a legend that names none, the codes that do."""
    codes = sorted({int(code) for some in found for code in np.unique(some).tolist()})
    return legend.only(codes) if legend else legend.covering(codes)


def _pictures(data: xr.Dataset, window: Window, image: str, mask: str, legend: Legend) -> tuple[Array, Array]:
    values, valid = view_of(data[image]).read(window)
    chosen = _natural(data[image], values.shape[1])
    picture = _stretch(values[0, chosen].astype("float32"), np.all(valid[0, chosen], axis=0))
    codes, known = (part[0, 0] for part in view_of(data[mask]).read(window))
    known = known & (legend.encode(codes, missing=-1) >= 0)
    return picture, np.dstack((legend.rgb(codes) / 255, known)).astype("float32")


def _figure(width: float, height: float) -> Figure:
    """Return a figure that belongs to no window and needs no display."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        msg = "Cannot draw without matplotlib: pip install 'geoxt[plot]'."
        raise MissingDependency(msg) from error
    figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
    # A figure is shown by itself in a notebook only once pyplot was imported; by this method, always.
    figure._repr_png_ = partial(_png, figure)  # type: ignore[attr-defined]
    return figure


def _png(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    """Room for a legend below a figure."""

    columns: int
    """Classes side by side."""
    points: float
    """Size of its letters."""
    width: float
    """Inches: of the figure, at least that of one class."""
    height: float
    """Inches; 0 without a legend."""


def _key(legend: Legend | None, width: float) -> _Key:
    """Return the room for a legend in as few rows as fit a width in inches; many classes have small letters."""
    if not legend:
        return _Key(columns=1, points=_LETTERS[0], width=width, height=0)
    count, longest = len(legend.names), max(map(len, legend.names))
    points = _LETTERS[count > _MANY]
    one = points / 72 * (5 + 0.62 * longest)  # swatch and gaps, in letters' sizes; a letter is as wide as 0.62 of its
    rows = -(-count // max(int(width / one), 1))
    return _Key(columns=-(-count // rows), points=points, width=max(width, one), height=0.3 + 1.7 * rows * points / 72)


def _legend(figure: Figure, legend: Legend, key: _Key) -> None:
    """Draw a legend below all panels."""
    from matplotlib.patches import Patch

    patches = [
        Patch(facecolor=color, edgecolor="0.3", linewidth=0.5, label=name)
        for name, color in zip(legend.names, legend.colors, strict=True)
    ]
    columns, points = key.columns, key.points
    figure.legend(handles=patches, loc="outside lower center", ncols=columns, fontsize=points, frameon=False)


def _outline(axes: Axes, window: Window) -> None:
    from matplotlib.patches import Rectangle

    corner = (window.col, window.row)
    axes.add_patch(Rectangle(corner, window.width, window.height, fill=False, edgecolor="white", linewidth=1.6))
    axes.add_patch(Rectangle(corner, window.width, window.height, fill=False, edgecolor="black", linewidth=0.7))


def _bare(axes: Axes, title: str | None) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    if title:
        axes.set_title(title)


def _thin(layer: xr.DataArray) -> xr.DataArray:
    step = max(-(-max(layer.sizes["y"], layer.sizes["x"]) // _PIXELS), 1)
    return layer.isel(y=slice(None, None, step), x=slice(None, None, step))


def _cube(layer: xr.DataArray) -> tuple[Array, Mask]:
    """Return values float32 (band, y, x) of a layer in memory or lazy, and which are valid."""
    ordered = layer.transpose(..., "y", "x")
    values = ordered.to_numpy()
    nodata = nodata_of(layer)
    valid = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    if nodata is not None and not np.isnan(nodata):
        valid &= values != nodata
    shape = (-1, *values.shape[-2:])
    _plane(values[..., :1, :1], layer, band=True)
    return values.reshape(shape).astype("float32"), valid.reshape(shape)


def _plane(values: Array, layer: xr.DataArray, *, band: bool = False) -> Array:
    """Return values without dimensions of length one, where what is left is a picture."""
    most = 3 if band else 2
    extra = [f"{dim} ({size})" for dim, size in layer.sizes.items() if size > 1 and dim not in {"band", "y", "x"}]
    extra += [f"band ({layer.sizes['band']})"] if not band and layer.sizes.get("band", 1) > 1 else []
    if extra:
        msg = f"Cannot draw {layer.name!r}: it also has {', '.join(extra)}. Choose one with isel()."
        raise InputError(msg)
    return values.reshape(values.shape[-most:] if values.ndim >= most else values.shape)


def _stretch(values: Array, valid: Mask) -> Array:
    """Return (y, x, 4) of one or three bands."""
    out = np.zeros((*values.shape[-2:], 4), "float32")
    if valid.any():
        for channel in range(3):
            band = values[min(channel, len(values) - 1)]
            low, high = np.percentile(band[valid], _PERCENT)
            out[..., channel] = np.clip((band - low) / max(high - low, 1e-12), 0, 1)
    out[~valid] = 0
    out[..., 3] = valid
    return out


def _natural(layer: xr.DataArray, count: int) -> list[int]:
    for coord in ("band", "common_name"):
        names = [str(name).lower() for name in np.atleast_1d(layer[coord].values)] if coord in layer.coords else []
        if all(color in names for color in _NATURAL):
            return [names.index(color) for color in _NATURAL]
    return [2, 1, 0] if count >= 3 else [0]


def _position(layer: xr.DataArray, band: str | int) -> int:
    if isinstance(band, int):
        return band
    names = [str(name) for name in np.atleast_1d(layer["band"].values)] if "band" in layer.coords else []
    if band not in names:
        found = ", ".join(names) or "no band names"
        msg = f"Cannot draw the band {band!r} of {layer.name!r}: it has {found}. Pass bands= names or positions."
        raise InputError(msg)
    return names.index(band)
