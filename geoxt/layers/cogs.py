"""Raster files on disk, or anywhere GDAL reads them: headers -> scenes -> layer."""

from __future__ import annotations

import glob as globbing
import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError
from geoxt.layers.assemble import GroupBy, Placement, Product, assemble, representable
from geoxt.layers.index import headers
from geoxt.layers.sensors import LayerSpec, Named, resolve_bands, spec
from geoxt.legend import Legend
from geoxt.pixels.reader import Header
from geoxt.source import Asset, Scene
from geoxt.types import Resampling, SomeCRS, SomePaths

REMOTE = ("http://", "https://", "s3://", "gs://", "az://", "/vsi")


def open_cogs(
    paths: SomePaths,
    *,
    layer: str | LayerSpec | None = None,
    bands: Sequence[str] | None = None,
    crs: SomeCRS | None = None,
    resolution: float | tuple[float, float] | None = None,
    grid: GeoBox | None = None,
    groupby: GroupBy = "mosaic",
    categorical: bool | None = None,
    nodata: float | None = None,
    source_crs: SomeCRS | None = None,
    resampling: Resampling | None = None,
    chunks: Mapping[str, int] | int | None = None,
    errors: Literal["raise", "nodata"] = "raise",
    name: str | None = None,
) -> xr.DataArray:
    """Open raster files as one lazy layer.

    Only headers are read. Files of the same grid are the bands of one scene; scenes are mosaicked, the first valid
    pixel wins (in the order of `paths`).

    Parameters
    ----------
    paths
        A path or glob pattern, or a list of them; URLs and GDAL's `/vsi…` paths are taken as they are.
    layer
        Name of a known layer ("landsat8", "cdl", …; `geoxt.layers.names()`), which says how file names give band and
        date, and what the bands and classes are. Without it, bands are named by their descriptions or file names.
    bands
        Bands to open, in this order: the sensor's own names ("SR_B4"), or common names ("red").
    crs, resolution, grid
        Where the layer shall lie: a CRS, a pixel size in its units, or a whole grid. By default the CRS and
        resolution that all files share.
    groupby
        "mosaic": all scenes in one, no time dimension. "time", "day": one step for each date, from the file names.
        `None`: one step a scene.
    categorical
        Whether pixels are class codes, which are never interpolated. By default so for known label layers, and for
        files with a colour table that is not a ramp of greys.
    nodata
        Value of missing pixels, where the files do not say.
    source_crs
        CRS of files that have none.
    resampling
        How pixels come onto the grid: by default "nearest" for class codes, else "bilinear".
    chunks
        Dask chunk sizes: one number for y and x, or by dimension. By default 1024 pixels and all bands.
    errors
        "nodata": a file that cannot be read later gives nodata and one warning, instead of an error.
    name
        Name of the layer.

    Returns
    -------
    xarray.DataArray
        Dimensions (time, band, y, x); time is absent for a mosaic, band for class codes. Dask-backed, in the stored
        type. `attrs` has `_FillValue`, and `flag_values`, `flag_meanings`, `flag_colors` for class codes.

    Raises
    ------
    InputError
        Where no file matches, or a band is not there.
    ReadError, CRSError, GridError
        Where a file cannot be opened, has no CRS, or the files disagree and no choice was given.

    Examples
    --------
    >>> import geoxt
    >>> landsat = geoxt.open_cogs("landsat/*_SR_B[2-7].TIF", layer="landsat8")  # doctest: +SKIP
    """
    found = find(paths)
    facts = spec(layer) if isinstance(layer, str) else layer
    read = headers(found, crs=source_crs)
    if facts is None:
        scenes, product = _plain(read, categorical=categorical)
    else:
        scenes, product = _known(read, facts, categorical=categorical)
    if bands is not None:
        scenes, product = choose_bands(scenes, product, bands, facts)
    if nodata is None and facts is not None:
        nodata = facts.nodata
    if nodata is not None:
        scenes = [_with_nodata(s, nodata) for s in scenes]
    placement = Placement(
        crs=crs, resolution=resolution, grid=grid, groupby=groupby, nodata=nodata, resampling=resampling,
        chunks=chunks, errors=errors, name=name or (facts.name if facts else None),
    )  # fmt: skip
    return assemble(scenes, product, placement)


def find(paths: SomePaths) -> list[str]:
    """Return the files that paths and glob patterns name, sorted within each pattern.

    Raises
    ------
    InputError
        Where a pattern matches nothing, or a path is not there.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    found: list[str] = []
    for one in (os.fspath(g) for g in given):
        if one.startswith(REMOTE):
            found.append(one)
            continue
        matches = [one] if Path(one).is_file() else sorted(globbing.glob(one, recursive=True))  # noqa: PTH207 (absolute patterns too)
        matches = [m for m in matches if Path(m).is_file()]
        if not matches:
            where = " (a folder: add a pattern such as '*.tif')" if Path(one).is_dir() else ""
            msg = f"Cannot find any file for {one!r}{where}. Pass an existing path or a pattern that matches."
            raise InputError(msg)
        found += matches
    if not found:
        msg = "Cannot open a layer from an empty list of paths. Pass at least one file."
        raise InputError(msg)
    return list(dict.fromkeys(found))


def _known(files: Sequence[Header], facts: LayerSpec, *, categorical: bool | None) -> tuple[list[Scene], Product]:
    """Return the scenes of a known layer, from what its file names say."""
    groups: dict[str, dict[str, Asset]] = {}
    says: dict[str, Named] = {}
    for header in files:
        named, members = _identify(header, facts)
        scene = named.scene
        mine = groups.setdefault(scene, {})
        for band, asset in members.items():
            if band in mine:
                msg = (
                    f"Cannot place {header.href!r}: scene {scene!r} has band {band!r} from {mine[band].href!r} already."
                )
                raise InputError(msg + " Leave one of the two out.")
            mine[band] = asset
        says.setdefault(scene, named)
    present = {band for mine in groups.values() for band in mine}
    ordered = [b.name for b in (*facts.bands, *facts.extras) if b.name in present]
    scenes = []
    for scene, mine in groups.items():
        lacking = [band for band in ordered if band not in mine]
        if lacking:
            msg = f"Cannot make one layer: scene {scene!r} lacks the bands {lacking} that others have."
            raise InputError(msg + " Pass files of the same bands for every scene.")
        start, end = moment(says[scene].start), moment(says[scene].end)
        scenes.append(Scene(id=scene, assets=tuple(mine[band] for band in ordered), start=start, end=end))
    legend = facts.legend if categorical is not False else None
    return scenes, product_of(ordered, facts, legend)


def _identify(header: Header, facts: LayerSpec) -> tuple[Named, dict[str, Asset]]:
    """Return what a file's name says, and the bands that the file holds."""
    named = facts.identify(header.href)
    if named is None:
        msg = f"Cannot take {header.href!r} as {facts.name}: its name is not of the form {facts.patterns[0]}."
        raise InputError(msg + " Leave it out, or open it without layer=.")
    if named.band is None:
        held = [b for b in facts.bands if b.index <= len(header.dtypes)]
        return named, {b.name: asset_of(header, b.index, b.nodata) for b in held}
    known = next((b for b in (*facts.bands, *facts.extras) if b.name == named.band), None)
    if known is None:
        msg = f"Cannot take {header.href!r} as {facts.name}: it has no band {named.file!r}. Leave the file out."
        raise InputError(msg)
    return named, {known.name: asset_of(header, known.index, known.nodata)}


def moment(when: datetime | None) -> np.datetime64 | None:
    """Return a time (UTC) as numpy's, in nanoseconds."""
    return None if when is None else np.datetime64(when.replace(tzinfo=None), "ns")


def product_of(bands: Sequence[str], facts: LayerSpec, legend: Legend | None) -> Product:
    """Return what the scenes of a known layer have in common."""
    by_name = {b.name: b for b in (*facts.bands, *facts.extras)}
    known = [by_name.get(b) for b in bands]
    coords = {
        "common_name": tuple((b.common or "") if b else "" for b in known),
        "wavelength": tuple(b.wavelength if b and b.wavelength is not None else np.nan for b in known),
    }
    attrs: dict[Hashable, Any] = {"long_name": facts.title}
    return Product(bands=tuple(bands), legend=legend, attrs=attrs, coords=coords, categorical=legend is not None)


def _plain(files: Sequence[Header], *, categorical: bool | None) -> tuple[list[Scene], Product]:
    """Return the scenes of unknown files: those on one grid are the bands of one scene."""
    groups: dict[GeoBox, list[Header]] = {}
    for header in files:
        groups.setdefault(header.grid, []).append(header)
    counts = {sum(_count(h) for h in some) for some in groups.values()}
    if len(counts) > 1:
        sizes = {sum(_count(h) for h in some): some[0].href for some in groups.values()}
        (m, a), (n, b), *_ = sizes.items()
        msg = f"Cannot tell bands from scenes: {m} bands share the grid of {a!r}, {n} that of {b!r}. "
        raise InputError(msg + "Pass files of one grid, or layer=… for a known layer.")
    first = next(iter(groups.values()))
    names = _band_names(first)
    scenes = [
        Scene(
            id=Path(some[0].href).stem,
            assets=tuple(asset_of(h, n) for h in some for n in range(1, len(h.dtypes) + 1) if not h.alpha[n - 1]),
        )
        for some in groups.values()
    ]
    colors = first[0].colors
    if categorical is None:
        categorical = colors is not None and not _grey(colors)
    legend = None
    if categorical:
        if len(names) > 1:
            msg = f"Cannot take {first[0].href!r} as class codes: there are {len(names)} bands. Pass one, or bands=[…]."
            raise InputError(msg)
        legend = Legend.from_colormap(colors) if colors else None
    return scenes, Product(bands=names, legend=legend, categorical=categorical)


def choose_bands(
    scenes: Sequence[Scene], product: Product, bands: Sequence[str], facts: LayerSpec | None
) -> tuple[list[Scene], Product]:
    """Return scenes and product with some of the bands, in the order given.

    Raises
    ------
    InputError
        Where a band is not there.
    """
    wanted = list(bands) if facts is None else [b.name for b in resolve_bands(facts, bands)]
    missing = [b for b in wanted if b not in product.bands]
    if missing:
        msg = f"Cannot open the bands {missing}: the files have {list(product.bands)}. Pass bands=… from these."
        raise InputError(msg)
    places = [product.bands.index(b) for b in wanted]
    chosen = [replace(s, assets=tuple(s.assets[p] for p in places)) for s in scenes]
    coords = {k: tuple(v[p] for p in places) for k, v in product.coords.items()}
    return chosen, replace(product, bands=tuple(wanted), coords=coords)


def asset_of(header: Header, band: int, nodata: float | None = None) -> Asset:
    """Return the asset that a band of a file is."""
    dtype = header.dtypes[band - 1]
    stored = header.nodata[band - 1]
    return Asset(
        href=header.href,
        band=band,
        grid=header.grid,
        dtype=dtype,
        nodata=representable(nodata if stored is None else stored, dtype),
        masked=header.masked[band - 1],
    )


def _with_nodata(scene: Scene, nodata: float) -> Scene:
    assets = tuple(
        a if a is None or a.nodata is not None else replace(a, nodata=representable(nodata, a.dtype))
        for a in scene.assets
    )
    return replace(scene, assets=assets)


def _count(header: Header) -> int:
    return sum(not a for a in header.alpha)


def _band_names(headers: Sequence[Header]) -> tuple[str, ...]:
    """Return band names: descriptions where they tell bands apart, else what differs in the file names."""
    described = [n for h in headers for n, a in zip(h.names, h.alpha, strict=True) if not a]
    if all(described) and len(set(described)) == len(described):
        return tuple(str(n) for n in described)
    if len(headers) == 1:
        return tuple(f"band_{n}" for n in range(1, _count(headers[0]) + 1))
    stems = [Path(h.href).stem for h in headers]
    start, end = _shared(stems), _shared([s[::-1] for s in stems])
    names = []
    for stem, header in zip(stems, headers, strict=True):
        core = stem[start : len(stem) - end] or stem
        names += [core] if _count(header) == 1 else [f"{core}_{n}" for n in range(1, _count(header) + 1)]
    return tuple(names) if len(set(names)) == len(names) else tuple(f"band_{n}" for n in range(1, len(names) + 1))


def _shared(texts: Sequence[str]) -> int:
    """Return how many letters all texts begin with."""
    return next(
        (i for i, letters in enumerate(zip(*texts, strict=False)) if len(set(letters)) > 1), min(map(len, texts))
    )


def _grey(colors: Mapping[int, tuple[int, ...]]) -> bool:
    """Tell whether a colour table is a ramp of greys, as some programs give to imagery."""
    return all(c[0] == c[1] == c[2] for c in colors.values())
