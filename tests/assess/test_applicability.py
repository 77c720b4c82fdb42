"""Area of applicability: brute force and a calculation by hand, chunks, folds, nodata, points and bad arguments."""

import pickle

import dask
import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr
from dask.base import tokenize
from numpy.testing import assert_allclose, assert_array_equal

import geoxt
from geoxt import assess, splits
from geoxt.assess import nearest_training
from geoxt.assess.dissimilarity_map import DissimilarityMap
from geoxt.errors import AssessmentWarning, CRSError, GridError, InputError, OverlapError
from geoxt.grid import coordinates
from geoxt.legend import Legend
from geoxt.testing import make_grid, write_cog

BANDS = ["red", "nir", "swir"]


def make_layer(shape=(40, 50), seed=0, bands=BANDS, dtype="float32", nodata=-1.0):
    rng = np.random.default_rng(seed)
    values = rng.normal(100, 20, (len(bands), *shape)) * (1 + np.arange(len(bands)))[:, None, None]
    values = values.astype(dtype)
    values[0, :3, :7] = nodata
    values[-1, 10, 20] = nodata
    return xr.DataArray(
        values,
        dims=("band", "y", "x"),
        coords={"band": bands, **coordinates(make_grid(shape))},
        attrs={"_FillValue": nodata},
        name="image",
    )


def make_training(count=60, seed=1, bands=BANDS):
    rng = np.random.default_rng(seed)
    return rng.normal(100, 12, (count, len(bands))) * (1 + np.arange(len(bands)))


def brute_force(train, pixels, folds, weights):
    """The definitions of Meyer and Pebesma 2021 and of CAST, pair by pair."""
    mean, deviation = train.mean(0), train.std(0, ddof=1)
    train, pixels = ((a - mean) / deviation * weights for a in (train, pixels))
    pairs = np.array([[np.sqrt(((a - b) ** 2).sum()) for b in train] for a in train])
    average = pairs[~np.eye(len(train), dtype=bool)].mean()
    of_training = np.array([pairs[i][folds != folds[i]].min() for i in range(len(train))]) / average
    q1, q3 = np.percentile(of_training, [25, 75])
    threshold = min(q3 + 1.5 * (q3 - q1), of_training.max())
    index = np.array([np.sqrt(((train - p) ** 2).sum(1)).min() for p in pixels]) / average
    return index, of_training, threshold


def expected_map(layer, train, folds, weights):
    valid = (layer.to_numpy() != layer.attrs["_FillValue"]).all(0)
    index = np.full(valid.shape, np.nan)
    index[valid], _, threshold = brute_force(train, layer.to_numpy()[:, valid].T.astype(float), folds, weights)
    return index, np.where(valid, index <= threshold, 255), threshold


@pytest.mark.parametrize("tree", [True, False])
def test_maps_equal_brute_force(tree, monkeypatch):
    monkeypatch.setattr(nearest_training, "MAX_TREE_DIMENSIONS", 6 if tree else 0)
    monkeypatch.setattr(nearest_training, "BLOCK_NUMBERS", 1000)
    layer, train, folds = make_layer(), make_training(), np.arange(60) % 5
    weights = np.array([0.5, 2, 1])
    area = assess.applicability(train, layer, folds=folds, importance=weights)
    index, inside, threshold = expected_map(layer, train, folds, weights)
    assert_allclose(area["dissimilarity"], index, rtol=1e-6)
    assert_array_equal(area["applicable"], inside)
    assert_allclose(area.attrs["threshold"], threshold)
    assert 0 < (inside == 1).sum() < (inside != 255).sum()


def test_training_dissimilarity_by_hand():
    """Features 0, 2, 4, 10 and 0, 0, 0, 4 (standard deviations s and 2), folds a, a, b, b, importance s and 1.

    Scaled: (0, 0), (2, 0), (4, 0), (10, 2). Distances: 2, 4, sqrt(104), 2, sqrt(68), sqrt(40). Nearest of the other
    fold: 4, 2, 2, sqrt(68).
    """
    features = pd.DataFrame({"a": [0.0, 2, 4, 10], "b": [0.0, 0, 0, 4]})
    importance = {"b": 1.0, "a": features["a"].std()}
    result = assess.training_dissimilarity(features, folds=list("aabb"), importance=importance)
    mean = (2 + 4 + 104**0.5 + 2 + 68**0.5 + 40**0.5) / 6
    values = np.array([4, 2, 2, 68**0.5]) / mean
    assert_allclose(result.mean_distance, mean)
    assert_allclose(result.dissimilarity, values)
    q1, q3 = values[1], (4 + (68**0.5 - 4) / 4) / mean  # type 7 of R, at positions 0.75 and 2.25 of four
    assert_allclose(result.threshold, min(q3 + 1.5 * (q3 - q1), values.max()))
    by_series = assess.training_dissimilarity(features, folds=list("aabb"), importance=pd.Series(importance))
    assert_allclose(by_series.dissimilarity, result.dissimilarity)


def test_the_threshold_leaves_out_outliers():
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(0, 1, (100, 2)), [[50, 50]]])
    result = assess.training_dissimilarity(features)
    assert result.threshold < result.dissimilarity.max() / 5
    spread = assess.training_dissimilarity(rng.uniform(0, 1, (4, 1)))
    assert spread.threshold <= spread.dissimilarity.max()


def test_without_folds_each_pixel_is_a_fold():
    train = make_training(20)
    alone = assess.training_dissimilarity(train)
    assert_allclose(alone.dissimilarity, brute_force(train, train, np.arange(20), 1)[1])
    clusters = np.arange(20) // 10
    assert (assess.training_dissimilarity(train, folds=clusters).dissimilarity >= alone.dissimilarity).all()


def test_layers_do_not_depend_on_chunks_nor_windows(tmp_path):
    layer = make_layer((70, 90), dtype="int16", nodata=-1)
    path = tmp_path / "image.tif"
    write_cog(path, layer.to_numpy(), grid=layer.odc.geobox, nodata=-1, bands=BANDS)
    opened = geoxt.open_cogs(path)
    train = make_training()
    areas = [assess.applicability(train, image, chunks=chunks) for image in (layer, opened) for chunks in (31, None)]
    areas.append(assess.applicability(train, opened.chunk({"y": 33, "x": 41}) * 1))
    for area in areas:
        assert_array_equal(area["dissimilarity"], areas[0]["dissimilarity"])
        assert_array_equal(area["applicable"], areas[0]["applicable"])
        assert area["dissimilarity"].dtype == "float32"
        assert area["applicable"].dtype == "uint8"
    part = areas[0]["dissimilarity"][3:9:2, ::-5]
    assert_array_equal(part, areas[0]["dissimilarity"].to_numpy()[3:9:2, ::-5])
    assert_array_equal(areas[2]["applicable"][5, 4:9], areas[0]["applicable"].to_numpy()[5, 4:9])


def test_layers_are_lazy_and_pickle(tmp_path):
    layer = make_layer().chunk({"y": 20})
    with dask.config.set(scheduler=lambda *_, **__: pytest.fail("computed")):
        area = assess.applicability(make_training(), layer * 1)
    assert area["dissimilarity"].chunks is not None
    train = assess.training_dissimilarity(make_training())
    array = DissimilarityMap.of(geoxt.source.view_of(make_layer()), make_training(), train)
    first = array[0:5, 0:50]
    copy = pickle.loads(pickle.dumps(array))
    assert_array_equal(copy[0:5, 0:50], first)
    assert tokenize(copy) == tokenize(array)
    assert len(pickle.dumps(array.nearest)) < 60 * 3 * 8 + 500  # no index


def test_applicable_has_classes_and_equals_the_threshold():
    area = assess.applicability(make_training(), make_layer())
    index, inside = (area[name].to_numpy() for name in ("dissimilarity", "applicable"))
    valid = ~np.isnan(index)
    assert_array_equal(inside[valid] == 1, index[valid] <= np.float32(area["dissimilarity"].attrs["threshold"]))
    assert_array_equal(inside == 255, ~valid)
    assert Legend.of(area["applicable"]).names == ("not applicable", "applicable")
    assert_array_equal(
        geoxt.source.view_of(area["applicable"]).read(geoxt.windows.Window(0, 0, 40, 50))[1][0, 0], valid
    )


def test_bands_of_importance_zero_are_ignored():
    layer = make_layer()
    layer[-1] = np.nan  # not needed
    layer[1] = layer[1] * 1000
    train = make_training()
    train[:, 2] = 5
    area = assess.applicability(train, layer, importance={"red": 1, "nir": -0.1, "swir": 0})
    expected = assess.applicability(train[:, :1], layer[:1])
    assert_array_equal(area["dissimilarity"], expected["dissimilarity"])
    assert np.isfinite(area["dissimilarity"]).sum() == (layer[0].to_numpy() != -1).sum()


def test_scale_of_importance_and_of_features_cancels():
    train, layer = make_training(), make_layer()
    area = assess.applicability(train, layer, importance=[1, 2, 3])
    scaled = layer.where(layer != -1) * 0.01 + 5
    same = assess.applicability(train * 0.01 + 5, scaled, importance=[10, 20, 30])
    assert_allclose(same["dissimilarity"], area["dissimilarity"], rtol=1e-4)


def test_columns_are_matched_by_name():
    layer, train = make_layer(), make_training()
    frame = pd.DataFrame(train, columns=BANDS)[["swir", "red", "nir"]]
    expected = assess.applicability(train, layer, importance=[1, 2, 3])
    area = assess.applicability(frame, layer, importance={"swir": 3, "nir": 2, "red": 1})
    assert_array_equal(area["dissimilarity"], expected["dissimilarity"])


def points_of(layer, pixels, crs=None):
    x, y = layer.odc.geobox.affine * (pixels[:, ::-1].T + 0.5)
    points = geopandas.GeoDataFrame({"a": np.arange(len(x))}, geometry=shapely.points(x, y), crs=layer.odc.crs.to_wkt())
    return points if crs is None else points.to_crs(crs)


@pytest.mark.parametrize("crs", [None, "EPSG:4326"])
def test_points_are_read_from_the_layer_in_any_crs(crs, monkeypatch):
    monkeypatch.setattr("geoxt.assess.training_features.BLOCK", 16)
    layer = make_layer()
    pixels = np.random.default_rng(0).integers((4, 0), (40, 50), (30, 2))
    pixels = pixels[(pixels != (10, 20)).any(1)]
    area = assess.applicability(points_of(layer, pixels, crs), layer)
    expected = assess.applicability(layer.to_numpy()[:, *pixels.T].T, layer)
    assert_array_equal(area["dissimilarity"], expected["dissimilarity"])
    assert (area["dissimilarity"].to_numpy()[tuple(pixels.T)] == 0).all()


def test_folds_of_splits_are_those_of_labels():
    layer = make_layer((60, 60))
    pixels = np.random.default_rng(0).integers((4, 0), (60, 60), (80, 2))
    pixels = pixels[(pixels != (10, 20)).any(1)]
    points = points_of(layer, pixels)
    parts = splits.folds(layer, size=15, n_splits=4)
    labels = np.full(len(pixels), -1)
    for fold, split in enumerate(parts):
        for window in split.test:
            inside = (pixels >= (window.row, window.col)) & (pixels < window.stop)
            labels[inside.all(1)] = fold
    area = assess.applicability(points, layer, folds=parts)
    assert area.attrs == assess.applicability(points, layer, folds=labels).attrs
    assert area.attrs["threshold"] != assess.applicability(points, layer).attrs["threshold"]
    buffered = splits.by_block(layer, size=15, buffer=2)
    inside = np.zeros(len(pixels), bool)
    labels = np.zeros(len(pixels), int)
    for fold, region in enumerate(buffered.parts.values()):
        for window in region:
            in_window = ((pixels >= (window.row, window.col)) & (pixels < window.stop)).all(1)
            inside, labels = inside | in_window, np.where(in_window, fold, labels)
    with pytest.warns(AssessmentWarning, match=rf"{(~inside).sum()} of {len(pixels)} training points lie in no fold"):
        area = assess.applicability(points, layer, folds=buffered)
    assert area.attrs == assess.applicability(points[inside], layer, folds=labels[inside]).attrs


def test_a_layer_without_valid_pixels_is_nowhere_applicable():
    layer = make_layer()
    layer[:] = -1
    area = assess.applicability(make_training(), layer)
    assert np.isnan(area["dissimilarity"]).all()
    assert (area["applicable"] == 255).all()


def test_one_band_without_a_name_and_many_features():
    layer = make_layer().isel(band=0, drop=True)
    area = assess.applicability(make_training()[:, :1], layer)
    assert np.isfinite(area["dissimilarity"]).sum() == (layer.to_numpy() != -1).sum()
    names = [f"A{k:02}" for k in range(40)]
    embeddings, train = make_layer((12, 22), bands=names), make_training(50, bands=names)
    index, _, threshold = expected_map(embeddings, train, np.arange(50), np.ones(40))
    area = assess.applicability(train, embeddings)
    assert_allclose(area["dissimilarity"], index, rtol=1e-6)
    assert_allclose(area.attrs["threshold"], threshold)


@pytest.mark.parametrize(
    ("train", "options", "message"),
    [
        (make_training()[:, :2], {}, "2 training features with the 3 bands"),
        (pd.DataFrame(make_training(), columns=["red", "nir", "blue"]), {}, r"\['red', 'nir', 'blue'\] with the bands"),
        (np.where(np.arange(180).reshape(60, 3) == 7, np.nan, make_training()), {}, "1 of 60 training rows .* row 2"),
        (np.where(np.arange(180).reshape(60, 3) == 7, np.inf, make_training()), {}, "1 of 60 training rows"),
        (make_training()[:1], {}, r"training features of shape \(1, 3\)"),
        (make_training()[:, 0], {}, r"training features of shape \(60,\)"),
        ([["a", "b", "c"]] * 3, {}, "not numbers"),
        (make_training() * [1, 0, 1] + [0, 0.1, 0], {}, r"features \['nir'\]: they have one value"),
        (make_training(), {"folds": np.zeros(60, int)}, "all training pixels are of fold '0'"),
        (make_training(), {"folds": np.arange(59)}, r"60 training pixels to folds by labels of shape \(59,\)"),
        (make_training(), {"folds": [None, *range(59)]}, "some missing"),
        (make_training(), {"importance": [1, 2]}, "3 features by"),
        (make_training(), {"importance": [0, 0, -1]}, "some above 0"),
        (make_training(), {"importance": [1, np.nan, 1]}, "3 features by"),
        (make_training(), {"importance": {"red": 1, "nir": 1}}, r"importance of \['red', 'nir'\]"),
        (make_training(), {"chunks": 0}, "chunks of 0 pixels"),
        (make_training(), {"folds": splits.by_block(make_layer(), size=10)}, "their positions are unknown"),
    ],
)
def test_contradicting_arguments_raise(train, options, message):
    with pytest.raises(InputError, match=message):
        assess.applicability(train, make_layer(), **options)


def test_points_off_the_layer_raise():
    layer = make_layer()
    pixels = np.array([[5, 5], [6, 8], [20, 30]])
    with pytest.raises(OverlapError, match="1 of 3 training points: they lie outside"):
        assess.applicability(points_of(layer, np.array([[5, 5], [6, 8], [40, 30]])), layer)
    with pytest.raises(OverlapError, match="2 of 3 training points: they lie on nodata"):
        assess.applicability(points_of(layer, np.array([[0, 0], [10, 20], [20, 30]])), layer)
    with pytest.raises(CRSError, match="without a CRS"):
        assess.applicability(points_of(layer, pixels).set_crs(None, allow_override=True), layer)


def test_time_series_raise():
    layer = xr.concat([make_layer(), make_layer(seed=1)], "time")
    with pytest.raises(GridError, match="2 time steps"):
        assess.applicability(make_training(), layer)
