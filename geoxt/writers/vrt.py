"""Regions of a raster as files of their own, and a virtual file that puts them together."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import rasterio
from rasterio import dtypes
from rasterio.errors import NotGeoreferencedWarning

from geoxt.grid import grid_of
from geoxt.types import Array
from geoxt.writers.blocks import Regions
from geoxt.writers.staging import part

BLOCK = 512
"""Pixels: side of a COG's tiles, GDAL's own default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """Writes one region as a plain GeoTIFF of its own."""

    folder: Path
    """Where to."""

    def __call__(self, values: Array, index: int) -> int:
        """Write values ([band,] y, x), under their name once they are whole."""
        values = values.reshape(-1, *values.shape[-2:])
        path = part(self.folder, index)
        beside = path.with_suffix(f".{os.getpid()}")
        bands, rows, cols = values.shape
        profile: dict[str, Any] = {"driver": "GTiff", "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK}
        profile |= {"compress": "DEFLATE", "zlevel": 1, "count": bands, "height": rows, "width": cols}
        with _quiet(), rasterio.open(beside, "w", dtype=values.dtype, bigtiff="IF_SAFER", **profile) as file:
            file.write(values)
        beside.replace(path)
        return index


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out that a part has no place on Earth: the whole has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def assemble(regions: Regions, folder: Path) -> Path:
    """Return a virtual file (GDAL's VRT) of all parts."""
    layer, path = regions.layer, folder / "whole.vrt"
    grid = grid_of(layer)
    assert grid.crs is not None
    kind = dtypes.typename_fwd[dtypes.dtype_rev[layer.dtype.name]]
    bands = "".join(_band(regions, band, kind) for band in range(layer.sizes.get("band", 1)))
    numbers = ", ".join(map(repr, grid.affine.to_gdal()))
    size = f'rasterXSize="{grid.shape[1]}" rasterYSize="{grid.shape[0]}"'
    srs = escape(grid.crs.to_wkt())
    path.write_text(
        f"<VRTDataset {size}><SRS>{srs}</SRS><GeoTransform>{numbers}</GeoTransform>{bands}</VRTDataset>\n",
        encoding="utf-8",
    )
    return path


def _band(regions: Regions, band: int, kind: str) -> str:
    """Return one band of the virtual file: where each part lies."""
    sources = []
    for index, place in enumerate(regions.places):
        rows, cols = place[-2:]
        height, width = rows.stop - rows.start, cols.stop - cols.start
        size = f'xSize="{width}" ySize="{height}"'
        sources.append(
            f'<SimpleSource><SourceFilename relativeToVRT="1">{index:06d}.part</SourceFilename>'
            f"<SourceBand>{band + 1}</SourceBand>"
            f'<SourceProperties RasterXSize="{width}" RasterYSize="{height}" DataType="{kind}"/>'
            f'<SrcRect xOff="0" yOff="0" {size}/><DstRect xOff="{cols.start}" yOff="{rows.start}" {size}/>'
            "</SimpleSource>"
        )
    return f'<VRTRasterBand dataType="{kind}" band="{band + 1}">{"".join(sources)}</VRTRasterBand>'
