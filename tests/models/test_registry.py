"""Every architecture of the registry is built, trained a step, saved and loaded; bad requests say what to pass."""

import pytest
import torch
from torch.nn import functional as F

from geoxt import models
from geoxt.errors import InputError


@pytest.mark.parametrize("name", models.names(task="segmentation"))
def test_an_architecture_takes_any_bands_and_any_shape(name):
    model = models.create(name, in_chans=5, classes=3).eval()
    with torch.no_grad():
        assert model(torch.randn(2, 5, 33, 50)).shape == (2, 3, 33, 50)


@pytest.mark.parametrize("name", [name for name in models.names() if name.startswith("test_")])
def test_an_architecture_learns_saves_and_loads(name, tmp_path):
    torch.manual_seed(0)
    model = models.create(name, in_chans=2, classes=2)
    image = torch.randn(4, 2, 16, 16)
    target = (image[:, 0] > 0).long()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        loss = F.cross_entropy(model(image), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]

    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = models.create(name, in_chans=2, classes=2)
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    with torch.no_grad():
        assert torch.equal(model.eval()(image), other.eval()(image))


def test_padding_to_the_encoders_multiple_leaves_fitting_shapes_alone():
    model = models.create("test_unet", in_chans=1, classes=2).eval()
    image = torch.randn(1, 1, 32, 32)
    features = torch.cat([model.decoder(model.encoder(image)), model.detail(image)], dim=1)
    assert torch.equal(model(image), model.head(features))


def test_detail_can_be_left_out():
    model = models.create("test_unet", in_chans=1, classes=2, detail=0)
    assert model.detail is None
    assert model(torch.randn(2, 1, 8, 8)).shape == (2, 2, 8, 8)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("u-net", {}, r"named 'u-net'. Did you mean 'unet'\?"),
        ("test_unet", {"width": 3}, "option 'width': pass some of encoder, weights"),
        ("test_unet", {"in_chans": 0}, "in_chans=0"),
        ("test_unet", {"decoder": (8, 8, 8)}, "depth 2 with 3 decoder steps"),
        ("test_unet", {"encoder": "no-such-encoder"}, "encoder 'no-such-encoder'"),
        ("test_unet", {"encoder": "tu-no_such_model"}, "encoder 'tu-no_such_model'"),
    ],
)
def test_a_request_that_cannot_be_met_says_what_to_pass(name, options, message):
    with pytest.raises(InputError, match=message):
        models.create(name, **{"in_chans": 2, "classes": 2, **options})
