"""Scale and offset of bands, by catalog, scene metadata or product, and the attributes that document them."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from geoxt.errors import InputError
from geoxt.layers.products import Band, Product, Radiometry
from geoxt.source import Asset, Scene

HARMONISED = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
"""Item properties of Earth Search: whether the offset of Sentinel-2 is already applied to the pixels."""
_BASELINE = re.compile(r"_N(\d{4})_")
_PRODUCTS = ("s2:product_uri", "s2:product_id", "sentinel:product_id", "title")


def baseline_of(properties: Mapping[str, Any], item: str = "") -> str | None:
    """Return the processing baseline in an item's properties or product names, as "04.00" or "0400"; else `None`."""
    stated = properties.get("s2:processing_baseline", properties.get("processing:version"))
    if stated is not None:
        return str(stated)
    names = [str(properties[key]) for key in _PRODUCTS if key in properties]
    match = next((m for name in (*names, item) if "_N" in name and (m := _BASELINE.search(name))), None)
    return match[1] if match else None


def stac_radiometry(entry: Mapping[str, Any]) -> Radiometry | None:
    """Return scale and offset of a band by the STAC raster extension; `None` if it states neither as a number."""
    scale = next((n for name in ("scale", "raster:scale") if (n := _finite(entry.get(name)))), None)
    offset = next((n for name in ("offset", "raster:offset") if (n := _finite(entry.get(name))) is not None), None)
    if scale is None and offset is None:
        return None
    unit = str(entry.get("unit") or "1")
    return Radiometry(scale=1.0 if scale is None else scale, offset=offset or 0.0, unit=unit)


def _finite(value: Any) -> float | None:
    """Return a finite number, or `None` for any other value."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and not isinstance(value, bool) else None


def product_radiometry(
    product: Product | None,
    band: Band | None,
    file: str | None,
    *,
    baseline: str | None = None,
    harmonised: bool = False,
    strict: bool = False,
    of_scene: Mapping[str, Radiometry] | None = None,
    scene: str = "",
) -> Radiometry | None:
    """Return scale and offset of a band by the scene's metadata, else by its product; `None` if neither has them.

    Parameters
    ----------
    product, band, file
        The product, its band, and the name of the band in file names.
    baseline
        The scene's processing baseline.
    harmonised
        Whether the offset is already applied to the pixels.
    strict
        Whether to raise if a baseline or a metadata file of the scene is required and missing.
    of_scene
        Scales in the scene's metadata file, by name of the band in file names.
    scene
        Name of the scene, for errors.

    Raises
    ------
    InputError
        If `strict` and the scale cannot be determined.
    """
    if product is None or band is None:
        return None
    name = file or band.name
    if of_scene and name in of_scene:
        return of_scene[name]
    try:
        rule = product.radiometry(name, baseline="00.00" if harmonised else baseline)
    except InputError:
        if strict:
            raise
        return None
    if rule is None and strict and product.sidecar is not None and product.sidecar.covers(name):
        names = " or ".join(repr(form.format(scene=scene)) for form in product.sidecar.names)
        problem = f"Cannot rescale band {name} of scene {scene!r}: {names} beside it is missing or lacks its scale."
        remedy = "Put the file there. Or pass {rescale:False}."
        raise InputError(problem, remedy=remedy, argument="rescale")
    return rule


def is_harmonised(properties: Mapping[str, Any], further: str | None = None) -> bool:
    """Return whether an item states that the offset is already applied to its pixels."""
    return any(properties.get(key) is True for key in (*HARMONISED, further) if key)


def attrs_of(scenes: Sequence[Scene], units: Iterable[str], *, rescale: bool) -> dict[Hashable, Any]:
    """Return attributes that document the radiometry of a layer.

    `radiometry` states it as text. `scales` and `offsets` (one number per band) are set for stored values if all scenes
    have the same; `units` for physical values if all bands have the same.
    """
    pairs = {tuple(_scale_offset(asset) for asset in scene.assets) for scene in scenes}
    if rescale:
        unit = set(units)
        attrs: dict[Hashable, Any] = {"radiometry": "physical: stored * scale + offset, of each scene and band"}
        return attrs | ({"units": unit.pop()} if len(unit) == 1 else {})
    if all(pair in {None, (1.0, 0.0)} for of_scene in pairs for pair in of_scene):
        return {}
    if len(pairs) > 1:
        return {"radiometry": "as stored: scales and offsets differ between scenes, rescale=True applies them"}
    per_band = [pair or (1.0, 0.0) for pair in pairs.pop()]
    attrs = {"radiometry": "as stored: physical = stored * scales + offsets, band by band"}
    return attrs | {"scales": [scale for scale, _ in per_band], "offsets": [offset for _, offset in per_band]}


def _scale_offset(asset: Asset | None) -> tuple[float, float] | None:
    return None if asset is None else (asset.scale, asset.offset)
