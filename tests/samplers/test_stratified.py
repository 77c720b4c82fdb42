"""Stratified sampling: balanced classes, uniform over the pixels of a class, labels read once."""

import dask.array
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from geoxt.errors import GridError, InputError, LabelError
from geoxt.grid import coordinates, grid_of
from geoxt.regions.region import GridRegion
from geoxt.samplers import StratifiedSampler
from geoxt.samplers.strata import strata_of
from geoxt.samplers.streaming import stream
from geoxt.source import view_of
from geoxt.splits.balance import class_rows
from geoxt.testing import make_grid
from geoxt.windows import Window


def make_labels(values, **attrs):
    values = np.asarray(values, "uint8")
    attrs = {"flag_values": np.unique(values), **attrs}
    return xr.DataArray(values, dims=("y", "x"), coords=coordinates(make_grid(values.shape)), attrs=attrs, name="mask")


def rare(shape=(200, 220)):
    values = np.zeros(shape, "uint8")
    values[:, 100:] = 1
    values[37, 5], values[150, 215] = 2, 2
    values[80:84, 60:64] = 9
    return values


def test_rare_and_frequent_classes_are_equally_likely():
    values = rare()
    sampler = StratifiedSampler(make_labels(values), size=16, length=400, seed=1)
    assert sampler.strata.codes == (0, 1, 2, 9)
    assert sampler.strata.counts.tolist() == np.unique(values, return_counts=True)[1].tolist()
    codes, count = np.unique(sampler.codes, return_counts=True)
    assert count.tolist() == [100] * 4
    inside = [values[w.within(Window(0, 0, *values.shape))] for w in sampler]
    assert all((w == code).any() for w, code in zip(inside, sampler.codes, strict=True))
    assert {(int(w.row <= 37), w.col) for w, c in zip(sampler, sampler.codes, strict=True) if c == 2}
    weighted = StratifiedSampler(make_labels(values), size=16, length=300, weights={2: 2, 1: 1})
    assert np.unique(weighted.codes, return_counts=True)[1].tolist() == [100, 200]
    natural = StratifiedSampler(make_labels(values), size=16, length=1000, weights="natural")
    assert abs((natural.codes == 1).mean() - 120 / 220) < 0.01
    assert codes.tolist() == [0, 1, 2, 9]


def test_every_window_with_a_pixel_of_the_class_can_be_drawn():
    values = np.zeros((12, 14), "uint8")
    values[4, 5] = values[4, 8] = 3
    sampler = StratifiedSampler(make_labels(values), size=4, length=4000, weights={3: 1})
    drawn = {(w.row, w.col) for w in sampler}
    expected = {(r, c) for r in range(9) for c in range(11) if (values[r : r + 4, c : c + 4] == 3).any()}
    assert drawn == expected


@given(st.integers(1, 40), st.integers(0, 99))
def test_stored_pixels_belong_to_their_class_and_the_region(max_pixels, seed):
    values = np.random.default_rng(seed).choice(4, (30, 35), p=(0.5, 0.4, 0.08, 0.02)).astype("uint8")
    layer = make_labels(values)
    region = GridRegion(grid_of(layer), (Window(3, 4, 20, 11), Window(10, 20, 20, 15)))
    strata = strata_of(view_of(layer), region, max_pixels=max_pixels, seed=seed)
    inside = np.zeros(values.shape, bool)
    inside[3:23, 4:15] = inside[10:30, 20:35] = True
    for code, count, pixels in zip(strata.codes, strata.counts, strata.pixels, strict=True):
        assert count == (values == code)[inside].sum()
        assert len(pixels) == min(max_pixels, count) == len(np.unique(pixels, axis=0))
        assert (values[tuple(pixels.T)] == code).all()
        assert inside[tuple(pixels.T)].all()


def test_stored_pixels_are_a_uniform_sample_across_blocks(monkeypatch):
    """Chi-square of stored pixels over 400 seeds, on a layer of several blocks."""
    monkeypatch.setattr("geoxt.samplers.strata.stream", lambda view, region: stream(view, region, block=8))
    layer = make_labels(np.zeros((20, 20)))
    view, region = view_of(layer), GridRegion(grid_of(layer), (Window(0, 0, 20, 20),))
    count = np.zeros((20, 20), int)
    for seed in range(400):
        pixels = strata_of(view, region, max_pixels=30, seed=seed).pixels[0]
        count[tuple(pixels.T)] += 1
    expected = 400 * 30 / 400
    chi = ((count - expected) ** 2 / (expected * (1 - 30 / 400))).sum()
    assert abs(chi - 399) < 4 * np.sqrt(2 * 399)


def test_lazy_labels_are_read_once_block_by_block():
    reads = []
    values = np.zeros((2100, 1500), "uint8")
    values[2050, 1400] = 5

    def load(block_info=None):
        (a, b), (c, d) = block_info[None]["array-location"]
        reads.append((a, c))
        return values[a:b, c:d]

    array = dask.array.map_blocks(
        load, chunks=((1024, 1024, 52), (1024, 476)), dtype="uint8", meta=np.empty((0, 0), "uint8")
    )
    layer = xr.DataArray(
        array, dims=("y", "x"), coords=coordinates(make_grid(values.shape)), attrs={"flag_values": np.array([0, 5])}
    )
    sampler = StratifiedSampler(layer, size=32, length=10)
    assert sorted(reads) == sorted({(r, c) for r in (0, 1024, 2048) for c in (0, 1024)})
    sampler.at(5)
    assert len(reads) == 6
    assert [
        code in np.unique(values[w.within(Window(0, 0, *values.shape))])
        for w, code in zip(sampler, sampler.codes, strict=True)
    ]


def test_nodata_is_not_a_class_and_windows_stay_in_the_region():
    values = rare()
    layer = make_labels(values, _FillValue=0)
    region = GridRegion(grid_of(layer), (Window(0, 0, 100, 110),))
    sampler = StratifiedSampler(layer, size=16, length=60, region=region)
    assert sampler.strata.codes == (1, 2, 9)
    assert all(Window(0, 0, 100, 110).contains(w) for w in sampler)


def test_invalid_labels_raise():
    layer = make_labels(rare())
    image = make_labels(rare()).rename("image")
    image.attrs = {}
    assert len(StratifiedSampler(xr.Dataset({"a": image, "b": layer}), size=8, length=4)) == 4
    for options, error, message in (
        ({"labels": layer[1:]}, GridError, r"'mask' as labels: it lies on another grid.*align"),
        ({"labels": layer.expand_dims(time=2)}, InputError, r"2 time steps and 1 bands. Choose one"),
        ({"labels": "class"}, InputError, r"labels 'class' among \['image'\]"),
        ({}, InputError, r"of which 0 hold classes. Pass labels="),
        (
            {"labels": layer, "weights": {7: 1}},
            LabelError,
            r"Cannot draw class 7: the labels have pixels of \[0, 1, 2, 9\]",
        ),
        ({"labels": layer, "weights": "equal"}, LabelError, r"weights='equal'. Pass weights= 'balanced'"),
        ({"labels": layer, "max_pixels": 0}, InputError, r"max_pixels=0"),
        ({"labels": layer.where(False)}, LabelError, r"no valid pixel in the region"),
    ):
        with pytest.raises(error, match=message):
            StratifiedSampler(image, size=8, length=4, **options)


@pytest.mark.parametrize("unknown", [-1, -100, 255])
def test_unknown_codes_are_no_classes(unknown):
    values = np.full((40, 30), 3, "int16")
    values[:4], values[9:12] = 1, unknown
    labels = make_labels(np.zeros((40, 30)), flag_values=np.array([1, 3], "uint8")).copy(data=values)
    assert StratifiedSampler(labels, size=4, length=8).strata.codes == (1, 3)
    blocks = [[Window(0, 0, 20, 30)], [Window(20, 0, 20, 30)]]
    assert class_rows(labels, grid_of(labels), blocks) == [{1: 120, 3: 390}, {3: 600}]


def test_255_is_a_class_where_the_legend_has_it():
    values = np.full((40, 30), 3, "uint8")
    values[9:12] = 255
    assert StratifiedSampler(make_labels(values), size=4, length=8).strata.codes == (3, 255)
