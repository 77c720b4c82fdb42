"""Indices of layers: lazy, of physical values, NaN for invalid pixels, and bit for bit equal to those of tensors."""

import dask
import numpy as np
import pytest
import torch
import xarray as xr
from affine import Affine
from dask.base import tokenize
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords

from geoxt import indices
from geoxt.bridge import to_torch
from geoxt.errors import InputError
from geoxt.transforms import INDICES, AppendIndices
from geoxt.windows import Window

COMMON = ("blue", "green", "red", "rededge1", "rededge2", "nir", "nir08", "swir16", "swir22")
NAMES = ("B02", "B03", "B04", "B05", "B06", "B08", "B8A", "B11", "B12")
SIZE = (40, 48)


def fail_on_compute(*_, **__):
    pytest.fail("pixels were computed")


@pytest.fixture
def stored():
    """Return a Sentinel-2-like layer: uint16 with nodata 0, scales, zeros of division, in dask chunks."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(1, 10000, (len(NAMES), *SIZE), dtype="uint16")
    pixels[:, rng.random(SIZE) < 0.1] = 0
    pixels[2, :4] = 0
    pixels[[2, 5], 10:12] = 1000  # no red and no infrared once the offset is off
    grid = GeoBox(SIZE, Affine(10, 0, 600000, 0, -10, 5000000), "EPSG:32615")
    coords = {"band": list(NAMES), "common_name": ("band", list(COMMON)), "wavelength": ("band", np.arange(9) / 10)}
    layer = xr.DataArray(pixels, dims=("band", "y", "x"), name="s2").chunk({"y": 16, "x": 32})
    layer = layer.assign_coords({**coords, **xr_coords(grid, dims=("y", "x"))})
    layer.attrs = {"_FillValue": 0, "scales": [1e-4] * 9, "offsets": [-0.1] * 9, "radiometry": "as stored"}
    return layer


def test_append_is_lazy_and_keeps_dims_and_coordinates(stored):
    with dask.config.set(scheduler=fail_on_compute):
        appended = indices.append(stored, ["ndvi", "EVI"])
    assert appended.chunks is not None
    assert appended.dims == stored.dims
    assert appended.dtype == np.float32
    assert appended.name == "s2"
    assert appended["band"].to_numpy().tolist() == [*NAMES, "ndvi", "evi"]
    assert appended["common_name"].to_numpy().tolist() == [*COMMON, "", ""]
    assert np.isnan(appended["wavelength"][-2:]).all()
    assert appended.odc.geobox == stored.odc.geobox
    assert appended.attrs["scales"] == [1e-4] * 9 + [1.0, 1.0]
    assert np.isnan(appended.attrs["_FillValue"])
    assert tokenize(appended.data) == tokenize(indices.append(stored, ["ndvi", "EVI"]).data)


def test_bands_are_unchanged_and_nodata_is_nan(stored):
    appended = indices.append(stored, "ndvi").isel(band=slice(0, 9)).to_numpy()
    pixels = stored.to_numpy()
    np.testing.assert_array_equal(appended, np.where(pixels == 0, np.nan, pixels.astype("float32")))


@pytest.mark.parametrize("name", INDICES)
def test_index_equals_formula_of_reflectance(stored, name):
    pixels = stored.to_numpy().astype("float64")
    physical = np.where(pixels == 0, np.nan, pixels * 1e-4 - 0.1)
    with np.errstate(all="ignore"):
        expected = INDICES[name].formula(*(physical[COMMON.index(band)] for band in INDICES[name].bands))
    appended = indices.append(stored, name).sel(band=name).to_numpy()
    with np.errstate(all="ignore"):
        close = np.abs(appended - expected) <= 1e-3 * (1 + np.abs(expected) ** 2)  # float32, near poles too
    known = np.isfinite(expected) & (np.abs(expected) < 1e3)
    assert close[known].mean() > 0.99
    missing = np.logical_or.reduce([pixels[COMMON.index(band)] == 0 for band in INDICES[name].bands])
    assert np.isnan(appended[missing]).all()
    assert known.mean() > 0.6


def test_division_by_zero_is_nan(stored):
    plain = xr.zeros_like(stored, dtype="float32").compute()
    plain[5] = [[0, 1] * 24] * 40
    plain.attrs = {}
    appended = indices.append(plain, ["ndvi", "msi", "cire"]).isel(y=0)
    assert np.isnan(appended.sel(band="ndvi")[::2]).all()
    assert (appended.sel(band="ndvi")[1::2] == 1).all()
    assert np.isnan(appended.sel(band="msi")[::2]).all()
    assert np.isnan(appended.sel(band="cire")).all()  # infinite


def test_append_equals_transform_of_tensors_bit_for_bit(stored):
    names = list(INDICES)
    transform = AppendIndices(names, bands=NAMES, common=COMMON, scale=1e-4, offset=-0.1)
    windows = [Window(0, 0, 24, 24), Window(16, 20, 24, 24)]
    plain = torch.utils.data.default_collate([*to_torch(stored, windows)])
    transformed = transform(plain)
    appended = torch.utils.data.default_collate([*to_torch(indices.append(stored, names), windows)])
    assert torch.equal(transformed["image_valid"], appended["image_valid"])
    good = appended["image_valid"][:, None].expand_as(transformed["image"])
    assert transformed["image"].shape == (2, 9 + len(names), 24, 24)
    assert transformed["image"][good].numpy().tobytes() == appended["image"][good].numpy().tobytes()
    assert 0.3 < good.float().mean() < 0.95
    assert (transformed["image"][:, 9:][~good[:, 9:]] == 0)[
        ~plain["image_valid"][:, None].expand_as(good)[:, 9:][~good[:, 9:]]
    ].all()
    assert torch.equal(transformed["image"][:, :9], plain["image"])


def test_time_steps_are_kept(stored):
    both = xr.concat([stored, stored + np.uint16(1)], "time").assign_coords(time=np.array(["2020", "2021"], "M8[ns]"))
    both = both.transpose("time", "band", "y", "x").assign_attrs(stored.attrs)
    appended = indices.append(both, "ndmi")
    assert appended.dims == ("time", "band", "y", "x")
    second = indices.append(both.isel(time=1), "ndmi")
    np.testing.assert_array_equal(appended.isel(time=1).to_numpy(), second.to_numpy())


def test_append_twice_equals_append_both(stored):
    twice, both = indices.append(indices.append(stored, "ndvi"), "savi"), indices.append(stored, ["ndvi", "savi"])
    xr.testing.assert_identical(twice.compute(), both.compute())


def test_lazily_indexed_layer_without_dask_stays_lazy(stored, tmp_path):
    bare = stored.drop_attrs().drop_vars(["band", "common_name"])
    bare.to_dataset(name="s2").to_zarr(tmp_path / "layer.zarr", consolidated=False)
    opened = xr.open_zarr(tmp_path / "layer.zarr", consolidated=False, chunks=None)["s2"]
    appended = indices.append(opened.assign_coords(band=list(COMMON)), "ndvi")
    assert appended.chunks is not None
    assert not opened.variable._in_memory


def test_integers_without_scales_raise(stored):
    bare = stored.assign_attrs(scales=None, offsets=None)
    del bare.attrs["scales"], bare.attrs["offsets"]
    with pytest.raises(InputError, match="Open the layer with rescale=True"):
        indices.append(bare, "ndvi")  # its attributes say that scales differ between scenes
    del bare.attrs["radiometry"]
    assert "ndvi" in indices.append(bare, "ndvi")["band"]
    with pytest.raises(InputError, match="evi of 's2': it needs reflectance, and the layer is uint16 without scales"):
        indices.append(bare, "evi")
    appended = indices.append(bare, "evi", scale=1e-4, offset=-0.1)
    np.testing.assert_array_equal(appended.to_numpy(), indices.append(stored, "evi").to_numpy())
    mixed = stored.assign_attrs(scales=[1e-4] * 5 + [1e-5] * 4)
    with pytest.raises(InputError, match="scales of its bands differ"):
        indices.append(mixed, "ndvi")


def test_invalid_layers_and_indices_raise(stored):
    with pytest.raises(InputError, match="it already has a band 'ndvi'"):
        indices.append(indices.append(stored, "ndvi"), "NDVI")
    with pytest.raises(InputError, match="class codes"):
        indices.append(stored.assign_attrs(flag_values=[1]), "ndvi")
    with pytest.raises(InputError, match=r"dims \('y', 'x'\) and no band names"):
        indices.append(stored.isel(band=0), "ndvi")
    with pytest.raises(InputError, match="no band is named red"):
        indices.append(stored.drop_sel(band="B04"), "ndvi")
    assert (
        indices.append(stored.drop_vars("common_name"), "ndvi", bands={"red": "B04", "nir": "B08"}).sizes["band"] == 10
    )
    with pytest.raises(InputError, match="it has 9 bands, not red, nir"):
        AppendIndices("ndvi", bands=["red", "nir"])({"image": torch.zeros(1, 9, 2, 2)})
