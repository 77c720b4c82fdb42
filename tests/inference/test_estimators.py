"""Maps of scikit-learn estimators equal the estimators on the pixels of the layer."""

import pickle

import dask
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import nn

import geoxt
from geoxt.errors import InputError
from geoxt.grid import coordinates
from geoxt.inference import predict
from geoxt.legend import Legend
from geoxt.testing import make_grid
from geoxt.writers import to_cog

GRID = make_grid((40, 50))
BANDS = ["B02", "B04", "B08"]
NODATA = 9999


@pytest.fixture(scope="module")
def layer():
    values = np.random.default_rng(0).integers(0, 4000, (3, 40, 50)).astype("uint16")
    values[1, 4:9, 10:30] = NODATA
    coords = {"band": BANDS, "common_name": ("band", ["blue", "red", "nir"]), **coordinates(GRID)}
    return xr.DataArray(
        values, dims=("band", "y", "x"), coords=coords, attrs={"_FillValue": np.uint16(NODATA)}, name="image"
    )


@pytest.fixture(scope="module")
def table():
    values = np.random.default_rng(1).integers(0, 4000, (200, 3)).astype("float32")
    return pd.DataFrame(values, columns=BANDS)


@pytest.fixture(scope="module")
def labels(table):
    return np.where(table["B08"] > 2500, "forest", np.where(table["B04"] > 2000, "bare", "water"))


@pytest.fixture(scope="module")
def forest(table, labels):
    return RandomForestClassifier(12, random_state=0, n_jobs=-1).fit(table, labels)


def rows_of(layer):
    """Return the pixels (n, band) as the table that an estimator takes, and which of them are valid."""
    rows = layer.to_numpy().reshape(len(layer), -1).T
    return pd.DataFrame(rows.astype("float32"), columns=layer["band"].to_numpy()), (rows != NODATA).all(1)


def test_classes_are_those_of_predict_with_names(layer, forest):
    with dask.config.set(scheduler=lambda *_, **__: 1 / 0):
        predicted = layer.geoml.predict(forest, size=16)
    rows, valid = rows_of(layer)
    expected = np.where(valid, np.searchsorted(forest.classes_, forest.predict(rows)), 255)
    np.testing.assert_array_equal(predicted, expected.reshape(40, 50))
    assert predicted.dtype == "uint8"
    assert predicted.geoml.legend.names == ("bare", "forest", "water")
    assert predicted.geoml.legend.codes == (0, 1, 2)


def test_probabilities_are_those_of_predict_proba(layer, forest):
    predicted = predict(layer, forest, size=16, output="probabilities").compute()
    rows, valid = rows_of(layer)
    expected = np.where(valid[:, None], forest.set_params(n_jobs=1).predict_proba(rows), np.nan).astype("float32")
    np.testing.assert_array_equal(predicted, expected.T.reshape(3, 40, 50))
    assert predicted["band"].to_numpy().tolist() == ["bare", "forest", "water"]
    entropy = predict(layer, forest, size=16, output="uncertainty").sel(band="entropy")
    p = expected.T.reshape(3, 40, 50).astype(float)
    np.testing.assert_allclose(entropy, -(p * np.log(np.where(p > 0, p, 1))).sum(0), atol=1e-6)


def test_windows_equal_the_whole_and_distributed_tasks(tmp_path, layer, table, labels):
    chunks = 16
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(table, labels)
    probabilities = predict(layer, model, size=16, output="probabilities")
    window = predict(layer, model, size=16, output="probabilities", chunks=chunks)[:, 5:31, 3:40]
    np.testing.assert_array_equal(window, probabilities[:, 5:31, 3:40])
    assert dask.base.tokenize(window.data) == dask.base.tokenize(
        predict(layer, model, size=16, output="probabilities", chunks=chunks)[:, 5:31, 3:40].data
    )
    again = pickle.loads(pickle.dumps(probabilities.data)).compute()
    np.testing.assert_array_equal(again, probabilities)
    assert xr.open_dataarray(to_cog(probabilities, tmp_path / "p.tif"), engine="rasterio").shape == (3, 40, 50)


def test_regression_and_multiple_outputs(layer, table):
    model = RandomForestRegressor(5, random_state=0).fit(table, table["B08"] * 2)
    rows, valid = rows_of(layer)
    expected = np.where(valid, model.predict(rows), np.nan).astype("float32").reshape(1, 40, 50)
    np.testing.assert_array_equal(predict(layer, model, size=16), expected)
    two = LinearRegression().fit(table, table[["B02", "B04"]])
    predicted = predict(layer, two, legend=Legend((0, 1), ("height", "cover")))
    assert predicted["band"].to_numpy().tolist() == ["height", "cover"]
    np.testing.assert_allclose(predicted, layer[:2].where(layer[1] != NODATA), rtol=1e-5, atol=0.1)


def test_bands_are_matched_by_name_then_common_name(layer, table, labels, forest):
    expected = predict(layer, forest)
    extra = xr.concat([layer[[2, 0, 1]], layer[:1].assign_coords(band=["SCL"], common_name=("band", [""]))], "band")
    np.testing.assert_array_equal(predict(extra, forest), expected)
    common = RandomForestClassifier(12, random_state=0).fit(table.set_axis(["blue", "red", "nir"], axis=1), labels)
    np.testing.assert_array_equal(predict(layer[[1, 2, 0]], common), expected)
    with pytest.raises(InputError, match="has no band 'B08'"):
        predict(layer[:2], forest)
    unnamed = RandomForestClassifier(12, random_state=0).fit(table.to_numpy(), labels)
    np.testing.assert_array_equal(predict(layer, unnamed), expected)
    with pytest.raises(InputError, match="the layer has 2 bands, the RandomForestClassifier was fitted to 3 features"):
        predict(layer[:2], unnamed)


def test_integer_labels_are_codes_and_legends_are_matched(layer, table, labels, forest):
    codes = pd.Series(labels).map({"forest": 41.0, "bare": 31.0, "water": 255.0}).to_numpy()
    model = KNeighborsClassifier(3).fit(table, codes)
    rows, valid = rows_of(layer)
    legend = Legend(
        (255, 11, 41, 31), ("water", "town", "forest", "bare"), ("#0000ff", "#ff0000", "#00ff00", "#888888")
    )
    predicted = predict(layer, model, size=16, legend=legend)
    nodata = predicted.attrs["_FillValue"]
    assert nodata not in (31, 41, 255)
    np.testing.assert_array_equal(predicted, np.where(valid, model.predict(rows), nodata).reshape(40, 50))
    assert predicted.geoml.legend == Legend(
        (31, 41, 255), ("bare", "forest", "water"), ("#888888", "#00ff00", "#0000ff")
    )
    coded = predict(layer, forest, size=16, legend=legend)
    text = predict(layer, forest, size=16)
    np.testing.assert_array_equal(coded == 41, text == 1)
    with pytest.raises(InputError, match=r"Cannot name the classes \['water'\]"):
        predict(layer, forest, legend=Legend((1, 2), ("forest", "bare")))


def test_clusters_and_components(layer, table):
    clusters = make_pipeline(StandardScaler(), KMeans(4, n_init=1, random_state=0)).fit(table)
    rows, valid = rows_of(layer)
    np.testing.assert_array_equal(
        predict(layer, clusters), np.where(valid, clusters.predict(rows), 255).reshape(40, 50)
    )
    components = predict(layer, PCA(2).fit(table), size=16)
    expected = np.where(valid[:, None], PCA(2).fit(table).transform(rows), np.nan)
    np.testing.assert_allclose(components, expected.T.reshape(2, 40, 50), rtol=1e-5, atol=1e-2)


def test_searches_svms_and_ensembles(layer, table, labels, forest):
    rows, valid = rows_of(layer)
    svm = make_pipeline(StandardScaler(), LinearSVC(random_state=0)).fit(table, labels)
    expected = np.where(valid, np.searchsorted(svm.classes_, svm.predict(rows)), 255)
    np.testing.assert_array_equal(predict(layer, svm), expected.reshape(40, 50))
    with pytest.raises(InputError, match="it has no predict_proba"):
        predict(layer, svm, output="probabilities")
    with pytest.raises(InputError, match="Cannot average a Pipeline: it has no predict_proba"):
        predict(layer, members=[svm, forest])
    search = GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [1, 3]}, cv=2).fit(table, labels)
    members = predict(layer, members=[search, forest], output="probabilities")
    mean = (search.predict_proba(rows) + forest.predict_proba(rows)) / 2
    np.testing.assert_allclose(members, np.where(valid[:, None], mean, np.nan).T.reshape(3, 40, 50), atol=1e-6)


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (lambda t, y: RandomForestClassifier(), {}, "RandomForestClassifier that is not fitted"),
        (lambda t, y: RandomForestClassifier, {}, "a model of the type ABCMeta"),
        (lambda t, y: KNeighborsClassifier().fit(t, y), {"output": "logits"}, "Cannot predict logits"),
        (lambda t, y: KNeighborsClassifier().fit(t, y), {"series": True}, "Cannot pass a time series"),
        (lambda t, y: MultiOutputClassifier(KNeighborsClassifier()).fit(t, np.c_[y, y]), {}, "2 outputs of classes"),
        (lambda t, y: KNeighborsClassifier().fit(t, y), {"members": [nn.Conv2d(3, 3, 1)]}, "Cannot average 2 members"),
        (
            lambda t, y: KNeighborsClassifier().fit(t.to_numpy(), np.arange(len(t)) % 3),
            {"members": [KNeighborsClassifier().fit(np.eye(8, 3), [7, 8, 9, 7, 8, 9, 7, 8])]},
            r"their class codes are \(0, 1, 2\) and \(7, 8, 9\)",
        ),
    ],
)
def test_other_models_raise(layer, table, labels, model, options, words):
    with pytest.raises(InputError, match=words):
        predict(layer, model(table, labels), **options)


def test_time_steps_and_trees_from_a_table(layer):
    steps = layer.expand_dims(time=np.array(["2024-01-01", "2024-06-01"], "datetime64[ns]"))
    x, y = GRID.affine @ (np.random.default_rng(0).integers(0, 40, (2, 30)) + 0.5)
    points = gpd.GeoDataFrame({"class": ["a", "b"] * 15}, geometry=gpd.points_from_xy(x, y), crs=GRID.crs.to_wkt())
    table = geoxt.extract(layer, points.iloc[[i for i in range(30) if not 4 <= (~GRID.affine @ (x[i], y[i]))[1] < 9]])
    model = KNeighborsClassifier(1).fit(table[BANDS], table["class"])
    predicted = predict(steps, model)
    assert predicted.dims == ("time", "y", "x")
    np.testing.assert_array_equal(predicted[0], predict(layer, model))
    at_points = geoxt.extract(predict(layer, model).rename("map"), table[["geometry", "class"]])
    assert [("a", "b")[int(code)] for code in at_points["map"]] == list(table["class"])


@pytest.mark.parametrize(("dtype", "first"), [("float64", 1.0), ("int32", 2**24), ("uint32", 2**31), ("uint16", 7)])
def test_pixels_that_float32_does_not_hold_are_passed_exactly(dtype, first):
    steps = 1e-9 if dtype == "float64" else 1
    values = (first + steps * np.arange(9)).astype(dtype).reshape(1, 3, 3)
    layer = xr.DataArray(values, dims=("band", "y", "x"), coords={"band": ["a"], **coordinates(make_grid((3, 3)))})
    rows, codes = values.reshape(-1, 1).astype("float64"), np.arange(9)
    nearest = KNeighborsClassifier(1).fit(pd.DataFrame(rows, columns=["a"]), codes)
    np.testing.assert_array_equal(predict(layer, nearest), codes.reshape(3, 3))
    np.testing.assert_array_equal(predict(layer, members=[nearest, nearest]), codes.reshape(3, 3))


@pytest.mark.parametrize("name", ["forest.joblib", "forest.pkl", "forest.skops"])
def test_files_of_estimators_are_refused_by_a_clear_error(layer, tmp_path, name):
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(InputError, match="loading a pickled estimator can run code.* pass the estimator as model="):
        predict(layer, tmp_path / name)
