"""Dataset specifications: files, archives, splits, classes and metadata. `load` and `fetch` use only these."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from geoxt.datasets.assets import Asset, Columns, HDF5Array, Raster, Vector
from geoxt.errors import InputError
from geoxt.layers.products import Band, resolve_bands
from geoxt.layers.products import get as get_product
from geoxt.legend import Legend
from geoxt.tasks import TaskName
from geoxt.template import Template


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A file to download: an archive to extract, or a data file."""

    file: str
    """Path below the root; the suffix selects the extractor."""
    url: str | None = None
    """Address (http, https, ftp, s3); `None` if the download needs an account or a form."""
    md5: str | None = None
    """Published checksum, or `None`."""
    sha256: str | None = None
    """Published checksum, or `None`."""
    size: int | None = None
    """Size in bytes, or `None`."""
    extract_to: str = ""
    """Folder below the root to extract to; the root if empty."""
    members: tuple[str, ...] = ()
    """Path prefixes of the extracted files, below the root; the file itself if empty."""
    assets: tuple[str, ...] = ()
    """Keys of the assets in the files, if `members` is empty because they share folders with other archives."""
    part_of: str | None = None
    """Multi-part archive that this file is a part of (tar.gzaa, tar.gzab, …); parts are listed in order."""
    instructions: str | None = None
    """Instructions for a manual download, if there is no `url`."""
    optional: bool = False
    """Whether it was published separately from the release: without a `url`, `fetch` skips it if it is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSplit:
    """Splits by the field `split` of the paths."""

    names: Mapping[str, str] = field(default_factory=dict)
    """Split by text in the path, if they differ ("training": "train")."""
    extra: tuple[str, ...] = ()
    """Further splits, published separately: loaded only by name, and not in the sample count of the release."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListSplit:
    """Splits by list files, which may hold further fields of a sample."""

    path: str
    """Path template of the lists, with a field `split`; or of a table with a split column."""
    columns: Columns
    """Columns, as templates of the sample's fields."""
    separator: str = ","
    """Column separator of text files."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Split by text in the list, if they differ."""
    official: bool = True
    """Whether the authors of the dataset published the lists; `False` for lists of third parties."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSplit:
    """Splits by the value of a field."""

    field: str
    """Name of the field."""
    values: Mapping[str, tuple[str | int, ...]]
    """Field values by split; samples with other values are in no split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomSplit:
    """Seeded random splits by group, for datasets without published splits; the same on every machine."""

    fractions: Mapping[str, float] = field(default_factory=lambda: {"train": 0.6, "val": 0.2, "test": 0.2})
    """Fraction of each split; the fractions sum to 1."""
    seed: int = 0
    """Random seed of the order of groups."""
    group: tuple[str, ...] = ()
    """Fields that identify a group, such as a scene or a recording. All samples of a group are in one split."""
    patterns: Mapping[str, str] = field(default_factory=dict)
    """Regular expressions by field; their named groups are further fields for `group`."""
    block: float | None = None
    """Side of square blocks in metres, for georeferenced images: all samples of a block are in one split. A sample that
    overlaps a sample of a later split is in no split."""
    instances: str | None = None
    """Key of an instance mask, for windows: an instance belongs to the split with most of its pixels, and is unlabeled
    in windows of the other splits."""

    def describe(self, window: int | None = None) -> str:
        """Return a description of the split; `window` is the side in pixels of samples that are windows."""
        fractions = ", ".join(f"{name} {fraction:.0%}" for name, fraction in self.fractions.items())
        groups = [f"blocks of {self.block:,g} m"] if self.block else list(self.group)
        groups += [f"blocks of {window}x{window} pixels"] if window else []
        instances = f", {self.instances} whole" if self.instances else ""
        return f"by {' and '.join(groups) or 'sample'}{instances}: {fractions} (seed {self.seed})"


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialSplit:
    """Consecutive ranges of the samples, in the order of their names."""

    fractions: Mapping[str, float]
    """Fraction of each split; they sum to 1. A range ends before sample floor(cumulative fraction x samples)."""


Splits = FolderSplit | ListSplit | FieldSplit | RandomSplit | SequentialSplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Alternative classes of the masks: a coarser legend, or classes in another band of the files."""

    classes: Legend
    """Codes, names and colors."""
    codes: Mapping[int, int] = field(default_factory=dict)
    """Class code by stored value (other values are errors); empty if they are equal."""
    channel: int | None = None
    """Band of the file, from 1; the band of the asset if `None`."""
    mask: str = "mask"
    """Key of the masks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Published mean and standard deviation of an asset's bands."""

    asset: str
    """Key of the asset."""
    mean: tuple[float, ...]
    """Mean per band, in the asset's order."""
    std: tuple[float, ...]
    """Standard deviation per band."""
    units: str
    """Units: "DN", "dB", "as stored"."""
    source: str
    """Publication, and the samples that it covers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """Files, classes, splits and metadata of a dataset."""

    name: str
    """Name for `load`."""
    title: str
    """Full name."""
    task: TaskName
    """Kind of task."""
    source: str
    """Sensor or provider of the images."""
    assets: Mapping[str, Asset]
    """Assets by key of the sample; each file of the first asset is a sample."""
    classes: Legend | None = None
    """Codes, names and colors; `None` for regression and self-supervised learning."""
    levels: Mapping[str, Level] = field(default_factory=dict)
    """Alternative classes of the masks, by name for `load(level=)`."""
    archives: tuple[Archive, ...] = ()
    """Files to download."""
    splits: Splits | None = None
    """Split rule; `None` if there are no splits."""
    group: tuple[str, ...] = ()
    """Fields that identify related samples, such as those of a storm or a scene: `Dataset.hold_out` never divides them.
    By default every file of the first asset is a group."""
    window: int | None = None
    """Side in pixels of square windows, for few large images: on a lattice from the upper left corner; the last row and
    column are shifted inwards, so that all windows lie within the image. Each window is a sample."""
    samples: int | None = None
    """Number of samples of the release, without separately published splits; for windows, the number of images."""
    split_sizes: Mapping[str, int] = field(default_factory=dict)
    """Number of samples per split."""
    image_size: str = ""
    """Height x width of the images in pixels, if it differs from the first asset's shape."""
    resolution: tuple[float, ...] = ()
    """Pixel size in metres, or the smallest and largest pixel size."""
    georeferenced: bool = False
    """Whether the images are georeferenced, so that they can be opened as a layer."""
    crs: str | None = None
    """Documented CRS of images whose files lack a CRS."""
    modality: str = "RGB"
    """Kind of bands, such as `"RGB"` or `"SAR, MSI"`."""
    statistics: tuple[Statistics, ...] = ()
    """Published statistics."""
    cite: str = ""
    """DOI or URL."""
    license: str | None = None
    """SPDX id or name; `None` if unknown."""
    homepage: str = ""
    """URL of the homepage."""
    class_names: Mapping[str, str] = field(default_factory=dict)
    """Class by text of `{label}`, if they differ in more than underscores."""
    quirks: tuple[str, ...] = ()
    """Peculiarities of the files, as sentences."""
    unverified: tuple[str, ...] = ()
    """Fields of this spec that were not verified on the data."""
    paper_differences: str = ""
    """Values in Table 1 of the paper that differ from this spec."""
    paper_row: str = ""
    """Row in Table 1 of the paper; empty if it is not listed."""
    examples: Mapping[str, tuple[str | int, ...]] = field(default_factory=dict)
    """Two or more values of a field in the release; required for fields that are regular expressions."""

    def __post_init__(self) -> None:
        if not self.assets:
            raise InputError(f"Cannot describe {self.name!r} without assets.", remedy="Pass one or more {assets}.")
        for key, asset in self.assets.items():
            like = getattr(asset, "like", None)
            if isinstance(asset, Vector) and like not in self.assets:
                msg = f"Cannot rasterize {key!r} of {self.name!r} on {like!r}: its assets are {', '.join(self.assets)}."
                raise InputError(msg, remedy="Pass {like} with the key of an image.")
            if self.window and not (
                isinstance(asset, Vector) or (isinstance(asset, Raster) and not asset.mixed_resolution)
            ):
                msg = f"Cannot cut {key!r} of {self.name!r} into windows of {self.window} pixels: only rasters on one "
                raise InputError(f"{msg}grid and vector labels can be cut.", remedy="Leave {window} out.")

    @property
    def first_asset(self) -> Asset:
        """First asset; each of its files is a sample."""
        return next(iter(self.assets.values()))

    @property
    def bands(self) -> tuple[Band, ...]:
        """Bands of all assets, in order."""
        return tuple(
            band for asset in self.assets.values() if isinstance(asset, Raster | HDF5Array) for band in asset.bands
        )

    @property
    def windows(self) -> int:
        """Number of windows per image of the usual size."""
        if self.window is None or not isinstance(self.first_asset, Raster):
            return 1
        return math.prod(-(-side // self.window) for side in self.first_asset.shape)

    def at_level(self, level: str) -> Spec:
        """Return the spec with the classes of another level.

        Raises
        ------
        InputError
            If the level is unknown.
        """
        if level not in self.levels:
            msg = f"Cannot find level {level!r} of {self.name!r}: it has {', '.join(self.levels) or 'none'}."
            remedy = "Pass {level} of these, or leave it out." if self.levels else "Leave {level} out."
            raise InputError(msg, remedy=remedy, value=level, argument="level")
        alternative = self.levels[level]
        asset = self.assets[alternative.mask]
        assert isinstance(asset, Raster | HDF5Array)
        mask: Asset = replace(asset, codes=alternative.codes)
        if isinstance(mask, Raster):
            mask = replace(mask, channel=alternative.channel or mask.channel)
        return replace(self, classes=alternative.classes, assets={**self.assets, alternative.mask: mask})

    @property
    def split_names(self) -> tuple[str, ...]:
        """Names of the splits."""
        match self.splits:
            case None:
                return ()
            case FolderSplit(names=names):
                texts = self.first_asset.templates[0].choices("split")
                return tuple(dict.fromkeys(names.get(text, text) for text in texts))
            case ListSplit(path=path, columns=columns, names=names):
                templates = columns.values() if isinstance(columns, Mapping) else columns
                texts = next((c for p in (path, *templates) if (c := Template(p).choices("split"))), ())
                return tuple(dict.fromkeys(names.get(text, text) for text in texts))
            case FieldSplit(values=values):
                return tuple(values)
            case RandomSplit(fractions=fractions) | SequentialSplit(fractions=fractions):
                return tuple(fractions)
            case _:
                raise AssertionError(self.splits)


def sensor_bands(product: str, names: str) -> tuple[Band, ...]:
    """Return bands of a product by name, in this order: `sensor_bands("sentinel2", "B04 B03")`."""
    return resolve_bands(get_product(product), names.split())


def plain_bands(names: str, *, wavelengths: tuple[float, ...] = ()) -> tuple[Band, ...]:
    """Return bands by common names, optionally with wavelengths in micrometres: `plain_bands("red green blue")`."""
    waves = wavelengths or (None,) * len(names.split())
    return tuple(
        Band(name=name, common=name, wavelength=wave, index=index)
        for index, (name, wave) in enumerate(zip(names.split(), waves, strict=True), start=1)
    )


def classes(names: str, *, colors: str = "", first: int = 0) -> Legend:
    """Return the legend of class names separated by newlines (or, on one line, by blanks), with codes from `first`.

    Parameters
    ----------
    names
        Class names.
    colors
        Color of each class, `#rrggbb`, separated by blanks; distinct colors by default.
    first
        Code of the first class.
    """
    labels = [name.strip() for name in names.strip().split("\n")] if "\n" in names.strip() else names.split()
    return Legend(tuple(range(first, first + len(labels))), tuple(labels), tuple(colors.split()))


def coded(names: str) -> Legend:
    """Return the legend of lines of a code and a class name: `coded("10 Dense forests")`."""
    lines = [line.strip().partition(" ") for line in names.strip().split("\n")]
    return Legend(tuple(int(code) for code, _, _ in lines), tuple(name for _, _, name in lines))


RGB = plain_bands("red green blue")
"""Bands of an RGB image."""
