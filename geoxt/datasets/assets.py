"""Asset kinds: path templates and contents of the files of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import lru_cache
from typing import Literal

from geoxt.errors import InputError
from geoxt.layers.products import Band
from geoxt.template import Fields, Template, Value
from geoxt.types import Array as Values

Convert = Callable[[Values, Fields], Values]
"""Function of the stored values and the fields of a sample that returns the values of the sample."""
Columns = Mapping[str, str] | tuple[str, ...]
"""Columns of a table: templates by column name; or by position, for a table without a header."""
FETCH_AGAIN = "Fetch the dataset again with force=True."
"""Remedy of damaged files."""
LabelKind = Literal["class", "multilabel", "number", "onehot"]
"""Kind of label: a class, several classes (multi-hot), a number, or a class stored one-hot."""


@lru_cache(maxsize=1024)  # called for every sample
def _templates(path: str | tuple[str, ...]) -> tuple[Template, ...]:
    return tuple(Template(pattern) for pattern in ((path,) if isinstance(path, str) else path))


@lru_cache(maxsize=1024)
def _names(path: str | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in _templates(path)[0].names if name not in {"time", "band"})


@dataclass(frozen=True, slots=True)
class Asset:
    """Files of a dataset: fields `time` and `band` of the path become dimensions, all others identify the sample."""

    path: str | tuple[str, ...]
    """Path template below the dataset's root (see `geoxt.template`); several if releases differ."""
    _: KW_ONLY
    where: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    """Field values of the samples that have this asset; all samples if empty."""
    optional: bool = False
    """Whether a sample may lack this asset; otherwise a missing file is an error."""
    convert: Convert | None = None
    """Conversion that no other field can express; for at most five of all datasets."""

    @property
    def templates(self) -> tuple[Template, ...]:
        """Path templates."""
        return _templates(self.path)

    @property
    def names(self) -> tuple[str, ...]:
        """Fields of the path that identify the sample."""
        return _names(self.path)

    def applies_to(self, fields: Mapping[str, Value | None]) -> bool:
        """Whether samples with these fields have this asset."""
        return all(fields.get(name) in values for name, values in self.where.items())


@dataclass(frozen=True, slots=True)
class Raster(Asset):
    """Image files: pixels (time, band, y, x), or class codes (time, y, x) of a mask."""

    _: KW_ONLY
    bands: tuple[Band, ...] = ()
    """Bands in stored order, or in the order of the choices of the template field `band`."""
    dtype: str = "uint8"
    """Data type of the files."""
    shape: tuple[int, int] = (256, 256)
    """Height and width in pixels; the usual shape if it varies."""
    codes: Mapping[int, int] | None = None
    """For masks: class code by stored value (other values are errors). Empty if they are equal."""
    colors: Literal["exact", "snap"] | None = None
    """For masks in the colors of the classes; "snap" first rounds each channel to 0 or 255."""
    ignore: tuple[int, ...] = ()
    """Unlabeled codes; in a sample all are replaced by the first."""
    mixed_resolution: bool = False
    """Whether bands are stored at their native resolution; they are resampled bilinearly to the finest grid."""
    nodata: float | None = None
    """Nodata value, if files lack it."""
    scale: float | None = None
    """Scale factor of stored values; not applied on reading."""
    channel: int | None = None
    """Band of the file to read, from 1; `None` for all."""
    instances: bool = False
    """Whether the pixels are instance numbers (0 is background) instead of class codes."""

    def __post_init__(self) -> None:
        choices = self.templates[0].choices("band")
        if "band" in self.templates[0].names and len(choices) != len(self.bands):
            msg = f"Cannot match the bands of {self.path!r}: it has {len(choices)} choices for {len(self.bands)} bands."
            raise InputError(msg, remedy="Write {{band:…|…}} with one choice per band, in the order of {bands}.")

    @property
    def is_mask(self) -> bool:
        """Whether the pixels are class codes or instance numbers."""
        return self.codes is not None or self.colors is not None or self.instances


@dataclass(frozen=True, slots=True)
class Vector(Asset):
    """Geometries, rasterized as class codes on the grid of an image of the same sample."""

    _: KW_ONLY
    like: str = "image"
    """Asset whose grid the geometries are rasterized on."""
    column: str | None = None
    """Attribute of the class code; if `None`, all geometries have `value`."""
    value: int = 1
    """Class code of the geometries."""
    instances: bool = False
    """Whether to burn instance numbers 1, 2, … in the order of the file instead of class codes."""
    crs: str | None = None
    """CRS of files that lack one; GeoJSON without a CRS is in degrees."""
    ignore: tuple[int, ...] = ()
    """Unlabeled codes; with 0 if pixels outside all geometries are unlabeled."""
    on_error: Literal["raise", "empty"] = "raise"
    """Whether a file that cannot be parsed raises or counts as empty."""


@dataclass(frozen=True, slots=True)
class HDF5Array(Asset):
    """An array in an HDF5 file with one sample per row; adds the field `row`."""

    _: KW_ONLY
    key: str
    """Name of the array in the file."""
    axes: str
    """One letter per dimension: n (samples), t (time), b (bands), y, x, c (classes)."""
    dtype: str
    """Data type of the array."""
    shape: tuple[int, ...]
    """Sizes of the dimensions other than n."""
    bands: tuple[Band, ...] = ()
    """Bands, in stored order."""
    label_kind: LabelKind | None = None
    """For labels: kind of label in a row."""
    codes: Mapping[int, int] | None = None
    """For masks, as for `Raster`."""
    ignore: tuple[int, ...] = ()
    """Unlabeled codes."""
    instances: bool = False
    """As for `Raster`."""

    @property
    def is_mask(self) -> bool:
        """Whether the pixels are class codes or instance numbers."""
        return self.codes is not None or self.instances


@dataclass(frozen=True, slots=True)
class Boxes(Asset):
    """Bounding boxes and polygons in a COCO file (`images`, `annotations`, `categories`)."""

    _: KW_ONLY
    image: str
    """Template of `file_name`, with fields of the sample."""
    class_names: Mapping[str, str] = field(default_factory=dict)
    """Class name by category name, if they differ in more than underscores."""


@dataclass(frozen=True, slots=True)
class Table(Asset):
    """Labels in a table (CSV, text, Parquet: one row per sample) or in JSON (one file per sample)."""

    _: KW_ONLY
    value: str | int
    """Label column, or key of the JSON object; a position for a table without a header."""
    columns: Columns = ()
    """Other columns, as templates of the sample's fields; empty for JSON."""
    separator: str = ","
    """Column separator of text files."""
    label_kind: LabelKind = "number"
    """Kind of label."""
    class_names: Mapping[str, str | None] = field(default_factory=dict)
    """Class by name in the table, if they differ; `None` for names to ignore."""


@dataclass(frozen=True, slots=True)
class Audio(Asset):
    """Audio recordings (WAV): (channel, time), float32 in [-1, 1]."""

    _: KW_ONLY
    sample_rate: int
    """Sampling rate in Hz."""
    duration: float
    """Duration in seconds."""
    channels: int = 1
    """Number of channels."""
