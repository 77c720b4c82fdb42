"""Classifiers of tables equal scikit-learn on the same rows, and few or missing classes raise."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

import geoxt
from geoxt.embeddings import knn, linear_probe, random_forest
from geoxt.errors import InputError, NodataWarning
from geoxt.grid import coordinates
from geoxt.inference import predict
from geoxt.testing import make_grid, make_layer

BANDS = ["A0", "A1", "A2"]


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 3)).astype("float32")
    classes = np.where(features[:, 0] + rng.normal(0, 0.7, 60) > 0, "forest", "water")
    frame = pd.DataFrame(features, columns=BANDS).assign(**{"class": classes, "plot": range(60)})
    frame.attrs = {"bands": BANDS, "model": "m", "version": "1"}
    return frame


def test_classifiers_equal_scikit_learn(table):
    x, y = table[BANDS], table["class"]
    neighbors = KNeighborsClassifier(5).fit(x, y)
    np.testing.assert_array_equal(knn(table).predict_proba(x), neighbors.predict_proba(x))
    forest = RandomForestClassifier(10, random_state=3).fit(x, y)
    np.testing.assert_array_equal(
        random_forest(table, n_estimators=10, seed=3).predict_proba(x), forest.predict_proba(x)
    )
    assert knn(table, features=["A0"]).n_features_in_ == 1


def test_linear_probe_chooses_the_strength_of_the_best_folds(table):
    probe = linear_probe(table, Cs=[1e-3, 1e-1, 10.0], cv=4)
    folds = StratifiedKFold(4, shuffle=True, random_state=0)
    scores = {}
    for strength in (1e-3, 1e-1, 10.0):
        right = []
        for train, test in folds.split(table, table["class"]):
            fitted = linear_probe(table.iloc[train], Cs=[strength], cv=2)
            right.append(np.mean(fitted.predict(table.iloc[test][BANDS]) == table["class"].iloc[test]))
        scores[strength] = np.mean(right)
    assert max(scores, key=scores.get) == probe[-1].C
    scaled = StandardScaler().fit_transform(table[BANDS])
    oracle = LogisticRegression(C=probe[-1].C).fit(scaled, table["class"])
    np.testing.assert_allclose(probe.predict_proba(table[BANDS]), oracle.predict_proba(scaled), atol=1e-5)


def test_rows_on_nodata_are_left_out_and_counted(table):
    table.loc[[3, 7], "A1"] = np.nan
    with pytest.warns(NodataWarning, match="2 of 60 rows have features without a value"):
        fitted = knn(table, n_neighbors=1)
    assert fitted.n_samples_fit_ == 58


@pytest.mark.parametrize("fit", [knn, linear_probe, random_forest])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.assign(**{"class": t["class"].where(t.index > 3)}), "4 of 60 rows have no class in 'class'"),
        (lambda t: t.assign(**{"class": t["class"].where(t.index > 1, "")}), "2 of 60 rows have no class"),
        (
            lambda t: t.assign(**{"class": t["class"].where(t.index > 0, "town")}),
            r"the classes \['town'\] have one row",
        ),
        (lambda t: t.assign(**{"class": "water"}), "all rows are of class 'water'"),
        (lambda t: t.assign(A1=np.nan), "all of 60 rows lie on nodata"),
        (lambda t: t.drop(columns="A2"), "no column 'A2'"),
        (lambda t: t.drop(columns="class"), "no column 'class'"),
        (lambda t: t.assign(A1=t["A1"].where(t.index > 2, np.inf)), r"the features \['A1'\] have infinite numbers"),
        (lambda t: t.assign(A2=1e300), r"the features \['A2'\] have infinite numbers"),
        (lambda t: t.assign(A0="high"), "are not numbers"),
        (lambda t: t.assign(**{"class": t["A0"]}), "they are numbers with fractions"),
        (lambda t: t.assign(**{"class": t.index // 2.0 + (t.index == 0)}), r"the classes \[0\] have one row"),
        (lambda t: t.iloc[:0], "the table has no rows"),
    ],
)
def test_tables_without_classes_or_values_raise(table, fit, change, words):
    with pytest.raises(InputError, match=words):
        fit(change(table))


def test_integers_as_floats_are_classes(table):
    fitted = knn(table.assign(**{"class": (table["A0"] > 0) + 3.0}))
    assert fitted.classes_.tolist() == [3, 4]
    assert fitted.classes_.dtype == np.int64


def test_target_is_no_feature(table):
    """A layer of labels beside the image is a column of `extract` as well."""
    codes = table.assign(mask=(table["class"] == "water").astype("uint8"))
    codes.attrs = table.attrs | {"bands": [*BANDS, "mask"]}
    for fit in (knn, random_forest, linear_probe):
        assert list(fit(codes, "mask").feature_names_in_) == BANDS
        with pytest.raises(InputError, match="features with the target 'mask' itself. Leave it out of features="):
            fit(codes, "mask", features=["A0", "mask"])


def test_other_options_raise(table):
    with pytest.raises(InputError, match="Cannot find 61 neighbors among 60 rows"):
        knn(table, n_neighbors=61)
    table.attrs = {}
    with pytest.raises(InputError, match="no columns are stated in attrs.*pandas.concat drops"):
        knn(table)


PHYSICAL = {"radiometry": "physical: stored * scale + offset, of each scene and band"}


def stored(offset):
    return {"radiometry": "as stored: …", "scales": [1e-4] * 2, "offsets": [offset] * 2}


@pytest.mark.parametrize(
    ("attrs", "others"),
    [
        (PHYSICAL, [stored(0.0)]),
        (stored(0.0), [PHYSICAL, stored(-0.1)]),  # baselines 03.01 and 04.00
        ({}, []),
    ],
)
def test_values_of_another_scale_raise(attrs, others):
    values = np.random.default_rng(0).normal(size=(2, 8, 8)).astype("float32")
    image = make_layer(values, bands=["red", "nir"]).assign_attrs(attrs)
    centers = gpd.points_from_xy(image.x[[0, 2, 4, 6]], image.y[[1, 2, 3, 4]])
    points = gpd.GeoDataFrame({"class": list("abab")}, geometry=centers, crs=image.odc.crs)
    fitted = knn(geoxt.extract(image, points), n_neighbors=1)
    assert predict(image, fitted).shape == predict(image.sel(band=["nir", "red"]), fitted).shape == (8, 8)
    for other in others:
        with pytest.raises(InputError, match="values of 'red' are .* in the layer, and .* in the table.*rescale="):
            predict(make_layer(values, bands=["red", "nir"]).assign_attrs(other), fitted)
    unknown = make_layer(values, bands=["red", "nir"])
    assert predict(unknown, fitted).shape == (8, 8)


def test_embeddings_of_another_model_raise(table):
    coords = {"band": BANDS, **coordinates(make_grid((4, 4)))}
    layer = xr.DataArray(np.ones((3, 4, 4), "float32"), dims=("band", "y", "x"), coords=coords)
    fitted = knn(table)
    assert predict(layer.assign_attrs(model="m", version="1"), fitted).shape == (4, 4)
    with pytest.raises(InputError, match="the version of the estimator is '1', that of the layer is '2'"):
        predict(layer.assign_attrs(model="m", version="2"), fitted)
