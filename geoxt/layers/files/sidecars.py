"""Files that come with a scene's bands and say how its numbers are scaled: Landsat's MTL, Sentinel-2's MTD.

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
"""Scale and offset of bands, as file names spell them."""
_RADIANCE = "W m-2 sr-1 um-1"
SECONDS = 60
"""Longest wait for a file that is not on disk."""
_OPTICAL = (*(f"B{n:02d}" for n in range(1, 9)), "B8A", "B09", "B10", "B11", "B12")
"""Sentinel-2's bands by the numbers that its metadata give them, from 0."""


class Sidecars:
    """What the files beside the bands of some scenes say, each read once.

    Parameters
    ----------
    facts
        The layer.
    read
        Returns the content of a file, `None` where there is none.
    """

    def __init__(self, facts: Product | None, read: Callable[[str], bytes | None] = read_bytes) -> None:
        self._sidecar = None if facts is None else facts.sidecar
        self._read = read
        self._known: dict[tuple[str, str], Scales] = {}

    def of(self, href: str, scene: str, file: str | None) -> Scales:
        """Return what the file of a scene says of its bands; nothing where it is not there, or not about this one.

        Raises
        ------
        ReadError
            Where it is there and cannot be read.
        """
        if self._sidecar is None or not self._sidecar.covers(file):
            return {}
        folder = self._sidecar.folder(href)
        if folder is None:
            return {}
        key = folder, scene
        if key not in self._known:
            self._known[key] = self._find(folder, scene, self._sidecar)
        return self._known[key]

    def _find(self, folder: str, scene: str, sidecar: Sidecar) -> Scales:
        for name in sidecar.names:
            path = f"{folder}/{name.format(scene=scene)}"
            content = self._read(path)
            if content is not None:
                return scales_in(content, sidecar, path)
        return {}


def scales_of_item(item: pystac.Item, facts: Product | None, credentials: Credentials | None) -> Scales:
    """Return what the metadata file among an item's assets says of its bands; nothing where there is none.

    Raises
    ------
    ReadError
        Where it is there and cannot be read.
    """
    if facts is None or facts.sidecar is None:
        return {}
    endings = [name.format(scene="") for name in facts.sidecar.names]
    hrefs = [asset.href for asset in item.assets.values()]
    for ending in endings:
        for href in (h for h in hrefs if h.split("?", 1)[0].endswith(ending)):
            content = _fetch(href, credentials) if href.startswith(("http://", "https://")) else read_bytes(href)
            if content is not None:
                return scales_in(content, facts.sidecar, href)
    return {}


def _fetch(href: str, credentials: Credentials | None) -> bytes:
    address = href if credentials is None else credentials.address(href)
    try:
        return fetch(address, timeout=SECONDS)
    except (OSError, ValueError) as error:
        msg = f"Cannot read {redact_url(href)}: {redact_url(str(error))}."
        msg += " It says how bands are scaled: pass rescale=False."
        raise ReadError(msg) from None  # its traceback could show a signature


def scales_in(content: bytes, sidecar: Sidecar, path: str) -> Scales:
    """Return the scales that the content of a file states.

    Raises
    ------
    ReadError
        Where it is not what it should be.
    """
    try:
        match sidecar.form:
            case "landsat-mtl":
                return _landsat(_groups(content.decode("utf-8")))
            case "sentinel2-mtd":
                return _sentinel2(ET.fromstring(content))  # noqa: S314 (a product's own; no entity is fetched)
            case _:
                raise AssertionError(sidecar.form)
    except (ValueError, KeyError, ET.ParseError) as error:
        msg = f"Cannot read scales from {redact_url(path)!r}: {type(error).__name__}: {error}. Is the file whole?"
        raise ReadError(msg) from error


def _groups(text: str) -> dict[str, dict[str, str]]:
    """Return the groups of a Landsat metadata file, as JSON or as the text that it is older in."""
    if text.lstrip().startswith("{"):
        (whole,) = json.loads(text).values()
        return {str(name): dict(group) for name, group in whole.items()}
    groups: dict[str, dict[str, str]] = {}
    within: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition("="))
        if key == "GROUP":
            within = groups.setdefault(value, {})
        elif key and value and key != "END_GROUP":
            within[key] = value.strip('"')
    return groups


def _landsat(groups: Mapping[str, Mapping[str, Any]]) -> Scales:
    """Return the scales of Level 1, of Collection 2 or 1; those of Level 2 are the same for all scenes."""
    table = groups.get("LEVEL1_RADIOMETRIC_RESCALING") or groups["RADIOMETRIC_RESCALING"]
    sun = math.sin(math.radians(float(groups["IMAGE_ATTRIBUTES"]["SUN_ELEVATION"])))
    found: dict[str, Radiometry] = {}
    for key in (k for k in table if k.startswith("RADIANCE_MULT_BAND_")):
        band = key.removeprefix("RADIANCE_MULT_BAND_")
        reflects = f"REFLECTANCE_MULT_BAND_{band}" in table
        if reflects and sun <= 0:
            continue  # at night there is no reflectance
        kind, unit, share = ("REFLECTANCE", "1", sun) if reflects else ("RADIANCE", _RADIANCE, 1.0)
        scale, offset = (float(table[f"{kind}_{part}_BAND_{band}"]) for part in ("MULT", "ADD"))
        found[f"B{band}"] = Radiometry(scale=scale / share, offset=offset / share, unit=unit)
    return found


def _sentinel2(root: ET.Element) -> Scales:
    """Return the scales of a product; before baseline 04.00 it states no offsets, and there are none."""
    stated: dict[str, list[ET.Element]] = {}
    for element in root.iter():
        stated.setdefault(element.tag.rpartition("}")[2], []).append(element)

    def number(*tags: str) -> float | None:
        texts = [element.text for tag in tags for element in stated.get(tag, ())]
        return float(texts[0] or "") if texts else None

    most = number("BOA_QUANTIFICATION_VALUE", "QUANTIFICATION_VALUE")
    if most is None:
        msg = "no quantification value"
        raise ValueError(msg)
    offsets = stated.get("BOA_ADD_OFFSET") or stated.get("RADIO_ADD_OFFSET") or ()
    added = {_OPTICAL[int(one.attrib["band_id"])]: float(one.text or "") for one in offsets}
    found = {band: Radiometry(scale=1 / most, offset=added.get(band, 0.0) / most) for band in _OPTICAL}
    for band, unit in (("AOT", "1"), ("WVP", "cm")):
        own = number(f"{band}_QUANTIFICATION_VALUE")
        if own is not None:
            found[band] = Radiometry(scale=1 / own, unit=unit)
    return found
