"""Known layers as data: `names()` lists them, `spec(name)` returns the facts of one."""

from __future__ import annotations

import difflib
import re

from geoxt.errors import InputError
from geoxt.layers.sensors import aerial, buildings, landcover, landsat, sentinel1, sentinel2
from geoxt.layers.sensors.bands import resolve_bands
from geoxt.layers.sensors.qa import Flag, Qa, find_qa, qa_tests, qa_valid
from geoxt.layers.sensors.scale_offset import Radiometry
from geoxt.layers.sensors.spec import Band, Collection, LayerSpec, Named, Sidecar
from geoxt.types import SomePath

__all__ = [
    "Band",
    "Collection",
    "Flag",
    "LayerSpec",
    "Named",
    "Qa",
    "Radiometry",
    "Sidecar",
    "find_qa",
    "is_scene",
    "names",
    "of_item",
    "of_path",
    "qa_tests",
    "qa_valid",
    "resolve_bands",
    "spec",
]

_MODULES = (landsat, sentinel1, sentinel2, aerial, landcover, buildings)
_SPECS: dict[str, LayerSpec] = {known.name: known for module in _MODULES for known in module.SPECS}


def names() -> tuple[str, ...]:
    """Return the names of the known layers."""
    return tuple(_SPECS)


def spec(name: str) -> LayerSpec:
    """Return the facts of a known layer.

    Parameters
    ----------
    name
        One of `names()`; case, blanks, hyphens and underscores do not matter.

    Raises
    ------
    InputError
        If no layer has that name.

    Examples
    --------
    >>> [band.common for band in resolve_bands(spec("Landsat-8"), ["SR_B5", "B4"])]
    ['nir08', 'red']
    """
    known = {_plain(own): own for own in _SPECS}
    if _plain(name) not in known:
        near = [known[key] for key in difflib.get_close_matches(_plain(name), known, n=3)]
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Known are {', '.join(_SPECS)}."
        msg = f"Cannot find a layer named {name!r}. {hint} Pass layer= of a known one, or leave it out."
        raise InputError(msg)
    return _SPECS[known[_plain(name)]]


def of_path(path: SomePath) -> tuple[LayerSpec, ...]:
    """Return the layers that name their files like this path or URL; none for an unknown kind.

    Where several do, and a folder or archive on the way to the file is called as a scene is, those of that scene.
    """
    found = tuple(known for known in _SPECS.values() if known.identify(path) is not None)
    if len(found) < 2:
        return found
    names = str(path).split("?", 1)[0].replace("}", "").split("/")[:-1]
    return tuple(known for known in found if any(_calls(known, name) for name in names)) or found


def is_scene(path: SomePath) -> bool:
    """Tell whether a folder or an archive is called as a scene of some known layer is."""
    name = str(path).rstrip("/").rpartition("/")[2]
    return any(_calls(known, name) for known in _SPECS.values())


def _calls(known: LayerSpec, name: str) -> bool:
    bare = re.sub(r"(\.SAFE)?(\.zip|\.tar|\.tar\.gz|\.tgz)?$", "", name, flags=re.IGNORECASE)
    return any(template.match(bare) is not None for template in known.scenes)


def of_item(
    collection: str, *, platform: str | None = None, instruments: tuple[str, ...] = ()
) -> tuple[LayerSpec, ...]:
    """Return the layers that a STAC item may be of.

    Parameters
    ----------
    collection
        Id of the item's collection.
    platform, instruments
        The item's properties, as far as it has them; they tell Landsat's satellites apart.
    """
    plain = _plain(platform or "")
    carried = {instrument.lower() for instrument in instruments}
    return tuple(
        known
        for known in _SPECS.values()
        if known.collection(collection)
        and (not plain or not known.platforms or plain in map(_plain, known.platforms))
        and (not carried or not known.instruments or carried & set(known.instruments))
    )


def _plain(name: str) -> str:
    return "".join(sign for sign in name.lower() if sign not in " -_")
