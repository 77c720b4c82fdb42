"""Dates of samples, and padding of shorter series."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from geoxt.bridge import loader
from geoxt.grid import coordinates
from geoxt.samplers import RandomSampler
from geoxt.testing import make_grid
from geoxt.windows import Window

DATES = pd.to_datetime(["2020-01-03T10:00:00.5", "2020-02-04", "2020-03-05", "2021-01-01"], format="ISO8601")
NONE = np.iinfo("int64").min


@pytest.fixture(scope="module")
def series():
    coords = coordinates(make_grid((30, 40)))
    image = np.arange(4 * 2 * 30 * 40, dtype="int16").reshape(4, 2, 30, 40)
    mask = np.ones((30, 40), "uint8")
    return xr.Dataset(
        {
            "image": (("time", "band", "y", "x"), image, {"_FillValue": -1}),
            "mask": (("y", "x"), mask, {"flag_values": np.array([1], "uint8"), "flag_meanings": "a"}),
        },
        coords={"time": DATES, **coords},
    )


def test_dates_are_nanoseconds_of_selected_steps(series):
    windows = [Window(0, 0, 8, 8, (0, 2)), Window(1, 1, 8, 8, (3, 1))]
    (batch,) = loader(series, windows, batch_size=2)
    assert batch["image"].shape == (2, 2, 2, 8, 8)
    assert batch["mask"].shape == (2, 8, 8)
    dates = batch["time"].numpy().astype("datetime64[ns]")
    assert np.array_equal(dates, DATES.to_numpy()[[[0, 2], [3, 1]]])
    assert batch["time_valid"].all()
    (full_batch,) = loader(series, [Window(0, 0, 8, 8)])
    assert np.array_equal(full_batch["time"][0].numpy().astype("datetime64[ns]"), DATES.to_numpy())


@pytest.mark.parametrize("workers", [0, 1])
def test_shorter_series_are_padded_and_masked(series, workers):
    windows = [Window(0, 0, 8, 8, (2,)), Window(0, 4, 8, 8, (0, 1, 3)), Window(5, 5, 8, 8, ())]
    (batch,) = loader(series, windows, batch_size=3, num_workers=workers)
    assert batch["image"].shape == (3, 3, 2, 8, 8)
    assert batch["time_valid"].tolist() == [[True, False, False], [True] * 3, [False] * 3]
    assert torch.equal(batch["image_valid"].all(dim=(2, 3)), batch["time_valid"])
    assert not batch["image_valid"].any(dim=(2, 3))[~batch["time_valid"]].any()
    assert (batch["image"][~batch["time_valid"]] == -1).all()
    assert np.array_equal(batch["image"][0, 0], series.image.data[2, :, :8, :8])
    assert np.array_equal(batch["image"][1], series.image.data[[0, 1, 3], :, :8, 4:12])
    assert (batch["time"][~batch["time_valid"]] == NONE).all()


def test_other_time_dimension_is_read_completely(series):
    other = series.mask.expand_dims(mask_time=pd.to_datetime(["2019-01-01", "2020-01-01"]))
    both = series.assign(mask=other)
    (batch,) = loader(both, [Window(0, 0, 8, 8, (1,))])
    assert batch["mask"].shape == (1, 2, 8, 8)
    assert batch["mask_time"].shape == (1, 2)
    assert batch["time"].shape == (1, 1)


def test_steps_without_dates_are_nat(series):
    (batch,) = loader(series.drop_vars("time"), RandomSampler(series.isel(time=0), size=8, length=1, seed=0))
    assert (batch["time"] == NONE).all()
    assert batch["time_valid"].all()


def test_layers_without_time_have_no_dates(series):
    (batch,) = loader(series[["mask"]], [Window(0, 0, 8, 8)])
    assert not {"time", "time_valid"} & batch.keys()
