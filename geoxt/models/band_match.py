"""Match the bands of a model to those of a layer: by name, then by common name, then by wavelength."""

from __future__ import annotations

import math
from dataclasses import dataclass

from geoxt.errors import InputError

_TOLERANCE = 0.015
"""Greatest relative difference of the center wavelengths of one band: less than between Sentinel-2's B8 and B8A."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BandNames:
    """Names of bands, with their common names and wavelengths if known."""

    names: tuple[str, ...]
    """Name of each band."""
    common_names: tuple[str, ...] = ()
    """Common name of each band (`"red"`), "" if it has none; empty if none is known."""
    wavelengths: tuple[float, ...] = ()
    """Center wavelength of each band in micrometres, NaN if it has none; empty if none is known."""

    def __len__(self) -> int:
        return len(self.names)

    def common(self, index: int) -> str:
        """Return the common name of a band, "" if it has none."""
        return self.common_names[index].lower() if self.common_names else ""

    def wavelength(self, index: int) -> float:
        """Return the wavelength of a band, NaN if it has none."""
        return self.wavelengths[index] if self.wavelengths else math.nan

    def label(self, index: int) -> str:
        """Return the name of a band, with its common name if that differs."""
        name, common = self.names[index], self.common(index)
        return f"{name} ({common})" if common and common != name.lower() else name


def match_bands(requested: BandNames, available: BandNames) -> tuple[int | None, ...]:
    """Return the position of each requested band among the available ones, `None` for a band that is not available.

    A band is matched by its name; else by its common name, which may be a name of the other side; else by its
    wavelength, within 1.5 %.

    Raises
    ------
    InputError
        If bands of one name have different common names, or several bands match.
    """
    positions = tuple(_position(requested, index, available) for index in range(len(requested)))
    used = [position for position in positions if position is not None]
    for index, position in enumerate(positions):
        if position is not None and used.count(position) > 1:
            msg = f"Cannot match the bands {_labels(requested)} to {_labels(available)}: several match "
            msg += f"{available.label(position)!r}."
            raise InputError(msg, remedy=_remedy(requested, index), argument="bands")
    return positions


def _position(requested: BandNames, index: int, available: BandNames) -> int | None:
    name, common = requested.names[index], requested.common(index)
    if name in available.names:
        position = available.names.index(name)
        other = available.common(position)
        if common and other and common != other:
            msg = f"Cannot match the band {name!r} by its name: it is {common} in the model, and {other} in the layer."
            raise InputError(msg, remedy=_remedy(requested, index), value=name, argument="bands")
        return position
    keys = {name.lower(), common} - {""}
    by_common = [
        i
        for i in range(len(available))
        if available.common(i) in keys or (common and available.names[i].lower() == common)
    ]
    wavelength = requested.wavelength(index)
    by_wavelength = [
        i for i in range(len(available)) if abs(available.wavelength(i) - wavelength) <= _TOLERANCE * wavelength
    ]
    matches = by_common or by_wavelength
    if len(matches) > 1:
        listed = " and ".join(available.label(i) for i in matches)
        msg = f"Cannot match the band {requested.label(index)!r}: {listed} have its "
        msg += "common name." if by_common else "wavelength."
        raise InputError(msg, remedy=_remedy(requested, index), value=name, argument="bands")
    return matches[0] if matches else None


def _labels(bands: BandNames) -> str:
    return ", ".join(bands.label(index) for index in range(len(bands)))


def _remedy(requested: BandNames, index: int) -> str:
    return f"Pass {{bands}}, a mapping from {requested.names[index]!r} to the name of one band."
