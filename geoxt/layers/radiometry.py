"""Scale and offset of bands, by catalog, scene metadata or product, and the attributes that document them."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from geoxt.errors import InputError
from geoxt.layers.products import Band, Product, Radiometry
from geoxt.layers.products.scale_offset import is_baseline
from geoxt.source import Asset, Scene

HARMONISED = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")
"""Item properties of Earth Search: whether the offset of Sentinel-2 is already applied to the pixels."""
UNKNOWN_SCALE = "as stored: the scale depends on the processing baseline or other metadata, which is unknown"
"""Attribute `radiometry` of layers with a scene of unknown scale."""
_IN_NAME = re.compile(r"_N(\d{4})_")
_BASELINES = ("s2:processing_baseline", "processing:version")
_PRODUCTS = ("s2:product_uri", "s2:product_id", "sentinel:product_id", "title")


def baseline_of(properties: Mapping[str, Any], *names: str) -> str | None:
    """Return the processing baseline in an item's properties or product names, as "04.00" or "0400".

    Parameters
    ----------
    properties
        Properties of the item.
    *names
        Further names that may hold the product id: the item's id, and the path of a file.

    Returns
    -------
    str or None
        A stated version that is no baseline of Sentinel-2 if there is no other; `None` if nothing is stated.
    """
    stated = [properties[key] for key in _BASELINES if properties.get(key) is not None]
    texts = [f"{value:05.2f}" if isinstance(value, float) else str(value) for value in stated]
    baseline = next((text for text in texts if is_baseline(text)), None)
    if baseline is not None:
        return baseline
    names = (*(str(properties[key]) for key in _PRODUCTS if key in properties), *names)
    match = next((m for name in names if "_N" in name and (m := _IN_NAME.search(name))), None)
    return match[1] if match else next(iter(texts), None)


def usable_baseline(stated: str | None, of_caller: str | None) -> str | None:
    """Return a stated processing baseline, or that of the caller if the stated one does not determine the scale."""
    return stated if of_caller is None or is_baseline(stated) else of_caller


def check_baseline(known_products: Iterable[Product | None], baseline: str | None) -> None:
    """Raise if a caller's processing baseline has another form, or the scale of no product depends on it.

    Raises
    ------
    InputError
        See above.
    """
    if baseline is None:
        return
    names = sorted({product.name for product in known_products if product is not None})
    if not names:
        problem = "Cannot use a baseline without a product."
        raise InputError(problem, remedy="Pass {product}.", argument="baseline")
    rules = (rule for product in known_products if product is not None for rule in product.rules)
    if not any(rule.since or rule.until for rule in rules):
        problem = f"Cannot use a processing baseline for {', '.join(names)}: no scale of it depends on one."
        raise InputError(problem, remedy="Leave {baseline} out.", value=baseline, argument="baseline")
    if not is_baseline(baseline):
        problem = f"Cannot use {baseline!r} as a processing baseline."
        raise InputError(problem, remedy="Pass {baseline:'05.09'}.", value=baseline, argument="baseline")


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
    dtype: str | None = None,
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
    dtype
        Data type of the pixels. Scales are those of integers: floating-point pixels were converted in an unknown way.
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
    if _is_converted(product, name, dtype):
        if strict:
            problem = (
                f"Cannot rescale band {name}{scene and f' of {scene!r}'}: it has {dtype}, {product.name} integers."
            )
            raise InputError(problem, remedy="Pass {rescale:False}, which keeps its values.", argument="rescale")
        return None
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


def is_scale_unknown(product: Product, file: str, *, dtype: str | None, baseline: str | None) -> bool:
    """Return whether the scale of a band without a stated one depends on metadata of the scene, or on its conversion.

    `file` is the name of the band in file names, and `baseline` that of the scene, if known.
    """
    if _is_converted(product, file, dtype):
        return True
    try:
        rule = product.radiometry(file, baseline=baseline)
    except InputError:
        return True
    return rule is None and product.sidecar is not None and product.sidecar.covers(file)


def _is_converted(product: Product, file: str, dtype: str | None) -> bool:
    """Return whether pixels are floating-point numbers of a band that its product stores as integers with a scale."""
    stored = product.dtype(file)
    floats = (dtype or "").startswith("float") and (stored or "").startswith(("int", "uint"))
    covered = product.sidecar is not None and product.sidecar.covers(file)
    return floats and (covered or any(fnmatchcase(file, pattern) for rule in product.rules for pattern in rule.files))


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
    if any(asset is not None and asset.scale_unknown for scene in scenes for asset in scene.assets):
        return {"radiometry": UNKNOWN_SCALE}
    if all(pair in {None, (1.0, 0.0)} for of_scene in pairs for pair in of_scene):
        return {}
    if len(pairs) > 1:
        return {"radiometry": "as stored: scales and offsets differ between scenes, rescale=True applies them"}
    per_band = [pair or (1.0, 0.0) for pair in pairs.pop()]
    attrs = {"radiometry": "as stored: physical = stored * scales + offsets, band by band"}
    return attrs | {"scales": [scale for scale, _ in per_band], "offsets": [offset for _, offset in per_band]}


def require_common_scale(scenes: Sequence[Scene], steps: Iterable[Sequence[int]], composite: str) -> None:
    """Raise if a composite would combine stored values of different scales or offsets, as those of two baselines."""
    for step in steps:
        for assets in zip(*(scenes[index].assets for index in step), strict=True):
            scenes_by_scale = {
                _scale_offset(asset): scenes[i].id for i, asset in zip(step, assets, strict=True) if asset
            }
            if len(scenes_by_scale) > 1:
                first, other = list(scenes_by_scale.items())[:2]
                problem = (
                    f"Cannot take the {composite} of stored values: scale and offset are {first[0]} in {first[1]!r}, "
                )
                remedy = "Pass {rescale:True}. Or pass {composite:'first'}."
                raise InputError(f"{problem}and {other[0]} in {other[1]!r}.", remedy=remedy, argument="rescale")


def _scale_offset(asset: Asset | None) -> tuple[float, float] | None:
    return None if asset is None else (asset.scale, asset.offset)
