"""Quality bands of Landsat Collection 2."""

from __future__ import annotations

from geoxt.layers.products.qa import Flag, Qa

_CLOUD = ("not_set", "low", "medium", "high")
_LEVELS = ("not_set", "low", "reserved", "high")
_GROUPS = (("clouds", ("cloud", "dilated_cloud", "cirrus")), ("shadows", ("cloud_shadow",)))

FILL = Flag(name="fill", bit=0)
DILATED = Flag(name="dilated_cloud", bit=1)
CIRRUS = Flag(name="cirrus", bit=2)
CLOUD = Flag(name="cloud", bit=3)
CLOUD_CONFIDENCE = Flag(name="cloud_confidence", bit=8, length=2, values=_CLOUD)
_SURFACE = (
    Flag(name="cloud_shadow", bit=4),
    Flag(name="snow", bit=5),
    Flag(name="clear", bit=6),
    Flag(name="water", bit=7),
    CLOUD_CONFIDENCE,
    Flag(name="cloud_shadow_confidence", bit=10, length=2, values=_LEVELS),
    Flag(name="snow_confidence", bit=12, length=2, values=_LEVELS),
)
_CIRRUS_CONFIDENCE = Flag(name="cirrus_confidence", bit=14, length=2, values=_LEVELS)


def _pixel(*flags: Flag) -> Qa:
    names = {flag.name for flag in flags}
    groups = tuple((group, tuple(name for name in members if name in names)) for group, members in _GROUPS)
    return Qa(band="QA_PIXEL", flags=flags, groups=tuple(group for group in groups if group[1]), fill="fill")


def _radsat(bands: dict[str, int], **others: int) -> Qa:
    """Return the bit fields of the saturation band: one flag per band, and further flags."""
    flags = tuple(Flag(name=name, bit=bit) for name, bit in (bands | others).items())
    return Qa(band="QA_RADSAT", flags=flags, groups=(("saturated", tuple(bands)),))


PIXEL_OLI = _pixel(FILL, DILATED, CIRRUS, CLOUD, *_SURFACE, _CIRRUS_CONFIDENCE)
PIXEL_TM = _pixel(FILL, DILATED, CLOUD, *_SURFACE)
PIXEL_MSS = _pixel(FILL, CLOUD, Flag(name="cloud_confidence", bit=8, length=2, values=_LEVELS))

RADSAT_OLI = _radsat({f"band{n}": n - 1 for n in (1, 2, 3, 4, 5, 6, 7, 9)}, occlusion=11)
RADSAT_TM = _radsat({f"band{n}": n - 1 for n in range(1, 8)}, dropped=9)
RADSAT_ETM = _radsat(
    {**{f"band{n}": n - 1 for n in range(1, 6)}, "band6L": 5, "band7": 6, "band6H": 8},
    dropped=9,
)

AEROSOL = Qa(
    band="SR_QA_AEROSOL",
    flags=(
        FILL,
        Flag(name="retrieval", bit=1),
        Flag(name="water", bit=2),
        Flag(name="interpolated", bit=5),
        Flag(name="level", bit=6, length=2, values=("climatology", "low", "medium", "high")),
    ),
    fill="fill",
)
CLOUD_QA = Qa(
    band="SR_CLOUD_QA",
    flags=tuple(
        Flag(name=name, bit=bit)
        for bit, name in enumerate(("ddv", "cloud", "cloud_shadow", "cloud_adjacent", "snow", "water"))
    ),
    groups=(("clouds", ("cloud", "cloud_adjacent")), ("shadows", ("cloud_shadow",))),
)
