"""Scale and offset from stored to physical values, by product and processing baseline."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from geoxt.errors import InputError

_BASELINE = re.compile(r"N?(\d{2}|\d(?=\.))\.?(\d{2})")
"""Processing baseline of Sentinel-2: "04.00", "4.00", "N0400" or "0400"."""
_REPROCESSED = 9999
"""Sentinel-2's baseline number of products made by users, which does not determine the scale."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Radiometry:
    """Scale and offset of bands: physical value = stored value * scale + offset."""

    scale: float
    """Physical units per stored unit."""
    offset: float = 0.0
    """Physical value of a stored 0, in `unit`."""
    unit: str = "1"
    """Unit of the physical value, as in CF; "1" for reflectances and other ratios."""
    files: tuple[str, ...] = ("*",)
    """Names of its bands in file names; shell patterns."""
    since: str | None = None
    """First processing baseline, as "04.00"; `None` for all."""
    until: str | None = None
    """End of processing baselines, excluded; `None` for all."""


def choose(
    rules: tuple[Radiometry, ...], file: str, *, baseline: str | None = None, product: str = ""
) -> Radiometry | None:
    """Return scale and offset of a band; `None` if it has none, or only metadata files of scenes state them.

    Parameters
    ----------
    rules
        Rules of a product; the first that matches is used.
    file
        Name of the band in file names: "SR_B4".
    baseline
        The scene's processing baseline, as "04.00", "N0400" or "0400".
    product
        Name of the product, for errors.

    Raises
    ------
    InputError
        If the scale depends on the baseline, which is unknown.
    """
    matches = [rule for rule in rules if any(fnmatchcase(file, pattern) for pattern in rule.files)]
    dated = [rule for rule in matches if rule.since or rule.until]
    if not dated or matches[0] not in dated:
        return matches[0] if matches else None
    number = _number(baseline)
    if number is None or not is_baseline(baseline):
        problem = (
            f"Cannot choose the scale and offset of band {file} of {product or 'the product'}: they depend on the "
            f"processing baseline, which is {baseline or 'unknown'}."
        )
        remedy = "Pass {baseline:'05.09'} if N0509 is in the name of the scene's .SAFE folder. Or pass {rescale:False}."
        raise InputError(problem, remedy=remedy, argument="rescale")
    return next((rule for rule in dated if _applies(rule, number)), None)


def is_baseline(text: str | None) -> bool:
    """Return whether a text is a processing baseline that determines the scale."""
    return _number(text) not in {None, _REPROCESSED}


def _applies(rule: Radiometry, number: int) -> bool:
    since, until = _number(rule.since), _number(rule.until)
    return (since is None or since <= number) and (until is None or number < until)


def _number(baseline: str | None) -> int | None:
    """Return 400 for "04.00", "4.00", "N0400" or "0400"; `None` for other texts."""
    match = _BASELINE.fullmatch(baseline) if isinstance(baseline, str) else None
    return int(match[1] + match[2]) if match else None
