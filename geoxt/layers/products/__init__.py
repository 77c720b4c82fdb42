"""Registry of known products: `names()` lists them, `get(name)` returns one, `describe(name)` its summary as text.

`register(product)` adds a product of the user, a `Product`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from geoxt.errors import InputError, did_you_mean
from geoxt.layers.products import aerial, buildings, embeddings, landcover, landsat, sentinel1, sentinel2
from geoxt.layers.products.band_lookup import resolve_bands as resolve_bands
from geoxt.layers.products.common_names import shared_common_names
from geoxt.layers.products.product import Band, Collection, FileFields, Product, Sidecar
from geoxt.layers.products.qa import Flag, Qa, qa_tests
from geoxt.layers.products.qa import find_qa as find_qa
from geoxt.layers.products.scale_offset import Radiometry
from geoxt.template.parsing import any_regex
from geoxt.types import SomePath

__all__ = [
    "Band",
    "Collection",
    "FileFields",
    "Flag",
    "Product",
    "Qa",
    "Radiometry",
    "Sidecar",
    "common_names",
    "describe",
    "get",
    "names",
    "qa_tests",
    "register",
]

_MODULES = (landsat, sentinel1, sentinel2, aerial, landcover, buildings, embeddings)
_PRODUCTS: dict[str, Product] = {product.name: product for module in _MODULES for product in module.PRODUCTS}


def names() -> tuple[str, ...]:
    """Return the names of the known products.

    Examples
    --------
    >>> from geoxt.layers import products
    >>> "sentinel2" in products.names()
    True
    """
    return tuple(_PRODUCTS)


def get(name: str) -> Product:
    """Return a known product.

    Parameters
    ----------
    name
        One of `names()`; case, blanks, hyphens and underscores are ignored.

    Raises
    ------
    InputError
        If no product has this name.

    Examples
    --------
    >>> [band.common for band in resolve_bands(get("Landsat-8"), ["SR_B5", "B4"])]
    ['nir08', 'red']
    """
    by_key = {_key(product): product for product in _PRODUCTS}
    if _key(name) not in by_key:
        hint = did_you_mean(_key(name), by_key) or f"Known products: {', '.join(_PRODUCTS)}."
        problem, remedy = f"Cannot find a product named {name!r}. {hint}", "Pass another {product}, or leave it out."
        raise InputError(problem, remedy=remedy, value=name, argument="product")
    return _PRODUCTS[by_key[_key(name)]]


def resolve(product: str | Product | None) -> Product | None:
    """Return the product of an opener's `product=`: a name, a `Product`, or `None`."""
    return get(product) if isinstance(product, str) else product


def register(product: Product, *, force: bool = False) -> None:
    """Add a product to the registry of this process, so that `product=` takes its name.

    Folders, archives and STAC items whose file names match its `files` are then opened as this product. A file name
    that products share is ambiguous: their folders need `product=`. Layers do not refer to the registry: worker
    processes need no registration.

    Parameters
    ----------
    product
        The product.
    force
        Whether to replace a product of the same name.

    Raises
    ------
    InputError
        If a product has this name, and `force` is false.

    Examples
    --------
    >>> from geoxt.template import Template
    >>> bands = Band(name="red", common="red"), Band(name="nir", common="nir")
    >>> register(Product(name="drone", bands=bands, files=(Template("flight_{date:%Y%m%d}_{band:red|nir}.tif"),)))
    >>> get("drone").title
    'drone'
    """
    by_key = {_key(known): known for known in _PRODUCTS}
    known = by_key.get(_key(product.name))
    if known is not None and not force:
        problem = f"Cannot register product {product.name!r}: it would replace {known!r}."
        raise InputError(problem, remedy="Pass {force:True}. Or use another name.", argument="product")
    if known is not None:
        del _PRODUCTS[known]
    _PRODUCTS[product.name] = product


def common_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the common names of bands whose product is unknown, "" where a name has none or several meanings.

    Parameters
    ----------
    names
        Band names of one layer: `"red"`, or numbered names that no other sensor has.

    Examples
    --------
    >>> common_names(["Red", "SR_B5", "SR_B6", "height"])
    ('red', 'nir08', 'swir16', '')
    """
    return shared_common_names(names, _PRODUCTS.values())


def describe(name: str) -> str:
    """Return a summary of a known product: kind, bands, pixel size, classes, license and reference.

    Raises
    ------
    InputError
        If no product has this name.

    Examples
    --------
    >>> print(describe("cdl").splitlines()[0])
    cdl: USDA NASS Cropland Data Layer (labels)
    """
    product = get(name)
    sizes = sorted({band.resolution for band in product.bands if band.resolution})
    bands = ", ".join(f"{band.name} ({band.common})" if band.common else band.name for band in product.bands)
    lines = {
        "bands": bands,
        "pixel size": f"{product.resolution:g} m" if product.resolution else ", ".join(f"{size:g} m" for size in sizes),
        "classes": str(len(product.legend)) if product.legend else "",
        "quality": "; ".join(f"{qa.band}: {', '.join(qa.names)}" for qa in product.qa),
        "STAC": ", ".join(f"{collection.id} ({collection.catalog})" for collection in product.collections),
        "license": product.license or "",
        "reference": product.cite or "",
    }
    head = f"{product.name}: {product.title} ({product.kind})"
    return "\n".join([head, *(f"  {key}: {text}" for key, text in lines.items() if text)])


def match_path(path: SomePath) -> tuple[Product, ...]:
    """Return the products whose file name templates match a path or URL.

    If several match, and a folder or archive in the path has the name of a scene of some of them, return those.
    """
    patterns = tuple(template.pattern for product in _PRODUCTS.values() for template in product.files)
    if any_regex(patterns).fullmatch(str(path).split("?", 1)[0].replace("\\", "/")) is None:
        return ()  # most files of a catalog are of no known product
    matches = tuple(product for product in _PRODUCTS.values() if product.identify(path) is not None)
    if len(matches) < 2:
        return matches
    parents = str(path).split("?", 1)[0].replace("}", "").split("/")[:-1]
    return tuple(p for p in matches if any(_matches_scene(p, parent) for parent in parents)) or matches


def is_scene_name(path: SomePath) -> bool:
    """Return whether the name of a folder or archive matches a scene template of a known product."""
    name = str(path).rstrip("/").rpartition("/")[2]
    return any(_matches_scene(product, name) for product in _PRODUCTS.values())


def match_item(
    collection: str, *, platform: str | None = None, instruments: tuple[str, ...] = ()
) -> tuple[Product, ...]:
    """Return the products that a STAC item may belong to.

    Parameters
    ----------
    collection
        Id of the item's collection.
    platform, instruments
        Properties of the item, if present; they distinguish the Landsat satellites.
    """
    platform_key = _key(platform or "")
    item_instruments = {instrument.lower() for instrument in instruments}
    return tuple(
        product
        for product in _PRODUCTS.values()
        if product.collection(collection)
        and (not platform_key or not product.platforms or platform_key in map(_key, product.platforms))
        and (not item_instruments or not product.instruments or item_instruments & set(product.instruments))
    )


def _matches_scene(product: Product, name: str) -> bool:
    stem = re.sub(r"(\.SAFE)?(\.zip|\.tar|\.tar\.gz|\.tgz)?$", "", name, flags=re.IGNORECASE)
    return any(template.match(stem) is not None for template in product.scenes)


def _key(name: str) -> str:
    return "".join(char for char in name.lower() if char not in " -_")
