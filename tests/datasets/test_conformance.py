"""Every dataset, from its own spec: found, fetched, verified, read, split, drawn, learnt from; held to the facts."""

from __future__ import annotations

import contextlib
import re
import warnings
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from geoxt import datasets
from geoxt.bridge.chips import collate
from geoxt.datasets.assets import Array, Audio, Raster
from geoxt.datasets.catalog import _SPECS
from geoxt.datasets.reading import is_mask
from geoxt.datasets.spec import Lists, Named, Rule
from geoxt.errors import InputError
from geoxt.source import is_categorical, nodata_of
from geoxt.template import Template
from geoxt.testing.servers import serve_files
from geoxt.testing.trees import make_tree, pack

FACTS = Path(__file__).parents[3] / "shared" / "facts" / "datasets"
NAMES = datasets.names()
SHEETS = {
    "eurosat_rgb": "eurosat",
    "bigearthnet_v2": "bigearthnet",
    "seasonal_contrast_100k": "seasonal_contrast",
    "cowc_detection": "cowc",
    "cowc_counting": "cowc",
    "landcoverai": "landcoverai",
    "landcoverai_scenes": "landcoverai",
}
"""Sheets of facts that are of more than one dataset."""
CSS = {"green": "#008000", "blue": "#0000ff", "orange": "#ffa500", "red": "#ff0000"}
"""Colours that the sheets name."""


def needs(spec) -> None:
    """Skip where an optional package is not installed."""
    if any(isinstance(asset, Array) for asset in spec.assets.values()):
        pytest.importorskip("h5py")
    texts = [t.pattern for asset in spec.assets.values() for t in asset.templates]
    if any(text.endswith(".parquet") for text in texts):
        pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Return the tree of a dataset, each written once."""
    made = {}

    def tree(name):
        needs(datasets.info(name))
        if name not in made:
            made[name] = make_tree(datasets.info(name), tmp_path_factory.mktemp(name))
        return made[name]

    return tree


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    with serve_files(folder, nginx=False) as url:
        yield folder, url


@pytest.mark.parametrize("name", NAMES)
def test_finds_every_sample_and_verifies(trees, name):
    tree = trees(name)
    found = datasets.load(tree.spec, tree.root)
    assert len(found) == len(tree.samples)
    names = [n for n in found.spec.lead.names if n != "row"]
    wanted = {tuple(fields[n] for n in names) for fields in tree.samples}
    assert {tuple(found.fields(at)[n] for n in names) for at in range(len(found))} == wanted
    report = found.verify(deep=True)
    assert report.ok, str(report)
    assert report.extra == ()


@pytest.mark.parametrize("name", NAMES)
def test_splits_share_no_sample_and_leave_none_out(trees, name):
    tree = trees(name)
    parts = {split: datasets.load(tree.spec, tree.root, split) for split in tree.spec.split_names}
    if tree.splits:
        assert {split: len(part) for split, part in parts.items()} == dict(tree.splits)
    keys = [str(part.fields(at)) for part in parts.values() for at in range(len(part))]
    assert len(keys) == len(set(keys))
    assert len(keys) == (len(tree.samples) if parts else 0)
    assert all(len(part) for part in parts.values())


@pytest.mark.parametrize("name", NAMES)
def test_reads_what_the_spec_says(trees, name):
    tree = trees(name)
    found = datasets.load(tree.spec, tree.root)
    for at in {0, len(found) - 1}:
        lazy, read = found[at], found.read(at)
        for key, asset in tree.spec.assets.items():
            if key not in lazy:
                assert asset.optional or asset.only, key
                continue
            if hasattr(lazy[key], "dims"):
                np.testing.assert_array_equal(lazy[key].values, read[key])
                assert lazy[key].dtype == lazy[key].values.dtype
            if isinstance(asset, Raster) and not is_mask(asset) and asset.fix is None:
                assert read[key].dtype == np.dtype(asset.dtype)
                assert lazy[key].sizes["band"] == len(asset.bands)
                assert list(lazy[key].band.values) == [band.name for band in asset.bands]
            if is_mask(asset) and getattr(asset, "value", 1) != "number":
                assert is_categorical(lazy[key])
                assert set(np.unique(read[key])) <= {*tree.spec.classes.codes, *getattr(asset, "ignore", ())}
            if isinstance(asset, Audio):
                assert read[key].dtype == np.float32
                assert np.abs(read[key]).max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_fetches_what_it_then_finds(trees, served, tmp_path, name):
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
        archive.join
    )


def _starts(archive) -> tuple[str, ...]:
    return archive.holds or (archive.file,)


@pytest.mark.parametrize("name", NAMES)
def test_draws_a_sample(trees, name):
    pytest.importorskip("matplotlib")
    tree = trees(name)
    found = datasets.load(tree.spec, tree.root)
    figure = found.plot(len(found) - 1)
    pictures = [key for key, value in found[len(found) - 1].items() if hasattr(value, "dims")]
    assert sum(bool(axes.images) for axes in figure.axes) >= bool(pictures)
    assert tree.spec.title in figure.get_suptitle()


@pytest.mark.parametrize("name", NAMES)
def test_learns_one_step(trees, name):
    tree = trees(name)
    samples = datasets.load(tree.spec, tree.root).to_torch()
    chosen = [sample for sample in (samples[at] for at in range(len(samples))) if len(_target(sample))][-2:]
    batch = collate(chosen)
    image = batch["image"] if isinstance(batch["image"], torch.Tensor) else batch["image"][0][None]
    image = image.flatten(1, 2) if image.ndim == 5 else image
    wanted = torch.stack([_target(sample) for sample in chosen])[: len(image)]
    torch.manual_seed(0)
    net = torch.nn.Linear(image.shape[1], wanted.shape[1])
    features = (image / image.abs().amax().clamp(min=1)).mean(dim=(2, 3))
    losses = []
    for _ in range(3):
        loss = ((net(features) - wanted) ** 2).mean()
        net.zero_grad()
        loss.backward()
        with torch.no_grad():
            for weight in net.parameters():
                weight.sub_(0.1 * weight.grad)
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def _target(sample) -> torch.Tensor:
    """Return numbers to learn of a sample: of its label, mask, boxes, or where there is none its image."""
    if "label" in sample:
        return sample["label"].float().reshape(-1) + 1
    if "mask" in sample:
        return sample["mask"].float().mean().reshape(1) + 1
    if "boxes" in sample:
        return sample["boxes"].mean(dim=0) if len(sample["boxes"]) else torch.zeros(0)
    return sample["image"].float().mean().reshape(1)


@pytest.mark.parametrize("name", [name for name in NAMES if datasets.info(name).georeferenced])
def test_opens_as_a_layer(trees, name):
    tree = trees(name)
    found = datasets.load(tree.spec, tree.root)
    layer = found.layer()
    key = next(iter(found.bands))
    assert list(layer.band.values) == [band.name for band in found.bands[key]]
    sample = found[0][key]
    own = sample.isel(time=0, drop=True) if "time" in sample.dims else sample
    there = layer.sel(x=own.x, y=own.y, method="nearest")
    template = tree.spec.lead.templates[0]
    if "date" in found.fields(0) and "time" in there.dims:
        there = there.sel(time=found.fields(0)["date"])
    finest = max(band.resolution or 0 for band in found.bands[key]) == (found.bands[key][0].resolution or 0)
    if finest and "time" not in sample.dims and not getattr(tree.spec.assets[key], "own_size", False):
        np.testing.assert_array_equal(there.values, own.values)
    assert there.sizes["x"] == own.sizes["x"]
    assert ("time" in layer.dims) == any("%" in template.form(n) for n in template.names)


MASKS = [
    (name, key)
    for name in NAMES
    for key, asset in datasets.info(name).assets.items()
    if datasets.info(name).georeferenced and isinstance(asset, Raster) and asset.is_mask
]


@pytest.mark.parametrize(("name", "key"), MASKS)
def test_a_layer_of_masks_has_the_codes_of_the_samples(trees, name, key):
    tree = trees(name)
    found = datasets.load(tree.spec, tree.root)
    if tree.spec.assets[key].colors:
        with pytest.raises(InputError, match="Use its samples"):
            found.layer(key)
        return
    at = next(at for at in range(len(found)) if key in found[at])
    layer, own = found.layer(key), found[at][key]
    assert is_categorical(layer)
    there = layer.sel(x=own.x, y=own.y, method="nearest").values
    kept = np.isin(own.values, sorted({*tree.spec.classes.codes} - {*tree.spec.assets[key].ignore}))
    np.testing.assert_array_equal(there[kept], own.values[kept])
    assert kept.any()
    assert kept.all() or set(np.unique(there[~kept])) == {nodata_of(layer)}


@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_the_facts(name):
    sheet = FACTS / f"{SHEETS.get(name, name)}.yaml"
    if not sheet.is_file():
        pytest.skip("the facts are not here")
    spec, facts = datasets.info(name), _own(name, yaml.safe_load(sheet.read_text(encoding="utf-8")))
    items = facts["classes"]["items"]
    if spec.classes is not None and items:
        shown = [(item["id"], " ".join(item["name"].replace("_", " ").split())) for item in items]
        assert list(zip(spec.classes.codes, spec.classes.names, strict=True)) == shown
        colors = [CSS.get(item.get("color"), item.get("color")) for item in items]
        assert all(own == said.lower() for own, said in zip(spec.classes.colors, colors, strict=True) if said)
    assert spec.samples in {facts["samples"]["total"], *facts["samples"].get("locations", {}).values(), None}
    for split, count in facts["samples"]["splits"].items():
        assert spec.sizes.get(split, count) == count or isinstance(count, dict)
    if isinstance(spec.splits, Named):
        for split, values in spec.splits.values.items():
            if stems := {Path(text).stem for text in facts["splits"].get(split, ())}:
                files = {Path(spec.lead.templates[0].fill({spec.splits.field: value})).stem for value in values}
                found = {stem for stem in stems for file in files if file == stem or file.startswith(f"{stem}_")}
                assert found == stems
                assert len(files) == len(values) == len(stems)
    published = {a["file"]: a for a in [*facts["archives"], *facts["splits"].get("sources", [])] if a.get("file")}
    sums = {
        a.get(kind) for a in [*published.values(), *facts["splits"].get("sources", [])] for kind in ("md5", "sha256")
    }
    for archive in spec.archives:
        assert {archive.md5, archive.sha256} <= sums | {None}, archive.file
        said = published.get(archive.file, {})
        assert said.get("url") in {archive.url, None} or archive.manual
    numbers = {pair for n in facts["normalization"] if "std" in n for pair in zip(n["mean"], n["std"], strict=True)}
    assert {pair for own in spec.statistics for pair in zip(own.mean, own.std, strict=True)} <= numbers
    waves = {band["name"]: band.get("wavelength_um") for band in facts["bands"]}
    for band in spec.bands:
        if band.wavelength is not None and waves.get(band.name) and waves[band.name] < 1000:
            assert band.wavelength == pytest.approx(waves[band.name])
    cited = [c.get("doi") or c.get("url") for c in facts["citation"]]
    cited += [c.get("url") for c in facts["citation"]]
    assert spec.cite in cited
    assert (facts["license"]["id"] or None) == spec.licence
    assert spec.georeferenced is facts["georeferenced"]["value"] or name in SHEETS


def _own(name, facts):
    """Return the facts of a sheet that are of one dataset: of a variant, a task, or whole scenes."""
    if variants := [v for v in facts["variants"] if v["id"] == name]:
        facts["archives"] = [a for v in variants for a in v.get("archives", [v.get("archive")])]
        facts["samples"] = next((v["samples"] for v in variants if "samples" in v), facts["samples"])
        facts["bands"] = []
    task = name.removeprefix(f"{SHEETS.get(name, name)}_")
    if any(archive.get("task") == task for archive in facts["archives"]):
        facts["archives"] = [archive for archive in facts["archives"] if archive["task"] == task]
        counts = facts["samples"]["splits"].items()
        splits = {split.removeprefix(f"{task}_"): count for split, count in counts if split.startswith(task)}
        facts["samples"] = {"total": sum(splits.values()), "splits": splits}
    if task == "scenes":
        facts["samples"] = {"total": sum(one["count"] for one in facts["image"]["scenes"]), "splits": {}}
    return facts


def test_few_need_a_function_of_their_own():
    assert sum(any(a.fix for a in spec.assets.values()) for spec in _SPECS.values()) <= 5


@pytest.mark.parametrize("name", NAMES)
def test_rules_of_our_own_are_told_and_grouped(name):
    spec = datasets.info(name)
    if isinstance(spec.splits, Rule):
        assert set(spec.splits.group) <= {n for a in spec.assets.values() for t in a.templates for n in t.names}
        assert spec.splits.block or not spec.georeferenced or spec.splits.group
    if isinstance(spec.splits, Lists):
        assert spec.split_names


PATTERNS = sorted({t.pattern for spec in _SPECS.values() for asset in spec.assets.values() for t in asset.templates})


@pytest.mark.parametrize("pattern", PATTERNS)
@given(data=st.data())
def test_finds_what_it_fills(pattern, data):
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
