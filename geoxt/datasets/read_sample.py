"""Read a sample as numpy arrays or lazy layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from geoxt.datasets.arrays import Row
from geoxt.datasets.assets import FETCH_AGAIN, Asset, Audio, Boxes, HDF5Array, Raster, Table, Vector
from geoxt.datasets.audio import read_wav
from geoxt.datasets.entries import Entry, name_of
from geoxt.datasets.find_files import is_shared
from geoxt.datasets.labels import folder_label, read_label
from geoxt.datasets.rasters import Crop, Image
from geoxt.datasets.spec import RandomSplit, Spec
from geoxt.datasets.table_rows import read_object, read_rows
from geoxt.datasets.vector_labels import Drawing, empty_objects, read_coco
from geoxt.errors import ReadError
from geoxt.grid import coordinates
from geoxt.types import Array
from geoxt.windows import Window

Sample = dict[str, Any]
"""Layers, labels, boxes and recordings of a sample, by key."""


@dataclass(slots=True, kw_only=True)
class Reader:
    """Reader of the samples of a dataset."""

    spec: Spec
    """Specification of the dataset."""
    root: Path
    """Folder of the files."""
    bands: Mapping[str, tuple[int, ...]]
    """Indices of the bands to read, by asset; assets without bands, or left out, are absent."""
    excluded: frozenset[str] = frozenset()
    """Keys of assets that are not read."""
    foreign_instances: tuple[int, ...] = ()
    """Numbers of instances that belong to other splits; they are unlabeled in these samples."""
    tables: dict[str, dict[tuple[Any, ...], Any]] = field(default_factory=dict)
    """Rows of tables and COCO files, by asset and field values; read on first use."""

    def __getstate__(self) -> Any:
        return self.spec, self.root, self.bands, self.excluded, self.foreign_instances

    def __setstate__(self, state: Any) -> None:
        self.spec, self.root, self.bands, self.excluded, self.foreign_instances = state
        self.tables = {}

    def assets(self, entry: Entry) -> dict[str, Asset]:
        """Return the assets of a sample by key."""
        return {
            key: asset
            for key, asset in self.spec.assets.items()
            if key not in self.excluded and (key in entry.files or (is_shared(asset)))
        }

    def pixels(self, key: str, asset: Asset, entry: Entry) -> Image | Row:
        """Return the reader of an asset's pixels."""
        files = entry.paths(key, asset)
        if isinstance(asset, HDF5Array):
            path = str(self.root / next(iter(files.values())))
            row = entry.fields["row"]
            assert isinstance(row, int)
            bands = self.bands.get(key, ())
            return Row(asset=asset, path=path, row=row, bands=bands, legend=self.spec.classes)
        assert isinstance(asset, Raster)
        choices = asset.templates[0].choices("band")
        steps = _times(asset, entry, key)
        ordered = sorted(
            files,
            key=lambda slot: (
                steps.index(slot[0]) if steps else 0,
                choices.index(str(slot[1])) if choices else 0,
            ),
        )
        return Image(
            asset=asset,
            paths=tuple(str(self.root / files[slot]) for slot in ordered),
            times=len({time for time, _ in files}),
            bands=self.bands.get(key, ()),
            legend=self.spec.classes,
            crs=self.spec.crs,
            crop=entry.crop,
        )

    def read(self, entry: Entry) -> tuple[Sample, GeoBox | None]:
        """Return the arrays and labels of a sample, and the first grid of its assets."""
        out: Sample = {}
        grids: dict[str, GeoBox | None] = {}
        for key, asset in self.assets(entry).items():
            if isinstance(asset, Raster) or (isinstance(asset, HDF5Array) and asset.label_kind is None):
                values, grids[key] = self.pixels(key, asset, entry).read()
                out[key] = self._without_foreign(_squeeze(_convert(values, asset, entry), asset), key, entry)
            elif isinstance(asset, Vector):
                grid = grids[asset.like] if asset.like in grids else self._grid(asset.like, entry)
                out[key] = _convert(self.drawing(key, asset, entry).read(grid, self._legend(asset)), asset, entry)
            else:
                out |= self.read_eagerly(key, asset, entry)
        self._check_sizes(out, entry)
        return out | self.path_label(entry), next((g for g in grids.values() if g is not None), None)

    def lazy(self, entry: Entry) -> Sample:
        """Return the lazy layers and the labels of a sample; pixels are read when a layer is computed."""
        out: Sample = {}
        for key, asset in self.assets(entry).items():
            if isinstance(asset, Raster) or (isinstance(asset, HDF5Array) and asset.label_kind is None):
                shape, kind, grid = self.pixels(key, asset, entry).header()
                out[key] = self._layer(key, asset, entry, shape, kind, grid)
            elif isinstance(asset, Vector):
                grid = self._grid(asset.like, entry)
                shape = (1, 1, *(grid.shape.yx if grid else (0, 0)))
                out[key] = self._layer(key, asset, entry, shape, np.dtype("int32"), grid)
            else:
                out |= self.read_eagerly(key, asset, entry)
        self._check_sizes(out, entry)
        return out | self.path_label(entry)

    def _check_sizes(self, sample: Sample, entry: Entry) -> None:
        """Raise if images of one size in the spec differ in size, or a box lies outside the first image."""
        rasters = {k: asset for k, asset in self.spec.assets.items() if isinstance(asset, Raster) and k in sample}
        first = next(iter(rasters), "")
        for key, asset in rasters.items():
            size, expected = sample[key].shape[-2:], sample[first].shape[-2:]
            if asset.shape == rasters[first].shape and size != expected:
                msg = f"Cannot read {name_of(entry.fields)}: {key} has {size[0]}x{size[1]} pixels, "
                raise ReadError(f"{msg}{first} {expected[0]}x{expected[1]}.", remedy=FETCH_AGAIN)

        for left, top, right, bottom in sample.get("boxes", ()) if first else ():
            height, width = sample[first].shape[-2:]
            if not (left < width and top < height and right > 0 and bottom > 0):
                msg = f"Cannot read {name_of(entry.fields)}: the box ({left:g}, {top:g}, {right:g}, {bottom:g}) is "
                msg += f"outside its image of {height}x{width} pixels."
                raise ReadError(msg, remedy=FETCH_AGAIN)

    def value(self, key: str, entry: Entry, *, crop: Crop | None = None) -> Array:
        """Return the pixels of an asset of a sample, or of a crop of an image."""
        asset = self.spec.assets[key]
        if isinstance(asset, Vector):
            mask = self.drawing(key, asset, entry).read(self._grid(asset.like, entry), self._legend(asset))
            return _convert(mask, asset, entry).astype("int32")
        values, _ = self._cropped_reader(self.pixels(key, asset, entry), crop).read()
        return self._without_foreign(_squeeze(_convert(values, asset, entry), asset), key, entry, crop=crop)

    def _without_foreign(self, values: Array, key: str, entry: Entry, *, crop: Crop | None = None) -> Array:
        """Return a mask without instances of other splits; other values are returned unchanged."""
        asset = self.spec.assets[key]
        if not self.foreign_instances or not is_mask(asset):
            return values
        assert isinstance(self.spec.splits, RandomSplit)
        shapes = str(self.spec.splits.instances)
        numbers = values
        if key != shapes:
            numbers, _ = self._cropped_reader(self.pixels(shapes, self.spec.assets[shapes], entry), crop).read()
        blank = next(iter(getattr(asset, "ignore", ())), 0)
        return np.where(
            np.isin(numbers.reshape(values.shape), self.foreign_instances), values.dtype.type(blank), values
        )

    @staticmethod
    def _cropped_reader(pixels: Image | Row, crop: Crop | None) -> Image | Row:
        """Return the pixel reader of a crop; `None` reads all pixels."""
        if crop is None or not isinstance(pixels, Image):
            return pixels
        return replace(pixels, crop=crop.within(pixels.crop))

    def drawing(self, key: str, asset: Vector, entry: Entry) -> Drawing:
        """Return the rasterizer of a vector asset."""
        return Drawing(asset=asset, path=str(self.root / next(iter(entry.paths(key, asset).values()))))

    def read_eagerly(self, key: str, asset: Asset, entry: Entry) -> Sample:
        """Return an asset without pixels: labels, boxes or a recording."""
        if isinstance(asset, Boxes):
            return (
                dict(self.row(key, asset, entry) or empty_objects())
                if asset.applies_to(entry.fields)
                else empty_objects()
            )
        if isinstance(asset, Table) and is_shared(asset):
            if not asset.applies_to(entry.fields):
                return {}
            label = self.row(key, asset, entry)
            return {} if label is None else {key: label}
        path = self.root / next(iter(entry.paths(key, asset).values()))
        if isinstance(asset, Table):
            content = read_object(path)
            if asset.value not in content:
                msg = f"Cannot read the labels in {str(path)!r}: it has no {asset.value!r}."
                raise ReadError(msg, remedy=FETCH_AGAIN)
            return {key: read_label(content[str(asset.value)], asset, self.spec.classes, str(path))}
        if isinstance(asset, Audio):
            return {key: _convert(read_wav(path)[0], asset, entry)}
        assert isinstance(asset, HDF5Array)
        row = self.pixels(key, asset, entry)
        assert isinstance(row, Row)
        return {key: read_label(row.raw(), asset, self.spec.classes, f"{path}[{row.row}]")}

    def path_label(self, entry: Entry) -> Sample:
        """Return the class label in the path, or an empty dict."""
        if "label" not in entry.fields or "label" in self.spec.assets:
            return {}
        return {"label": folder_label(self.spec, str(entry.fields["label"]), name_of(entry.fields))}

    def has_row(self, key: str, asset: Asset, entry: Entry) -> bool:
        """Return whether a table has a row of a sample."""
        return self._find_row(key, asset, entry) is not None

    def _find_row(self, key: str, asset: Asset, entry: Entry) -> Any:
        """Return the row of a sample in a table or COCO file; `None` if it is missing."""
        if key not in self.tables:
            self.tables[key] = self._table(asset)
        names = self.tables[key].get((), ())
        return self.tables[key].get(tuple(entry.fields.get(name) for name in names)) if names else None

    def row(self, key: str, asset: Asset, entry: Entry) -> Any:
        """Return the row of a sample in a table or COCO file; `None` if an optional row is missing."""
        row = self._find_row(key, asset, entry)
        if row is None and not asset.optional:
            kind = "image" if isinstance(asset, Boxes) else "row"
            msg = f"Cannot find {name_of(entry.fields)} in {asset.path!r} below {str(self.root)!r}: "
            msg += f"it has no such {kind}."
            raise ReadError(msg, remedy=FETCH_AGAIN)
        return row

    def _table(self, asset: Asset) -> dict[tuple[Any, ...], Any]:
        """Return the rows of an asset's tables or COCO files by field values; the field names are under `()`."""
        out: dict[tuple[Any, ...], Any] = {}
        files = [match for template in asset.templates for match in template.find(self.root)]
        if not files and not asset.optional:
            msg = f"Cannot find {asset.path!r} below {str(self.root)!r}."
            raise ReadError(msg, remedy="Fetch the dataset again. Or pass {download:True}.")
        for path, path_fields in files:
            for row_fields, value in self._rows(asset, path):
                fields = {**path_fields, **row_fields}
                out.setdefault((), tuple(fields))
                key = tuple(fields.values())
                if key in out and not _same(out[key], value):
                    msg = f"Cannot read {str(path)!r}: {name_of(fields)} has two different rows."
                    raise ReadError(msg, remedy=FETCH_AGAIN)
                out[key] = value
        return out

    def _rows(self, asset: Asset, path: Path) -> Any:
        if isinstance(asset, Boxes):
            assert self.spec.classes is not None
            yield from read_coco(path, asset, self.spec.classes)
            return
        assert isinstance(asset, Table)
        for fields, row in read_rows(path, asset.columns, separator=asset.separator):
            if asset.value not in row:
                msg = f"Cannot read the table {str(path)!r}: it has no column {asset.value!r}, but "
                raise ReadError(f"{msg}{', '.join(map(str, row))}.", remedy=FETCH_AGAIN)
            yield fields, read_label(row[asset.value], asset, self.spec.classes, str(path))

    def _legend(self, asset: Vector) -> Any:
        return None if asset.instances else self.spec.classes

    def _grid(self, on: str, entry: Entry) -> GeoBox | None:
        return self.pixels(on, self.spec.assets[on], entry).header()[2]

    def _layer(
        self, key: str, asset: Asset, entry: Entry, shape: tuple[int, ...], kind: Any, grid: GeoBox | None
    ) -> xr.DataArray:
        dims = _dims(asset)
        sizes = dict(zip(("time", "band", "y", "x"), shape, strict=True))
        lazy = Lazy(reader=self, key=key, entry=entry, shape=tuple(sizes[d] for d in dims), dtype=np.dtype(kind))
        array = dask.array.from_array(lazy, chunks=-1, asarray=False, lock=False, meta=np.empty((0,) * lazy.ndim, kind))
        coords: dict[Any, Any] = dict(coordinates(grid)) if grid is not None else {}
        if "band" in dims and isinstance(asset, Raster | HDF5Array) and asset.bands:
            indices = self.bands.get(key) or range(len(asset.bands))
            coords["band"] = [asset.bands[index].name for index in indices]
        if "time" in dims and key in entry.files:
            coords["time"] = _times(asset, entry, key) or list(range(sizes["time"]))
        attrs: dict[str, Any] = {}
        if is_mask(asset) and self.spec.classes is not None and not _is_instance_mask(asset):
            attrs = self.spec.classes.attrs()
            if isinstance(asset, Raster | HDF5Array | Vector) and asset.ignore:
                attrs["_FillValue"] = asset.ignore[0]
        elif getattr(asset, "nodata", None) is not None:
            attrs = {"_FillValue": asset.nodata}  # type: ignore[attr-defined]
        return xr.DataArray(array, coords, dims, name=key, attrs=attrs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lazy:
    """Array-like of the pixels of an asset, for `dask.array.from_array`."""

    reader: Reader
    """Reader of the sample."""
    key: str
    """Key of the asset."""
    entry: Entry
    """Index entry of the sample."""
    shape: tuple[int, ...]
    """Shape of the array."""
    dtype: np.dtype[Any]
    """Data type."""

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __getitem__(self, key: Any) -> Array:
        crop = self._crop(key)
        if crop is None:
            return self.reader.value(self.key, self.entry)[key]
        return self.reader.value(self.key, self.entry, crop=crop)[(*key[:-2], slice(None), slice(None))]

    def _crop(self, key: Any) -> Crop | None:
        """Return the crop that a key selects, or `None` if all pixels have to be read."""
        asset = self.reader.spec.assets[self.key]
        if not isinstance(asset, Raster) or asset.mixed_resolution or asset.convert or len(key) != self.ndim:
            return None
        if not all(isinstance(index, slice) for index in key[-2:]):
            return None
        shape = self.shape[-2], self.shape[-1]
        (top, bottom, row_step), (left, right, col_step) = (k.indices(n) for k, n in zip(key[-2:], shape, strict=True))
        if (row_step, col_step) != (1, 1) or top >= bottom or left >= right or (bottom - top, right - left) == shape:
            return None
        return Crop(window=Window(top, left, bottom - top, right - left), image_shape=shape)


def is_mask(asset: Asset) -> bool:
    """Whether the pixels of an asset are class codes or instance numbers."""
    return isinstance(asset, Vector) or (isinstance(asset, Raster | HDF5Array) and asset.is_mask)


def _is_instance_mask(asset: Asset) -> bool:
    """Whether the pixels of an asset are instance numbers."""
    return isinstance(asset, Vector | Raster | HDF5Array) and asset.instances


def _dims(asset: Asset) -> tuple[str, ...]:
    has_time = "t" in asset.axes if isinstance(asset, HDF5Array) else "time" in asset.templates[0].names
    return (*(("time",) if has_time else ()), *(() if is_mask(asset) else ("band",)), "y", "x")


def _squeeze(values: Array, asset: Asset) -> Array:
    dims = _dims(asset)
    return values.reshape([n for d, n in zip(("time", "band", "y", "x"), values.shape, strict=True) if d in dims])


def _same(first: Any, second: Any) -> bool:
    """Whether two rows of tables are equal: numbers, arrays, or dicts and lists of them."""
    if isinstance(first, dict):
        return all(_same(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(_same, first, second))
    return np.array_equal(first, second)


def _times(asset: Asset, entry: Entry, key: str) -> list[Any]:
    if isinstance(asset, HDF5Array):
        return []
    times = {time for time, _ in entry.paths(key, asset) if time is not None}
    choices = asset.templates[0].choices("time")
    return sorted(times, key=lambda time: choices.index(str(time)) if choices else str(time))


def _convert(values: Array, asset: Asset, entry: Entry) -> Array:
    return values if asset.convert is None else asset.convert(values, dict(entry.fields))
