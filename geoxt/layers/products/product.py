"""Product: a known kind of data with its bands, file names, catalogs, radiometry and classes."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np

from geoxt.errors import InputError
from geoxt.layers.products.qa import Qa
from geoxt.layers.products.scale_offset import Radiometry, choose
from geoxt.legend import Legend
from geoxt.template import Fields, Interval, Template, Value
from geoxt.types import Quantization, SomePath

Access = Literal["planetary-computer", "requester-pays"]
"""Access to files: with a token of the Planetary Computer, or on S3 with requester pays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """One band of a sensor or of a label product."""

    name: str
    """Name of the band by the data provider."""
    common: str | None = None
    """Common name of the STAC EO extension (the red edge bands numbered), or `None`."""
    wavelength: float | None = None
    """Center wavelength in micrometres; for radar in free space."""
    limits: tuple[float, float] | None = None
    """Shortest and longest wavelength, in micrometres."""
    resolution: float | None = None
    """Ground resolution of the sensor in metres; pixels of files may be smaller."""
    files: tuple[str, ...] = ()
    """Names in file names, the highest processing level first."""
    assets: tuple[str, ...] = ()
    """Asset keys in the catalogs."""
    index: int = 1
    """Band number in the file or asset, from 1."""
    nodata: float | None = None
    """Nodata value, if it differs from the product's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A STAC collection that serves a product."""

    id: str
    """Id of the collection; not unique across catalogs."""
    catalog: str
    """Name of the catalog."""
    url: str
    """URL of the catalog's STAC API."""
    files: tuple[str, ...] = ("*",)
    """Names of its bands in file names; shell patterns."""
    access: Access | None = None
    """Access that its files require, or `None`."""
    nodata: float | None = None
    """Nodata value, if it differs from the product's."""
    harmonised: str | None = None
    """Item property that states whether the offset is already applied to the pixels."""

    def file(self, band: Band) -> str | None:
        """Return the name of a band in file names, or `None` if the collection does not serve it."""
        names = (file for file in band.files if any(fnmatchcase(file, pattern) for pattern in self.files))
        return next(names, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sidecar:
    """A metadata file beside a scene's bands that states their scale and offset."""

    form: Literal["landsat-mtl", "sentinel2-mtd"]
    """Format of the file."""
    names: tuple[str, ...]
    """Names of the file, in order of preference; `{scene}` is the name of the scene."""
    within: str | None = None
    """Ending of the name of its folder, a parent of the bands; `None` for the folder of the bands."""
    files: tuple[str, ...] = ("*",)
    """Shell patterns of the band names, as in file names, to which it applies."""

    def covers(self, file: str | None) -> bool:
        """Return whether the file states the scale of a band."""
        return file is not None and any(fnmatchcase(file, pattern) for pattern in self.files)

    def folder(self, href: str) -> str | None:
        """Return the folder of the file by the path of a band, or `None` if the path has no such folder."""
        parent = href.replace("\\", "/").rpartition("/")[0]
        if self.within is None:
            return parent or "."
        start, ending, _ = parent.rpartition(self.within + "/")
        return start + ending[:-1] if ending else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFields:
    """Scene, band and time in the name of a file."""

    scene: str
    """Id of the scene, which the files of all its bands share."""
    band: str | None
    """Name of the product's band; `None` for a file of all bands."""
    file: str | None
    """Name of the band in the file name."""
    start: datetime | None
    """Start of the acquisition (UTC), or `None` if unknown."""
    end: datetime | None
    """End of the acquisition, included."""
    fields: Fields
    """All fields of the name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """Vectors of a model, whose components are the bands of a product."""

    model: str
    """URL of the model."""
    version: str | None = None
    """Version of the model or of its product; `None` if only files and stores state it."""
    version_tag: str | None = None
    """Key of the version in the GDAL metadata of files."""
    quantization: Quantization | None = None
    """How stored integers are converted to numbers."""
    unit_length: bool = False
    """Whether the Euclidean length of a vector is 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A known kind of data: its bands, file names, catalogs, radiometry and classes.

    Examples
    --------
    >>> from geoxt.layers.products import Band, Radiometry
    >>> drone = Product(
    ...     name="drone",
    ...     bands=(Band(name="red", common="red", index=1), Band(name="nir", common="nir", index=2)),
    ...     files=(Template("{field}_{date:%Y%m%d}.tif"),),
    ...     rules=(Radiometry(scale=0.0001),),
    ... )
    >>> drone.identify("flights/north_20240503.tif").start.date()
    datetime.date(2024, 5, 3)
    """

    name: str
    """Value of `product=`."""
    title: str = ""
    """Title; by default the name."""
    kind: Literal["image", "labels", "shapes"] = "image"
    """Continuous pixels, pixels of class codes, or polygons."""
    bands: tuple[Band, ...] = ()
    """Measured bands, by wavelength or as stored; for labels the band of class codes."""
    extras: tuple[Band, ...] = ()
    """Further bands of a scene: quality, masks, auxiliary measurements."""
    default_bands: tuple[str, ...] = ()
    """Bands that are opened by default; empty for all of `bands`."""
    rgb: tuple[str, ...] = ()
    """Bands to show as red, green and blue."""
    files: tuple[Template, ...] = ()
    """Templates of file names. Fields other than `band` and `resolution` identify the scene; `date` is its time."""
    scenes: tuple[Template, ...] = ()
    """Templates of the names of folders and archives of one scene."""
    period: Interval | None = None
    """Time interval of files without a date in their name."""
    crs: str | None = None
    """Coordinate reference system, if all files share one."""
    resolution: float | None = None
    """Pixel size of all files in metres, if they share one."""
    nodata: float | None = None
    """Nodata value."""
    ignore: tuple[int, ...] = ()
    """Class codes to ignore in training, for labels."""
    dtypes: tuple[tuple[str, str], ...] = ()
    """Pairs of a shell pattern, of band names as in file names, and a data type; the first match is used."""
    rules: tuple[Radiometry, ...] = ()
    """Scales and offsets; the first match is used."""
    sidecar: Sidecar | None = None
    """Metadata file of a scene with scales and offsets, which take precedence over `rules`."""
    legend: Legend | None = None
    """Classes of labels and shapes."""
    embedding: Embedding | None = None
    """Model and quantization of embeddings."""
    qa: tuple[Qa, ...] = ()
    """Quality bands, the most detailed first."""
    collections: tuple[Collection, ...] = ()
    """STAC collections that serve the product."""
    platforms: tuple[str, ...] = ()
    """STAC `platform`, lower case with hyphens; empty for any."""
    instruments: tuple[str, ...] = ()
    """STAC `instruments`, lower case; empty for any."""
    mission: tuple[str, str | None] | None = None
    """First and last day of acquisitions; `None` as last for a current mission."""
    license: str | None = None
    """SPDX id or name of the license."""
    cite: str | None = None
    """DOI or URL to cite."""

    def __post_init__(self) -> None:
        """Set the title; raise if bands have one name, or files without a band field have bands of one index."""
        if not self.title:
            object.__setattr__(self, "title", self.name)
        names = [band.name for band in (*self.bands, *self.extras)]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            problem = f"Cannot define product {self.name!r}: it has several bands named {repeated[0]!r}."
            raise InputError(problem, remedy="Pass {bands} with different names.", argument="bands")
        all_bands = next((str(template) for template in self.files if "band" not in template.names), None)
        if all_bands is not None and len({band.index for band in self.bands}) < len(self.bands):
            problem = f"Cannot tell the bands of {self.name} in files of the form {all_bands!r}."
            remedy = "Use a form with a field {{band}}. Or give each band the index of its band in the file."
            raise InputError(problem, remedy=remedy, argument="files")

    @property
    def patterns(self) -> tuple[str, ...]:
        """Forms of file names as text: names of the fields in braces."""
        forms = (re.sub(r"\{_?(\w+)(:([^{}]|\{[^{}]*\})*)?\}", r"{\1}", template.pattern) for template in self.files)
        return tuple(dict.fromkeys(forms))

    def identify(self, path: SomePath) -> FileFields | None:
        """Return the fields of a file name by path or URL; `None` if no template matches."""
        address = str(path).split("?", 1)[0]
        for template in self.files:
            fields = template.match(address, tail=True)
            if fields is not None:
                start, end = template.interval(fields) or self.period or (None, None)
                band, file = self._band(str(fields["band"])) if "band" in fields else (None, None)
                return FileFields(scene=self._scene(fields), band=band, file=file, start=start, end=end, fields=fields)
        return None

    def _scene(self, fields: Fields) -> str:
        """Return the id of the scene if the file name has all its fields, else the joined fields of the name."""
        for template in self.scenes:
            if set(template.names) <= set(fields):
                return template.fill({name: fields[name] for name in template.names})
        return "_".join(_text(value) for name, value in fields.items() if name not in {"band", "resolution"}) or "all"

    def _band(self, file: str) -> tuple[str, str]:
        """Return the band of a name in a file name, and the product's form of that name; else the name twice.

        Names that the product's files do not have may be band names or common names, as in templates of users.
        """
        bands = (*self.bands, *self.extras)
        exact = next((band for band in bands if file in band.files), None)
        if exact is not None:
            return exact.name, file
        key = band_key(file)
        by_name = [b for b in bands if key in map(band_key, (b.name, *b.files))]
        matches = by_name or [b for b in bands if b.common and band_key(b.common) == key]
        if len(matches) != 1:
            return file, file
        band = matches[0]
        same = [name for name in band.files if band_key(name) == key]
        return band.name, same[0] if same else band.files[0] if len(band.files) == 1 else file

    def radiometry(self, file: str, *, baseline: str | None = None) -> Radiometry | None:
        """Return scale and offset of a band by its name in file names; see `scale_offset.choose`."""
        return choose(self.rules, file, baseline=baseline, product=self.name)

    def dtype(self, file: str) -> str | None:
        """Return the data type of a band by its name in file names, or `None` if unknown."""
        return next((dtype for pattern, dtype in self.dtypes if fnmatchcase(file, pattern)), None)

    @property
    def attrs(self) -> dict[Hashable, Any]:
        """Attributes of its layers: title, and the model of embeddings."""
        attrs: dict[Hashable, Any] = {"long_name": self.title}
        if self.embedding is None:
            return attrs
        normalization = "unit length" if self.embedding.unit_length else "none"
        return attrs | {
            "model": self.embedding.model,
            **({} if self.embedding.version is None else {"version": self.embedding.version}),
            "embedding_type": "pixel",
            "dimensions": len(self.bands),
            "normalization": normalization,
            "source_data": [self.name],
        }

    @property
    def unit_length(self) -> int:
        """Number of bands of embeddings of unit length; 0 for other pixels."""
        return len(self.bands) if self.embedding is not None and self.embedding.unit_length else 0

    def quantization(self, dtype: str) -> Quantization | None:
        """Return the quantization of files of a data type; `None` for floating-point files.

        Raises
        ------
        InputError
            If files of this type cannot be dequantized.
        """
        if self.embedding is None or np.dtype(dtype).kind == "f":
            return None
        if dtype != "int8" or self.embedding.quantization is None:
            stored = "int8" if self.embedding.quantization else "floating-point numbers"
            problem = f"Cannot take files of {dtype} as {self.name}: their embeddings are {stored}."
            raise InputError(problem, remedy="Leave {product} out.", value=dtype, argument="product")
        return self.embedding.quantization

    def split_version(self, stated: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return a store's attributes of embeddings with the end of the model's URL as the version."""
        attrs = dict(stated)
        base = "" if self.embedding is None else f"{self.embedding.model}/"
        if base and str(attrs.get("model", "")).startswith(base):
            attrs |= {"model": base[:-1], "version": str(attrs["model"]).removeprefix(base)}
        return attrs

    def tagged_embedding(self, tags: Mapping[str, str]) -> dict[Hashable, Any]:
        """Return the attributes of embeddings in the GDAL metadata of a file: "v1" is version 1.0."""
        key = None if self.embedding is None else self.embedding.version_tag
        version = str(tags.get(key, "")).removeprefix("v") if key else ""
        return {"version": f"{version}.0" if version.isdigit() else version} if version else {}

    def collection(self, name: str) -> Collection | None:
        """Return the first collection with an id, or `None`."""
        return next((collection for collection in self.collections if collection.id == name), None)


def band_key(name: str) -> str:
    """Return a name in upper case, without file name extension and without leading zeros of its number."""
    return re.sub(r"(?<=B)0+(?=\d)", "", name.upper().removesuffix(".TIF"))


def _text(value: Value) -> str:
    return value.strftime("%Y%m%dT%H%M%S") if isinstance(value, datetime) else str(value)
