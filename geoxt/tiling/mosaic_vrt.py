"""Virtual raster (GDAL VRT) over the files of a tiled map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import rasterio
import xarray as xr
from rasterio import dtypes

from geoxt.grid import grid_of
from geoxt.legend import Legend
from geoxt.source import is_categorical, nodata_of
from geoxt.storage import atomic_write
from geoxt.tiling.map_tile import MapTile
from geoxt.writers.vrt import BLOCK


def write_mosaic(path: Path, layer: xr.DataArray, files: Sequence[tuple[MapTile, Path]]) -> None:
    """Write the virtual raster of finished map tiles, on the grid of the map; pixels of other tiles are nodata.

    Overlapping tiles have equal pixels, so that their order has no effect.

    Parameters
    ----------
    path
        Path of the output; files are referenced relatively to it.
    layer
        The map.
    files
        Map tiles and their files, at least one.
    """
    grid = grid_of(layer)
    assert grid.crs is not None
    with rasterio.open(files[0][1]) as first:
        kind, descriptions = dtypes.typename_fwd[dtypes.dtype_rev[first.dtypes[0]]], first.descriptions
    bands = "".join(
        _band(number, kind, description, layer, [_source(number, *file, path.parent, kind) for file in files])
        for number, description in enumerate(descriptions, start=1)
    )
    numbers = ", ".join(map(repr, grid.affine.to_gdal()))
    size = f'rasterXSize="{grid.shape[1]}" rasterYSize="{grid.shape[0]}"'
    srs = f"<SRS>{escape(grid.crs.to_wkt())}</SRS>"
    text = f"<VRTDataset {size}>{srs}<GeoTransform>{numbers}</GeoTransform>{bands}</VRTDataset>\n"
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _source(band: int, tile: MapTile, file: Path, folder: Path, kind: str) -> str:
    """Return the XML of one file in a band. GDAL opens files with stated properties when they are read, not before."""
    window = tile.window
    assert window is not None
    size = f'xSize="{window.width}" ySize="{window.height}"'
    name = escape(file.relative_to(folder).as_posix())
    properties = f'RasterXSize="{window.width}" RasterYSize="{window.height}" DataType="{kind}"'
    return (
        f'<SimpleSource><SourceFilename relativeToVRT="1">{name}</SourceFilename><SourceBand>{band}</SourceBand>'
        f'<SourceProperties {properties} BlockXSize="{BLOCK}" BlockYSize="{BLOCK}"/>'
        f'<SrcRect xOff="0" yOff="0" {size}/><DstRect xOff="{window.col}" yOff="{window.row}" {size}/></SimpleSource>'
    )


def _band(number: int, kind: str, description: str | None, layer: xr.DataArray, sources: list[str]) -> str:
    parts, nodata = [], nodata_of(layer)
    if description:
        parts.append(f"<Description>{escape(description)}</Description>")
    if nodata is not None:
        parts.append(f"<NoDataValue>{nodata!r}</NoDataValue>")
    legend = Legend.of(layer) if is_categorical(layer) else None
    if legend:
        tags = {key: " ".join(map(str, np.atleast_1d(value))) for key, value in legend.attrs().items()}
        items = "".join(f"<MDI key={quoteattr(key)}>{escape(value)}</MDI>" for key, value in tags.items())
        parts.append(f"<Metadata>{items}</Metadata>")
        if layer.dtype == np.uint8 and "band" not in layer.dims:
            colors = legend.colormap()
            entries = (colors.get(code, (0, 0, 0, 255)) for code in range(max(colors) + 1))
            rows = "".join('<Entry c1="{}" c2="{}" c3="{}" c4="{}"/>'.format(*color) for color in entries)
            parts.append(f"<ColorInterp>Palette</ColorInterp><ColorTable>{rows}</ColorTable>")
    content = "".join([*parts, *sources])
    return f'<VRTRasterBand dataType="{kind}" band="{number}">{content}</VRTRasterBand>'
