"""Legends as values, CF attributes and color tables."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geoxt.errors import LabelError
from geoxt.legend import Legend, palette

CROPS = Legend((1, 21, 176), ("Corn", "Dbl Crop WinWht/Soybeans", "no_data"), ("#FFD200", "#6e6e00", "#e8ffbd"))

WORDS = st.text(st.characters(codec="ascii", categories=["L", "N"], include_characters="_/&()"), min_size=1).filter(
    lambda word: word.strip("_")
)
COLORS = st.integers(0, 0xFFFFFF).map("#{:06x}".format)


@st.composite
def legends(draw):
    codes = draw(st.lists(st.integers(-(2**31), 2**31), min_size=1, max_size=12, unique=True))
    sizes = {"min_size": len(codes), "max_size": len(codes)}
    return Legend(
        tuple(codes),
        tuple(draw(st.lists(WORDS, **sizes))),
        draw(st.one_of(st.just(()), st.tuples(*[COLORS] * len(codes)))),
    )


@given(legends())
def test_attributes_round_trip(legend):
    attrs = legend.attrs()
    assert Legend.of(xr.DataArray(0, attrs=attrs)) == legend
    assert len(attrs["flag_meanings"].split()) == len(attrs["flag_colors"].split()) == len(legend)


@given(legends())
def test_colormap_round_trips(legend):
    rebuilt = Legend.from_colormap(legend.colormap(), dict(zip(legend.codes, legend.names, strict=True)))
    assert rebuilt == legend.only(sorted(legend.codes)) or sorted(legend.codes) != list(legend.codes)
    assert rebuilt.colormap() == legend.colormap()


@given(legends(), st.data())
def test_encode_and_decode_equal_a_loop(legend, data):
    positions = data.draw(hnp.arrays(np.int64, (3, 4), elements=st.integers(0, len(legend) - 1)))
    codes = np.array([[legend.codes[i] for i in row] for row in positions])
    np.testing.assert_array_equal(legend.encode(codes), positions)
    np.testing.assert_array_equal(legend.decode(positions), codes)


def test_attributes_follow_cf():
    attrs = CROPS.attrs()
    assert attrs["flag_meanings"] == "Corn Dbl_Crop_WinWht/Soybeans no_data"
    assert attrs["flag_colors"] == "#ffd200 #6e6e00 #e8ffbd"
    assert attrs["flag_values"].dtype == np.uint8
    assert CROPS.names[2] == "no data"


def test_flag_values_may_be_lists_and_scalars():
    layer = xr.DataArray(0, attrs={"flag_values": [1, 2], "flag_meanings": "a b"})
    assert Legend.of(layer) == Legend((1, 2), ("a", "b"))
    assert Legend.of(xr.DataArray(0, attrs={"flag_values": 3})).names == ("3",)
    with pytest.raises(LabelError, match="no attribute flag_values"):
        Legend.of(xr.DataArray(0))


def test_colormap_without_names_skips_black():
    table = {0: (0, 0, 0, 255), 1: (255, 210, 0, 255), 2: (0, 0, 0, 255), 7: (0, 0, 1, 255)}
    assert Legend.from_colormap(table) == Legend((1, 7), ("1", "7"), ("#ffd200", "#000001"))
    assert Legend.from_colormap(table, {7: "sea"}, codes=[2, 7]).names == ("2", "sea")


def test_unknown_codes_raise_or_become_missing():
    values = np.array([[1, 176], [5, 200]])
    with pytest.raises(LabelError, match="5, 200 not among the legend's 3 codes"):
        CROPS.encode(values)
    assert CROPS.encode(values, missing=-1).tolist() == [[0, 2], [-1, -1]]
    assert CROPS.rgb(values).tolist() == [[[255, 210, 0], [232, 255, 189]], [[0, 0, 0], [0, 0, 0]]]
    assert (CROPS.name(21), CROPS.name(5)) == ("Dbl Crop WinWht/Soybeans", "5")
    assert CROPS.only([176, 1, 9]).codes == (1, 176)


def test_covering_adds_missing_codes_and_preserves_colors():
    covering = CROPS.covering([176, 5, 1, 7])
    assert (covering.codes, covering.names) == ((1, 176, 5, 7), ("Corn", "no data", "5", "7"))
    assert covering.colors[:2] == ("#ffd200", "#e8ffbd")
    assert len(set(covering.colors)) == 4
    recolored = Legend((1, 2), ("a", "b"), palette(2)[::-1]).covering([1, 2, 3])
    assert recolored.colors == (*palette(2)[::-1], palette(3)[2])
    assert Legend((), ()).covering([4, 2]) == Legend((4, 2), ("4", "2"))


def test_duplicate_names_get_the_code_appended():
    assert Legend((1, 5, 7), ("corn", "corn", "rice")).distinct_names == ("corn (1)", "corn (5)", "rice")
    assert len(set(Legend((1, 5, 7), ("corn", "corn", "corn (1)")).distinct_names)) == 3
    assert CROPS.distinct_names == CROPS.names


def test_codes_are_looked_up_by_name():
    legend = Legend((1, 5, 7), ("corn", "corn", "winter wheat"))
    names = ("winter_wheat", "corn (5)", *CROPS.names)
    assert [(legend if i < 2 else CROPS).code(name) for i, name in enumerate(names)] == [7, 5, 1, 21, 176]
    with pytest.raises(
        LabelError, match=r"'corn': the codes 1, 5 have this name\. Pass name=, one of corn \(1\), corn"
    ):
        legend.code("corn")
    with pytest.raises(LabelError, match=r"no such class\. .*Did you mean Corn"):
        CROPS.code("Korn")


def test_empty_legend_encodes_no_code():
    empty = Legend((), ())
    assert Legend.of(xr.DataArray(0, attrs=empty.attrs())) == empty
    assert empty.encode(np.array([[0, 3]]), missing=-1).tolist() == [[-1, -1]]
    assert empty.rgb(np.array([0, 3])).tolist() == [[0, 0, 0], [0, 0, 0]]
    with pytest.raises(LabelError, match="0, 3 not among the legend's 0 codes"):
        empty.encode(np.array([0, 3]))


def test_palette_colors_are_distinct_and_stable():
    assert len(set(palette(64))) == 64
    assert palette(5) == palette(64)[:5]


@pytest.mark.parametrize(
    ("codes", "names", "colors", "message"),
    [
        ((1, 2), ("a",), (), "2 codes, 1 names"),
        ((1, 1), ("a", "b"), (), "codes 1 are repeated"),
        ((1, 2), ("a", " "), (), "the name of code 2 is empty"),
        ((1, 2), ("a", "b"), ("#fff", "#000000"), "'#fff' is not a colour"),
        ((1, 2), ("a", "b"), ("#ffffff",), "1 colours"),
    ],
)
def test_inconsistent_legend_raises(codes, names, colors, message):
    with pytest.raises(LabelError, match=message):
        Legend(codes, names, colors)
