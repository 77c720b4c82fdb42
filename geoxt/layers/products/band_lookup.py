"""Bands by whatever name a person or a catalog knows them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import replace

from geoxt.errors import InputError
from geoxt.layers.products.product import Band, Product


def resolve_bands(spec: Product, wanted: str | Sequence[str] | None = None) -> tuple[Band, ...]:
    """Return the bands that some names mean, in the order of the names.

    Parameters
    ----------
    spec
        The layer.
    wanted
        The sensor's own names ("B4"), names of files ("SR_B4": the band then has that
        file only), asset keys, or common names ("red"). `None` takes the layer's default.

    Raises
    ------
    InputError
        If a name means no band or several, or two names mean the same.
    """
    names = [wanted] if isinstance(wanted, str) else wanted
    if names is None:
        names = spec.default_bands or tuple(band.name for band in spec.bands)
    bands = tuple(_one(spec, name) for name in names)
    for at, band in enumerate(bands):
        if band in bands[:at]:
            first = names[bands.index(band)]
            msg = (
                f"Cannot take band {band.name} of {spec.name} twice: {first!r} and {names[at]!r} mean the same. "
                "Pass bands= with each band once."
            )
            raise InputError(msg)
    return bands


def _one(spec: Product, name: str) -> Band:
    known, key = (*spec.bands, *spec.extras), _key(name)
    own = [band for band in known if _key(band.name) == key]
    file = [replace(band, files=(f,)) for band in known for f in band.files if _key(f) == key]
    asset = [band for band in known if key in map(_key, band.assets)]
    common = [band for band in known if band.common and _key(band.common) == key]
    family = [band for band in known if band.common and _key(band.common).rstrip("0123456789") == key]
    found = own or file or common or asset or family
    if len(found) == 1:
        return found[0]
    raise InputError(_several(spec, name, found) if found else _unknown(spec, name, known))


def _several(spec: Product, name: str, found: list[Band]) -> str:
    return f"Cannot choose one band of {spec.name} for {name!r}: it may mean {_shown(found)}. Pass one of these names."


def _unknown(spec: Product, name: str, known: tuple[Band, ...]) -> str:
    spelt = {_key(s): s for band in known for s in (*band.assets, *band.files, band.common, band.name) if s}
    near = [spelt[key] for key in difflib.get_close_matches(_key(name), spelt, n=3)]
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"Cannot find band {name!r} of {spec.name}: it has {_shown(known)}.{hint} Pass bands= of these names."


def _shown(bands: Sequence[Band]) -> str:
    return ", ".join(f"{band.name} ({band.common})" if band.common else band.name for band in bands) or "no bands"


def _key(name: str) -> str:
    """Return a name in upper case, without the ending of a file and without zeros that pad a number."""
    return re.sub(r"(?<=B)0+(?=\d)", "", name.upper().removesuffix(".TIF"))
