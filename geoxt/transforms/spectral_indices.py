"""Table of spectral indices: formulas over bands by common name, for numpy arrays and torch tensors alike."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from geoxt.errors import InputError, did_you_mean
from geoxt.torch_devices import to_float64
from geoxt.transforms.symbols import Symbol

ALIASES: Mapping[str, tuple[str, ...]] = {
    "nir": ("nir", "nir08"),
    "rededge1": ("rededge1", "rededge071", "rededge"),
    "rededge2": ("rededge2", "rededge075"),
    "rededge3": ("rededge3", "rededge078"),
}
"""Common names of a band in STAC catalogs, in order of preference: the near infrared of Landsat is `nir08` in the EO
extension, whose version 2 names the red edge bands by wavelength."""
_PROBE = (0.07, 0.19, 0.31, 0.43, 0.61, 0.83)
"""Distinct band values with which `Index.scale_free` tests whether a formula depends on the scale of its bands."""


def root(value: Any) -> Any:
    """Return the correctly rounded square root: torch's float32 `sqrt` can be off by one bit on a CPU."""
    return to_float64(value).sqrt().to(value) if isinstance(value, Tensor) else value**0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """One spectral index."""

    name: str
    """Name of the index and of its band."""
    title: str
    """Full name."""
    formula: Callable[..., Any]
    """Function of its bands, whose argument names are the bands' common names. Restricted to `+ - * /`, `** 2`, `root`
    and 1 / array, which torch and numpy round alike."""
    cite: str
    """DOI or URL of its definition."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Common names of its bands."""
        return tuple(inspect.signature(self.formula).parameters)

    @property
    def text(self) -> str:
        """The formula as text."""
        return str(self.formula(*map(Symbol, self.bands)))

    @property
    def scale_free(self) -> bool:
        """Whether scaling all bands by one factor leaves the index unchanged."""
        probe = _PROBE[: len(self.bands)]
        return bool(abs(self.formula(*probe) - self.formula(*(1024 * value for value in probe))) < 1e-9)


_TABLE = (
    Index(
        name="ndvi", title="normalized difference vegetation index", cite="https://ntrs.nasa.gov/citations/19740022614",
        formula=lambda nir, red: (nir - red) / (nir + red),
    ),
    Index(
        name="gndvi", title="green normalized difference vegetation index", cite="10.1016/S0034-4257(96)00072-7",
        formula=lambda nir, green: (nir - green) / (nir + green),
    ),
    Index(
        name="ndre", title="normalized difference red edge index", cite="10.1016/1011-1344(93)06963-4",
        formula=lambda nir, rededge1: (nir - rededge1) / (nir + rededge1),
    ),
    Index(
        name="evi", title="enhanced vegetation index", cite="10.1016/S0034-4257(96)00112-5",
        formula=lambda nir, red, blue: 2.5 * (nir - red) / (nir + 6 * red - 7.5 * blue + 1),
    ),
    Index(
        name="evi2", title="enhanced vegetation index of two bands", cite="10.1016/j.rse.2008.06.006",
        formula=lambda nir, red: 2.5 * (nir - red) / (nir + 2.4 * red + 1),
    ),
    Index(
        name="savi", title="soil-adjusted vegetation index", cite="10.1016/0034-4257(88)90106-X",
        formula=lambda nir, red: 1.5 * (nir - red) / (nir + red + 0.5),
    ),
    Index(
        name="msavi2", title="modified soil-adjusted vegetation index 2", cite="10.1016/0034-4257(94)90134-1",
        formula=lambda nir, red: 0.5 * (2 * nir + 1 - root((2 * nir + 1) ** 2 - 8 * (nir - red))),
    ),
    Index(
        name="osavi", title="optimized soil-adjusted vegetation index", cite="10.1016/0034-4257(95)00186-7",
        formula=lambda nir, red: (nir - red) / (nir + red + 0.16),
    ),
    Index(
        name="arvi", title="atmospherically resistant vegetation index", cite="10.1109/36.134076",
        formula=lambda nir, red, blue: (nir - (2 * red - blue)) / (nir + (2 * red - blue)),
    ),
    Index(
        name="vari", title="visible atmospherically resistant index", cite="10.1016/S0034-4257(01)00289-9",
        formula=lambda green, red, blue: (green - red) / (green + red - blue),
    ),
    Index(
        name="gli", title="green leaf index", cite="10.1080/10106040108542184",
        formula=lambda green, red, blue: (2 * green - red - blue) / (2 * green + red + blue),
    ),
    Index(
        name="cire", title="red edge chlorophyll index", cite="10.1078/0176-1617-00887",
        formula=lambda nir, rededge1: nir / rededge1 - 1,
    ),
    Index(
        name="cig", title="green chlorophyll index", cite="10.1078/0176-1617-00887",
        formula=lambda nir, green: nir / green - 1,
    ),
    Index(
        name="mcari", title="modified chlorophyll absorption ratio index", cite="10.1016/S0034-4257(00)00113-9",
        formula=lambda rededge1, red, green: (rededge1 - red - 0.2 * (rededge1 - green)) * (rededge1 / red),
    ),
    Index(
        name="tcari", title="transformed chlorophyll absorption ratio index", cite="10.1016/S0034-4257(02)00018-4",
        formula=lambda rededge1, red, green: 3 * (rededge1 - red - 0.2 * (rededge1 - green) * (rededge1 / red)),
    ),
    Index(
        name="psri", title="plant senescence reflectance index", cite="10.1034/j.1399-3054.1999.106119.x",
        formula=lambda red, blue, rededge2: (red - blue) / rededge2,
    ),
    Index(
        name="ndwi", title="normalized difference water index (McFeeters)", cite="10.1080/01431169608948714",
        formula=lambda green, nir: (green - nir) / (green + nir),
    ),
    Index(
        name="mndwi", title="modified normalized difference water index", cite="10.1080/01431160600589179",
        formula=lambda green, swir16: (green - swir16) / (green + swir16),
    ),
    Index(
        name="awei_nsh", title="automated water extraction index, no shadows", cite="10.1016/j.rse.2013.08.029",
        formula=lambda green, swir16, nir, swir22: 4 * (green - swir16) - (0.25 * nir + 2.75 * swir22),
    ),
    Index(
        name="awei_sh", title="automated water extraction index, shadows", cite="10.1016/j.rse.2013.08.029",
        formula=lambda blue, green, nir, swir16, swir22: blue + 2.5 * green - 1.5 * (nir + swir16) - 0.25 * swir22,
    ),
    Index(
        name="ndmi", title="normalized difference moisture index", cite="10.1016/S0034-4257(01)00318-2",
        formula=lambda nir, swir16: (nir - swir16) / (nir + swir16),
    ),
    Index(
        name="msi", title="moisture stress index", cite="10.1016/0034-4257(89)90046-1",
        formula=lambda swir16, nir: swir16 / nir,
    ),
    Index(
        name="ndci", title="normalized difference chlorophyll index (water)", cite="10.1016/j.rse.2011.10.016",
        formula=lambda rededge1, red: (rededge1 - red) / (rededge1 + red),
    ),
    Index(
        name="ndsi", title="normalized difference snow index", cite="10.1109/IGARSS.1994.399618",
        formula=lambda green, swir16: (green - swir16) / (green + swir16),
    ),
    Index(
        name="ndbi", title="normalized difference built-up index", cite="10.1080/01431160304987",
        formula=lambda swir16, nir: (swir16 - nir) / (swir16 + nir),
    ),
    Index(
        name="bsi", title="bare soil index",
        cite="https://citeseerx.ist.psu.edu/viewdoc/download?doi=10.1.1.465.8749",
        formula=lambda swir16, red, nir, blue: (swir16 + red - (nir + blue)) / (swir16 + red + (nir + blue)),
    ),
    Index(
        name="nbr", title="normalized burn ratio", cite="10.3133/ofr0211",
        formula=lambda nir, swir22: (nir - swir22) / (nir + swir22),
    ),
    Index(
        name="nbr2", title="normalized burn ratio 2",
        cite="https://www.usgs.gov/landsat-missions/landsat-normalized-burn-ratio-2",
        formula=lambda swir16, swir22: (swir16 - swir22) / (swir16 + swir22),
    ),
    Index(
        name="bai", title="burned area index",
        cite="https://digital.csic.es/bitstream/10261/6426/1/Martin_Isabel_Serie_Geografica.pdf",
        formula=lambda red, nir: 1 / ((0.1 - red) ** 2 + (0.06 - nir) ** 2),
    ),
)  # fmt: skip
INDICES: Mapping[str, Index] = {index.name: index for index in _TABLE}
"""The spectral indices by name."""


def indices_of(names: str | Iterable[str]) -> tuple[Index, ...]:
    """Return the indices with the given names, in order. Names are not case-sensitive.

    Raises
    ------
    InputError
        If a name is unknown or given twice.
    """
    lowered = [name.lower() for name in ([names] if isinstance(names, str) else names)]
    for name in lowered:
        if name not in INDICES:
            hint = did_you_mean(name, INDICES.keys()) or f"Available: {', '.join(INDICES)}."
            msg = f"Cannot find a spectral index named {name!r}. {hint}"
            raise InputError(msg, remedy="Pass names of `geoxt.indices.INDICES` as {indices}.")
        if lowered.count(name) > 1:
            raise InputError(f"Cannot append {name!r} twice.", remedy="Pass each index once in {indices}.")
    return tuple(INDICES[name] for name in lowered)


def evaluate(index: Index, bands: Sequence[Any], *, scale: float = 1.0, offset: float = 0.0) -> Any:
    """Compute an index from arrays of its bands, with physical value = band * `scale` + `offset`."""
    scaled = (scale, offset) != (1.0, 0.0)
    return index.formula(*(band * scale + offset if scaled else band for band in bands))


def find_bands(
    index: Index, names: Sequence[str], common: Sequence[str] = (), mapping: Mapping[str, str] | None = None
) -> tuple[int, ...]:
    """Return the positions of an index's bands among the bands of a layer or tensor.

    Parameters
    ----------
    index
        The index.
    names
        Band names.
    common
        Common names of the bands, "" for a band without one.
    mapping
        Band name by common name; takes precedence over `common`.

    Raises
    ------
    InputError
        If a band is missing or ambiguous.
    """
    return tuple(_band_position(index, band, names, common, mapping or {}) for band in index.bands)


def _band_position(
    index: Index, band: str, names: Sequence[str], common: Sequence[str], mapping: Mapping[str, str]
) -> int:
    labels = [
        f"{name} ({other})" if other else name for name, other in zip(names, common or [""] * len(names), strict=True)
    ]
    if band in mapping:
        if mapping[band] not in names:
            msg = f"Cannot use {mapping[band]!r} as the {band} band: the bands are {', '.join(labels)}."
            raise InputError(msg, remedy="Pass names of these bands in {bands}.")
        return names.index(mapping[band])
    for alias in ALIASES.get(band, (band,)):
        for candidates in (common, names):
            positions = [position for position, name in enumerate(candidates) if name.lower() == alias]
            if len(positions) > 1:
                msg = f"Cannot choose the {band} band of {index.name}: "
                msg += f"{', '.join(labels[position] for position in positions)} all have this name."
                raise InputError(msg, remedy=f"Pass {{bands}}, a mapping from {band!r} to the name of one band.")
            if positions:
                return positions[0]
    msg = f"Cannot compute {index.name} = {index.text}: no band is named {band}. The bands are {', '.join(labels)}."
    remedy = f"Pass {{bands}}, a mapping from {band!r} to a band name. Or open the layer with that band."
    raise InputError(msg, remedy=remedy)


def table() -> str:
    """Return a Markdown table of all indices.

    Examples
    --------
    >>> print(table().splitlines()[0])
    | name | index | formula | reference |
    """
    rows = ["| name | index | formula | reference |", "|---|---|---|---|"]
    for index in INDICES.values():
        url = index.cite if index.cite.startswith("http") else f"https://doi.org/{index.cite}"
        rows.append(f"| `{index.name}` | {index.title} | `{index.text}` | [{index.cite}]({url}) |")
    return "\n".join(rows) + "\n"
