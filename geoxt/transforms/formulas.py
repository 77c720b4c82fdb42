"""Spectral indices as one table: each a formula over bands by common name, the same for numpy and for torch."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from geoxt.errors import InputError
from geoxt.transforms.symbols import Symbol

ALIASES: Mapping[str, tuple[str, ...]] = {
    "nir": ("nir", "nir08"),
    "rededge1": ("rededge1", "rededge071", "rededge"),
    "rededge2": ("rededge2", "rededge075"),
    "rededge3": ("rededge3", "rededge078"),
}
"""Names under which a catalog may give a band, the best first: Landsat's near infrared is the EO extension's `nir08`,
and its version 2 tells the red edge bands apart by wavelength."""
_PROBE = (0.07, 0.19, 0.31, 0.43, 0.61, 0.83)
"""Band values, all different, on which a formula shows whether the scale of its bands matters."""


def root(value: Any) -> Any:
    """Return the square root, correctly rounded: torch's own of float32 may be off by a bit on a CPU."""
    return value.double().sqrt().to(value.dtype) if isinstance(value, Tensor) else value**0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """One spectral index."""

    name: str
    """What users call it, and the name of its band."""
    title: str
    """Full name."""
    formula: Callable[..., Any]
    """Arithmetic over its bands, whose common names are the names of the arguments. Only `+ - * /`, `** 2` and `root`,
    and no number over an array but 1: torch and numpy then round alike."""
    cite: str
    """DOI or URL of the paper that defines it."""

    @property
    def bands(self) -> tuple[str, ...]:
        """Common names of the bands that it needs."""
        return tuple(inspect.signature(self.formula).parameters)

    @property
    def text(self) -> str:
        """The formula as one writes it."""
        return str(self.formula(*map(Symbol, self.bands)))

    @property
    def scale_free(self) -> bool:
        """Whether it is the same for reflectance and for any multiple of it, such as stored numbers without offset."""
        probe = _PROBE[: len(self.bands)]
        return bool(abs(self.formula(*probe) - self.formula(*(1024 * value for value in probe))) < 1e-9)


_TABLE = (
    Index(
        name="ndvi", title="normalised difference vegetation index", cite="https://ntrs.nasa.gov/citations/19740022614",
        formula=lambda nir, red: (nir - red) / (nir + red),
    ),
    Index(
        name="gndvi", title="green normalised difference vegetation index", cite="10.1016/S0034-4257(96)00072-7",
        formula=lambda nir, green: (nir - green) / (nir + green),
    ),
    Index(
        name="ndre", title="normalised difference red edge index", cite="10.1016/1011-1344(93)06963-4",
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
        name="osavi", title="optimised soil-adjusted vegetation index", cite="10.1016/0034-4257(95)00186-7",
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
        name="ndwi", title="normalised difference water index (McFeeters)", cite="10.1080/01431169608948714",
        formula=lambda green, nir: (green - nir) / (green + nir),
    ),
    Index(
        name="mndwi", title="modified normalised difference water index", cite="10.1080/01431160600589179",
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
        name="ndmi", title="normalised difference moisture index", cite="10.1016/S0034-4257(01)00318-2",
        formula=lambda nir, swir16: (nir - swir16) / (nir + swir16),
    ),
    Index(
        name="msi", title="moisture stress index", cite="10.1016/0034-4257(89)90046-1",
        formula=lambda swir16, nir: swir16 / nir,
    ),
    Index(
        name="ndci", title="normalised difference chlorophyll index (water)", cite="10.1016/j.rse.2011.10.016",
        formula=lambda rededge1, red: (rededge1 - red) / (rededge1 + red),
    ),
    Index(
        name="ndsi", title="normalised difference snow index", cite="10.1109/IGARSS.1994.399618",
        formula=lambda green, swir16: (green - swir16) / (green + swir16),
    ),
    Index(
        name="ndbi", title="normalised difference built-up index", cite="10.1080/01431160304987",
        formula=lambda swir16, nir: (swir16 - nir) / (swir16 + nir),
    ),
    Index(
        name="bsi", title="bare soil index",
        cite="https://citeseerx.ist.psu.edu/viewdoc/download?doi=10.1.1.465.8749",
        formula=lambda swir16, red, nir, blue: (swir16 + red - (nir + blue)) / (swir16 + red + (nir + blue)),
    ),
    Index(
        name="nbr", title="normalised burn ratio", cite="10.3133/ofr0211",
        formula=lambda nir, swir22: (nir - swir22) / (nir + swir22),
    ),
    Index(
        name="nbr2", title="normalised burn ratio 2",
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
    """Return the indices of some names, in their order; case does not matter.

    Raises
    ------
    InputError
        Where there is none of a name, or one is named twice.
    """
    wanted = [name.lower() for name in ([names] if isinstance(names, str) else names)]
    for name in wanted:
        if name not in INDICES:
            near = difflib.get_close_matches(name, INDICES, n=3)
            hint = f"Did you mean {' or '.join(near)}?" if near else f"Known are {', '.join(INDICES)}."
            msg = f"Cannot find a spectral index named {name!r}. {hint} Pass indices= of known ones."
            raise InputError(msg)
        if wanted.count(name) > 1:
            msg = f"Cannot append {name!r} twice. Pass indices= with each index once."
            raise InputError(msg)
    return tuple(INDICES[name] for name in wanted)


def evaluate(index: Index, bands: Sequence[Any], *, scale: float = 1.0, offset: float = 0.0) -> Any:
    """Return an index of bands (any kind of array) whose numbers times `scale` plus `offset` are physical values."""
    stored = (scale, offset) != (1.0, 0.0)
    return index.formula(*(band * scale + offset if stored else band for band in bands))


def find_bands(
    index: Index, names: Sequence[str], common: Sequence[str] = (), given: Mapping[str, str] | None = None
) -> tuple[int, ...]:
    """Return where the bands of an index stand among those of a layer or of a tensor.

    Parameters
    ----------
    index
        The index.
    names
        The bands' own names.
    common
        Their common names, "" where one has none.
    given
        Band of its own name by common name; goes before what the bands say of themselves.

    Raises
    ------
    InputError
        Where a band is missing, or a name means several.
    """
    return tuple(_place(index, band, names, common, given or {}) for band in index.bands)


def _place(index: Index, band: str, names: Sequence[str], common: Sequence[str], given: Mapping[str, str]) -> int:
    shown = [
        f"{name} ({other})" if other else name for name, other in zip(names, common or [""] * len(names), strict=True)
    ]
    if band in given:
        if given[band] not in names:
            msg = f"Cannot take {given[band]!r} as {band}: the bands are {', '.join(shown)}. Pass bands= of these."
            raise InputError(msg)
        return names.index(given[band])
    for alias in ALIASES.get(band, (band,)):
        for called in (common, names):
            found = [place for place, name in enumerate(called) if name.lower() == alias]
            if len(found) > 1:
                msg = f"Cannot choose the {band} band of {index.name}: {', '.join(shown[at] for at in found)} all are. "
                raise InputError(msg + f"Pass bands={{{band!r}: …}} with the name of one.")
            if found:
                return found[0]
    msg = f"Cannot compute {index.name} = {index.text}: no band is called {band}. The bands are {', '.join(shown)}. "
    raise InputError(msg + f"Pass bands={{{band!r}: …}} with the name of one, or open the layer with that band.")


def table() -> str:
    """Return the indices as a table in markdown."""
    rows = ["| name | index | formula | reference |", "|---|---|---|---|"]
    for index in INDICES.values():
        url = index.cite if index.cite.startswith("http") else f"https://doi.org/{index.cite}"
        rows.append(f"| `{index.name}` | {index.title} | `{index.text}` | [{index.cite}]({url}) |")
    return "\n".join(rows) + "\n"
