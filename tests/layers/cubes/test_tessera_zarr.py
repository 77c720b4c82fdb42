"""Stores of TESSERA: int8 with a scale per pixel, dequantized before they are resampled; NaN and inf are missing."""

import pickle

import numpy as np
import pytest

import geoxt
from geoxt.errors import InputError
from geoxt.grid import coordinates
from geoxt.source import view_of
from geoxt.testing import make_grid
from geoxt.windows import Window

zarr = pytest.importorskip("zarr")

GRID = make_grid((24, 30))
QUANTIZATION = {
    "method": "per_pixel_scale", "original_dtype": "float32", "quantized_dtype": "int8",
    "scale": {"type": "array", "array_name": "scales", "nodata": "+inf"},
}  # fmt: skip


def write_array(group, name, dims, values, **options):
    group.create_array(name, data=np.asarray(values), dimension_names=dims, **options)


def write_tessera(
    path, *, bands=4, model="https://geotessera.org/model/1.0", quantization=QUANTIZATION, zones=("utm30",)
):
    """Write a store as geotessera 0.11 does, with 2 years; return its int8 and scales."""
    rng = np.random.default_rng(0)
    values = rng.integers(-128, 128, (2, bands, 24, 30), dtype=np.int8)
    scales = rng.uniform(0.001, 0.02, (2, 24, 30)).astype(np.float32)
    scales[:, :3, :4], scales[1, 10, 20] = np.nan, np.inf
    root = zarr.open_group(str(path), mode="w", attributes={"geoemb:spatial_layout": "utm_zones"})
    for zone in zones:
        group = root.create_group(zone)
        group.attrs.update(
            {
                "geoemb:type": "pixel", "geoemb:dimensions": bands, "geoemb:model": model,
                "geoemb:source_data": ["https://sentinel.esa.int"], "geoemb:data_type": "int8",
                "geoemb:quantization": quantization, "proj:code": f"EPSG:{GRID.crs.to_epsg()}",
                "spatial:dimensions": ["y", "x"], "spatial:transform": list(GRID.affine)[:6],
            }
        )  # fmt: skip
        axes = {"time": [2023, 2024], "band": np.arange(bands)} | {d: coordinates(GRID)[d].values for d in "yx"}
        for name, axis in axes.items():
            write_array(group, name, (name,), np.asarray(axis))
        write_array(group, "embeddings", ("time", "band", "y", "x"), values, chunks=(1, bands, 8, 16))
        write_array(group, "scales", ("time", "y", "x"), scales, chunks=(1, 8, 16))
    return values, scales


def dequantized(values, scales):
    """Return the embeddings by geotessera's `dequantise`."""
    return np.where(np.isfinite(scales), scales, np.nan)[:, None] * values.astype(np.float32)


def test_embeddings_are_products_of_integers_and_scales(tmp_path):
    expected = dequantized(*write_tessera(tmp_path / "v1.zarr"))
    layer = geoxt.open_zarr(tmp_path / "v1.zarr", group="utm30")
    assert layer.dtype == np.float32
    assert layer["time"].dt.year.to_numpy().tolist() == [2023, 2024]
    assert layer.attrs["model"] == "https://geotessera.org/model/1.0"
    np.testing.assert_array_equal(layer, expected)
    part = layer.isel(time=[1], band=[2, 0])
    values, valid = pickle.loads(pickle.dumps(view_of(part))).read(Window(1, 2, 12, 20))
    np.testing.assert_array_equal(np.where(valid, values, np.nan), expected[1:, [2, 0], 1:13, 2:22])
    assert geoxt.open_zarr(tmp_path / "v1.zarr", group="utm30", bands=["scales"]).shape == (2, 1, 24, 30)
    first = geoxt.open_zarr(tmp_path / "v1.zarr", group="utm30/embeddings")
    np.testing.assert_array_equal(first, expected)


def test_averages_are_those_of_dequantized_pixels(tmp_path):
    embeddings = dequantized(*write_tessera(tmp_path / "v1.zarr"))[0]
    layer = geoxt.open_zarr(tmp_path / "v1.zarr", group="utm30", grid=GRID.zoom_out(2), resampling="average")
    blocks = embeddings.reshape(4, 12, 2, 15, 2)[:, 2:, :, 2:]
    np.testing.assert_allclose(layer[0].to_numpy()[:, 2:, 2:], blocks.mean(axis=(2, 4)), rtol=1e-5, atol=1e-6)
    assert layer[0].isnull().to_numpy()[:, 0, :2].all()


def test_product_names_channels_and_version(tmp_path):
    values, scales = write_tessera(tmp_path / "v1.zarr", bands=128)
    layer = geoxt.open_zarr(tmp_path / "v1.zarr", group="utm30", product="tessera", bands=["T127", "T000"])
    assert (layer.attrs["model"], layer.attrs["version"]) == ("https://geotessera.org/model", "1.0")
    np.testing.assert_array_equal(layer, dequantized(values, scales)[:, [127, 0]])
    write_tessera(tmp_path / "v2.zarr", bands=128, model="https://geotessera.org/model/1.1")
    other = geoxt.open_zarr(tmp_path / "v2.zarr", group="utm30", product="tessera", bands=["T127", "T000"])
    with pytest.raises(InputError, match=r"the version of the first layer is '1.0', that of the second layer is '1.1'"):
        geoxt.embeddings.change(layer.isel(time=0), other.isel(time=0))


def test_earlier_form_of_the_convention(tmp_path):
    stated = {"method": "per_pixel_scale", "original_dtype": "float32", "scale_array": "scales", "nodata": "+inf"}
    expected = dequantized(*write_tessera(tmp_path / "v1.zarr", quantization=stated))
    np.testing.assert_array_equal(geoxt.open_zarr(tmp_path / "v1.zarr", group="utm30"), expected)


def test_missing_or_other_scales_raise(tmp_path):
    write_tessera(tmp_path / "v1.zarr")
    group = zarr.open_group(str(tmp_path / "v1.zarr"), path="utm30", mode="a")
    del group["scales"]
    with pytest.raises(InputError, match="its scales 'scales' are missing"):
        geoxt.open_zarr(tmp_path / "v1.zarr", group="utm30")
    write_array(group, "scales", ("time", "y", "x"), np.ones((2, 24, 29), np.float32))
    with pytest.raises(InputError, match=r"scales 'scales' are \('time', 'y', 'x'\) \(2, 24, 29\), not of its size"):
        geoxt.open_zarr(tmp_path / "v1.zarr", group="utm30")
    for method in ("product_quantization", "binary"):
        write_tessera(tmp_path / "v1.zarr", quantization={"method": method, "original_dtype": "float32"})
        with pytest.raises(InputError, match=f"quantized embeddings .method '{method}'"):
            geoxt.open_zarr(tmp_path / "v1.zarr", group="utm30", bands=["embeddings_0"])
