"""Real samples of the releases, if a folder beside the checkout has them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import odc.geo.xr  # noqa: F401 - binds .odc
import pytest
import rasterio
from rasterio.enums import Resampling

from geoxt.datasets import fetch, get, load
from geoxt.errors import DatasetWarning, ReadError

DATA = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real samples are not here")


def load_released(name, root, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DatasetWarning)
        return load(name, root, **options)


def test_released_eurosat_with_all_bands():
    dataset = load_released("eurosat", DATA / "sentinel" / "eurosat-ms")
    assert [dataset.fields(at)["label"] for at in range(3)] == ["AnnualCrop", "Pasture", "SeaLake"]
    sample = dataset[1]
    assert sample["label"] == 5
    assert sample["image"].dims == ("band", "y", "x")
    with rasterio.open(DATA / "sentinel/eurosat-ms/Pasture/Pasture_300.tif") as file:
        np.testing.assert_array_equal(sample["image"].sel(band="B8A"), file.read(13))
        assert sample["image"].odc.crs == file.crs
    chosen = load_released("eurosat", DATA / "sentinel" / "eurosat-ms", bands=["nir08", "red"])[1]["image"]
    assert list(chosen.band.values) == ["B8A", "B04"]
    np.testing.assert_array_equal(chosen, sample["image"].sel(band=["B8A", "B04"]))


def test_eurosat_with_wrong_checksum_raises(tmp_path):
    (tmp_path / "EuroSAT.zip").symlink_to(DATA / "eurosat-rgb.zip")  # nine tenths of it
    with pytest.raises(ReadError, match="its sha256 is"):
        fetch("eurosat_rgb", tmp_path)


def test_released_patch_of_bigearthnet(tmp_path):
    real = DATA / "sentinel" / "bigearthnet"
    patch = next(path for path in real.rglob("*_75_43") if path.is_dir())
    name = "S2A_MSIL2A_20170613T101031_75_43"  # as version 1 calls it
    (tmp_path / "BigEarthNet-v1.0" / name).mkdir(parents=True)
    for path in patch.iterdir():
        (tmp_path / "BigEarthNet-v1.0" / name / f"{name}_{path.stem.rpartition('_')[2]}.tif").symlink_to(path)
    labels = tmp_path / "BigEarthNet-v1.0" / name / f"{name}_labels_metadata.json"
    labels.write_text(json.dumps({"labels": ["Non-irrigated arable land", "Airports"]}))
    dataset = load_released("bigearthnet", tmp_path)
    sample = dataset[0]
    assert sample["image"].shape == (12, 120, 120)
    assert sample["label"].tolist() == [0, 0, 1, *[0] * 16]
    with rasterio.open(patch / f"{patch.name}_B04.tif") as file:
        np.testing.assert_array_equal(sample["image"].sel(band="B04"), file.read(1))
    with rasterio.open(patch / f"{patch.name}_B09.tif") as file:
        expected = file.read(1, out_shape=(120, 120), resampling=Resampling.bilinear)
    fine = sample["image"].sel(band="B09").values
    assert np.abs(fine.astype(int) - expected.astype(int)).max() <= 1  # GDAL rounds otherwise


def test_released_patch_with_both_sensors():
    pytest.importorskip("pyarrow")
    dataset = load_released("bigearthnet_v2", DATA / "sentinel" / "bigearthnet")
    assert get("bigearthnet_v2").bands[0].name == "B01"
    assert dataset[0]["image"].shape == (12, 120, 120)
