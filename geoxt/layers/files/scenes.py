"""Scenes of raster files of no known product, by the grids of the files; bands and nodata of scenes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError
from geoxt.footprints import overlap
from geoxt.grid import same_grids, shifted_pair
from geoxt.layers.assemble import LayerMetadata, representable
from geoxt.layers.files.alpha import data_bands, resolve_alpha
from geoxt.layers.files.product_scenes import asset_of, with_classes
from geoxt.layers.products import Product, common_names, resolve_bands
from geoxt.legend import Legend
from geoxt.pixels.reader import Header
from geoxt.source import Scene
from geoxt.source.embedding_attrs import common_embedding_attrs, from_tags, is_unit_length


def grid_scenes(
    headers: Sequence[Header], *, categorical: bool | None, first_wins: bool = False, bands: Sequence[str] = ()
) -> tuple[list[Scene], LayerMetadata]:
    """Build scenes from files of no known product: files on one grid (within rounding) are the bands of one scene.

    `bands` are the names of requested bands; a requested band that is tagged as alpha is data.
    """
    headers = resolve_alpha(headers, bands)
    by_grid: dict[GeoBox, list[Header]] = {}
    for header, grid in zip(headers, same_grids(header.grid for header in headers), strict=True):
        by_grid.setdefault(grid, []).append(header if header.grid is grid else replace(header, grid=grid))
    counts = {sum(len(data_bands(header)) for header in group): group[0].href for group in by_grid.values()}
    if len(counts) > 1:
        (m, a), (n, b), *_ = counts.items()
        problem = f"Cannot tell bands from scenes: {m} bands share the grid of {a!r}, {n} that of {b!r}."
        remedy = "Open each grid separately, with like=first; join bands by xarray.concat. Or pass {product}."
        raise InputError(problem, remedy=remedy)
    _require_one_size(by_grid)
    if first_wins and (pair := shifted_pair(list(by_grid))) is not None:
        a, b = (by_grid[grid][0].href for grid in pair)
        problem = f"Cannot tell bands from scenes: {a!r} and {b!r} overlap, and are shifted by less than a pixel."
        remedy = "Open them separately; join bands by intersection(a=…, b=…), scenes by union(a, b)."
        raise InputError(problem, remedy=remedy)
    first = next(iter(by_grid.values()))
    names = _band_names(first)
    scenes = [
        Scene(
            id=Path(group[0].href).stem,
            assets=tuple(asset_of(h, n) for h in group for n in data_bands(h)),
        )
        for group in by_grid.values()
    ]
    colors = first[0].colors
    if categorical is None:
        categorical = "flag_meanings" in first[0].tags or (colors is not None and not _is_gray(colors))
    if categorical and len(names) > 1:
        problem = f"Cannot take {first[0].href!r} as class codes: there are {len(names)} bands."
        raise InputError(problem, remedy="Pass {bands} with one of them.", argument="bands")
    legend = _legend_of(first[0]) if categorical else None
    common = common_names(names)
    coords = {"common_name": common} if any(common) and not categorical else {}
    attrs = common_embedding_attrs({repr(header.href): from_tags(header.tags) for header in headers})
    return scenes, LayerMetadata(
        bands=names, attrs=attrs, coords=coords, legend=legend, categorical=categorical,
        unit_length=len(names) if is_unit_length(attrs) else 0,
    )  # fmt: skip


def _legend_of(header: Header) -> Legend | None:
    """Return the classes of a file: CF flags in its tags (those of `to_cog`, or GDAL's class names), or its colors."""
    if "flag_meanings" in header.tags:
        values, meanings, colors = (header.tags.get(f"flag_{k}", "").split() for k in ("values", "meanings", "colors"))
        if header.colors and not colors:
            names = dict(zip(map(int, values), meanings, strict=True))
            return Legend.from_colormap(header.colors, names)
        return Legend(tuple(map(int, values)), tuple(meanings or values), tuple(colors))
    return Legend.from_colormap(header.colors) if header.colors and not _is_gray(header.colors) else None


def _require_one_size(by_grid: Mapping[GeoBox, Sequence[Header]]) -> None:
    """Raise if files overlap and differ in pixel size: they are bands, and as scenes one would hide the other."""
    first_of_size: dict[Any, tuple[GeoBox, str]] = {}
    for grid, group in by_grid.items():
        size = (round(grid.affine.a, 9), round(grid.affine.e, 9), grid.crs)
        first_of_size.setdefault(size, (grid, group[0].href))
    for (grid, a), (other, b) in itertools.combinations(first_of_size.values(), 2):
        shared = overlap(grid, other) if grid.crs == other.crs else None
        if shared is not None and shared.height * shared.width > grid.shape[0] * grid.shape[1] / 2:
            problem = f"Cannot tell bands from scenes: {a!r} and {b!r} overlap and differ in pixel size."
            remedy = "Open each size separately; join bands by intersection(a=…, b=…), scenes by union(a, b)."
            raise InputError(problem, remedy=remedy)


def choose_bands(
    scenes: Sequence[Scene],
    metadata: LayerMetadata,
    bands: Sequence[str],
    product: Product | None,
    *,
    categorical: bool | None = None,
) -> tuple[list[Scene], LayerMetadata]:
    """Return scenes and metadata with some of the bands, in the given order.

    Raises
    ------
    InputError
        If a band is missing.
    """
    if product is None:
        names = [_find_band_name(metadata, name) for name in bands]
    else:
        names = [band.name for band in resolve_bands(product, bands)]
    missing = [name for name in names if name not in metadata.bands]
    if missing:
        problem = f"Cannot open the bands {missing}: the files have {list(metadata.bands)}."
        raise InputError(problem, remedy="Pass {bands} from these.", argument="bands")
    positions = [metadata.bands.index(name) for name in names]
    units = tuple(metadata.units[i] for i in positions) if metadata.units else ()
    selected = [replace(scene, assets=tuple(scene.assets[i] for i in positions)) for scene in scenes]
    coords = {key: tuple(values[i] for i in positions) for key, values in metadata.coords.items()}
    metadata = replace(metadata, bands=tuple(names), coords=coords, units=units)
    return selected, metadata if product is None else with_classes(metadata, product, categorical=categorical)


def _find_band_name(metadata: LayerMetadata, name: str) -> str:
    """Return the name of a band by its name or its common name."""
    common = metadata.coords.get("common_name", ())
    return metadata.bands[common.index(name)] if name not in metadata.bands and common.count(name) == 1 else name


def require_nodata(scenes: Iterable[Scene], nodata: float) -> None:
    """Raise if all files state another nodata value, so that `nodata` would have no effect."""
    assets = [asset for scene in scenes for asset in scene.assets if asset is not None]
    stated = {asset.nodata for asset in assets if asset.nodata is not None}
    if any(asset.nodata is None for asset in assets) or any(
        np.array_equal(value, nodata, equal_nan=True) for value in stated
    ):
        return
    problem = f"Cannot take {nodata:g} as nodata: the files state {', '.join(f'{value:g}' for value in stated)}."
    remedy = f"Leave {{nodata}} out. Mask further values by layer.where(layer != {nodata:g})."
    raise InputError(problem, remedy=remedy, value=nodata, argument="nodata")


def with_nodata(scene: Scene, nodata: float) -> Scene:
    """Return a scene with a nodata value for bands that state none."""
    assets = tuple(
        a if a is None or a.nodata is not None else replace(a, nodata=representable(nodata, a.dtype))
        for a in scene.assets
    )
    return replace(scene, assets=assets)


def with_scale(scene: Scene, scale: float, offset: float) -> Scene:
    """Return a scene with a scale and offset for bands whose files state none."""
    assets = tuple(
        a if a is None or (a.scale, a.offset) != (1.0, 0.0) else replace(a, scale=scale, offset=offset)
        for a in scene.assets
    )
    return replace(scene, assets=assets)


def _band_names(headers: Sequence[Header]) -> tuple[str, ...]:
    """Return band names: the bands' descriptions if unique, else the parts in which the file names differ."""
    descriptions = [h.names[n - 1] for h in headers for n in data_bands(h)]
    if all(descriptions) and len(set(descriptions)) == len(descriptions):
        return tuple(str(n) for n in descriptions)
    if len(headers) == 1:
        return tuple(f"band_{n}" for n in data_bands(headers[0]))
    stems = [Path(header.href).stem for header in headers]
    start, end = _common_prefix(stems), _common_prefix([stem[::-1] for stem in stems])
    names = []
    for stem, header in zip(stems, headers, strict=True):
        core, numbers = stem[start : len(stem) - end] or stem, data_bands(header)
        names += [core] if len(numbers) == 1 else [f"{core}_{n}" for n in numbers]
    return tuple(names) if len(set(names)) == len(names) else tuple(f"band_{n}" for n in range(1, len(names) + 1))


def _common_prefix(texts: Sequence[str]) -> int:
    """Return the length of the common prefix of texts, cut to whole words."""
    pairs = enumerate(zip(*texts, strict=False))
    same = next((i for i, letters in pairs if len(set(letters)) > 1), min(map(len, texts)))
    return next((i + 1 for i in range(same - 1, -1, -1) if not texts[0][i].isalnum()), 0)


def _is_gray(colors: Mapping[int, tuple[int, ...]]) -> bool:
    """Return whether a color table is a ramp of grays, as some programs write for imagery."""
    return all(color[0] == color[1] == color[2] for color in colors.values())
