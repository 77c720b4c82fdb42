"""Datasets on disk: load samples, plot them, open them as a layer, and verify files."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import xarray as xr

from geoxt.datasets.as_layer import open_layer
from geoxt.datasets.assets import HDF5Array, Raster
from geoxt.datasets.cache import indexed
from geoxt.datasets.catalog import get
from geoxt.datasets.entries import Entry
from geoxt.datasets.fetch import fetch
from geoxt.datasets.image_windows import cut
from geoxt.datasets.locations import footprints
from geoxt.datasets.parts import Where, make_part, select_where
from geoxt.datasets.plot import draw
from geoxt.datasets.read_sample import Reader, Sample
from geoxt.datasets.sample_index import Missing
from geoxt.datasets.selection import (
    check_archives,
    check_classes,
    check_folder,
    check_selection,
    complete_samples,
    empty_split,
    no_files,
    readable,
    select_assets,
    select_bands,
    select_release,
    select_split,
    without_assets,
)
from geoxt.datasets.spec import RandomSplit, Spec
from geoxt.datasets.splits import file_fields, hold_out
from geoxt.datasets.verify import Report, check
from geoxt.errors import DatasetWarning, InputError
from geoxt.layers.products import Band
from geoxt.legend import Legend
from geoxt.reprs import abbreviate, html_table
from geoxt.types import SomePath


class Dataset(Sequence[Sample]):
    """Sequence of samples: dicts of lazy layers (`xarray.DataArray`), labels, boxes and recordings.

    Parameters
    ----------
    reader
        Reader of the samples.
    entries
        Index entries of the samples.
    split
        Name of the split, or names of several; `None` for all samples.
    skipped
        Descriptions of samples without all of their files.
    complete
        Whether the samples are those of the whole release, whose number and files `verify` compares.
    """

    def __init__(
        self,
        reader: Reader,
        entries: Sequence[Entry],
        *,
        split: str | tuple[str, ...] | None = None,
        skipped: Sequence[str] = (),
        complete: bool = False,
    ) -> None:
        self.reader, self.entries, self.split = reader, list(entries), split
        self.skipped, self.complete = tuple(skipped), complete

    @property
    def spec(self) -> Spec:
        """Specification of the dataset."""
        return self.reader.spec

    @property
    def root(self) -> Path:
        """Folder of the files."""
        return self.reader.root

    @property
    def classes(self) -> Legend | None:
        """Class codes, names and colors; `None` if there are no classes."""
        return self.spec.classes

    @property
    def bands(self) -> dict[str, tuple[Band, ...]]:
        """Selected bands by key of the sample."""
        out = {}
        for key, asset in self.spec.assets.items():
            if isinstance(asset, Raster | HDF5Array) and asset.bands and key not in self.reader.excluded:
                indices = self.reader.bands.get(key) or range(len(asset.bands))
                out[key] = tuple(asset.bands[index] for index in indices)
        return out

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        rows = (f"{name} {value}" for name, value in self._rows().items())
        return f"<Dataset {self.spec.name}: {'; '.join(rows)}>"

    def _repr_html_(self) -> str:
        """Return number of samples, split, keys, bands and classes as a table."""
        return html_table(f"Dataset {self.spec.name}", self._rows())

    def _rows(self) -> dict[str, str]:
        rows = {"samples": f"{len(self):,}"}
        rows |= {} if self.split is None else {"split": str(self.split)}
        rows["assets"] = abbreviate(key for key in self.spec.assets if key not in self.reader.excluded)
        rows |= {f"bands of {key}": abbreviate(band.name for band in bands) for key, bands in self.bands.items()}
        return rows | ({"classes": abbreviate(self.classes.names)} if self.classes else {})

    def __getitem__(self, index: Any) -> Any:
        """Return a sample with lazy layers; for a slice, the dataset of its samples."""
        if isinstance(index, slice):
            return Dataset(self.reader, self.entries[index], split=self.split)
        return self.reader.lazy(self.entries[index])

    def fields(self, index: int) -> dict[str, Any]:
        """Return the fields of a sample in paths and list files, by name."""
        return dict(self.entries[index].fields)

    def read(self, index: int) -> Sample:
        """Return a sample with numpy arrays."""
        return self.reader.read(self.entries[index])[0]

    def select_assets(self, keys: Sequence[str]) -> Dataset:
        """Return the dataset with a subset of the assets, by key."""
        reader = replace(self.reader, excluded=self.reader.excluded | (set(self.spec.assets) - set(keys)), tables={})
        return Dataset(reader, self.entries, split=self.split, skipped=self.skipped, complete=self.complete)

    def hold_out(self, fraction: float, *, seed: int = 0) -> tuple[Dataset, Dataset]:
        """Divide the samples at random into training samples and a fraction for validation.

        Samples of one group (`Spec.group`) stay together, as do windows of one image (of a single site: of one
        location) and images of one block. Images that overlap an image for validation are left out. Classes of single
        files are stratified. The division is the same on every machine.

        Parameters
        ----------
        fraction
            Fraction of the groups for validation, between 0 and 1.
        seed
            Random seed.

        Returns
        -------
        Dataset, Dataset
            Samples for training, and for validation.

        Raises
        ------
        InputError
            If all samples are of one group.
        """
        held_out = self._held_out(fraction, seed)
        if True not in held_out or False not in held_out:
            msg = f"Cannot hold out {fraction:g} of {len(self)} samples of {self.spec.name!r}: they are one group."
            raise InputError(msg, remedy="Use all samples.", value=fraction, argument="fraction")
        parts = [
            [e for e, is_held in zip(self.entries, held_out, strict=True) if is_held is part] for part in (False, True)
        ]
        training, validation = (Dataset(self.reader, part, split=self.split, skipped=self.skipped) for part in parts)
        return training, validation

    def _held_out(self, fraction: float, seed: int) -> list[bool | None]:
        """Return whether each sample is held out; see `splits.hold_out`."""
        spec = self.spec
        if not isinstance(spec.splits, RandomSplit) or spec.splits.block is None:
            return hold_out(spec, self.entries, fraction, seed=seed)
        names = file_fields(spec, self.entries)
        keys = [tuple(entry.fields[name] for name in names) for entry in self.entries]
        images = dict(zip(reversed(keys), reversed(self.entries), strict=True))  # the first window of each
        outlines = footprints(spec, self.root, list(images.values()))
        held_out = hold_out(spec, list(images.values()), fraction, seed=seed, footprints=outlines)
        held_out_images = dict(zip(images, held_out, strict=True))
        return [held_out_images[key] for key in keys]

    def plot(self, index: int) -> Any:
        """Plot the images, masks, boxes and label of a sample, and return the matplotlib figure."""
        return draw(self.spec, self[index], self.reader, self.entries[index])

    def layer(self, key: str | None = None, **options: Any) -> xr.DataArray:
        """Open the images of all samples as one layer, with a time dimension if file names have a date.

        Parameters
        ----------
        key
            Key of the asset; the first image by default.
        **options
            Passed to `geoxt.open_cogs`: `crs`, `resolution`, `grid`, `groupby`, …

        Raises
        ------
        InputError
            If the dataset is not georeferenced, or samples of the split are windows of images.
        """
        if self.spec.window and self.split is not None:
            msg = f"Cannot open split {self.split!r} of {self.spec.name!r} as a layer: it has windows of images that "
            remedy = "Leave {split} out, and split the layer by geoxt.splits."
            raise InputError(f"{msg}other splits share.", remedy=remedy, value=self.split, argument="split")
        return open_layer(self.reader, self.entries, key, options)

    def verify(self, *, deep: bool = False) -> Report:
        """Compare the files with the spec; with `deep`, read every sample."""
        return check(self.reader, self.entries, self.skipped, complete=self.complete, deep=deep)


def load(
    name: str | Spec,
    root: SomePath,
    split: str | Sequence[str] | None = None,
    bands: str | Sequence[str] | None = None,
    *,
    level: str | None = None,
    assets: Sequence[str] | None = None,
    where: Where | None = None,
    window: int | None = None,
    download: bool = False,
    checksum: bool = True,
    missing: Missing = "raise",
) -> Dataset:
    """Load a dataset: index its samples without reading them.

    Parameters
    ----------
    name
        One of `names()`, or a custom spec.
    root
        Folder with the extracted files.
    split
        One of `get(name).split_names`, or several, such as folds; `None` for all samples but those of separately
        published splits.
    bands
        Bands to read, in this order, by name or common name; images without any of them are left out of the samples.
    level
        Alternative classes of the masks: one of `get(name).levels`.
    assets
        Keys of the assets to read; by default all. Files of other assets may be missing.
    where
        Values of fields of the paths that select samples: `{"state": "de_1m_2013"}`. By default all samples.
    window
        Side in pixels of square windows, for large images: each window is a sample. The last row and column of windows
        are shifted inwards, so that all lie within the image.
    download
        Whether to download missing files by `fetch`, of the selected splits, assets and field values.
    checksum
        Whether to verify checksums of downloaded files.
    missing
        "raise" raises if an archive of the selection is absent or a sample lacks files. "skip" leaves out samples that
        lack files or a row in a table of labels; `skipped` lists them and absent archives.

    Returns
    -------
    Dataset
        Samples in the order of their names.

    Raises
    ------
    InputError
        If the name, split, level, field or a band is unknown.
    ReadError
        If files are missing.

    Examples
    --------
    >>> import geoxt.datasets
    >>> train = geoxt.datasets.load("eurosat", "data", split="train", download=True)  # doctest: +SKIP
    """
    release = get(name) if isinstance(name, str) else name
    spec = select_assets(release if level is None else release.at_level(level), assets)
    splits = (split,) if isinstance(split, str) else tuple(split or ())
    check_selection(spec, splits, window)
    if missing not in get_args(Missing):
        msg = f"Cannot open {spec.name!r} with missing={missing!r}."
        remedy = "Pass {missing:'raise'} or {missing:'skip'}."
        raise InputError(msg, remedy=remedy, value=missing, argument="missing")
    folder = Path(root).expanduser()
    if download:
        fetch(release, folder, split=splits, assets=assets, where=where, checksum=checksum)
    part = make_part(release, splits=splits, assets=assets, where=where)
    band_indices, excluded = select_bands(spec, bands)
    with readable(spec, folder):
        check_folder(spec, folder)
        selected = select_where(select_release(spec, splits), part.where)
        entries, notes = indexed(without_assets(selected, excluded), folder)
        if not entries:
            has_other_splits = selected is not spec and any(True for _ in spec.first_asset.templates[0].find(folder))
            raise empty_split(spec, folder, next(iter(splits), None)) if has_other_splits else no_files(spec, folder)
        absent = check_archives(part, folder, missing=missing)
        check_classes(spec, folder, entries)
        warned = notes[:1]
        if not (splits or part.where or notes) and spec.samples not in {None, len(entries)}:
            warned = [f"{len(entries):,} samples, but the release has {spec.samples:,}"]
        if warned and missing == "raise":
            warnings.warn(f"{spec.name!r} in {str(folder)!r}: {warned[0]}.", DatasetWarning, stacklevel=2)
    reader = Reader(spec=spec, root=folder, bands=band_indices, excluded=excluded)
    if spec.window:
        entries = cut(reader, entries, spec.window)
    if splits:
        reader, entries = select_split(reader, entries, splits)
    entries, problems = complete_samples(reader, entries, missing=missing)
    if window:
        entries = cut(reader, entries, window)
    skipped = [*absent, *problems, *notes]
    selection = splits[0] if len(splits) == 1 else splits or None
    return Dataset(reader, entries, split=selection, skipped=skipped, complete=not (selection or part.where))
