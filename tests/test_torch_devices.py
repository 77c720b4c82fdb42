"""Devices without float64, by a stand-in for MPS: results equal those of the CPU."""

import kornia.augmentation as K
import pytest
import torch
from support.fake_mps import fake_mps

from geoxt.errors import InputError
from geoxt.inference.device_model import model_on
from geoxt.metrics.regression import RegressionSums
from geoxt.torch_devices import Device
from geoxt.trainers import SampleDataModule
from geoxt.transforms import Augment, Clouds, Lee, RandomCrop, RandomFlipRotate
from geoxt.transforms.geometry import transform_boxes
from geoxt.transforms.spectral_indices import root

TRANSFORMS = {
    "flips": RandomFlipRotate,
    "crops": lambda: RandomCrop(8),
    "clouds": Clouds,
    "speckle": lambda: Lee(window=3),
    "affine": lambda: Augment(K.RandomAffine(20, p=0.5), K.RandomHorizontalFlip(), K.RandomGaussianNoise(p=1.0)),
    "elastic": lambda: Augment(K.RandomElasticTransform(p=1.0)),
}


def make_batch():
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.rand(3, 2, 12, 12, generator=generator),
        "image_valid": torch.rand(3, 12, 12, generator=generator) > 0.2,
        "mask": torch.randint(0, 3, (3, 12, 12), generator=generator),
        "transform": torch.tensor([[10.0, 0, 5e5, 0, -10, 5e6]] * 3, dtype=torch.float64),
        "bounds": torch.tensor([[5e5, 4999880, 500120, 5e6]] * 3, dtype=torch.float64),
    }


def to_mps(batch):
    """Move a batch as the data modules of geoxt do."""
    return SampleDataModule([batch]).transfer_batch_to_device(batch, torch.device("mps"), 0)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_on_mps_equal_those_on_the_cpu(name):
    transform = TRANSFORMS[name]()
    torch.manual_seed(0)
    expected = transform(make_batch())
    with fake_mps(), torch.no_grad():
        torch.manual_seed(0)
        result = transform(to_mps(make_batch()))
        assert result["image"].device.type == "mps"
        moved = {key: value.cpu() for key, value in result.items()}
    assert moved.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(moved[key], value, rtol=0, atol=0, equal_nan=True)


def test_roots_boxes_and_sums_on_mps_equal_those_on_the_cpu():
    values, boxes = torch.rand(50), [torch.tensor([[1.0, 2.0, 5.0, 7.0]])]
    matrix = torch.eye(3, dtype=torch.float64)[None] * 1.1
    metric = RegressionSums(2)
    predicted, target = torch.rand(3, 2, 4), torch.rand(3, 2, 4).masked_fill(torch.rand(3, 2, 4) > 0.7, torch.nan)
    metric.update(predicted, target)
    expected = metric.compute()
    with fake_mps():
        assert torch.equal(root(values.to("mps")).cpu(), root(values))
        moved = transform_boxes({"boxes": [box.to("mps") for box in boxes]}, matrix)["boxes"][0]
        assert torch.equal(moved.cpu(), transform_boxes({"boxes": boxes}, matrix)["boxes"][0])
        on_mps = RegressionSums(2).to("mps")
        on_mps.update(predicted.to("mps"), target.to("mps"))
        assert on_mps.device.type == "mps"
        assert torch.equal(on_mps.compute(), expected)


def test_model_of_float64_on_mps_is_an_error():
    device = Device("cpu")
    device.name, device.torch_device, device.sum_dtype = "mps", torch.device("mps"), torch.float32
    with fake_mps(), pytest.raises(InputError, match="Cannot run the model on 'mps': its weights are float64"):
        model_on(torch.nn.Linear(2, 2).double(), "digest", device)
