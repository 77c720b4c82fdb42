"""Bands of assets whose number of bands no item states: those of the file, from a header that is read anyway."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from geoxt.errors import InputError
from geoxt.layers.files.alpha import warn_of_alpha
from geoxt.layers.stac.layouts import ItemBand
from geoxt.pixels.credentials import redact_url
from geoxt.pixels.reader import Header

AssetKey = tuple[str | None, str]
"""Id of a collection, and key of an asset."""


def expand_bands(
    chosen: Sequence[tuple[str | None, Sequence[ItemBand]]], headers: Mapping[AssetKey, Header]
) -> list[list[ItemBand]]:
    """Return bands in which an asset of unstated band number is replaced by all data bands of its file.

    Parameters
    ----------
    chosen
        Collection and chosen bands of each layout.
    headers
        Header of one file of each asset of unstated band number, if it was read.

    Raises
    ------
    InputError
        If a file lacks a band, or layouts then differ in their number of bands.
    """
    names = {band.name for _, bands in chosen for band in bands}
    alphas = {
        header.href: (header, key)
        for (_, key), header in headers.items()
        if any(header.alpha) and not any(f"{key}_{n}" in names for n, alpha in enumerate(header.alpha, 1) if alpha)
    }
    warn_of_alpha(list(alphas.values()))
    result = [
        [single for band in bands for single in _expand_band(band, headers.get((collection, band.key)))]
        for collection, bands in chosen
    ]
    counts = {len(bands) for bands in result}
    if len(counts) > 1:
        problem = f"Cannot open bands: files of the same asset have {sorted(counts)} bands."
        raise InputError(problem, remedy="Pass {bands} with single bands, such as 'image_1'.", argument="bands")
    return result


def _expand_band(band: ItemBand, header: Header | None) -> list[ItemBand]:
    """Return the data bands of a file for its only stated band; named by their descriptions if these are unique."""
    if header is None:
        return [band]
    if band.index > len(header.dtypes):
        problem = f"Cannot open band {band.name!r}: {redact_url(header.href)} has {len(header.dtypes)} bands."
        raise InputError(problem, remedy="Pass other {bands}.", value=band.name, argument="bands")
    positions = [number for number, alpha in enumerate(header.alpha, 1) if not alpha]
    if not band.assumed_single or len(positions) < 2:
        return [band]
    described = [header.names[number - 1] for number in positions]
    numbered = [f"{band.key}_{number}" for number in positions]
    names = [str(n) for n in described] if all(described) and len(set(described)) == len(described) else numbered
    return [
        replace(band, index=number, name=name, names=(name, numbered_name), assumed_single=False)
        for number, name, numbered_name in zip(positions, names, numbered, strict=True)
    ]
