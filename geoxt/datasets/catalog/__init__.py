"""Registry of benchmark datasets: `names()` lists them, `get(name)` returns the spec of one."""

from __future__ import annotations

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
from geoxt.errors import InputError, did_you_mean
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
    """Return the names of the benchmark datasets.

    Examples
    --------
    >>> from geoxt import datasets
    >>> "eurosat" in datasets.names()
    True
    """
    return tuple(_SPECS)


def get(name: str) -> Spec:
    """Return the spec of a benchmark dataset.

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
    by_key = {_key(spec): spec for spec in _SPECS}
    if _key(name) not in by_key:
        if _key(name) in map(_key, products.names()):
            problem = f"Cannot find a dataset named {name!r}: it is a product."
            raise InputError(problem, remedy=f"Open its files by open_cogs(..., product={name!r}).", value=name)
        remedy = did_you_mean(_key(name), by_key) or f"Pass one of {', '.join(_SPECS)}."
        raise InputError(f"Cannot find a dataset named {name!r}.", remedy=remedy, value=name, argument="name")
    return _SPECS[by_key[_key(name)]]


def _key(name: str) -> str:
    return "".join(character for character in name.lower() if character not in " -_+.")
