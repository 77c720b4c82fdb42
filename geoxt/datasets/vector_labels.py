"""Polygons of one sample rasterized on the grid of its image, and boxes of COCO files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from geoxt.crs import parse_crs
from geoxt.datasets.assets import FETCH_AGAIN, Boxes, Vector
from geoxt.datasets.run_length import decode_runs
from geoxt.errors import LabelError, ReadError
from geoxt.grid import full_window
from geoxt.legend import Legend
from geoxt.pixels.scanline import burn, find_spans
from geoxt.pixels.vector_file import read_features, read_vector_header
from geoxt.source.project_geometries import project_geometries
from geoxt.template import Fields, Template
from geoxt.types import Array

JSON = (".geojson", ".json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A vector file to rasterize on the grid of an image of the same sample."""

    asset: Vector
    """The asset of the spec."""
    path: str
    """Path of the vector file."""

    def read(self, grid: GeoBox | None, legend: Legend | None) -> Array:
        """Return class codes, or instance numbers, (y, x) on a grid; 0 outside of all polygons.

        Raises
        ------
        ReadError
            If the image has no CRS, or the file cannot be read.
        LabelError
            If a feature has a code that is not a class.
        """
        if grid is None:
            raise ReadError(f"Cannot rasterize {self.path!r}: the image of its sample has no CRS.", remedy=FETCH_AGAIN)
        geometry, values, crs = self._features()
        codes = self._codes(geometry, values, legend)
        by_number = self.asset.instances or not legend
        dtype = np.dtype(np.int32) if by_number or legend is None else np.min_scalar_type(max(legend.codes))
        labels = np.zeros(grid.shape, dtype)
        geometries, feature = project_geometries(
            geometry, parse_crs(crs), grid, path=self.path, ids=np.arange(1, len(geometry) + 1)
        )
        if len(geometries):
            parts = np.arange(len(geometries))
            spans = find_spans(geometries, parts, full_window(grid), all_touched=False)
            burn(labels, spans, codes[feature].astype(dtype))
        return labels

    def _codes(self, geometry: Array, values: Any, legend: Legend | None) -> Array:
        """Return the value to burn for each feature."""
        numbers = np.arange(1, len(geometry) + 1)
        if self.asset.column is None:
            return numbers if self.asset.instances else np.full(len(geometry), self.asset.value)
        codes = np.zeros(len(geometry), np.int64)
        for position in np.flatnonzero(~(shapely.is_missing(geometry) | shapely.is_empty(geometry))).tolist():
            codes[position] = self._code(values[position], numbers[position], legend)
            if not self.asset.instances and legend and codes[position] not in legend.codes:
                msg = f"Cannot map feature {numbers[position]} of {self.path!r} to a class: its code "
                msg += f"{codes[position]} is none of {legend.codes}."
                raise LabelError(msg, remedy=FETCH_AGAIN)
        return codes

    def _code(self, value: Any, number: int, legend: Legend | None) -> int:
        """Return the code of a feature: a whole number, or the code of a class name."""
        text = str(value).replace("_", " ").strip()
        if legend is not None and text in legend.names:
            return legend.codes[legend.names.index(text)]
        try:
            if not isinstance(value, bool | np.bool_) and float(value) == int(value):  # True equals 1
                return int(value)
        except (TypeError, ValueError, OverflowError):
            pass
        classes_text = "" if legend is None else f", and no class of {', '.join(legend.names)}"
        msg = f"Cannot map feature {number} of {self.path!r} to a class: its {self.asset.column} {value!r} is not a "
        msg += f"whole number{classes_text}."
        raise LabelError(msg, remedy=FETCH_AGAIN)

    def _features(self) -> tuple[Array, Any, Any]:
        """Return geometries, values of the column and the CRS."""
        if Path(self.path).suffix in JSON:
            return self._read_geojson()
        header = read_vector_header(self.path, crs=self.asset.crs)
        features = read_features(header, columns=[self.asset.column] if self.asset.column else [])
        values = features.columns[self.asset.column] if self.asset.column else features.ids
        return features.geometry, values, header.crs

    def _read_geojson(self) -> tuple[Array, Sequence[Any], Any]:
        try:
            content = json.loads(Path(self.path).read_text(encoding="utf-8"))
            features = content["features"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            if self.asset.on_error == "empty" and not isinstance(error, OSError):
                return np.empty(0, object), [], "EPSG:4326"
            raise ReadError(f"Cannot read the polygons in {self.path!r}: {error}.", remedy=FETCH_AGAIN) from error
        try:
            crs_name = (content.get("crs") or {}).get("properties", {}).get("name")
            geometry = np.empty(len(features), object)
            geometry[:] = [shapely.geometry.shape(f["geometry"]) if f.get("geometry") else None for f in features]
        except (ValueError, KeyError, TypeError, AttributeError, shapely.errors.ShapelyError) as error:
            problem = f"Cannot read the polygons in {self.path!r}: {error}."
            raise ReadError(problem, remedy="Fetch the dataset again.") from error
        values = [(f.get("properties") or {}).get(self.asset.column or "") for f in features]
        return shapely.force_2d(geometry), values, crs_name or self.asset.crs or "EPSG:4326"


def read_coco(path: Path, asset: Boxes, legend: Legend) -> list[tuple[Fields, dict[str, Any]]]:
    """Return the fields and the objects of each image of a COCO file.

    Objects are `boxes` (n, 4), float32 (left, top, right, bottom) in pixels, `labels` (n,), class codes as int64, and
    `outlines`, a list of rings (points, 2) per object, whose union is the object; rectangles for a run-length encoded
    mask. Regions of several objects (`iscrowd`) are left out, as in torchvision's reference training of detectors.

    Raises
    ------
    ReadError, LabelError
        If the file cannot be read, has an image or an object twice, a box outside its image, or a category that is not
        a class of the dataset.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {category["id"]: category["name"] for category in content["categories"]}
        _require_distinct(content)
        annotations: dict[int, list[Any]] = {}
        for annotation in content["annotations"]:
            annotations.setdefault(annotation["image_id"], [])
            if not annotation.get("iscrowd"):
                annotations[annotation["image_id"]].append(annotation)
        absent = sorted(map(repr, annotations.keys() - {image["id"] for image in content["images"]}))
        if absent:
            msg = f"{len(absent)} images that annotations name are not listed, such as id {absent[0]}"
            raise ValueError(msg)  # noqa: TRY301 (the handler adds the file)
        # Categories without an object, such as a background of id 0, may have names that are not classes.
        used = {annotation["category_id"] for annotation in content["annotations"]}
        codes = {key: _code(str(name), asset, legend, path) for key, name in names.items() if key in used}
        template = Template(asset.image)
        return [
            (fields, _objects(annotations.get(image["id"], []), codes, _image_shape(image)))
            for image in content["images"]
            if (fields := template.match(str(image["file_name"]), tail=True)) is not None
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, LabelError):
            raise
        msg = f"Cannot read the boxes in {str(path)!r}: {type(error).__name__} {error}."
        raise ReadError(msg, remedy=FETCH_AGAIN) from error


def _require_distinct(content: Any) -> None:
    """Raise if two images share an id or a file, or an object is listed twice (ids of different objects may repeat)."""
    objects = [
        (a.get("id"), a["image_id"], a["category_id"], str(a["bbox"]), str(a.get("segmentation")))
        for a in content["annotations"]
    ]
    lists = {
        "two images have the id": [image["id"] for image in content["images"]],
        "two images have the file_name": [image["file_name"] for image in content["images"]],
        "an object is listed twice, with the id": objects,
    }
    for problem, values in lists.items():
        listed: set[Any] = set()
        for value in values:
            if value in listed:
                msg = f"{problem} {value[0] if isinstance(value, tuple) else value!r}"
                raise ValueError(msg)
            listed.add(value)


def _code(name: str, asset: Boxes, legend: Legend, path: Path) -> int:
    class_name = asset.class_names.get(name, name).replace("_", " ")
    if class_name not in legend.names:
        msg = f"Cannot map category {name!r} in {str(path)!r} to a class: it is none of {', '.join(legend.names)}."
        raise LabelError(msg, remedy=FETCH_AGAIN)
    return legend.codes[legend.names.index(class_name)]


def _rings(annotation: Any, image_shape: tuple[int, int] | None) -> list[Array]:
    """Return the rings of an object: of its polygons, or rectangles of its run-length encoded mask."""
    outline = annotation.get("segmentation") or []
    try:
        if isinstance(outline, dict):
            return decode_runs(outline, image_shape)
        return [np.array(ring, np.float32).reshape(-1, 2) for ring in outline]
    except (ValueError, KeyError, TypeError) as error:
        msg = f"in the outline of annotation {annotation.get('id')}: {error}"
        raise ValueError(msg) from error


def _image_shape(image: Any) -> tuple[int, int] | None:
    return (int(image["height"]), int(image["width"])) if "height" in image and "width" in image else None


def _objects(
    annotations: Sequence[Any], codes: dict[Any, int], image_shape: tuple[int, int] | None = None
) -> dict[str, Any]:
    for annotation in annotations:
        box = np.array(annotation["bbox"], np.float32)
        if box.shape != (4,) or not np.isfinite(box).all() or min(box[2:]) < 0:
            msg = (
                f"the box {annotation['bbox']} of annotation {annotation.get('id')} is not left, top, width and height"
            )
            raise ValueError(msg)
        left, top, width, height = box.tolist()
        if image_shape and not (left < image_shape[1] and top < image_shape[0] and left + width > 0 < top + height):
            msg = f"the box {annotation['bbox']} of annotation {annotation.get('id')} is outside its image of "
            msg += f"{image_shape[0]}x{image_shape[1]} pixels"
            raise ValueError(msg)
    boxes = np.array([annotation["bbox"] for annotation in annotations], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]  # COCO: left, top, width, height
    outlines = [_rings(annotation, image_shape) for annotation in annotations]
    labels = np.array([codes[annotation["category_id"]] for annotation in annotations], np.int64)
    return {"boxes": boxes, "labels": labels, "outlines": outlines}


def empty_objects() -> dict[str, Any]:
    """Return empty arrays of boxes and labels, and an empty list of outlines."""
    return _objects([], {})
