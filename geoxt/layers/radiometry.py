"""Radiometry of bands: what a catalog states, what is known of the sensor, and what a layer says of its numbers."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from geoxt.errors import InputError
from geoxt.layers.products import Band, Product, Radiometry
from geoxt.source import Asset, Scene

HARMONISED = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
"""Properties of Earth Search that, where true, say that pixels already contain the offset of Sentinel-2."""
_BASELINE = re.compile(r"_N(\d{4})_")
_PRODUCTS = ("s2:product_uri", "s2:product_id", "sentinel:product_id", "title")


def baseline_of(properties: Mapping[str, Any], item: str = "") -> str | None:
    """Return the processing baseline that an item's properties, or the names in them, tell; as "04.00" or "0400"."""
    stated = properties.get("s2:processing_baseline", properties.get("processing:version"))
    if stated is not None:
        return str(stated)
    names = (str(properties.get(key, "")) for key in _PRODUCTS)
    found = next((m for m in map(_BASELINE.search, (*names, item)) if m), None)
    return found[1] if found else None


def stated(entry: Mapping[str, Any]) -> Radiometry | None:
    """Return scale and offset that a catalog states for a band (raster extension), `None` where it states neither."""
    scale = entry.get("scale", entry.get("raster:scale"))
    offset = entry.get("offset", entry.get("raster:offset"))
    if scale is None and offset is None:
        return None
    unit = str(entry.get("unit") or "1")
    return Radiometry(scale=1.0 if scale is None else float(scale), offset=float(offset or 0), unit=unit)


def known(
    facts: Product | None,
    band: Band | None,
    file: str | None,
    *,
    baseline: str | None = None,
    harmonised: bool = False,
    strict: bool = False,
    own: Mapping[str, Radiometry] | None = None,
    scene: str = "",
) -> Radiometry | None:
    """Return scale and offset that a scene's own metadata, or else the facts of a layer, tell of a band.

    `None` where they tell none.

    Parameters
    ----------
    facts, band, file
        The layer, its band, and the band as file names spell it.
    baseline
        The scene's processing baseline.
    harmonised
        Whether pixels already contain the offset.
    strict
        Whether it is an error that a baseline, or metadata of the scene, are needed and not there; else nothing is
        told.
    own
        What a file with the scene's metadata says, by band as file names spell them.
    scene
        Name of the scene, for the error.
    """
    if facts is None or band is None:
        return None
    spelt = file or band.name
    if own and spelt in own:
        return own[spelt]
    try:
        rule = facts.radiometry(spelt, baseline="00.00" if harmonised else baseline)
    except InputError:
        if strict:
            raise
        return None
    if rule is None and strict and facts.sidecar is not None and facts.sidecar.covers(spelt):
        names = " or ".join(repr(name.format(scene=scene)) for name in facts.sidecar.names)
        msg = f"Cannot rescale band {spelt} of scene {scene!r}: its scale stands in {names}, which is not beside it"
        raise InputError(msg + " or does not tell it. Put the file there, or pass rescale=False.")
    return rule


def is_harmonised(properties: Mapping[str, Any], also: str | None = None) -> bool:
    """Tell whether an item says that its pixels already contain the offset."""
    return any(properties.get(key) is True for key in (*HARMONISED, also) if key)


def attrs_of(scenes: Sequence[Scene], units: Iterable[str], *, rescale: bool) -> dict[Hashable, Any]:
    """Return attributes that say what a layer's numbers are.

    `radiometry` says it in words. `scales` and `offsets`, a number a band, are there where numbers are as stored and
    all scenes have the same; `units` where they are physical and all bands have the same.
    """
    pairs = {tuple((_of(a)) for a in s.assets) for s in scenes}
    if rescale:
        unit = set(units)
        says: dict[Hashable, Any] = {"radiometry": "physical: stored * scale + offset, of each scene and band"}
        return says | ({"units": unit.pop()} if len(unit) == 1 else {})
    if all(one in {None, (1.0, 0.0)} for pair in pairs for one in pair):
        return {}
    if len(pairs) > 1:
        return {"radiometry": "as stored: scales and offsets differ between scenes, rescale=True applies them"}
    numbers = [one or (1.0, 0.0) for one in pairs.pop()]
    says = {"radiometry": "as stored: physical = stored * scales + offsets, band by band"}
    return says | {"scales": [scale for scale, _ in numbers], "offsets": [offset for _, offset in numbers]}


def _of(asset: Asset | None) -> tuple[float, float] | None:
    return None if asset is None else (asset.scale, asset.offset)
