"""Datasets of one variable per band, the shape that `odc.stac.load` returns, wherever a layer is accepted."""

import numpy as np
import pytest
import rasterio
import torch
import xarray as xr
from torch import nn

import geoxt
from geoxt import assess, indices, metrics, samplers, splits
from geoxt.bridge import open_pack, pack
from geoxt.errors import GridError, InputError
from geoxt.grid import coordinates
from geoxt.source import unstack_bands
from geoxt.testing import distinct, make_grid
from geoxt.writers import polygonize

GRID = make_grid((48, 64))
COARSE = make_grid((24, 32), resolution=60)
VALUES = distinct((2, 48, 64), "uint16") + 1
CODES = (np.arange(48 * 64).reshape(48, 64) // 1024).astype("uint8")
FLAGS = {"flag_values": np.arange(3, dtype="uint8"), "flag_meanings": "a b c"}


def layer():
    coords = {**coordinates(GRID), "band": ["red", "nir"]}
    return xr.DataArray(VALUES, dims=("band", "y", "x"), coords=coords, name="image", attrs={"_FillValue": 0})


def bands():
    named = zip(("red", "nir"), VALUES, strict=True)
    return xr.Dataset({name: (("y", "x"), v, {"nodata": 0}) for name, v in named}, coordinates(GRID))


def codes():
    return xr.DataArray(CODES, dims=("y", "x"), coords=coordinates(GRID), name="classes", attrs=FLAGS)


def read_cog(data, folder):
    path = data.geoml.to_cog(folder / "a.tif", progress=False)
    with rasterio.open(path) as file:
        return [*file.read(), *file.descriptions, file.nodata]


def read_zarr(data, folder):
    stored = geoxt.open_zarr(data.geoml.to_zarr(folder / "a.zarr", progress=False))
    return [stored.values, stored.band.values, stored.attrs["_FillValue"]]


def windows_of(data, split):
    return list(samplers.GridSampler(data, size=8, region=split.train))


def read_frame(frame):
    return [frame[name].to_numpy() for name in frame.columns if name != "geometry"]


class Detector(nn.Module):
    """Detects one box per image, with a score by the pixels of all bands."""

    def forward(self, images):
        box, label = torch.tensor([[2.0, 3, 10, 12]]), torch.tensor([1])
        weights = torch.tensor([1e-5, 3e-5])[:, None, None]
        return [{"boxes": box, "labels": label, "scores": (image * weights).mean()[None]} for image in images]


ONE_LAYER = {
    "to_cog": read_cog,
    "to_zarr": read_zarr,
    "union": lambda data, _: [geoxt.union(data, data).values],
    "predict": lambda data, _: [geoxt.predict(data, nn.Identity(), size=16, overlap=0, output="values").values],
    "indices.append": lambda data, _: [indices.append(data, "NDVI", scale=1e-4, offset=0).values],
    "plot.rgb": lambda data, _: [geoxt.plot.rgb(data, bands=["nir", "red", "red"])],
    "applicability": lambda data, _: [
        assess.applicability([[1, 2], [300, 200], [9000, 4000]], data)["dissimilarity"].values
    ],
    "RandomSampler": lambda data, _: list(samplers.RandomSampler(data, size=16, length=5)),
    "GridSampler": lambda data, _: list(samplers.GridSampler(data, size=16)),
    "RandomBatchSampler": lambda data, _: list(samplers.RandomBatchSampler(data, size=16, length=6, batch_size=2)),
    "weights": lambda data, _: list(samplers.RandomSampler(data, size=8, length=5, weights=codes())),
    "StratifiedSampler": lambda data, _: list(samplers.StratifiedSampler(data, labels=codes(), size=8, length=5)),
    "detect": lambda data, _: [geoxt.detect(data, Detector(), size=16, overlap=0, progress=False)["score"]],
    "TripletSampler": lambda data, _: list(samplers.TripletSampler(data, size=16, length=2, radius=20)),
    "by_block": lambda data, _: windows_of(data, splits.by_block(data, size=16, labels=codes(), seed=1)),
    "by_region": lambda data, _: windows_of(data, splits.by_region(data, train=GRID[:, :32].extent)),
    "folds": lambda data, _: windows_of(data, splits.folds(data, size=16, n_splits=3)[1]),
}


@pytest.mark.parametrize("name", ONE_LAYER)
@pytest.mark.filterwarnings("ignore::geoxt.errors.OverflowWarning")
def test_bands_are_one_layer(tmp_path, name):
    for part in ("layer", "bands"):
        (tmp_path / part).mkdir()
    expected = ONE_LAYER[name](layer(), tmp_path / "layer")
    result = ONE_LAYER[name](bands(), tmp_path / "bands")
    assert len(result) == len(expected) > 0
    for a, b in zip(result, expected, strict=True):
        np.testing.assert_array_equal(a, b)


CLASS_MAPS = {
    "polygonize": lambda data: read_frame(polygonize(data)),
    "plot.classes": lambda data: [geoxt.plot.classes(data)],
    "score": lambda data: list(metrics.score(data, data).values()),
    "estimate_from_labels": lambda data: [
        assess.estimate_from_labels(data, codes(), block=16, n_boot=9).error_matrix.value,
        assess.estimate_from_labels(codes(), data, block=16, n_boot=9).error_matrix.value,
    ],
    "StratifiedSampler": lambda data: list(samplers.StratifiedSampler(data, size=8, length=5)),
    "weights": lambda data: list(samplers.RandomSampler(bands(), size=8, length=5, weights=data)),
    "sample_design": lambda data: read_frame(assess.sample_design(data, 20, allocation="equal", seed=1)),
}


@pytest.mark.parametrize("name", CLASS_MAPS)
def test_dataset_of_one_class_map(name):
    result, expected = CLASS_MAPS[name](codes().to_dataset()), CLASS_MAPS[name](codes())
    for a, b in zip(result, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_bands_stay_variables_where_datasets_of_layers_are_accepted(tmp_path):
    aligned, expected = geoxt.align(bands(), COARSE), geoxt.align(layer(), COARSE)
    assert np.array_equal([aligned["red"].values, aligned["nir"].values], expected.values)
    together = geoxt.intersection(image=bands(), mask=codes())
    assert np.array_equal(together["image"].values, VALUES)
    windows = samplers.GridSampler(bands(), size=16)
    batches = list(bands().geoml.loader(windows, batch_size=4, num_workers=0))
    images = list(layer().geoml.loader(windows, batch_size=4, num_workers=0))
    for batch, image in zip(batches, images, strict=True):
        assert torch.equal(torch.cat([batch["red"], batch["nir"]], 1).flatten(), image["image"].flatten())
    packed = open_pack(pack(bands(), windows, tmp_path / "a.zarr", progress=False))
    assert {"red", "nir"} <= set(packed.data_vars)


def test_trees_and_mixed_datasets_raise(tmp_path):
    tree = xr.DataTree.from_dict({"west": bands()})
    with pytest.raises(InputError, match="Cannot use a tree as one layer"):
        geoxt.to_cog(tree, tmp_path / "a.tif")
    with pytest.raises(InputError, match="holds class codes"):
        geoxt.to_zarr(bands().assign(classes=codes()), tmp_path / "a.zarr")


@pytest.mark.parametrize("data", [layer, bands])
def test_several_bands_are_not_a_map(data):
    with pytest.raises(GridError, match=r"Cannot score 'image': it has 2 bands. Select one by isel\(band=0\)"):
        assess.estimate_from_labels(data(), codes(), block=16)
    with pytest.raises(GridError, match="Cannot score 'image': it has 2 bands"):
        metrics.score(data(), codes())
    with pytest.raises(InputError, match="Cannot find the labels"):
        samplers.StratifiedSampler(data(), size=8, length=5)
    dates = xr.concat([codes(), codes()], "time")
    with pytest.raises(GridError, match="the map has 2 dates, the labels 1"):
        assess.estimate_from_labels(dates, codes(), block=16)


def test_weights_of_several_bands_raise():
    with pytest.raises(InputError, match="Cannot take one layer of the data"):
        samplers.RandomSampler(bands(), size=8, length=5, weights=bands())


def test_block_cache_of_bands_is_filled(tmp_path):
    path = geoxt.to_cog(layer(), tmp_path / "a.tif", progress=False)
    opened = geoxt.open_cogs(path, cache=tmp_path / "blocks")
    geoxt.warm_cache(unstack_bands(opened), progress=False)
    expected = {file.name: file.stat().st_blocks for file in (tmp_path / "blocks").rglob("*") if file.is_file()}
    assert expected
    geoxt.warm_cache(opened, progress=False)
    files = (file for file in (tmp_path / "blocks").rglob("*") if file.is_file())
    assert {file.name: file.stat().st_blocks for file in files} == expected  # all blocks were there
    with pytest.raises(InputError, match=r"none of the layers \['red', 'nir'\] has one"):
        geoxt.warm_cache(bands(), progress=False)
