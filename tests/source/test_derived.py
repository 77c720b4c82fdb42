"""Validity and attributes of layers after arithmetic: those of the numbers, not those of the stored ones."""

import itertools
from contextlib import nullcontext

import numpy as np
import pytest
import xarray as xr

import geoxt
from geoxt.errors import InputError, OverflowWarning
from geoxt.grid import full_window, grid_of
from geoxt.legend import Legend
from geoxt.source import is_categorical, nodata_of, resolve_attrs, view_of
from geoxt.testing import make_grid, write_cog

GRID = make_grid((12, 16))
CODES = np.where(np.arange(16) < 4, 0, np.where(np.arange(16) < 9, 1, 5)) * np.ones((12, 1), int)
STORED = np.stack([CODES * 3000, CODES * 700 + 9]).astype("uint16")
VALID = np.array([CODES > 0, np.ones_like(CODES, bool)])


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    folder, count = tmp_path_factory.mktemp("derived"), itertools.count()
    return lambda values, **options: str(
        write_cog(folder / f"{next(count)}.tif", values, grid=GRID, **{"tiled": False, **options})
    )


@pytest.fixture(scope="module")
def image(write):
    return geoxt.open_cogs(write(STORED, nodata=0, bands=["B4", "B5"]), chunks=5)


@pytest.fixture(scope="module")
def crops(write):
    colors = {1: "#010203", 5: "#00ff00"}
    return geoxt.open_cogs(write(CODES[None].astype("uint8"), nodata=0, names={1: "corn", 5: "soy"}, colors=colors))


def valid_of(layer):
    return view_of(layer).read(full_window(grid_of(layer)))[1][0]


BOTH = VALID.all(0)[None]
OPERATIONS = {
    "times one": (lambda a: a * 1, VALID),
    "to reflectance": (lambda a: a.astype("float32") / 255 - 0.2, VALID),
    "cast": (lambda a: a.astype("float32"), VALID),
    "comparison": (lambda a: a == 3000, VALID),
    "ratio of bands": (lambda a: (a.sel(band="B5") / 1.0 - a.sel(band="B4")) / a.sel(band="B5"), BOTH),
    "one band after": (lambda a: (a * 2).sel(band="B5"), VALID[1:]),
    "one band before": (lambda a: a.sel(band="B5") * 2, VALID[1:]),
    "reversed bands": (lambda a: (a * 2).isel(band=[1, 0]), VALID[::-1]),
    "mean of bands": (lambda a: a.mean("band"), BOTH),
    "transposed": (lambda a: (a * 2).transpose("y", "x", "band"), VALID),
    "rechunked": (lambda a: (a * 2).chunk({"y": 3, "x": 7}) + 1, VALID),
    "clipped": (lambda a: a.clip(0, 10), VALID),
    "appended ratio": (
        lambda a: xr.concat([a / 2, (a.sel(band="B4") / 2).expand_dims(band=["half"])], "band"),
        VALID[[0, 1, 0]],
    ),
    "neighbours": (lambda a: a.astype("int32") - (a * 1).roll(x=1), VALID & np.roll(VALID, 1, 2)),
    "masked": (lambda a: a.where(a != 0) * 2, VALID),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_pixel_is_valid_after_arithmetic_where_its_sources_are(image, name):
    function, expected = OPERATIONS[name]
    derived = function(image)
    assert np.array_equal(valid_of(derived), expected)
    computed = resolve_attrs(derived).compute()
    assert np.array_equal(valid_of(computed), expected)
    valid = np.squeeze(expected)
    known = derived.transpose(..., "y", "x").values
    assert np.array_equal(computed.transpose(..., "y", "x").values[valid], known[valid])


def test_windows_after_arithmetic_equal_part_of_whole(image):
    part = (image * 1).isel(y=slice(2, 9), x=slice(3, 12))
    assert np.array_equal(valid_of(part), VALID[:, 2:9, 3:12])
    assert np.array_equal(valid_of(image.isel(y=slice(2, 9), x=slice(3, 12)) * 1), VALID[:, 2:9, 3:12])


def test_written_map_after_arithmetic_keeps_validity(image, tmp_path):
    geoxt.to_cog(image.astype("float32") / 255 - 0.2, tmp_path / "a.tif", progress=False)
    assert np.array_equal(valid_of(geoxt.open_cogs(str(tmp_path / "a.tif"))), VALID)


def test_binary_mask_of_class_codes_has_both_classes(image, crops):
    corn = (crops == 1).astype("uint8")
    for mask in (corn, crops.isin([1, 7]).astype("uint8")):
        ds = geoxt.intersection(image=image, mask=mask, grid="image")
        values, valid = view_of(ds.mask).read(full_window(GRID))
        assert np.array_equal(valid[0, 0], CODES > 0)
        assert np.array_equal(values[0, 0][CODES > 0], (CODES == 1)[CODES > 0])
    assert is_categorical(resolve_attrs(corn))
    assert len(Legend.of(resolve_attrs(corn))) == 0
    assert "flag_values" not in resolve_attrs(crops * 0.5).attrs


@pytest.mark.parametrize(
    "function",
    [lambda a: a, lambda a: a.compute(), lambda a: a.persist(), lambda a: a.chunk(3), lambda a: a.isel(y=slice(1, 9)),
     lambda a: xr.concat([a, a], "band"), lambda a: a.to_dataset(name="q")["q"], lambda a: a.astype("int32")],
)  # fmt: skip
def test_unchanged_numbers_keep_their_attributes(image, function):
    layer = function(image)
    assert resolve_attrs(layer).attrs == image.attrs
    assert nodata_of(layer) == 0


@pytest.mark.parametrize(
    "function",
    [
        lambda a: xr.DataArray(a.data, dims=a.dims, coords=a.coords),
        lambda a: a.astype("int32", keep_attrs=False).assign_coords(spatial_ref=a.spatial_ref),
        lambda a: a.drop_attrs(deep=False),
        lambda a: a.drop_attrs(deep=False).isel(x=slice(0, 16)),
        lambda a: xr.concat([a, a], "t", combine_attrs="drop").isel(t=0),
    ],
)
def test_nodata_lost_with_the_attributes_is_that_of_the_file(image, function):
    assert (valid_of(function(image)) == VALID).all()


@pytest.mark.parametrize("memory", ["compute", "persist"])
@pytest.mark.parametrize(
    "function",
    [
        lambda a: a.drop_attrs(deep=False),
        lambda a: xr.concat([a, a], "time", combine_attrs="drop"),
        lambda a: xr.concat([a, a.assign_attrs(_FillValue=9)], "time", combine_attrs="drop_conflicts"),
        lambda a: a.drop_attrs(deep=False).isel(band=[0, 1]),
    ],
)
def test_nodata_that_a_computed_layer_lost_is_an_error(image, memory, function):
    layer = function(getattr(image, memory)())
    with pytest.raises(InputError, match=r"it had the nodata value 0, and .* layer.assign_attrs\(_FillValue=0\)"):
        view_of(layer)
    assert np.array_equal(valid_of(layer.assign_attrs(_FillValue=0))[:2], VALID)
    assert valid_of(layer.drop_encoding()).all()


def test_nodata_that_the_user_assigns_is_kept(image):
    layer = (image == 3000).astype("uint8").assign_attrs(_FillValue=7)
    assert resolve_attrs(layer).attrs["_FillValue"] == 7
    assert valid_of(layer).all()
    masked = (image.compute().where(image.compute() != 0) * 2).assign_attrs(_FillValue=float("nan"))
    assert np.array_equal(valid_of(masked), VALID)


@pytest.mark.parametrize(
    "function",
    [
        lambda a: a.compute() * 2,
        lambda a: (a.persist() == 3000).astype("uint8"),
        lambda a: (a * 1.0).rolling(x=3, center=True).mean(),
        lambda a: a.coarsen(x=2, y=2).mean(),
    ],
)
def test_unknown_validity_raises(image, function):
    with pytest.raises(InputError, match="Cannot tell the valid pixels"):
        view_of(function(image))


def test_neighbours_of_layers_with_nan_are_allowed(write):
    values = np.where(CODES > 0, CODES, np.nan).astype("float32")[None]
    layer = geoxt.open_cogs(write(values))
    assert np.array_equal(valid_of(layer - layer.roll(x=1))[0], np.isfinite(values - np.roll(values, 1, 2))[0])
    assert np.array_equal(valid_of(layer > 1)[0], CODES > 0)


def test_scales_are_applied_once(image):
    stored = image.assign_attrs(scales=[2e-5, 2e-5], offsets=[-0.2, -0.2], radiometry="as stored: …")
    stored.encoding = image.encoding
    expected = STORED.astype("float64") * 2e-5 - 0.2
    ndvi = (expected[1] - expected[0]) / (expected[1] + expected[0])
    index = geoxt.indices.append(stored, "ndvi", bands={"red": "B4", "nir": "B5"}).isel(band=-1)
    assert np.allclose(index.values[CODES > 0], ndvi[CODES > 0], rtol=1e-4)


@pytest.mark.parametrize(
    ("function", "wraps"),
    [
        (lambda a: (a.sel(band="B5") - a.sel(band="B4")) / (a.sel(band="B5") + a.sel(band="B4")), True),
        (lambda a: np.subtract(a.sel(band="B5"), a.sel(band="B4")), True),
        (lambda a: a.diff("band"), True),
        (lambda a: a - a.isel(band=0, drop=True), True),
        (lambda a: (a.chunk(y=3).sel(band="B5") - a.chunk(y=3).sel(band="B4")).astype("float32"), True),
        (lambda a: a.astype("float32").diff("band"), False),
        (lambda a: a.where(a != 0).diff("band"), False),
        (lambda a: a - 0.5, False),
        (lambda a: a - 9, False),
        (lambda a: a * 2.75e-5 - 0.2, False),
        (lambda a: (a / 2).sel(band="B5") - (a / 2).sel(band="B4"), False),
        (lambda a: a.sel(band="B5") + a.sel(band="B4"), False),
    ],
)
def test_differences_of_unsigned_pixels_are_warned_of(image, function, wraps):
    derived = function(image)
    with pytest.warns(OverflowWarning, match="differences of uint16 pixels") if wraps else nullcontext():
        resolve_attrs(derived)


def test_differences_of_class_codes_are_not_warned_of(crops):
    resolve_attrs(crops - crops)
