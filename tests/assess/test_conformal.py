"""Conformal sets and intervals against brute force and simulation, as lazy layers, and their errors."""

from dataclasses import replace
from fractions import Fraction
from itertools import chain
from math import ceil, inf

import numpy as np
import pytest
import torch
import xarray as xr
from assess.test_calibration import CARD, LEGEND, TILES, make_data, make_network
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from geoxt import assess, predict, splits
from geoxt.assess.conformal_prediction import block_interval
from geoxt.assess.conformal_scores import SCORES, conformal_quantile, hierarchical_quantile, required_pixels
from geoxt.errors import AssessmentWarning, InputError
from geoxt.models import Network
from geoxt.writers import to_cog

OPTIONS = {"block": 16, **TILES}


@pytest.fixture(scope="module")
def data():
    return make_data(make_network())


def scores_of(probabilities, method):
    """Scores of one pixel, class by class."""
    if method == "lac":
        return [np.float32(1) - p for p in probabilities]
    order = sorted(range(len(probabilities)), key=lambda k: -probabilities[k])
    sums = np.cumsum(np.array([probabilities[k] for k in order], np.float32))
    return [sums[order.index(k)] for k in range(len(probabilities))]


def set_of(probabilities, thresholds, method):
    members = [
        score <= threshold for score, threshold in zip(scores_of(probabilities, method), thresholds, strict=True)
    ]
    if method == "aps":
        members[int(np.argmax(probabilities))] = True
    return members


@pytest.mark.parametrize("alpha", ["0.05", "0.1", "0.3", "1/3", "0.9"])
def test_quantiles_have_the_correction_for_few_scores(alpha):
    rng, exact = np.random.default_rng(0), Fraction(alpha)
    for count in range(1, 120):
        scores = rng.permutation(count)
        rank = ceil((count + 1) * (1 - exact))
        expected = sorted(scores)[rank - 1] if rank <= count else inf
        assert conformal_quantile(scores, float(exact)) == expected
        assert (expected < inf) == (count >= required_pixels(float(exact)))


@pytest.mark.parametrize("method", ["lac", "aps"])
def test_coverage_over_many_calibrations(method):
    """The mean coverage over draws of few calibration pixels is between 1 - alpha and 1 - alpha + 1 / (n + 1)."""
    rng, alpha, count = np.random.default_rng(1), 0.2, 19
    covered = []
    for _ in range(800):
        probabilities = rng.dirichlet(np.full(4, 0.7), count + 40)
        labels = (rng.random((count + 40, 1)) > probabilities.cumsum(1)[:, :-1]).sum(1)
        scores = np.take_along_axis(SCORES[method](probabilities), labels[:, None], 1)[:, 0]
        covered.append((scores[count:] <= conformal_quantile(scores[:count], alpha)).mean())
    assert 0.79 < np.mean(covered) < 0.8 + 1 / 20 + 0.01


def quantile_by_definition(scores, blocks, alpha):
    """The smallest score whose weights, 1 / ((K + 1) n) of the n scores of a block, reach 1 - alpha."""
    names = sorted(set(blocks))
    total = Fraction(0)
    for score, block in sorted(zip(scores, blocks, strict=True)):
        total += Fraction(1, (len(names) + 1) * blocks.count(block))
        if total >= 1 - alpha:
            return score
    return inf


def test_quantiles_of_blocks_equal_their_definition():
    rng = np.random.default_rng(0)
    for count in (1, 8, 9, 10, 25):
        blocks = np.repeat(np.arange(count), rng.integers(1, 9, count))
        scores = rng.permutation(len(blocks)).astype(float)
        expected = quantile_by_definition(scores.tolist(), blocks.tolist(), Fraction(1, 10))
        assert hierarchical_quantile(scores, blocks, 0.1) == expected
        assert (expected < inf) == (count >= required_pixels(0.1))
        single = rng.permutation(count).astype(float)
        assert hierarchical_quantile(single, np.arange(count), 0.1) == conformal_quantile(single, 0.1)


def test_coverage_in_new_blocks():
    """Scores of a block are alike: thresholds of pixels cover fewer than 1 - alpha of the pixels of new blocks."""
    rng, alpha, count = np.random.default_rng(2), 0.2, 9
    by_pixel, by_block = [], []
    for _ in range(600):
        sizes = rng.integers(5, 60, count + 1)
        blocks = np.repeat(np.arange(count + 1), sizes)
        scores = np.repeat(rng.normal(size=count + 1), sizes) + 0.3 * rng.normal(size=len(blocks))
        new = blocks == count
        by_pixel.append((scores[new] <= conformal_quantile(scores[~new], alpha)).mean())
        by_block.append((scores[new] <= hierarchical_quantile(scores[~new], blocks[~new], alpha)).mean())
    assert 0.79 < np.mean(by_block) < 0.8 + 1 / (count + 1)
    assert np.mean(by_pixel) < 0.785


def test_intervals_of_coverage_are_over_blocks():
    rng, covered_truth = np.random.default_rng(3), 0
    for _ in range(400):
        blocks = np.repeat(np.arange(12), rng.integers(20, 60, 12))
        rates = rng.uniform(0.8, 1, 12)
        right = rng.random(len(blocks)) < rates[blocks]
        covered_truth += abs(right.mean() - 0.9) <= block_interval(right, blocks)
    assert 0.88 < covered_truth / 400 < 0.98
    assert np.isnan(block_interval(np.ones(5), np.zeros(5, int)))
    assert block_interval(np.ones(6), np.arange(6) % 3) == 0


def test_thresholds_of_blocks_enlarge_sets(data):
    network = make_network()
    by_pixel, by_block = (
        assess.conformal(network, data, exchangeable=kind, **OPTIONS) for kind in ("pixels", "blocks")
    )
    assert by_block.thresholds[0] > by_pixel.thresholds[0]
    assert by_block.mean_size > by_pixel.mean_size
    assert by_block.coverage > by_pixel.coverage
    assert f"± {by_block.coverage_ci95:.4f}" in repr(by_block)
    with pytest.raises(InputError, match=r"alpha=0\.1 from 8 blocks: 9 or more are needed.* smaller block"):
        assess.conformal(network, data, exchangeable="blocks", test_fraction=2 / 3, **OPTIONS)
    with pytest.raises(InputError, match="exchangeable 'windows'"):
        assess.conformal(network, data, exchangeable="windows", **OPTIONS)


@pytest.mark.parametrize("class_conditional", [False, True])
@pytest.mark.parametrize("method", ["lac", "aps"])
def test_sets_equal_brute_force(data, method, class_conditional):
    network = make_network()
    sets = assess.conformal(network, data, 0.2, method=method, class_conditional=class_conditional, seed=3, **OPTIONS)
    chances = predict(data["image"], network, output="probabilities", **TILES).to_numpy()
    codes = data["mask"].to_numpy()
    row, col = np.mgrid[: codes.shape[0], : codes.shape[1]] // 16
    blocks = row * (codes.shape[1] // 16) + col
    drawn = np.random.default_rng([3, 23]).permutation(24)[:12]
    part = {"test": np.isin(blocks, drawn) & (codes > 0), "calibration": ~np.isin(blocks, drawn) & (codes > 0)}
    scores = {k: [] for k in range(3)}
    for y, x in np.argwhere(part["calibration"]):
        k = LEGEND.codes.index(codes[y, x])
        scores[k].append(scores_of(chances[:, y, x], method)[k])
    assert sets.calibration_pixels.tolist() == [len(of_class) for of_class in scores.values()]
    groups = scores if class_conditional else {k: [*chain(*scores.values())] for k in range(3)}
    thresholds = [sorted(group)[ceil((len(group) + 1) * Fraction("0.8")) - 1] for group in groups.values()]
    assert_array_equal(sets.thresholds, np.array(thresholds, "float32"))
    hits, sizes = {0: [], 1: [], 2: []}, []
    for y, x in np.argwhere(part["test"]):
        members = set_of(chances[:, y, x], thresholds, method)
        hits[LEGEND.codes.index(codes[y, x])].append(members[LEGEND.codes.index(codes[y, x])])
        sizes.append(sum(members))
    assert_allclose(sets.class_coverage, [np.mean(of_class) for of_class in hits.values()])
    assert_allclose(sets.coverage, np.mean([*chain(*hits.values())]))
    assert sets.test_pixels.tolist() == [len(of_class) for of_class in hits.values()]
    assert_array_equal(sets.sizes, np.bincount(sizes, minlength=4))
    assert_allclose(sets.mean_size, np.mean(sizes))
    assert sets.blocks == (12, 12)
    covered = sets.class_coverage if class_conditional else sets.coverage
    assert np.min(covered) > 0.75
    assert method == "aps" or np.max(covered) < 0.85  # the most probable class is in all sets of "aps"


@pytest.mark.parametrize("method", ["lac", "aps"])
def test_layers_of_sets_equal_brute_force(data, method, tmp_path):
    import rasterio

    network = make_network()
    sets = assess.conformal(network, data, 0.1, method=method, class_conditional=True, **OPTIONS)
    image = data["image"].where(data["image"]["x"] != data["image"]["x"][5])
    chances = predict(image, network, output="probabilities", chunks=24, **TILES)
    layer, sizes = sets.predict_set(chances), sets.set_size(chances)
    assert layer.chunks is not None and sizes.chunks is not None  # noqa: PT018 (both are lazy)
    assert (layer.dims, layer.dtype, sizes.dims) == (("band", "y", "x"), np.uint8, ("y", "x"))
    expected = [set_of(pixel, sets.thresholds, method) for pixel in chances.values[:, 3, 6:].T]
    assert_array_equal(layer[:, 3, 6:].T, expected)
    assert_array_equal(sizes[3, 6:], np.sum(expected, 1))
    assert (layer[:, :, 5] == 255).all()
    assert (sizes[:, 5] == 255).all()
    assert_array_equal(layer.compute().where(layer != 255, 0).sum("band")[:, 6:], sizes[:, 6:])
    assert_array_equal(sets.predict_set(chances.compute()), layer)
    assert_array_equal(sets.set_size(chances.chunk(band=1, y=7, x=50)), sizes)
    for name, written in (("set", layer), ("size", sizes)):
        to_cog(written, tmp_path / f"{name}.tif")
        with rasterio.open(tmp_path / f"{name}.tif") as file:
            assert file.nodata == 255
            assert_array_equal(file.read().squeeze(), written)


def test_results_depend_on_the_seed_only(data):
    options = {"alpha": 0.2, "seed": 5, "max_pixels": 2000, **OPTIONS}
    sets = assess.conformal(make_network(), data, **options)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        again = assess.conformal(make_network(), data.chunk(y=11, x=23), chunks=20, **options)
    finally:
        torch.set_num_threads(before)
    assert_array_equal(again.thresholds, sets.thresholds)
    assert again.coverage == sets.coverage
    other = assess.conformal(make_network(), data, **{**options, "seed": 6})
    assert other.thresholds[0] != sets.thresholds[0]


def test_rectangles_of_a_region_are_blocks(data):
    part = splits.by_block(data, size=16, fractions=(0.4, 0.1, 0.5), seed=0).test
    sets = assess.conformal(make_network(), data, 0.2, region=part, **TILES)
    assert sum(sets.blocks) == len(part)
    with pytest.raises(InputError, match="their size is unknown"):
        assess.conformal(make_network(), data, 0.2, **TILES)


def test_ensembles_are_calibrated_by_their_mean(data):
    members = [make_network(), make_network(3.0)]
    sets = assess.conformal(None, data, 0.2, members=members, **OPTIONS)
    assert_allclose(sets.coverage, 0.8, atol=0.05)
    assert sets.thresholds[0] != assess.conformal(members[0], data, 0.2, **OPTIONS).thresholds[0]


def test_intervals_of_regression_equal_brute_force():
    card = replace(CARD, task="pixelwise-regression", codes=(0,), names=("height",), colors=())
    network = make_network(card=card)
    data = make_data(network)
    intervals = assess.conformal(network, data, 0.1, seed=2, **OPTIONS)
    predicted = predict(data["image"], network, **TILES)
    residuals = np.abs(predicted.values[0].astype(float) - data["target"].values)
    row, col = np.mgrid[:64, :96] // 16
    is_test = np.isin(row * 6 + col, np.random.default_rng([2, 23]).permutation(24)[:12])
    ordered = np.sort(residuals[~is_test])
    assert_allclose(intervals.half_width, ordered[ceil((len(ordered) + 1) * Fraction("0.9")) - 1])
    assert_allclose(intervals.coverage, (residuals[is_test] <= intervals.half_width).mean())
    assert_allclose(intervals.coverage, 0.9, atol=0.02)
    assert (intervals.calibration_pixels, intervals.test_pixels) == (len(ordered), int(is_test.sum()))
    layer = intervals.predict_interval(predicted)
    assert layer.chunks is not None
    assert layer["band"].to_numpy().tolist() == ["lower", "upper"]
    assert_allclose(layer.sel(band="upper") - layer.sel(band="lower"), 2 * intervals.half_width, rtol=1e-5)
    assert_allclose(layer.mean("band"), predicted[0], rtol=1e-4, atol=1e-4)


def test_rare_classes_are_in_all_sets_and_named(data):
    mask = data["mask"].copy()
    mask.values[mask.values == 7] = 0
    mask.values[:2, :2] = 7  # four pixels in one block
    rare = data.assign(mask=mask)
    with pytest.warns(AssessmentWarning, match=r"1 classes have fewer than 9 calibration pixels: town \([04]\)"):
        sets = assess.conformal(make_network(), rare, class_conditional=True, **OPTIONS)
    assert sets.thresholds[2] == inf
    chances = predict(data["image"], make_network(), output="probabilities", **TILES)
    assert (sets.predict_set(chances).sel(band="town") == 1).all()
    mask.values[:2, :2] = 0
    with pytest.warns(AssessmentWarning, match=r"1 classes have no calibration pixels: town \(0\)"):
        sets = assess.conformal(make_network(), data.assign(mask=mask), **OPTIONS)
    assert np.isnan(sets.class_coverage[2])
    assert np.isfinite(sets.thresholds).all()


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 1.5, float("nan"), "0.1", None, [0.1]])
def test_alpha_outside_0_to_1_raises(data, alpha):
    with pytest.raises(InputError, match="alpha="):
        assess.conformal(make_network(), data, alpha, **OPTIONS)


def test_too_few_pixels_raise(data):
    few = data.assign(mask=data["mask"].where(data["mask"]["y"] > data["mask"]["y"][1], 0).astype("uint8"))
    few["mask"].attrs = data["mask"].attrs
    few = few.isel(y=slice(0, 3), x=slice(0, 40))
    with pytest.raises(InputError, match=r"alpha=0\.001 from \d+ pixels: 999 or more are needed"):
        assess.conformal(make_network(), few, 0.001, **OPTIONS)


def test_invalid_input_raises(data):
    network = make_network()
    with pytest.raises(InputError, match="method 'raps'"):
        assess.conformal(network, data, method="raps", **OPTIONS)
    with pytest.raises(InputError, match="a fraction of 1 of the blocks"):
        assess.conformal(network, data, test_fraction=1, **OPTIONS)
    with pytest.raises(InputError, match="they lie in one block"):
        assess.conformal(network, data, **{**OPTIONS, "block": 500})
    with pytest.raises(InputError, match="no model card"):
        assess.conformal(nn.Conv2d(2, 3, 1), data, **OPTIONS)
    with pytest.raises(InputError, match="without a model"):
        assess.conformal(None, data, **OPTIONS)
    two = Network(replace(CARD, task="pixelwise-regression", codes=(0, 1), names=("a", "b"), colors=()))
    target = xr.zeros_like(data["image"].isel(band=0, drop=True))
    with pytest.raises(InputError, match="2 quantities"):
        assess.conformal(two, xr.Dataset({"image": data["image"], "target": target}), **OPTIONS)
    sets = assess.conformal(network, data, **OPTIONS)
    chances = predict(data["image"], network, output="probabilities", **TILES)
    with pytest.raises(InputError, match="bands"):
        sets.predict_set(chances.isel(band=[1, 0, 2]))
    with pytest.raises(InputError, match="as probabilities"):
        sets.set_size(predict(data["image"], network, output="logits", **TILES)).compute()
