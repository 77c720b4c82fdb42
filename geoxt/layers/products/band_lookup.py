"""Look up bands of a product by band name, name in file names, asset key or common name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from geoxt.errors import InputError, did_you_mean
from geoxt.layers.products.product import Band, Product, band_key


def resolve_bands(product: Product, names: str | Sequence[str] | None = None) -> tuple[Band, ...]:
    """Return bands of a product by name, in the order of the names.

    Parameters
    ----------
    product
        The product.
    names
        Names of bands ("B4"), names in file names ("SR_B4": the band then has that file only), asset keys, or common
        names ("red"). `None` for the product's default bands.

    Raises
    ------
    InputError
        If a name matches no band or several, or two names match the same.
    """
    names = [names] if isinstance(names, str) else names
    if names is None:
        names = product.default_bands or tuple(band.name for band in product.bands)
    bands = tuple(_resolve(product, name) for name in names)
    for i, band in enumerate(bands):
        if band in bands[:i]:
            first = names[bands.index(band)]
            problem = f"Cannot take band {band.name} of {product.name} twice: {first!r} and {names[i]!r} mean the same."
            raise InputError(problem, remedy="Pass {bands} with each band once.", value=names, argument="bands")
    return bands


def _resolve(product: Product, name: str) -> Band:
    bands, key = (*product.bands, *product.extras), band_key(name)
    by_name = [band for band in bands if band_key(band.name) == key]
    file = [replace(band, files=(f,)) for band in bands for f in band.files if band_key(f) == key]
    asset = [band for band in bands if key in map(band_key, band.assets)]
    common = [band for band in bands if band.common and band_key(band.common) == key]
    family = [band for band in bands if band.common and band_key(band.common).rstrip("0123456789") == key]
    matches = by_name or file or common or asset or family
    if len(matches) == 1:
        return matches[0]
    if matches:
        problem = f"Cannot choose one band of {product.name} for {name!r}: it may mean {_format_bands(matches)}."
        raise InputError(problem, remedy="Pass {bands} with one of the names.", value=name, argument="bands")
    problem = _unknown_band_message(product, name, bands)
    raise InputError(problem, remedy="Pass {bands} with some of the names.", value=name, argument="bands")


def _unknown_band_message(product: Product, name: str, bands: tuple[Band, ...]) -> str:
    spellings = {band_key(s): s for band in bands for s in (*band.assets, *band.files, band.common, band.name) if s}
    hint = did_you_mean(band_key(name), spellings)
    return f"Cannot find band {name!r} of {product.name}: it has {_format_bands(bands)}. {hint}".rstrip()


def _format_bands(bands: Sequence[Band]) -> str:
    return ", ".join(f"{band.name} ({band.common})" if band.common else band.name for band in bands) or "no bands"
