"""The single PROJ operation between two CRSs that is given to GDAL's warper, which else chooses one per point."""

from __future__ import annotations

import pyproj
from odc.geo import CRS
from odc.geo.geobox import GeoBox

from geoxt.grid import has_several_operations, transformer, transformer_to

_SWAP = "axisswap order=2,1"
_PIPELINE = "proj=pipeline step "
_OPPOSITE = {"omit_fwd": "omit_inv", "omit_inv": "omit_fwd"}


def pinned_operation(source: GeoBox, crs: CRS | None) -> str | None:
    """Return GDAL's option COORDINATE_OPERATION from the CRS of a grid to another: that of `geoxt.grid.transformer_to`.

    It is `None` if PROJ knows one operation, or none at the grid's centre. GDAL expects the axes in the order of each
    CRS's definition, such as latitude before longitude.
    """
    operation = transformer_to(source, crs)
    if not has_several_operations(transformer(crs, source.crs)) or has_several_operations(operation):
        return None
    assert source.crs is not None
    assert crs is not None
    swaps = [[f"step proj={_SWAP}"] if _is_northing_first(c.proj) else [] for c in (source.crs, crs)]
    return " ".join(["proj=pipeline", *swaps[0], _inverse(operation.definition), *swaps[1]])


def _inverse(definition: str) -> str:
    """Return the steps of the inverse of an operation: its steps in reverse, each inverted."""
    steps = []
    for step in reversed(definition.removeprefix(_PIPELINE).split(" step ")):
        words = [_OPPOSITE.get(word, word) for word in step.split()]
        steps.append(["step", *words[1:]] if words[0] == "inv" else ["step", "inv", *words])
    return " ".join(word for step in steps for word in step)


def _is_northing_first(crs: pyproj.CRS) -> bool:
    """Return whether GDAL swaps the axes of a CRS, to have x before y."""
    axes = crs.axis_info
    return bool(axes) and axes[0].direction in {"north", "south"} and axes[1].direction in {"east", "west"}
