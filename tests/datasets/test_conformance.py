"""Every dataset is indexed, fetched, verified, read, split and plotted by its spec."""

from __future__ import annotations

import contextlib
import math
import re
import warnings
from dataclasses import replace
from datetime import date, datetime

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support.dataset_trees import pack
from support.sample_files import size_of

from geoxt import datasets
from geoxt.datasets.assets import Audio, Raster
from geoxt.datasets.catalog import _SPECS
from geoxt.datasets.read_sample import is_mask
from geoxt.datasets.spec import ListSplit, RandomSplit
from geoxt.errors import InputError
from geoxt.source import is_categorical, nodata_of
from geoxt.template import Template

NAMES = datasets.names()


@pytest.mark.parametrize("name", NAMES)
def test_all_samples_are_found_and_verified(trees, name):
    tree = trees(name)
    dataset = datasets.load(tree.spec, tree.root)
    assert len(dataset) == _count(tree)
    names = [n for n in dataset.spec.first_asset.names if n != "row"]
    expected = {tuple(fields[n] for n in names) for fields in _released(tree)}
    assert {tuple(dataset.fields(at)[n] for n in names) for at in range(len(dataset))} == expected
    report = dataset.verify(deep=True)
    assert report.ok, str(report)
    assert report.extra == ()


def _released(tree):
    """Return the samples of a tree without those of extra splits."""
    extra = getattr(tree.spec.splits, "extra", ())
    return [fields for fields in tree.samples if fields.get("split") not in extra]


def _count(tree):
    """Return how many samples a tree has: of windows, as many as are needed to cover each image."""
    if tree.spec.window is None:
        return len(_released(tree))
    shape = size_of(tree.spec, tree.spec.first_asset.shape)
    return len(tree.samples) * math.prod(math.ceil(side / tree.spec.window) for side in shape)


@pytest.mark.parametrize("name", NAMES)
def test_splits_partition_the_samples(trees, name):
    tree = trees(name)
    parts = {split: datasets.load(tree.spec, tree.root, split) for split in tree.spec.split_names}
    if tree.splits:
        assert {split: len(part) for split, part in parts.items()} == dict(tree.splits)
    keys = [str(part.fields(at)) for part in parts.values() for at in range(len(part))]
    assert len(keys) == len(set(keys))
    extra = len(tree.samples) - len(_released(tree))
    assert len(keys) == (_count(tree) + extra if parts else 0)
    assert all(len(part) for part in parts.values())


@pytest.mark.parametrize("name", NAMES)
def test_samples_match_the_spec(trees, name):
    tree = trees(name)
    dataset = datasets.load(tree.spec, tree.root)
    for at in {0, len(dataset) - 1}:
        lazy, read = dataset[at], dataset.read(at)
        for key, asset in tree.spec.assets.items():
            if key not in lazy:
                assert asset.optional or asset.where, key
                continue
            if hasattr(lazy[key], "dims"):
                np.testing.assert_array_equal(lazy[key].values, read[key])
                assert lazy[key].dtype == lazy[key].values.dtype
            if isinstance(asset, Raster) and not is_mask(asset) and asset.convert is None:
                assert read[key].dtype == np.dtype(asset.dtype)
                assert lazy[key].sizes["band"] == len(asset.bands)
                assert list(lazy[key].band.values) == [band.name for band in asset.bands]
            if is_mask(asset) and not getattr(asset, "instances", False):
                assert is_categorical(lazy[key])
                assert set(np.unique(read[key])) <= {*tree.spec.classes.codes, *getattr(asset, "ignore", ())}
            if isinstance(asset, Audio):
                assert read[key].dtype == np.float32
                assert np.abs(read[key]).max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_fetched_dataset_is_complete(trees, served, tmp_path, name):
    tree, (folder, url) = trees(name), served
    spec = pack(tree, folder / name, f"{url}/{name}")
    spec = replace(spec, archives=tuple(a for a in spec.archives if (tree.root / a.file).is_file() or _packed(a)))
    if not spec.archives:
        pytest.skip("comes as folders, which people copy")
    root = tmp_path / "root"
    datasets.fetch(spec, root)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    datasets.fetch(spec, root)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()} == before
    files = {path.relative_to(tree.root) for path in tree.root.rglob("*") if path.is_file()}
    there = {path.relative_to(root) for path in before}
    assert {path for path in files if any(str(path).startswith(_starts(a)) for a in spec.archives)} <= there


def _packed(archive) -> bool:
    return any(archive.file.endswith(end) for end in (".zip", ".gz", ".tgz", ".tar", ".bz2", ".tbz")) or bool(
        archive.part_of
    )


def _starts(archive) -> tuple[str, ...]:
    return archive.members or (archive.file,)


@pytest.mark.parametrize("name", NAMES)
def test_sample_is_plotted(trees, name):
    pytest.importorskip("matplotlib")
    tree = trees(name)
    dataset = datasets.load(tree.spec, tree.root)
    figure = dataset.plot(len(dataset) - 1)
    pictures = [key for key, value in dataset[len(dataset) - 1].items() if hasattr(value, "dims")]
    assert sum(bool(axes.images) for axes in figure.axes) >= bool(pictures)
    assert tree.spec.title in figure.get_suptitle()


@pytest.mark.parametrize("name", [name for name in NAMES if datasets.get(name).georeferenced])
def test_dataset_opens_as_a_layer(trees, name):
    tree = trees(name)
    dataset = datasets.load(tree.spec, tree.root)
    layer = dataset.layer()
    key = next(iter(dataset.bands))
    assert list(layer.band.values) == [band.name for band in dataset.bands[key]]
    sample = dataset[0][key]
    sample_layer = sample.isel(time=0, drop=True) if "time" in sample.dims else sample
    there = layer.sel(x=sample_layer.x, y=sample_layer.y, method="nearest")
    template = tree.spec.first_asset.templates[0]
    if "date" in dataset.fields(0) and "time" in there.dims:
        there = there.sel(time=dataset.fields(0)["date"])
    finest = max(band.resolution or 0 for band in dataset.bands[key]) == (dataset.bands[key][0].resolution or 0)
    if finest and "time" not in sample.dims and not getattr(tree.spec.assets[key], "mixed_resolution", False):
        np.testing.assert_array_equal(there.values, sample_layer.values)
    assert there.sizes["x"] == sample_layer.sizes["x"]
    assert ("time" in layer.dims) == any("%" in template.form(n) for n in template.names)


MASKS = [
    (name, key)
    for name in NAMES
    for key, asset in datasets.get(name).assets.items()
    if datasets.get(name).georeferenced and isinstance(asset, Raster) and asset.is_mask
]


@pytest.mark.parametrize(("name", "key"), MASKS)
def test_layer_of_masks_has_the_codes_of_the_samples(trees, name, key):
    tree = trees(name)
    dataset = datasets.load(tree.spec, tree.root)
    mask = tree.spec.assets[key]
    if mask.colors or any(stored != code for stored, code in (mask.codes or {}).items()):
        with pytest.raises(InputError, match="Use its samples"):
            dataset.layer(key)
        return
    at = next(at for at in range(len(dataset)) if key in dataset[at])
    layer, sample_layer = dataset.layer(key), dataset[at][key]
    assert is_categorical(layer)
    there = layer.sel(x=sample_layer.x, y=sample_layer.y, method="nearest").values
    labelled = np.isin(sample_layer.values, sorted({*tree.spec.classes.codes} - {*tree.spec.assets[key].ignore}))
    np.testing.assert_array_equal(there[labelled], sample_layer.values[labelled])
    assert labelled.any()
    assert labelled.all() or set(np.unique(there[~labelled])) == {nodata_of(layer)}


def test_few_datasets_need_a_custom_function():
    assert sum(any(a.convert for a in spec.assets.values()) for spec in _SPECS.values()) <= 5


@pytest.mark.parametrize("name", NAMES)
def test_random_splits_are_described_and_grouped(name):
    spec = datasets.get(name)
    if isinstance(spec.splits, RandomSplit):
        names = {n for a in spec.assets.values() for t in a.templates for n in t.names}
        assert set(spec.splits.patterns) <= names
        names |= {n for pattern in spec.splits.patterns.values() for n in re.compile(pattern).groupindex}
        assert set(spec.splits.group) <= names
        assert spec.splits.block or spec.window or not spec.georeferenced or spec.splits.group
        assert spec.splits.instances in {None, *spec.assets}
    if isinstance(spec.splits, ListSplit):
        assert spec.split_names


PATTERNS = sorted({t.pattern for spec in _SPECS.values() for asset in spec.assets.values() for t in asset.templates})


@pytest.mark.parametrize("pattern", PATTERNS)
@given(data=st.data())
def test_template_matches_its_formatted_paths(pattern, data):
    """Invariant 8: `find(fill(fields)) == fields`."""
    template = Template(pattern)
    fields = {name: data.draw(_texts(template, name), label=name) for name in template.needs}
    path = None
    with contextlib.suppress(InputError):  # text that would be read as other fields
        path = template.fill(fields)
    assume(path is not None)
    assert template.match(path) == {name: fields[name] for name in template.names}


def _texts(template, name):
    form = template.form(name)
    if template.choices(name):
        return st.sampled_from(template.choices(name))
    if re.fullmatch(r"\d*d", form):
        return st.integers(0, 10 ** int(form[:-1] or 6) - 1)
    if "%" in form:
        days = st.dates(date(1990, 1, 1), date(2040, 1, 1))
        return days.map(lambda day: datetime.strptime(day.strftime(form), form))  # noqa: DTZ007 - as templates do
    if form:
        return st.from_regex(re.compile(f"(?a:{form})"), fullmatch=True)
    return st.text("abcXYZ019 _-", min_size=1, max_size=8)


@pytest.fixture(autouse=True)
def partial_trees_are_fine():
    with warnings.catch_warnings():
        warnings.simplefilter("error", datasets.dataset.DatasetWarning)  # a tree shows every class
        yield
