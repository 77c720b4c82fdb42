"""Bands of assets without band metadata: those of the file, if its header is read for another reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from geoxt.errors import InputError
from geoxt.layers.files.alpha import alpha_bands, data_bands, warn_of_alpha
from geoxt.layers.stac.layouts import ItemBand
from geoxt.pixels.credentials import redact_url
from geoxt.pixels.reader import Header

AssetKey = tuple[str | None, str]
"""Id of a collection, and key of an asset."""


def expand_bands(
    selections: Sequence[tuple[str | None, Sequence[ItemBand]]], headers: Mapping[AssetKey, Header]
) -> list[list[ItemBand]]:
    """Replace the single assumed band of assets without band metadata by all data bands of their files.

    Parameters
    ----------
    chosen
        Collection and selected bands of each layout.
    headers
        Header of one file of each asset without band metadata, if it was read.

    Raises
    ------
    InputError
        If a file lacks a band, or layouts then differ in their number of bands.
    """
    names = {band.name for _, bands in selections for band in bands}
    alphas = {
        header.href: (header, key)
        for (_, key), header in headers.items()
        if any(header.alpha) and not any(f"{key}_{n}" in names for n in alpha_bands(header))
    }
    warn_of_alpha(list(alphas.values()))
    result = [
        [single for band in bands for single in _expand_band(band, headers.get((collection, band.key)))]
        for collection, bands in selections
    ]
    counts = {len(bands) for bands in result}
    if len(counts) > 1:
        problem = f"Cannot open bands: files of the same asset have {sorted(counts)} bands."
        raise InputError(problem, remedy="Pass {bands} with single bands, such as 'image_1'.", argument="bands")
    return result


def _expand_band(band: ItemBand, header: Header | None) -> list[ItemBand]:
    """Return the data bands of the file of a band, named by their descriptions if these are unique."""
    if header is None:
        return [band]
    if band.index > len(header.dtypes):
        problem = f"Cannot open band {band.name!r}: {redact_url(header.href)} has {len(header.dtypes)} bands."
        raise InputError(problem, remedy="Pass other {bands}.", value=band.name, argument="bands")
    positions = data_bands(header)
    if not band.assumed_single or len(positions) < 2:
        return [band]
    descriptions = [header.names[number - 1] for number in positions]
    numbered_names = [f"{band.key}_{number}" for number in positions]
    names = (
        [str(n) for n in descriptions]
        if all(descriptions) and len(set(descriptions)) == len(descriptions)
        else numbered_names
    )
    return [
        replace(band, index=number, name=name, names=(name, numbered_name), assumed_single=False)
        for number, name, numbered_name in zip(positions, names, numbered_names, strict=True)
    ]
