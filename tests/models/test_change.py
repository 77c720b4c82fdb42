"""FC-EF, FC-Siam-conc and FC-Siam-diff: skips as in the paper, and their dependence on the order of dates."""

import pytest
import torch

from geoxt import models

NAMES = {"early": "fc_ef", "concatenate": "fc_siam_conc", "difference": "fc_siam_diff"}


@pytest.fixture
def pair():
    return torch.randn(2, 2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("fusion", "skips"), [("early", 1), ("concatenate", 2), ("difference", 1)])
def test_channels_equal_paper(fusion, skips):
    model = models.create(NAMES[fusion], in_chans=3, num_classes=2)
    encoder = [[layer.out_channels for layer in stage if hasattr(layer, "out_channels")] for stage in model.encoder]
    decoder = [[layer.out_channels for layer in stage if hasattr(layer, "out_channels")] for stage in model.decoder]
    assert encoder == [[16, 16], [32, 32], [64, 64, 64], [128, 128, 128]]
    assert decoder == [[128, 128, 64], [64, 64, 32], [32, 16], [16]]
    assert model.encoder[0][0].in_channels == (6 if fusion == "early" else 3)
    assert [stage[0].in_channels for stage in model.decoder] == [(1 + skips) * width for width in (128, 64, 32, 16)]
    assert model.head.out_channels == 2


def test_difference_is_symmetric(pair):
    model = models.create("test_fc_siam_diff", in_chans=3, num_classes=2, deepest="difference").eval()
    with torch.no_grad():
        assert torch.equal(model(pair), model(pair.flip(1)))


@pytest.mark.parametrize("name", ["test_fc_ef", "test_fc_siam_conc", "test_fc_siam_diff"])
def test_other_fusions_depend_on_date_order(name, pair):
    model = models.create(name, in_chans=3, num_classes=2).eval()
    with torch.no_grad():
        assert not torch.equal(model(pair), model(pair.flip(1)))


def test_difference_skips_of_equal_dates_are_zero(pair):
    model = models.create("test_fc_siam_diff", in_chans=3, num_classes=2).eval()
    features = []
    hooks = [stage.register_forward_pre_hook(lambda _, args: features.append(args[0])) for stage in model.decoder]
    with torch.no_grad():
        model(pair[:, :1].expand(-1, 2, -1, -1, -1))
        same = list(features)
        features.clear()
        model(pair)
    for hook in hooks:
        hook.remove()
    for inputs, others in zip(same, features, strict=True):
        half = inputs.shape[1] // 2
        assert not inputs[:, half:].any()
        assert others[:, half:].min() >= 0
        assert others[:, half:].any()


def test_siamese_encoders_share_weights(pair):
    model = models.create("test_fc_siam_conc", in_chans=3, num_classes=2).eval()
    features = []
    model.encoder[0].register_forward_hook(lambda _, __, output: features.append(output))
    with torch.no_grad():
        model(pair)
        expected = [model.encoder[0](pair[:, date]) for date in (0, 1)]
    assert torch.equal(features[0], expected[0])
    assert torch.equal(features[1], expected[1])
