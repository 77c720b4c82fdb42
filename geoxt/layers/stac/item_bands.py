"""Bands to open of STAC items: data type, nodata, scale and offset, from item, product and sidecar files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import pystac

from geoxt.errors import InputError
from geoxt.layers.cubes.zarr_header import is_zarr
from geoxt.layers.exclude import SomeFlags
from geoxt.layers.files.sidecars import Scales, scales_of_item
from geoxt.layers.products import Product, Radiometry
from geoxt.layers.radiometry import (
    baseline_of,
    is_harmonised,
    is_scale_unknown,
    product_radiometry,
    usable_baseline,
)
from geoxt.layers.stac.hrefs import require_href
from geoxt.layers.stac.layouts import ItemBand, Layout
from geoxt.pixels.credentials import Credentials
from geoxt.pixels.reader import Header
from geoxt.types import SomeCRS


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelOptions:
    """Options of `open_stac` for the pixels of items."""

    dtype: str | None = None
    """Stored data type of items that do not state it."""
    nodata: float | None = None
    """Stored value of missing pixels of items that do not state it."""
    rescale: bool = False
    """Whether scale and offset are required."""
    exclude: SomeFlags = ()
    """Quality flags of excluded pixels."""
    headers: Literal["missing", "all"] = "missing"
    """Headers to read: of files with incomplete metadata, or of all files."""
    source_crs: SomeCRS | None = None
    """CRS of files without one whose items state none either."""
    credentials: Credentials | None = None
    """Credentials to open files with."""
    trust: bool = False
    """Whether items of a remote catalog may refer to local files and to VRTs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenItem:
    """An item with its layout and the bands to open."""

    item: pystac.Item
    """The item."""
    layout: Layout
    """All its bands."""
    bands: list[ItemBand]
    """Bands to open."""
    baseline: str | None = None
    """Processing baseline by the caller, of items that state none."""

    @property
    def product(self) -> Product | None:
        """The known product of the item."""
        return self.layout.product

    def href(self, band: ItemBand) -> str:
        """Return the href of a band's asset."""
        return self.item.assets[band.key].href

    def is_zarr(self, band: ItemBand) -> bool:
        """Return whether a band's asset is in a Zarr store."""
        return is_zarr(self.item.assets[band.key].media_type or "", self.href(band))


def asset_key(item: OpenItem, band: ItemBand) -> tuple[str | None, str]:
    """Return the collection and the asset key of a band, whose files have one data type."""
    return item.item.collection_id, band.key


def band_dtype(item: OpenItem, band: ItemBand, pixel_options: PixelOptions) -> str | None:
    """Return the data type of the item, else of the product, else of the caller."""
    dtype = band.dtype
    if dtype is None and item.product is not None:
        dtype = item.product.dtype(_file_band(item, band))
    return dtype or pixel_options.dtype


def band_nodata(item: OpenItem, band: ItemBand, pixel_options: PixelOptions, header: Header | None) -> float | None:
    """Return the nodata value of the item, else of the file, else of the caller, else of the product."""
    if band.nodata is not None:
        return band.nodata
    if header is not None and header.nodata[band.index - 1] is not None:
        return header.nodata[band.index - 1]
    product = item.product
    if pixel_options.nodata is not None or product is None:
        return pixel_options.nodata
    collection = product.collection(item.item.collection_id or "")
    if band.band is not None and band.band.nodata is not None:
        return band.band.nodata
    return collection.nodata if collection is not None and collection.nodata is not None else product.nodata


def band_radiometry(
    item: OpenItem, band: ItemBand, *, strict: bool, dtype: str | None = None, of_scene: Scales | None = None
) -> Radiometry | None:
    """Return scale and offset of a band from the item, else from the scene's metadata file, else from the product.

    Parameters
    ----------
    item, band
        The band of the item.
    strict
        Whether to raise if the scale depends on metadata that the item lacks.
    dtype
        Stored data type; by default that of the item.
    of_scene
        Scales in the metadata file of the scene.

    Returns
    -------
    Radiometry or None
        `None` if item and product state none.
    """
    properties, rule = item.item.properties, band.radiometry
    if rule is None and (item.product is None or band.band is None):
        return None
    collection = item.product.collection(item.item.collection_id or "") if item.product is not None else None
    harmonised = is_harmonised(properties, collection.harmonised if collection is not None else None)
    if rule is None and _is_former_collection(item):
        if strict:
            problem = f"Cannot rescale item {item.item.id!r}: the scales of Landsat's Collection 1 are not known."
            raise InputError(problem, remedy="Pass items of Collection 2. Or pass {rescale:False}.", argument="rescale")
        return None
    if rule is None:
        name, baseline = _file_band(item, band), _baseline(item, band)
        key = band.key, band.index, name, baseline, harmonised, dtype
        cache = {} if strict or of_scene else item.layout.radiometry
        if key not in cache:
            cache[key] = product_radiometry(
                item.product, band.band, name, dtype=dtype or band.dtype, baseline=baseline, harmonised=harmonised,
                strict=strict, of_scene=of_scene, scene=item.item.id,
            )  # fmt: skip
        rule = cache[key]
    return replace(rule, offset=0.0) if rule is not None and harmonised else rule


def has_unknown_scale(item: OpenItem, band: ItemBand, dtype: str) -> bool:
    """Return whether the scale of a band without one depends on metadata that the item lacks.

    Integers of these satellites in an unknown collection have an offset, unless they were converted.
    """
    if item.product is None:
        platform = str(item.item.properties.get("platform") or "").lower()
        with_offset = platform.startswith(("sentinel-2", "landsat-")) and not band.classes
        return with_offset and dtype.startswith(("int", "uint"))
    if band.band is None:
        return False
    name = _file_band(item, band)
    unknown = is_scale_unknown(item.product, name, dtype=dtype, baseline=_baseline(item, band))
    return unknown or _is_former_collection(item)


def _is_former_collection(item: OpenItem) -> bool:
    """Return whether an item is of Landsat's Collection 1, whose scales differ from those of Collection 2."""
    return str(item.item.properties.get("landsat:collection_number", "")).lstrip("0") == "1"


def _baseline(item: OpenItem, band: ItemBand) -> str | None:
    return usable_baseline(baseline_of(item.item.properties, item.item.id, item.href(band)), item.baseline)


def _file_band(item: OpenItem, band: ItemBand) -> str:
    """Return the name of a band in file names, as the collection or the file itself has it."""
    key = band.key, band.index
    name = item.layout.file_bands.get(key)
    if name is None:
        name = _named_by_file(item, band)
        if band.band is None or len(band.band.files) < 2:  # else the href of each item determines it
            item.layout.file_bands[key] = name
    return name


def _named_by_file(item: OpenItem, band: ItemBand) -> str:
    of_product, product = band.band, item.product
    if of_product is None or product is None:
        return band.name
    collection = product.collection(item.item.collection_id or "")
    name = collection.file(of_product) if collection is not None else None
    if name is None and len(of_product.files) > 1:
        fields = product.identify(item.href(band))
        name = fields.file if fields is not None and fields.file in of_product.files else None
    return name or (of_product.files[0] if of_product.files else of_product.name)


def sidecar_scales(item: OpenItem, pixel_options: PixelOptions) -> Scales:
    """Return the scales in the metadata file of an item."""
    endings = () if item.product is None or item.product.sidecar is None else item.product.sidecar.names
    for key, asset in item.item.assets.items():
        if asset.href.split("?", 1)[0].endswith(tuple(name.format(scene="") for name in endings)):
            require_href(item.item, key, trust=pixel_options.trust)
    return scales_of_item(item.item, item.product, pixel_options.credentials)
