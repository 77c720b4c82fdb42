"""Raster files -> scenes: by what the names of a known layer's files say, else by the grids of the files."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError
from geoxt.footprints import overlap
from geoxt.layers.assemble import LayerMetadata, representable
from geoxt.layers.exclude import SomeFlags, quality_of, quality_tests
from geoxt.layers.files.sidecars import Sidecars
from geoxt.layers.products import FileFields, Product, Radiometry, resolve_bands
from geoxt.layers.radiometry import known
from geoxt.layers.time import moment
from geoxt.legend import Legend
from geoxt.pixels.reader import Header
from geoxt.source import Asset, Scene


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """What a file of a known layer holds."""

    named: FileFields
    """What its name says."""
    bands: dict[str, tuple[Asset, str]]
    """Its bands by name, and the unit of each one's physical values."""


def known_scenes(
    files: Sequence[Header],
    facts: Product,
    *,
    categorical: bool | None = None,
    exclude: SomeFlags = (),
    rescale: bool = False,
    spare: bool = True,
) -> tuple[list[Scene], LayerMetadata]:
    """Return the scenes of a known layer, from what its file names say.

    Parameters
    ----------
    files
        Headers, of quality bands too where something is masked.
    facts
        The layer.
    categorical
        `False` for class codes that are taken as measurements.
    exclude
        What is taken out, by name.
    rescale
        Whether scale and offset are needed.
    spare
        Whether the quality bands that are needed for masking alone are left out of the layer.

    Raises
    ------
    InputError
        Where names are of another form, scenes differ in bands, or what is needed is not there.
    """
    groups: dict[str, dict[str, Asset]] = {}
    says: dict[str, FileFields] = {}
    read: list[FileFields] = []
    units: dict[str, str] = {}
    beside = Sidecars(facts)
    for header in files:
        file = _identify(header, facts, beside, rescale=rescale)
        scene = file.named.scene
        _add(groups.setdefault(scene, {}), file, scene, header.href)
        units |= {band: unit for band, (_, unit) in file.bands.items()}
        says.setdefault(scene, file.named)
        read.append(file.named)
    _require_one_level(read)
    present = {band for mine in groups.values() for band in mine}
    hidden = set(quality_tests(facts, exclude, scene=next(iter(groups)))) if exclude and spare else set()
    ordered = [b.name for b in (*facts.bands, *facts.extras) if b.name in present - hidden]
    scenes = [_scene(scene, mine, ordered, says[scene], facts, exclude) for scene, mine in groups.items()]
    return scenes, product_of(ordered, facts, units, categorical=categorical)


def _require_one_level(read: Sequence[FileFields]) -> None:
    """Refuse a band that names spell in two ways, as Level 1 and Level 2 do: its numbers mean different things."""
    first: dict[str, FileFields] = {}
    for one in read:
        other = first.setdefault(one.band, one) if one.band is not None else one
        if one.file != other.file:
            msg = (
                f"Cannot make one layer: band {one.band!r} is {other.file} in scene {other.scene!r}, and {one.file} in"
            )
            msg += f" scene {one.scene!r}, which are different products. Pass files of one of them;"
            raise InputError(msg + f" of folders, pass bands=[{one.file!r}, …].")


def _add(mine: dict[str, Asset], file: _File, scene: str, href: str) -> None:
    for band, (asset, _) in file.bands.items():
        if band in mine:
            msg = f"Cannot place {href!r}: scene {scene!r} has band {band!r} from {mine[band].href!r} already."
            raise InputError(msg + " Leave one of the two out.")
        mine[band] = asset


def _scene(
    scene: str, mine: dict[str, Asset], ordered: list[str], says: FileFields, facts: Product, exclude: SomeFlags
) -> Scene:
    lacking = [band for band in ordered if band not in mine]
    if lacking:
        msg = f"Cannot make one layer: scene {scene!r} lacks the bands {lacking} that others have."
        raise InputError(msg + " Pass files of the same bands for every scene.")

    def quality(band: str) -> Asset:
        if band not in mine:
            msg = f"Cannot exclude {exclude!r} in scene {scene!r}: its quality band {band} is not among the files."
            raise InputError(msg + " Add its file to the paths, or leave exclude= out.")
        return mine[band]

    return Scene(
        id=scene,
        assets=tuple(mine[band] for band in ordered),
        start=moment(says.start),
        end=moment(says.end),
        quality=quality_of(facts, exclude, scene, quality),
    )


def _identify(header: Header, facts: Product, beside: Sidecars, *, rescale: bool) -> _File:
    """Return what a file's name says, and the bands that the file holds."""
    named = facts.identify(header.href)
    if named is None:
        msg = f"Cannot take {header.href!r} as {facts.name}: its name is not of the form {facts.patterns[0]}."
        raise InputError(msg + " Leave it out, or open it without product=.")
    held = [b for b in facts.bands if named.band is None and b.index <= len(header.dtypes)]
    if named.band is not None:
        held = [b for b in (*facts.bands, *facts.extras) if b.name == named.band]
    if not held:
        msg = f"Cannot take {header.href!r} as {facts.name}: it has no band {named.file!r}. Leave the file out."
        raise InputError(msg)
    baseline = str(named.fields["baseline"]) if "baseline" in named.fields else None
    own = beside.of(header.href, named.scene, named.file)
    bands = {}
    for band in held:
        strict = rescale and not _stated(header, band.index)
        rule = known(facts, band, named.file, baseline=baseline, strict=strict, own=own, scene=named.scene)
        asset = replace(asset_of(header, band.index, band.nodata, rule), extra_nodata=facts.ignore)
        bands[band.name] = asset, rule.unit if rule else "1"
    return _File(named=named, bands=bands)


def product_of(
    bands: Sequence[str], facts: Product, units: Mapping[str, str], *, categorical: bool | None = None
) -> LayerMetadata:
    """Return what the scenes of a known layer have in common."""
    by_name = {b.name: b for b in (*facts.bands, *facts.extras)}
    own = [by_name.get(b) for b in bands]
    coords = {
        "common_name": tuple((b.common or "") if b else "" for b in own),
        "wavelength": tuple(b.wavelength if b and b.wavelength is not None else np.nan for b in own),
    }
    attrs: dict[Hashable, Any] = {"long_name": facts.title}
    product = LayerMetadata(
        bands=tuple(bands), attrs=attrs, coords=coords, units=tuple(units.get(b, "1") for b in bands)
    )
    return _classified(product, facts, categorical)


def _classified(product: LayerMetadata, facts: Product, categorical: bool | None) -> LayerMetadata:  # noqa: FBT001
    """Return a product with its classes: those of a label layer, or of a quality band that is opened alone."""
    qa = next((qa for qa in facts.qa if product.bands == (qa.band,)), None)
    legend = facts.legend or (qa.legend if qa is not None else None)
    if categorical is False or (legend is None and qa is None):
        return replace(product, legend=None, categorical=False)
    return replace(product, legend=legend, categorical=True)


def plain_scenes(files: Sequence[Header], *, categorical: bool | None) -> tuple[list[Scene], LayerMetadata]:
    """Return the scenes of unknown files: those on one grid are the bands of one scene."""
    groups: dict[GeoBox, list[Header]] = {}
    for header in files:
        groups.setdefault(header.grid, []).append(header)
    counts = {sum(_count(h) for h in some) for some in groups.values()}
    if len(counts) > 1:
        sizes = {sum(_count(h) for h in some): some[0].href for some in groups.values()}
        (m, a), (n, b), *_ = sizes.items()
        msg = f"Cannot tell bands from scenes: {m} bands share the grid of {a!r}, {n} that of {b!r}. "
        raise InputError(msg + "Pass files of one grid, or product=… for a known layer.")
    _require_one_size(groups)
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
        categorical = "flag_meanings" in first[0].tags or (colors is not None and not _grey(colors))
    legend = None
    if categorical:
        if len(names) > 1:
            msg = f"Cannot take {first[0].href!r} as class codes: there are {len(names)} bands. Pass one, or bands=[…]."
            raise InputError(msg)
        legend = _legend(first[0])
    return scenes, LayerMetadata(bands=names, legend=legend, categorical=categorical)


def _legend(file: Header) -> Legend | None:
    """Return the classes that a file states: by CF's flags in its tags, as `to_cog` writes them, or by its colours."""
    if "flag_meanings" in file.tags:
        parts = {key: file.tags.get(f"flag_{key}", "").split() for key in ("values", "meanings", "colors")}
        names = parts["meanings"] or parts["values"]
        return Legend(tuple(map(int, parts["values"])), tuple(names), tuple(parts["colors"]))
    return Legend.from_colormap(file.colors) if file.colors else None


def _require_one_size(groups: Mapping[GeoBox, Sequence[Header]]) -> None:
    """Refuse files of one place and several pixel sizes: they are bands, and as scenes one would hide the other."""
    first: dict[Any, tuple[GeoBox, str]] = {}
    for grid, some in groups.items():
        first.setdefault((round(grid.affine.a, 9), round(grid.affine.e, 9), grid.crs), (grid, some[0].href))
    for (one, a), (other, b) in itertools.combinations(first.values(), 2):
        shared = overlap(one, other) if one.crs == other.crs else None
        if shared is not None and shared.height * shared.width > one.shape[0] * one.shape[1] / 2:
            msg = (
                f"Cannot tell bands from scenes: {a!r} and {b!r} lie on one place with pixels of different sizes. Open"
            )
            msg += " each size apart; bring bands together by intersection(a=…, b=…), scenes by union(a, b)."
            raise InputError(msg)


def choose_bands(
    scenes: Sequence[Scene],
    product: LayerMetadata,
    bands: Sequence[str],
    facts: Product | None,
    *,
    categorical: bool | None = None,
) -> tuple[list[Scene], LayerMetadata]:
    """Return scenes and product with some of the bands, in the order given.

    Raises
    ------
    InputError
        Where a band is not there.
    """
    names = list(bands) if facts is None else [b.name for b in resolve_bands(facts, bands)]
    missing = [b for b in names if b not in product.bands]
    if missing:
        msg = f"Cannot open the bands {missing}: the files have {list(product.bands)}. Pass bands=… from these."
        raise InputError(msg)
    places = [product.bands.index(b) for b in names]
    units = tuple(product.units[p] for p in places) if product.units else ()
    chosen = [replace(s, assets=tuple(s.assets[p] for p in places)) for s in scenes]
    coords = {k: tuple(v[p] for p in places) for k, v in product.coords.items()}
    product = replace(product, bands=tuple(names), coords=coords, units=units)
    return chosen, product if facts is None else _classified(product, facts, categorical)


def asset_of(header: Header, band: int, nodata: float | None = None, rule: Radiometry | None = None) -> Asset:
    """Return the asset that a band of a file is; nodata and radiometry are the file's own, where it says them."""
    dtype = header.dtypes[band - 1]
    own = _stated(header, band) or rule is None
    stored = header.nodata[band - 1]
    return Asset(
        href=header.href,
        band=band,
        grid=header.grid,
        dtype=dtype,
        nodata=representable(nodata if stored is None else stored, dtype),
        masked=header.masked[band - 1],
        scale=header.scales[band - 1] if own or rule is None else rule.scale,
        offset=header.offsets[band - 1] if own or rule is None else rule.offset,
    )


def _stated(header: Header, band: int) -> bool:
    """Tell whether a file says how its numbers are scaled."""
    return (header.scales[band - 1], header.offsets[band - 1]) != (1.0, 0.0)


def with_nodata(scene: Scene, nodata: float) -> Scene:
    """Return a scene whose bands have a nodata value where they say none."""
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
    """Return how many letters all texts begin with, whole words alone."""
    pairs = enumerate(zip(*texts, strict=False))
    same = next((i for i, letters in pairs if len(set(letters)) > 1), min(map(len, texts)))
    return next((i + 1 for i in range(same - 1, -1, -1) if not texts[0][i].isalnum()), 0)


def _grey(colors: Mapping[int, tuple[int, ...]]) -> bool:
    """Tell whether a colour table is a ramp of greys, as some programs give to imagery."""
    return all(c[0] == c[1] == c[2] for c in colors.values())
