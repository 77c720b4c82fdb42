"""All benchmark datasets as data: `names()` lists them, `get(name)` returns the spec of one."""

from __future__ import annotations

import difflib

from geoxt.datasets.catalog import (
    advance,
    bigearthnet,
    building_footprints,
    chesapeake,
    cowc,
    crop_types,
    cyclone,
    etci,
    gid15,
    google_earth_scenes,
    isprs,
    landcoverai,
    levircd,
    scene_classification,
    seco,
    sen12ms,
    so2sat,
    spacenet,
    vhr10,
    xview2,
    zuericrop,
)
from geoxt.datasets.spec import Spec
from geoxt.errors import InputError
from geoxt.layers import products

_MODULES = (
    advance,
    bigearthnet,
    scene_classification,
    so2sat,
    cyclone,
    vhr10,
    spacenet,
    levircd,
    sen12ms,
    crop_types,
    etci,
    building_footprints,
    zuericrop,
    seco,
    chesapeake,
    google_earth_scenes,
    cowc,
    gid15,
    isprs,
    landcoverai,
    xview2,
)
_SPECS: dict[str, Spec] = {spec.name: spec for module in _MODULES for spec in module.SPECS}


def names() -> tuple[str, ...]:
    """Return the names of the datasets."""
    return tuple(_SPECS)


def get(name: str) -> Spec:
    """Return what is known of a dataset.

    Parameters
    ----------
    name
        One of `names()`; case, blanks, hyphens and underscores do not matter.

    Raises
    ------
    InputError
        If no dataset has that name.

    Examples
    --------
    >>> get("EuroSAT").samples
    27000
    """
    known = {_plain(own): own for own in _SPECS}
    if _plain(name) not in known:
        near = [known[key] for key in difflib.get_close_matches(_plain(name), known, n=3)]
        if _plain(name) in map(_plain, products.names()):
            msg = f"Cannot describe {name!r} as a dataset: it is a product. "
            raise InputError(msg + f"Open its files by open_cogs(..., product={name!r}).")
        hint = f"Did you mean {' or '.join(near)}?" if near else f"Known are {', '.join(_SPECS)}."
        msg = f"Cannot find a dataset named {name!r}. {hint} Pass one of these, or a Spec of your own."
        raise InputError(msg)
    return _SPECS[known[_plain(name)]]


def _plain(name: str) -> str:
    return "".join(sign for sign in name.lower() if sign not in " -_+.")
