"""Kinds of asset: what the files of a dataset hold, and where the path of each says so. One reader each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import lru_cache
from typing import Literal

from geoxt.errors import InputError
from geoxt.layers.products import Band
from geoxt.template import Fields, Template, Value
from geoxt.types import Array as Values

Fix = Callable[[Values, Fields], Values]
"""An escape hatch: what was read, and the fields of the sample -> what the sample has."""
Rows = Mapping[str, str] | tuple[str, ...]
"""What the columns of a table hold: a template by name of a column; or by place, in a table without a header."""
Gives = Literal["class", "classes", "number", "onehot"]
"""One class, several classes (multi-hot), a number, or one class as a row of ones and zeros."""


@lru_cache(maxsize=1024)  # asked for with every sample
def _templates(path: str | tuple[str, ...]) -> tuple[Template, ...]:
    return tuple(Template(one) for one in ((path,) if isinstance(path, str) else path))


@lru_cache(maxsize=1024)
def _names(path: str | tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in _templates(path)[0].names if name not in {"time", "band"})


@dataclass(frozen=True, slots=True)
class Asset:
    """Files of a dataset: `time` and `band` in their path become dimensions, all other fields name the sample."""

    path: str | tuple[str, ...]
    """Template of the path below the dataset's root (see `geoxt.template`); several where releases differ."""
    _: KW_ONLY
    only: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    """Fields of the samples that have it, with their values; all samples where empty."""
    optional: bool = False
    """Whether a sample may be without it; else that is an error."""
    fix: Fix | None = None
    """A function for what no fact can say; for at most five of all datasets."""

    @property
    def templates(self) -> tuple[Template, ...]:
        """The templates of its path."""
        return _templates(self.path)

    @property
    def names(self) -> tuple[str, ...]:
        """Fields of its path that name the sample."""
        return _names(self.path)

    def belongs(self, fields: Mapping[str, Value | None]) -> bool:
        """Tell whether samples of these fields have it."""
        return all(fields.get(name) in values for name, values in self.only.items())


@dataclass(frozen=True, slots=True)
class Raster(Asset):
    """Pixels in image files: (time, band, y, x), or class codes (time, y, x) where the asset is a mask."""

    _: KW_ONLY
    bands: tuple[Band, ...] = ()
    """The bands: of a file in stored order; of `{band:...}` in the order of its choices."""
    dtype: str = "uint8"
    """Data type that files have."""
    shape: tuple[int, int] = (256, 256)
    """Height and width, in pixels; the usual one where it varies."""
    codes: Mapping[int, int] | None = None
    """Makes it a mask: class code by stored number, others are errors. Empty: numbers are the codes."""
    colors: Literal["exact", "snap"] | None = None
    """Makes it a mask painted in the colours of the classes; "snap" first takes each channel to 0 or 255."""
    ignore: tuple[int, ...] = ()
    """Codes without a label; in a sample all become the first."""
    own_size: bool = False
    """Files of a band are as coarse as its sensor; they are brought onto the finest grid, between pixels bilinear."""
    nodata: float | None = None
    """Number of pixels without data, where files do not say."""
    scale: float | None = None
    """Physical value of a stored 1, where numbers are scaled; reading does not apply it."""
    channel: int | None = None
    """The only band of a file to take, from 1; others repeat it or are something else."""
    value: Literal["code", "number"] = "code"
    """"number": makes it a mask that tells shapes apart by number and has no classes; 0 where there is none."""

    def __post_init__(self) -> None:
        choices = self.templates[0].choices("band")
        if "band" in self.templates[0].names and len(choices) != len(self.bands):
            msg = f"Cannot tell the bands of {self.path!r}: it has {len(choices)} choices for {len(self.bands)} bands. "
            raise InputError(msg + "Write {band:…|…} with one choice a band, in their order.")

    @property
    def is_mask(self) -> bool:
        """Whether its pixels are class codes or numbers of shapes."""
        return self.codes is not None or self.colors is not None or self.value == "number"


@dataclass(frozen=True, slots=True)
class Vector(Asset):
    """Shapes, drawn as class codes on the grid of an image of the same sample."""

    _: KW_ONLY
    on: str = "image"
    """The asset on whose grid they are drawn."""
    column: str | None = None
    """Attribute that holds the code; without one all shapes have `value`."""
    value: int | Literal["number"] = 1
    """Code of a shape; "number": 1, 2, … in the order of the file, which tells instances apart."""
    crs: str | None = None
    """CRS of files that do not say; GeoJSON without one is in degrees."""
    ignore: tuple[int, ...] = ()
    """Codes without a label; 0 where no shape is, if that means that nobody knows."""
    broken: Literal["raise", "empty"] = "raise"
    """Whether a file that cannot be parsed counts as one without shapes."""


@dataclass(frozen=True, slots=True)
class Array(Asset):
    """An array in an HDF5 file, of which every row is a sample; adds the field `row`."""

    _: KW_ONLY
    key: str
    """Name of the array in the file."""
    axes: str
    """A letter a dimension: n (samples), t (time), b (bands), y, x, c (classes)."""
    dtype: str
    """Data type that it has."""
    shape: tuple[int, ...]
    """Sizes of the dimensions after n."""
    bands: tuple[Band, ...] = ()
    """Its bands, in stored order."""
    gives: Gives | None = None
    """For labels: how a row tells its class."""
    codes: Mapping[int, int] | None = None
    """Makes it a mask, as for `Raster`."""
    ignore: tuple[int, ...] = ()
    """Codes without a label."""
    value: Literal["code", "number"] = "code"
    """As for `Raster`."""

    @property
    def is_mask(self) -> bool:
        """Whether its pixels are class codes or numbers of shapes."""
        return self.codes is not None or self.value == "number"


@dataclass(frozen=True, slots=True)
class Boxes(Asset):
    """Rectangles and outlines in a COCO file (`images`, `annotations`, `categories`)."""

    _: KW_ONLY
    image: str
    """Template of `file_name`, with fields of the sample."""
    categories: Mapping[str, str] = field(default_factory=dict)
    """Name of the class by name of the category, where they differ by more than underscores."""


@dataclass(frozen=True, slots=True)
class Table(Asset):
    """Labels in a table (CSV, text, Parquet: a row a sample) or in JSON (a file a sample)."""

    _: KW_ONLY
    value: str | int
    """Column, or key of the JSON object, that holds the label; a number for a table without a header."""
    columns: Rows = ()
    """What other columns hold, as templates of the sample's fields; empty for JSON."""
    separator: str = ","
    """What stands between the columns of a text."""
    gives: Gives = "number"
    """What the value becomes."""
    renames: Mapping[str, str | None] = field(default_factory=dict)
    """Class by name in the table where they differ; `None` for names that are no class."""


@dataclass(frozen=True, slots=True)
class Audio(Asset):
    """A recording (WAV): (channel, time), float32 within -1 and 1."""

    _: KW_ONLY
    rate: int
    """Recordings a second."""
    seconds: float
    """Length."""
    channels: int = 1
    """Channels."""
