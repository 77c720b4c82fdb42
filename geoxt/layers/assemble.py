"""Scenes -> layer: one CRS, resolution and grid for all of them, grouped into time steps."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import xarray as xr
from affine import Affine
from odc.geo import CRS
from odc.geo.geobox import GeoBox

from geoxt.errors import GridError, InputError
from geoxt.grid import crs_name, parse_crs, require_one_crs, snap_grid
from geoxt.layers.area import Area
from geoxt.layers.extent import bounds_in
from geoxt.layers.radiometry import attrs_of
from geoxt.layers.time import Composite, GroupBy, ordered, steps_of
from geoxt.legend import Legend
from geoxt.pixels.credentials import Credentials
from geoxt.source import Asset, Mosaic, Scene, to_layer
from geoxt.types import Floats, Resampling, SomeCRS

SAME = 1e-6
"""Resolutions that differ by a smaller share are the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMetadata:
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
    units: tuple[str, ...] = ()
    """Unit of each band's physical values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """How scenes become a layer; `None` means "work it out"."""

    crs: SomeCRS | None = None
    """Coordinate reference system of the layer."""
    resolution: float | tuple[float, float] | None = None
    """Pixel size in CRS units: one number, or (width, height)."""
    grid: GeoBox | None = None
    """The whole grid; excludes the two above."""
    area: Area | None = None
    """What the layer is cut to, unless its whole grid is given."""
    groupby: GroupBy = "mosaic"
    """Which scenes share a time step."""
    composite: Composite = "first"
    """How the scenes of a step become one image."""
    rescale: bool = False
    """Whether pixels become physical values, float32 with NaN where there are none."""
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
    credentials: Credentials | None = None
    """How files are opened."""


def assemble(scenes: Sequence[Scene], product: LayerMetadata, placement: Placement) -> xr.DataArray:
    """Return the lazy layer that scenes make.

    Raises
    ------
    CRSError, GridError
        Where the scenes disagree and no choice was given.
    """
    if not scenes:
        raise InputError("Cannot open a layer: there are no scenes.", remedy="Widen the selection.")
    dtype, nodata = _pixels(scenes, product, placement)
    rescale = placement.rescale and not product.categorical
    steps, times = steps_of(scenes, placement.groupby)
    steps, composite = ordered(scenes, steps, placement.composite)
    if product.categorical and composite in {"mean", "median"}:
        remedy = "Pass {composite:'first'}, 'latest' or 'least cloudy'."
        raise InputError(f"Cannot take the {composite} of class codes.", remedy=remedy, argument="composite")
    source = Mosaic(
        grid=_grid(scenes, placement),
        scenes=tuple(scenes),
        steps=steps,
        bands=product.bands,
        dtype=np.dtype("float32") if rescale else dtype,
        nodata=float("nan") if rescale else nodata,
        resampling=placement.resampling or ("nearest" if product.categorical else "bilinear"),
        errors=placement.errors,
        composite=composite,
        rescale=rescale,
        credentials=placement.credentials,
    )
    dims = ["time"] * (times is not None) + ["band"] * (not product.categorical) + ["y", "x"]
    coords: dict[str, Any] = {} if times is None else {"time": times}
    if not product.categorical:
        coords |= {"band": list(product.bands), **{k: ("band", list(v)) for k, v in product.coords.items()}}
    attrs = dict(product.attrs) | (product.legend.attrs() if product.legend else {})
    if product.categorical:
        attrs.setdefault("flag_values", np.empty(0, dtype))
    else:
        attrs |= attrs_of(scenes, product.units, rescale=rescale)
    if source.nodata is not None:
        attrs["_FillValue"] = source.dtype.type(source.nodata).item()
    return to_layer(source, dims=dims, coords=coords, attrs=attrs, name=placement.name, chunks=placement.chunks)


def _pixels(
    scenes: Sequence[Scene], product: LayerMetadata, placement: Placement
) -> tuple[np.dtype[Any], float | None]:
    """Return the data type of stored pixels, and what marks missing ones."""
    assets = [a for s in scenes for a in s.assets if a is not None]
    dtype = np.result_type(*{a.dtype for a in assets})
    nodata = _nodata(assets, placement.nodata, dtype)
    _check_type(dtype, scenes[0].id)
    if placement.errors not in {"raise", "nodata"}:
        msg = f"Cannot treat files that fail by errors={placement.errors!r}: pass errors='raise' or 'nodata'."
        raise InputError(msg)
    _check_resampling(product, placement.resampling)
    return dtype, nodata


def _check_resampling(product: LayerMetadata, how: Resampling | None) -> None:
    if product.categorical and how not in {None, "nearest", "mode"}:
        msg = f"Cannot resample class codes by {how!r}. Pass resampling='nearest' or 'mode'."
        raise InputError(msg)


def _grid(scenes: Sequence[Scene], placement: Placement) -> GeoBox:
    if placement.grid is not None:
        return placement.grid
    found = choose_grid(scenes, crs=placement.crs, resolution=placement.resolution)
    return found if placement.area is None else placement.area.cut(found)


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
    files: dict[GeoBox, str] = {}
    for scene in scenes:
        for asset in scene.assets:
            if asset is not None and asset.grid not in grids:
                grids[asset.grid] = scene.id
                files[asset.grid] = asset.href.partition("?")[0].rpartition("/")[2]
    if crs is None:
        target = require_one_crs((name, grid.crs) for grid, name in grids.items() if grid.crs is not None)
    else:
        target = parse_crs(crs)
    own = [grid for grid in grids if grid.crs == target]
    chosen = _pair(resolution) if resolution is not None else _resolution(own or list(grids), target, grids, files)
    lattice = [g for g in own if _axis_aligned(g) and np.allclose(_size(g), chosen, rtol=SAME)]
    anchor = lattice[0].affine if lattice else Affine.identity()
    bounds = bounds_in(list(grids), target)
    if target.geographic:
        bounds = _together(bounds)
    (left, bottom), (right, top) = bounds[:, :2].min(0), bounds[:, 2:].max(0)
    return snap_grid((left, bottom, right, top), chosen, anchor, target)


def _resolution(
    grids: Sequence[GeoBox], target: CRS, scenes: Mapping[GeoBox, str], files: Mapping[GeoBox, str]
) -> tuple[float, float]:
    """Return the one pixel size that all grids have in the target CRS."""
    sizes = [_size(g) if g.crs == target and _axis_aligned(g) else _size(g.to_crs(target)) for g in grids]
    for grid, size in zip(grids, sizes, strict=True):
        if grids[0].crs == target and not np.allclose(size, sizes[0], rtol=SAME):
            a, b = f"{sizes[0][0]:g}", f"{size[0]:g}"
            one = scenes[grids[0]] == scenes[grid]  # its bands differ: their files tell them apart
            first, other = (files[g] if one else scenes[g] for g in (grids[0], grid))
            of = f" of {scenes[grid]!r}" if one and scenes[grid] not in first else ""
            where = f"{first!r}{of} has pixels of {a}, {other!r} of {b} units of {crs_name(target)}"
            msg = f"Cannot choose one resolution: {where}. Pass resolution={a} or resolution={b}."
            raise GridError(msg)
    return sizes[0]


def _together(bounds: Floats) -> Floats:
    """Bring longitudes to one side of the antimeridian, where that makes the whole narrower."""
    middles = bounds[:, [0, 2]].mean(1)
    turned = np.where(middles < 0, middles + 360, middles)
    if np.ptp(turned) < np.ptp(middles):
        shift = turned - middles
        return np.asarray(bounds + np.stack((shift, 0 * shift, shift, 0 * shift), axis=1))
    return bounds


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
    if dtype == "complex_int16":  # GDAL's own; numpy has no such type
        msg = "Cannot open a raster of complex_int16 pixels: they are not real numbers. Write its parts as real bands."
        raise InputError(msg)
    kind = np.dtype(dtype)
    if nodata is None or kind.kind not in "iu":
        return nodata
    limits = np.iinfo(kind)
    return nodata if limits.min <= nodata <= limits.max and nodata == int(nodata) else None


def _check_type(dtype: np.dtype[Any], scene: str) -> None:
    if dtype.kind not in "iufb":
        msg = f"Cannot open scene {scene!r}: its pixels are {dtype}, not real numbers. Write its parts as real bands."
        raise InputError(msg)
