"""Bands of STAC items, parsed once per layout: items of one collection whose assets state the same metadata.

odc-stac decides which assets are rasters, the data type, nodata and unit of a band, its aliases, and what `stac_cfg=`
replaces or adds. Its parse takes 1 to 8 ms per item, longer than opening the item, and assumes that all items of a
collection state the same. A sample item is therefore parsed for each layout; items share it if everything that the
parse reads is equal. Grids are read from each asset (`projection.grid_of_asset`), as they differ between items.

odc-stac lacks, and this module adds: bands of assets with `eo:bands` but no `raster:bands` (NAIP), the band tables of
old items (`eo:bands` as positions), names from known products, scale, offset and classes. Fields that a file decides
(data type, nodata) are left open if neither item nor product states them; odc-stac would assume float32.
`benchmarks/stac_metadata.py` compares both parsers on sample catalogs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np
import pystac
from odc.stac import extract_collection_metadata
from odc.stac.model import RasterCollectionMetadata

from geoxt.errors import InputError
from geoxt.layers.cubes.zarr_header import is_zarr
from geoxt.layers.products import Band, Product, Radiometry
from geoxt.layers.radiometry import stac_radiometry
from geoxt.layers.stac.match_products import bands_at
from geoxt.layers.stac.odc_config import StacConfig, config_of, odc_config

_BAND_FIELDS = (
    "name", "common_name", "eo:common_name", "center_wavelength", "eo:center_wavelength", "data_type", "nodata", "unit",
    "scale", "offset", "raster:scale", "raster:offset", "classification:classes",
)  # fmt: skip
"""Fields of a band that are read; statistics and histograms, which differ between items, are not among them."""
_TABLES = ("bands", "eo:bands", "raster:bands")
_READ_OF_BANDS = frozenset(_BAND_FIELDS)
FIELDS_READ = _READ_OF_BANDS | {*_TABLES}
_EO = "https://stac-extensions.github.io/eo/v1.1.0/schema.json"
ALPHA = frozenset({"alpha", "Alpha", "mask"})
"""Names of alpha bands."""
_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)
PROPERTIES_READ = ("eo:bands", "data_type", "nodata", "unit")
"""Item properties that bands inherit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemBand:
    """One band of one asset, as the metadata and the known product of its items describe it."""

    key: str
    """Asset key."""
    name: str
    """Asset key, or the band's name if the asset has several bands."""
    names: tuple[str, ...]
    """All names and aliases."""
    common: str | None
    """Common name of the EO extension."""
    wavelength: float | None
    """Center wavelength in micrometres."""
    index: int
    """Band number in the file, from 1."""
    dtype: str | None
    """Stored data type, if stated."""
    nodata: float | None
    """Stored value of missing pixels, if stated."""
    radiometry: Radiometry | None
    """Scale, offset and unit, if stated."""
    classes: tuple[Mapping[str, Any], ...]
    """`classification:classes`."""
    roles: frozenset[str]
    """Roles of the asset."""
    media_type: str
    """Media type of the asset; empty if not stated."""
    band: Band | None
    """Band of the known product."""
    data_bands: tuple[int, ...] = ()
    """Numbers of the bands of the asset that have a name, which is not that of an alpha band."""
    band_names: tuple[tuple[str, str], ...] = ()
    """Name and common name of each band of the asset, if it has several that have names."""
    assumed_single: bool = False
    """Whether the catalog names no band of the asset, so that only the file states how many it has."""

    @property
    def numbered_name(self) -> str:
        """Asset key and band number, which is unique in an item."""
        return f"{self.key}_{self.index}"


@dataclass(slots=True, kw_only=True, eq=False)
class Layout:
    """Bands of items of one collection that state the same metadata."""

    product: Product | None
    """Known product of the items."""
    sample: str
    """Id of the first item, for messages."""
    bands: list[ItemBand]
    """Bands of all raster assets."""
    keys: tuple[str, ...] = ()
    """Keys of all assets."""
    parse_asset: Callable[[str], list[ItemBand]]
    """Parser of the bands of an asset that is not a raster by its media type and roles."""
    aliases: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Asset key and band number by alias of `stac_cfg`."""
    cache: dict[str, list[ItemBand]] = field(default_factory=dict)
    """Bands by requested name, filled on first use."""
    file_bands: dict[tuple[str, int], str] = field(default_factory=dict)
    """Names of bands in file names, by asset key and band number, if they are the same in all items."""
    radiometry: dict[Any, Radiometry | None] = field(default_factory=dict)
    """Scale and offset of bands by the metadata that determine them."""


def layouts_of(
    items: Sequence[pystac.Item], products: Sequence[Product | None], stac_cfg: StacConfig | None = None
) -> list[Layout]:
    """Return the layout of each item; items with equal metadata share one object."""
    config = odc_config(stac_cfg)
    layouts: dict[Any, Layout] = {}
    by_text: dict[Any, Layout] = {}
    result = []
    for item, product in zip(items, products, strict=True):
        text_key = (item.collection_id, id(product), getattr(item, "fields_text", None) or fields_text(item))
        layout = by_text.get(text_key)
        if layout is None:
            statement = _statement(item)
            key = (item.collection_id, id(product), repr(statement))
            if key not in layouts:
                layouts[key] = _parse(item, statement, product, config)
            layout = by_text[text_key] = layouts[key]
        result.append(layout)
    return result


def fields_text(item: pystac.Item) -> str:
    """Return the text of the unparsed fields that `_statement` reads: parsing them takes three times as long."""
    assets = [
        (
            key, asset.media_type, asset.roles,
            [(name, _fields_of_bands(value)) for name, value in asset.extra_fields.items() if name in FIELDS_READ],
        )
        for key, asset in item.assets.items()
    ]  # fmt: skip
    properties = item.properties
    return repr([item.stac_extensions, [(n, properties[n]) for n in PROPERTIES_READ if n in properties], assets])


def _fields_of_bands(value: object) -> object:
    if not isinstance(value, list):
        return value
    return [
        [(name, content) for name, content in band.items() if name in _READ_OF_BANDS] if type(band) is dict else band
        for band in value
    ]


_GDAL_TYPES = {
    "byte": "uint8", "cint16": "complex_int16", "cint32": "complex64", "cfloat32": "complex64",
    "cfloat64": "complex128",
}  # fmt: skip
"""Data types of STAC and GDAL that numpy names otherwise."""


def _usable(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a band without invalid names, data types and nodata values."""
    fields = {k: v for k, v in fields.items() if not k.endswith("name") or isinstance(v, str | int | None)}
    for name, read in (("data_type", _dtype), ("nodata", _number)):
        if name in fields and (value := read(fields[name])) != fields[name]:
            fields = {key: content for key, content in fields.items() if key != name}
            if value is not None:
                fields[name] = value
    return fields


def _number(value: object) -> object:
    """Return a number, or its name ("nan", "-9999"); `None` for other values."""
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return None if isinstance(value, bool) else value


def _statement(item: pystac.Item) -> dict[str, Any]:
    """Return the fields of an item that determine its layout."""
    assets = {
        key: (
            None if asset.media_type is None else str(asset.media_type).lower(),
            _roles(asset.roles),
            {name: _trim_bands(value) for name, value in asset.extra_fields.items() if name in _TABLES}
            | _usable({name: asset.extra_fields[name] for name in _BAND_FIELDS if name in asset.extra_fields}),
        )
        for key, asset in item.assets.items()
    }
    properties = _usable({name: item.properties[name] for name in PROPERTIES_READ if name in item.properties})
    return {"extensions": item.stac_extensions, "properties": properties, "assets": assets}


def _roles(roles: object) -> list[str] | None:
    """Return the roles of an asset in lower case; a single one may be a text."""
    if isinstance(roles, str):
        return [roles.lower()]
    return [str(role).lower() for role in roles] if isinstance(roles, list | tuple) else None


def _trim_bands(table: Sequence[Any]) -> list[Any]:
    return [
        _usable({name: band[name] for name in _BAND_FIELDS if name in band})
        if isinstance(band, Mapping)
        else band
        if isinstance(band, int | str)
        else {}
        for band in (() if isinstance(table, str) or not isinstance(table, list | tuple) else table)
    ]


def _parse(
    item: pystac.Item, statement: Mapping[str, Any], product: Product | None, config: Mapping[str, Any]
) -> Layout:
    assets = {key: _Asset(key, *content) for key, content in statement["assets"].items()}
    for key, asset in assets.items():
        asset.href = item.assets[key].href
        asset.resolve_positions(statement["properties"].get("eo:bands") or ())
    parsed = _parse_by_odc(item, assets, statement["properties"], config)
    aliases: dict[tuple[str, int], list[str]] = {}
    for alias, band_keys in parsed.meta.aliases.items():
        for band_key in band_keys:
            aliases.setdefault(band_key, []).append(alias)
    keys = dict.fromkeys(key for key, _ in parsed.meta.bands)
    bands = [band for key in keys if key in assets for band in _bands_of(assets[key], product, parsed, aliases)]
    config_aliases = config_of(config, item.collection_id).get("aliases", {})
    configured_aliases = {
        alias: (band, 1) if isinstance(band, str) else tuple(band) for alias, band in config_aliases.items()
    }

    def parse_asset(key: str) -> list[ItemBand]:
        asset = replace(assets[key], media_type="image/tiff", roles=["data"])
        parsed = _parse_by_odc(item, {key: asset}, statement["properties"], config)
        return _bands_of(replace(asset, roles=assets[key].roles), product, parsed, {})

    return Layout(
        product=product,
        sample=item.id,
        bands=bands,
        keys=tuple(assets),
        parse_asset=parse_asset,
        aliases=configured_aliases,
    )


@dataclass(slots=True)
class _Asset:
    """Fields of an asset that its bands are parsed from."""

    key: str
    media_type: str | None
    roles: list[str] | None
    fields: dict[str, Any]
    href: str = ""

    def resolve_positions(self, table: Sequence[Mapping[str, Any]]) -> None:
        """Replace `eo:bands` given as positions in a table of the item (STAC before 1.0) by the bands."""
        for name in ("eo:bands", "bands"):
            if name in self.fields:
                self.fields[name] = [
                    band if isinstance(band, Mapping)
                    else table[band] if isinstance(band, int) and 0 <= band < len(table) and table[band]
                    else {"name": str(band)}
                    for band in self.fields[name]
                ]  # fmt: skip
        raster: list[Any] = self.fields.get("raster:bands", [])
        raster[:] = [band if isinstance(band, Mapping) else {} for band in raster]


def _parse_by_odc(
    item: pystac.Item, assets: Mapping[str, _Asset], properties: Mapping[str, Any], config: Mapping[str, Any]
) -> RasterCollectionMetadata:
    sample = pystac.Item(
        id=item.id, geometry=None, bbox=None, datetime=None, collection=item.collection_id or "_",
        properties={name: value for name, value in properties.items() if name != "eo:bands"},
        start_datetime=_ANY_TIME, end_datetime=_ANY_TIME,
        stac_extensions=[*(item.stac_extensions or ()), _EO],  # names of bands are read if the extension is declared
    )  # fmt: skip
    for key, asset in assets.items():
        # odc-stac knows no Zarr; an asset of it has bands as a raster file.
        media_type = "image/tiff" if is_zarr(asset.media_type or "", "") else asset.media_type
        fields = dict(asset.fields)
        if "eo:bands" in fields:  # pystac requires names
            bands = enumerate(fields["eo:bands"], 1)
            fields["eo:bands"] = [
                {**band, "name": str(band.get("name") or f"{key}_{number}")} for number, band in bands
            ]
        sample.add_asset(key, pystac.Asset(asset.href, None, None, media_type, asset.roles, fields))
    try:
        return extract_collection_metadata(sample, dict(config))
    except (AssertionError, AttributeError, KeyError, TypeError, ValueError) as error:
        problem = f"Cannot read the band metadata of item {item.id!r}: {type(error).__name__}: {error}."
        raise InputError(problem, remedy="Pass {stac_cfg} in the form of odc-stac.", argument="stac_cfg") from error


def _bands_of(
    asset: _Asset, product: Product | None, parsed: RasterCollectionMetadata, aliases: Mapping[tuple[str, int], Any]
) -> list[ItemBand]:
    fields, key = asset.fields, asset.key
    optical = fields.get("eo:bands") or fields.get("bands") or ()
    raster = fields.get("raster:bands") or fields.get("bands") or ()
    of_product = [] if product is None else bands_at(product, key)
    count = max(len(optical), len(raster)) or max(len(of_product), 1)
    unnamed = count == 1 and not of_product and not any(b.get("name") or _common_name(b) for b in optical)
    result: list[ItemBand] = []
    data_bands: list[int] = []
    all_names: list[tuple[str, str]] = []
    for i in range(count):
        eo: Mapping[str, Any] = optical[i] if i < len(optical) else {}
        band_name = eo.get("name")
        band = _product_band(product, of_product, band_name, i + 1, count)
        common = _common_name(eo) or (band.common if band else None)
        wavelength = eo.get("center_wavelength", eo.get("eo:center_wavelength"))
        if wavelength is None and band is not None:
            wavelength = band.wavelength
        name = key if count == 1 else str(band_name or (band.name if band else None) or common or f"{key}_{i + 1}")
        names = (name, key if count == 1 else None, band_name, common, band.name if band else None)
        # without raster:bands, odc-stac has one band, which states what holds for the whole asset
        metadata = parsed.meta.bands.get((key, i + 1)) or parsed.meta.bands[key, 1]
        entry = fields | (dict(raster[i]) if i < len(raster) else {})
        result.append(
            ItemBand(
                key=key, name=name, common=common, wavelength=wavelength, index=i + 1, band=band,
                names=tuple(dict.fromkeys(str(n) for n in (*names, *aliases.get((key, i + 1), ())) if n)),
                dtype=_dtype(metadata.data_type) or _dtype(entry.get("data_type")),
                nodata=None if metadata.nodata is None else float(metadata.nodata),
                radiometry=stac_radiometry(entry | {"unit": metadata.units}),
                classes=tuple(entry.get("classification:classes") or ()),
                roles=frozenset(asset.roles or ()), media_type=asset.media_type or "",
                assumed_single=unnamed and band is None,
            )
        )  # fmt: skip
        all_names.append((str(band_name or ""), str(_common_name(eo) or "")))
        if (band_name or common or band is not None) and not {band_name, common} & ALPHA:
            data_bands.append(i + 1)
    band_names = tuple(all_names) if count > 1 and any(map(any, all_names)) else ()
    return [replace(band, data_bands=tuple(data_bands), band_names=band_names) for band in result]


def _common_name(band: Mapping[str, Any]) -> str | None:
    return band.get("common_name", band.get("eo:common_name"))


def _dtype(name: object) -> str | None:
    """Return a data type by its name in numpy, STAC or GDAL; `None` for any other."""
    return _parse_dtype(str(name))


@cache
def _parse_dtype(name: str) -> str | None:
    text = name.strip().lower()
    text = _GDAL_TYPES.get(text, text)
    if text in {"other", "none", ""}:
        return None
    try:
        return text if text == "complex_int16" else str(np.dtype(text))
    except TypeError:
        return None


def _product_band(
    product: Product | None, of_asset: list[Band], name: str | None, index: int, count: int
) -> Band | None:
    """Return the band of a product by the asset key, else by the name of the band."""
    if len(of_asset) == 1 and count == 1:
        return of_asset[0]
    if of_asset:
        return next((band for band in of_asset if band.index == index), None)
    matches = bands_at(product, name) if product is not None and name and count == 1 else []
    return matches[0] if len(matches) == 1 else None
