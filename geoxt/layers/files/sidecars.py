"""Scale and offset in metadata files beside the bands of a scene: Landsat's MTL, Sentinel-2's MTD.

Landsat: the Level-1 data format control book, LSDS-1822 (https://www.usgs.gov/landsat-missions). Reflectance is that at
the top of the atmosphere, corrected for the sun's elevation at the scene's centre; thermal bands become radiance.
Sentinel-2: the products specification, S2-PDGS-TAS-DI-PSD (https://sentiwiki.copernicus.eu/web/s2-documents).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree import ElementTree as ET

import pystac

from geoxt.errors import ReadError
from geoxt.layers.archives import read_bytes
from geoxt.layers.products import Product, Radiometry, Sidecar
from geoxt.pixels.credentials import Credentials, redact_url
from geoxt.retry import fetch

Scales = Mapping[str, Radiometry]
"""Scale and offset by name of the band in file names."""
_RADIANCE = "W m-2 sr-1 um-1"
SECONDS = 60
"""Seconds to wait for a response."""
_OPTICAL = (*(f"B{n:02d}" for n in range(1, 9)), "B8A", "B09", "B10", "B11", "B12")
"""Sentinel-2's bands by their `band_id` in the metadata."""


class Sidecars:
    """Scales in the metadata files of scenes; each file is read once.

    Parameters
    ----------
    product
        The product of the scenes.
    read
        Returns the content of a file, `None` if it does not exist.
    """

    def __init__(self, product: Product | None, read: Callable[[str], bytes | None] = read_bytes) -> None:
        self._sidecar = None if product is None else product.sidecar
        self._read = read
        self._scales: dict[tuple[str, str], Scales] = {}

    def of(self, href: str, scene: str, file: str | None) -> Scales:
        """Return the scales of a scene's bands; empty if its metadata file is missing or does not cover the band.

        Raises
        ------
        ReadError
            If the file exists and cannot be read.
        """
        if self._sidecar is None or not self._sidecar.covers(file):
            return {}
        folder = self._sidecar.folder(href)
        if folder is None:
            return {}
        key = folder, scene
        if key not in self._scales:
            self._scales[key] = self._find(folder, scene, self._sidecar)
        return self._scales[key]

    def _find(self, folder: str, scene: str, sidecar: Sidecar) -> Scales:
        for name in sidecar.names:
            path = f"{folder}/{name.format(scene=scene)}"
            content = self._read(path)
            if content is not None:
                return scales_in(content, sidecar, path)
        return {}


def scales_of_item(item: pystac.Item, product: Product | None, credentials: Credentials | None) -> Scales:
    """Return the scales in the metadata file among an item's assets; empty if it has no such asset.

    Raises
    ------
    ReadError
        If the file cannot be read.
    """
    if product is None or product.sidecar is None:
        return {}
    endings = [name.format(scene="") for name in product.sidecar.names]
    hrefs = [asset.href for asset in item.assets.values()]
    for ending in endings:
        for href in (h for h in hrefs if h.split("?", 1)[0].endswith(ending)):
            content = _fetch(href, credentials) if href.startswith(("http://", "https://")) else read_bytes(href)
            if content is not None:
                return scales_in(content, product.sidecar, href)
    return {}


def _fetch(href: str, credentials: Credentials | None) -> bytes:
    address = href if credentials is None else credentials.address(href)
    try:
        return fetch(address, timeout=SECONDS)
    except (OSError, ValueError) as error:
        problem = f"Cannot read the scales of bands from {redact_url(href)}: {redact_url(str(error))}."
        raise ReadError(problem, remedy="Pass {rescale:False}.") from None  # a traceback could show a signature


def scales_in(content: bytes, sidecar: Sidecar, path: str) -> Scales:
    """Return the scales in the content of a metadata file.

    Raises
    ------
    ReadError
        If the content cannot be parsed.
    """
    try:
        match sidecar.form:
            case "landsat-mtl":
                return _landsat(_groups(content.decode("utf-8")))
            case "sentinel2-mtd":
                return _sentinel2(ET.fromstring(content))  # noqa: S314 (a metadata file of the product; no entity is fetched)
            case _:
                raise AssertionError(sidecar.form)
    except (ValueError, KeyError, ET.ParseError) as error:
        problem = f"Cannot read scales from {redact_url(path)!r}: {type(error).__name__}: {error}."
        raise ReadError(problem, remedy="Check that the file is complete.") from error


def _groups(text: str) -> dict[str, dict[str, str]]:
    """Return the groups of a Landsat metadata file, in JSON or in the older text format."""
    if text.lstrip().startswith("{"):
        (root,) = json.loads(text).values()
        return {str(name): dict(group) for name, group in root.items()}
    groups: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition("="))
        if key == "GROUP":
            current = groups.setdefault(value, {})
        elif key and value and key != "END_GROUP":
            current[key] = value.strip('"')
    return groups


def _landsat(groups: Mapping[str, Mapping[str, Any]]) -> Scales:
    """Return the scales of Level 1 (Collection 1 or 2); those of Level 2 are constants of the product."""
    table = groups.get("LEVEL1_RADIOMETRIC_RESCALING") or groups["RADIOMETRIC_RESCALING"]
    # LSDS-1822: reflectance at the top of the atmosphere is MULT * stored + ADD, divided by the sine of sun elevation
    sine = math.sin(math.radians(float(groups["IMAGE_ATTRIBUTES"]["SUN_ELEVATION"])))
    scales: dict[str, Radiometry] = {}
    for key in (k for k in table if k.startswith("RADIANCE_MULT_BAND_")):
        band = key.removeprefix("RADIANCE_MULT_BAND_")
        reflective = f"REFLECTANCE_MULT_BAND_{band}" in table
        if reflective and sine <= 0:
            continue  # reflectance is undefined at night
        kind, unit, divisor = ("REFLECTANCE", "1", sine) if reflective else ("RADIANCE", _RADIANCE, 1.0)
        scale, offset = (float(table[f"{kind}_{part}_BAND_{band}"]) for part in ("MULT", "ADD"))
        scales[f"B{band}"] = Radiometry(scale=scale / divisor, offset=offset / divisor, unit=unit)
    return scales


def _sentinel2(root: ET.Element) -> Scales:
    """Return the scales of a product; offsets are 0 before baseline 04.00, which introduced them."""
    elements: dict[str, list[ET.Element]] = {}
    for element in root.iter():
        elements.setdefault(element.tag.rpartition("}")[2], []).append(element)

    def number(*tags: str) -> float | None:
        texts = [element.text for tag in tags for element in elements.get(tag, ())]
        return float(texts[0] or "") if texts else None

    quantification = number("BOA_QUANTIFICATION_VALUE", "QUANTIFICATION_VALUE")
    if quantification is None:
        raise ValueError("no quantification value")
    offsets = elements.get("BOA_ADD_OFFSET") or elements.get("RADIO_ADD_OFFSET") or ()
    offset_of = {_OPTICAL[int(element.attrib["band_id"])]: float(element.text or "") for element in offsets}
    # S2-PDGS-TAS-DI-PSD: the physical value is the sum of stored value and offset, divided by the quantification
    scales = {
        band: Radiometry(scale=1 / quantification, offset=offset_of.get(band, 0.0) / quantification)
        for band in _OPTICAL
    }
    for band, unit in (("AOT", "1"), ("WVP", "cm")):
        divisor = number(f"{band}_QUANTIFICATION_VALUE")
        if divisor is not None:
            scales[band] = Radiometry(scale=1 / divisor, unit=unit)
    return scales
