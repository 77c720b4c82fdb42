"""Figures of layers: stretched images, class maps with a legend, panels side by side, grids of samples; distances."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from geoxt.errors import InputError
from geoxt.grid import grid_of
from geoxt.legend import Legend
from geoxt.plot.distances import distances
from geoxt.plot.figures import new_figure
from geoxt.plot.legend_layout import draw_legend, legend_layout
from geoxt.source import as_layer, is_categorical, nodata_of, resolve_attrs, view_of
from geoxt.trees import nodes_of
from geoxt.types import Array, Mask
from geoxt.windows import Window

__all__ = ["classes", "compare", "distances", "images", "plot", "rgb", "samples"]

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NATURAL = ("red", "green", "blue")
_PIXELS = 1200
"""Maximum height and width of a panel in pixels; larger layers are subsampled."""
_PERCENT = (2.0, 98.0)
"""Percentiles of the valid pixels drawn as black and white."""


def rgb(layer: xr.DataArray | xr.Dataset, *, bands: Sequence[str | int] | None = None) -> Array:
    """Return an RGBA image of a layer, stretched between percentiles 2 and 98 of each band.

    Parameters
    ----------
    layer
        A continuous layer (band, y, x) or (y, x), or with a time dimension of length 1. It is computed.
    bands
        Names, common names or positions of the red, green and blue bands. By default the bands with these names or
        common names, else the third, second and first, else the first band in gray.

    Returns
    -------
    ndarray
        float32 (y, x, 4): red, green, blue and opacity, 0 to 1. Pixels with an invalid band are transparent.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from geoxt.grid import coordinates
    >>> from geoxt.testing import make_grid
    >>> from geoxt import plot
    >>> values = np.random.default_rng(0).random((3, 8, 8))
    >>> image = xr.DataArray(values, dims=("band", "y", "x"), coords=coordinates(make_grid((8, 8))))
    >>> plot.rgb(image).shape
    (8, 8, 4)
    """
    layer = resolve_attrs(as_layer(layer))
    values, valid = _cube(layer)
    chosen = _natural(layer, len(values)) if bands is None else [_position(layer, band) for band in bands]
    return _stretch(values[chosen], np.all(valid[chosen], axis=0))


def classes(layer: xr.DataArray | xr.Dataset, legend: Legend | None = None) -> Array:
    """Return an RGBA image of a categorical layer in its class colors.

    Returns
    -------
    ndarray
        float32 (y, x, 4): red, green, blue and opacity, 0 to 1. Nodata and codes without a class are transparent.

    Examples
    --------
    >>> import numpy as np
    >>> from odc.geo.xr import wrap_xr
    >>> from geoxt.testing import make_grid
    >>> from geoxt import Legend, plot
    >>> land = wrap_xr(np.array([[1, 2]], dtype="uint8"), make_grid((1, 2)))
    >>> plot.classes(land, Legend([1, 2], ["forest", "water"], ["#008000", "#0000ff"]))[0, 1]
    array([0., 0., 1., 1.], dtype=float32)
    """
    layer = resolve_attrs(as_layer(layer))
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
        Title of the figure; by default the layer's `long_name` unless its numbers are calculated, or its name.
    legend
        Classes to show; by default those of the layer.

    Returns
    -------
    matplotlib.figure.Figure
        Save it with `figure.savefig(path)`.

    Examples
    --------
    >>> import numpy as np
    >>> from odc.geo.xr import wrap_xr
    >>> from geoxt.testing import make_grid
    >>> from geoxt import plot
    >>> image = wrap_xr(np.random.default_rng(0).random((8, 8)), make_grid((8, 8)))
    >>> figure = plot.plot(image, title="Elevation")
    """
    if isinstance(data, xr.DataArray):
        data = resolve_attrs(data)
        return compare({title or _title(data): data}, legend=legend)
    return compare(_panels(data), legend=legend, title=title)


def _title(layer: xr.DataArray) -> str:
    """Return the description of a layer, with the band if it has one; without description its name."""
    name = layer.attrs.get("long_name", "" if layer.name is None else layer.name)
    band = layer.coords.get("band")
    described = "long_name" in layer.attrs and band is not None and band.ndim == 0
    return f"{name}: {band.item()}" if described and band is not None else str(name)


def _panels(data: xr.Dataset | xr.DataTree) -> dict[str, xr.DataArray]:
    """Return the layers of a Dataset or tree by panel title."""
    layers = {
        (node, str(name)): layer
        for node, child in nodes_of(data).items()
        for name, layer in child.data_vars.items()
        if {"y", "x"} <= set(layer.dims)
    }
    if not layers:
        raise InputError(
            "Cannot plot the Dataset: none of its variables has the dims y and x.",
            remedy="Pass a Dataset of layers.",
            argument="data",
        )
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
    """Plot layers side by side, with one legend of all class maps.

    Parameters
    ----------
    panels
        Layers by panel title. Categorical layers are drawn in their class colors, others as stretched images.
    legend
        Classes to show; by default the classes that occur.
    outlines
        Windows to outline on every panel.
    title
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        Save it with `figure.savefig(path)`.

    Examples
    --------
    >>> import numpy as np
    >>> from odc.geo.xr import wrap_xr
    >>> from geoxt.testing import make_grid
    >>> from geoxt import plot
    >>> image = wrap_xr(np.random.default_rng(0).random((8, 8)), make_grid((8, 8)))
    >>> figure = plot.compare({"2020": image, "2021": image + 1})
    >>> len(figure.axes)
    4
    """
    shapes = [grid_of(layer).shape for layer in panels.values()]
    thinned = {name: _subsample(resolve_attrs(layer)).compute() for name, layer in panels.items()}
    maps = [layer for layer in thinned.values() if is_categorical(layer)]
    legend = legend or (_occurring_in(Legend.of(maps[0]), maps) if maps else None)
    key = legend_layout(legend, 4.4 * len(panels))
    figure = new_figure(key.width, 4.2 * max(rows / cols for rows, cols in shapes) + 0.6 + key.height)
    windows = list(outlines)
    panel_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (rows, cols), (name, thin) in zip(panel_axes, shapes, thinned.items(), strict=True):
        picture = classes(thin, legend) if is_categorical(thin) else rgb(thin)
        axes.imshow(picture, extent=(0, cols, rows, 0), interpolation="nearest")
        if not is_categorical(thin) and (limits := _gray_limits(thin)) is not None:
            _draw_colorbar(figure, axes, limits)
        for window in windows:
            _outline(axes, window)
        _hide_frame(axes, name)
    if legend:
        draw_legend(figure, legend, key)
    if title:
        figure.suptitle(title)
    return figure


def images(
    panels: Mapping[str, Array],
    *,
    boxes: Iterable[tuple[tuple[float, float, float, float], str]] = (),
    title: str | None = None,
) -> Figure:
    """Plot RGB images side by side.

    Parameters
    ----------
    panels
        RGB images (y, x, 3), uint8 or 0 to 1, by panel title.
    boxes
        Rectangles to outline on the first image: (left, top, right, bottom) in pixels, and a color.
    title
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        Save it with `figure.savefig(path)`.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt import plot
    >>> image = np.zeros((8, 8, 3), "uint8")
    >>> figure = plot.images({"before": image, "after": image}, boxes=[((1, 1, 4, 4), "red")])
    >>> len(figure.axes)
    2
    """
    count = max(len(panels), 1)
    figure = new_figure(3.4 * count, 3.8)
    axes = figure.subplots(1, count, squeeze=False)[0]
    for panel, (name, picture) in zip(axes, panels.items(), strict=False):
        panel.imshow(picture, interpolation="nearest")
        _hide_frame(panel, name)
    for (left, top, right, bottom), color in boxes:
        corners = (left, right, right, left, left), (top, top, bottom, bottom, top)
        axes[0].plot(*corners, color=color, linewidth=1.2)
    if title:
        figure.suptitle(title, fontsize=9)
    return figure


def samples(
    data: xr.Dataset, windows: Iterable[Window], *, image: str = "image", mask: str = "mask", columns: int = 8
) -> Figure:
    """Plot samples: windows of an image, each above its mask, at the sizes used in training.

    Parameters
    ----------
    data
        Layers on one grid, one of them categorical.
    windows
        Windows of the grid, such as the first of a sampler.
    image, mask
        Names of the image and mask variables.
    columns
        Samples per row.

    Returns
    -------
    matplotlib.figure.Figure
        Save it with `figure.savefig(path)`.

    Examples
    --------
    >>> import numpy as np
    >>> from odc.geo.xr import wrap_xr
    >>> from geoxt.testing import make_grid
    >>> import xarray as xr
    >>> from geoxt import Legend, plot
    >>> from geoxt.samplers import GridSampler
    >>> image = wrap_xr(np.random.default_rng(0).random((8, 8)), make_grid((8, 8)))
    >>> mask = wrap_xr(np.ones((8, 8), "uint8"), make_grid((8, 8))).assign_attrs(Legend([1], ["forest"]).attrs())
    >>> data = xr.Dataset({"image": image, "mask": mask})
    >>> figure = plot.samples(data, GridSampler(data, size=4))
    >>> len(figure.axes)
    8
    """
    chosen = list(windows)
    if not chosen:
        raise InputError("Cannot plot samples: there are no windows.", remedy="Pass {windows} of a sampler.")
    columns = min(columns, len(chosen))
    rows = -(-len(chosen) // columns)
    read = [view_of(data[mask]).read(window) for window in chosen]
    legend = _occurring(Legend.of(data[mask]), [codes[valid] for codes, valid in read])
    key = legend_layout(legend, 1.5 * columns)
    figure = new_figure(key.width, 3.1 * rows + 0.2 + key.height)
    axes = figure.subplots(2 * rows, columns, squeeze=False)
    for panel in axes.flat:
        _hide_frame(panel, None)
    for index, window in enumerate(chosen):
        row, column = divmod(index, columns)
        picture, labels = _pictures(data, window, image, mask, legend)
        axes[2 * row, column].imshow(picture, interpolation="nearest")
        axes[2 * row + 1, column].imshow(labels, interpolation="nearest")
    if legend:
        draw_legend(figure, legend, key)
    return figure


def _occurring_in(legend: Legend, maps: Iterable[xr.DataArray]) -> Legend:
    """Return the classes that occur in maps, or all classes if none occurs."""
    values = [layer.to_numpy()[_valid(layer)] for layer in maps]
    return _occurring(legend, values) or legend


def _valid(layer: xr.DataArray) -> Mask:
    """Return the valid mask of a layer in memory: finite and not nodata."""
    values, nodata = layer.to_numpy(), nodata_of(layer)
    valid: Mask = np.isfinite(values)
    return valid if nodata is None else valid & (values != nodata)


def _occurring(legend: Legend, arrays: Iterable[Array]) -> Legend:
    """Return the classes that occur; for an empty legend, the codes that occur and are not negative (unknown)."""
    codes = sorted({int(code) for values in arrays for code in np.unique(values).tolist()})
    return legend.only(codes) if legend else legend.covering(code for code in codes if code >= 0)


def _pictures(data: xr.Dataset, window: Window, image: str, mask: str, legend: Legend) -> tuple[Array, Array]:
    values, valid = view_of(data[image]).read(window)
    chosen = _natural(data[image], values.shape[1])
    picture = _stretch(values[0, chosen].astype("float32"), np.all(valid[0, chosen], axis=0))
    codes, known = (part[0, 0] for part in view_of(data[mask]).read(window))
    known = known & (legend.encode(codes, missing=-1) >= 0)
    return picture, np.dstack((legend.rgb(codes) / 255, known)).astype("float32")


def _outline(axes: Axes, window: Window) -> None:
    from matplotlib.patches import Rectangle

    corner = (window.col, window.row)
    axes.add_patch(Rectangle(corner, window.width, window.height, fill=False, edgecolor="white", linewidth=1.6))
    axes.add_patch(Rectangle(corner, window.width, window.height, fill=False, edgecolor="black", linewidth=0.7))


def _gray_limits(layer: xr.DataArray) -> tuple[float, float] | None:
    """Return the values drawn as black and white of a layer of one band; `None` for a color image."""
    values, valid = _cube(layer)
    if len(values) > 1 or not valid.any():
        return None
    low, high = np.percentile(values[0][valid[0]], _PERCENT)
    return float(low), float(high)


def _draw_colorbar(figure: Figure, axes: Axes, limits: tuple[float, float]) -> None:
    """Draw the gray scale of a layer of one band beside its panel."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    figure.colorbar(ScalarMappable(Normalize(*limits), "gray"), ax=axes, shrink=0.6)


def _hide_frame(axes: Axes, title: str | None) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    if title:
        axes.set_title(title)


def _subsample(layer: xr.DataArray) -> xr.DataArray:
    step = max(-(-max(layer.sizes["y"], layer.sizes["x"]) // _PIXELS), 1)
    return layer.isel(y=slice(None, None, step), x=slice(None, None, step))


def _cube(layer: xr.DataArray) -> tuple[Array, Mask]:
    """Return values (band, y, x) of a layer as float32, and their valid mask."""
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
    """Return values without dimensions of length 1; raise if more than an image is left."""
    most = 3 if band else 2
    extra = [f"{dim} ({size})" for dim, size in layer.sizes.items() if size > 1 and dim not in {"band", "y", "x"}]
    extra += [f"band ({layer.sizes['band']})"] if not band and layer.sizes.get("band", 1) > 1 else []
    if extra:
        raise InputError(
            f"Cannot plot {layer.name!r}: it also has {', '.join(extra)}.", remedy="Select one with isel()."
        )
    return values.reshape(values.shape[-most:] if values.ndim >= most else values.shape)


def _stretch(values: Array, valid: Mask) -> Array:
    """Return an RGBA image (y, x, 4) of one or three bands."""
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
    common = [str(name) for name in np.atleast_1d(layer["common_name"].values)] if "common_name" in layer.coords else []
    if band not in names and common.count(band) == 1:
        return common.index(band)
    if band not in names:
        raise InputError(
            f"Cannot plot band {band!r} of {layer.name!r}: it has {', '.join(names) or 'no band names'}.",
            remedy="Pass {bands} as names or positions.",
            value=band,
            argument="bands",
        )
    return names.index(band)
