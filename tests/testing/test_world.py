"""The made world is the same for a seed, agrees with itself, and is learnable, but not from single pixels."""

import hashlib

import numpy as np
import pystac
import pytest
import rasterio
from rasterio.enums import ColorInterp
from support.oracles import nearest

from geoxt.testing import land, make_world
from geoxt.testing import world as worlds
from geoxt.testing.sensor import footprint

SIZE = 320


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"), size=SIZE)


@pytest.fixture(scope="module")
def pixels(world):
    """Images (scene, band, y, x) and the labels under them by nearest neighbour, 0 outside the images."""
    with rasterio.open(world.labels) as file:
        labels = file.read(1)
    images = np.stack([np.stack([_read(path) for path in paths]) for paths in world.scenes.values()])
    under = [nearest(labels, world.label_grid, grid, nodata=0).values for grid in world.grids.values()]
    return images, np.where(images[:, 0] > 0, np.stack(under), 0)


def _read(path):
    with rasterio.open(path) as file:
        return file.read(1)


def _digest(world):
    files = [world.labels, *(path for paths in world.scenes.values() for path in paths)]
    return [hashlib.sha256(_read(path).tobytes()).hexdigest() for path in files]


def test_same_seed_same_world(tmp_path, monkeypatch):
    monkeypatch.setattr(worlds, "make_land", land.make_land)  # without the cache of tests/conftest.py
    first, again, other = (
        make_world(tmp_path / name, seed=seed, size=64, scenes=2) for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert _digest(first) == _digest(again)
    assert not set(_digest(first)) & set(_digest(other))


def test_scenes_have_landsat_format_and_footprints(world, pixels):
    images, _ = pixels
    assert [str(grid.crs) for grid in world.grids.values()] == ["EPSG:32615", "EPSG:32616"] * 2
    assert sorted(world.root.glob("landsat/*_SR_B[2-7].TIF")) == sorted(sum(world.scenes.values(), ()))
    for (name, paths), grid, image in zip(world.scenes.items(), world.grids.values(), images, strict=True):
        assert [path.name for path in paths] == [f"{name}_SR_B{band}.TIF" for band in range(2, 8)]
        np.testing.assert_array_equal((image > 0).all(0), footprint(grid))
        np.testing.assert_array_equal((image > 0).any(0), footprint(grid))
        with rasterio.open(paths[0]) as file:
            assert (file.dtypes, file.nodata, file.shape) == (("uint16",), 0, (SIZE, SIZE))
            assert file.transform == grid.affine
    reflectance = images[:, :, footprint(grid)] * 2.75e-5 - 0.2
    assert reflectance.min() > -0.02
    assert reflectance.max() < 0.8


def test_labels_cover_all_scenes(world, pixels):
    images, under = pixels
    assert (under[images[:, 0] > 0] > 0).all()
    with rasterio.open(world.labels) as file:
        assert (file.crs.to_epsg(), file.dtypes, file.nodata) == (5070, ("uint8",), 0)
        assert file.colorinterp == (ColorInterp.palette,)
        assert file.tags(1)["flag_meanings"].split() == [name.replace(" ", "_") for name in world.names]
    assert set(np.unique(under)) == {0, *world.codes}


def test_every_class_covers_a_minimum_area(world, pixels):
    _, under = pixels
    shares = {name: (under[under > 0] == code).mean() for code, name in zip(world.codes, world.names, strict=True)}
    assert min(shares.values()) > 0.02, shares
    assert max(shares.values()) < 0.35, shares


def test_overlapping_scenes_agree(world, pixels):
    images, _ = pixels
    (_, first), (_, two) = list(world.grids.items())[:2]
    moved = nearest(images[1], two, first, nodata=0)
    both = moved.valid & (images[0, 0] > 0)
    assert both.mean() > 0.05
    for band in range(2, 6):
        assert np.corrcoef(moved.values[band][both], images[0, band][both])[0, 1] > 0.6


def test_pixel_classifier_accuracy_is_limited(world, pixels):
    images, under = pixels
    _, accuracy, _ = _centroids(np.moveaxis(images, 1, -1).astype("float32"), under, world.codes)
    assert 0.45 < accuracy < 0.80


def test_texture_improves_pixel_classifier(world, pixels):
    images, under = pixels
    values = np.moveaxis(images, 1, -1).astype("float32")
    recall, alone, _ = _centroids(values, under, world.codes)
    texture = np.log(np.stack([_roughness(values[..., 3], step) for step in (1, 2, 4)], -1) + 10)
    recall_near, near, _ = _centroids(np.concatenate([values, texture], -1), under, world.codes)
    assert near > alone + 0.04
    assert recall_near[:2].sum() > recall[:2].sum() + 0.2, "corn and soybeans differ by texture"


def test_similar_classes_have_similar_mean_spectra(world, pixels):
    images, under = pixels
    _, _, (means, spread) = _centroids(np.moveaxis(images, 1, -1).astype("float32"), under, world.codes)
    gaps = np.abs(means[:, np.newaxis] - means) / spread
    index = {name: position for position, name in enumerate(world.names)}
    assert gaps[index["Corn"], index["Soybeans"]].max() < 0.3
    assert gaps[index["Forest"], index["Wetlands"]].max() < 0.5
    for first, second in (("Corn", "Forest"), ("Open Water", "Forest"), ("Developed", "Grassland")):
        assert gaps[index[first], index[second]].max() > 0.5, (first, second)


def test_catalog_lists_every_file(world):
    catalog = pystac.Catalog.from_file(str(world.catalog))
    assert sorted(child.id for child in catalog.get_children()) == ["landsat-c2-l2", "usda-cdl"]
    items = {item.id: item for item in catalog.get_items(recursive=True)}
    assert set(items) == {*world.scenes, world.labels.stem}
    for name, paths in world.scenes.items():
        assert list(items[name].assets) == list(world.bands)
        for (common, asset), path in zip(items[name].assets.items(), paths, strict=True):
            assert asset.get_absolute_href() == str(path)
            assert asset.extra_fields["eo:bands"][0]["common_name"] == common
            assert asset.extra_fields["raster:bands"][0]["nodata"] == 0
    classes = items[world.labels.stem].assets["cropland"].extra_fields["classification:classes"]
    assert [entry["value"] for entry in classes] == list(world.codes)
    assert len(pystac.ItemCollection.from_file(str(world.items))) == 5


def _centroids(values, under, codes):
    """Nearest class mean of dims (scene, y, x, feature): fit on upper halves, measure on lower ones."""
    half = under.shape[1] // 2
    kinds = np.searchsorted(codes, under)
    fit, test = ((values[:, part][under[:, part] > 0], kinds[:, part][under[:, part] > 0]) for part in _parts(half))
    means = np.stack([fit[0][fit[1] == kind].mean(0) for kind in range(len(codes))])
    spread = fit[0].std(0)
    guess = np.stack([np.square((test[0] - mean) / spread).sum(-1) for mean in means]).argmin(0)
    recall = np.array([(guess[test[1] == kind] == kind).mean() for kind in range(len(codes))])
    return recall, (guess == test[1]).mean(), (means, spread)


def _parts(half):
    return slice(0, half), slice(half + 4, None)


def _roughness(band, step):
    """Mean absolute difference over a distance, within 9 pixels."""
    down = np.abs(band - np.roll(band, step, 1)) + np.abs(band - np.roll(band, step, 2))
    for axis in (1, 2):
        down = sum(np.roll(down, shift, axis) for shift in range(-4, 5)) / 9
    return down
