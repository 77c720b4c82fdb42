"""Composites against NumPy; mosaics whose windows and chunks are bit-equal to the whole."""

import numpy as np
import pytest
from dask.base import tokenize
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from geoxt.errors import InputError
from geoxt.grid import full_window
from geoxt.layers import open_cogs
from geoxt.source import view_of
from geoxt.source.composite import compose
from geoxt.testing import distinct, make_grid
from geoxt.windows import Window

ORACLE = {"mean": np.nanmean, "median": np.nanmedian, "min": np.nanmin, "max": np.nanmax}
GRID = make_grid((40, 50))


@given(
    arrays.arrays("float64", (4, 1, 3, 5), elements=st.floats(-1e6, 1e6)),
    arrays.arrays(bool, (4, 1, 3, 5)),
    st.sampled_from(sorted(ORACLE)),
)
def test_composite_equals_numpy_over_valid_pixels(values, valid, method):
    composite, valid_mask = compose(zip(values, valid, strict=True), method)
    assert np.array_equal(valid_mask, valid.any(0))
    exact = ORACLE[method](np.where(valid, values, np.nan)[:, valid_mask], axis=0) if valid_mask.any() else []
    assert np.allclose(composite[valid_mask], exact, rtol=1e-12, atol=1e-9)


def test_compose_without_masks_and_without_images():
    images = [(np.full((1, 1, 1), v), None) for v in (1.0, 5.0, 3.0, 9.0)]
    assert [compose(iter(images), method)[0].item() for method in ("mean", "median", "min", "max")] == [
        4.5,
        4.0,
        1.0,
        9.0,
    ]
    assert all(compose(iter([]), method) is None for method in ORACLE)
    with pytest.raises(InputError, match="Cannot compose scenes by 'best'"):
        compose(iter(images), "best")


@pytest.fixture(scope="module")
def files(write):
    rng = np.random.default_rng(5)
    grids = [make_grid((40, 50), left=600_000 + 300 * n) for n in range(3)]
    paths, stack = [], []
    for number, grid in enumerate(grids):
        values = (distinct((2, 40, 50), "int32") * 7 + 1000 * number).astype("uint16")
        values = np.where(rng.random(values.shape) < 0.3, 0, values).astype("uint16")
        paths.append(write(values, grid, nodata=0))
        full = np.full((2, 40, 70), np.nan)
        full[:, :, 10 * number : 10 * number + 50] = np.where(values == 0, np.nan, values)
        stack.append(full)
    return paths, np.array(stack)


@pytest.mark.parametrize("method", ORACLE)
def test_mosaic_composite_equals_numpy_over_scenes(files, method):
    paths, stack = files
    layer = open_cogs(paths, composite=method)
    with np.errstate(all="ignore"):
        valid = ~np.isnan(stack).all(0)
        exact = np.zeros(valid.shape)
        exact[valid] = np.rint(ORACLE[method](stack[:, valid], axis=0))
    values, valid_mask = view_of(layer).read(full_window(layer.geoml.grid))
    assert layer.dtype == "uint16"
    assert np.array_equal(valid_mask[0], valid)
    assert np.array_equal(values[0], exact.astype("uint16"))


@pytest.mark.parametrize("method", ["mean", "median", "max"])
def test_windows_and_chunks_equal_part_of_whole(files, method):
    options = {"crs": "EPSG:5070", "resolution": 37, "composite": method, "rescale": method == "mean"}
    layer = open_cogs(files[0], **options)
    values, valid = view_of(layer).read(full_window(layer.geoml.grid))
    for size in (7, 33):
        chunks = open_cogs(files[0], chunks=size, **options).compute(scheduler="synchronous").values
        assert np.array_equal(chunks, values[0], equal_nan=options["rescale"])
    window = Window(11, 13, 20, 9)
    part, valid_mask = view_of(layer).read(window)
    assert np.array_equal(
        part, values[:, :, *window.within(full_window(layer.geoml.grid))], equal_nan=options["rescale"]
    )
    assert np.array_equal(valid_mask, valid[:, :, *window.within(full_window(layer.geoml.grid))])


def test_options_that_change_pixels_change_the_token(files):
    sources = [view_of(open_cogs(files[0], **o)).source for o in ({}, {"composite": "min"}, {"rescale": True})]
    assert len({tokenize(source) for source in sources}) == 3
    assert tokenize(view_of(open_cogs(files[0], composite="min")).source) == tokenize(sources[1])
    assert not sources[1].stackable(sources[1])
    assert sources[0].stackable(sources[0])
    assert sources[2].stackable(sources[2])


def test_composite_has_the_requested_dtype(files):
    view = view_of(open_cogs(files[0], composite="mean"))
    values, _ = view.read(Window(0, 0, 40, 70), dtype=np.dtype("float32"))
    assert values.dtype == "float32"
    assert np.array_equal(values, np.rint(values))


def test_median_of_class_codes_raises(write):
    path = write(distinct((40, 50), "uint8"), GRID, colors={1: "#ff0000", 2: "#00ff00"})
    with pytest.raises(InputError, match="Cannot take the median of class codes. Pass composite="):
        open_cogs(path, composite="median")
