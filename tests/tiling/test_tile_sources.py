"""Inputs of map tiles: scenes and bytes known before they are read, and replaced or missing files."""

import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from torch import nn

import geoxt
from geoxt.errors import InputError, OutputError
from geoxt.testing import make_grid, make_item, write_cog
from geoxt.tiling import estimate_tiles


def read(path):
    with rasterio.open(path) as file:
        return file.read()


def make_files(folder):
    """Write two scenes side by side, with a gap between them."""
    for number, left in enumerate([0, 160]):
        values = np.random.default_rng(number).integers(1, 255, (3, 64, 64)).astype("uint8")
        write_cog(folder / f"scene{number}.tif", values, grid=make_grid((64, 64)).translate_pix(left, 0), nodata=0)
    return geoxt.open_cogs(sorted(folder.glob("scene*.tif")))


def test_scenes_of_tiles_are_known_before_they_are_read(tmp_path):
    layer = make_files(tmp_path)
    assert layer.sizes["x"] == 224
    table = geoxt.to_tiles(layer, tmp_path / "map", tiles=32, progress=False)
    for row in table.itertuples():
        expected = [
            f"scene{n}" for n, start in enumerate((0, 160)) if row.col < start + 65 and row.col + 32 > start - 1
        ]
        assert [Path(name).stem for name in row.inputs] == expected
        assert row.state == ("done" if row.col < 64 or row.col >= 160 else "empty")
    assert table["attempts"][table["col"] == 96].tolist() == [0, 0]  # not computed
    np.testing.assert_array_equal(read(tmp_path / "map" / "map.vrt"), layer.values)


def test_estimates_count_scenes_and_bytes(tmp_path, monkeypatch):
    layer = make_files(tmp_path)
    estimate = estimate_tiles(layer, tiles=32, rate=1000.0)
    assert (estimate.scenes, estimate.tiles, estimate.empty) == (2, 12, 2)
    assert estimate.read_bytes == 2 * 3 * 64 * 64
    assert (estimate.pixels, estimate.map_bytes) == (12 * 32 * 32, 12 * 32 * 32 * 3)
    assert estimate.hours == estimate.pixels / 1000 / 3600
    assert "12 (2 more are empty)" in str(estimate)
    measured = estimate_tiles(geoxt.predict(layer, nn.Conv2d(3, 3, 5, padding=2), size=32), tiles=32, samples=2)
    assert 0 < measured.rate < np.inf
    with pytest.raises(InputError, match="rate"):
        estimate_tiles(layer, rate=0)
    with pytest.raises(InputError, match="samples="):
        estimate_tiles(layer, samples=0)


def test_replaced_files_of_the_layer_raise(tmp_path):
    path = tmp_path / "image.tif"
    for seed in (0, 1):
        values = np.random.default_rng(seed).integers(1, 255, (1, 60, 40)).astype("uint8")
        write_cog(path, values, grid=make_grid((60, 40)), nodata=0)
        if seed == 0:
            geoxt.to_tiles(geoxt.open_cogs(path), tmp_path / "map", tiles=32, progress=False)
    with pytest.raises(InputError, match="other versions of its files"):
        geoxt.to_tiles(geoxt.open_cogs(path), tmp_path / "map", tiles=32, progress=False)


@pytest.mark.parametrize("predicted", [False, True])
def test_tiles_of_a_missing_file_are_computed_once_it_is_there(tmp_path, predicted):
    items = []
    for number in range(2):
        values = np.random.default_rng(number).integers(1, 255, (3, 32, 32)).astype("uint8")
        path = write_cog(
            tmp_path / f"{number}.tif", values, grid=make_grid((32, 32), left=600_000 + 960 * number), nodata=0
        )
        items.append(make_item(f"i{number}", {"rgb": path}, time=datetime(2020, 1, 1, tzinfo=UTC)))

    torch.manual_seed(0)
    model = nn.Conv2d(3, 2, 1)

    def write():
        layer = geoxt.open_stac(items)
        layer = geoxt.predict(layer, model, size=32, overlap=0) if predicted else layer
        return geoxt.to_tiles(layer, tmp_path / "map", tiles=32, progress=False, retries=0)

    (tmp_path / "1.tif").rename(tmp_path / "away.tif")
    with pytest.raises(OutputError, match="1 of 2 map tiles"):
        write()
    first = read(tmp_path / "map" / "tiles" / "r0c0.tif")
    (tmp_path / "away.tif").rename(tmp_path / "1.tif")
    assert write()["state"].tolist() == ["done", "done"]
    np.testing.assert_array_equal(read(tmp_path / "map" / "tiles" / "r0c0.tif"), first)
    if not predicted:
        np.testing.assert_array_equal(read(tmp_path / "map" / "tiles" / "r0c1.tif"), values)
    os.utime(tmp_path / "1.tif", (1, 1))
    with pytest.raises(InputError, match="other versions of its files"):
        write()
