"""A dataset on disk: a sequence of samples, their classes, splits, figures, layers and checks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import xarray as xr

from geoxt.datasets.as_layer import open_layer
from geoxt.datasets.assets import Array, Raster
from geoxt.datasets.cache import indexed
from geoxt.datasets.catalog import get
from geoxt.datasets.entries import Entry
from geoxt.datasets.fetch import fetch, manual_instructions
from geoxt.datasets.image_windows import cut, first_windows, instances_of_other_splits
from geoxt.datasets.labels import folder_label
from geoxt.datasets.locations import footprints
from geoxt.datasets.plot import draw
from geoxt.datasets.read_sample import Reader, Sample
from geoxt.datasets.sample_index import Missing
from geoxt.datasets.spec import FolderSplit, ListSplit, RandomSplit, SequentialSplit, Spec
from geoxt.datasets.splits import assign
from geoxt.datasets.verify import Report, check
from geoxt.errors import DatasetWarning, InputError, ReadError
from geoxt.layers.products import Band
from geoxt.legend import Legend
from geoxt.template import Template
from geoxt.types import SomePath


class Dataset(Sequence[Sample]):
    """Samples of a dataset: dicts of lazy layers (`DataArray`), labels, boxes and recordings.

    Parameters
    ----------
    reader
        What reads samples.
    entries
        The samples.
    split
        Their split; `None` for all.
    left_out
        Samples that were left out, and why.
    """

    def __init__(
        self, reader: Reader, entries: Sequence[Entry], *, split: str | None = None, left_out: Sequence[str] = ()
    ) -> None:
        self.reader, self.entries, self.split = reader, list(entries), split
        self.left_out = tuple(left_out)

    @property
    def spec(self) -> Spec:
        """What is known of the dataset."""
        return self.reader.spec

    @property
    def root(self) -> Path:
        """Folder with its files."""
        return self.reader.root

    @property
    def classes(self) -> Legend | None:
        """Codes, names and colours; `None` where nothing is classified."""
        return self.spec.classes

    @property
    def bands(self) -> dict[str, tuple[Band, ...]]:
        """The bands that are read, by key of the sample."""
        out = {}
        for key, asset in self.spec.assets.items():
            if isinstance(asset, Raster | Array) and asset.bands and key not in self.reader.leave:
                chosen = self.reader.bands.get(key) or range(len(asset.bands))
                out[key] = tuple(asset.bands[at] for at in chosen)
        return out

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: Any) -> Any:
        """Return a sample, or for a slice the dataset of these."""
        if isinstance(index, slice):
            return Dataset(self.reader, self.entries[index], split=self.split)
        return self.reader.lazy(self.entries[index])

    def fields(self, index: int) -> dict[str, Any]:
        """Return what the paths and lists say of a sample."""
        return dict(self.entries[index].fields)

    def read(self, index: int) -> Sample:
        """Return a sample as numpy arrays."""
        return self.reader.read(self.entries[index])[0]

    def only(self, keys: Sequence[str]) -> Dataset:
        """Return the same samples with some of their assets."""
        reader = replace(self.reader, leave=self.reader.leave | (set(self.spec.assets) - set(keys)), tables={})
        return Dataset(reader, self.entries, split=self.split, left_out=self.left_out)

    def plot(self, index: int) -> Any:
        """Draw a sample, its images, mask, boxes and label; return the figure of matplotlib."""
        return draw(self.spec, self[index], self.reader, self.entries[index])

    def layer(self, key: str | None = None, **options: Any) -> xr.DataArray:
        """Open the images of all samples as one layer, which joins any other; with time where their names have a date.

        Parameters
        ----------
        key
            Which asset; the first image by default.
        **options
            Passed on to `geoxt.open_cogs`: `crs`, `resolution`, `grid`, `groupby`, …

        Raises
        ------
        InputError
            Where the dataset is not georeferenced, or its splits are windows of the same images.
        """
        if self.spec.window and self.split is not None:
            msg = f"Cannot open split {self.split!r} of {self.spec.name!r} as a layer: it is windows of images that "
            raise InputError(msg + "other splits share. Load it without split=, and split the layer by geoxt.splits.")
        return open_layer(self.spec, self.root, self.entries, key, options)

    def verify(self, *, deep: bool = False) -> Report:
        """Compare the files with what the spec says; with `deep`, read every sample too."""
        return check(self.reader, self.entries, self.left_out, whole=self.split is None, deep=deep)


def load(
    name: str | Spec,
    root: SomePath,
    split: str | None = None,
    bands: str | Sequence[str] | None = None,
    *,
    level: str | None = None,
    download: bool = False,
    checksum: bool = True,
    missing: Missing = "raise",
) -> Dataset:
    """Open a dataset: find its samples, and read none.

    Parameters
    ----------
    name
        One of `names()`, or a spec of your own.
    root
        Folder with the extracted files.
    split
        One of the splits that `get(name).split_names` gives; `None` for all samples but those that came apart.
    bands
        Bands to read, in this order, by name or common name; images without any of them are left out of the samples.
    level
        Which classes the masks have, where they have several: one of `get(name).levels`.
    download
        Fetch what is not there; see `fetch`.
    checksum
        Compare what is fetched with its published checksum.
    missing
        "raise": an error where a sample lacks files. "skip": such samples are left out; `left_out` says which.

    Returns
    -------
    Dataset
        Samples in the order of their names.

    Raises
    ------
    InputError
        Where the name, the split, the level or a band is not known.
    ReadError
        Where files are missing.

    Examples
    --------
    >>> import geoxt.datasets
    >>> train = geoxt.datasets.load("eurosat", "data", split="train", download=True)  # doctest: +SKIP
    """
    spec = get(name) if isinstance(name, str) else name
    spec = spec if level is None else spec.at(level)
    if split is not None and split not in spec.split_names:
        known = f"it has {', '.join(spec.split_names)}. Pass one of these, or none" if spec.split_names else ""
        msg = f"Cannot find split {split!r} of {spec.name!r}: {known or 'it is whole. Pass none'} for all."
        raise InputError(msg)
    if missing not in get_args(Missing):
        msg = f"Cannot open {spec.name!r} with missing={missing!r}. Pass 'raise' or 'skip'."
        raise InputError(msg)
    place = Path(root).expanduser()
    if download:
        fetch(spec, place, checksum=checksum)
    chosen, leave = _bands(spec, bands)
    _require_there(spec, place)
    released = _released(spec, split)
    entries, left_out = indexed(released, place, missing=missing)
    if not entries:
        others = released is not spec and any(True for _ in spec.lead.templates[0].find(place))
        raise ReadError(_empty(spec, place, split) if others else _nothing_there(spec, place))
    _check_classes(spec, place, entries)
    if left_out and missing == "raise":  # all that is no error: what lists name
        warnings.warn(f"{spec.name!r} in {str(place)!r}: {left_out[0]}.", DatasetWarning, stacklevel=2)
    reader = Reader(spec=spec, root=place, bands=chosen, leave=leave)
    if spec.window:
        entries = cut(reader, entries)
    if split is not None:
        reader, entries = _of_split(reader, entries, split)
    return Dataset(reader, entries, split=split, left_out=left_out)


def _released(spec: Spec, split: str | None) -> Spec:
    """Return the dataset without the splits that came apart from it, or of these the one that is asked for."""
    if not isinstance(spec.splits, FolderSplit) or not spec.splits.apart:
        return spec
    key, lead = next(iter(spec.assets.items()))
    wanted = [one for one in spec.split_names if one not in spec.splits.apart]
    wanted = [split] if split in spec.splits.apart else wanted
    texts = tuple(t for t in lead.templates[0].choices("split") if spec.splits.names.get(t, t) in wanted)
    return replace(spec, assets={**spec.assets, key: replace(lead, only={**lead.only, "split": texts})})


def _of_split(reader: Reader, entries: list[Entry], split: str) -> tuple[Reader, list[Entry]]:
    """Return the samples of a split, and what reads them."""
    spec, root = reader.spec, reader.root
    if isinstance(spec.splits, ListSplit) and all(entry.listed is None for entry in entries):
        found = list(Template(spec.splits.path).find(root))
        why = "none of its samples is in them" if found else "they are not there"
        msg = f"Cannot split {spec.name!r} by the lists {spec.splits.path!r} below {str(root)!r}: {why}. "
        raise ReadError(msg + "Pass download=True to fetch them.")
    count = len(first_windows(entries))
    if isinstance(spec.splits, RandomSplit | SequentialSplit) and spec.samples is not None and count != spec.samples:
        msg = f"{spec.name!r} in {str(root)!r} has {count:,} samples, the release {spec.samples:,}: its splits are cut "
        warnings.warn(f"{msg}from what is there, and are not those of the release.", DatasetWarning, stacklevel=3)
    places = footprints(spec, root, entries) if isinstance(spec.splits, RandomSplit) and spec.splits.block else None
    of = assign(spec, entries, places=places)
    if split not in of:
        raise ReadError(_empty(spec, root, split, of))
    if isinstance(spec.splits, RandomSplit) and spec.splits.shapes:
        reader = replace(reader, away=tuple(instances_of_other_splits(reader, entries, of, split, spec.splits.shapes)))
    return reader, [entry for entry, one in zip(entries, of, strict=True) if one == split]


def _bands(spec: Spec, wanted: str | Sequence[str] | None) -> tuple[dict[str, tuple[int, ...]], frozenset[str]]:
    """Return positions of the wanted bands by asset, and the images without any."""
    banded = {k: a for k, a in spec.assets.items() if isinstance(a, Raster | Array) and a.bands}
    if wanted is None:
        return {key: tuple(range(len(asset.bands))) for key, asset in banded.items()}, frozenset()
    chosen: dict[str, list[int]] = {key: [] for key in banded}
    for name in [wanted] if isinstance(wanted, str) else wanted:
        found = [
            (key, at)
            for key, asset in banded.items()
            for at, band in enumerate(asset.bands)
            if name.lower() in {band.name.lower(), (band.common or "").lower()}
        ]
        if not found:
            known = ", ".join(f"{b.name} ({b.common})" if b.common else b.name for b in spec.bands)
            msg = f"Cannot find band {name!r} of {spec.name!r}: it has {known or 'none'}. Pass bands= of these names."
            raise InputError(msg)
        for key, at in found:
            chosen[key].append(at)
    some = {key: tuple(at) for key, at in chosen.items() if at}
    return some, frozenset(key for key in banded if key not in some)


def _require_there(spec: Spec, root: Path) -> None:
    if root.is_file():
        msg = f"Cannot open {spec.name!r} in {str(root)!r}: it is a file. Pass root= of the folder that it lies in, "
        raise ReadError(msg + "and download=True to extract what is in it.")
    if not root.is_dir():
        raise ReadError(_nothing_there(spec, root))
    half = sorted(path.name for path in (root / ".geoxt").glob("*.moving"))
    if half:
        msg = f"Cannot open {spec.name!r} in {str(root)!r}: the extraction of {half[0].removesuffix('.moving')!r} was "
        raise ReadError(msg + "cut short. Pass download=True, or run `geoxt datasets fetch`, to end it.")


def _empty(spec: Spec, root: Path, split: str | None, of: Sequence[str | None] = ()) -> str:
    part = "without the splits that came apart" if split is None else f"of split {split!r}"
    there = ", ".join(f"{of.count(one):,} of {one!r}" for one in spec.split_names if one in of) or "others"
    hand = next((a for a in spec.archives if a.manual and (split is None or f"{split}/" in a.holds)), None)
    how = "Pass download=True to fetch it, or root= of a folder that has all of it."
    if hand is not None:
        how = f"{hand.manual} Put it at {str(root / hand.file)!r}, and pass download=True."
    return f"Cannot find samples of {spec.name!r} {part} in {str(root)!r}: there are {there}. {how}"


def _nothing_there(spec: Spec, root: Path) -> str:
    looks = spec.lead.templates[0].pattern
    how = manual_instructions(spec, root)
    how = f"{how} Then pass download=True." if how else "Pass download=True to fetch it, or root= of its folder."
    return f"Cannot find {spec.name!r} in {str(root)!r}: nothing there is like {looks!r}. {how}".rstrip()


def _check_classes(spec: Spec, root: Path, entries: Sequence[Entry]) -> None:
    """Refuse folders that are no class, and say which classes have none."""
    if "label" not in spec.lead.names or spec.classes is None:
        return
    texts: dict[str, Entry] = {}
    for entry in entries:
        texts.setdefault(str(entry.fields["label"]), entry)
    key = next(iter(spec.assets))
    there = {
        folder_label(spec, text, str(root / next(iter(entry.paths(key, spec.lead).values()))))
        for text, entry in texts.items()
    }
    gone = [spec.classes.name(code) for code in spec.classes.codes if code not in there]
    if gone:
        msg = f"{spec.name!r} in {str(root)!r} has no samples of {len(gone)} of its classes: {', '.join(gone)}."
        warnings.warn(msg, DatasetWarning, stacklevel=3)
