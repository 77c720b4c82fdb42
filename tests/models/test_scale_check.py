"""Images of another scale than that of the training warn once; scenes of night, sea, cloud and snow do not."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from geoxt import predict
from geoxt.errors import InputError, ScaleWarning
from geoxt.grid import coordinates
from geoxt.models.card import Card
from geoxt.models.network import Network
from geoxt.models.scale_check import ScaleCheck
from geoxt.splits import by_block
from geoxt.testing import distinct, make_grid, make_layer
from geoxt.trainers import SampleDataModule, Task, WindowDataModule
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


IMAGENET = ((123.7, 116.3), (58.4, 57.1))
DIVIDED = ((0.0, 0.0), (10_000.0, 10_000.0))
UNKNOWN = ((0.0, 0.0), (1.0, 1.0))


@pytest.mark.parametrize(
    ("trained", "valid_max", "images", "problem"),
    [
        (IMAGENET, 255.0, scene(STORED), "far larger"),  # below 15 times mean + 2 std
        (IMAGENET, 255.0, scene(REFLECTANCE), "far smaller"),
        (UNKNOWN, 255.0, scene(STORED), "far larger"),
        (UNKNOWN, 255.0, scene(REFLECTANCE), "far smaller"),
        (DIVIDED, None, scene(REFLECTANCE), "far smaller"),
        (DIVIDED, None, RNG.integers(0, 256, SHAPE).astype("float32"), "far smaller"),
        (IMAGENET, 255.0, RNG.integers(0, 256, SHAPE).astype("float32"), None),
        (IMAGENET, 255.0, RNG.integers(0, 256, SHAPE).astype("float32") * 1.1, None),  # overshoot of cubic resampling
        (DIVIDED, None, scene(STORED), None),
        (((0.0, 0.3), (1.0, 0.1)), None, scene(REFLECTANCE), None),
    ],
)
def test_largest_values_and_divisors_are_compared(trained, valid_max, images, problem):
    fields = {} if valid_max is None else {"valid_max": (valid_max,) * 2}
    network = model(trained, **fields)
    assert Card.from_dict(network.card.to_dict()) == network.card
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ScaleCheck(network)(images)
    assert [str(warning.message).split(" values")[0] for warning in caught] == (
        [] if problem is None else [f"The image has {problem}"]
    )


def test_decibels_beside_reflectance_are_compared():
    network = model(((-12.6, 900.0), (5.3, 500.0)))
    network.card = replace(network.card, bands=("VV", "nir"))
    with pytest.warns(ScaleWarning, match="other values .* VV .* Pass backscatter in dB"):
        ScaleCheck(network)(np.concatenate([scene(REFLECTANCE)[:, :1], scene(STORED)[:, 1:]], axis=1))


def test_model_card_of_8_bit_images_states_their_largest_value():
    card = two_layers("uint8").card(model="fcn")
    assert card.valid_max == (255.0,)
    assert two_layers("uint16").card(model="fcn").valid_max == ()
    with pytest.raises(InputError, match="2 bands and 1 largest values"):
        model(STORED, valid_max=(255.0,))


def two_layers(dtype):
    image = make_layer(distinct((1, 16, 16), dtype))
    mask = make_layer(np.arange(256).reshape(16, 16).astype("uint8") % 2).assign_attrs(flag_values=[0, 1])
    data = xr.Dataset({"image": image, "mask": mask})
    return WindowDataModule(data, by_block(data, size=8), size=8, length=4)


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
