"""Figures of layers, samples and class maps; of distances, confusion matrices and training.

Functions return a matplotlib figure; save it with `figure.savefig(path)`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from geoxt.errors import InputError
from geoxt.grid import grid_of
from geoxt.legend import Legend
from geoxt.plot.colors import classes, gray_limits, is_one_picture, natural_color, picture_title, rgb, stretch
from geoxt.plot.distances import distances
from geoxt.plot.figures import new_figure
from geoxt.plot.interactive_map import InteractiveMap, explore
from geoxt.plot.legend_layout import draw_legend, legend_layout
from geoxt.plot.training import bars, confusion, history
from geoxt.source import is_categorical, nodata_of, resolve_attrs, view_of
from geoxt.trees import layers_by_name, nodes_of
from geoxt.types import Array, Mask
from geoxt.windows import Window

__all__ = [
    "InteractiveMap",
    "bars",
    "classes",
    "compare",
    "confusion",
    "distances",
    "explore",
    "history",
    "images",
    "plot",
    "rgb",
    "samples",
]

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TITLE = 40
"""Maximum length of a line of a title; longer titles wrap to two lines."""
_PIXELS = 1200
"""Maximum height and width of a panel in pixels; larger layers are subsampled."""


def plot(
    data: xr.DataArray | xr.Dataset | xr.DataTree, *, title: str | None = None, legend: Legend | None = None
) -> Figure:
    """Plot layers side by side: categorical ones in their class colors, others as stretched images.

    Parameters
    ----------
    data
        A layer with dims (y, x), (band, y, x), or with a time dimension of length 1. Of a Dataset or tree, every layer
        gets a panel, and of two bands or of spectral indices, every band. The title of a false-color image names its
        bands. Pixels are computed; a large layer is subsampled.
    title
        Title of the figure; by default the layer's `long_name` unless its numbers are calculated, or its name.
    legend
        Classes to show; by default those of the layer.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> from geoxt import plot
    >>> image = make_layer(np.random.default_rng(0).random((8, 8)))
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
    layers = {(node, name): x for node, ds in nodes_of(data).items() for name, x in layers_by_name(ds).items()}
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
        Layers by panel title. Categorical layers are drawn in their class colors, others as stretched images: in
        color, or a panel for each band of two bands or of spectral indices.
    legend
        Classes to show; by default the classes that occur.
    outlines
        Windows to outline on every panel.
    title
        Title of the figure.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> from geoxt import plot
    >>> image = make_layer(np.random.default_rng(0).random((8, 8)))
    >>> figure = plot.compare({"2020": image, "2021": image + 1})
    >>> len(figure.axes)
    4
    """
    panels = _split_by_band(panels)
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
        if not is_categorical(thin) and (limits := gray_limits(thin)) is not None:
            _draw_colorbar(figure, axes, limits)
        for window in windows:
            _outline(axes, window)
        _hide_frame(axes, name)
    if legend:
        draw_legend(figure, legend, key)
    if title:
        figure.suptitle(title)
    return figure


def _split_by_band(panels: Mapping[str, xr.DataArray]) -> dict[str, xr.DataArray]:
    """Return panels of one picture each: bands that do not make a color image become a panel each."""
    split: dict[str, xr.DataArray] = {}
    for name, layer in panels.items():
        if is_one_picture(layer):
            split[picture_title(name, layer)] = layer
            continue
        for position in range(layer.sizes["band"]):
            band = layer.isel(band=position)
            split[f"{name}: {band['band'].item() if 'band' in band.coords else position}".removeprefix(": ")] = band
    return split


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

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> import xarray as xr
    >>> from geoxt import Legend, plot
    >>> from geoxt.samplers import GridSampler
    >>> image = make_layer(np.random.default_rng(0).random((8, 8)))
    >>> mask = make_layer(np.ones((8, 8), "uint8")).assign_attrs(Legend([1], ["forest"]).attrs())
    >>> data = xr.Dataset({"image": image, "mask": mask})
    >>> figure = plot.samples(data, GridSampler(data, size=4))
    >>> len(figure.axes)
    8
    """
    selected = list(windows)
    if not selected:
        raise InputError("Cannot plot samples: there are no windows.", remedy="Pass {windows} of a sampler.")
    columns = min(columns, len(selected))
    rows = -(-len(selected) // columns)
    read = [view_of(data[mask]).read(window) for window in selected]
    legend = _occurring_classes(Legend.of(data[mask]), [codes[valid] for codes, valid in read])
    key = legend_layout(legend, 1.5 * columns)
    figure = new_figure(key.width, 3.1 * rows + 0.2 + key.height)
    axes = figure.subplots(2 * rows, columns, squeeze=False)
    for panel in axes.flat:
        _hide_frame(panel, None)
    for index, window in enumerate(selected):
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
    return _occurring_classes(legend, values) or legend


def _valid(layer: xr.DataArray) -> Mask:
    """Return the valid mask of a layer in memory: finite and not nodata."""
    values, nodata = layer.to_numpy(), nodata_of(layer)
    valid: Mask = np.isfinite(values)
    return valid if nodata is None else valid & (values != nodata)


def _occurring_classes(legend: Legend, arrays: Iterable[Array]) -> Legend:
    """Return the classes that occur; for an empty legend, the codes that occur and are not negative (unknown)."""
    codes = sorted({int(code) for values in arrays for code in np.unique(values).tolist()})
    return legend.only(codes) if legend else legend.covering(code for code in codes if code >= 0)


def _pictures(data: xr.Dataset, window: Window, image: str, mask: str, legend: Legend) -> tuple[Array, Array]:
    values, valid = view_of(data[image]).read(window)
    rgb_bands = natural_color(data[image], values.shape[1])
    picture = stretch(values[0, rgb_bands].astype("float32"), np.all(valid[0, rgb_bands], axis=0))
    codes, labeled = (part[0, 0] for part in view_of(data[mask]).read(window))
    labeled = labeled & (legend.encode(codes, missing=-1) >= 0)
    return picture, np.dstack((legend.rgb(codes) / 255, labeled)).astype("float32")


def _outline(axes: Axes, window: Window) -> None:
    from matplotlib.patches import Rectangle

    corner = (window.col, window.row)
    axes.add_patch(Rectangle(corner, window.width, window.height, fill=False, edgecolor="white", linewidth=1.6))
    axes.add_patch(Rectangle(corner, window.width, window.height, fill=False, edgecolor="black", linewidth=0.7))


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
        axes.set_title(textwrap.fill(title, _TITLE, max_lines=2, placeholder=" …"))


def _subsample(layer: xr.DataArray) -> xr.DataArray:
    step = max(-(-max(layer.sizes["y"], layer.sizes["x"]) // _PIXELS), 1)
    return layer.isel(y=slice(None, None, step), x=slice(None, None, step))
