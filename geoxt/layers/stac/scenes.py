"""Scenes from STAC items: grid, dtype, nodata, radiometry and quality of each band, from metadata before headers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pystac
from odc.geo.geobox import GeoBox

from geoxt.errors import CatalogError, CRSError
from geoxt.layers.assemble import representable
from geoxt.layers.cubes.zarr_header import is_zarr
from geoxt.layers.exclude import SomeFlags, flag_names, quality_of, quality_tests
from geoxt.layers.files.sidecars import Scales, scales_of_item
from geoxt.layers.headers import headers
from geoxt.layers.products import Product, Radiometry
from geoxt.layers.radiometry import baseline_of, is_harmonised, known
from geoxt.layers.stac.band_counts import expand_bands
from geoxt.layers.stac.bands import find_band
from geoxt.layers.stac.filters import interval
from geoxt.layers.stac.hrefs import require_href
from geoxt.layers.stac.item_footprints import data_footprint
from geoxt.layers.stac.layouts import ItemBand, Layout
from geoxt.layers.stac.projection import contradicts_bbox, grids_of_assets, hashable
from geoxt.layers.stac.zarr_assets import read_stores, zarr_band
from geoxt.pixels.credentials import Credentials
from geoxt.pixels.reader import Header
from geoxt.source import Asset, Scene
from geoxt.types import SomeCRS


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Options of the caller for pixels."""

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


def count_bands(items: Sequence[OpenItem], choice: Choice) -> tuple[list[OpenItem], dict[str, Header]]:
    """Return items with all bands of assets whose number of bands is not stated, and the headers read for it by href.

    Only headers that are required anyway are read, one for each collection and asset key. Without them, one band is
    assumed, and the first read compares it with the file.
    """
    by_layout = {id(item.layout): item for item in reversed(items)}
    required: dict[tuple[str | None, str], str] = {}
    for item in items if choice.headers == "all" else by_layout.values():
        for band in item.bands:
            if choice.headers == "all" or item.is_zarr(band) or _dtype(item, band, choice) is None:
                key = _collection_asset(item, band)
                if key not in required and (band.assumed_single or band.name == band.numbered_name):
                    require_href(item.item, band.key, trust=choice.trust)
                    required[key] = item.href(band)
    if not required:
        return list(items), {}
    lookup = _Headers(choice)
    pairs = [(i, band) for i in by_layout.values() for band in i.bands if i.href(band) in set(required.values())]
    by_href = lookup.read_headers(list(dict.fromkeys(required.values())), pairs)
    layouts = list(by_layout.values())
    expanded = expand_bands(
        [(item.item.collection_id, item.bands) for item in layouts],
        {key: by_href[href] for key, href in required.items()},
    )
    bands = {id(item.layout): of_layout for item, of_layout in zip(layouts, expanded, strict=True)}
    return [replace(item, bands=bands[id(item.layout)]) for item in items], by_href


def scenes_of(
    items: Sequence[OpenItem], choice: Choice, known_headers: Mapping[str, Header] | None = None
) -> list[Scene]:
    """Build scenes from STAC items.

    A header is read if an item does not state its grid, or if neither it nor its product states the data type; for the
    data type alone, one header for each collection and asset key. When a file is opened for its first read, it is
    compared with what is stated here. Headers in `known_headers` are not read again.

    Raises
    ------
    InputError
        If an href is relative and the item has no address, an item of a remote catalog refers to a local file or a VRT
        without trust, or a quality band is missing.
    ReadError
        If a required header cannot be read.
    """
    lookup = _Headers(choice, known_headers or {})
    lookup.prepare([(item, band) for item in items for band in (*item.bands, *_quality_bands(item, choice.exclude))])
    scenes = []
    for item in items:
        start, end = interval(item.item)

        def quality_asset(name: str, item: OpenItem = item) -> Asset:
            return lookup.asset(item, find_band(item.layout, name))

        scenes.append(
            Scene(
                id=item.item.id,
                assets=tuple(lookup.asset(item, band) for band in item.bands),
                start=start,
                end=end,
                cloud_cover=_cloud_cover(item.item),
                quality=quality_of(item.product, choice.exclude, item.item.id, quality_asset),
                geometry=data_footprint(item.item),
            )
        )
    return scenes


def units_of(item: OpenItem, choice: Choice) -> tuple[str, ...]:
    """Return the unit of each band's physical values."""
    rules = [_radiometry(item, band, strict=False) for band in item.bands]
    if choice.rescale and None in rules:
        of_scene = _sidecar_scales(item, choice)
        rules = [_radiometry(item, band, strict=False, of_scene=of_scene) for band in item.bands]
    return tuple(rule.unit if rule is not None else "1" for rule in rules)


def _quality_bands(item: OpenItem, exclude: SomeFlags) -> list[ItemBand]:
    if not flag_names(exclude):
        return []
    return [find_band(item.layout, name) for name in quality_tests(item.product, exclude, scene=item.item.id)]


class _Headers:
    """Headers of files with incomplete metadata, read in one call."""

    def __init__(self, choice: Choice, known_headers: Mapping[str, Header] | None = None) -> None:
        self._choice = choice
        self._known = dict(known_headers or {})
        self._by_href: dict[str, Header] = {}
        self._shared: dict[tuple[str | None, str], Header] = {}
        self._grids: dict[int, GeoBox | None] = {}
        self._scales: dict[int, Scales] = {}

    def prepare(self, bands: Sequence[tuple[OpenItem, ItemBand]]) -> None:
        """Read the headers that some bands need."""
        single, shared = dict[str, None](), dict[tuple[str | None, str], str]()
        self._read_grids(bands)
        for item, band in bands:
            require_href(item.item, band.key, trust=self._choice.trust)
            if self._choice.headers == "all" or item.is_zarr(band) or self._grid(item, band) is None:
                single[item.href(band)] = None
            elif _dtype(item, band, self._choice) is None:
                shared.setdefault(_collection_asset(item, band), item.href(band))
        by_href = self.read_headers(list(dict.fromkeys([*single, *shared.values()])), bands)
        self._by_href = {href: by_href[href] for href in single}
        self._shared = {key: by_href[href] for key, href in shared.items()}

    def read_headers(self, hrefs: Sequence[str], bands: Sequence[tuple[OpenItem, ItemBand]]) -> dict[str, Header]:
        """Return headers by href; those without a georeference have the grids that the catalog states for `bands`."""
        missing = [href for href in hrefs if href not in self._known]
        if missing:
            self._read_grids(bands)
            grids = {item.href(band): grid for item, band in bands if (grid := self._grid(item, band)) is not None}
            stores = {item.href(band): item.item.assets[band.key] for item, band in bands if item.is_zarr(band)}
            in_stores = {href: stores[href] for href in missing if href in stores}
            self._known |= read_stores(in_stores, self._choice.source_crs, self._choice.credentials)
            files = [href for href in missing if href not in stores]
            self._known |= {header.href: header for header in (self._read(files, grids) if files else ())}
        return self._known

    def _read(self, hrefs: list[str], grids: Mapping[str, GeoBox]) -> list[Header]:
        """Return the headers of files; files without a georeference get the grid of the catalog."""
        credentials, crs = self._choice.credentials, self._choice.source_crs
        try:
            return headers(hrefs, crs=None if any(href in grids for href in hrefs) else crs, credentials=credentials)
        except CRSError as error:
            if not any(href in grids for href in hrefs):
                if error.argument != "crs":
                    raise
                remedy = f"Pass {{source_crs:'EPSG:…'}} if you know it. Or {error.remedy[0].lower()}{error.remedy[1:]}"
                raise CRSError(error.problem, remedy=remedy, argument="source_crs") from error
        return [
            headers(
                [href], credentials=credentials, grid=grids.get(href), crs=grids[href].crs if href in grids else crs
            )[0]
            for href in hrefs
        ]

    def _read_grids(self, bands: Sequence[tuple[OpenItem, ItemBand]]) -> None:
        """Read the grids that the catalog states, except grids that contradict the `bbox` of their items."""
        assets = ((item.item, item.item.assets[band.key]) for item, band in bands)
        new = {id(asset): (item, asset) for item, asset in assets if id(asset) not in self._grids}
        self._grids |= zip(new, grids_of_assets(new.values()), strict=True)
        stated: dict[object, tuple[GeoBox, Sequence[float] | None]] = {}
        members: dict[object, list[int]] = {}
        for asset_id, (item, _) in new.items():
            grid = self._grids[asset_id]
            if grid is not None:
                key = id(grid), None if item.bbox is None else hashable(item.bbox)
                stated.setdefault(key, (grid, item.bbox))
                members.setdefault(key, []).append(asset_id)
        wrong = contradicts_bbox([grid for grid, _ in stated.values()], [box for _, box in stated.values()])
        for pair, contradiction in zip(stated, wrong.tolist(), strict=True):
            if contradiction:
                self._grids |= dict.fromkeys(members[pair])

    def _requires_scale(self, item: OpenItem, band: ItemBand) -> bool:
        """Return whether only the file can state the scale of a band that is to be rescaled."""
        of_product = item.product is not None and band.band is not None
        return self._choice.rescale and band.radiometry is None and not of_product and not band.classes

    def _grid(self, item: OpenItem, band: ItemBand) -> GeoBox | None:
        return self._grids[id(item.item.assets[band.key])]

    def _scales_of(self, item: OpenItem) -> Scales:
        """Return the scales in the metadata file of an item; read once."""
        key = id(item.item)
        if key not in self._scales:
            self._scales[key] = _sidecar_scales(item, self._choice)
        return self._scales[key]

    def asset(self, item: OpenItem, band: ItemBand) -> Asset:
        """Return the asset of a band."""
        href, position = item.href(band), band.index - 1
        if item.is_zarr(band):
            return self._zarr_asset(item, band, self._by_href[href])
        header, dtype = self._by_href.get(href), _dtype(item, band, self._choice)
        if header is not None and band.index > len(header.dtypes):
            problem = (
                f"Cannot open band {band.name!r} of item {item.item.id!r}: its file has {len(header.dtypes)} bands."
            )
            raise CatalogError(problem, remedy="Pass other {bands}.")
        if header is None and dtype is None:
            header = self._shared[_collection_asset(item, band)]
        grid = self._by_href[href].grid if href in self._by_href else self._grid(item, band)
        dtype = header.dtypes[position] if header is not None else dtype
        assert grid is not None
        assert dtype is not None
        rule = _radiometry(item, band, strict=False)
        if rule is None and self._choice.rescale:
            rule = _radiometry(item, band, strict=True, of_scene=self._scales_of(item))
        shared, of_file = header is not None and href not in self._by_href, rule is None
        unscaled = header is None and of_file and self._requires_scale(item, band)
        if rule is None and header is not None:
            rule = Radiometry(scale=header.scales[position], offset=header.offsets[position])
        return Asset(
            href=href,
            band=band.index,
            grid=grid,
            dtype=dtype,
            nodata=representable(_nodata(item, band, self._choice, header), dtype),
            extra_nodata=item.product.ignore if item.product is not None else (),
            quantization=item.product.quantization(dtype) if item.product is not None else None,
            masked=True if href in self._by_href and _has_mask(self._by_href[href], band) else None,
            data_bands=band.data_bands,
            band_names=band.band_names,
            assumed_single=band.assumed_single,
            nodata_assumed=shared and band.nodata is None,
            scale_assumed=unscaled or (shared and of_file),
            stated=True,
            scale=rule.scale if rule else 1.0,
            offset=rule.offset if rule else 0.0,
        )

    def _zarr_asset(self, item: OpenItem, band: ItemBand, header: Header) -> Asset:
        """Return the asset of a band of a Zarr group; scale and nodata of the store take precedence."""
        asset = zarr_band(item.item.id, band, header)
        rule = _radiometry(item, band, strict=False) if (asset.scale, asset.offset) == (1.0, 0.0) else None
        rule = rule or Radiometry(scale=asset.scale, offset=asset.offset)
        nodata = representable(_nodata(item, band, self._choice, None), asset.dtype)
        ignored = item.product.ignore if item.product is not None else ()
        return replace(
            asset, nodata=nodata if asset.nodata is None else asset.nodata,
            extra_nodata=(*asset.extra_nodata, *ignored), scale=rule.scale, offset=rule.offset,
        )  # fmt: skip


def _has_mask(header: Header, band: ItemBand) -> bool:
    """Return whether a file has a mask, or an alpha band that the item does not name as data."""
    alpha = [number for number, is_alpha in enumerate(header.alpha, start=1) if is_alpha]
    as_data = bool(alpha) and alpha[0] in band.data_bands and not header.internal_mask
    return header.masked[band.index - 1] and not as_data


def _cloud_cover(item: pystac.Item) -> float | None:
    """Return the cloud cover in percent; `None` if it is not stated, or by a number outside 0 to 100, such as -1."""
    try:
        percent = float(item.properties["eo:cloud_cover"])
    except (KeyError, TypeError, ValueError):
        return None
    return percent if 0 <= percent <= 100 else None


def _collection_asset(item: OpenItem, band: ItemBand) -> tuple[str | None, str]:
    return item.item.collection_id, band.key


def _dtype(item: OpenItem, band: ItemBand, choice: Choice) -> str | None:
    """Return the data type of the item, else of the product, else of the caller."""
    dtype = band.dtype
    if dtype is None and item.product is not None:
        dtype = item.product.dtype(_file_band(item, band))
    return dtype or choice.dtype


def _nodata(item: OpenItem, band: ItemBand, choice: Choice, header: Header | None) -> float | None:
    """Return the nodata value of the item, else of the file, else of the caller, else of the product."""
    if band.nodata is not None:
        return band.nodata
    if header is not None and header.nodata[band.index - 1] is not None:
        return header.nodata[band.index - 1]
    product = item.product
    if choice.nodata is not None or product is None:
        return choice.nodata
    collection = product.collection(item.item.collection_id or "")
    if band.band is not None and band.band.nodata is not None:
        return band.band.nodata
    return collection.nodata if collection is not None and collection.nodata is not None else product.nodata


def _radiometry(item: OpenItem, band: ItemBand, *, strict: bool, of_scene: Scales | None = None) -> Radiometry | None:
    properties, rule = item.item.properties, band.radiometry
    if rule is None and (item.product is None or band.band is None):
        return None
    collection = item.product.collection(item.item.collection_id or "") if item.product is not None else None
    harmonised = is_harmonised(properties, collection.harmonised if collection is not None else None)
    if rule is None:
        name, baseline = _file_band(item, band), baseline_of(properties, item.item.id)
        key = band.key, band.index, name, baseline, harmonised
        cache = {} if strict or of_scene else item.layout.radiometry
        if key not in cache:
            cache[key] = known(
                item.product, band.band, name, baseline=baseline, harmonised=harmonised, strict=strict,
                of_scene=of_scene, scene=item.item.id,
            )  # fmt: skip
        rule = cache[key]
    return replace(rule, offset=0.0) if rule is not None and harmonised else rule


def _file_band(item: OpenItem, band: ItemBand) -> str:
    """Return the name of a band in file names, as the collection or the file itself has it."""
    key = band.key, band.index
    name = item.layout.file_bands.get(key)
    if name is None:
        name = _named_by_file(item, band)
        if band.band is None or len(band.band.files) < 2:  # else the href of each item tells
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


def _sidecar_scales(item: OpenItem, choice: Choice) -> Scales:
    """Return the scales in the metadata file of an item."""
    endings = () if item.product is None or item.product.sidecar is None else item.product.sidecar.names
    for key, asset in item.item.assets.items():
        if asset.href.split("?", 1)[0].endswith(tuple(name.format(scene="") for name in endings)):
            require_href(item.item, key, trust=choice.trust)
    return scales_of_item(item.item, item.product, choice.credentials)
