"""Samples of maps: inclusion probabilities, allocation, areas, independence from chunks, files, and estimates."""

import sqlite3

import numpy as np
import pytest
from numpy.testing import assert_allclose
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr

import geoxt
from geoxt import assess
from geoxt.assess import map_strata
from geoxt.errors import AssessmentWarning, InputError, LabelError, OverlapError
from geoxt.legend import Legend
from geoxt.testing import make_grid, write_cog

LEGEND = Legend((1, 2, 5), ("water", "forest", "town"))


def make_map(shape=(90, 110), seed=0, grid=None):
    rng = np.random.default_rng(seed)
    codes = rng.choice([0, 1, 2, 5], shape, p=[0.1, 0.5, 0.3, 0.1]).astype("uint8")
    layer = wrap_xr(codes, make_grid(shape) if grid is None else grid, nodata=0)
    return layer.assign_attrs(LEGEND.attrs())


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(map_strata, "BLOCK", 32)
    monkeypatch.setattr("geoxt.assess.design.BLOCK", 32)


def test_each_drawn_pixel_is_in_its_stratum_once():
    layer = make_map()
    sample = assess.sample_design(layer, 200, allocation="equal", seed=3)
    codes = layer.values[sample["row"], sample["col"]]
    assert [LEGEND.name(code) for code in codes] == sample["stratum"].tolist() == sample["map_class"].tolist()
    assert not sample.duplicated(["row", "col"]).any()
    assert sorted(sample["stratum"].value_counts()) == [66, 67, 67]
    for name, code in zip(LEGEND.names, LEGEND.codes, strict=True):
        rows = sample[sample["stratum"] == name]
        assert_allclose(rows["stratum_pixels"], (layer.values == code).sum())
        assert_allclose(rows["probability"], len(rows) / (layer.values == code).sum())
    x, y = layer.odc.geobox.affine * np.stack([sample["col"] + 0.5, sample["row"] + 0.5])
    assert_allclose(sample.geometry.x, x)
    assert_allclose(sample.geometry.y, y)


def test_samples_depend_on_the_seed_and_not_on_chunks():
    layer = make_map()
    first = assess.sample_design(layer, 60, seed=1)
    for other in (layer.chunk(x=17, y=40), layer.chunk(x=-1, y=-1)):
        assert assess.sample_design(other, 60, seed=1).equals(first)
    assert not assess.sample_design(layer, 60, seed=2).equals(first)


def test_pixels_are_drawn_with_equal_probability():
    layer = make_map((12, 12))
    hits = np.zeros(layer.shape)
    draws = 80
    for seed in range(draws):
        sample = assess.sample_design(layer, 30, seed=seed)
        hits[sample["row"], sample["col"]] += 1
    assert hits[layer.values == 0].sum() == 0
    for code in LEGEND.codes:
        share = hits[layer.values == code] / draws
        expected = share.mean()
        assert np.abs(share - expected).max() < 5 * np.sqrt(expected * (1 - expected) / draws)


def test_systematic_samples_are_evenly_spaced():
    layer = make_map((32, 320))
    sample = assess.sample_design(layer, 100, strata=None, systematic=True, seed=0)
    assert len(sample) == 100
    assert sample["stratum"].unique().tolist() == ["all"]
    columns = np.sort(sample["col"])
    assert np.histogram(columns, 10, (0, 320))[0].min() >= 8


def test_target_se_is_reached():
    layer = make_map((200, 200))
    expected = {"water": 0.9, "forest": 0.8, "town": 0.6}
    sample = assess.sample_design(layer, target_se=0.03, allocation="neyman", expected=expected, seed=0)
    rng = np.random.default_rng(0)
    right = rng.random(len(sample)) < sample["stratum"].map(expected)
    sample["reference"] = np.where(right, sample["map_class"], "other")
    with pytest.warns(AssessmentWarning, match=r"The reference has classes .*\['other'\]"):
        overall = assess.estimate(sample).overall
    assert overall.se == pytest.approx(0.03, rel=0.25)


def test_strata_areas_of_mercator_are_not_pixels():
    grid = GeoBox.from_bbox((1e6, 8e6, 1.1e6, 8.1e6), "EPSG:3857", shape=(100, 100))
    sample = assess.sample_design(make_map((100, 100), grid=grid), 30)
    nominal = sample["stratum_pixels"] * 100
    assert (sample["stratum_area"] < 0.4 * nominal).all()


def test_strata_of_another_layer_weight_the_classes_of_the_map():
    layer = make_map((64, 64))
    west = wrap_xr(np.where(np.arange(64) < 16, 1, 2)[None].repeat(64, 0).astype("uint8"), layer.odc.geobox)
    sample = assess.sample_design(layer, 400, strata=west, allocation="equal", seed=0)
    assert {*sample["stratum"]} == {"1", "2"}
    sample["reference"] = sample["map_class"]
    estimates = assess.estimate(sample)
    assert estimates.overall.value == 1
    shares = np.array([(layer.values == code).sum() for code in (2, 5, 1)]) / (layer.values > 0).sum()
    assert estimates.classes == ("forest", "town", "water")
    assert_allclose(estimates.area.value / estimates.area.value.sum(), shares, atol=4 * 0.03)
    assert (np.abs(estimates.area.value / estimates.area.value.sum() - shares) > 1e-9).all()


def test_labelled_files_give_the_estimates_of_their_tables(tmp_path):
    layer = make_map()
    sample = assess.sample_design(layer, 90, allocation="equal", seed=0)
    rng = np.random.default_rng(0)
    sample["reference"] = np.where(rng.random(90) < 0.8, sample["map_class"], "forest")
    path = assess.write_sample(sample, tmp_path / "sample.gpkg", classes=LEGEND)
    names = list(LEGEND.names)
    counts = np.array([[((sample["map_class"] == m) & (sample["reference"] == r)).sum() for r in names] for m in names])
    sizes = [sample.loc[sample["stratum"] == name, "stratum_area"].iloc[0] for name in names]
    table = assess.estimate_from_counts(counts, sizes, classes=names)
    for estimates in (assess.estimate(path), assess.estimate(path, layer), assess.estimate(sample.to_crs(4326), layer)):
        order = [estimates.classes.index(name) for name in names]
        assert_allclose(estimates.users.value[order], table.users.value, rtol=1e-4)
        assert_allclose(estimates.area.value[order], table.area.value, rtol=1e-4)
        assert_allclose(estimates.area.se[order], table.area.se, rtol=0.05)  # without the correction of a finite map
        assert estimates.unit == "ha"
    codes = sample.assign(reference=[LEGEND.codes[names.index(name)] for name in sample["reference"]])
    with pytest.warns(AssessmentWarning, match="reference has codes, taken as those of the map: "):
        coded = assess.estimate(codes, layer)
    assert_allclose(coded.users.value, assess.estimate(sample, layer).users.value)


def test_qgis_style_is_in_the_file(tmp_path):
    path = assess.write_sample(assess.sample_design(make_map(), 9), tmp_path / "sample.gpkg", classes=LEGEND)
    with sqlite3.connect(path) as database:
        ((table, default, style),) = database.execute("SELECT f_table_name, useAsDefault, styleQML FROM layer_styles")
        registered = database.execute(
            "SELECT data_type FROM gpkg_contents WHERE table_name = 'layer_styles'"
        ).fetchall()
    database.close()
    assert (table, default, registered) == ("sample", 1, [("attributes",)])
    assert all(f'value="{name}"' in style for name in LEGEND.names)
    assert 'attr="stratum"' in style
    assert 'type="ValueMap"' in style
    with pytest.raises(InputError, match="not a GeoPackage"):
        assess.write_sample(assess.sample_design(make_map(), 9), tmp_path / "sample.geojson")


def test_samples_have_the_finite_population_correction():
    layer = make_map((30, 30))
    sample = assess.sample_design(layer, 300, strata=None, seed=1)
    rng = np.random.default_rng(0)
    sample["reference"] = np.where(rng.random(len(sample)) < 0.8, sample["map_class"], "town")
    table = assess.estimate(sample)
    assert "simple random sample of pixels; Jeffreys intervals, with finite" in table.method
    right, fraction = (sample["reference"] == sample["map_class"]).mean(), 300 / sample["stratum_pixels"].iloc[0]
    expected = np.sqrt((1 - fraction) * right * (1 - right) / 299)  # Cochran 1977, equation 3.8
    assert table.overall.se == pytest.approx(expected, rel=2e-3)  # pixels differ slightly in area


def test_clusters_widen_the_intervals():
    layer = make_map((100, 100))
    sample = assess.sample_design(layer, 200, strata=None, seed=0)
    sample["plot"] = np.arange(200) // 10
    rng = np.random.default_rng(0)
    right = rng.random(20)[sample["plot"]] < 0.7  # whole plots are right or wrong
    sample["reference"] = np.where(right, sample["map_class"], "forest")
    alone, clustered = assess.estimate(sample).overall, assess.estimate(sample, cluster="plot").overall
    assert clustered.value == pytest.approx(alone.value)
    assert clustered.se > 1.5 * alone.se
    assert "clusters of pixels; Jeffreys intervals, without" in assess.estimate(sample, cluster="plot").method
    with pytest.warns(AssessmentWarning, match=r"strata \['all'\] have one sampled cluster each"):
        assert np.isnan(assess.estimate(sample.assign(plot=0), cluster="plot").overall.se)


def test_clusters_that_span_strata_raise():
    sample = assess.sample_design(make_map(), 30, seed=0)
    sample["reference"], sample["plot"] = sample["map_class"], np.arange(30)
    pair = [*sample.index[sample["stratum"] == "town"][:1], *sample.index[sample["stratum"] == "water"][:1]]
    sample.loc[pair, "plot"] = 99
    with pytest.raises(InputError, match=r"1 clusters span strata, such as '99' with \['town', 'water'\]"):
        assess.estimate(sample, cluster="plot")


def test_a_map_of_numbers_has_errors_and_a_total():
    rng = np.random.default_rng(0)
    grid = make_grid((80, 80))
    truth = rng.gamma(3, 20, (80, 80)) + np.linspace(0, 100, 80)
    layer = wrap_xr((truth + rng.normal(2, 5, truth.shape)).astype("float32"), grid)
    strata_layer = wrap_xr((np.linspace(0, 3.99, 80)[None].repeat(80, 0)).astype("uint8"), grid)
    sample = assess.sample_design(strata_layer, 1_200, seed=0)
    sample["reference"] = truth[sample["row"], sample["col"]]
    estimates = assess.estimate(sample, layer)
    error = layer.values - truth
    truths = {
        "bias": error.mean(), "mae": np.abs(error).mean(), "rmse": np.sqrt((error**2).mean()), "mean": truth.mean(),
        "r2": 1 - (error**2).mean() / truth.var(), "total": truth.mean() * 6_400 * 0.09,
    }  # fmt: skip
    for name, expected in truths.items():
        estimate = getattr(estimates, name)
        assert abs(estimate.value - expected) < 4 * estimate.se + 2e-3 * abs(expected), name
        assert estimate.se > 0
    assert estimates.mean.se < truth.std() / np.sqrt(1_200) / 3  # the map explains most of the variance


def test_pixels_without_reference_are_said():
    sample = assess.sample_design(make_map(), 30, seed=0)
    with pytest.raises(InputError, match="30 of 30 sampled pixels have no reference"):
        assess.estimate(sample)
    sample["reference"] = sample["map_class"]
    sample.loc[3, "reference"] = " "
    with pytest.raises(InputError, match=r"1 of 30 sampled pixels have no reference.*unlabeled='exclude'"):
        assess.estimate(sample)
    with pytest.warns(AssessmentWarning, match=r"1 of 30 .* no reference and are excluded: 1 of \d+ in"):
        assert assess.estimate(sample, unlabeled="exclude").counts.sum() == 29
    sample.loc[sample["stratum"] == "town", "reference"] = None
    with pytest.raises(InputError, match=r"among them all of the strata \['town'\]"):
        assess.estimate(sample, unlabeled="exclude")


def test_samples_off_the_map_raise():
    layer = make_map()
    sample = assess.sample_design(layer, 30, seed=0)
    sample["reference"] = sample["map_class"]
    with pytest.raises(OverlapError, match=r"\d+ of 30 sampled pixels lie outside the map"):
        assess.estimate(sample, layer.isel(x=slice(0, 50)))
    changed = layer.copy()
    changed.values[sample["row"][0], sample["col"][0]] = 0
    with pytest.raises(OverlapError, match=r"1 of 30 sampled pixels lie on nodata"):
        assess.estimate(sample, changed)
    sample.loc[1, "id"] = sample.loc[0, "id"]
    with pytest.raises(InputError, match="ids .* are repeated"):
        assess.estimate(sample)
    with pytest.raises(InputError, match=r"without the columns \['stratum_pixels'\]"):
        assess.estimate(sample.drop(columns="stratum_pixels"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.assign(stratum_pixels=0), "30 of 30 rows have no positive stratum_pixels, such as '0'"),
        (lambda s: s.assign(stratum_area="x"), "no positive stratum_area, such as 'x'"),
        (
            lambda s: s.assign(pixel_area=np.where(s["id"] == 3, np.nan, s["pixel_area"])),
            "1 of 30 rows have no positive",
        ),
        (lambda s: s.assign(stratum=s["stratum"].where(s["id"] != 3)), "1 of 30 rows have no stratum"),
        (lambda s: s.assign(stratum_area=np.arange(30) + 1.0), "have several sizes in the sample"),
        (lambda s: s.assign(stratum_pixels=1), "more sampled pixels than pixels"),
        (lambda s: s.assign(stratum=s["stratum"].where(s["stratum"] != "town", "all")), "'all' of all pixels beside 2"),
        (lambda s: s.take(np.arange(60) % 30).drop(columns="id"), "30 of 60 rows repeat the pixel of another row"),
        (lambda s: [1, 2], "list: it is not a table of sampled pixels"),
        (lambda s: s.drop(columns="geometry"), "rows have no point"),
        (lambda s: s.set_geometry([None, *s.geometry.iloc[1:]], crs=s.crs), "rows have no point"),
    ],
)
def test_damaged_samples_raise(change, message):
    layer = make_map()
    sample = assess.sample_design(layer, 30, seed=0)
    sample["reference"] = sample["map_class"]
    with pytest.raises(InputError, match=message):
        assess.estimate(change(sample), layer)


def test_arrays_without_a_grid_raise():
    with pytest.raises(InputError, match="ndarray as a map: its grid is unknown"):
        assess.sample_design(np.ones((4, 4), "uint8"), 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "size is not given"),
        ({"n": 10, "target_se": 0.1}, "given twice"),
        ({"target_se": 0.1}, "proportions are expected for None"),
        ({"n": 10, "allocation": "neyman", "expected": {"water": 0.5}}, r"expected for \['water'\]"),
        ({"target_se": 0.1, "expected": {"water": 0.5, "forest": 1.5, "town": 0.5}}, "not within 0 and 1"),
        ({"n": 10, "allocation": "square"}, "allocate a sample by 'square'"),
        ({"n": 10**6}, "there are"),
        ({"n": 10, "strata": "regions"}, "'regions' as strata"),
        ({"n": float("nan")}, "n=nan: it is not a whole number"),
        ({"n": 20.5}, r"n=20\.5: it is not a whole number"),
        ({"n": "20"}, "n='20': it is not a whole number"),
        ({"n": 20, "min_per_class": -1}, "min_per_class=-1: it is not a whole number"),
        ({"n": 20, "seed": -1}, "seed=-1: it is not a whole number"),
        ({"target_se": 0.1, "expected": {"water": "a", "forest": 0.5, "town": 0.5}}, "are not numbers"),
    ],
)
def test_contradicting_designs_raise(arguments, message):
    with pytest.raises(InputError, match=message):
        assess.sample_design(make_map(), **arguments)


def test_maps_without_classes_raise():
    layer = make_map()
    with pytest.raises(LabelError, match="dtype float32 as classes"):
        assess.sample_design(layer.astype("float32"), 10)
    with pytest.raises(OverlapError, match="none of its pixels is valid"):
        assess.sample_design(layer.copy(data=np.zeros_like(layer.values)), 10)


def test_maps_of_codes_without_names(tmp_path):
    codes = np.random.default_rng(0).integers(1, 4, (30, 30)).astype("uint8")
    path = write_cog(tmp_path / "map.tif", codes, grid=make_grid((30, 30)), nodata=0)
    layers = [geoxt.open_cogs(path, categorical=categorical) for categorical in (True, False)]
    first, second = (assess.sample_design(layer, 20, seed=1) for layer in layers)
    assert first.drop(columns="geometry").equals(second.drop(columns="geometry"))
    labeled = first.assign(reference=first["map_class"])
    assert assess.estimate(labeled, layers[0]).overall.value == 1
    with pytest.raises(InputError, match="some pixels have none"):
        assess.estimate(labeled.assign(plot=[None, *range(19)]), cluster="plot")
