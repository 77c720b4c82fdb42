"""Masks, instance numbers, ignored codes, splits in runs, and windows of large images."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.errors import NotGeoreferencedWarning
from support.dataset_trees import make_tree
from support.sample_files import write_image

from geoxt import bridge
from geoxt.alignment import intersection
from geoxt.bridge.sample_dataset import _from_instances
from geoxt.datasets import SequentialSplit, get, load, rasters
from geoxt.datasets.entries import Entry
from geoxt.datasets.splits import assign
from geoxt.errors import InputError, ReadError
from geoxt.source import Mosaic, is_categorical, nodata_of, view_of
from geoxt.windows import Window


def stored_in(path):
    """Return the bands of an image file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            return file.read()


@given(count=st.integers(0, 400), shares=st.sampled_from([(0.2,) * 5, (0.75, 0.25), (0.1,) * 10]))
def test_runs_are_consecutive_ranges_of_samples(count, shares):
    spec = replace(
        get("zuericrop"), splits=SequentialSplit(fractions={f"run{at}": share for at, share in enumerate(shares)})
    )
    of = assign(spec, [Entry(fields={"row": at}, files={}) for at in range(count)])
    assert len(of) == count
    assert of == sorted(of)
    for at in range(len(shares)):
        end = int(count * round(sum(shares[: at + 1]), 6))
        assert all(split <= f"run{at}" for split in of[:end])
        assert all(split > f"run{at}" for split in of[end:])


def test_fold_of_zuericrop_is_a_fifth_of_the_rows(tmp_path):
    pytest.importorskip("h5py")
    tree = make_tree(get("zuericrop"), tmp_path)
    count = len(tree.samples)
    second = load(tree.spec, tmp_path, "fold2")
    assert [second.fields(at)["row"] for at in range(len(second))] == list(range(int(count * 0.2), int(count * 0.4)))


def test_field_numbers_are_not_class_codes(tmp_path):
    tree = make_tree(get("cv4a_kenya_crop_type"), tmp_path)
    path = tmp_path / "data/1/1_field_id.tif"
    stored = stored_in(path)[0]
    sample = load(replace(tree.spec, window=None), tmp_path)[1]
    assert stored.max() > max(tree.spec.classes.codes)
    np.testing.assert_array_equal(sample["fields"].values, stored)
    assert sample["fields"].dtype == sample["fields"].values.dtype == np.int32
    assert not is_categorical(sample["fields"])
    assert is_categorical(sample["mask"])


def test_label_of_an_instance_is_its_majority_class(tmp_path):
    pytest.importorskip("h5py")
    tree = make_tree(get("zuericrop"), tmp_path)
    dataset = load(tree.spec, tmp_path)
    stored, sample = dataset.read(3), bridge.to_torch(dataset)[3]
    numbers = [number for number in np.unique(stored["instances"]) if number]
    assert len(numbers) == len(sample["labels"]) == len(sample["masks"]) > 3
    for number, label, mask in zip(numbers, sample["labels"], sample["masks"], strict=True):
        codes = stored["mask"][stored["instances"] == number].tolist()
        assert codes.count(int(label)) == max(map(codes.count, codes))
        np.testing.assert_array_equal(mask.numpy(), stored["instances"] == number)
    assert "labels" not in bridge.to_torch(dataset, keys=("image", "instances"))[3]


def test_instances_without_label_are_left_out(tmp_path):
    pytest.importorskip("h5py")
    tree = make_tree(get("zuericrop"), tmp_path)
    dataset = load(tree.spec, tmp_path, level="tier4")
    left_out = 0
    for stored, sample in ((dataset.read(at), bridge.to_torch(dataset)[at]) for at in range(len(dataset))):
        labelled = [n for n in np.unique(stored["instances"]) if n and stored["mask"][stored["instances"] == n].any()]
        left_out += len(np.unique(stored["instances"])) - 1 - len(labelled)
        assert len(sample["masks"]) == len(sample["boxes"]) == len(sample["labels"]) == len(labelled)
        assert (sample["labels"] > 0).all()
    assert left_out > 0


def test_unlabeled_pixels_do_not_count_in_the_majority_class():
    numbers, codes = np.array([[1, 1, 1, 2, 0]]), np.array([[0, 0, 4, 0, 4]])
    instances = _from_instances(numbers, codes, codes != 0)
    assert (instances["labels"].tolist(), instances["masks"].tolist()) == ([4], [[[1, 1, 1, 0, 0]]])
    assert instances["boxes"].tolist() == [[0, 0, 3, 1]]


def test_instances_of_a_binary_dataset_have_its_class(tmp_path):
    tree = make_tree(get("spacenet1"), tmp_path)
    dataset = load(tree.spec, tmp_path, "train")
    for keys in (("image", "mask", "instances"), ("image", "instances")):
        assert bridge.to_torch(dataset, keys=keys)[0]["labels"].tolist() == [1, 1]


def test_zero_padded_tile_folders_are_found(tmp_path):
    tree = make_tree(get("cv4a_kenya_crop_type"), tmp_path)
    spec = replace(tree.spec, window=None)
    before = load(spec, tmp_path)[1]["image"].values
    (tmp_path / "data/1").rename(tmp_path / "data/01")
    dataset = load(spec, tmp_path)
    assert dataset.verify(deep=True).ok
    np.testing.assert_array_equal(dataset[1]["image"].values, before)


def test_images_of_all_view_angles_have_the_same_mask(tmp_path):
    tree = make_tree(get("spacenet4"), tmp_path)
    first = next(tmp_path.glob("SN4_buildings/train/**/Atlanta_*7_*"))
    for path in list(first.rglob("*.tif")):
        other = tmp_path / str(path.relative_to(tmp_path)).replace("nadir7", "nadir53")
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_bytes(path.read_bytes())
    dataset = load(replace(tree.spec, samples=None), tmp_path, "train")
    assert [dataset.fields(at)["angle"] for at in range(len(dataset))] == [7, 53]
    np.testing.assert_array_equal(dataset[0]["mask"].values, dataset[1]["mask"].values)
    assert dataset[0]["mask"].values.any()


def test_pixels_outside_of_polygons_may_be_unlabeled(tmp_path):
    tree = make_tree(get("benin_cashews"), tmp_path)
    dataset = load(replace(tree.spec, window=None), tmp_path)
    assert dataset[0]["mask"].attrs["_FillValue"] == 0
    codes, sample = dataset.read(0)["mask"], bridge.to_torch(dataset)[0]
    assert set(np.unique(codes)) == {0, 1, 2}
    np.testing.assert_array_equal(sample["mask_valid"].numpy(), codes != 0)


@pytest.mark.parametrize(("name", "mark"), [("chesapeake_cvpr", 15), ("sen12ms", 0)])
def test_ignored_codes_are_nodata_of_the_layer(tmp_path, name, mark):
    tree = make_tree(get(name), tmp_path)
    dataset = load(tree.spec, tmp_path)[:1]
    stored = stored_in(tmp_path / next(iter(dataset.entries[0].paths("mask", tree.spec.assets["mask"]).values())))[0]
    assert {0, 15 if mark else 255} <= set(np.unique(stored))
    layer = dataset.layer("mask")
    expected = np.where(np.isin(stored, tree.spec.assets["mask"].ignore), mark, stored)
    assert (layer.chunks is not None, layer.dtype, nodata_of(layer)) == (True, stored.dtype, mark)
    np.testing.assert_array_equal(layer.values, expected)
    view = view_of(layer)
    assert isinstance(view.source, Mosaic), "windows are read from the files, without dask"
    values, valid = view.read(Window(1, 2, 6, 5))
    np.testing.assert_array_equal(values[0, 0], expected[1:7, 2:7])
    np.testing.assert_array_equal(valid[0, 0], expected[1:7, 2:7] != mark)
    joined = intersection(image=dataset.layer(), labels=layer, grid="image").labels
    np.testing.assert_array_equal(joined.values, expected)
    native = dataset.layer("mask", crs="native")
    np.testing.assert_array_equal(next(iter(native.leaves))["mask"].values, expected)


def test_plot_shows_the_mask_beside_many_images(tmp_path):
    pytest.importorskip("matplotlib")
    tree = make_tree(get("chesapeake_cvpr"), tmp_path)
    titles = [axes.get_title() for axes in load(tree.spec, tmp_path).plot(0).axes]
    assert titles == ["image", "image_old", "leaf_on", "leaf_off", "nlcd", "mask"]


def test_plot_shows_each_of_two_bands(tmp_path):
    pytest.importorskip("matplotlib")
    tree = make_tree(get("sen12ms"), tmp_path)
    titles = [axes.get_title() for axes in load(tree.spec, tmp_path).plot(0).axes]
    assert titles == ["image", "sar: VV", "sar: VH", "mask"]


def test_window_equals_part_of_whole_image(tmp_path, monkeypatch):
    tree = make_tree(get("cv4a_kenya_crop_type"), tmp_path)
    dataset, shapes = load(replace(tree.spec, window=None), tmp_path), []
    image = dataset[0]["image"]
    pixels = image.values
    real = rasters.read_image
    monkeypatch.setattr(rasters, "read_image", lambda *args: shapes.append((values := real(*args)).shape) or values)
    for y, x in ((slice(2, 7), slice(3, 5)), (slice(-4, None), slice(0, 1)), (slice(None), slice(1, 4))):
        shapes.clear()
        np.testing.assert_array_equal(image.isel(y=y, x=x).values, pixels[..., y, x])
        assert set(shapes) == {(1, *pixels[0, 0, y, x].shape)}
    for y, x in ((slice(None, None, 2), slice(0, 3)), (slice(3, 3), slice(None)), (3, slice(0, 2))):
        np.testing.assert_array_equal(image.isel(y=y, x=x).values, pixels[..., y, x])
    np.testing.assert_array_equal(dataset[0]["mask"][3:5, 2:4].values, dataset.read(0)["mask"][3:5, 2:4])


def test_window_of_files_of_several_sizes_raises(tmp_path):
    tree = make_tree(get("cv4a_kenya_crop_type"), tmp_path)
    image = load(replace(tree.spec, window=None), tmp_path)[0]["image"]
    path = next(tmp_path.glob("data/0/*/0_B03_*.tif"))
    write_image(path, stored_in(path)[:, :9], None)
    with pytest.raises(ReadError, match="B03"):
        image[..., :4, :4].compute()


def test_product_name_raises_with_a_hint():
    with pytest.raises(InputError, match="open_cogs"):
        get("NAIP")
