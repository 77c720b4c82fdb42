"""Zarr stores of STAC items and assets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pystac

from geoxt.errors import CatalogError, InputError
from geoxt.layers.cubes.zarr_header import group_of, is_zarr
from geoxt.layers.radiometry import baseline_of
from geoxt.layers.stac.hrefs import untrusted_reason
from geoxt.pixels.zarr_store import split_address

_STORAGE = "xarray:storage_options"
"""Field of the STAC extension xarray-assets: options of fsspec."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StacStore:
    """Zarr store of a STAC item or asset."""

    store: Any
    """Path or URL of the store, or of a group or an array in it."""
    group: str | None = None
    """Path of the group below it."""
    options: Mapping[str, Any] | None = None
    """Options of fsspec."""
    crs: str | None = None
    """CRS of variables that state none."""
    baseline: str | None = None
    """Processing baseline of the item."""


def store_of(data: Any) -> StacStore:
    """Return the store of a STAC item or asset, or of its dictionary; other values are returned as a store.

    The assets of an item must be parts of one store, which is opened as a whole; a single Zarr asset, or an asset by
    itself, is opened at its own address and group.

    Raises
    ------
    CatalogError
        If an item has no Zarr asset, or assets of several stores.
    InputError
        If an item of a remote catalog refers to a local store, or states options that may send credentials elsewhere.
    """
    if isinstance(data, Mapping):
        data = (
            pystac.Item.from_dict(dict(data)) if data.get("type") == "Feature" else pystac.Asset.from_dict(dict(data))
        )
    if isinstance(data, pystac.Asset):
        return _of_asset(data)
    if not isinstance(data, pystac.Item):
        return StacStore(store=data)
    assets = {key: a for key, a in data.assets.items() if is_zarr(a.media_type or "", a.href)}
    if not assets:
        problem = f"Cannot open item {data.id!r} as a Zarr store: none of its assets {list(data.assets)} is one."
        raise CatalogError(problem, remedy="Pass another item. Or use geoxt.open_stac.")
    stores = {key: _of_asset(asset) for key, asset in assets.items()}
    if len(stores) == 1:
        return next(iter(stores.values()))
    roots = {key: os.fspath(split_address(s.store)[0]) for key, s in stores.items()}
    if len(set(roots.values())) > 1:
        problem = f"Cannot choose one Zarr store of item {data.id!r}: its assets {list(roots)} are in several."
        raise CatalogError(problem, remedy=f"Pass one of them: item.assets[{next(iter(roots))!r}].")
    first = next(iter(stores.values()))
    return StacStore(store=next(iter(roots.values())), options=first.options, crs=first.crs, baseline=first.baseline)


def _of_asset(asset: pystac.Asset) -> StacStore:
    owner = asset.owner
    key = next((k for k, a in owner.assets.items() if a is asset), None) if isinstance(owner, pystac.Item) else None
    problem = untrusted_reason(owner, key) if isinstance(owner, pystac.Item) and key is not None else None
    if problem is not None:
        raise InputError(problem, remedy="Pass its address and {storage_options} if you trust them.")
    fields = asset.extra_fields
    properties = asset.owner.properties if isinstance(asset.owner, pystac.Item) else {}
    metadata: Any = {**properties, **fields}
    code = metadata.get("proj:code") or (f"EPSG:{metadata['proj:epsg']}" if metadata.get("proj:epsg") else None)
    href = asset.get_absolute_href() or asset.href
    baseline = baseline_of(properties, owner.id if isinstance(owner, pystac.Item) else "", href)
    return StacStore(store=href, group=group_of(fields), options=fields.get(_STORAGE), crs=code, baseline=baseline)
