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
from geoxt.datasets.fetch import fetch, manual_instructions
from geoxt.datasets.image_windows import cut, first_windows, instances_of_other_splits
from geoxt.datasets.labels import folder_label
from geoxt.datasets.locations import footprints
from geoxt.datasets.plot import draw
from geoxt.datasets.read_sample import Reader, Sample
from geoxt.datasets.sample_index import Missing
from geoxt.datasets.spec import FolderSplit, ListSplit, RandomSplit, SequentialSplit, Spec
from geoxt.datasets.splits import assign, hold_out
from geoxt.datasets.verify import Report, check
from geoxt.errors import DatasetWarning, InputError, ReadError
from geoxt.layers.products import Band
from geoxt.legend import Legend
from geoxt.template import Template
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
    """

    def __init__(
        self,
        reader: Reader,
        entries: Sequence[Entry],
        *,
        split: str | tuple[str, ...] | None = None,
        skipped: Sequence[str] = (),
    ) -> None:
        self.reader, self.entries, self.split = reader, list(entries), split
        self.skipped = tuple(skipped)

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
        return Dataset(reader, self.entries, split=self.split, skipped=self.skipped)

    def hold_out(self, fraction: float, *, seed: int = 0) -> tuple[Dataset, Dataset]:
        """Divide the samples at random into those for training and a fraction for validation.

        Samples of one group (`Spec.group`), and windows of one image, stay together; classes of single files are
        stratified. The division is the same on every machine.

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
        held = hold_out(self.spec, self.entries, fraction, seed=seed)
        if all(held) or not any(held):
            msg = f"Cannot hold out {fraction:g} of {len(self)} samples of {self.spec.name!r}: they are one group."
            raise InputError(msg, remedy="Use all samples.", value=fraction, argument="fraction")
        parts = [
            [e for e, is_held in zip(self.entries, held, strict=True) if is_held is part] for part in (False, True)
        ]
        training, validation = (Dataset(self.reader, part, split=self.split, skipped=self.skipped) for part in parts)
        return training, validation

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
        return open_layer(self.spec, self.root, self.entries, key, options)

    def verify(self, *, deep: bool = False) -> Report:
        """Compare the files with the spec; with `deep`, read every sample."""
        return check(self.reader, self.entries, self.skipped, whole=self.split is None, deep=deep)


def load(
    name: str | Spec,
    root: SomePath,
    split: str | Sequence[str] | None = None,
    bands: str | Sequence[str] | None = None,
    *,
    level: str | None = None,
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
    window
        Side in pixels of square windows, for large images: each window is a sample. The last row and column of windows
        are shifted inwards, so that all lie within the image.
    download
        Whether to download missing files by `fetch`.
    checksum
        Whether to verify checksums of downloaded files.
    missing
        "raise": raise if a sample lacks files. "skip": leave such samples out and list them in `skipped`.

    Returns
    -------
    Dataset
        Samples in the order of their names.

    Raises
    ------
    InputError
        If the name, split, level or a band is unknown.
    ReadError
        If files are missing.

    Examples
    --------
    >>> import geoxt.datasets
    >>> train = geoxt.datasets.load("eurosat", "data", split="train", download=True)  # doctest: +SKIP
    """
    spec = get(name) if isinstance(name, str) else name
    spec = spec if level is None else spec.at_level(level)
    splits = (split,) if isinstance(split, str) else tuple(split or ())
    _check_selection(spec, splits, window)
    if missing not in get_args(Missing):
        msg = f"Cannot open {spec.name!r} with missing={missing!r}."
        remedy = "Pass {missing:'raise'} or {missing:'skip'}."
        raise InputError(msg, remedy=remedy, value=missing, argument="missing")
    folder = Path(root).expanduser()
    if download:
        fetch(spec, folder, checksum=checksum)
    band_indices, excluded = _select_bands(spec, bands)
    _check_folder(spec, folder)
    selected = _select_release(spec, splits)
    entries, skipped = indexed(selected, folder, missing=missing)
    if not entries:
        has_other_splits = selected is not spec and any(True for _ in spec.first_asset.templates[0].find(folder))
        raise _empty_split(spec, folder, next(iter(splits), None)) if has_other_splits else _no_files(spec, folder)
    _check_classes(spec, folder, entries)
    if skipped and missing == "raise":  # samples without files raised before: these are missing names of split lists
        warnings.warn(f"{spec.name!r} in {str(folder)!r}: {skipped[0]}.", DatasetWarning, stacklevel=2)
    reader = Reader(spec=spec, root=folder, bands=band_indices, excluded=excluded)
    if spec.window:
        entries = cut(reader, entries, spec.window)
    if splits:
        reader, entries = _select_split(reader, entries, splits)
    if window:
        entries = cut(reader, entries, window)
    return Dataset(reader, entries, split=splits[0] if len(splits) == 1 else splits or None, skipped=skipped)


def _check_selection(spec: Spec, splits: Sequence[str], window: int | None) -> None:
    """Raise if a split is unknown, or the images cannot be cut into windows."""
    for split in splits:
        if split not in spec.split_names:
            msg = f"Cannot find split {split!r} of {spec.name!r}: it has {', '.join(spec.split_names) or 'no splits'}."
            remedy = "Pass {split} of these, or leave it out for all samples."
            raise InputError(
                msg, remedy=remedy if spec.split_names else "Leave {split} out.", value=split, argument="split"
            )
    if window is not None:
        if spec.window or window < 1:
            reason = f"its samples are windows of {spec.window} pixels" if spec.window else "the side is not positive"
            msg = f"Cannot cut {spec.name!r} into windows of {window} pixels: {reason}."
            raise InputError(msg, remedy="Leave {window} out.", value=window, argument="window")
        replace(spec, window=window)  # raises for assets that cannot be cut


def _select_release(spec: Spec, splits: Sequence[str]) -> Spec:
    """Return the spec without separately published splits, or with those of them that are selected."""
    if not isinstance(spec.splits, FolderSplit) or not spec.splits.extra:
        return spec
    key, lead = next(iter(spec.assets.items()))
    main = [name for name in spec.split_names if name not in spec.splits.extra]
    names = splits if any(name in spec.splits.extra for name in splits) else main
    texts = tuple(t for t in lead.templates[0].choices("split") if spec.splits.names.get(t, t) in names)
    return replace(spec, assets={**spec.assets, key: replace(lead, where={**lead.where, "split": texts})})


def _select_split(reader: Reader, entries: list[Entry], names: Sequence[str]) -> tuple[Reader, list[Entry]]:
    """Return the reader and the entries of some splits."""
    spec, root = reader.spec, reader.root
    if isinstance(spec.splits, ListSplit) and all(entry.listed is None for entry in entries):
        files = list(Template(spec.splits.path).find(root))
        reason = "they name none of its samples" if files else "they do not exist"
        msg = f"Cannot split {spec.name!r} by the lists {spec.splits.path!r} below {str(root)!r}: {reason}."
        raise ReadError(msg, remedy="Pass {download:True} to download them.")
    count = len(first_windows(entries))
    if isinstance(spec.splits, RandomSplit | SequentialSplit) and spec.samples is not None and count != spec.samples:
        msg = f"{spec.name!r} in {str(root)!r} has {count:,} samples, the release {spec.samples:,}: its splits are "
        warnings.warn(
            f"{msg}made from the samples on disk, and differ from those of the release.", DatasetWarning, stacklevel=3
        )
    image_footprints = (
        footprints(spec, root, entries) if isinstance(spec.splits, RandomSplit) and spec.splits.block else None
    )
    splits = assign(spec, entries, footprints=image_footprints)
    for name in names:
        if name not in splits:
            raise _empty_split(spec, root, name, splits)
    if isinstance(spec.splits, RandomSplit) and spec.splits.instances:
        foreign = instances_of_other_splits(reader, entries, splits, names, spec.splits.instances)
        reader = replace(reader, foreign_instances=tuple(foreign))
    return reader, [entry for entry, name in zip(entries, splits, strict=True) if name in names]


def _select_bands(spec: Spec, names: str | Sequence[str] | None) -> tuple[dict[str, tuple[int, ...]], frozenset[str]]:
    """Return the indices of bands by asset, and the images without any of the bands."""
    banded = {k: a for k, a in spec.assets.items() if isinstance(a, Raster | HDF5Array) and a.bands}
    if names is None:
        return {key: tuple(range(len(asset.bands))) for key, asset in banded.items()}, frozenset()
    indices: dict[str, list[int]] = {key: [] for key in banded}
    for name in [names] if isinstance(names, str) else names:
        matches = [
            (key, index)
            for key, asset in banded.items()
            for index, band in enumerate(asset.bands)
            if name.lower() in {band.name.lower(), (band.common or "").lower()}
        ]
        if not matches:
            known = ", ".join(f"{b.name} ({b.common})" if b.common else b.name for b in spec.bands)
            msg = f"Cannot find band {name!r} of {spec.name!r}: it has {known or 'none'}."
            raise InputError(msg, remedy="Pass {bands} of these names.", value=name, argument="bands")
        for key, index in matches:
            indices[key].append(index)
    selected = {key: tuple(index) for key, index in indices.items() if index}
    return selected, frozenset(key for key in banded if key not in selected)


def _check_folder(spec: Spec, root: Path) -> None:
    """Raise if the root is not a folder, or has a partly extracted archive."""
    if root.is_file():
        raise ReadError(
            f"Cannot open {spec.name!r} in {str(root)!r}: it is a file.",
            remedy="Pass {root} of its folder, and {download:True} to extract it.",
        )
    if not root.is_dir():
        raise _no_files(spec, root)
    partial = sorted(path.name for path in (root / ".geoxt").glob("*.moving"))
    if partial:
        archive = partial[0].removesuffix(".moving")
        raise ReadError(
            f"Cannot open {spec.name!r} in {str(root)!r}: the extraction of {archive!r} was interrupted.",
            remedy="Fetch the dataset again, or pass {download:True}, to complete it.",
        )


def _empty_split(spec: Spec, root: Path, split: str | None, splits: Sequence[str | None] = ()) -> ReadError:
    selection = "outside of separately published splits" if split is None else f"of split {split!r}"
    counts = ", ".join(f"{splits.count(name):,} of {name!r}" for name in spec.split_names if name in splits)
    archive = next((a for a in spec.archives if a.instructions and (split is None or f"{split}/" in a.members)), None)
    remedy = "Pass {download:True} to download it, or {root} of a folder with all files."
    if archive is not None:
        remedy = (
            f"{_literal(f'{archive.instructions} Put it at {str(root / archive.file)!r}')}, and pass {{download:True}}."
        )
    problem = f"Cannot find samples of {spec.name!r} {selection} in {str(root)!r}"
    return ReadError(f"{problem}: there are {counts or 'only others'}.", remedy=remedy)


def _no_files(spec: Spec, root: Path) -> ReadError:
    instructions = _literal(manual_instructions(spec, root))
    return ReadError(
        f"Cannot find {spec.name!r} in {str(root)!r}: no file matches {spec.first_asset.templates[0].pattern!r}.",
        remedy=f"{instructions} Then pass {{download:True}}."
        if instructions
        else "Pass {download:True} to download it, or {root} of its folder.",
    )


def _literal(text: str) -> str:
    """Return text with its braces doubled, for use in a remedy."""
    return text.replace("{", "{{").replace("}", "}}")


def _check_classes(spec: Spec, root: Path, entries: Sequence[Entry]) -> None:
    """Raise on folders that are not classes, and warn of classes without samples."""
    if "label" not in spec.first_asset.names or spec.classes is None:
        return
    texts: dict[str, Entry] = {}
    for entry in entries:
        texts.setdefault(str(entry.fields["label"]), entry)
    key = next(iter(spec.assets))
    codes = {
        folder_label(spec, text, str(root / next(iter(entry.paths(key, spec.first_asset).values()))))
        for text, entry in texts.items()
    }
    absent = [spec.classes.name(code) for code in spec.classes.codes if code not in codes]
    if absent:
        msg = f"{spec.name!r} in {str(root)!r} has no samples of {len(absent)} of its classes: {', '.join(absent)}."
        warnings.warn(msg, DatasetWarning, stacklevel=3)
