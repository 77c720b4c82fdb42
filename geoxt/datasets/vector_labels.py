"""Vector files and COCO boxes of one sample -> codes on its image's grid, rectangles, outlines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.features
import shapely
from odc.geo.geobox import GeoBox

from geoxt.datasets.assets import Boxes, Vector
from geoxt.errors import LabelError, ReadError
from geoxt.grid import parse_crs, transformer
from geoxt.legend import Legend
from geoxt.pixels.vector_file import read_features, read_vector_header
from geoxt.template import Fields, Template
from geoxt.types import Array

JSON = (".geojson", ".json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A vector file on an image's grid."""

    asset: Vector
    """What its shapes are."""
    path: str
    """The file."""

    def read(self, grid: GeoBox | None, legend: Legend | None) -> Array:
        """Return codes (y, x) on a grid.

        Raises
        ------
        ReadError
            Where the image has no grid to draw on, or the file cannot be read.
        LabelError
            Where a shape has a code that is no class.
        """
        if grid is None:
            msg = f"Cannot draw {self.path!r}: the image of its sample has no CRS. Fetch the dataset again."
            raise ReadError(msg)
        found = self._drawn(grid, legend)
        kind = np.int32 if self.asset.value == "number" or not legend else np.min_scalar_type(max(legend.codes))
        if not found:
            return np.zeros(grid.shape, kind)
        return rasterio.features.rasterize(found, grid.shape.yx, transform=grid.affine, dtype="int32").astype(kind)

    def _drawn(self, grid: GeoBox, legend: Legend | None) -> list[tuple[Any, int]]:
        geometries, values, crs = self._features()
        move = transformer(parse_crs(crs), grid.crs)
        out = []
        for number, (geometry, value) in enumerate(zip(geometries, values, strict=True), start=1):
            if geometry is None or geometry.is_empty:
                continue
            code = int(value) if self.asset.column else number if self.asset.value == "number" else self.asset.value
            if self.asset.value != "number" and legend and code not in legend.codes:
                msg = f"Cannot tell the class of shape {number} in {self.path!r}: {code} is none of {legend.codes}. "
                raise LabelError(msg + "Fetch the dataset again.")
            out.append((shapely.transform(geometry, partial(_moved, move)), int(code)))
        return out

    def _features(self) -> tuple[Any, Any, Any]:
        if Path(self.path).suffix in JSON:
            return self._geojson()
        header = read_vector_header(self.path, crs=self.asset.crs)
        found = read_features(header, columns=[self.asset.column] if self.asset.column else [])
        values = found.columns[self.asset.column] if self.asset.column else found.ids
        return found.geometry, values, header.crs

    def _geojson(self) -> tuple[Sequence[Any], Sequence[Any], Any]:
        try:
            content = json.loads(Path(self.path).read_text(encoding="utf-8"))
            features = content["features"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            if self.asset.broken == "empty" and not isinstance(error, OSError):
                return [], [], "EPSG:4326"
            msg = f"Cannot read the shapes in {self.path!r}: {error}. Fetch the dataset again."
            raise ReadError(msg) from error
        named = (content.get("crs") or {}).get("properties", {}).get("name")
        shapes = [shapely.geometry.shape(f["geometry"]) if f.get("geometry") else None for f in features]
        values = [(f.get("properties") or {}).get(self.asset.column or "") for f in features]
        return [_flat(s) for s in shapes], values, named or self.asset.crs or "EPSG:4326"


def _moved(move: Any, points: Array) -> Array:
    """Return points (n, 2) in another CRS."""
    return np.column_stack(move.transform(points[:, 0], points[:, 1]))


def _flat(geometry: Any) -> Any:
    return None if geometry is None else shapely.force_2d(geometry)


def read_coco(path: Path, asset: Boxes, legend: Legend) -> list[tuple[Fields, dict[str, Any]]]:
    """Return the objects of every image of a COCO file, with the fields that its name tells.

    Objects are `boxes` (n, 4) float32 as left, top, right, bottom in pixels, `labels` (n,) codes, and `outlines`, for
    each a list of rings (points, 2).

    Raises
    ------
    ReadError, LabelError
        Where the file cannot be read, or has a category that is no class.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {one["id"]: one["name"] for one in content["categories"]}
        objects: dict[int, list[Any]] = {}
        for one in content["annotations"]:
            objects.setdefault(one["image_id"], []).append(one)
        codes = {key: _code(str(name), asset, legend, path) for key, name in names.items()}
        template = Template(asset.image)
        return [
            (fields, _objects(objects.get(image["id"], []), codes))
            for image in content["images"]
            if (fields := template.match(str(image["file_name"]), tail=True)) is not None
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, LabelError):
            raise
        msg = f"Cannot read the boxes in {str(path)!r}: {type(error).__name__} {error}. Fetch the dataset again."
        raise ReadError(msg) from error


def _code(name: str, asset: Boxes, legend: Legend, path: Path) -> int:
    plain = asset.categories.get(name, name).replace("_", " ")
    if plain not in legend.names:
        msg = f"Cannot tell the class of category {name!r} in {str(path)!r}: it is none of {', '.join(legend.names)}. "
        raise LabelError(msg + "Fetch the dataset again.")
    return legend.codes[legend.names.index(plain)]


def _objects(found: Sequence[Any], codes: dict[Any, int]) -> dict[str, Any]:
    boxes = np.array([one["bbox"] for one in found], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    rings = [one.get("segmentation") or [] for one in found]
    outlines = [[np.array(ring, np.float32).reshape(-1, 2) for ring in r] if isinstance(r, list) else [] for r in rings]
    labels = np.array([codes[one["category_id"]] for one in found], np.int64)
    return {"boxes": boxes, "labels": labels, "outlines": outlines}


def empty_objects() -> dict[str, Any]:
    """Return the objects of an image without any."""
    return _objects([], {})
