"""Items -> scenes: grid, type, missing pixels, radiometry and quality of each band, from metadata before any header."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pystac
import shapely
import shapely.geometry
from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.errors import InputError
from geoxt.grid import parse_crs
from geoxt.layers.assemble import representable
from geoxt.layers.exclude import SomeFlags, quality_of
from geoxt.layers.files.sidecars import Scales, scales_of_item
from geoxt.layers.headers import headers
from geoxt.layers.products import Product, Radiometry
from geoxt.layers.radiometry import baseline_of, is_harmonised, known, stated
from geoxt.layers.stac.bands import Entry, find
from geoxt.layers.stac.filters import interval
from geoxt.pixels.credentials import Credentials, redact_url
from geoxt.pixels.reader import Header
from geoxt.source import Asset, Scene


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a caller says of pixels, where items and what is known of them may not."""

    dtype: str | None = None
    """Stored data type."""
    nodata: float | None = None
    """Stored value of missing pixels."""
    rescale: bool = False
    """Whether scale and offset are needed."""
    exclude: SomeFlags = ()
    """What is taken out, by name."""
    credentials: Credentials | None = None
    """How files are opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An item with all that is known of it."""

    item: pystac.Item
    """The item."""
    facts: Product | None
    """The layer that it is of."""
    table: list[Entry]
    """All its bands."""
    chosen: list[Entry]
    """Those of the layer that is opened."""


def scenes_of(items: Sequence[Item], choice: Choice) -> list[Scene]:
    """Return the scenes that items are.

    A header is read where an item does not say its grid, or where neither it nor what is known of its layer tells the
    data type; for the type alone, one header for each collection and asset.

    Raises
    ------
    InputError
        Where an href is relative to nothing, or what is masked cannot be told.
    ReadError
        Where a header is needed and cannot be read.
    """
    lookup = _Headers(choice)
    wanted = [(one, entry) for one in items for entry in one.chosen]
    wanted += [(one, entry) for one in items for entry in _quality_entries(one, choice.exclude)]
    lookup.prepare(wanted)
    scenes = []
    for one in items:
        start, end = interval(one.item)
        cloud = one.item.properties.get("eo:cloud_cover")

        def quality(band: str, one: Item = one) -> Asset:
            return lookup.asset(one, find(one.table, band, one.item, one.facts))

        scenes.append(
            Scene(
                id=one.item.id,
                assets=tuple(lookup.asset(one, entry) for entry in one.chosen),
                start=start,
                end=end,
                cloud_cover=None if cloud is None else float(cloud),
                quality=quality_of(one.facts, choice.exclude, one.item.id, quality),
                place=_place(one.item),
            )
        )
    return scenes


def units_of(one: Item, choice: Choice) -> tuple[str, ...]:
    """Return the unit of each band's physical values."""
    rules = [_radiometry(one, entry, strict=False) for entry in one.chosen]
    if choice.rescale and None in rules:
        own = scales_of_item(one.item, one.facts, choice.credentials)
        rules = [_radiometry(one, entry, strict=False, own=own) for entry in one.chosen]
    return tuple(rule.unit if rule is not None else "1" for rule in rules)


def _quality_entries(one: Item, exclude: SomeFlags) -> list[Entry]:
    found: list[Entry] = []

    def remember(band: str) -> Asset:
        found.append(find(one.table, band, one.item, one.facts))
        return _NOTHING

    quality_of(one.facts, exclude, one.item.id, remember)
    return found


def _place(item: pystac.Item) -> bytes | None:
    """Return where an item has data, WKB; `None` for a mere box, which says no more than the grid, and for no area."""
    if item.geometry is None:
        return None
    try:
        shape = shapely.geometry.shape(item.geometry)
        box = shapely.equals_exact(shape.normalize(), shape.envelope.normalize(), 1e-9)
        told = shape.geom_type in {"Polygon", "MultiPolygon"} and shape.area > 0 and not box
    except (KeyError, TypeError, ValueError, AttributeError, shapely.errors.ShapelyError):
        return None
    return bytes(shapely.to_wkb(shape)) if told else None


_NOTHING = Asset(href="", band=1, grid=GeoBox((1, 1), Affine.identity(), None), dtype="uint8")


class _Headers:
    """Headers of files, read where metadata are not enough: all that are needed at once."""

    def __init__(self, choice: Choice) -> None:
        self._choice = choice
        self._own: dict[str, Header] = {}
        self._shared: dict[tuple[str | None, str], Header] = {}
        self._grids: dict[int, GeoBox | None] = {}
        self._scales: dict[int, Scales] = {}

    def prepare(self, wanted: Sequence[tuple[Item, Entry]]) -> None:
        """Read the headers that some bands need."""
        own, shared = dict[str, None](), dict[tuple[str | None, str], str]()
        for one, entry in wanted:
            _require_absolute(one.item, entry)
            if self._grid(one, entry) is None:
                own[entry.asset.href] = None
            elif _dtype(one, entry, self._choice) is None:
                shared.setdefault(_kind(one, entry), entry.asset.href)
        read = headers(list(dict.fromkeys([*own, *shared.values()])), credentials=self._choice.credentials)
        by_href = {header.href: header for header in read}
        self._own = {href: by_href[href] for href in own}
        self._shared = {kind: by_href[href] for kind, href in shared.items()}

    def _grid(self, one: Item, entry: Entry) -> GeoBox | None:
        key = id(entry.asset)
        if key not in self._grids:
            self._grids[key] = grid_of_asset(one.item, entry.asset)
        return self._grids[key]

    def _scales_of(self, one: Item) -> Scales:
        """Return what the metadata file of an item says of its bands; read once."""
        key = id(one.item)
        if key not in self._scales:
            self._scales[key] = scales_of_item(one.item, one.facts, self._choice.credentials)
        return self._scales[key]

    def asset(self, one: Item, entry: Entry) -> Asset:
        """Return what is known of a band's pixels."""
        href, place = entry.asset.href, entry.index - 1
        header = self._own.get(href)
        if header is None and _dtype(one, entry, self._choice) is None:
            header = self._shared[_kind(one, entry)]
        grid = self._own[href].grid if href in self._own else self._grid(one, entry)
        assert grid is not None
        dtype = header.dtypes[place] if header is not None else _dtype(one, entry, self._choice)
        assert dtype is not None
        rule = _radiometry(one, entry, strict=False)
        if rule is None and self._choice.rescale:
            rule = _radiometry(one, entry, strict=True, own=self._scales_of(one))
        if rule is None and header is not None:
            rule = Radiometry(scale=header.scales[place], offset=header.offsets[place])
        return Asset(
            href=href,
            band=entry.index,
            grid=grid,
            dtype=dtype,
            nodata=representable(_nodata(one, entry, self._choice, header), dtype),
            unlabelled=one.facts.ignore if one.facts is not None else (),
            masked=header.masked[place] if header else False,
            scale=rule.scale if rule else 1.0,
            offset=rule.offset if rule else 0.0,
        )


def _kind(one: Item, entry: Entry) -> tuple[str | None, str]:
    return one.item.collection_id, entry.key


def _dtype(one: Item, entry: Entry, choice: Choice) -> str | None:
    """Return the data type: what the item states, else what is known, else what the caller says."""
    found = entry.facts.get("data_type")
    if found is None and one.facts is not None:
        found = one.facts.dtype(_file(one, entry))
    return str(found) if found not in {None, "other"} else choice.dtype


def _nodata(one: Item, entry: Entry, choice: Choice, header: Header | None) -> float | None:
    """Return the value of missing pixels: what item or file state, else what the caller says, else what is known."""
    mark = entry.facts.get("nodata")
    if mark is not None:
        return float(mark)
    if header is not None and header.nodata[entry.index - 1] is not None:
        return header.nodata[entry.index - 1]
    if choice.nodata is not None or one.facts is None:
        return choice.nodata
    band, served = entry.band, one.facts.collection(one.item.collection_id or "")
    if band is not None and band.nodata is not None:
        return band.nodata
    return served.nodata if served is not None and served.nodata is not None else one.facts.nodata


def _radiometry(one: Item, entry: Entry, *, strict: bool, own: Scales | None = None) -> Radiometry | None:
    properties = one.item.properties
    also = None
    if one.facts is not None:
        served = one.facts.collection(one.item.collection_id or "")
        also = served.harmonised if served else None
    applied = is_harmonised(properties, also)
    rule = stated(entry.facts) or known(
        one.facts,
        entry.band,
        _file(one, entry),
        baseline=baseline_of(properties, one.item.id),
        harmonised=applied,
        strict=strict,
        own=own,
        scene=one.item.id,
    )
    return replace(rule, offset=0.0) if rule is not None and applied else rule


def _file(one: Item, entry: Entry) -> str:
    """Return a band as file names spell it: as its collection serves it, or as its own file does."""
    band, facts = entry.band, one.facts
    if band is None or facts is None:
        return entry.name
    served = facts.collection(one.item.collection_id or "")
    file = served.file(band) if served is not None else None
    if file is None and len(band.files) > 1:
        named = facts.identify(entry.asset.href)
        file = named.file if named is not None and named.file in band.files else None
    return file or (band.files[0] if band.files else band.name)


def _require_absolute(item: pystac.Item, entry: Entry) -> None:
    href = entry.asset.href
    if item.get_self_href() is None and pystac.utils.make_absolute_href(href, "/") != href:
        msg = f"Cannot find asset {entry.key!r} of item {item.id!r}: its href {redact_url(href)!r} is relative,"
        raise InputError(msg + " and the item says not to what. Pass the item's file, or item.set_self_href(…) first.")


def grid_of_asset(item: pystac.Item, asset: pystac.Asset) -> GeoBox | None:
    """Return the grid that the projection extension states, of any version; `None` where it is not complete."""
    both = {**item.properties, **{k: v for k, v in asset.extra_fields.items() if v is not None}}
    code, epsg = both.get("proj:code"), both.get("proj:epsg")
    crs = code or (f"EPSG:{epsg}" if epsg else None) or both.get("proj:wkt2") or both.get("proj:projjson")
    shape, transform = both.get("proj:shape"), both.get("proj:transform")
    if crs is None or shape is None:
        return None
    rows, cols = int(shape[0]), int(shape[1])
    if transform is not None:
        return GeoBox((rows, cols), Affine(*transform[:6]), parse_crs(crs))
    bounds = both.get("proj:bbox")
    if bounds is None or len(bounds) != 4:
        return None
    left, bottom, right, top = bounds
    affine = Affine((right - left) / cols, 0, left, 0, (bottom - top) / rows, top)
    return GeoBox((rows, cols), affine, parse_crs(crs))
