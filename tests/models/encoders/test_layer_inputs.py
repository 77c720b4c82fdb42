"""Bands of a layer for an encoder: matched by name, missing, surplus and ambiguous bands; units; date and location."""

import math

import numpy as np
import pytest
import xarray as xr

from geoxt.errors import InputError
from geoxt.grid import coordinates
from geoxt.models.encoders.band_metadata import SENTINEL2, band_metadata_of
from geoxt.models.encoders.layer_inputs import context_of, layer_inputs
from geoxt.testing import make_grid

NAMES = ("B02", "B03", "B04", "VV", "VH")
GROUPS = (("B02", "B03", "B04"), ("VV", "VH"))


def layer(*names, common=None, wavelengths=None, time=None, **attrs):
    coords = {**coordinates(make_grid((4, 4))), "band": list(names)}
    if common:
        coords["common_name"] = ("band", list(common))
    if wavelengths:
        coords["wavelength"] = ("band", list(wavelengths))
    if time is not None:
        coords["time"] = np.array(time, "datetime64[ns]")
    return xr.DataArray(np.zeros((len(names), 4, 4)), dims=("band", "y", "x"), coords=coords, attrs=attrs)


def match(bands, *, names=NAMES, units=None, missing="raise", groups=(), factor=10_000.0):
    units = units or tuple("decibel" if name in ("VV", "VH") else "reflectance" for name in names)
    metadata = tuple(band_metadata_of(name, None) for name in names)
    return layer_inputs(
        bands, model="m", names=names, metadata=metadata, units=units, factor=factor, missing=missing, groups=groups
    )


def test_bands_are_taken_in_the_order_of_the_model():
    inputs = match(layer("VV", "B04", "B8A", "B02", "VH", "B03"))
    assert inputs.bands == NAMES
    assert inputs.channels == (0, 1, 2, 3, 4)
    assert inputs.notes == ("Dropped bands that the model does not take: B8A.",)


def test_bands_are_matched_by_common_name_and_wavelength():
    inputs = match(layer("b1", "b2", "b3", common=["red", "blue", "green"]), names=NAMES[:3])
    assert inputs.bands == ("b2", "b3", "b1")
    assert match(["red", "green", "blue"], names=NAMES[:3]).bands == ("blue", "green", "red")
    by_wavelength = layer("b1", "b2", "b3", wavelengths=[0.665, 0.559, 0.493])
    assert match(by_wavelength, names=NAMES[:3]).bands == ("b3", "b2", "b1")


def test_a_name_of_another_meaning_is_refused():
    with pytest.raises(InputError, match="'B02'.*blue in the model, and green in the layer"):
        match(layer("B02", "B03", "B04", common=["green", "red", "nir08"]), names=NAMES[:3])


@pytest.mark.parametrize(
    ("bands", "absent"),
    [(("B02", "B04", "VV", "VH"), "'B03'"), (("B02", "B03", "B04"), "'VV', 'VH'"), (("B11",), "'B02', 'B03'.*'VH'")],
)
def test_missing_bands_are_named(bands, absent):
    with pytest.raises(InputError, match=f"has no band {absent}, only {', '.join(bands)}"):
        match(layer(*bands))


def test_missing_bands_are_filled_only_on_request():
    inputs = match(layer("B04", "VV", "B02", "VH"), missing="mean")
    assert inputs.bands == ("B02", "B04", "VV", "VH")
    assert inputs.channels == (0, 2, 3, 4)
    assert inputs.filled == ("B03",)
    assert inputs.notes == ("Filled with the mean of the training data: B03.",)
    with pytest.raises(InputError, match="has no band"):
        match(layer("B11"), missing="mean")
    with pytest.raises(InputError, match="missing='zero'"):
        match(layer(*NAMES), missing="zero")


def test_a_group_is_left_out_as_a_whole():
    inputs = match(layer("B02", "B03", "B04"), groups=GROUPS)
    assert inputs.channels == (0, 1, 2)
    assert inputs.notes == ("Not passed to the model: VV, VH.",)
    with pytest.raises(InputError, match="has no band 'VH', only"):
        match(layer("B02", "B03", "B04", "VV"), groups=GROUPS)


def test_ambiguous_and_unnamed_bands_are_refused():
    with pytest.raises(InputError, match="have its common name"):
        match(layer("a", "b", "c", "d", common=["blue", "blue", "green", "red"]), names=NAMES[:3])
    with pytest.raises(InputError, match="without names of bands"):
        match(layer("a").drop_vars("band"))
    for bands in ("B02", (), ("B02", "B02")):
        with pytest.raises(InputError, match="Cannot match the bands"):
            match(bands)


def test_stored_numbers_are_converted_by_scale_and_offset():
    attrs = {"scales": [1e-4, 1e-4, 2e-4], "offsets": [-0.1, 0.0, 0.0]}
    inputs = match(layer("B04", "B03", "B02", **attrs), names=NAMES[:3])
    assert inputs.scale == (2.0, 1.0, 1.0)
    assert inputs.offset == (0.0, 0.0, -1000.0)  # baseline 04.00 of B04
    assert inputs.notes == ("Values are converted to the units of the model.",)


def test_scales_of_selected_bands_are_those_of_all_or_refused():
    image = layer("B04", "B03", "B02", scales=[1e-4] * 3, offsets=[-0.1] * 3)
    assert match(image.sel(band=["B02", "B03"]), names=("B02", "B03")).offset == (-1000.0, -1000.0)
    differing = layer("B04", "B03", "B02", scales=[2e-4, 1e-4, 1e-4], offsets=[0.0] * 3)
    with pytest.raises(InputError, match="states 3 scales, and has other bands.*rescale=True"):
        match(differing.sel(band=["B02", "B04"]), names=("B02", "B04"))


def test_reflectance_is_converted_and_plain_numbers_are_not():
    assert match(layer(*NAMES[:3], units="1"), names=NAMES[:3]).scale == (10_000.0,) * 3
    plain = match(layer(*NAMES[:3]), names=NAMES[:3])
    assert plain.scale == (1.0,) * 3
    assert plain.notes == ()


@pytest.mark.parametrize(
    ("units", "attrs", "text"),
    [
        ("decibel", {"units": "1"}, "takes backscatter in dB"),
        ("reflectance", {"units": "dB"}, "values in dB"),
        ("byte", {"units": "1"}, "takes bytes"),
        ("byte", {"scales": [1e-4], "offsets": [0.0]}, "takes bytes"),
        ("stored", {"units": "1"}, "takes stored numbers"),
    ],
)
def test_other_units_are_refused(units, attrs, text):
    with pytest.raises(InputError, match=text):
        match(layer("B02", **attrs), names=("B02",), units=(units,))


@pytest.mark.parametrize(
    ("units", "dtype", "attrs", "text"),
    [
        ("byte", "uint16", {}, "layer of uint16.*8-bit images"),
        ("byte", "int32", {}, "layer of int32"),  # widened for a nodata value
        ("reflectance", "uint8", {}, "layer of 8-bit images.*takes reflectance"),
    ],
)
def test_data_types_of_other_units_are_refused(units, dtype, attrs, text):
    with pytest.raises(InputError, match=text):
        match(layer("B02", **attrs).astype(dtype), names=("B02",), units=(units,))


def test_bytes_have_a_largest_value():
    assert match(layer("B02").astype("int16"), names=("B02",), units=("byte",)).valid_max == (255.0,)
    scaled = layer("B02", scales=[1 / 255], offsets=[0.0]).astype("uint8")
    assert match(scaled, names=("B02",), units=("reflectance",)).valid_max == ()
    mixed = layer("B03", "B02", scales=[1e-4, 1.0], offsets=[0.0, 0.0]).astype("uint16")
    assert match(mixed, names=("B02", "B03"), units=("byte", "stored")).valid_max == (255.0, None)


def test_decibels_pass():
    assert match(layer("VV", "VH", units="dB"), names=("VV", "VH")).offset == (0.0, 0.0)


def any_bands(bands):
    return layer_inputs(
        bands, model="m", names=None, metadata=(), units=("reflectance",), factor=10_000.0, missing="raise"
    )


def test_a_model_of_any_bands_takes_stated_wavelengths_first():
    inputs = any_bands(layer("a", "red", "VV", common=["", "", "vv"], wavelengths=[0.9, math.nan, math.nan], units="1"))
    assert [f.wavelength for f in inputs.metadata[:2]] == [0.9, SENTINEL2["B04"].wavelength]
    assert math.isnan(inputs.metadata[2].wavelength)
    assert inputs.channels == (0, 1, 2)


def test_a_band_without_wavelength_is_named():
    with pytest.raises(InputError, match="'dem'.*the layer states none"):
        any_bands(layer("red", "dem"))


def test_context_is_that_of_the_layer():
    grid = make_grid((4, 4))
    context = context_of(layer("B02", time="2024-06-30"), dates=1)
    lon, lat = grid.extent.to_crs("EPSG:4326").centroid.coords[0]
    assert context.time == ("2024-06-30",)
    np.testing.assert_allclose(context.location, (lon, lat), atol=1e-6)
    assert context.gsd == pytest.approx(abs(grid.affine.a))
    assert context_of(["B02"], dates=1).location is None


def test_dates_are_unknown_if_their_number_differs():
    series = xr.concat([layer("B02", time=day) for day in ("2024-01-01", "2024-02-01")], "time")
    assert context_of(series, dates=1).time == ()
    assert context_of(series, dates=2).time == ("2024-01-01", "2024-02-01")
