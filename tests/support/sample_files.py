"""Files of small datasets by their spec: images, masks, shapes, arrays, boxes, tables and recordings."""

from __future__ import annotations

import csv
import json
import warnings
import wave
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.errors import NotGeoreferencedWarning

from geoxt.datasets.assets import Asset, Audio, Boxes, Columns, HDF5Array, Raster, Table, Vector
from geoxt.datasets.spec import RandomSplit, Spec
from geoxt.template import Template, Value
from geoxt.testing.cogs import make_grid

__all__ = ["write_asset", "write_image", "write_table"]

SIDE = 12
"""Pixels along the shorter side of the first image; others in proportion."""
_MOST_SHAPES = 200
"""Numbers of shapes are below it: more than there are classes."""
DRIVERS = {".tif": "GTiff", ".jpg": "JPEG", ".png": "PNG"}
Fields = Mapping[str, Value]


def write_asset(
    spec: Spec, key: str, asset: Asset, path: Path, samples: Sequence[Fields], every: Sequence[Fields]
) -> None:
    """Write one file of an asset, which holds these of all samples."""
    path.parent.mkdir(parents=True, exist_ok=True)
    first = samples[0]
    rng = np.random.default_rng(zlib.crc32(f"{key}{path.name}".encode()))
    at = next(at for at, fields in enumerate(every) if all(first.get(n) == v for n, v in fields.items()))
    match asset:
        case Raster():
            write_image(path, *_raster(spec, asset, str(first.get("band", "")), at, rng), crs=not spec.crs)
        case Vector():
            path.write_text(json.dumps(_shapes(spec, asset, at)), encoding="utf-8")
        case HDF5Array():
            _write_array(spec, asset, path, samples, rng)
        case Boxes():
            path.write_text(json.dumps(_coco(spec, asset, samples)), encoding="utf-8")
        case Table(columns=()):
            path.write_text(json.dumps({str(asset.value): _stored(spec, asset, at)}), encoding="utf-8")
        case Table():
            cells = [{asset.value: _stored(spec, asset, row)} for row in range(len(samples))]
            write_table(path, asset.columns, samples, separator=asset.separator, cells=cells)
        case Audio():
            _write_wav(path, asset, rng)
        case _:
            msg = f"Cannot write {key!r} of {spec.name!r}: a {type(asset).__name__} has no writer here."
            raise TypeError(msg)


def size_of(spec: Spec, shape: tuple[int, int], scale: float = 1) -> tuple[int, int]:
    """Return the small size of an image: the first asset's shorter side becomes `SIDE`, all else keeps proportion."""
    lead = next(a for a in spec.assets.values() if isinstance(a, Raster))
    height, width = (max(1, round(side * SIDE / min(lead.shape) * scale)) for side in shape)
    return height, width


def grid_for(spec: Spec, shape: tuple[int, int], at: int, full: tuple[int, int]) -> GeoBox:
    """Return where a sample lies: samples side by side, of the size that the release has on the ground, or a block."""
    ground = (spec.resolution or (10,))[0] * min(full)
    block = spec.splits.block if isinstance(spec.splits, RandomSplit) else None
    step = 2 * max(ground, block or 0)
    return make_grid(shape, crs=spec.crs or "EPSG:32631", left=500_000 + at * step, resolution=ground / min(shape))


def _raster(
    spec: Spec, asset: Raster, band: str, at: int, rng: np.random.Generator
) -> tuple[NDArray[Any], GeoBox | None]:
    scale = 1.0
    if asset.mixed_resolution and band:
        finest = min(b.resolution or 1 for b in asset.bands)
        resolution = asset.bands[asset.templates[0].choices("band").index(band)].resolution or 1
        scale = finest / resolution
    shape = size_of(spec, asset.shape, scale)
    grid = grid_for(spec, shape, at, asset.shape) if spec.georeferenced else None
    if asset.instances:
        return rng.integers(0, _MOST_SHAPES, (1, *shape)).astype(asset.dtype), grid
    if asset.is_mask:
        assert spec.classes is not None
        if asset.colors:
            return np.moveaxis(spec.classes.rgb(rng.choice(spec.classes.codes, shape)), -1, 0), grid
        return np.stack([rng.choice(codes, shape) for codes in _stored_codes(spec, asset)]).astype(asset.dtype), grid
    count = 1 if band else len(asset.bands) or 1
    count = max(count, asset.channel or 1)
    values = _numbers((count, *shape), np.dtype(asset.dtype), rng)
    if asset.nodata is not None:
        values[:, 0, 0] = asset.nodata
    return values, grid


def _stored_codes(spec: Spec, asset: Raster) -> list[list[int]]:
    """Return the numbers that each band of a mask's files holds: those of the classes, or of the level that it has."""
    assert spec.classes is not None
    codes = [*(asset.codes or spec.classes.codes), *asset.ignore]
    other = {level.channel: [*(level.codes or level.classes.codes), *asset.ignore] for level in spec.levels.values()}
    at = asset.channel or 1
    most = max([at, *(channel or 1 for channel in other)])
    return [codes if band == at else other.get(band, codes) for band in range(1, most + 1)]


def _numbers(shape: Sequence[int], kind: np.dtype[Any], rng: np.random.Generator) -> NDArray[Any]:
    if kind.kind == "f":
        return rng.normal(0, 1, shape).astype(kind)
    return rng.integers(1, min(int(np.iinfo(kind).max), 3000), shape).astype(kind)


def write_image(path: Path, values: NDArray[Any], grid: GeoBox | None, *, crs: bool = True) -> None:
    """Write an image (band, y, x) in the format of its file name."""
    count, height, width = values.shape
    profile: dict[str, Any] = {"driver": DRIVERS[path.suffix.lower()], "count": count, "dtype": values.dtype}
    if grid is not None and profile["driver"] == "GTiff":
        profile |= {"transform": grid.affine} | ({"crs": str(grid.crs)} if crs else {})
    if profile["driver"] == "JPEG":
        profile |= {"quality": 95}
    with warnings.catch_warnings(), rasterio.Env(GDAL_PAM_ENABLED="NO"):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", height=height, width=width, **profile) as file:
            file.write(values)


def _shapes(spec: Spec, asset: Vector, at: int) -> dict[str, Any]:
    """Return two rectangles in the image of a sample, and a feature without any."""
    lead = spec.assets[asset.like]
    assert isinstance(lead, Raster)
    grid = grid_for(spec, size_of(spec, lead.shape), at, lead.shape)
    crs = asset.crs or "EPSG:4326"
    move = Transformer.from_crs(str(grid.crs), crs, always_xy=True)
    features: list[dict[str, Any]] = [{"type": "Feature", "properties": {}, "geometry": None}]
    codes = [code for code in (spec.classes.codes if spec.classes else ()) if code] or [1]
    for index, (left, top) in enumerate(((0.1, 0.1), (0.55, 0.55))):
        corners = [(left, top), (left + 0.3, top), (left + 0.3, top + 0.3), (left, top + 0.3), (left, top)]
        ring = [move.transform(*(grid.affine * (x * grid.shape.x, y * grid.shape.y))) for x, y in corners]
        code = {asset.column: codes[(at + index) % len(codes)]} if asset.column else {}
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "properties": code, "geometry": geometry})
    named = {"crs": {"type": "name", "properties": {"name": asset.crs}}} if asset.crs else {}
    return {"type": "FeatureCollection", **named, "features": features}


def _write_array(spec: Spec, asset: HDF5Array, path: Path, samples: Sequence[Fields], rng: np.random.Generator) -> None:
    import h5py

    sides = dict(zip(asset.axes.replace("n", ""), asset.shape, strict=True))
    small = [min(sides[a], 4) if a in "yx" else sides[a] for a in asset.axes.replace("n", "")]
    kind = np.dtype(asset.dtype)
    if asset.label_kind == "onehot":
        values = np.eye(sides["c"], dtype=kind)[np.arange(len(samples)) % sides["c"]]
    elif asset.label_kind == "class" and spec.classes:
        values = np.resize(np.array(spec.classes.codes, kind), len(samples))
    elif asset.instances:
        values = rng.integers(0, _MOST_SHAPES, (len(samples), *small)).astype(kind)
    elif asset.codes is not None and spec.classes is not None:
        values = rng.choice([*(asset.codes or spec.classes.codes), *asset.ignore], (len(samples), *small)).astype(kind)
    else:
        values = _numbers((len(samples), *small), kind, rng)
    with h5py.File(path, "a") as file:
        file[asset.key] = values


def _coco(spec: Spec, asset: Boxes, samples: Sequence[Fields]) -> dict[str, Any]:
    assert spec.classes is not None
    template = Template(asset.image)
    names = {class_name: text for text, class_name in asset.class_names.items()}
    images: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for at, fields in enumerate(samples):
        images.append({"id": at, "file_name": template.fill({name: fields[name] for name in template.names})})
        for code in {spec.classes.codes[at % len(spec.classes)], spec.classes.codes[-1]}:
            left, top, width, height = 1.0, 2.0, 5.0, 4.0
            ring = [left, top, left + width, top, left + width, top + height, left, top + height]
            box = {"bbox": [left, top, width, height], "segmentation": [ring], "area": width * height, "iscrowd": 0}
            objects.append({"id": len(objects), "image_id": at, "category_id": code, **box})
    categories = [
        {"id": code, "name": names.get(name, name).replace(" ", "_")}
        for code, name in zip(spec.classes.codes, spec.classes.names, strict=True)
    ]
    return {"images": images, "annotations": objects, "categories": categories}


def _stored(spec: Spec, asset: Table, at: int) -> Any:
    """Return a label as the table has it."""
    if asset.label_kind == "number":
        return 10 + at
    assert spec.classes is not None
    class_name = spec.classes.names[at % len(spec.classes)]
    label = next((text for text, name in asset.class_names.items() if name == class_name), class_name)
    return [label] if asset.label_kind == "classes" else label


def write_table(
    path: Path,
    columns: Columns,
    samples: Sequence[Fields],
    *,
    separator: str = ",",
    cells: Sequence[Mapping[Any, Any]] | None = None,
) -> None:
    """Write a table, or add columns to an existing one: one row per sample, with its name and further cells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pairs = list(columns.items()) if isinstance(columns, Mapping) else list(enumerate(columns))
    rows: list[dict[Any, Any]] = []
    for at, fields in enumerate(samples):
        row = {}
        for key, pattern in pairs:
            template = Template(pattern)
            row[key] = template.fill({name: fields[name] for name in template.names})
        rows.append({**row, **(cells[at] if cells else {})})
    if path.suffix == ".parquet":
        _write_parquet(path, rows, str(pairs[0][0]))
        return
    keys = sorted(rows[0], key=lambda key: (isinstance(key, str), key if isinstance(key, int) else 0))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=separator, lineterminator="\n")
        if isinstance(columns, Mapping):
            writer.writerow(keys)
        writer.writerows([[row[key] for key in keys] for row in rows])


def _write_parquet(path: Path, rows: list[dict[Any, Any]], key: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    old = pq.read_table(path).to_pylist() if path.exists() else []
    known = {row[key]: row for row in old}
    pq.write_table(pa.Table.from_pylist([{**known.get(row[key], {}), **row} for row in rows]), path)


def _write_wav(path: Path, asset: Audio, rng: np.random.Generator) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(asset.channels)
        file.setsampwidth(2)
        file.setframerate(asset.sample_rate)
        file.writeframes(rng.integers(-3000, 3000, (64, asset.channels)).astype("<i2").tobytes())
