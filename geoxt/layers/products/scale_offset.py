"""From stored numbers to physical values: scale and offset, per product and processing baseline."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from geoxt.errors import InputError

_REPROCESSED = 9999
"""Sentinel-2's baseline number of products that a user made: it does not tell how they were scaled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Radiometry:
    """How stored numbers of some bands become physical values: `number * scale + offset`."""

    scale: float
    """Physical units per stored unit."""
    offset: float = 0.0
    """Physical value of a stored 0, in `unit`."""
    unit: str = "1"
    """Unit of the physical value, as in CF; "1" for reflectances and other ratios."""
    files: tuple[str, ...] = ("*",)
    """Bands that it holds for, as file names spell them; shell patterns."""
    since: str | None = None
    """First processing baseline that it holds for, as "04.00"; `None` for all."""
    until: str | None = None
    """First processing baseline that it no longer holds for; `None` for all."""


def choose(
    rules: tuple[Radiometry, ...], file: str, *, baseline: str | None = None, product: str = ""
) -> Radiometry | None:
    """Return the rule for a band, or `None` where its numbers stand for themselves or only its metadata tells.

    Parameters
    ----------
    rules
        The rules of a layer.
    file
        The band as file names spell it, as "SR_B4".
    baseline
        The scene's processing baseline, as "04.00", "N0400" or "0400".
    product
        Name of the product, for the error.

    Raises
    ------
    InputError
        If the scale depends on the baseline and that is not known.
    """
    fitting = [rule for rule in rules if any(fnmatchcase(file, pattern) for pattern in rule.files)]
    dated = [rule for rule in fitting if rule.since or rule.until]
    if not dated:
        return fitting[0] if fitting else None
    number = _number(baseline)
    if number is None or number == _REPROCESSED:
        msg = (
            f"Cannot choose the scale and offset of band {file} of {product or 'the product'}: they depend on the "
            f"processing baseline, which is {baseline!r}. Pass rescale=False, or the baseline as '04.00'."
        )
        raise InputError(msg)
    return next((rule for rule in dated if _holds(rule, number)), None)


def _holds(rule: Radiometry, number: int) -> bool:
    since, until = _number(rule.since), _number(rule.until)
    return (since is None or since <= number) and (until is None or number < until)


def _number(baseline: str | None) -> int | None:
    """Return 400 for "04.00", "N0400" or "0400"; `None` for what is no baseline."""
    found = re.fullmatch(r"N?(\d{2})\.?(\d{2})", baseline or "")
    return int(found[1] + found[2]) if found else None
