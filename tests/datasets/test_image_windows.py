"""Samples that are windows of large images, and splits by block: with undivided instances, without shared pixels."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import rasterio
from support.dataset_trees import make_tree
from support.sample_files import write_image

from geoxt import bridge
from geoxt.datasets import RandomSplit, Raster, get, load, locations, names
from geoxt.datasets.entries import Entry
from geoxt.datasets.splits import assign
from geoxt.errors import InputError, ReadError
from geoxt.testing.cogs import make_grid
from geoxt.windows import Window

CUT = ("cv4a_kenya_crop_type", "benin_cashews")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def parts_of(tree):
    return {split: load(tree.spec, tree.root, split) for split in tree.spec.split_names}


def crop_of(dataset, at):
    """Return the image, the rows and the columns of a window, independent of the date."""
    window = dataset.entries[at].crop.window
    image = dataset.fields(at).get("tile")
    return image, (window.row, window.stop[0], window.col, window.stop[1])


@pytest.mark.parametrize("name", CUT)
def test_windows_cover_every_pixel_and_have_one_size(trees, name):
    tree = trees(name)
    dataset = load(tree.spec, tree.root)
    covered = {}
    for at in range(len(dataset)):
        crop = dataset.entries[at].crop
        assert crop.window.shape == (tree.spec.window, tree.spec.window)
        image = str(dataset.fields(at).get("tile", dataset.fields(at).get("date")))
        counts = covered.setdefault(image, np.zeros(crop.image_shape, int))
        counts[crop.window.within(Window(0, 0, *crop.image_shape))] += 1
    assert len(covered) == len(tree.samples)
    assert all(count.min() == 1 for count in covered.values())


@pytest.mark.parametrize("name", CUT)
def test_windows_of_different_splits_are_disjoint(trees, name):
    parts = parts_of(trees(name))
    pixels = {
        split: {
            (image, y, x)
            for image, (top, bottom, left, right) in (crop_of(part, at) for at in range(len(part)))
            for y in range(top, bottom)
            for x in range(left, right)
        }
        for split, part in parts.items()
    }
    assert all(pixels.values())
    assert all(not first & other for first, other in combinations(pixels.values(), 2))


def test_location_is_in_one_split_on_all_dates(trees):
    tree = trees("benin_cashews")
    dates = {fields["date"] for fields in tree.samples}
    for part in parts_of(tree).values():
        at_date = {}
        for at in range(len(part)):
            at_date.setdefault(part.fields(at)["date"], set()).add(crop_of(part, at))
        assert set(at_date) == dates
        assert len({frozenset(splits) for splits in at_date.values()}) == 1


@pytest.mark.parametrize("name", CUT)
def test_window_equals_part_of_whole_image(trees, name):
    tree = trees(name)
    complete, cut = load(replace(tree.spec, window=None), tree.root), load(tree.spec, tree.root)
    per = len(cut) // len(complete)
    for at in (0, per - 1, len(cut) - 1):
        image, lazy, read = complete[at // per], cut[at], cut.read(at)
        crop = cut.entries[at].crop
        rows, columns = crop.window.within(Window(0, 0, *crop.image_shape))
        assert (cut.fields(at)["top"], cut.fields(at)["left"]) == (rows.start, columns.start)
        for key, layer in image.items():
            expected = layer[..., rows, columns]
            np.testing.assert_array_equal(lazy[key].values, expected.values)
            np.testing.assert_array_equal(read[key], expected.values)
            np.testing.assert_array_equal(lazy[key][..., 1:3, 2:].values, expected[..., 1:3, 2:].values)
            assert set(lazy[key].coords) == set(expected.coords)
            for axis in {"y", "x"} & set(expected.coords):
                np.testing.assert_allclose(lazy[key][axis], expected[axis], rtol=0, atol=1e-6)


def test_each_field_is_in_exactly_one_split(tmp_path):
    tree = fields_in_squares(tmp_path)
    parts, everything = parts_of(tree), load(tree.spec, tmp_path)
    numbers = {split: numbers_in(part) for split, part in parts.items()}
    assert all(numbers.values())
    assert all(not first & other for first, other in combinations(numbers.values(), 2))
    assert set().union(*numbers.values()) == numbers_in(everything)


def fields_in_squares(root):
    """Return a tree of CV4A whose fields are squares of 3 x 3 pixels, so that windows of 4 x 4 cut them."""
    tree = make_tree(get("cv4a_kenya_crop_type"), root)
    for tile in range(4):
        with rasterio.open(root / f"data/{tile}/{tile}_label.tif") as file:
            height, width = file.shape
        rows, columns = np.indices((height, width)) // 3
        numbers = 1 + tile * 1000 + rows * 50 + columns
        write_image(root / f"data/{tile}/{tile}_field_id.tif", numbers[np.newaxis].astype("int32"), None)
        write_image(root / f"data/{tile}/{tile}_label.tif", (1 + numbers % 7)[np.newaxis].astype("uint8"), None)
    return tree


def numbers_in(part):
    numbers = part.select_assets(["fields"])
    return {int(number) for at in range(len(part)) for number in np.unique(numbers.read(at)["fields"])} - {0}


def test_fields_of_other_splits_are_unlabeled(tmp_path):
    tree = fields_in_squares(tmp_path)
    everything = load(tree.spec, tmp_path).select_assets(["mask", "fields"])
    entries = {crop_of(everything, at): at for at in range(len(everything))}
    hidden = 0
    for part in parts_of(tree).values():
        numbers, masks, both = numbers_in(part), part.select_assets(["mask"]), part.select_assets(["mask", "fields"])
        for at in range(0, len(part), 2):
            read, stored, lazy = both.read(at), everything.read(entries[crop_of(part, at)]), both[at]
            labelled = np.isin(stored["fields"], sorted(numbers))
            hidden += (~labelled).sum()
            for key in ("mask", "fields"):
                np.testing.assert_array_equal(read[key], np.where(labelled, stored[key], 0))
                np.testing.assert_array_equal(lazy[key].values, read[key])
                np.testing.assert_array_equal(lazy[key][1:, :2].values, read[key][1:, :2])
                assert read[key].dtype == stored[key].dtype
            np.testing.assert_array_equal(masks.read(at)["mask"], read["mask"])
            tensors = pickle.loads(pickle.dumps(bridge.to_torch(part, keys=["mask"])))[at]
            np.testing.assert_array_equal(tensors["mask"].numpy(), read["mask"])
            np.testing.assert_array_equal(tensors["mask_valid"].numpy(), labelled)
    assert hidden > 50


def test_field_is_in_the_split_of_its_largest_part(tmp_path):
    tree = fields_in_squares(tmp_path)
    everything = load(tree.spec, tmp_path).select_assets(["fields"])
    of = assign(tree.spec, everything.entries)
    pixels = {}
    for at, split in enumerate(of):
        for number, count in zip(*np.unique(everything.read(at)["fields"], return_counts=True), strict=True):
            pixels.setdefault(int(number), dict.fromkeys(tree.spec.split_names, 0))[split] += int(count)
    expected = {split: set() for split in tree.spec.split_names}
    for number, counts in pixels.items():
        expected[max(counts, key=counts.get)].add(number)
    assert {split: numbers_in(part) for split, part in parts_of(tree).items()} == expected


@pytest.mark.filterwarnings("ignore:.*but the release has:geoxt.errors.DatasetWarning")
def test_images_are_counted_once(trees):
    tree = trees("benin_cashews")
    report = load(tree.spec, tree.root).verify()
    assert (report.samples, report.expected, report.ok) == (len(tree.samples), len(tree.samples), True)
    gone = load(replace(tree.spec, samples=70), tree.root).verify()
    assert gone.problems == (f"{len(tree.samples)} samples, but the release has 70",)


def test_layer_of_a_split_of_windows_raises(trees):
    tree = trees("benin_cashews")
    with pytest.raises(InputError, match=r"split 'test' .* as a layer: .*other splits share.*geoxt\.splits"):
        load(tree.spec, tree.root, "test").layer()


def test_small_image_is_one_window(trees):
    tree = trees("benin_cashews")
    dataset = load(replace(tree.spec, window=99), tree.root)
    assert len(dataset) == len(tree.samples)
    assert dataset[0]["image"].shape[-2:] == dataset.entries[0].crop.image_shape


def test_windows_of_other_assets_raise():
    with pytest.raises(InputError, match="Cannot cut 'boxes' of 'vhr10' into windows of 64 pixels"):
        replace(get("vhr10"), window=64)
    with pytest.raises(InputError, match="Cannot cut 'image' of 'seasonal_contrast'"):
        replace(get("seasonal_contrast"), window=64)


def test_mask_of_another_size_than_the_image_raises(tmp_path):
    tree = make_tree(get("cv4a_kenya_crop_type"), tmp_path)
    write_image(tmp_path / "data/2/2_label.tif", np.zeros((1, 5, 6), np.uint8), None)
    dataset = load(tree.spec, tmp_path)
    at = next(at for at in range(len(dataset)) if dataset.fields(at)["tile"] == "2")
    with pytest.raises(ReadError, match=r"2_label\.tif.*\(5, 6\).*\(18, 12\)"):
        dataset.read(at)


IMAGES = Raster("{place}.tif", bands=get("seasonal_contrast").bands[:1], shape=(8, 8))


def scattered(root, corners, side=8):
    """Write an image of 10 m pixels for each lower left corner (metres), and return a dataset of them."""
    for at, (left, bottom) in enumerate(corners):
        grid = make_grid((side, side), crs="EPSG:6933", left=left, top=bottom + 10 * side, resolution=10)
        write_image(root / f"p{at:03d}.tif", np.full((1, side, side), at % 250 + 1, np.uint8), grid)
    rule = RandomSplit(fractions={"train": 0.5, "test": 0.5}, block=1000)
    return replace(get("seasonal_contrast"), assets={"image": IMAGES}, splits=rule, samples=None, examples={})


def test_blocks_stay_together_and_images_of_different_splits_are_disjoint(tmp_path):
    rng = np.random.default_rng(5)
    corners = [(10 * int(x), 10 * int(y)) for x, y in rng.integers(0, 250, (100, 2))]
    spec = scattered(tmp_path, corners)
    parts = {split: load(spec, tmp_path, split) for split in ("train", "test")}
    at = {split: [corners[int(part.fields(n)["place"][1:])] for n in range(len(part))] for split, part in parts.items()}
    blocks = {split: {((x + 40) // 1000, (y + 40) // 1000) for x, y in origins} for split, origins in at.items()}
    assert not blocks["train"] & blocks["test"]
    apart = [max(abs(x - u), abs(y - v)) for x, y in at["train"] for u, v in at["test"]]
    assert min(apart) >= 80
    assert 0 < 100 - sum(map(len, parts.values())) < 10
    assert all(len(part) > 30 for part in parts.values())


def test_adjacent_images_are_not_dropped(tmp_path):
    spec = scattered(tmp_path, [(80 * at, 80 * row) for at in range(20) for row in range(2)])
    assert sum(len(load(spec, tmp_path, split)) for split in ("train", "test")) == 40


def test_overlapping_images_stay_in_the_later_split(tmp_path):
    spec = scattered(tmp_path, [(900, 0), (970, 0), (5000, 0), (7000, 0), (9000, 0)])
    for seed in range(20):
        seeded = replace(spec, splits=replace(spec.splits, seed=seed))
        of = {
            load(seeded, tmp_path, split).fields(at)["place"]: split
            for split in ("train", "test")
            for at in range(len(load(seeded, tmp_path, split)))
        }
        if len(of) < 5:
            break
    assert len(of) == 4
    assert [of[name] for name in ("p000", "p001") if name in of] == ["test"]


def test_footprints_are_cached_until_a_file_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOXT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(locations, "MIN_IMAGES", 5)
    root = tmp_path / "root"
    root.mkdir()
    spec = scattered(root, [(2000 * at, 0) for at in range(6)])
    before = [load(spec, root, "test").fields(at) for at in range(3)]
    read = []
    real = locations.headers
    monkeypatch.setattr(
        locations, "headers", lambda paths, **options: read.append(len(paths)) or real(paths, **options)
    )
    assert [load(spec, root, "test").fields(at) for at in range(3)] == before
    assert read == []
    for cache_file in (tmp_path / "cache/datasets").glob("*footprints*"):
        cache_file.write_bytes(b"broken")
    assert [load(spec, root, "test").fields(at) for at in range(3)] == before
    assert read == [6] * 1
    grid = make_grid((8, 8), crs="EPSG:6933", left=50_000, top=80, resolution=10)
    write_image(root / "p000.tif", np.ones((1, 8, 8), np.uint8), grid)
    load(spec, root, "test")
    assert read == [6, 6]


def test_random_split_is_independent_of_the_order():
    rule = RandomSplit(group=("storm",), seed=3)
    spec = replace(get("seasonal_contrast"), splits=rule)
    entries = [Entry(fields={"storm": at // 3, "frame": at}, files={}) for at in range(90)]
    of = assign(spec, entries)
    assert assign(spec, entries[::-1]) == of[::-1]
    assert all(len({of[at], of[at + 1], of[at + 2]}) == 1 for at in range(0, 90, 3))
    assert assign(replace(spec, splits=replace(rule, seed=4)), entries) != of


@pytest.mark.parametrize("name", [n for n in names() if isinstance(get(n).splits, RandomSplit)])
def test_random_split_is_described(name):
    spec = get(name)
    words = spec.splits.describe(spec.window)
    assert f"seed {spec.splits.seed}" in words
    assert all(f"{split} {share:.0%}" in words for split, share in spec.splits.fractions.items())
    assert spec.window is None or f"{spec.window}x{spec.window} pixels" in words


def test_specs_without_official_splits_have_a_random_split():
    assert [name for name in names() if get(name).splits is None] == []
