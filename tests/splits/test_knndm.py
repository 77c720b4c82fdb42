"""Folds of points by nearest neighbour distances: brute force, clusters, layers, CRSs and bad arguments."""

import geopandas
import numpy as np
import pyproj
import pytest
import shapely
import shapely.affinity
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal
from shapely import box

from geoxt import assess, plot, splits
from geoxt.errors import AssessmentWarning, CRSError, InputError, OverlapError
from geoxt.grid import coordinates
from geoxt.splits.nearest_neighbor_folds import merge_clusters
from geoxt.splits.prediction_points import prediction_points
from geoxt.testing import make_grid

CRS = "EPSG:32632"
AREA = (box(0, 0, 1000, 1000), CRS)


def clustered(count=120, centers=8, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(50, 950, (centers, 2))[np.arange(count) % centers] + rng.uniform(-25, 25, (count, 2))


def between(xy, labels):
    """Distances between folds, pair by pair."""
    pairs = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1))
    pairs[labels[:, None] == labels] = np.inf
    return pairs.min(1)


@pytest.mark.parametrize("clustering", ["hierarchical", "kmeans"])
def test_distances_of_clustered_points_are_like_those_at_prediction(clustering):
    xy = clustered()
    folds = splits.knndm((xy, CRS), AREA, n_splits=4, clustering=clustering, samples=300)
    assert_array_equal(np.unique(folds.labels), range(4))
    assert np.bincount(folds.labels).max() <= 60
    assert_allclose(folds.in_folds, between(xy, folds.labels))
    predicted, _ = prediction_points(AREA, 300, 0)
    assert_allclose(folds.at_prediction, np.hypot(*(predicted[:, None] - xy).transpose(2, 0, 1)).min(1))
    grid = np.linspace(0, 1500, 30_001)
    curves = [(values[:, None] <= grid).mean(0) for values in (folds.in_folds, folds.at_prediction)]
    assert_allclose(folds.wasserstein, np.abs(curves[0] - curves[1]).mean() * 1500, rtol=0.01)
    at_random = splits.point_folds((xy, CRS), AREA, folds.labels, samples=300).in_random_folds
    assert np.median(at_random) < np.median(folds.in_folds) / 3
    assert folds.random_optimistic
    assert not folds.optimistic
    assert folds.clusters >= 4


def test_points_spread_evenly_have_random_folds():
    xy = np.random.default_rng(1).uniform(0, 1000, (200, 2))
    folds = splits.knndm((xy, CRS), AREA, n_splits=5)
    assert folds.clusters is None
    assert_array_equal(np.bincount(folds.labels), [40] * 5)
    assert not folds.random_optimistic
    assert_array_equal(folds.in_folds, folds.in_random_folds)


def test_folds_depend_on_the_seed_only():
    xy = clustered()
    first, again, other = (splits.knndm((xy, CRS), AREA, n_splits=4, samples=200, seed=seed) for seed in (0, 0, 1))
    assert_array_equal(first.labels, again.labels)
    assert_array_equal(first.at_prediction, again.at_prediction)
    assert (first.at_prediction != other.at_prediction).any()


def test_clusters_are_merged_along_the_principal_axis():
    """Of clusters of 6, 2, 2, 2 points along x and 3 folds, the first is a fold, and the others are dealt in turn."""
    clusters = np.repeat([2, 0, 1, 3], [2, 6, 2, 2])
    labels = merge_clusters(clusters, np.stack([clusters * -10.0, np.zeros(12)], axis=1), 3)
    assert_array_equal(labels[clusters == 0], 0)
    small = [labels[clusters == number][0] for number in (1, 2, 3)]
    assert small[0] == small[2] == 1
    assert small[1] == 2


def test_geodesic_distances_are_metres_on_the_ellipsoid():
    lon, lat = np.array([[179.9, 10.0], [-179.9, 10.0], [170.0, 60.0], [175.0, 60.0]]).T
    points = geopandas.GeoSeries(shapely.points(lon, lat), crs="EPSG:4326")
    there = geopandas.GeoSeries(shapely.points([180.0, 171.0], [10.0, 60.0]), crs="EPSG:4326")
    folds = splits.point_folds(points, there, [0, 1, 0, 1])
    geod = pyproj.Geod(ellps="WGS84")
    expected = [geod.inv(180, 10, 179.9, 10)[2], geod.inv(171, 60, 170, 60)[2]]
    assert_allclose(folds.at_prediction, expected)
    nearest = [geod.inv(lon[i], lat[i], lon[j], lat[j])[2] for i, j in ((0, 1), (1, 0), (2, 3), (3, 2))]
    assert_allclose(folds.in_folds, nearest)
    assert folds.unit == "m"
    projected = splits.point_folds(points.to_crs("EPSG:3832"), there, [0, 1, 0, 1], geodesic=True)
    assert_allclose(projected.in_folds, nearest, rtol=1e-6)
    with pytest.warns(
        AssessmentWarning, match=r"1 of 4 points are up to 354 degree from .* extent of these points, 51 degr"
    ):
        flat = splits.point_folds(points, there, [0, 1, 0, 1], geodesic=False)
    assert flat.unit == "degree"
    assert_allclose(flat.in_folds[2], 5)


def layer_of(valid):
    grid = make_grid(valid.shape)
    values = np.where(valid, 7, 0).astype("uint8")
    return xr.DataArray(values, dims=("y", "x"), coords=coordinates(grid), attrs={"_FillValue": 0}, name="land")


def test_prediction_points_of_a_layer_are_its_valid_pixels(monkeypatch):
    monkeypatch.setattr("geoxt.splits.prediction_points._BLOCK", 32)
    valid = np.zeros((90, 110), bool)
    valid[20:70, 40:100] = True
    layer = layer_of(valid)
    for samples in (100, 5_000):
        xy, crs = prediction_points(layer, samples, seed=3)
        col, row = ~layer.odc.geobox.affine * xy.T
        assert_allclose(col % 1, 0.5)
        assert valid[row.astype(int), col.astype(int)].all()
        assert len(np.unique(xy, axis=0)) == len(xy) == min(samples, 3_000)
        assert crs == layer.odc.crs
        assert abs(col.mean() - 70) < 4
    xy, _ = prediction_points(layer_of(np.ones((8, 8), bool)), 10, seed=0)
    assert len(xy) == 10


def test_prediction_points_are_spread_evenly_over_the_ground():
    xy, _ = prediction_points((box(-10, 0, 10, 80), "EPSG:4326"), 4_000, seed=0)
    assert_allclose((xy[:, 1] < 30).mean(), 0.5 / np.sin(np.deg2rad(80)), atol=0.01)
    two = geopandas.GeoSeries([box(0, 0, 1, 1), box(9, 9, 10, 10)], crs=CRS)
    xy, _ = prediction_points(two, 1_000, seed=0)
    assert_allclose((xy[:, 0] < 5).mean(), 0.5, atol=0.01)
    assert shapely.contains_xy(two.union_all(), xy).all()


def test_points_and_layer_in_several_crs():
    layer = layer_of(np.ones((60, 60), bool))
    rng = np.random.default_rng(0)
    x, y = layer.odc.geobox.affine * rng.uniform(0, 20, (2, 60))
    points = geopandas.GeoSeries(shapely.points(x, y), crs=layer.odc.crs.to_wkt())
    projected = splits.knndm(points, layer, n_splits=3)
    geographic = splits.knndm(points.to_crs("EPSG:4326"), layer, n_splits=3)
    assert_allclose(geographic.at_prediction, projected.at_prediction, rtol=2e-3)
    assert projected.random_optimistic


def test_folds_of_points_are_folds_of_applicability():
    rng = np.random.default_rng(0)
    folds = splits.knndm((clustered(), CRS), AREA, n_splits=4, samples=100)
    features = rng.normal(size=(120, 2))
    result = assess.training_dissimilarity(features, folds=folds)
    assert_array_equal(result.dissimilarity, assess.training_dissimilarity(features, folds=folds.labels).dissimilarity)


def test_optimistic_folds_warn():
    xy = clustered()
    labels = np.arange(120) // 8 % 4
    with pytest.warns(AssessmentWarning, match="in the folds are clearly smaller than at prediction"):
        folds = splits.point_folds((xy, CRS), AREA, labels)
    with (
        pytest.warns(AssessmentWarning, match="in the folds are clearly smaller"),
        pytest.warns(AssessmentWarning, match="in random folds are clearly smaller"),
    ):
        figure = folds.plot()
    assert "Random folds" in figure.get_suptitle()
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "at prediction", "in the folds", "in random folds",
    ]  # fmt: skip
    line = axes.lines[0]
    assert_array_equal(line.get_xdata(), np.r_[0, np.sort(folds.at_prediction)])
    assert_allclose(line.get_ydata()[[0, -1]], [0, 1])
    assert "(m)" in axes.get_xlabel()


def test_distances_to_plot_are_finite():
    with pytest.raises(InputError, match="distances 'a'"):
        plot.distances({"a": np.array([1, np.inf])})
    with pytest.raises(InputError, match="distances 'a'"):
        plot.distances({"a": np.array([])})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_splits": 1}, "120 points into 1 folds"),
        ({"n_splits": 61}, "120 points into 61 folds"),
        ({"n_splits": 4, "max_fraction": 0.25}, "4 folds to 0.25"),
        ({"n_splits": 4, "max_fraction": 1.0}, "4 folds to 1"),
        ({"clustering": "dbscan"}, "by 'dbscan'"),
        ({"samples": 0}, "0 prediction points"),
    ],
)
def test_contradicting_arguments_raise(options, message):
    with pytest.raises(InputError, match=message):
        splits.knndm((clustered(), CRS), AREA, **options)


def test_folds_that_are_too_large_raise():
    xy = np.concatenate([np.random.default_rng(0).uniform(0, 1, (100, 2)), [[900, 900], [901, 900], [0, 900]]])
    xy[:100] = xy[:1]  # one position, which no cluster divides
    with pytest.raises(InputError, match="at most 0.6 of them"):
        splits.knndm((xy, CRS), AREA, n_splits=2, max_fraction=0.6)


def test_points_without_coordinates_or_crs_raise():
    xy = clustered()
    with pytest.raises(CRSError, match="between points without a CRS"):
        splits.knndm(xy, AREA)
    with pytest.raises(CRSError, match="prediction points without a CRS"):
        splits.knndm((xy, CRS), xy)
    with pytest.raises(InputError, match="1 of 120 points have no finite coordinates"):
        splits.knndm((np.where(np.arange(240).reshape(120, 2) == 4, np.nan, xy), CRS), AREA)
    with pytest.raises(OverlapError, match="'land' has no valid pixel"):
        splits.knndm((xy, CRS), layer_of(np.zeros((20, 20), bool)))
    with pytest.raises(InputError, match="120 labels of 1 folds"):
        splits.point_folds((xy, CRS), AREA, np.zeros(120))


def test_many_points_are_compared_without_the_exact_distribution():
    """SciPy's exact p-values overflow for samples of this size, and warn (an error in tests)."""
    points = (clustered(360, 30), CRS)
    assert splits.point_folds(points, AREA, np.arange(360) % 5, samples=1000).random_optimistic


@pytest.mark.parametrize("geodesic", [False, True])
def test_points_far_from_the_prediction_points_warn(geodesic):
    """Swapped coordinates of two points: their distance to the area is larger than the area."""
    xy = clustered(60) + np.array([500_000, 5_000_000])
    area = shapely.affinity.translate(AREA[0], 500_000, 5_000_000), CRS
    xy[:2] = xy[:2, ::-1]
    far = np.hypot(*(xy[0] - [501_000, 5_001_000]))
    with pytest.warns(
        AssessmentWarning, match=r"2 of 60 points .* up to [\d,]+ m from .* extent of these points, 1,\d+ m"
    ) as log:
        splits.knndm((xy, CRS), area, n_splits=4, samples=100, geodesic=geodesic)
    stated = float(str(log[0].message).split("up to ")[1].split(" m")[0].replace(",", ""))
    assert_allclose(stated, far, rtol=0.01 if not geodesic else 0.5)
