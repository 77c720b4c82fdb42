"""Uncertainty of pixels and ensembles equal a loop in torch, for any chunks and tiles."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn
from torch.nn import functional as F

from geoxt import tasks
from geoxt.errors import InputError
from geoxt.grid import coordinates
from geoxt.inference import predict
from geoxt.inference.ensemble import symmetries
from geoxt.inference.mc_dropout import activate_dropout, active_sample
from geoxt.inference.output_kinds import output_for
from geoxt.models import Card, Network
from geoxt.testing import make_grid
from geoxt.writers import to_cog

CARD = Card(
    task="segmentation", model="fcn", options={"width": 4, "layers": 2}, bands=("red", "nir"), mean=(0.0,) * 2,
    std=(1.0,) * 2, codes=(1, 2, 7), names=("water", "forest", "town"), colors=(), size=(8, 8),
)  # fmt: skip
TILES = {"size": 16, "overlap": 4, "batch_size": 3}


def make_layer(shape=(40, 29), *, seed=0, holes=False):
    values = np.random.default_rng(seed).normal(size=(2, *shape)).astype("float32")
    if holes:
        values[0, 3:9, 5] = np.nan
    coords = {"band": ["red", "nir"], **coordinates(make_grid(shape))}
    return xr.DataArray(values, dims=("band", "y", "x"), coords=coords, name="image")


class Dropping(nn.Module):
    """Per-pixel logits behind dropout of channels and of elements."""

    def __init__(self, classes=3):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(3)
            self.first, self.last = nn.Conv2d(2, 12, 1), nn.Conv2d(12, classes, 1)
        self.channels, self.elements = nn.Dropout2d(0.4), nn.Dropout(0.2)

    def forward(self, images):
        return self.last(self.elements(self.channels(self.first(images).relu())))


def measured(samples):
    """Entropy, margin, mutual information and variance of probabilities (sample, class, ...)."""
    mean = samples.mean(0)
    entropy = torch.distributions.Categorical(mean.movedim(0, -1)).entropy()
    top = mean.topk(2, dim=0).values
    within = torch.distributions.Categorical(samples.movedim(1, -1)).entropy().mean(0)
    return torch.stack([entropy, top[0] - top[1], entropy - within, samples.var(dim=0).mean(0)])


def probabilities(model, layer):
    with torch.inference_mode():
        return model(torch.from_numpy(layer.to_numpy())[None]).softmax(1)[0]


def test_measures_of_one_model_equal_scipy():
    from scipy.special import entr

    layer, network = make_layer(holes=True), Network(CARD)
    uncertain = predict(layer, network, output="uncertainty", **TILES)
    chances = predict(layer, network, output="probabilities", **TILES).to_numpy().astype(float)
    assert uncertain["band"].to_numpy().tolist() == ["entropy", "margin"]
    assert uncertain.dtype == np.float32
    np.testing.assert_allclose(uncertain[0], entr(chances).sum(0), atol=1e-6)
    ordered = np.sort(chances, axis=0)
    np.testing.assert_allclose(uncertain[1], ordered[-1] - ordered[-2], atol=1e-6)
    np.testing.assert_array_equal(np.isnan(uncertain), np.isnan(layer.to_numpy()).any(0)[None].repeat(2, 0))


def test_ensembles_equal_a_loop_in_torch():
    layer, members = make_layer((16, 16)), [Network(CARD, seed=seed).eval() for seed in range(3)]
    samples = torch.stack([probabilities(member, layer) for member in members])
    uncertain = predict(layer, members[0], members=members[1:], output="uncertainty", **TILES)
    names = ["entropy", "margin", "mutual_information", "variance"]
    assert uncertain["band"].to_numpy().tolist() == names
    np.testing.assert_allclose(uncertain, measured(samples), atol=1e-6)
    np.testing.assert_allclose(
        predict(layer, members=members, output="probabilities", **TILES), samples.mean(0), atol=1e-6
    )
    codes = np.array(CARD.codes)[samples.mean(0).argmax(0)]
    np.testing.assert_array_equal(predict(layer, members=members, **TILES), codes)


def test_equal_members_have_no_mutual_information():
    layer = make_layer()
    uncertain = predict(layer, members=[Network(CARD), Network(CARD)], output="uncertainty", **TILES)
    assert (uncertain[2:] == 0).all()
    np.testing.assert_array_equal(uncertain[:2], predict(layer, Network(CARD), output="uncertainty", **TILES))


def test_the_model_counts_once_if_it_is_a_member():
    layer, (first, second) = make_layer((16, 16)), (Network(CARD, seed=seed) for seed in (0, 1))
    expected = predict(layer, members=[first, second], output="uncertainty", **TILES)
    for model in (first, Network(CARD, seed=0)):
        np.testing.assert_array_equal(
            predict(layer, model, members=[first, second], output="uncertainty", **TILES), expected
        )


@pytest.mark.parametrize("options", [{"num_mc_samples": 3, "seed": 5}, {"tta": True}], ids=["dropout", "tta"])
def test_windows_equal_the_whole_map(options):
    model, options = Dropping(), {"output": "uncertainty", **TILES, **options}
    expected = predict(make_layer(), model, **options).to_numpy()
    for chunks, threads in ((1, 1), (25, 3)):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            again = predict(make_layer().chunk(y=7, x=11), model, chunks=chunks, **options)
            np.testing.assert_array_equal(again.isel(y=slice(9, 31), x=slice(4, 20)), expected[:, 9:31, 4:20])
            np.testing.assert_array_equal(again, expected)
        finally:
            torch.set_num_threads(before)
    torch.manual_seed(8)  # no state of the global generator
    np.testing.assert_array_equal(predict(make_layer(), model, **options | {"batch_size": 3}), expected)


def test_dropout_depends_on_the_seed_and_not_on_tiles_for_channels():
    layer, model = make_layer(), Dropping()
    model.elements = nn.Dropout(0.0)
    options = {"output": "uncertainty", "num_mc_samples": 4}
    expected = predict(layer, model, size=16, overlap=4, **options)
    np.testing.assert_allclose(predict(layer, model, size=25, overlap=9, **options), expected, atol=1e-5)
    other = predict(layer, model, size=16, overlap=4, seed=1, **options)
    assert (other[2] != expected[2]).mean() > 0.9
    assert model.channels.p == 0.4  # the model is unchanged


def test_samples_of_dropout_equal_torch_with_the_same_masks():
    layer, model = make_layer((16, 16)), Dropping()
    copy = Dropping()
    activate_dropout(copy)
    image = torch.from_numpy(layer.to_numpy())[None]
    samples = []
    for sample in range(3):
        with torch.inference_mode(), active_sample(9, sample):
            hidden = copy.first(image).relu()
            dropped = copy.channels(hidden)
            passes = dropped.amax((0, 2, 3)) > 0  # a channel is scaled, or zeroed
            torch.testing.assert_close(dropped, hidden * passes[:, None, None] / 0.6)
            samples.append(copy(image)[0].softmax(0))
    uncertain = predict(layer, model, output="uncertainty", num_mc_samples=3, seed=9, **TILES)
    np.testing.assert_allclose(uncertain, measured(torch.stack(samples)), atol=1e-6)


def test_dropout_zeroes_its_fraction():
    model = nn.Sequential(nn.Dropout(0.3))
    activate_dropout(model)
    with active_sample(0, 1):
        zeros = (model(torch.ones(2, 1, 200, 200)) == 0).float()
    assert abs(zeros.mean() - 0.3) < 0.01
    assert torch.equal(zeros[0], zeros[1])
    assert torch.equal(model(torch.ones(2, 5)), torch.ones(2, 5))  # outside of samples


def test_flips_and_rotations_equal_a_loop_in_torch():
    layer, model = make_layer((16, 16)), nn.Conv2d(2, 3, 3, padding=1)
    samples = []
    for flip, unflip in symmetries((16, 16)):
        turned = layer.copy(data=flip(torch.from_numpy(layer.to_numpy())).numpy())
        samples.append(unflip(probabilities(model, turned)))
    uncertain = predict(layer, model, output="uncertainty", tta=True, **TILES)
    np.testing.assert_allclose(uncertain, measured(torch.stack(samples)), atol=1e-6)


@pytest.mark.parametrize(("shape", "count"), [((4, 4), 8), ((4, 6), 4)])
def test_symmetries_are_distinct_and_invert(shape, count):
    image = torch.arange(4 * 6).reshape(4, 6)[: shape[0], : shape[1]]
    images = [flip(image) for flip, _ in symmetries(shape)]
    assert len({str(turned.tolist()) for turned in images}) == count
    assert torch.equal(images[0], image)
    assert all(torch.equal(unflip(flip(image)), image) for flip, unflip in symmetries(shape))
    assert all(turned.shape == image.shape for turned in images)


@pytest.mark.parametrize("names", [("height",), ("height", "biomass")])
def test_variances_of_regression(names):
    card = replace(CARD, task="pixelwise-regression", names=names, codes=tuple(range(len(names))))
    layer, members = make_layer((16, 16)), [Network(card, seed=seed).eval() for seed in range(3)]
    with torch.inference_mode():
        image = torch.from_numpy(layer.to_numpy())[None]
        values = torch.stack([member(image)[0] for member in members])
    uncertain = predict(layer, members=members, output="uncertainty", **TILES)
    expected = [band for channel in values.unbind(1) for band in (channel.var(0), channel.std(0))]
    np.testing.assert_allclose(uncertain, torch.stack(expected), atol=1e-6)
    bands = uncertain["band"].to_numpy().tolist()
    assert bands == (
        ["variance", "std"] if len(names) == 1 else [f"{n} {m}" for n in names for m in ("variance", "std")]
    )
    np.testing.assert_allclose(predict(layer, members=members, **TILES), values.mean(0), atol=1e-6)


def test_uncertainty_is_written_as_cog(tmp_path):
    import rasterio

    uncertain = predict(
        make_layer(holes=True), members=[Network(CARD), Network(CARD, seed=1)], output="uncertainty", **TILES
    )
    to_cog(uncertain, tmp_path / "uncertainty.tif")
    with rasterio.open(tmp_path / "uncertainty.tif") as file:
        assert file.descriptions == ("entropy", "margin", "mutual_information", "variance")
        np.testing.assert_array_equal(file.read(), uncertain)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"bands": ("red", "swir")}, r"members 0 and 1: their bands are \('red', 'nir'\) and \('red', 'swir'\)"),
        ({"codes": (1, 2, 8)}, r"their class codes are \(1, 2, 7\) and \(1, 2, 8\)"),
        ({"names": ("water", "forest", "city")}, "their class names"),
        ({"task": "change", "model": "fc_siam_diff", "options": {}}, "their tasks are 'segmentation' and 'change'"),
    ],
)
def test_members_that_differ_raise(changed, message):
    with pytest.raises(InputError, match=message):
        predict(make_layer(), members=[Network(CARD), Network(replace(CARD, **changed))])


def test_bands_of_equal_names_and_different_meaning_raise():
    cards = [replace(CARD, common_names=names) for names in (("red", "nir"), ("green", "nir"))]
    with pytest.raises(InputError, match="their common names of bands"):
        predict(make_layer(), members=[Network(card) for card in cards])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"members": [Network(CARD), nn.Conv2d(2, 3, 1)]}, "one of them has no model card"),
        ({"members": [nn.Conv2d(2, 3, 1), nn.Conv2d(2, 4, 1)]}, "3 and 4 channels"),
        ({}, "without a model"),
        ({"members": "a.ckpt"}, "one model as the members"),
        ({"model": Network(CARD), "num_mc_samples": 4}, "no dropout layer"),
        ({"model": Dropping(), "num_mc_samples": 1}, "num_mc_samples=1"),
        ({"model": nn.AlphaDropout(0.5), "num_mc_samples": 2}, "AlphaDropout is not supported"),
        ({"model": Network(CARD), "tta": True, "output": "logits"}, "Cannot average logits"),
        (
            {"model": Network(replace(CARD, task="pixelwise-regression")), "output": "uncertainty"},
            "one prediction of a regression",
        ),
    ],
)
def test_contradicting_arguments_raise(options, message):
    with pytest.raises(InputError, match=message):
        predict(make_layer(), options.pop("model", None), **options)


def test_multilabel_has_no_uncertainty():
    with pytest.raises(InputError, match="Cannot predict uncertainty with a model for multilabel"):
        output_for(tasks.get("multilabel"), "uncertainty")


def test_temperature_lowers_confidence_and_keeps_classes():
    layer, network = make_layer((16, 16)), Network(CARD)
    hot = Network(replace(CARD, temperature=3.0))
    np.testing.assert_array_equal(predict(layer, hot, **TILES), predict(layer, network, **TILES))
    logits = predict(layer, network, output="logits", **TILES)
    np.testing.assert_array_equal(predict(layer, hot, output="logits", **TILES), logits)
    expected = F.softmax(torch.from_numpy(logits.to_numpy()) / 3, dim=0)
    np.testing.assert_allclose(predict(layer, hot, output="probabilities", **TILES), expected, atol=1e-6)
