"""Blocks of a raster as separate GeoTIFFs, and a virtual raster (GDAL VRT) that combines them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import rasterio
from rasterio import dtypes

from geoxt.grid import grid_of
from geoxt.source import nodata_of
from geoxt.storage import atomic_write
from geoxt.types import Array
from geoxt.writers.blocks import Blocks
from geoxt.writers.complete import require_complete
from geoxt.writers.staging import block_file

BLOCK = 512
"""Pixels: side of a COG's internal tiles, GDAL's default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveGeoTIFF:
    """Writes one block as a plain GeoTIFF."""

    folder: Path
    """Folder of the blocks."""

    def __call__(self, values: Array, index: int) -> int:
        """Write values ([band,] y, x)."""
        values = values.reshape(-1, *values.shape[-2:])
        bands, rows, cols = values.shape
        profile: dict[str, Any] = {"driver": "GTiff", "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK}
        profile |= {"compress": "DEFLATE", "zlevel": 1, "count": bands, "height": rows, "width": cols}
        # Position and CRS are those of the virtual raster. Without any, rasterio warns, and threads that write at once
        # cannot ignore a warning: the filters belong to the process.
        profile |= {"transform": rasterio.Affine(1, 0, 0, 0, -1, rows)}
        with atomic_write(block_file(self.folder, index), fsync=False) as path:
            with rasterio.open(path, "w", dtype=values.dtype, bigtiff="IF_SAFER", **profile) as file:
                file.write(values)
            require_complete(path)
        return index


def write_vrt(blocks: Blocks, folder: Path) -> Path:
    """Write the virtual raster of all blocks and return its path."""
    layer, path = blocks.layer, folder / "blocks.vrt"
    grid = grid_of(layer)
    assert grid.crs is not None
    kind = dtypes.typename_fwd[dtypes.dtype_rev[layer.dtype.name]]
    bands = "".join(_band(blocks, band, kind) for band in range(layer.sizes.get("band", 1)))
    numbers = ", ".join(map(repr, grid.affine.to_gdal()))
    size = f'rasterXSize="{grid.shape[1]}" rasterYSize="{grid.shape[0]}"'
    srs = escape(grid.crs.to_wkt())
    path.write_text(
        f"<VRTDataset {size}><SRS>{srs}</SRS><GeoTransform>{numbers}</GeoTransform>{bands}</VRTDataset>\n",
        encoding="utf-8",
    )
    return path


def _band(blocks: Blocks, band: int, kind: str) -> str:
    """Return the XML of one band: the position of each block."""
    sources = []
    for index, slices in enumerate(blocks.slices):
        rows, cols = slices[-2:]
        height, width = rows.stop - rows.start, cols.stop - cols.start
        size = f'xSize="{width}" ySize="{height}"'
        sources.append(
            f'<SimpleSource><SourceFilename relativeToVRT="1">{index:06d}.part</SourceFilename>'
            f"<SourceBand>{band + 1}</SourceBand>"
            f'<SourceProperties RasterXSize="{width}" RasterYSize="{height}" DataType="{kind}"/>'
            f'<SrcRect xOff="0" yOff="0" {size}/><DstRect xOff="{cols.start}" yOff="{rows.start}" {size}/>'
            "</SimpleSource>"
        )
    nodata = nodata_of(blocks.layer)
    if nodata is None and blocks.layer.dtype.kind == "f":
        nodata = float("nan")
    # As text, since rasterio sets a float64, of which GDAL takes an int64 -2**63 for -9.
    stated = "" if nodata is None else f"<NoDataValue>{nodata!r}</NoDataValue>"
    return f'<VRTRasterBand dataType="{kind}" band="{band + 1}">{stated}{"".join(sources)}</VRTRasterBand>'
