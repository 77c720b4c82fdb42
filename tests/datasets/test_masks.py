"""Masks that are no class codes, codes that nobody knows, splits in runs, and parts of large images."""

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
    """Return what an image file holds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as file:
            return file.read()


@given(count=st.integers(0, 400), shares=st.sampled_from([(0.2,) * 5, (0.75, 0.25), (0.1,) * 10]))
def test_runs_follow_each_other(count, shares):
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


def test_a_fold_of_zuericrop_is_a_fifth_of_the_file(tmp_path):
    pytest.importorskip("h5py")
    tree = make_tree(get("zuericrop"), tmp_path)
    count = len(tree.samples)
    second = load(tree.spec, tmp_path, "fold2")
    assert [second.fields(at)["row"] for at in range(len(second))] == list(range(int(count * 0.2), int(count * 0.4)))


def test_numbers_of_fields_are_no_classes(tmp_path):
    tree = make_tree(get("cv4a_kenya_crop_type"), tmp_path)
    path = tmp_path / "data/1/1_field_id.tif"
    stored = stored_in(path)[0]
    sample = load(replace(tree.spec, window=None), tmp_path)[1]
    assert stored.max() > max(tree.spec.classes.codes)
    np.testing.assert_array_equal(sample["fields"].values, stored)
    assert sample["fields"].dtype == sample["fields"].values.dtype == np.int32
    assert not is_categorical(sample["fields"])
    assert is_categorical(sample["mask"])


def test_numbered_fields_have_the_class_that_the_mask_says(tmp_path):
    pytest.importorskip("h5py")
    tree = make_tree(get("zuericrop"), tmp_path)
    found = load(tree.spec, tmp_path)
    stored, sample = found.read(3), bridge.to_torch(found)[3]
    numbers = [number for number in np.unique(stored["instances"]) if number]
    assert len(numbers) == len(sample["labels"]) == len(sample["masks"]) > 3
    for number, label, mask in zip(numbers, sample["labels"], sample["masks"], strict=True):
        own = stored["mask"][stored["instances"] == number].tolist()
        assert own.count(int(label)) == max(map(own.count, own))
        np.testing.assert_array_equal(mask.numpy(), stored["instances"] == number)
    assert "labels" not in bridge.to_torch(found, keys=("image", "instances"))[3]


def test_fields_without_label_are_no_things(tmp_path):
    pytest.importorskip("h5py")
    tree = make_tree(get("zuericrop"), tmp_path)
    found = load(tree.spec, tmp_path, level="tier4")
    left_out = 0
    for stored, sample in ((found.read(at), bridge.to_torch(found)[at]) for at in range(len(found))):
        labelled = [n for n in np.unique(stored["instances"]) if n and stored["mask"][stored["instances"] == n].any()]
        left_out += len(np.unique(stored["instances"])) - 1 - len(labelled)
        assert len(sample["masks"]) == len(sample["boxes"]) == len(sample["labels"]) == len(labelled)
        assert (sample["labels"] > 0).all()
    assert left_out > 0


def test_pixels_without_label_do_not_outvote_a_class():
    numbers, codes = np.array([[1, 1, 1, 2, 0]]), np.array([[0, 0, 4, 0, 4]])
    found = _from_instances(numbers, codes, codes != 0)
    assert (found["labels"].tolist(), found["masks"].tolist()) == ([4], [[[1, 1, 1, 0, 0]]])
    assert found["boxes"].tolist() == [[0, 0, 3, 1]]


def test_buildings_are_of_their_one_class(tmp_path):
    tree = make_tree(get("spacenet1"), tmp_path)
    found = load(tree.spec, tmp_path, "train")
    for keys in (("image", "mask", "instances"), ("image", "instances")):
        assert bridge.to_torch(found, keys=keys)[0]["labels"].tolist() == [1, 1]


def test_mirrors_may_write_the_folder_of_a_tile_otherwise(tmp_path):
    tree = make_tree(get("cv4a_kenya_crop_type"), tmp_path)
    spec = replace(tree.spec, window=None)
    before = load(spec, tmp_path)[1]["image"].values
    (tmp_path / "data/1").rename(tmp_path / "data/01")
    found = load(spec, tmp_path)
    assert found.verify(deep=True).ok
    np.testing.assert_array_equal(found[1]["image"].values, before)


def test_one_set_of_outlines_serves_all_views(tmp_path):
    tree = make_tree(get("spacenet4"), tmp_path)
    first = next(tmp_path.glob("SN4_buildings/train/**/Atlanta_*7_*"))
    for path in list(first.rglob("*.tif")):
        other = tmp_path / str(path.relative_to(tmp_path)).replace("nadir7", "nadir53")
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_bytes(path.read_bytes())
    found = load(replace(tree.spec, samples=None), tmp_path, "train")
    assert [found.fields(at)["angle"] for at in range(len(found))] == [7, 53]
    np.testing.assert_array_equal(found[0]["mask"].values, found[1]["mask"].values)
    assert found[0]["mask"].values.any()


def test_land_under_no_shape_may_be_unknown(tmp_path):
    tree = make_tree(get("benin_cashews"), tmp_path)
    found = load(replace(tree.spec, window=None), tmp_path)
    assert found[0]["mask"].attrs["_FillValue"] == 0
    codes, sample = found.read(0)["mask"], bridge.to_torch(found)[0]
    assert set(np.unique(codes)) == {0, 1, 2}
    np.testing.assert_array_equal(sample["mask_valid"].numpy(), codes != 0)


@pytest.mark.parametrize(("name", "mark"), [("chesapeake_cvpr", 15), ("sen12ms", 0)])
def test_all_codes_without_label_are_nodata_of_the_layer(tmp_path, name, mark):
    tree = make_tree(get(name), tmp_path)
    found = load(tree.spec, tmp_path)[:1]
    stored = stored_in(tmp_path / next(iter(found.entries[0].paths("mask", tree.spec.assets["mask"]).values())))[0]
    assert {0, 15 if mark else 255} <= set(np.unique(stored))
    layer = found.layer("mask")
    wanted = np.where(np.isin(stored, tree.spec.assets["mask"].ignore), mark, stored)
    assert (layer.chunks is not None, layer.dtype, nodata_of(layer)) == (True, stored.dtype, mark)
    np.testing.assert_array_equal(layer.values, wanted)
    view = view_of(layer)
    assert isinstance(view.source, Mosaic), "windows are read from the files, without dask"
    values, valid = view.read(Window(1, 2, 6, 5))
    np.testing.assert_array_equal(values[0, 0], wanted[1:7, 2:7])
    np.testing.assert_array_equal(valid[0, 0], wanted[1:7, 2:7] != mark)
    joined = intersection(image=found.layer(), labels=layer, grid="image").labels
    np.testing.assert_array_equal(joined.values, wanted)
    native = found.layer("mask", crs="native")
    np.testing.assert_array_equal(next(iter(native.leaves))["mask"].values, wanted)


def test_a_figure_has_the_mask_however_many_images_there_are(tmp_path):
    pytest.importorskip("matplotlib")
    tree = make_tree(get("chesapeake_cvpr"), tmp_path)
    titles = [axes.get_title() for axes in load(tree.spec, tmp_path).plot(0).axes]
    assert titles == ["image", "image_old", "leaf_on", "leaf_off", "nlcd", "mask"]


def test_a_part_of_an_image_is_read_as_a_part(tmp_path, monkeypatch):
    tree = make_tree(get("cv4a_kenya_crop_type"), tmp_path)
    found, shapes = load(replace(tree.spec, window=None), tmp_path), []
    image = found[0]["image"]
    whole = image.values
    real = rasters.read_image
    monkeypatch.setattr(rasters, "read_image", lambda *args: shapes.append((values := real(*args)).shape) or values)
    for y, x in ((slice(2, 7), slice(3, 5)), (slice(-4, None), slice(0, 1)), (slice(None), slice(1, 4))):
        shapes.clear()
        np.testing.assert_array_equal(image.isel(y=y, x=x).values, whole[..., y, x])
        assert set(shapes) == {(1, *whole[0, 0, y, x].shape)}
    for y, x in ((slice(None, None, 2), slice(0, 3)), (slice(3, 3), slice(None)), (3, slice(0, 2))):
        np.testing.assert_array_equal(image.isel(y=y, x=x).values, whole[..., y, x])
    np.testing.assert_array_equal(found[0]["mask"][3:5, 2:4].values, found.read(0)["mask"][3:5, 2:4])


def test_a_part_of_files_of_several_sizes_is_an_error(tmp_path):
    tree = make_tree(get("cv4a_kenya_crop_type"), tmp_path)
    image = load(replace(tree.spec, window=None), tmp_path)[0]["image"]
    path = next(tmp_path.glob("data/0/*/0_B03_*.tif"))
    write_image(path, stored_in(path)[:, :9], None)
    with pytest.raises(ReadError, match="B03"):
        image[..., :4, :4].compute()


def test_a_layer_is_no_dataset():
    with pytest.raises(InputError, match="open_cogs"):
        get("NAIP")
