"""Interactive maps of layers and windows with bokeh: one HTML page that needs neither a server nor the network."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox
from odc.geo.geom import BoundingBox

from geoxt.alignment import align
from geoxt.crs import parse_crs, transformer
from geoxt.errors import CRSError, InputError, OutputError, optional_import
from geoxt.grid import grid_of
from geoxt.legend import Legend
from geoxt.plot.colors import classes, is_one_picture, picture_title, rgb
from geoxt.source import is_categorical, resolve_attrs
from geoxt.storage import atomic_write
from geoxt.trees import layers_by_name, nodes_of
from geoxt.types import Array, SomePath
from geoxt.windows import Window

MERCATOR = "EPSG:3857"
"""CRS of web maps."""
_LIMIT = np.pi * 6_378_137
"""Northing of Web Mercator at 85.06 degrees, where square web maps end."""
_PIXELS = 1024
"""Maximum height and width of the image of a layer."""
_MAX_WINDOWS = 2000
"""Maximum number of windows of a group; more are thinned evenly."""
_MAX_CLASSES = 20
"""Maximum number of classes in the legend."""
_LABEL = 24
"""Maximum number of characters in a line of the legend."""
_WIDTH, _HEIGHT = 800, 520
"""Size of the map in a notebook in screen pixels; it narrows with the page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowGroup:
    """Windows of the same color."""

    name: str
    """Name in the legend."""
    color: str
    """Color `#rrggbb`."""
    grids: Mapping[str, GeoBox]
    """Grid of each node."""
    windows: tuple[Window, ...]
    """Windows of the grids."""


@dataclass(frozen=True, slots=True, eq=False)
class InteractiveMap:
    """An interactive map, which notebooks show."""

    figure: Any
    """Figure of bokeh, in Web Mercator."""

    def to_html(self) -> str:
        """Return the map as an HTML page, scripts included."""
        with optional_import("bokeh", "explore", "draw an interactive map"):
            from bokeh.embed import file_html
            from bokeh.resources import INLINE
        page: str = file_html(self.figure, INLINE, "Map")
        return page

    def save(self, path: SomePath) -> Path:
        """Write the map as an HTML file, and return its path.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        target = Path(path)
        try:
            with atomic_write(target) as temporary:
                temporary.write_text(self.to_html(), encoding="utf-8")
        except OSError as error:
            problem = f"Cannot write {str(target)!r}: {error.strerror or error}."
            raise OutputError(problem, remedy="Pass another {path}.", argument="path") from error
        return target

    def __repr__(self) -> str:
        return f"<InteractiveMap: {', '.join(self._names()) or 'empty'}>"

    def _repr_html_(self) -> str:
        """Return the page in a frame, which separates its scripts from those of the notebook."""
        style = f"width:100%;max-width:{_WIDTH}px;height:{_HEIGHT + 10}px;border:0"
        return f'<iframe srcdoc="{escape(self.to_html())}" style="{style}"></iframe>'

    def _names(self) -> list[str]:
        return [str(item.label.value).replace("\n", " ") for legend in self.figure.legend for item in legend.items]


def explore(
    data: xr.DataArray | xr.Dataset | xr.DataTree,
    *,
    legend: Legend | None = None,
    basemap: str | None = None,
    title: str | None = None,
) -> InteractiveMap:
    """Return an interactive map of layers, to pan and zoom; a click on a name in its legend hides a layer.

    The image of each layer is embedded, with up to 1024 x 1024 pixels in Web Mercator (nearest neighbor). Without a
    basemap, nothing is loaded from the network.

    Parameters
    ----------
    data
        A layer with dims (y, x), (band, y, x), or with a time dimension of length 1, such as a map of `predict`; or a
        Dataset or tree of layers. Pixels are computed. Of several bands that make no color image, the first is drawn,
        and named in the legend.
    legend
        Classes to show; by default those of each layer.
    basemap
        Name of a tile provider of bokeh, such as "CartoDB Positron" or "OSM"; the browser loads the tiles.
    title
        Title of the map.

    Returns
    -------
    InteractiveMap
        Shown by notebooks; `save(path)` writes it as one HTML file, and `figure` is that of bokeh.

    Raises
    ------
    InputError
        If the data have no layer, or a layer has several time steps.
    CRSError
        If a layer has no CRS, or lies outside the domain of its CRS.
    MissingDependency
        If bokeh is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt import plot
    >>> from geoxt.testing import make_layer
    >>> image = make_layer(np.random.default_rng(0).random((3, 8, 8)))
    >>> plot.explore(image).save("map.html")  # doctest: +SKIP
    """
    return draw_map(data, (), legend=legend, basemap=basemap, title=title)


def draw_map(
    data: xr.DataArray | xr.Dataset | xr.DataTree | None,
    groups: Iterable[WindowGroup],
    *,
    legend: Legend | None = None,
    basemap: str | None = None,
    title: str | None = None,
) -> InteractiveMap:
    """Return an interactive map of layers below windows.

    Raises
    ------
    InputError
        If `data` is no layer or Dataset of layers.
    """
    with optional_import("bokeh", "explore", "draw an interactive map"):
        from bokeh import plotting
    new_figure: Any = plotting.figure
    layers = {} if data is None else _layers(data)
    plot = new_figure(
        x_axis_type="mercator",
        y_axis_type="mercator",
        match_aspect=True,
        active_scroll="wheel_zoom",
        tools="pan,wheel_zoom,box_zoom,reset,save",
        max_width=_WIDTH,
        height=_HEIGHT,
        sizing_mode="stretch_width",
        title=title,
    )
    if basemap is not None:
        plot.add_tile(basemap, retina=True)
    for name, layer in layers.items():
        _draw_layer(plot, name, layer, legend)
    for group in groups:
        _draw_windows(plot, group)
    if plot.legend:
        plot.legend.click_policy = "hide"
        plot.add_layout(plot.legend[0], "right")
    return InteractiveMap(plot)


def _layers(data: xr.DataArray | xr.Dataset | xr.DataTree) -> dict[str, xr.DataArray]:
    """Return the layers by name."""
    if isinstance(data, xr.DataArray):
        return {"layer" if data.name is None else str(data.name): data}
    layers = {
        f"{node}: {name}".removeprefix(": "): layer
        for node, ds in nodes_of(data).items()
        for name, layer in layers_by_name(ds).items()
    }
    if not layers:
        problem = "Cannot draw a map: none of the variables has the dims y and x."
        raise InputError(problem, remedy="Pass {data} of layers.", argument="data")
    return layers


def mercator_grid(grid: GeoBox) -> GeoBox:
    """Return the grid of the image of a layer: in Web Mercator, up to 85 degrees, up to 1024 square pixels a side.

    Raises
    ------
    CRSError
        If the grid has no CRS, or lies outside the domain of its CRS.
    """
    height, width = grid.shape
    cols, rows = np.meshgrid(np.linspace(0, width, 21), np.linspace(0, height, 21))
    x, y = _to_mercator(grid, cols.ravel(), rows.ravel())
    finite = np.isfinite(x) & np.isfinite(y)
    if not finite.any():
        problem = "Cannot draw a map of a grid that lies outside the domain of its CRS."
        raise CRSError(problem, remedy="Correct the CRS or the coordinates of the layer.")
    x, y = x[finite], y[finite].clip(-_LIMIT, _LIMIT)
    bounds = BoundingBox(x.min(), y.min(), x.max(), y.max(), MERCATOR)
    side = max(bounds.span_x, bounds.span_y) / min(_PIXELS, max(height, width))
    shape = (max(round(bounds.span_y / side), 1), max(round(bounds.span_x / side), 1))
    return GeoBox.from_bbox(bounds, MERCATOR, shape=shape, tight=True)


def _to_mercator(grid: GeoBox, col: Array, row: Array) -> tuple[Array, Array]:
    """Return Web Mercator coordinates of positions of a grid in pixels."""
    if grid.crs is None:
        raise CRSError("Cannot draw a map of a grid without a CRS.", remedy="Set the CRS of the layer.")
    x, y = grid.affine @ np.stack([col, row])
    east, north = transformer(grid.crs, parse_crs(MERCATOR)).transform(x, y)
    return np.asarray(east), np.asarray(north)


def _draw_layer(plot: Any, name: str, layer: xr.DataArray, legend: Legend | None) -> None:
    """Add the image of a layer, and its classes as entries of the legend."""
    layer = resolve_attrs(layer)
    if not is_one_picture(layer):
        layer = layer.isel(band=0)
        name = f"{name}: {layer['band'].item() if 'band' in layer.coords else 0}"
    grid = mercator_grid(grid_of(layer))
    image = align(layer, grid, resampling="nearest").compute()
    class_legend = (legend or Legend.of(image)) if is_categorical(image) else None
    colors = rgb(image) if class_legend is None else classes(image, class_legend)
    left, _, right, top = grid.boundingbox.bbox
    height = top - grid.boundingbox.bottom
    plot.image_url(url=[_png_uri(colors)], x=left, y=top, w=right - left, h=height, anchor="top_left")
    image_renderer = plot.renderers[-1]
    _add_to_legend(plot, picture_title(name, layer), "#888888")
    plot.legend[0].items[-1].renderers.append(image_renderer)  # a click on the name hides the image
    if class_legend is None:
        return
    occurring = [k for k, code in enumerate(class_legend.codes) if (image == code).any()]
    for k in occurring[:_MAX_CLASSES]:
        _add_to_legend(plot, class_legend.distinct_names[k], class_legend.colors[k])
    if len(occurring) > _MAX_CLASSES:
        _add_to_legend(plot, f"and {len(occurring) - _MAX_CLASSES} more classes", "#ffffff")


def _add_to_legend(plot: Any, name: str, color: str) -> None:
    """Add a colored square and a name to the legend."""
    label = "\n".join(wrap(name, _LABEL, break_long_words=False))
    plot.scatter([np.nan], [np.nan], marker="square", size=12, color=color, legend_label=label)


def _png_uri(colors: Array) -> str:
    """Return an RGBA image as the URI of an embedded PNG."""
    with optional_import("matplotlib", "plot", "draw an interactive map"):
        from matplotlib.image import imsave
    stream = io.BytesIO()
    imsave(stream, (colors * 255).round().astype(np.uint8), format="png")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _draw_windows(plot: Any, group: WindowGroup) -> None:
    """Add the outlines of windows with their positions as hover text."""
    with optional_import("bokeh", "explore", "draw an interactive map"):
        from bokeh.models import HoverTool
    count = len(group.windows)
    windows = group.windows[:: -(-count // _MAX_WINDOWS) or 1]
    if not windows:
        return
    xs, ys = zip(*(_outline(group.grids[window.node], window) for window in windows), strict=True)
    columns: dict[str, Any] = {"xs": [[[x]] for x in xs], "ys": [[[y]] for y in ys]}
    for field in ("row", "col", "height", "width", "node"):
        columns[field] = [getattr(window, field) for window in windows]
    label = f"{group.name} ({count:,})" if len(windows) == count else f"{group.name} ({len(windows):,} of {count:,})"
    options = {"fill_alpha": 0.2, "fill_color": group.color, "line_color": group.color, "legend_label": label}
    patches = plot.multi_polygons(xs="xs", ys="ys", source=columns, **options)
    tips = [("row, column", "@row, @col"), ("height x width", "@height x @width")]
    tips += [("node", "@node")] if any(columns["node"]) else []
    plot.add_tools(HoverTool(renderers=[patches], tooltips=tips))


def _outline(grid: GeoBox, window: Window) -> tuple[list[float], list[float]]:
    """Return the corners of a window in Web Mercator."""
    (top, left), (bottom, right) = (window.row, window.col), window.stop
    x, y = _to_mercator(grid, np.array([left, right, right, left]), np.array([top, top, bottom, bottom]))
    return x.tolist(), y.tolist()
