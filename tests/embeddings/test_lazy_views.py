"""Similarity, change and false-color views equal numpy and scikit-learn on the pixels."""

import dask
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.cluster import KMeans
from sklearn.metrics.pairwise import cosine_similarity
from torch import nn

import geoxt
from geoxt.embeddings import change, kmeans, pca, similar
from geoxt.errors import GridError, InputError, NodataWarning
from geoxt.grid import coordinates
from geoxt.layers import open_cogs
from geoxt.testing import make_grid, write_cog

GRID = make_grid((40, 50))
NODATA = -128


def make_values(seed, bands=8):
    values = np.random.default_rng(seed).integers(-100, 100, (bands, 40, 50)).astype("int8")
    values[:, seed, 3:9] = NODATA
    return values


@pytest.fixture
def layers(tmp_path):
    names = [f"A{number:02}" for number in range(8)]
    paths = [
        write_cog(tmp_path / f"{seed}.tif", make_values(seed), grid=GRID, nodata=NODATA, bands=names) for seed in (1, 2)
    ]
    return [open_cogs([path]).assign_attrs(model="m", version="1") for path in paths]


def masked(seed):
    values = make_values(seed).astype("float32")
    return np.where(values == NODATA, np.nan, values)


def fail_on_compute(*_, **__):
    msg = "something was computed"
    raise AssertionError(msg)


def test_similarity_equals_scikit_learn(layers):
    vectors = np.random.default_rng(5).normal(size=(2, 8))
    with dask.config.set(scheduler=fail_on_compute):
        lazy = similar(layers[0], vectors, chunks=16)
    pixels = masked(1)
    expected = cosine_similarity(np.nan_to_num(pixels).reshape(8, -1).T, vectors).T.reshape(2, 40, 50)
    expected = np.where(np.isnan(pixels[0]), np.nan, expected)
    np.testing.assert_allclose(lazy, expected, atol=1e-6)
    np.testing.assert_array_equal(similar(layers[0], vectors)[:, 3:17, 5:21], lazy[:, 3:17, 5:21])


def test_similarity_to_points_and_tables(layers):
    x, y = GRID.affine @ np.array([[4.5, 20.5], [1.5, 20.5]])
    points = gpd.GeoDataFrame(geometry=gpd.points_from_xy(x, y), crs=GRID.crs.to_wkt(), index=["a", "b"])
    missing = "1 of 2 vectors have bands without a value"
    with pytest.warns(NodataWarning, match="1 of 2 points lie on"), pytest.warns(NodataWarning, match=missing):
        lazy = similar(layers[0], points)
    assert lazy["band"].to_numpy().tolist() == ["b"]
    assert float(lazy[0, 20, 20]) == pytest.approx(1)
    table = geoxt.extract(layers[0], points.iloc[1:])
    np.testing.assert_array_equal(similar(layers[0], table), lazy)
    with pytest.raises(InputError, match="the model of the layer is 'n', that of the vectors is 'm'"):
        similar(layers[0].assign_attrs(model="n"), table)
    with pytest.warns(NodataWarning), pytest.raises(InputError, match="all of 1 points lie on nodata"):
        similar(layers[0], points.iloc[:1])


def test_change_is_one_minus_the_cosine_where_both_are_valid(layers):
    lazy = change(*layers)
    before, after = masked(1), masked(2)
    cosine = (before * after).sum(0) / np.linalg.norm(before, axis=0) / np.linalg.norm(after, axis=0)
    np.testing.assert_allclose(lazy, 1 - cosine, atol=1e-6)
    assert np.isnan(lazy).sum() == 12
    dates = [layer.expand_dims(time=[np.datetime64(f"202{n}-01-01", "ns")]) for n, layer in enumerate(layers)]
    np.testing.assert_array_equal(change(*dates), lazy)


@pytest.mark.parametrize(
    ("alter", "error", "words"),
    [
        (
            lambda a: a.assign_attrs(version="2"),
            InputError,
            "the version of the first layer is '1', that of the second layer is '2'",
        ),
        (lambda a: a[..., 1:], GridError, "on two grids"),
        (lambda a: a.isel(band=slice(None, None, -1)), InputError, "the bands are"),
        (lambda a: a.assign_attrs(_FillValue=np.int8(-1)), InputError, "the nodata values are -128"),
        (lambda a: xr.concat([a.expand_dims("time")] * 2, "time"), GridError, "of 1 and 2 time steps"),
    ],
)
def test_change_between_other_layers_raises(layers, alter, error, words):
    before = layers[0].isel(time=0) if "time" in layers[0].dims else layers[0]
    after = layers[1].isel(time=0) if "time" in layers[1].dims else layers[1]
    with pytest.raises(error, match=words):
        change(before, alter(after))


def test_other_vectors_raise(layers):
    with pytest.raises(InputError, match=r"1 vectors of 5 numbers: the layer has \[8\] bands"):
        similar(layers[0], np.ones(5))
    with pytest.raises(InputError, match="some are zero"):
        similar(layers[0], np.zeros((1, 8)))


def test_zero_vectors_are_nodata():
    coords = coordinates(make_grid((1, 2)))
    layer = xr.DataArray(np.array([[[0.0, 1.0]]], "float32"), dims=("band", "y", "x"), coords=coords)
    np.testing.assert_array_equal(similar(layer, [2.0])[0], [[np.nan, 1]])


def test_false_color_views(layers):
    components = pca(layers[0])
    values, valid = components.to_numpy(), ~np.isnan(masked(1)[0])
    assert np.isnan(values[:, ~valid]).all()
    assert values[:, valid].min() == 0
    assert values[:, valid].max() == 1
    assert 0.01 < (values[0, valid] == 0).mean() < 0.04
    pixels = masked(1)[:, valid].T
    axes = np.linalg.svd(pixels - pixels.mean(0))[2][:1]
    inside = (values[0, valid] > 0) & (values[0, valid] < 1)
    scores = ((pixels - pixels.mean(0)) @ axes.T)[inside, 0]
    assert abs(np.corrcoef(scores, values[0, valid][inside])[0, 1]) > 0.5
    clusters = kmeans(layers[0], n_clusters=3)
    np.testing.assert_array_equal(np.unique(clusters), [0, 1, 2, 255])
    np.testing.assert_array_equal(clusters == 255, ~valid)
    with pytest.raises(InputError, match="Cannot compute 9 components"):
        pca(layers[0], n_components=9)


def test_nodes_of_other_orders_of_bands_raise(layers):
    nodes = [layer.to_dataset(name="a") for layer in (layers[0], layers[0][::-1])]
    tree = xr.DataTree.from_dict({"/one": nodes[0], "/two": nodes[1]})
    pixels = layers[0].isel(y=slice(20, 26)).to_numpy().reshape(8, -1).T
    for compute in (
        pca,
        kmeans,
        lambda data: geoxt.predict(data, KMeans(2, n_init=1).fit(pixels)),
        lambda data: geoxt.predict(data, nn.Conv2d(8, 2, 1)),
    ):
        with pytest.raises(InputError, match="layers whose bands differ.*in one order"):
            compute(tree)
    frame = pd.DataFrame(pixels, columns=layers[0]["band"].to_numpy())
    named = geoxt.predict(tree, KMeans(2, n_init=1, random_state=0).fit(frame))  # matched by name
    np.testing.assert_array_equal(named["one"].ds["prediction"], named["two"].ds["prediction"])
    np.testing.assert_allclose(change(layers[0], layers[0].drop_vars("band")).fillna(0), 0, atol=1e-6)


def test_labelled_vectors_match_bands_by_name(layers):
    layer = layers[0].isel(time=0) if "time" in layers[0].dims else layers[0]
    reverse = layer[::-1]
    x, y = GRID.affine @ np.array([20.5, 20.5])
    point = gpd.GeoDataFrame({"class": ["a"]}, geometry=gpd.points_from_xy([x], [y]), crs=GRID.crs.to_wkt())
    table = geoxt.extract(layer, point)
    names = table.attrs["bands"]
    vectors = [
        table,
        table.loc[0, names],
        layer[:, 20, 20],
        layer[:, 20:21, 20].T,
        table.groupby("class")[names].mean(),
    ]
    for labelled in vectors:
        for data in (layer, reverse):
            assert float(similar(data, labelled)[0, 20, 20]) == pytest.approx(1)
    assert float(similar(reverse, layer[:, 20, 20].to_numpy())[0, 20, 20]) < 0.9
    other = layer.assign_coords(band=[f"B{n}" for n in range(8)])
    for labelled in vectors[:4]:
        with pytest.raises(InputError, match="Cannot match bands by name"):
            similar(other, labelled)
    with pytest.raises(InputError, match="whose bands differ"):
        similar(
            xr.DataTree.from_dict({"a": layer.to_dataset(name="layer"), "b": reverse.to_dataset(name="layer")}), table
        )


def test_vectors_that_are_not_numbers_raise(layers):
    for vectors in ("abc", np.ones((1, 8, 2)), gpd.GeoSeries.from_xy([1.0], [2.0])):
        with pytest.raises(InputError, match="Cannot take .* as vectors"):
            similar(layers[0], vectors)
    x, y = GRID.affine @ np.array([20.5, 20.5])
    point = gpd.GeoDataFrame(geometry=gpd.points_from_xy([x], [y]), crs=GRID.crs.to_wkt())
    with pytest.raises(InputError, match="has no column 'A03'"):
        similar(layers[0], geoxt.extract(layers[0], point).drop(columns="A03"))
