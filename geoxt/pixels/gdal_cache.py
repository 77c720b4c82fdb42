"""Size limit of GDAL's cache of decoded blocks, which all files and threads of a process share.

GDAL's default is 5 % of the machine's memory for each process: 25 GB, times the workers of a loader, on 512 GB.
"""

from __future__ import annotations

import os

from rasterio.env import get_gdal_config, getenv, hasenv, set_gdal_config

from geoxt.errors import InputError

OPTION = "GDAL_CACHEMAX"
"""GDAL's option; https://gdal.org/en/stable/user/configoptions.html."""
MAX_BYTES = 512_000_000
"""Default bound of geoxt, in bytes."""
_MEGABYTES_BELOW = 100_000
"""Numbers below are megabytes, as in GDAL."""
_lowered = False
"""Whether the default bound was applied in this process."""


def limit_gdal_cache(option: str | None = None) -> None:
    """Bound GDAL's block cache of this process.

    Parameters
    ----------
    option
        Value of `GDAL_CACHEMAX`: megabytes, bytes from 100,000 on, or a percentage of the memory ("5%"). By default
        the cache is lowered to `MAX_BYTES` once, unless the environment or an enclosing `rasterio.Env` has the option.

    Raises
    ------
    InputError
        If the option has another value.
    """
    global _lowered  # noqa: PLW0603 (the cache is one per process too)
    if option is not None:
        size = _parse(option)
        if get_gdal_config(OPTION) != size:
            set_gdal_config(OPTION, size)
    elif not _lowered and not (hasenv() and OPTION in getenv()):  # rasterio.Env restores GDAL's value at its end
        _lowered = True
        if OPTION not in os.environ and get_gdal_config(OPTION) > MAX_BYTES:
            set_gdal_config(OPTION, MAX_BYTES)


def _parse(option: str) -> int:
    """Return the bytes of a value of `GDAL_CACHEMAX`."""
    try:
        if option.strip().endswith("%"):
            memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
            size = int(memory * float(option.strip()[:-1]) / 100)
        else:
            size = int(option)
            size = size * 2**20 if abs(size) < _MEGABYTES_BELOW else size
        if size >= 0:
            return size
    except (ValueError, OverflowError, AttributeError):  # there is no sysconf on Windows
        pass
    raise InputError(
        f"Cannot use {OPTION}={option!r}.",
        remedy=f"Pass {{env}} with {OPTION} in megabytes (512), in bytes (512000000), or as a percentage (5%).",
        value=option,
        argument="env",
    )
