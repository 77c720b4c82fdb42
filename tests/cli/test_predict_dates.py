"""`geoxt predict` with models of change and of series: one argument per date, bands by name, nodata per date."""

import numpy as np
import pytest
import rasterio
import torch
import xarray as xr

from geoxt import cli
from geoxt.grid import coordinates
from geoxt.inference import predict
from geoxt.models import Card, Network
from geoxt.models.network import CARD, PREFIX
from geoxt.testing import make_grid, write_cog

BANDS = ("green", "red", "nir")
SHAPE = (70, 60)
TILES = ("--size", "32", "--overlap", "8", "--batch-size", "3")
MODELS = {"change": "test_fc_siam_conc", "time-series": "test_ltae"}
NODATA = 255


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return checkpoints by task."""
    folder = tmp_path_factory.mktemp("models")
    for task, model in MODELS.items():
        card = Card(
            task=task, model=model, bands=BANDS, mean=(100.0,) * 3, std=(30.0,) * 3, codes=(0, 1),
            names=("same", "changed"), colors=("#dddddd", "#ff0000"), size=(32, 32),
        )  # fmt: skip
        state = {f"{PREFIX}{name}": value for name, value in Network(card).state_dict().items()}
        torch.save({CARD: card.to_dict(), "state_dict": state}, folder / f"{task}.ckpt")
    return {task: folder / f"{task}.ckpt" for task in MODELS}


def make_date(seed, gap):
    """Return pixels (band, y, x), and which of them lack: a corner, another one each date."""
    values = np.random.default_rng(seed).integers(1, 200, (len(BANDS), *SHAPE)).astype("uint8")
    gone = np.zeros(SHAPE, bool)
    gone[gap : gap + 9, 3 * gap : 3 * gap + 20] = True
    return values, gone


def write(path, seed, *, gap, bands=BANDS, nodata=0, shift=(0, 0)):
    """Write the bands of a date in an order, and return the path as text."""
    values, gone = make_date(seed, gap)
    values = np.where(gone, nodata, values).astype("uint8")[[BANDS.index(band) for band in bands]]
    grid = make_grid(SHAPE, left=600_000.0 + 30 * shift[1], top=4_550_000.0 - 30 * shift[0])
    return str(write_cog(path, values, grid=grid, nodata=nodata, bands=bands))


def run(images, model, out, *options):
    return cli.main(["predict", *images, "--model", str(model), "--out", str(out), *TILES, *options])


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


def stacked(seeds, gaps):
    """Return the dates as one layer in memory, made without opening a file, and which pixels of each lack."""
    made = [make_date(seed, gap) for seed, gap in zip(seeds, gaps, strict=True)]
    values = np.stack([np.where(gone, 0, values) for values, gone in made])
    return layer_of(values), np.stack([gone for _, gone in made])


def layer_of(values):
    coords = {"band": list(BANDS), **coordinates(make_grid(SHAPE))}
    return xr.DataArray(values, dims=("time", "band", "y", "x"), coords=coords, attrs={"_FillValue": 0})


def test_change_between_two_images_whose_bands_stand_in_another_order(models, tmp_path):
    before = write(tmp_path / "before.tif", 1, gap=2, bands=("nir", "green", "red"))
    after = write(tmp_path / "after.tif", 2, gap=9, bands=("red", "nir", "green"), nodata=250)
    assert run([before, after], models["change"], tmp_path / "map.tif") == 0
    layer, gone = stacked((1, 2), (2, 9))
    expected = predict(layer, models["change"], size=32, overlap=8, batch_size=3).to_numpy()
    mapped = read(tmp_path / "map.tif")
    np.testing.assert_array_equal(mapped, expected)
    np.testing.assert_array_equal(mapped == NODATA, gone.any(axis=0))
    assert len(np.unique(mapped)) == 3
    assert run([after, before], models["change"], tmp_path / "turned.tif") == 0
    assert (read(tmp_path / "turned.tif") != mapped).any()


def test_a_date_as_a_file_for_each_band(models, tmp_path):
    for seed, date in ((1, "before"), (2, "after")):
        values, _ = make_date(seed, 2)
        for band, band_values in zip(BANDS, values, strict=True):
            write_cog(tmp_path / f"{date}_{band}.tif", band_values, grid=make_grid(SHAPE), nodata=0)
    patterns = [str(tmp_path / f"{date}_*.tif") for date in ("before", "after")]
    assert run(patterns, models["change"], tmp_path / "map.tif") == 0
    values = np.stack([make_date(seed, 2)[0] for seed in (1, 2)])
    expected = predict(layer_of(values), models["change"], size=32, overlap=8, batch_size=3)
    np.testing.assert_array_equal(read(tmp_path / "map.tif"), expected)


def test_a_series_is_mapped_where_any_date_is_valid(models, tmp_path):
    gaps = (2, 4, 6)
    images = [write(tmp_path / f"{seed}.tif", seed, gap=gap) for seed, gap in enumerate(gaps)]
    assert run(images, models["time-series"], tmp_path / "map.zarr", "--output", "probabilities") == 0
    layer, gone = stacked(range(3), gaps)
    mapped = xr.open_zarr(tmp_path / "map.zarr")["prediction"].to_numpy()
    expected = predict(layer, models["time-series"], size=32, overlap=8, batch_size=3, output="probabilities")
    np.testing.assert_array_equal(mapped, expected)
    np.testing.assert_array_equal(np.isnan(mapped[0]), gone.all(axis=0))
    assert gone.all(axis=0).any()


def test_a_date_that_lies_elsewhere_is_compared_where_both_are(models, tmp_path):
    before, after = write(tmp_path / "a.tif", 1, gap=0), write(tmp_path / "b.tif", 1, gap=0, shift=(20, 10))
    assert run([before, after], models["change"], tmp_path / "map.tif") == 0
    known = read(tmp_path / "map.tif") != NODATA
    gone = np.zeros(SHAPE, bool)
    gone[:9, :20], gone[20:29, 10:30] = True, True
    gone[:20], gone[:, :10] = True, True
    np.testing.assert_array_equal(~known, gone)


def test_pixels_that_a_mask_takes_out_of_one_date_are_not_compared(models, tmp_path):
    values, gone = make_date(1, 3)
    before = str(write_cog(tmp_path / "a.tif", values, grid=make_grid(SHAPE), bands=BANDS, mask=~gone))
    after = str(write_cog(tmp_path / "b.tif", make_date(2, 3)[0], grid=make_grid(SHAPE), bands=BANDS))
    assert run([before, after], models["change"], tmp_path / "map.tif") == 0
    np.testing.assert_array_equal(read(tmp_path / "map.tif") == NODATA, gone)


def test_names_of_bands_are_given_for_all_dates_at_once(models, tmp_path):
    images = []
    for seed in (1, 2):
        values, _ = make_date(seed, 2)
        path = write_cog(tmp_path / f"{seed}.tif", values, grid=make_grid(SHAPE), nodata=0, bands=("B3", "B4", "B8"))
        images.append(str(path))
    options = ("--bands", "green=B3", "red=B4", "nir=B8")
    assert run(images, models["change"], tmp_path / "map.tif", *options) == 0


@pytest.mark.parametrize(
    ("task", "count", "words"),
    [
        ("change", 1, ["change from 1 image:", "two dates, the earlier one first", "a pattern that matches them"]),
        ("change", 3, ["change from 3 images:", "two dates"]),
        ("time-series", 1, ["time-series from 1 image:", "two dates or more"]),
    ],
)
def test_another_number_of_dates_is_refused(models, tmp_path, capsys, task, count, words):
    images = [write(tmp_path / f"{number}.tif", number, gap=2) for number in range(count)]
    assert run(images, models[task], tmp_path / "out" / "map.tif") == 2
    message = capsys.readouterr().err
    assert message.startswith("geoxt: Cannot predict")
    assert message.count("\n") == 1
    assert [word for word in words if word not in message] == []


def test_the_date_that_lacks_a_band_or_lies_apart_is_named(models, tmp_path, capsys):
    before = write(tmp_path / "before.tif", 1, gap=2)
    after = write(tmp_path / "after.tif", 2, gap=2, bands=("green", "nir"))
    far = write(tmp_path / "far.tif", 2, gap=2, shift=(900, 900))
    assert run([before, after], models["change"], tmp_path / "map.tif") == 2
    assert f"the image {after!r} has no band 'red', only green, nir" in capsys.readouterr().err
    assert run([before, far], models["change"], tmp_path / "map.tif") == 2
    message = capsys.readouterr().err
    assert "far.tif" in message
    assert "lies in" in message
    assert not (tmp_path / "map.tif").exists()
