"""Accuracy from labels of many pixels: brute force, bootstrap by hand, coverage on autocorrelated maps, errors."""

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal
from odc.geo.geobox import GeoBox
from scipy.ndimage import gaussian_filter
from scipy.stats import norm, t

from geoxt import assess, metrics, splits
from geoxt.assess import map_strata
from geoxt.errors import AssessmentWarning, GridError, InputError, LabelError, OverlapError
from geoxt.grid import coordinates
from geoxt.legend import Legend
from geoxt.regions.geodesic_area import point_areas
from geoxt.testing import make_grid

LEGEND = Legend((1, 2, 5), ("water", "forest", "town"))


def layer_of(codes, grid=None, legend=LEGEND, nodata=0):
    attrs = {"_FillValue": nodata} | ({} if legend is None else legend.attrs())
    grid = make_grid(codes.shape) if grid is None else grid
    return xr.DataArray(codes, dims=("y", "x"), coords=coordinates(grid), attrs=attrs, name="cover")


def make_pair(shape=(90, 110), seed=0, dtype="uint8", **options):
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 2, 5], shape, p=[0.1, 0.5, 0.3, 0.1]).astype(dtype)
    mapped = np.where(rng.random(shape) < 0.8, labels, rng.choice([0, 1, 2, 5], shape)).astype(dtype)
    return layer_of(mapped, **options), layer_of(labels, **options)


def brute_force(mapped, labels, areas, mask):
    """Tables of pixels and hectares, pixel by pixel."""
    pixels, hectares = np.zeros((3, 3), int), np.zeros((3, 3))
    for row, col in np.argwhere(mask & (mapped > 0) & (labels > 0)):
        cell = LEGEND.codes.index(mapped[row, col]), LEGEND.codes.index(labels[row, col])
        pixels[cell] += 1
        hectares[cell] += areas[row, col]
    return pixels, hectares


@pytest.mark.parametrize("dtype", ["uint8", "int16"])
def test_estimates_equal_brute_force(dtype, monkeypatch):
    monkeypatch.setattr(map_strata, "BLOCK", 32)
    grid = GeoBox.from_bbox((5, 40, 16, 67), "EPSG:4326", shape=(90, 110))
    mapped, labels = make_pair(grid=grid, dtype=dtype)
    row, col = np.mgrid[:90, :110]
    areas = point_areas(grid, row + 0.5, col + 0.5) / 1e4
    pixels, hectares = brute_force(mapped.to_numpy(), labels.to_numpy(), areas, np.ones((90, 110), bool))
    table = assess.estimate_from_labels(mapped, labels, block=16, n_boot=20)
    assert table.classes == LEGEND.names
    assert_array_equal(table.counts, pixels)
    assert_allclose(table.overall.value, np.trace(hectares) / hectares.sum(), rtol=1e-3)
    assert_allclose(table.users.value, np.diag(hectares) / hectares.sum(1), rtol=5e-3)
    assert_allclose(table.producers.value, np.diag(hectares) / hectares.sum(0), rtol=5e-3)
    assert_allclose(table.f1.value, 2 * np.diag(hectares) / (hectares.sum(0) + hectares.sum(1)), rtol=5e-3)
    assert_allclose(table.error_matrix.value, hectares / hectares.sum(), rtol=0.03)
    assert_allclose(table.area.value, hectares.sum(0), rtol=5e-3)
    assert_allclose(table.mapped_area, hectares.sum(1), rtol=5e-3)
    assert table.unit == "ha"


def test_accuracy_equals_the_score_on_equal_areas():
    mapped, labels = make_pair()
    region = splits.by_block(labels, size=30, seed=1).test
    table = assess.estimate_from_labels(mapped, labels, region=region)
    score = metrics.score(mapped, labels, region=region)
    assert_allclose(table.overall.value, score["accuracy"], rtol=1e-5)
    assert table.counts.sum() == score["pixels"]
    iou = table.f1.value / (2 - table.f1.value)
    assert_allclose(iou, [score["iou"][name] for name in LEGEND.names], rtol=1e-5)


@pytest.mark.parametrize("by", ["region", "block"])
def test_bootstrap_by_hand(by, monkeypatch):
    monkeypatch.setattr(map_strata, "BLOCK", 32)
    mapped, labels = make_pair((60, 60))
    split = splits.by_block(labels, size=20, fractions=(0.2, 0.2, 0.6), seed=0)
    blocks = {
        "region": split.test.windows,
        "block": splits.by_block(labels, size=20, fractions=(1, 0, 0)).train.windows,
    }
    options = {"region": {"region": split.test}, "block": {"block": 20}}[by]
    table = assess.estimate_from_labels(mapped, labels, n_boot=4000, **options)
    agree, valid = (mapped == labels).to_numpy(), ((mapped > 0) & (labels > 0)).to_numpy()
    windows = sorted(blocks[by], key=lambda window: (window.row, window.col))
    parts = [(slice(w.row, w.stop[0]), slice(w.col, w.stop[1])) for w in windows]
    hits, sizes = np.array([((agree & valid)[part].sum(), valid[part].sum()) for part in parts]).T
    drawn = np.random.default_rng(5).integers(0, len(parts), (40_000, len(parts)))
    accuracies = hits[drawn].sum(1) / sizes[drawn].sum(1)
    assert_allclose(table.overall.value, hits.sum() / sizes.sum(), rtol=1e-6)
    assert_allclose(table.overall.se, accuracies.std() * np.sqrt(len(parts) / (len(parts) - 1)), rtol=0.06)
    tail = norm.cdf(-np.sqrt(len(parts) / (len(parts) - 1)) * t.ppf(0.975, len(parts) - 1))
    percentiles = np.quantile(accuracies, [tail, 1 - tail])
    assert_allclose([table.overall.lower, table.overall.upper], percentiles, atol=0.1 * np.ptp(percentiles))
    assert_allclose(table.overall.ci95, 1.959964 * table.overall.se)


def test_estimates_depend_on_the_seed_only(monkeypatch):
    mapped, labels = make_pair()
    first = assess.estimate_from_labels(mapped, labels, block=16, n_boot=250)
    monkeypatch.setattr(map_strata, "BLOCK", 40)
    again = assess.estimate_from_labels(mapped.chunk(37), labels.chunk(21) * 1, block=16, n_boot=250)
    assert_allclose(again.producers.se, first.producers.se, rtol=1e-4)
    assert_array_equal(again.counts, first.counts)
    other = assess.estimate_from_labels(mapped, labels, block=16, n_boot=250, seed=1)
    assert (other.producers.se != first.producers.se).all()


def autocorrelated(seed, shape=(256, 256)):
    """A map whose errors lie in patches, where 1 and 2 are swapped and 5 becomes 1, and labels at random."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([1, 2, 5], shape).astype("uint8")
    field = gaussian_filter(rng.normal(size=shape), 4, mode="wrap") * (2 * 4 * np.pi**0.5)  # of variance 1
    swapped = np.array([0, 2, 1, 0, 0, 1], "uint8")[labels]
    return np.where(field > 0.8416, swapped, labels), labels


@pytest.mark.slow
def test_intervals_cover_the_accuracy_of_autocorrelated_maps():
    """The process has errors of 20 %, in patches that are much smaller than blocks."""
    inside = by_pixel = 0
    draws = 100
    for seed in range(draws):
        mapped, labels = autocorrelated(seed)
        table = assess.estimate_from_labels(layer_of(mapped), layer_of(labels), block=64, n_boot=200, seed=seed)
        inside += table.overall.lower <= 0.8 <= table.overall.upper
        half_width = 1.96 * (table.overall.value * (1 - table.overall.value) / labels.size) ** 0.5
        by_pixel += abs(table.overall.value - 0.8) <= half_width
    assert 0.88 < inside / draws < 0.99
    assert by_pixel / draws < 0.4


def test_classes_that_are_absent_have_no_row_or_no_accuracy():
    mapped, labels = make_pair()
    without_town = labels.where(labels != 5, 2).astype("uint8").assign_attrs(labels.attrs)
    table = assess.estimate_from_labels(mapped, without_town, block=16, n_boot=50)
    assert table.classes == LEGEND.names  # still in the map
    assert np.isnan([table.producers.value[2], table.producers.se[2], table.producers.lower[2]]).all()
    assert table.users.value[2] == 0
    both = mapped.where(mapped != 5, 2).astype("uint8").assign_attrs(mapped.attrs)
    table = assess.estimate_from_labels(both, without_town, block=16, n_boot=50)
    assert table.classes == LEGEND.names[:2]
    assert not table.to_dataframe().isna().any(axis=None)


def test_map_codes_without_a_class_are_wrong():
    mapped, labels = make_pair()
    unknown = mapped.where(mapped != 5, 77).astype("uint8").assign_attrs(_FillValue=0)
    with pytest.warns(AssessmentWarning, match=r"pixels of the map have codes that are not in the legend.*'other'"):
        table = assess.estimate_from_labels(unknown, labels, block=16, n_boot=50)
    assert table.classes == (*LEGEND.names, "other")
    assert table.counts[3].sum() == ((mapped == 5) & (labels > 0)).sum()
    assert table.users.value[3] == 0
    expected = assess.estimate_from_labels(mapped, labels, block=16, n_boot=50)
    wrong = expected.error_matrix.value[2, 2]
    assert_allclose(table.overall.value, expected.overall.value - wrong)


def test_a_single_block_has_no_variance():
    mapped, labels = make_pair()
    with pytest.warns(AssessmentWarning, match="lie in one block"):
        table = assess.estimate_from_labels(mapped, labels, block=200)
    assert np.isnan([table.overall.se, table.overall.lower, *table.area.se]).all()
    assert table.overall.value > 0.5


def test_contradicting_arguments_raise():
    mapped, labels = make_pair()
    with pytest.raises(InputError, match="their size is unknown"):
        assess.estimate_from_labels(mapped, labels)
    with pytest.raises(InputError, match="block=0"):
        assess.estimate_from_labels(mapped, labels, block=0)
    with pytest.raises(InputError, match="from 1 draws"):
        assess.estimate_from_labels(mapped, labels, block=10, n_boot=1)
    with pytest.raises(OverlapError, match="no pixel of the region is valid"):
        assess.estimate_from_labels(mapped * 0, labels, block=10)
    with pytest.raises(GridError, match="another grid"):
        assess.estimate_from_labels(mapped[1:], labels, block=10)
    with pytest.raises(LabelError, match="float64"):
        assess.estimate_from_labels(mapped.astype(float), labels, block=10)
    with pytest.raises(LabelError, match="neither states the classes"):
        assess.estimate_from_labels(*make_pair(legend=None), block=10)


@pytest.mark.parametrize("unnamed", [None, Legend((1, 2, 5), ("1", "2", "5"))])
def test_codes_without_names_take_those_of_the_map_with_a_warning(unnamed):
    mapped, labels = make_pair(shape=(20, 20))
    labels = layer_of(labels.to_numpy(), legend=unnamed)
    with pytest.warns(AssessmentWarning, match=r"those of the map: 1 water, 2 forest, 5 town\.$"):
        table = assess.estimate_from_labels(mapped, labels, block=5, n_boot=2)
    assert table.classes == LEGEND.names
    assert "town" in metrics.score(mapped, labels)["iou"]
