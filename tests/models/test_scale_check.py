"""Images of another scale than that of the training warn once; scenes of night, sea, cloud and snow do not."""

import warnings

import numpy as np
import pytest
import torch
import xarray as xr

from geoxt import predict
from geoxt.errors import ScaleWarning
from geoxt.grid import coordinates
from geoxt.models.card import Card
from geoxt.models.network import Network
from geoxt.models.scale_check import ScaleCheck
from geoxt.testing import make_grid
from geoxt.trainers import SampleDataModule, Task
from geoxt.trainers.loop.fit import evaluate

RNG = np.random.default_rng(0)
DECIBEL = ((-12.59, -20.26), (5.26, 5.91))
SHAPE = (1, 2, 24, 24)
STORED, REFLECTANCE, BYTES = ((900.0, 2500.0), (500.0, 900.0)), ((0.09, 0.25), (0.05, 0.09)), ((90, 110), (40, 50))


def model(statistics, task="segmentation", name="fcn", **fields):
    mean, std = statistics
    options = {"width": 4} if name == "fcn" else {}
    return Network(
        Card(
            task=task,
            model=name,
            options=options,
            bands=("red", "nir"),
            mean=mean,
            std=std,
            codes=(1, 2),
            names=("a", "b"),
            colors=("#000000", "#ffffff"),
            size=(16, 16),
            **fields,
        )
    ).eval()


def scene(statistics, scale=1.0):
    """Return an image with the statistics of a training, times a scale."""
    mean, std = (np.array(numbers)[:, None, None] for numbers in statistics)
    return (np.abs(mean + std * RNG.standard_normal(SHAPE)) * scale).astype("float32")


@pytest.mark.parametrize(
    ("trained", "images", "problem"),
    [
        (STORED, scene(STORED, 1e-4), "far smaller"),
        (REFLECTANCE, scene(REFLECTANCE, 1e4), "far larger"),
        (BYTES, scene(BYTES, 1 / 255), "far smaller"),
        ((tuple(m / 255 for m in BYTES[0]), tuple(s / 255 for s in BYTES[1])), scene(BYTES), "far larger"),
        (STORED, scene(((0.02, 0.002), (0.01, 0.001))), "far smaller"),  # water
        (STORED, RNG.integers(0, 256, SHAPE).astype("float32"), "far smaller"),  # a picture stretched to bytes
    ],
)
def test_another_scale_warns_once(trained, images, problem):
    check = ScaleCheck(model(trained))
    with pytest.warns(ScaleWarning, match=f"has {problem} values than the model was trained on: red is .*rescale="):
        check(images)
    check(images)  # a warning would be an error


def test_power_for_a_model_of_decibels_warns():
    with pytest.warns(ScaleWarning, match=r"has other values .* Pass backscatter in dB: 10 \* log10\(power\)"):
        ScaleCheck(model(DECIBEL))(RNG.random(SHAPE, "float32") * 0.3)


@pytest.mark.parametrize(
    ("trained", "images"),
    [
        (STORED, scene(STORED)),
        (REFLECTANCE, scene(REFLECTANCE)),
        (BYTES, RNG.integers(0, 2, SHAPE).astype("float32")),  # night
        (STORED, scene(((40.0, 8.0), (5.0, 2.0)))),  # deep water
        (STORED, scene(((400.0, 90.0), (60.0, 20.0))).round()),  # turbid water
        (STORED, RNG.integers(0, 200, SHAPE).astype("float32")),  # shade
        (REFLECTANCE, scene(((0.01, 0.001), (0.003, 0.0005)))),
        (REFLECTANCE, scene(((1.1, 1.2), (0.05, 0.05)))),  # cloud or snow
        (STORED, scene(((11000.0, 12000.0), (500.0, 500.0)))),
        (((-12.0, -18.0), (5.0, 5.0)), RNG.uniform(-40, 0, SHAPE).astype("float32")),  # radar in decibels
        (((0.1, 0.02), (0.3, 0.05)), RNG.uniform(0.0005, 0.002, SHAPE).astype("float32")),  # radar over calm water
        (((0.0, 0.0), (1.0, 1.0)), scene(STORED)),  # not standardized
        (BYTES, np.full(SHAPE, 0.5, "float32")),  # no contrast
    ],
)
def test_unusual_scenes_do_not_warn(trained, images):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ScaleCheck(model(trained))(images)


def test_invalid_pixels_are_not_compared():
    images = scene(REFLECTANCE)
    images[..., 4:] *= 1e4
    valid = np.zeros((1, 24, 24), bool)
    valid[..., :4] = True
    ScaleCheck(model(REFLECTANCE))(images, valid)
    with pytest.warns(ScaleWarning):
        ScaleCheck(model(REFLECTANCE))(images, ~valid)


def test_predict_warns():
    coords = {"band": ["red", "nir"], **coordinates(make_grid((24, 24)))}
    layer = xr.DataArray(scene(STORED, 1e-4)[0], coords, ("band", "y", "x"))
    with pytest.warns(ScaleWarning, match="far smaller") as record:
        predict(layer, model(STORED), size=16, batch_size=1).compute(scheduler="synchronous")
    assert [warning.category for warning in record].count(ScaleWarning) == 1


def test_evaluate_warns():
    samples = [{"image": torch.from_numpy(scene(STORED, 1e-4)[0]), "mask": torch.ones(24, 24, dtype=torch.int64)}]
    task = Task(model(STORED).card)
    with pytest.warns(ScaleWarning, match="far smaller"):
        evaluate(task, SampleDataModule(samples, test=samples), accelerator="cpu")
