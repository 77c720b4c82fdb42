"""Unknown keys of configurations, reported with the nearest known one."""

from __future__ import annotations

from collections.abc import Iterable

from geoxt.errors import InputError, did_you_mean


def require_known_keys(names: Iterable[str], allowed: Iterable[str], *, prefix: str = "") -> None:
    """Raise if a key is unknown.

    Parameters
    ----------
    names
        Keys to check.
    allowed
        Allowed keys.
    prefix
        Dotted path of the mapping that holds the keys, with a trailing dot.

    Raises
    ------
    InputError
        Names the unknown key, the nearest known one, and all known keys.

    Examples
    --------
    >>> require_known_keys(["rate"], ["lr", "loss"])
    Traceback (most recent call last):
    geoxt.errors.InputError: Cannot use the configuration key 'rate': the known keys are loss, lr. Remove it.
    """
    known = sorted(allowed)
    for name in names:
        if name in known:
            continue
        msg = f"Cannot use the configuration key '{prefix}{name}': the known keys are {', '.join(known)}."
        remedy = did_you_mean(name, {key: f"{prefix}{key}" for key in known}, count=1, cutoff=0.5) or "Remove it."
        raise InputError(msg, remedy=remedy, value=name)
