"""Assets of STAC items; headers of files with incomplete metadata are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from odc.geo.geobox import GeoBox

from geoxt.errors import CatalogError, CRSError
from geoxt.layers.assemble import representable
from geoxt.layers.files.alpha import alpha_bands
from geoxt.layers.files.sidecars import Scales
from geoxt.layers.headers import headers
from geoxt.layers.products import Radiometry
from geoxt.layers.stac.hrefs import require_href
from geoxt.layers.stac.item_bands import (
    OpenItem,
    PixelOptions,
    asset_key,
    band_dtype,
    band_nodata,
    band_radiometry,
    has_unknown_scale,
    sidecar_scales,
)
from geoxt.layers.stac.layouts import ItemBand
from geoxt.layers.stac.projection import contradicts_bbox, grids_of_assets, hashable
from geoxt.layers.stac.zarr_assets import read_stores, zarr_band
from geoxt.pixels.reader import Header
from geoxt.source import Asset


class ItemAssets:
    """Assets of the bands of items, and the headers that they require, read in one call."""

    def __init__(self, pixel_options: PixelOptions, known_headers: Mapping[str, Header] | None = None) -> None:
        self._options = pixel_options
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
            require_href(item.item, band.key, trust=self._options.trust)
            if self._options.headers == "all" or item.is_zarr(band) or self._grid(item, band) is None:
                single[item.href(band)] = None
            elif band_dtype(item, band, self._options) is None:
                shared.setdefault(asset_key(item, band), item.href(band))
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
            self._known |= read_stores(in_stores, self._options.source_crs, self._options.credentials)
            files = [href for href in missing if href not in stores]
            self._known |= {header.href: header for header in (self._read(files, grids) if files else ())}
        return self._known

    def _read(self, hrefs: list[str], grids: Mapping[str, GeoBox]) -> list[Header]:
        """Return the headers of files; files without a georeference get the grid of the catalog."""
        credentials, crs = self._options.credentials, self._options.source_crs
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
        grids: dict[object, tuple[GeoBox, Sequence[float] | None]] = {}
        members: dict[object, list[int]] = {}
        for asset_id, (item, _) in new.items():
            grid = self._grids[asset_id]
            if grid is not None:
                key = id(grid), None if item.bbox is None else hashable(item.bbox)
                grids.setdefault(key, (grid, item.bbox))
                members.setdefault(key, []).append(asset_id)
        wrong = contradicts_bbox([grid for grid, _ in grids.values()], [box for _, box in grids.values()])
        for pair, contradiction in zip(grids, wrong.tolist(), strict=True):
            if contradiction:
                self._grids |= dict.fromkeys(members[pair])

    def _requires_scale(self, item: OpenItem, band: ItemBand) -> bool:
        """Return whether only the file can state the scale of a band that is to be rescaled."""
        of_product = item.product is not None and band.band is not None
        return self._options.rescale and band.radiometry is None and not of_product and not band.classes

    def _grid(self, item: OpenItem, band: ItemBand) -> GeoBox | None:
        return self._grids[id(item.item.assets[band.key])]

    def _scales_of(self, item: OpenItem) -> Scales:
        """Return the scales in the metadata file of an item; read once."""
        key = id(item.item)
        if key not in self._scales:
            self._scales[key] = sidecar_scales(item, self._options)
        return self._scales[key]

    def asset(self, item: OpenItem, band: ItemBand) -> Asset:
        """Return the asset of a band."""
        href, position = item.href(band), band.index - 1
        if item.is_zarr(band):
            return self._zarr_asset(item, band, self._by_href[href])
        header, dtype = self._by_href.get(href), band_dtype(item, band, self._options)
        if header is not None and band.index > len(header.dtypes):
            problem = (
                f"Cannot open band {band.name!r} of item {item.item.id!r}: its file has {len(header.dtypes)} bands."
            )
            raise CatalogError(problem, remedy="Pass other {bands}.")
        if header is None and dtype is None:
            header = self._shared[asset_key(item, band)]
        grid = self._by_href[href].grid if href in self._by_href else self._grid(item, band)
        dtype = header.dtypes[position] if header is not None else dtype
        assert grid is not None
        assert dtype is not None
        rule = band_radiometry(item, band, strict=False, dtype=dtype)
        if rule is None and self._options.rescale:
            rule = band_radiometry(item, band, strict=True, dtype=dtype, of_scene=self._scales_of(item))
        shared, of_file = header is not None and href not in self._by_href, rule is None
        unscaled = header is None and of_file and self._requires_scale(item, band)
        unknown = rule is None and has_unknown_scale(item, band, dtype)
        if rule is None and header is not None:
            rule = Radiometry(scale=header.scales[position], offset=header.offsets[position])
        return Asset(
            href=href,
            band=band.index,
            grid=grid,
            dtype=dtype,
            nodata=representable(band_nodata(item, band, self._options, header), dtype),
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
            scale_unknown=unknown and (rule is None or (rule.scale, rule.offset) == (1.0, 0.0)),
        )

    def _zarr_asset(self, item: OpenItem, band: ItemBand, header: Header) -> Asset:
        """Return the asset of a band of a Zarr group; scale and nodata of the store take precedence."""
        asset = zarr_band(item.item.id, band, header)
        stated = (asset.scale, asset.offset) != (1.0, 0.0)
        rule = None if stated else band_radiometry(item, band, strict=self._options.rescale, dtype=asset.dtype)
        unknown = not stated and rule is None and has_unknown_scale(item, band, asset.dtype)
        rule = rule or Radiometry(scale=asset.scale, offset=asset.offset)
        nodata = representable(band_nodata(item, band, self._options, None), asset.dtype)
        ignored = item.product.ignore if item.product is not None else ()
        return replace(
            asset, nodata=nodata if asset.nodata is None else asset.nodata,
            extra_nodata=(*asset.extra_nodata, *ignored), scale=rule.scale, offset=rule.offset,
            scale_unknown=unknown,
        )  # fmt: skip


def _has_mask(header: Header, band: ItemBand) -> bool:
    """Return whether a file has a mask, or an alpha band that the item does not name as data."""
    alpha = alpha_bands(header)
    as_data = bool(alpha) and alpha[0] in band.data_bands and not header.internal_mask
    return header.masked[band.index - 1] and not as_data
