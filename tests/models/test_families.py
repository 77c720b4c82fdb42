"""Every family is built, trained, saved and loaded; outputs have the documented shapes."""

import pytest
import torch
from torch.nn import functional as F

from geoxt import models

TINY = [name for name in models.names() if name.startswith("test_")]
DETECTORS = [name for name in TINY if models.get(name).export == "script"]
OTHERS = [name for name in TINY if name not in DETECTORS]
BEFORE = {"change": (2,), "time-series": (3,)}
"""Sizes of the dimensions between batch and bands."""


def images(name, *, count=2, bands=3, size=(32, 32)):
    """Return images of 8 x 8 pixel squares of one random value each."""
    generator = torch.Generator().manual_seed(0)
    before = BEFORE.get(models.get(name).task, ())
    colours = torch.randn(count, *before, bands, *(-(-side // 8) for side in size), generator=generator)
    squares = colours.repeat_interleave(8, dim=-1).repeat_interleave(8, dim=-2)
    return squares[..., : size[0], : size[1]].contiguous()


def labels(name, image):
    """Return whether the first band of the first date is bright, per pixel or per image."""
    first = image.flatten(1, -3)[:, 0]
    return (first > 0).long() if is_map(name) else (first.mean(dim=(1, 2)) > first.mean()).long()


def is_map(name):
    return models.get(name).task not in {"classification", "embedding"}


def square_and_target(name):
    """Return an image with one bright square, and its target."""
    image = torch.zeros(3, 64, 64)
    image[:, 16:40, 20:44] = 2
    target = {"boxes": torch.tensor([[20.0, 16.0, 44.0, 40.0]]), "labels": torch.tensor([2])}
    if "mask" in name:
        target["masks"] = (image[:1] > 0).to(torch.uint8)
    return [image], [target]


@pytest.mark.parametrize("name", OTHERS)
def test_any_bands_and_any_shape(name):
    model = models.create(name, in_chans=5, num_classes=3).eval()
    with torch.no_grad():
        output = model(images(name, bands=5, size=(33, 50)))
    assert output.shape == ((2, 3, 33, 50) if is_map(name) else (2, 3))


@pytest.mark.parametrize("name", OTHERS)
def test_features_are_input_of_last_layer(name):
    model = models.create(name, in_chans=2, num_classes=3).eval()
    with torch.no_grad():
        features = model.features(images(name, bands=2, size=(33, 40)))
    assert features.shape[2:] == ((33, 40) if is_map(name) else ())
    assert features.shape[0] == 2


@pytest.mark.parametrize("name", OTHERS)
def test_model_trains_saves_and_loads(name, tmp_path):
    torch.manual_seed(0)
    model = models.create(name, in_chans=2, num_classes=2)
    image = images(name, count=4, bands=2)
    target = labels(name, image)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(6):
        loss = F.cross_entropy(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]

    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = models.create(name, in_chans=2, num_classes=2)
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    with torch.no_grad():
        assert torch.equal(model.eval()(image), other.eval()(image))


@pytest.mark.parametrize("name", OTHERS)
def test_gradient_step_lowers_loss(name):
    torch.manual_seed(0)
    model = models.create(name, in_chans=2, num_classes=2).double().eval()  # without dropout and moving statistics
    image = images(name, bands=2).double()
    with torch.no_grad():
        target = 1 - model(image).argmax(dim=1)
    before = F.cross_entropy(model(image), target)
    before.backward()
    squares = sum(parameter.grad.square().sum() for parameter in model.parameters() if parameter.grad is not None)
    torch.optim.SGD(model.parameters(), lr=(1e-5 / squares.sqrt()).item()).step()
    with torch.no_grad():
        after = F.cross_entropy(model(image), target)
    assert (after - before).item() == pytest.approx(-1e-5 * squares.sqrt().item(), rel=0.2)  # a step down the slope


@pytest.mark.parametrize("name", DETECTORS)
def test_detector_trains_saves_and_loads(name):
    torch.manual_seed(0)
    model = models.create(name, in_chans=3, num_classes=2)
    inputs, targets = square_and_target(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        loss = sum(model(inputs, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]

    other = models.create(name, in_chans=3, num_classes=2)
    other.load_state_dict(model.state_dict())
    (output,), (two,) = model.eval()(inputs), other.eval()(inputs)
    assert set(output) == {"boxes", "labels", "scores"} | ({"masks"} if "mask" in name else set())
    assert all(torch.equal(output[key], two[key]) for key in output)
    assert 0 not in output["labels"]


@pytest.mark.parametrize("bands", [1, 7])
def test_detector_takes_any_bands_and_mixed_shapes(bands):
    model = models.create(
        "test_faster_rcnn", in_chans=bands, num_classes=3, mean=[0.5] * bands, std=[2.0] * bands
    ).eval()
    detections = model([torch.zeros(bands, 40, 50), torch.zeros(bands, 64, 30)])
    assert len(detections) == 2
    assert model.body.transform.image_mean == [0.5] * bands


def count(name, **options):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in models.create(name, **options).parameters())


def test_parameter_counts_equal_publications():
    """Daudt et al. 2018 as counted by later papers; Garnot 2021, Table 1; the models of torchvision and timm."""
    assert round(count("fc_ef", in_chans=3, num_classes=2) / 1e6, 2) == 1.35
    assert round(count("fc_siam_diff", in_chans=3, num_classes=2) / 1e6, 2) == 1.35
    assert round(count("fc_siam_conc", in_chans=3, num_classes=2) / 1e6, 2) in {1.54, 1.55}
    assert count("utae", in_chans=10, num_classes=20) // 1000 == 1087
    assert count("resnet50", in_chans=3, num_classes=1000) == 25_557_032
    assert count("efficientnet_lite0", in_chans=3, num_classes=1000) == 4_652_008


def test_detector_parameter_counts_equal_torchvision():
    from torchvision.models import detection

    with torch.device("meta"):
        faster = detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=11)
        mask = detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=11)
    for name, other in (("faster_rcnn", faster), ("mask_rcnn", mask)):
        assert count(name, in_chans=3, num_classes=10) == sum(parameter.numel() for parameter in other.parameters())
