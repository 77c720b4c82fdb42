"""A small world on disk: Landsat-like scenes in two UTM zones, land cover in Albers, and their STAC catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.warp import transform_bounds

from geoxt.testing.cogs import write_bands, write_cog
from geoxt.testing.land import Land, make_land
from geoxt.testing.landscape import BANDS, CLASSES
from geoxt.testing.sensor import ALBERS, OFFSET, SCALE, corners, label, observe
from geoxt.testing.stac import Band, Category, make_item, write_catalog, write_items

__all__ = ["World", "make_world"]

_MIDDLE = (-90.0, 41.2)  # longitude, latitude: where UTM zones 15 and 16 meet
_OVERLAP = 0.22  # of a scene's side, with the adjacent scene; the minimum for rotated footprints to meet
_WAVELENGTHS = (0.48, 0.56, 0.65, 0.86, 1.6, 2.2)  # micrometres, of Landsat 8's bands 2 to 7


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """A scene to simulate: CRS, path and row, day, and its side of the center."""

    crs: str
    row: str
    day: str
    side: tuple[int, int]


# Scenes of one zone overlap from north to south, those of one row from west to east.
_PASSES = (
    _Pass(crs="EPSG:32615", row="024031", day="20190708", side=(-1, 1)),
    _Pass(crs="EPSG:32616", row="023031", day="20190701", side=(1, 1)),
    _Pass(crs="EPSG:32615", row="024032", day="20190708", side=(-1, -1)),
    _Pass(crs="EPSG:32616", row="023032", day="20190701", side=(1, -1)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A generated world: its files, grids and classes."""

    root: Path
    """Root folder."""
    catalog: Path
    """Static STAC catalog, with collections "landsat-c2-l2" and "usda-cdl"."""
    items: Path
    """The same items as one ItemCollection file."""
    images: str
    """Glob pattern of the scenes' files, one file per band."""
    labels: Path
    """Land cover: uint8 codes of `codes`, EPSG:5070, 0 is nodata."""
    scenes: Mapping[str, tuple[Path, ...]]
    """Files of each scene in the order of `bands`, by the scene's id: uint16, 0 is nodata."""
    grids: Mapping[str, GeoBox]
    """Grid of each scene, by its id."""
    label_grid: GeoBox
    """Grid of `labels`."""
    bands: tuple[str, ...]
    """STAC common names."""
    codes: tuple[int, ...]
    """Code of each class in `labels`."""
    names: tuple[str, ...]
    """Name of each class."""
    colors: tuple[str, ...]
    """"#rrggbb" of each class."""


def make_world(
    root: str | Path,
    *,
    seed: int = 0,
    size: int = 704,
    scenes: int = 4,
    resolution: float = 30.0,
    blocksize: int = 256,
    compress: str = "deflate",
) -> World:
    """
    Generate a small world of Landsat-like scenes, land cover and their STAC catalog.

    Corn and soybeans, and forest and wetlands, have nearly the same mean spectrum and differ by texture, so that a
    model of neighborhoods scores higher than a model of single pixels. Scenes and land cover are samples of one
    continuous landscape, and so agree where they overlap.

    Parameters
    ----------
    root
        Output folder, which gets ``landsat/``, ``cdl/`` and ``catalog.json``.
    seed
        Random seed.
    size
        Height and width of a scene, in pixels.
    scenes
        Number of scenes, 1 to 4. They alternate between EPSG:32615 and EPSG:32616.
    resolution
        Pixel size, in meters.
    blocksize
        Height and width of a tile of the files, in pixels.
    compress
        Compression of the files, by GDAL's names.

    Examples
    --------
    >>> import tempfile
    >>> world = make_world(tempfile.mkdtemp(), size=128, scenes=1, blocksize=64)
    >>> sorted(path.name for path in world.root.iterdir())
    ['catalog.json', 'cdl', 'items.json', 'landsat', 'landsat-c2-l2', 'usda-cdl']
    """
    root = Path(root).absolute()
    land = make_land(seed, Transformer.from_crs("EPSG:4326", ALBERS, always_xy=True).transform(*_MIDDLE))
    creation: dict[str, Any] = {"blocksize": blocksize, "compress": compress, "predictor": 2}
    creation |= {"predictor": 1} if compress.lower() in ("none", "packbits") else {}
    grids, files, items = {}, {}, []
    for index, scene in enumerate(_PASSES[:scenes]):
        name = f"LC08_L2SP_{scene.row}_{scene.day}_20200827_02_T1"
        grids[name] = _scene_grid(scene, size, resolution)
        files[name] = _write_scene(root, name, land, grids[name], seed=1_000 * seed + index, **creation)
        items.append(_scene_item(name, files[name], grids[name], scene))
    label_grid = _label_grid(tuple(grids.values()), resolution)
    labels = _write_labels(root / "cdl" / "2019_30m_cdls.tif", land, label_grid, **creation)
    items.append(_label_item(labels))
    titles = {"landsat-c2-l2": "Landsat-like surface reflectance", "usda-cdl": "Land cover"}
    return World(
        root=root,
        catalog=write_catalog(root, items, name="world", titles=titles),
        items=write_items(root / "items.json", items),
        images=str(root / "landsat" / "*_SR_B[2-7].TIF"),
        labels=labels,
        scenes=files,
        grids=grids,
        label_grid=label_grid,
        bands=BANDS,
        codes=tuple(item.code for item in CLASSES),
        names=tuple(item.name for item in CLASSES),
        colors=tuple(item.color for item in CLASSES),
    )


def _scene_grid(scene: _Pass, size: int, resolution: float) -> GeoBox:
    """Return the grid of a scene, its edges on Landsat's lattice: half a pixel off the multiples of a pixel."""
    x, y = Transformer.from_crs("EPSG:4326", scene.crs, always_xy=True).transform(*_MIDDLE)
    step = size * resolution * (1 - _OVERLAP) / 2
    half = size * resolution / 2
    left, top = x + scene.side[0] * step - half, y + scene.side[1] * step + half
    return GeoBox((size, size), _lattice(left, top, resolution), scene.crs)


def _label_grid(scenes: tuple[GeoBox, ...], resolution: float) -> GeoBox:
    """Return a grid that covers all scenes with a margin of ten pixels."""
    boxes = [transform_bounds(str(scene.crs), ALBERS, *scene.boundingbox.bbox, densify_pts=21) for scene in scenes]
    margin = 10 * resolution
    left, bottom = (min(box[side] for box in boxes) - margin for side in (0, 1))
    right, top = (max(box[side] for box in boxes) + margin for side in (2, 3))
    shape = (int(np.ceil((top - bottom) / resolution)) + 1, int(np.ceil((right - left) / resolution)) + 1)
    return GeoBox(shape, _lattice(left, top, resolution), ALBERS)


def _lattice(left: float, top: float, resolution: float) -> Affine:
    left, top = (np.floor(edge / resolution) * resolution + resolution / 2 for edge in (left, top))
    return Affine(resolution, 0, float(left), 0, -resolution, float(top))


def _write_scene(root: Path, name: str, land: Land, grid: GeoBox, *, seed: int, **creation: Any) -> tuple[Path, ...]:
    values = observe(land, grid, seed=seed)
    files = [f"{name}_SR_B{number}.TIF" for number in range(2, 8)]
    return write_bands(root / "landsat", values, names=files, grid=grid, nodata=0, **creation)


def _write_labels(path: Path, land: Land, grid: GeoBox, **creation: Any) -> Path:
    names, colors = ({item.code: getattr(item, field) for item in CLASSES} for field in ("name", "color"))
    return write_cog(path, label(land, grid), grid=grid, nodata=0, names=names, colors=colors, **creation)


def _scene_item(name: str, files: tuple[Path, ...], grid: GeoBox, scene: _Pass) -> pystac.Item:
    bands = {
        common: Band(name=f"SR_B{number}", common_name=common, wavelength=wavelength, scale=SCALE, offset=OFFSET)
        for number, (common, wavelength) in enumerate(zip(BANDS, _WAVELENGTHS, strict=True), start=2)
    }
    path, row = scene.row[:3], scene.row[3:]
    return make_item(
        name,
        dict(zip(BANDS, files, strict=True)),
        time=datetime.strptime(f"{scene.day} 16:45 +0000", "%Y%m%d %H:%M %z"),
        collection="landsat-c2-l2",
        bands=bands,
        footprint=_outline(grid),
        platform="landsat-8",
        instruments=["oli"],
        gsd=grid.affine.a,
        eo__cloud_cover=0,
        landsat__wrs_path=path,
        landsat__wrs_row=row,
    )


def _outline(grid: GeoBox) -> list[tuple[float, float]]:
    height, width = grid.shape.yx
    return [grid.affine @ (col * width, row * height) for col, row in corners()]


def _label_item(path: Path) -> pystac.Item:
    return make_item(
        path.stem,
        {"cropland": path},
        time=(datetime(2019, 1, 1, tzinfo=UTC), datetime(2019, 12, 31, 23, 59, 59, tzinfo=UTC)),
        collection="usda-cdl",
        categories=[Category(value=item.code, name=item.name, color=item.color) for item in CLASSES],
    )
