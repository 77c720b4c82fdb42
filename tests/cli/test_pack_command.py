"""`geoxt pack`: random or adjacent windows of files, stored once."""

import numpy as np
import pytest

import geoxt
from geoxt import cli
from geoxt.samplers import GridSampler, RandomSampler
from geoxt.testing import make_grid, write_cog

pytest.importorskip("zarr")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("pack"), np.random.default_rng(0)
    grid = make_grid((100, 130))
    image = write_cog(folder / "image.tif", rng.integers(1, 99, (2, 100, 130)).astype("uint8"), grid=grid, nodata=0)
    labels = write_cog(folder / "labels.tif", rng.integers(1, 3, (1, 100, 130)).astype("uint8"), grid=grid, nodata=0)
    return str(image), str(labels)


def test_random_windows_with_labels(files, tmp_path, capsys):
    image, labels = files
    out = str(tmp_path / "p.zarr")
    command = ["pack", image, "--labels", labels, "--size", "32", "--count", "7", "--seed", "3", "--out", out]
    assert cli.main([*command, "--compress"]) == 0
    assert capsys.readouterr().out.strip() == out
    pack = geoxt.open_pack(out)
    layer = geoxt.open_cogs(image)
    windows = RandomSampler(layer, size=32, length=7, seed=3)
    assert pack.sizes["sample"] == 7
    for number, window in enumerate(windows):
        part = slice(window.row, window.row + 32), slice(window.col, window.col + 32)
        assert np.array_equal(pack.image[number], layer.values[:, *part])
        assert np.array_equal(pack.mask[number], geoxt.open_cogs(labels, categorical=True).values[part])


def test_grid_of_windows(files, tmp_path):
    out = tmp_path / "p.zarr"
    assert cli.main(["pack", files[0], "--size", "40", "--stride", "20", "--out", str(out)]) == 0
    layer = geoxt.open_cogs(files[0])
    assert geoxt.open_pack(out).sizes["sample"] == len(GridSampler(layer, size=40, stride=20))


def test_a_window_larger_than_the_image_is_an_error(files, tmp_path, capsys):
    assert cli.main(["pack", files[0], "--size", "400", "--out", str(tmp_path / "p.zarr")]) == 2
    assert "400" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
