"""Samples that do not state their design or their map any more: missing rows and strata, other maps, other types."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from odc.geo.xr import wrap_xr

from geoxt import assess
from geoxt.errors import AssessmentWarning, GridError, InputError, LabelError
from geoxt.legend import Legend
from geoxt.testing import make_grid

LEGEND = Legend((1, 2, 5), ("water", "forest", "town"))
GRID = make_grid((40, 50))


@pytest.fixture(scope="module")
def layer():
    codes = np.random.default_rng(0).choice([0, 1, 2, 5], (40, 50), p=[0.1, 0.5, 0.3, 0.1]).astype("uint8")
    return wrap_xr(codes, GRID, nodata=0).assign_attrs(LEGEND.attrs()).rename("map")


@pytest.fixture
def sample(layer):
    drawn = assess.sample_design(layer, 60, allocation="equal", seed=0)
    return drawn.assign(reference=drawn["map_class"])


def test_missing_rows_count_as_pixels_without_reference(layer, sample):
    """The rest of a stratum has other weights than those of its inclusion probability."""
    part = sample.drop(sample.index[sample["stratum"] == "water"][:5]).copy()
    part.loc[part.index[part["stratum"] == "town"][:2], "reference"] = None
    text = r"7 of 60 .* no reference \(5 of their rows are missing from the sample\).*2 of 20 in 'town', 5 of 20 in 'wa"
    for pixels in (layer, None):
        with pytest.raises(InputError, match=text):
            assess.estimate(part, pixels)
        with pytest.warns(AssessmentWarning, match=text):
            table = assess.estimate(part, pixels, unlabeled="exclude")
        assert_allclose(table.area.value.sum(), (layer.values > 0).sum() * 0.09, rtol=1e-3)
    assert assess.estimate(part.drop(columns="probability").dropna(subset="reference"), layer).counts.sum() == 53


def test_missing_strata_raise(layer, sample):
    part = sample[sample["stratum"] != "town"]
    present = int(np.isin(layer.values, [1, 2]).sum())
    text = rf"\['forest', 'water'\] have {present:,} pixels.*drawn from {(layer.values > 0).sum():,}: rows of whole str"
    for pixels in (layer, None):
        with pytest.raises(InputError, match=text):
            assess.estimate(part, pixels)
    # samples without the column are compared with the map
    with pytest.warns(AssessmentWarning, match=rf"map has {(layer.values > 0).sum():,} valid pixels.*{present:,} "):
        assess.estimate(part.drop(columns="population_pixels"), layer)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.assign(probability=s["probability"] / 2),
            "contradicts the 20 sampled pixels .* of the stratum 'forest'",
        ),
        (lambda s: s.assign(probability=np.linspace(0.1, 0.2, 60)), "the inclusion probability .* contradicts the"),
        (lambda s: s.assign(probability="x"), "the inclusion probability nan contradicts"),
        (lambda s: s.assign(population_pixels=np.arange(60)), "population_pixels has several values"),
        (lambda s: s.assign(population_pixels=None), "drawn from nan"),
    ],
)
def test_contradicting_designs_raise(layer, sample, change, message):
    with pytest.raises(InputError, match=message):
        assess.estimate(change(sample), layer)


def test_pixels_without_stratum_are_counted(layer):
    west = np.where(np.arange(50) < 20, 1, 0)[None].repeat(40, 0).astype("uint8")
    strata = wrap_xr(west, GRID, nodata=0)
    outside, total = int((layer.values[:, 20:] > 0).sum()), int((layer.values > 0).sum())
    with pytest.warns(AssessmentWarning, match=rf"{outside:,} of {total:,} pixels of the map .* belong to no stratum"):
        drawn = assess.sample_design(layer, 30, strata=strata, seed=0)
    assert (drawn["population_pixels"] == total - outside).all()
    drawn["reference"] = drawn["map_class"]
    with pytest.warns(
        AssessmentWarning, match=rf"The map has {total:,} valid pixels .* sample have {total - outside:,} "
    ):
        table = assess.estimate(drawn, layer)
    assert_allclose(table.area.value.sum(), (total - outside) * 0.09, rtol=1e-3)
    fewer = layer.assign_attrs(Legend((1, 2), ("water", "forest")).attrs())
    for design in ("classes", None, strata.where(strata > 0, 2)):
        with pytest.warns(AssessmentWarning, match=r"pixels of the map .*lacks their codes|belong to no stratum"):
            drawn = assess.sample_design(fewer, 30, strata=design, seed=0)
        assert {*drawn["map_class"]} == {"water", "forest"}


def test_maps_of_another_extent_are_compared(layer, sample):
    """The sample's map is the upper left part of a larger map, on its grid or with smaller pixels."""
    larger = np.full((60, 80), 2, "uint8")
    larger[:40, :50] = layer.values
    larger = wrap_xr(larger, make_grid((60, 80)), nodata=0).assign_attrs(LEGEND.attrs())
    assert larger.odc.geobox.affine == GRID.affine
    with pytest.warns(AssessmentWarning, match=r"The map has 4,\d+ valid pixels \(4\d\d\.\d+ ha\), and the strata of"):
        assess.estimate(sample, larger)
    fine = wrap_xr(np.kron(layer.values, np.ones((2, 2), "uint8")), GRID.zoom_out(0.5), nodata=0)
    same = assess.estimate(sample, fine.assign_attrs(LEGEND.attrs()))
    assert_allclose(same.area.value, assess.estimate(sample, layer).area.value)


def test_totals_of_maps_with_other_pixels_raise(layer):
    """The mean of the map is that of its valid pixels."""
    strata = wrap_xr(np.ones((40, 50), "uint8"), GRID)
    numbers = wrap_xr(np.linspace(0, 10, 2000, dtype="float32").reshape(40, 50), GRID)
    drawn = assess.sample_design(strata, 60, seed=0)
    drawn["reference"] = numbers.values[drawn["row"], drawn["col"]].astype(float)
    assert_allclose(assess.estimate(drawn, numbers).mean.value, 5, rtol=1e-3)
    free = np.ones((40, 50), bool)
    free[drawn["row"], drawn["col"]] = False
    with pytest.raises(InputError, match=r"the mean and total of the reference .* has 60 valid pixels"):
        assess.estimate(drawn, numbers.where(~free))
    free.ravel()[np.flatnonzero(free)[10:]] = False
    with pytest.warns(AssessmentWarning, match=r"The map has 1,990 valid pixels .* sample have 2,000 "):
        assess.estimate(drawn, numbers.where(~free))
    two = numbers.expand_dims(band=["a", "b"]).copy()
    with pytest.raises(GridError, match="2 bands"):
        assess.estimate(drawn, two)


def test_numbers_and_classes_are_not_mixed_up(layer, sample):
    heights = sample.assign(reference=np.linspace(0, 30, 60))
    unnamed = layer.copy()
    unnamed.attrs = {"nodata": 0}
    for pixels in (layer, unnamed):
        with pytest.raises(InputError, match=r"the map has classes, and the reference has fractions.*astype\('float32"):
            assess.estimate(heights, pixels)
    with pytest.raises(LabelError, match="dtype float32 as classes"):
        assess.estimate(sample, layer.astype("float32").assign_attrs(LEGEND.attrs()))
    many = wrap_xr(np.arange(1, 2001, dtype="int16").reshape(40, 50), GRID)
    with pytest.raises(InputError, match="the map has 2,000 different integers, without names"):
        assess.estimate(sample.assign(reference=1), many)


def test_codes_need_the_legend_of_the_map(layer, sample):
    codes = dict(zip(LEGEND.names, LEGEND.codes, strict=True))
    for as_code in (int, float, str, lambda code: f"{code}.0"):
        coded = sample.assign(reference=[as_code(codes[name]) for name in sample["reference"]])
        with pytest.raises(InputError, match=r"the reference has codes, such as 1, and the column map_class has names"):
            assess.estimate(coded)
        with pytest.warns(AssessmentWarning, match="The reference has codes"):
            assert assess.estimate(coded, layer).overall.value == 1


def test_names_that_are_codes_of_other_classes_raise(layer, sample):
    digits = layer.assign_attrs(Legend((1, 2, 5), ("2", "5", "11")).attrs())
    with pytest.raises(InputError, match=r"the reference '\d' is a name of the map's legend, and the code of '"):
        assess.estimate(sample.assign(reference=layer.values[sample["row"], sample["col"]]), digits)
    tens = layer.assign_attrs(Legend((1, 2, 5), ("10", "20", "50")).attrs())
    numbers = sample.assign(reference=10 * layer.values[sample["row"], sample["col"]])
    assert assess.estimate(numbers, tens).overall.value == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.assign(reference=s["reference"].str.upper()), "'FOREST' is spelled 'forest' in the map"),
        (lambda s: s.assign(reference="lake"), r"no class of the reference, \['lake'\], is a class of the map"),
        (lambda s: s.assign(reference=-9999), "reference -9999 is neither a code nor a name"),
        (lambda s: s.assign(stratum_area=s["stratum_area"] * 10), "stratum_area of .* ha, and a pixel_area is 0.09"),
        (lambda s: s.assign(pixel_area=900.0), "and a pixel_area is 900"),
    ],
)
def test_references_and_areas_that_are_not_those_of_the_map_raise(layer, sample, change, message):
    with pytest.raises(InputError, match=message):
        assess.estimate(change(sample), layer)


@pytest.mark.parametrize("column", ["stratum", "map_class", "probability"])
def test_columns_of_the_design_are_no_reference(sample, column):
    with pytest.raises(InputError, match=f"the column '{column}' as the reference"):
        assess.estimate(sample, reference=column)


def test_texts_of_missing_values_are_no_classes(layer, sample):
    texts = sample["reference"].where(sample.index > 3).astype(str)
    with pytest.raises(InputError, match="4 of 60 sampled pixels have no reference"):
        assess.estimate(sample.assign(reference=texts), layer)


def test_tables_of_text_give_the_same_estimates(sample, tmp_path):
    path = tmp_path / "sample.csv"
    sample.drop(columns="geometry").to_csv(path, index=False)
    assert_allclose(assess.estimate(path).area.value, assess.estimate(sample).area.value)


def test_counts_with_totals_raise():
    table = np.array([[66, 2], [4, 55]])
    margins = np.block([[table, table.sum(1, keepdims=True)], [table.sum(0), table.sum()]])
    with pytest.raises(InputError, match="last row and column are the sums of the others"):
        assess.estimate_from_counts(margins, [2000, 1500, 3500])


def test_classes_without_sampled_map_pixels_may_be_mapped():
    """One stratum of several classes: 0 of 5 pixels of the last class were mapped as it."""
    counts = np.zeros((1, 3, 3), int)
    counts[0] = [[40, 2, 3], [1, 30, 2], [0, 0, 0]]
    table = assess.estimate_from_counts(counts, [10_000])
    assert table.producers.value[2] == table.producers.lower[2] == 0
    assert 0.2 < table.producers.upper[2] < 0.7
    assert assess.estimate_from_counts(counts[0, :2, :2], [6000, 4000]).producers.upper[1] < 1


def test_a_constant_reference_has_no_r2():
    numbers = wrap_xr(np.linspace(0, 10, 2000, dtype="float32").reshape(40, 50), GRID)
    drawn = assess.sample_design(wrap_xr(np.ones((40, 50), "uint8"), GRID), 60, seed=0).assign(reference=5.0)
    table = assess.estimate(drawn, numbers)
    assert np.isnan([table.r2.value, table.r2.se]).all()


def test_areas_of_strata_are_known_on_geographic_grids():
    """Pixels of 0 to 60 degrees north differ in area by a factor of 2: right labels give the areas of the strata."""
    grid = make_grid((120, 60), crs="EPSG:4326", resolution=0.5, left=0, top=60)
    codes = np.random.default_rng(0).choice([1, 2], (120, 60), p=[0.7, 0.3]).astype("uint8")
    codes[60:] = 3 - codes[60:]
    layer = wrap_xr(codes, grid).assign_attrs(Legend((1, 2), ("forest", "crop")).attrs())
    drawn = assess.sample_design(layer, 60, seed=0)
    strata = drawn.drop_duplicates("stratum").set_index("stratum")["stratum_area"]
    right = assess.estimate(drawn.assign(reference=drawn["map_class"]), layer)
    assert_allclose(right.area.value, strata[list(right.classes)])
    assert_allclose(right.area.se / right.area.value, 0, atol=1e-9)
    wrong = drawn["map_class"].where(drawn.index % 5 > 0, "crop")
    table = assess.estimate(drawn.assign(reference=wrong), layer)
    assert_allclose(table.mapped_area, strata[list(table.classes)])
    # separate ratio estimator: Cochran 1977, equation 6.49
    variance = area = 0.0
    for name, part in drawn.groupby("stratum"):
        hit, size = (wrong[part.index] == "crop").to_numpy(), part["pixel_area"].to_numpy()
        share, count, total = (hit * size).sum() / size.sum(), len(part), part["stratum_pixels"].iloc[0]
        area += strata[name] * share
        spread = (((hit - share) * size) ** 2).sum() / (count - 1) / size.mean() ** 2
        variance += strata[name] ** 2 * (1 - count / total) * spread / count
    crop = table.classes.index("crop")
    assert_allclose([table.area.value[crop], table.area.se[crop]], [area, np.sqrt(variance)])


def test_nodata_values_are_no_reference_numbers():
    numbers = wrap_xr(np.linspace(0, 10, 2000, dtype="float32").reshape(40, 50), GRID, nodata=-9999)
    drawn = assess.sample_design(wrap_xr(np.ones((40, 50), "uint8"), GRID), 60, seed=0).assign(reference=5.0)
    drawn.loc[:2, "reference"] = -9999
    with pytest.raises(InputError, match="3 of 60 reference numbers are -9999, the nodata value"):
        assess.estimate(drawn, numbers)
