"""Temperature scaling against scikit-learn, torch and brute force, on labels drawn from known probabilities."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from geoxt import assess, predict, splits
from geoxt.assess.calibration import fitted_temperature
from geoxt.assess.reliability import reliability
from geoxt.errors import AssessmentWarning, InputError, LabelError, OverlapError
from geoxt.grid import coordinates
from geoxt.legend import Legend
from geoxt.models import Card, Network, from_checkpoint
from geoxt.models.network import save_checkpoint
from geoxt.testing import make_grid

LEGEND = Legend((1, 2, 7), ("water", "forest", "town"))
CARD = Card(
    task="segmentation", model="fcn", options={"width": 4, "layers": 1}, bands=("a", "b"), mean=(0.0,) * 2,
    std=(1.0,) * 2, codes=LEGEND.codes, names=LEGEND.names, colors=LEGEND.colors, size=(32, 32),
)  # fmt: skip
TILES = {"size": 32, "overlap": 8}


def make_network(scale=6.0, card=CARD):
    """A network whose logits vary, and are too large by the scale."""
    network = Network(card, seed=2)
    with torch.no_grad():
        *_, last = (module for module in network.modules() if isinstance(module, nn.Conv2d))
        last.weight *= scale
        last.bias.zero_()
    return network


def make_data(network, temperature=2.5, shape=(64, 96), seed=0, *, gaps=True):
    """An image, and labels that are drawn from the network's probabilities at a temperature."""
    rng, coords = np.random.default_rng(seed), coordinates(make_grid(shape))
    values = rng.normal(size=(2, *shape)).astype("float32")
    image = xr.DataArray(values, dims=("band", "y", "x"), coords={"band": ["a", "b"], **coords}, name="image")
    if not network.card.kind.is_categorical:
        target = predict(image, network, **TILES).isel(band=0) + rng.laplace(size=shape)
        return xr.Dataset({"image": image, "target": target.compute().astype("float32").drop_vars("band")})
    logits = predict(image, network, output="logits", **TILES).to_numpy().astype(float) / temperature
    chances = np.exp(logits - logits.max(0)) / np.exp(logits - logits.max(0)).sum(0)
    drawn = (rng.random(shape) > chances.cumsum(0)[:-1]).sum(axis=0)
    codes = np.array(LEGEND.codes, "uint8")[drawn]
    if gaps:
        codes[rng.random(shape) < 0.1] = 0
    attrs = {**LEGEND.attrs(), "_FillValue": 0}
    return xr.Dataset({"image": image, "mask": xr.DataArray(codes, dims=("y", "x"), coords=coords, attrs=attrs)})


@pytest.fixture(scope="module")
def data():
    return make_data(make_network())


def flat(data, network):
    """Logits and class indices of the labelled pixels."""
    logits = predict(data["image"], network, output="logits", **TILES).to_numpy()
    codes = data["mask"].to_numpy()
    index = np.searchsorted(LEGEND.codes, codes[codes > 0])
    return logits[:, codes > 0].T.astype(float), index


def test_temperature_is_recovered_and_equals_a_search(data):
    network = make_network()
    calibration = assess.calibrate(network, data, **TILES)
    logits, index = flat(data, network)
    assert calibration.pixels == len(index)
    assert 2.3 < calibration.temperature < 2.7  # labels are drawn at 2.5

    def nll(temperature):
        return torch.nn.functional.cross_entropy(torch.from_numpy(logits) / temperature, torch.from_numpy(index))

    grid = np.linspace(2.2, 2.8, 601)
    best = grid[np.argmin([nll(t) for t in grid])]
    assert_allclose(calibration.temperature, best, atol=0.001)
    assert_allclose(calibration.before.nll, nll(1.0))
    assert_allclose(calibration.after.nll, nll(calibration.temperature))


def test_reliability_equals_sklearn_and_brute_force(data):
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import log_loss

    network = make_network()
    calibration = assess.calibrate(network, data, **TILES)
    logits, index = flat(data, network)
    probabilities = torch.from_numpy(logits).softmax(1).numpy()
    confidence, right = probabilities.max(1), probabilities.argmax(1) == index
    before = calibration.before
    prob_true, prob_pred = calibration_curve(right, confidence, n_bins=15)
    occupied = before.counts > 0
    assert_allclose(before.prob_true[occupied], prob_true)
    assert_allclose(before.prob_pred[occupied], prob_pred)
    assert_allclose(before.ece, np.average(abs(prob_true - prob_pred), weights=before.counts[occupied]))
    assert_allclose(before.nll, log_loss(index, probabilities), rtol=1e-6)
    assert_allclose(before.brier, ((probabilities - np.eye(3)[index]) ** 2).sum(1).mean())
    assert_allclose(before.accuracy, right.mean())
    assert calibration.after.accuracy == before.accuracy
    assert calibration.after.ece < 0.02 < before.ece
    assert calibration.after.brier < before.brier


def test_ece_equals_torchmetrics():
    from torchmetrics.functional.classification import multiclass_calibration_error

    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), 500).astype("float32")
    labels = rng.integers(0, 4, 500)
    for n_bins in (1, 7, 15):
        expected = multiclass_calibration_error(
            torch.from_numpy(probabilities), torch.from_numpy(labels), 4, n_bins=n_bins
        )
        assert_allclose(reliability(probabilities, labels, n_bins=n_bins).ece, float(expected), rtol=1e-4)


def test_predict_uses_the_temperature_of_the_card(data, tmp_path):
    network = make_network()
    before = predict(data["image"], network, output="probabilities", **TILES).to_numpy()
    calibration = assess.calibrate(network, data, **TILES)
    assert network.card.temperature == calibration.temperature
    after = predict(data["image"], network, output="probabilities", **TILES).to_numpy()
    assert after.max(0).mean() < before.max(0).mean() - 0.05
    again = assess.calibrate(network, data, **TILES)
    assert_allclose(again.temperature, calibration.temperature)
    assert_allclose(again.before.ece, calibration.after.ece)
    calibration.save(tmp_path / "calibrated.ckpt")
    restored = from_checkpoint(tmp_path / "calibrated.ckpt")
    assert restored.card == network.card
    assert_array_equal(predict(data["image"], restored, output="probabilities", **TILES), after)


def test_checkpoints_stay_unchanged(data, tmp_path):
    path = save_checkpoint(make_network(), tmp_path / "model.ckpt")
    content = path.read_bytes()
    calibration = assess.calibrate(path, data, **TILES)
    assert path.read_bytes() == content
    assert from_checkpoint(path).card.temperature == 1
    assert calibration.model.card.temperature == calibration.temperature


def test_cards_of_tasks_are_updated(data):
    from geoxt.trainers import Task

    task = Task(CARD)
    calibration = assess.calibrate(task, data, **TILES)
    assert task.card.temperature == task.network.card.temperature == calibration.temperature


def test_pixels_of_a_region_and_a_sample(data):
    part = splits.by_block(data, size=16, seed=0).val
    calibration = assess.calibrate(make_network(), data, region=part, **TILES)
    inside = np.zeros(data["mask"].shape, bool)
    for window in part.windows:
        inside[window.row : window.stop[0], window.col : window.stop[1]] = True
    assert calibration.pixels == (inside & (data["mask"] > 0).to_numpy()).sum()
    options = {"max_pixels": 2000, **TILES}
    sampled = assess.calibrate(make_network(), data, seed=3, **options)
    assert 1500 < sampled.pixels < 2200
    same = assess.calibrate(make_network(), data.chunk(y=13, x=17), seed=3, chunks=20, **options)
    assert same.temperature == sampled.temperature
    assert assess.calibrate(make_network(), data, seed=4, **options).temperature != sampled.temperature


def test_plot_shows_both_curves(data):
    figure = assess.calibrate(make_network(), data, **TILES).plot()
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert [label.split(" (")[0] for label in labels] == ["calibrated", "before", "after"]


def test_perfect_labels_warn_of_the_limit():
    network = make_network()
    data = make_data(network, temperature=1e-3, gaps=False)
    with pytest.warns(AssessmentWarning, match=r"temperature is at its limit, 0\.01"):
        assess.calibrate(network, data, **TILES)


def test_temperature_of_labels_at_random_is_high():
    rng = np.random.default_rng(0)
    assert fitted_temperature(rng.normal(size=(4000, 3)) * 50, rng.integers(0, 3, 4000)) > 50


def test_codes_that_the_model_lacks_warn(data):
    other = Legend((1, 2, 7, 9), (*LEGEND.names, "rock"))
    mask = data["mask"].where(data["mask"] != 7, 9).astype("uint8").assign_attrs(other.attrs() | {"_FillValue": 0})
    with pytest.warns(AssessmentWarning, match=f"{int((mask == 9).sum()):,} labelled pixels have codes"):
        calibration = assess.calibrate(make_network(), data.assign(mask=mask), **TILES)
    assert calibration.pixels == ((mask == 1) | (mask == 2)).sum()


def test_invalid_input_raises(data):
    with pytest.raises(InputError, match="has no model card"):
        assess.calibrate(nn.Conv2d(2, 3, 1), data)
    regression = replace(CARD, task="pixelwise-regression")
    with pytest.raises(InputError, match="no class probabilities"):
        assess.calibrate(Network(regression), data)
    with pytest.raises(InputError, match="Cannot find an image and the labels 'mask'"):
        assess.calibrate(make_network(), data[["image"]])
    with pytest.raises(InputError, match="Cannot find an image"):
        assess.calibrate(make_network(), data["image"])
    with pytest.raises(InputError, match="'0' bins"):
        assess.calibrate(make_network(), data, n_bins="0")
    with pytest.raises(InputError, match="2.5 pixels"):
        assess.calibrate(make_network(), data, max_pixels=2.5)
    with pytest.raises(OverlapError, match="no pixel of the region"):
        assess.calibrate(make_network(), data.assign(mask=data["mask"] * 0), **TILES)
    named = data["mask"].assign_attrs(Legend(LEGEND.codes, ("water", "corn", "town")).attrs())
    with pytest.raises(LabelError, match="code 2 is 'forest' in the map, and 'corn'"):
        assess.calibrate(make_network(), data.assign(mask=named), **TILES)
