"""Scenes -> layer: one CRS, resolution and grid for all of them, grouped into time steps."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import shapely.affinity
import xarray as xr
from affine import Affine
from odc.geo import CRS
from odc.geo.geobox import GeoBox

from geoxt.errors import GridError, InputError
from geoxt.footprints import footprint
from geoxt.grid import label, parse_crs, require_one_crs, snap
from geoxt.legend import Legend
from geoxt.source import Asset, Mosaic, Scene, to_layer
from geoxt.types import Resampling, SomeCRS

GroupBy = Literal["mosaic", "time", "day"] | None
SAME = 1e-6
"""Resolutions that differ by a smaller share are the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """What scenes have in common, whether they came from STAC items or from files."""

    bands: tuple[str, ...]
    """Names of the bands, in order."""
    legend: Legend | None = None
    """Classes, for a categorical layer."""
    attrs: Mapping[Hashable, Any] = field(default_factory=dict)
    """Attributes of the layer, beside nodata and legend."""
    coords: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Further coordinates along the bands, such as their common names."""
    categorical: bool = False
    """Whether pixels are class codes; the layer then has no band dimension."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """How scenes become a layer; `None` means "work it out"."""

    crs: SomeCRS | None = None
    """Coordinate reference system of the layer."""
    resolution: float | tuple[float, float] | None = None
    """Pixel size in CRS units: one number, or (width, height)."""
    grid: GeoBox | None = None
    """The whole grid; excludes the two above."""
    groupby: GroupBy = "mosaic"
    """Which scenes share a time step."""
    nodata: float | None = None
    """Stored value of missing pixels, where the files do not say."""
    resampling: Resampling | None = None
    """How pixels come onto the grid."""
    chunks: Mapping[str, int] | int | None = None
    """Dask chunk sizes by dimension."""
    errors: Literal["raise", "nodata"] = "raise"
    """What to do with a scene that cannot be read."""
    name: str | None = None
    """Name of the layer."""


def assemble(scenes: Sequence[Scene], product: Product, placement: Placement) -> xr.DataArray:
    """Return the lazy layer that scenes make.

    Raises
    ------
    CRSError, GridError
        Where the scenes disagree and no choice was given.
    """
    if not scenes:
        msg = "Cannot open a layer: there are no scenes. Widen the selection."
        raise InputError(msg)
    assets = [a for s in scenes for a in s.assets if a is not None]
    dtype = np.result_type(*{a.dtype for a in assets})
    nodata = _nodata(assets, placement.nodata, dtype)
    _check_type(dtype, scenes[0].id)
    resampling = placement.resampling or ("nearest" if product.categorical else "bilinear")
    steps, times = _steps(scenes, placement.groupby)
    source = Mosaic(
        grid=placement.grid or choose_grid(scenes, crs=placement.crs, resolution=placement.resolution),
        scenes=tuple(scenes),
        steps=steps,
        bands=product.bands,
        dtype=dtype,
        nodata=nodata,
        resampling=resampling,
        errors=placement.errors,
    )
    dims = ["time"] * (times is not None) + ["band"] * (not product.categorical) + ["y", "x"]
    coords: dict[str, Any] = {} if times is None else {"time": times}
    if not product.categorical:
        coords |= {"band": list(product.bands), **{k: ("band", list(v)) for k, v in product.coords.items()}}
    attrs = dict(product.attrs) | (product.legend.attrs() if product.legend else {})
    if product.categorical:
        attrs.setdefault("flag_values", np.empty(0, dtype))
    if nodata is not None:
        attrs["_FillValue"] = dtype.type(nodata).item()
    return to_layer(source, dims=dims, coords=coords, attrs=attrs, name=placement.name, chunks=placement.chunks)


def choose_grid(
    scenes: Sequence[Scene], *, crs: SomeCRS | None = None, resolution: float | tuple[float, float] | None = None
) -> GeoBox:
    """Return the smallest grid that covers all scenes, on the pixel lattice of the first one in its CRS.

    Raises
    ------
    CRSError
        Where the scenes lie in several CRSs and none was chosen.
    GridError
        Where they have several resolutions and none was chosen.
    """
    grids: dict[GeoBox, str] = {}
    for scene in scenes:
        for asset in scene.assets:
            if asset is not None:
                grids.setdefault(asset.grid, scene.id)
    if crs is None:
        target = require_one_crs((name, grid.crs) for grid, name in grids.items() if grid.crs is not None)
    else:
        target = parse_crs(crs)
    own = [grid for grid in grids if grid.crs == target]
    chosen = _pair(resolution) if resolution is not None else _resolution(own or list(grids), target, grids)
    lattice = [g for g in own if _axis_aligned(g) and np.allclose(_size(g), chosen, rtol=SAME)]
    anchor = lattice[0].affine if lattice else Affine.identity()
    outlines = [footprint(grid, target) for grid in grids]
    if target.geographic:
        outlines = _together(outlines)
    bounds = np.array([o.bounds for o in outlines])
    (left, bottom), (right, top) = bounds[:, :2].min(0), bounds[:, 2:].max(0)
    return snap((left, bottom, right, top), chosen, anchor, target)


def _resolution(grids: Sequence[GeoBox], target: CRS, names: Mapping[GeoBox, str]) -> tuple[float, float]:
    """Return the one pixel size that all grids have in the target CRS."""
    sizes = [_size(g) if g.crs == target and _axis_aligned(g) else _size(g.to_crs(target)) for g in grids]
    for grid, size in zip(grids, sizes, strict=True):
        if grids[0].crs == target and not np.allclose(size, sizes[0], rtol=SAME):
            a, b = f"{sizes[0][0]:g}", f"{size[0]:g}"
            where = f"{names[grids[0]]!r} has pixels of {a}, {names[grid]!r} of {b} units of {label(target)}"
            msg = f"Cannot choose one resolution: {where}. Pass resolution={a} or resolution={b}."
            raise GridError(msg)
    return sizes[0]


def _together(outlines: list[Any]) -> list[Any]:
    """Bring longitudes to one side of the antimeridian, where that makes the whole narrower."""
    middles = np.array([o.centroid.x for o in outlines])
    turned = np.where(middles < 0, middles + 360, middles)
    if np.ptp(turned) < np.ptp(middles):
        shifts = turned - middles
        return [shapely.affinity.translate(o, s) for o, s in zip(outlines, shifts, strict=True)]
    return outlines


def _pair(resolution: float | tuple[float, float]) -> tuple[float, float]:
    x, y = resolution if isinstance(resolution, tuple) else (resolution, resolution)
    if not (x > 0 and y > 0):
        msg = f"Cannot use resolution={resolution!r}: pass pixel sizes above zero, in CRS units."
        raise GridError(msg)
    return float(x), float(y)


def _size(grid: GeoBox) -> tuple[float, float]:
    return float(np.hypot(grid.affine.a, grid.affine.d)), float(np.hypot(grid.affine.b, grid.affine.e))


def _axis_aligned(grid: GeoBox) -> bool:
    return bool(grid.affine.b == 0 and grid.affine.d == 0)


def _nodata(assets: Sequence[Asset], given: float | None, dtype: np.dtype[Any]) -> float | None:
    if given is not None:
        if representable(given, str(dtype)) is None:
            msg = f"Cannot mark missing pixels by nodata={given:g}: no {dtype} pixel can have it. Pass one that it can."
            raise InputError(msg)
        return float(dtype.type(given).item())
    found = next((a.nodata for a in assets if a.nodata is not None), None)
    return None if found is None else float(dtype.type(found).item())


def representable(nodata: float | None, dtype: str) -> float | None:
    """Return a nodata value, or `None` where no pixel of the type can have it."""
    kind = np.dtype(dtype)
    if nodata is None or kind.kind not in "iu":
        return nodata
    limits = np.iinfo(kind)
    return nodata if limits.min <= nodata <= limits.max and nodata == int(nodata) else None


def _check_type(dtype: np.dtype[Any], scene: str) -> None:
    if dtype.kind not in "iufb":
        msg = f"Cannot open scene {scene!r}: its pixels are {dtype}, not real numbers. Write its parts as real bands."
        raise InputError(msg)


def _steps(scenes: Sequence[Scene], groupby: GroupBy) -> tuple[tuple[tuple[int, ...], ...], Any]:
    """Return the scenes of each time step, and the steps' times (`None` without a time dimension)."""
    if groupby == "mosaic":
        return (tuple(range(len(scenes))),), None
    starts = [s.start for s in scenes]
    if any(s is None for s in starts):
        lacking = scenes[starts.index(None)].id
        msg = f"Cannot group scenes by {groupby or 'scene'}: scene {lacking!r} has no date. Pass groupby='mosaic'."
        raise InputError(msg)
    order = sorted(range(len(scenes)), key=lambda i: (starts[i], i))
    match groupby:
        case None:
            keys: list[Any] = list(range(len(scenes)))
        case "time":
            keys = starts
        case "day":
            keys = [s.astype("datetime64[D]") for s in starts if s is not None]
        case _:
            msg = f"Cannot group scenes by {groupby!r}: pass groupby='mosaic', 'time', 'day' or None."
            raise InputError(msg)
    groups: dict[Any, list[int]] = {}
    for i in order:
        groups.setdefault(keys[i], []).append(i)
    times = np.array([starts[g[0]] for g in groups.values()], dtype="datetime64[ns]")
    return tuple(tuple(g) for g in groups.values()), times
