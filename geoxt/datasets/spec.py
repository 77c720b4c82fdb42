"""A dataset as data: what it is of, where its files are, how they are split. `load` and `fetch` read nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from geoxt.datasets.assets import Array, Asset, Raster, Rows, Vector
from geoxt.errors import InputError
from geoxt.layers.products import Band, resolve_bands
from geoxt.layers.products import get as layer_spec
from geoxt.legend import Legend, palette
from geoxt.tasks import TaskName
from geoxt.template import Template


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """A file to fetch: an archive to extract, or a file that is used as it is."""

    file: str
    """Its name below the root; the ending says how it is extracted."""
    url: str | None = None
    """Where it is (http, https, ftp, s3); `None` where an account or a form stands before it."""
    md5: str | None = None
    """Published checksum; `None` where none is known."""
    sha256: str | None = None
    """Published checksum; `None` where none is known."""
    size: int | None = None
    """Bytes, where known."""
    into: str = ""
    """Folder below the root that it is extracted in; the root where empty."""
    holds: tuple[str, ...] = ()
    """Beginnings of the paths, below the root, that it makes; the file itself where empty."""
    join: str | None = None
    """Name of the archive of which it is a part (tar.gzaa, tar.gzab, …); parts stand in their order."""
    manual: str | None = None
    """How to get it where there is no `url`: what to ask whom for."""
    apart: bool = False
    """Whether it came apart from the release: without a `url` it is passed over where it is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSplit:
    """The field `split` of the paths says the split."""

    names: Mapping[str, str] = field(default_factory=dict)
    """Split by text in the path, where they differ ("training": "train")."""
    apart: tuple[str, ...] = ()
    """Splits that came apart from the release: loaded by their name alone, and in no count of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListSplit:
    """Lists of samples say the split, and may tell further fields of a sample."""

    path: str
    """Template of the lists, with a field `split`; or of one table, with the split in a column."""
    columns: Rows
    """What their columns hold, as templates of the sample's fields."""
    separator: str = ","
    """What stands between the columns of a text."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Split by text, where they differ."""
    official: bool = True
    """Whether they come with the dataset; else from others who work with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSplit:
    """A fixed choice of samples, by the value of a field."""

    field: str
    """The field."""
    values: Mapping[str, tuple[str | int, ...]]
    """Its values by split; samples of other values are in none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomSplit:
    """A split of our own, where none is published: seeded, the same on every machine, and never across groups."""

    fractions: Mapping[str, float] = field(default_factory=lambda: {"train": 0.6, "val": 0.2, "test": 0.2})
    """Share of each split; they sum to 1."""
    seed: int = 0
    """Seed of the order."""
    group: tuple[str, ...] = ()
    """Fields that samples of one group share: a scene, a storm, a place. A group is in one split whole."""
    block: float | None = None
    """Side of square blocks, in metres, that are in one split whole; for georeferenced images. A sample that overlaps
    one of a later split is in none."""
    shapes: str | None = None
    """Key of a mask that numbers shapes, for windows: a shape is in one split, the one with most of its pixels; windows
    of the others show no label there."""

    def words(self, window: int | None = None) -> str:
        """Return what the rule is, in words; `window` is the side of the windows that samples are, in pixels."""
        parts = ", ".join(f"{name} {share:.0%}" for name, share in self.fractions.items())
        by = [f"blocks of {self.block:,g} m"] if self.block else list(self.group)
        by += [f"blocks of {window}x{window} pixels"] if window else []
        whole = f", {self.shapes} whole" if self.shapes else ""
        return f"by {' and '.join(by) or 'sample'}{whole}: {parts} (seed {self.seed})"


@dataclass(frozen=True, slots=True, kw_only=True)
class SequentialSplit:
    """Samples in the order of their names, cut into runs."""

    fractions: Mapping[str, float]
    """Share of each split; they sum to 1. A run ends before sample number floor(sum of shares x samples)."""


Splits = FolderSplit | ListSplit | FieldSplit | RandomSplit | SequentialSplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Other classes of the same masks: a coarser legend, or one that stands in another band of their files."""

    classes: Legend
    """Codes, names and colours."""
    codes: Mapping[int, int] = field(default_factory=dict)
    """Class code by stored number, others are errors; empty where numbers are the codes."""
    channel: int | None = None
    """Band of the file, from 1; that of the asset where `None`."""
    mask: str = "mask"
    """Key of the masks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Published mean and standard deviation of an asset's bands."""

    asset: str
    """Key of the asset."""
    mean: tuple[float, ...]
    """A band each, in the asset's order."""
    std: tuple[float, ...]
    """A band each."""
    units: str
    """What they are in: "DN", "dB", "as stored"."""
    source: str
    """Who published them, over which part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """All that is known of a dataset."""

    name: str
    """What users pass to `load`."""
    title: str
    """What people call it."""
    task: TaskName
    """What one learns from it."""
    source: str
    """Who or what took the images."""
    assets: Mapping[str, Asset]
    """Kinds of files by key of the sample; the first one's files are the samples."""
    classes: Legend | None = None
    """Codes, names and colours; `None` for regression and self-supervision."""
    levels: Mapping[str, Level] = field(default_factory=dict)
    """Other classes that its masks have, by the name that `load(level=)` takes."""
    archives: tuple[Archive, ...] = ()
    """What to fetch."""
    splits: Splits | None = None
    """How it is split; `None` where it is whole."""
    window: int | None = None
    """Side in pixels of the squares that samples are cut into, where images are few and large: on a lattice from the
    upper left; the last ones are moved inwards, over the ones before, so that all are whole."""
    samples: int | None = None
    """Samples of the whole release, without the splits that came apart; of windows, the images they are cut from."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Samples of each split."""
    size: str = ""
    """Height x width of the images in pixels, where it is not that of the first asset."""
    resolution: tuple[float, ...] = ()
    """Pixel size in metres: one, or the smallest and largest."""
    georeferenced: bool = False
    """Whether its images lie on Earth, so that they open as a layer."""
    crs: str | None = None
    """CRS of images whose files do not say; only where it is documented."""
    modality: str = "RGB"
    """What bands there are, in a word or two."""
    statistics: tuple[Statistics, ...] = ()
    """Published statistics."""
    cite: str = ""
    """DOI or URL."""
    licence: str | None = None
    """SPDX id or name; `None` where none is stated."""
    homepage: str = ""
    """Where it is described."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Class by text of `{label}`, where they differ by more than underscores."""
    quirks: tuple[str, ...] = ()
    """What surprises."""
    unverified: tuple[str, ...] = ()
    """Facts here that nobody has checked on the data."""
    paper: str = ""
    """Where Table 1 of the paper says otherwise: what it says."""
    row: str = ""
    """Its row in Table 1 of the paper; empty for what is not in it."""
    examples: Mapping[str, tuple[str | int, ...]] = field(default_factory=dict)
    """Two or more values of a field as the release has them; needed for fields that are regular expressions."""

    def __post_init__(self) -> None:
        if not self.assets:
            msg = f"Cannot describe {self.name!r} without assets. Pass assets= with one or more."
            raise InputError(msg)
        for key, asset in self.assets.items():
            on = getattr(asset, "on", None)
            if isinstance(asset, Vector) and on not in self.assets:
                msg = f"Cannot draw {key!r} of {self.name!r} on {on!r}: it has {', '.join(self.assets)}. Pass on=."
                raise InputError(msg)
            if self.window and not (isinstance(asset, Vector) or (isinstance(asset, Raster) and not asset.own_size)):
                msg = f"Cannot cut {key!r} of {self.name!r} into windows of {self.window} pixels: only images of one "
                raise InputError(msg + "size and shapes are cut. Leave window= out.")

    @property
    def lead(self) -> Asset:
        """The asset whose files are the samples."""
        return next(iter(self.assets.values()))

    @property
    def bands(self) -> tuple[Band, ...]:
        """The bands of all assets, in order."""
        return tuple(b for a in self.assets.values() if isinstance(a, Raster | Array) for b in a.bands)

    @property
    def windows(self) -> int:
        """Samples that an image of the usual size is cut into."""
        if self.window is None or not isinstance(self.lead, Raster):
            return 1
        return math.prod(-(-side // self.window) for side in self.lead.shape)

    def at(self, level: str) -> Spec:
        """Return what is known of the dataset with the classes of another level.

        Raises
        ------
        InputError
            Where it has no such level.
        """
        if level not in self.levels:
            msg = f"Cannot find level {level!r} of {self.name!r}: it has {', '.join(self.levels) or 'none'}. "
            raise InputError(msg + "Pass level= of these, or leave it out.")
        chosen = self.levels[level]
        asset = self.assets[chosen.mask]
        assert isinstance(asset, Raster | Array)
        other: Asset = replace(asset, codes=chosen.codes)
        if isinstance(other, Raster):
            other = replace(other, channel=chosen.channel or other.channel)
        return replace(self, classes=chosen.classes, assets={**self.assets, chosen.mask: other})

    @property
    def split_names(self) -> tuple[str, ...]:
        """The splits that can be loaded."""
        match self.splits:
            case None:
                return ()
            case FolderSplit(names=names):
                texts = self.lead.templates[0].choices("split")
                return tuple(dict.fromkeys(names.get(text, text) for text in texts))
            case ListSplit(path=path, columns=columns, names=names):
                held = columns.values() if isinstance(columns, Mapping) else columns
                texts = next((c for p in (path, *held) if (c := Template(p).choices("split"))), ())
                return tuple(dict.fromkeys(names.get(text, text) for text in texts))
            case FieldSplit(values=values):
                return tuple(values)
            case RandomSplit(fractions=fractions) | SequentialSplit(fractions=fractions):
                return tuple(fractions)
            case _:
                raise AssertionError(self.splits)


def sensor_bands(layer: str, names: str) -> tuple[Band, ...]:
    """Return bands of a known layer, in the order of their names: `sensor_bands("sentinel2", "B04 B03")`."""
    return resolve_bands(layer_spec(layer), names.split())


def plain_bands(names: str, *, wavelengths: tuple[float, ...] = ()) -> tuple[Band, ...]:
    """Return bands without a sensor: `plain_bands("red green blue")`; common names, with wavelengths where given."""
    waves = wavelengths or (None,) * len(names.split())
    return tuple(
        Band(name=name, common=name, wavelength=wave, index=at)
        for at, (name, wave) in enumerate(zip(names.split(), waves, strict=True), start=1)
    )


def classes(names: str, *, colors: tuple[str, ...] = (), first: int = 0) -> Legend:
    """Return the legend of class names that stand in lines (or, in one line, between blanks), counted from `first`."""
    each = [name.strip() for name in names.strip().split("\n")] if "\n" in names.strip() else names.split()
    return Legend(tuple(range(first, first + len(each))), tuple(each), colors or palette(len(each)))


def coded(names: str) -> Legend:
    """Return the legend of classes that stand in lines, each after its code: `coded("10 Dense forests")`."""
    lines = [line.strip().partition(" ") for line in names.strip().split("\n")]
    return Legend(tuple(int(code) for code, _, _ in lines), tuple(name for _, _, name in lines), palette(len(lines)))


RGB = plain_bands("red green blue")
"""The bands of a plain picture."""
