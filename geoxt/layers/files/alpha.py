"""Bands that files tag as alpha: valid masks, or data if the product or the caller names them.

GDAL tags the fourth band of many four-band files as alpha, such as the near infrared of aerial imagery.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

from geoxt.errors import GeoxtWarning, InputError
from geoxt.pixels.credentials import redact_url
from geoxt.pixels.reader import Header


def alpha_bands(header: Header) -> list[int]:
    """Return the numbers of the alpha bands of a file."""
    return [number for number, alpha in enumerate(header.alpha, 1) if alpha]


def data_bands(header: Header) -> list[int]:
    """Return the numbers of the bands of a file that are not alpha."""
    return [number for number, alpha in enumerate(header.alpha, 1) if not alpha]


def alpha_as_data(header: Header) -> Header:
    """Return the header of a file whose alpha band is data.

    Raises
    ------
    InputError
        If the file has a mask too, which GDAL returns only together with the alpha band.
    """
    if header.internal_mask:
        band = alpha_bands(header)[0]
        problem = f"Cannot take band {band} of {redact_url(header.href)} as data: it is tagged as alpha, beside a mask."
        raise InputError(problem, remedy=f"Remove the tag first (gdal_edit.py -colorinterp_{band} undefined).")
    return replace(header, alpha=(False,) * len(header.alpha), masked=(False,) * len(header.masked))


def resolve_alpha(headers: Sequence[Header], bands: Sequence[str]) -> list[Header]:
    """Return the headers of files of no known product; alpha bands that `bands` names are data.

    An alpha band is named by its description or its number, such as "band_4". One warning names the alpha bands that
    are taken as valid masks.
    """
    resolved: list[Header] = []
    masks: list[tuple[Header, str]] = []
    for header in headers:
        positions = alpha_bands(header)
        names = {f"band_{n}" for n in positions} | {str(header.names[n - 1]) for n in positions}
        if positions and names & set(bands):
            resolved.append(alpha_as_data(header))
            continue
        resolved.append(header)
        masks += [(header, "band") for _ in positions if len(header.alpha) > 1]
    warn_of_alpha(masks)
    return resolved


def warn_of_alpha(masks: Sequence[tuple[Header, str]]) -> None:
    """Warn once that alpha bands are taken as valid masks, and how to open them as data.

    `masks` has the headers of the files, and the text before the number in the names of their bands ("band").
    """
    if masks:
        header, name = masks[0]
        names = ", ".join(f"'{name}_{n}'" for n in range(1, len(header.alpha) + 1))
        number = alpha_bands(header)[0]
        msg = (
            f"Band {number} of {redact_url(header.href)} is tagged as alpha, and is taken as the valid mask"
            f"{f' (as in {len(masks) - 1} more files)' if len(masks) > 1 else ''}. If it is data, pass bands=[{names}]."
        )
        warnings.warn(msg, GeoxtWarning, stacklevel=5)
