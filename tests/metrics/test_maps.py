"""Scores of maps: legends must agree on the codes that both name."""

import numpy as np
import pytest
import shapely
import sklearn.metrics
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt.alignment import align
from geoxt.errors import GridError, InputError, LabelError, LabelWarning, OverlapError
from geoxt.grid import coordinates
from geoxt.legend import Legend
from geoxt.metrics.maps import score
from geoxt.regions.geodesic_area import ground_area
from geoxt.testing import make_grid


def make_layer(legend=None, *, dtype="uint8"):
    values = (np.arange(80).reshape(8, 10) % 2 + 1).astype(dtype)
    attrs = {} if legend is None else legend.attrs()
    return xr.DataArray(values, dims=("y", "x"), coords=coordinates(make_grid((8, 10))), attrs=attrs)


LABELS = make_layer(Legend((1, 2), ("Open water", "forest")))


@pytest.mark.parametrize("names", [None, ("open water", "Forest"), ("open_water", "forest"), ("1", "2")])
def test_same_or_unknown_names_are_scored(names):
    predicted = make_layer(None if names is None else Legend((1, 2), names))
    assert score(predicted, LABELS)["accuracy"] == 1


@pytest.mark.parametrize("names", [("forest", "open water"), ("open water", "city")])
def test_other_name_of_a_code_raises(names):
    with pytest.raises(LabelError, match="Cannot score the map: the code . is '.*' in the map, and '.*' in the labels"):
        score(make_layer(Legend((1, 2), names)), LABELS)


def test_code_of_one_legend_alone_is_scored():
    predicted = make_layer(Legend((1, 2, 3), ("open water", "forest", "city")))
    assert score(predicted, LABELS)["accuracy"] == 1


def test_dates_of_map_and_labels_must_be_the_same():
    maps = LABELS.expand_dims(time=np.array(["2020-01-01", "2021-01-01"], "M8[ns]"))
    assert score(maps, maps)["pixels"] == 160
    assert score(maps[:1], LABELS)["pixels"] == 80
    for labels in (LABELS, maps[:1]):
        with pytest.raises(GridError, match="Cannot score a map of 2 dates against labels of 1 date"):
            score(maps, labels)
    with pytest.raises(GridError, match="Cannot score a map of 1 date against labels of 2 dates"):
        score(LABELS, maps)
    for labels in (maps[::-1], maps.assign_coords(time=maps["time"] + np.timedelta64(1, "D")), maps.drop_vars("time")):
        with pytest.raises(GridError, match="their dates differ"):
            score(maps, labels)


def test_map_of_probabilities_raises():
    with pytest.raises(LabelError, match="Cannot score a map of dtype float32: it holds no class codes"):
        score(make_layer(dtype="float32"), LABELS)


def test_labels_without_a_legend_are_scored_by_the_classes_of_the_map():
    predicted = make_layer(Legend((1, 2), ("water", "forest")))
    labels = make_layer(dtype="int16")
    labels[0], labels[1, :5] = -100, 255
    with pytest.warns(
        LabelWarning, match="^5 pixels have the label 255, and are not scored: the classes of the map are 1, 2"
    ):
        scores = score(predicted, labels)
    assert scores["pixels"] == 65
    assert scores["iou"] == {"water": 1, "forest": 1}
    with pytest.raises(LabelError, match="neither states the classes"):
        score(make_layer(), make_layer())


def test_negative_codes_of_a_legend_are_not_scored():
    labels = make_layer(Legend((-1, 1, 2), ("unknown", "water", "forest")), dtype="int16")
    labels[0] = -1
    scores = score(make_layer(Legend((1, 2), ("water", "forest"))), labels)
    assert scores["pixels"] == 70
    assert set(scores["iou"]) == {"water", "forest"}


@pytest.mark.parametrize("interpolated", ["predicted", "labels"])
def test_interpolated_codes_are_not_scored(interpolated):
    plain = make_layer()
    grid = make_grid((8, 10))
    moved = align(plain, GeoBox((8, 10), grid.affine @ Affine.translation(0.5, 0.5), grid.crs))
    legend = make_layer(Legend((1, 2), ("water", "forest"))).assign_coords(moved.coords)
    layers = {"predicted": legend, "labels": legend, interpolated: moved}
    with pytest.raises(InputError, match="blends class codes"):
        score(**layers)


def test_areas_of_classes_are_geodesic_hectares_of_the_scored_pixels():
    labels = make_layer(Legend((1, 2), ("water", "forest")))
    labels[:4], labels[4:], labels[7] = 1, 2, 255
    predicted = labels.copy(data=np.full((8, 10), 2, "uint8"))
    predicted[0] = 1
    scores = score(predicted, labels)
    grid = make_grid((8, 10))
    rows = {name: ground_area(shapely.box(0, *y0, 10, *y1), grid) / 1e4 for name, y0, y1 in AREAS}
    assert scores["area"] == pytest.approx({"water": rows["0-4"], "forest": rows["4-7"]}, rel=1e-4)
    assert scores["mapped_area"] == pytest.approx({"water": rows["0-1"], "forest": rows["1-7"]}, rel=1e-4)
    assert scores.to_dataframe()["support"].tolist() == [40, 30]


AREAS = [("0-4", (0,), (4,)), ("4-7", (4,), (7,)), ("0-1", (0,), (1,)), ("1-7", (1,), (7,))]


def test_map_of_numbers_is_scored_as_by_scikit_learn():
    rng = np.random.default_rng(0)
    labels = make_layer(dtype="float32").copy(data=rng.normal(300, 9, (8, 10)).astype("float32"))
    predicted = labels + rng.normal(1, 2, (8, 10)).astype("float32")
    truth, values = labels.to_numpy()[1:].ravel(), predicted.to_numpy()[1:].ravel()
    labels[0, :5], predicted[0, 5:] = np.nan, np.nan
    scores = score(predicted.assign_attrs(labels.attrs), labels)
    assert scores["mae"] == pytest.approx(sklearn.metrics.mean_absolute_error(truth, values))
    assert scores["rmse"] == pytest.approx(sklearn.metrics.mean_squared_error(truth, values) ** 0.5)
    assert scores["r2"] == pytest.approx(sklearn.metrics.r2_score(truth, values), rel=1e-5)
    assert scores["bias"] == pytest.approx((values - truth).mean(), abs=1e-4)
    assert scores.to_dataframe()["support"].tolist() == [70]
    assert len(scores.plot().axes) == 5
    with pytest.raises(GridError, match="another grid"):
        score(predicted[1:], labels)
    with pytest.raises(OverlapError, match="no pixel"):
        score(predicted * np.nan, labels)
