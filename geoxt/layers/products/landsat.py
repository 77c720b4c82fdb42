"""Landsat 1 to 9, Collection 2: Level 1 (as measured) and Level 2 (surface reflectance and temperature)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from geoxt.layers.products import landsat_bands as bands
from geoxt.layers.products import landsat_qa as flags
from geoxt.layers.products.catalogs import earth_search, planetary_computer, usgs
from geoxt.layers.products.product import Band, Collection, Product, Sidecar
from geoxt.layers.products.qa import Qa
from geoxt.template import Template

_SCENE = (
    r"{level:[A-Z0-9]{4}}_{wrs_path:3d}{wrs_row:3d}_{date:%Y%m%d}_{processing_date:%Y%m%d}"
    r"_{collection:\d{2}}_{category:RT|T1|T2|A1|A2}"
)
_FILE = r"_{band:[A-Z0-9_]+}.{_ext:TIF|tif|jp2}"

_L1, _SR, _ST = ("B*", "QA_*"), ("SR_*", "QA_*"), ("ST_*",)
_USGS_L1 = usgs("landsat-c2l1", *_L1)
_LEVEL2 = (
    planetary_computer("landsat-c2-l2", *_SR, *_ST),
    earth_search("landsat-c2-l2", *_SR, *_ST, paid=True),
    usgs("landsat-c2l2-sr", *_SR),
    usgs("landsat-c2l2-st", *_ST),
    _USGS_L1,
)
_MTL = Sidecar(form="landsat-mtl", names=("{scene}_MTL.json", "{scene}_MTL.txt"), files=("B*",))
"""Covers Level 1 only: the scales of Level 2 are rules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Instrument:
    """Metadata that the satellites with an instrument share."""

    letters: str
    """Letters after the L of file names, separated by `|`."""
    names: tuple[str, ...]
    """Names in STAC's `instruments`."""
    bands: tuple[Band, ...]
    """Bands by number."""
    extras: tuple[Band, ...]
    """Further bands of its scenes."""
    default: tuple[str, ...]
    """Default bands."""
    rgb: tuple[str, str, str]
    """Bands to show as red, green and blue."""
    qa: tuple[Qa, ...]
    """Quality bands."""
    collections: tuple[Collection, ...]
    """STAC collections."""
    cite: str
    """DOI of the product with the highest processing level."""


_MSS = _Instrument(
    letters="M",
    names=("mss",),
    bands=bands.MSS,
    extras=bands.QUALITY,
    default=("B1", "B2", "B3", "B4"),
    rgb=("B3", "B2", "B1"),
    qa=(flags.PIXEL_MSS,),
    collections=(planetary_computer("landsat-c2-l1", *_L1), _USGS_L1),
    cite="10.5066/P9AF14YV",
)
_EARLY_MSS = replace(_MSS, bands=bands.EARLY_MSS, default=("B4", "B5", "B6", "B7"), rgb=("B6", "B5", "B4"))
_TM = _Instrument(
    letters="T",
    names=("tm",),
    bands=bands.TM,
    extras=bands.TM_EXTRAS,
    default=tuple(f"SR_B{n}" for n in (1, 2, 3, 4, 5, 7)),
    rgb=("SR_B3", "SR_B2", "SR_B1"),
    qa=(flags.PIXEL_TM, flags.RADSAT_TM, flags.CLOUD_QA),
    collections=_LEVEL2,
    cite="10.5066/P9IAXOVV",
)
_ETM = replace(
    _TM,
    letters="E",
    names=("etm",),
    bands=bands.ETM,
    extras=bands.ETM_EXTRAS,
    qa=(flags.PIXEL_TM, flags.RADSAT_ETM, flags.CLOUD_QA),
    cite="10.5066/P9C7I13B",
)
_OLI = _Instrument(
    letters="C|O|T",  # both instruments, the imager alone, the thermal sensor alone
    names=("oli", "tirs"),
    bands=bands.OLI,
    extras=bands.OLI_EXTRAS,
    default=tuple(f"SR_B{n}" for n in range(1, 8)),
    rgb=("SR_B4", "SR_B3", "SR_B2"),
    qa=(flags.PIXEL_OLI, flags.RADSAT_OLI, flags.AEROSOL),
    collections=_LEVEL2,
    cite="10.5066/P9OGBGM6",
)


def _spec(
    number: int, instrument: _Instrument, mission: tuple[str, str | None], label: str, suffix: str = ""
) -> Product:
    scene = f"L{{sensor:{instrument.letters}}}{number:02d}_{_SCENE}"
    return Product(
        name=f"landsat{number}{suffix}",
        title=f"Landsat {number} {label}",
        kind="image",
        bands=instrument.bands,
        extras=instrument.extras,
        default_bands=instrument.default,
        rgb=instrument.rgb,
        files=(Template(scene + _FILE),),
        scenes=(Template(scene), Template(f"{scene}.tar")),
        resolution=60 if "mss" in instrument.names else 30,
        nodata=0,
        dtypes=(*bands.DTYPES, ("B*", "uint16" if "oli" in instrument.names else "uint8")),
        rules=bands.RULES,
        sidecar=_MTL,
        qa=instrument.qa,
        collections=instrument.collections,
        platforms=(f"landsat-{number}",),
        instruments=instrument.names,
        mission=mission,
        license="public domain",
        cite=instrument.cite,
    )


# The last days of the missions are unverified.
PRODUCTS = (
    _spec(1, _EARLY_MSS, ("1972-07-23", "1978-01-06"), "MSS"),
    _spec(2, _EARLY_MSS, ("1975-01-22", "1982-02-25"), "MSS"),
    _spec(3, _EARLY_MSS, ("1978-03-05", "1983-03-31"), "MSS"),
    _spec(4, _MSS, ("1982-07-16", "1993-12-14"), "MSS", "mss"),
    _spec(4, _TM, ("1982-07-16", "1993-12-14"), "TM", "tm"),
    _spec(5, _MSS, ("1984-03-01", "2013-01-07"), "MSS", "mss"),
    _spec(5, _TM, ("1984-03-01", "2013-06-05"), "TM", "tm"),
    _spec(7, _ETM, ("1999-04-15", None), "ETM+"),  # striped from 2003-05-31 on: the scan line corrector failed
    _spec(8, _OLI, ("2013-02-11", None), "OLI and TIRS"),
    _spec(9, _OLI, ("2021-09-27", None), "OLI-2 and TIRS-2"),
)
