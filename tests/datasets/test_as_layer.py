"""Layers of datasets whose bands have several pixel sizes, in other CRSs."""

from __future__ import annotations

import numpy as np
import odc.geo.xr  # noqa: F401 - binds .odc
import pytest
import rasterio
from rasterio.warp import calculate_default_transform

from geoxt.datasets import Raster, Spec, load
from geoxt.datasets.spec import plain_bands

SIDE = 120


def scenes(root, *, crs, transform):
    """Write two bands of an image of 120 x 120 pixels, one of them with a third of the rows and columns."""
    values = {"B1": np.arange(SIDE**2).reshape(SIDE, SIDE), "B2": np.arange((SIDE // 3) ** 2).reshape(SIDE // 3, -1)}
    for band, pixels in values.items():
        scale = SIDE / len(pixels)
        profile = {"driver": "GTiff", "count": 1, "dtype": "uint16", "crs": crs}
        profile |= {"height": len(pixels), "width": len(pixels), "transform": transform @ transform.scale(scale)}
        with rasterio.open(root / f"a_{band}.tif", "w", **profile) as file:
            file.write(pixels.astype("uint16"), 1)
    return values


@pytest.fixture
def spec():
    return Spec(
        name="pairs",
        title="Pairs",
        task="self-supervised",
        source="generated",
        georeferenced=True,
        assets={
            "image": Raster(
                "{place}_{band:B1|B2}.tif",
                bands=plain_bands("red nir"),
                dtype="uint16",
                shape=(SIDE, SIDE),
                mixed_resolution=True,
            )
        },
    )


METRES = ("EPSG:32633", rasterio.Affine(10, 0, 500_000, 0, -10, 5_800_000))
DEGREES = ("EPSG:4326", rasterio.Affine(1.5e-4, 0, 15, 0, -9e-5, 52.35))


@pytest.mark.parametrize("source", [METRES, DEGREES], ids=["metres", "degrees"])
@pytest.mark.parametrize("target", ["EPSG:4326", "EPSG:3857", "EPSG:32632", "EPSG:3035"])
def test_layer_has_the_pixel_size_of_the_finest_band_in_any_crs(spec, tmp_path, source, target):
    crs, transform = source
    scenes(tmp_path, crs=crs, transform=transform)
    layer = load(spec, tmp_path).layer(crs=target)
    left, top = transform.c, transform.f
    bounds = {"left": left, "top": top, "right": left + SIDE * transform.a, "bottom": top + SIDE * transform.e}
    if crs == target:
        assert layer.shape[-2:] == (SIDE, SIDE)
        return
    _, width, height = calculate_default_transform(crs, target, SIDE, SIDE, **bounds)
    # GDAL keeps the number of pixels on the diagonal; geoxt keeps the pixel size between CRSs of equal units.
    assert 0.5 < layer.sizes["x"] / width < 2
    assert 0.5 < layer.sizes["y"] / height < 2
    assert np.count_nonzero(np.nan_to_num(layer.isel(band=0).values.astype(float))) > SIDE**2 / 4


@pytest.mark.parametrize("crs", [None, "EPSG:4326", "native"])
def test_oblong_pixels_are_copied_on_the_grid_of_the_file(spec, tmp_path, crs):
    values = scenes(tmp_path, crs=DEGREES[0], transform=DEGREES[1])
    layer = load(spec, tmp_path).layer(**({} if crs is None else {"crs": crs}))
    if crs == "native":
        layer = next(iter(layer.leaves)).ds["image"] if hasattr(layer, "leaves") else layer
    red = layer.isel(band=0).squeeze()
    np.testing.assert_array_equal(red, values["B1"])


def test_resolution_of_the_caller_wins(spec, tmp_path):
    scenes(tmp_path, crs=METRES[0], transform=METRES[1])
    layer = load(spec, tmp_path).layer(crs="EPSG:3035", resolution=60)
    assert abs(layer.odc.geobox.resolution.x) == 60


@pytest.mark.parametrize("crs", [None, "EPSG:32633", "EPSG:3035", "native"])
def test_pixel_size_is_that_of_the_finest_sample_wherever_it_comes(spec, tmp_path, crs):
    scenes(tmp_path, crs=METRES[0], transform=METRES[1])
    for path in [*tmp_path.glob("a_*.tif")]:
        path.rename(path.with_name(f"b{path.name[1:]}"))
    scenes(tmp_path, crs=METRES[0], transform=rasterio.Affine(60, 0, 501_200, 0, -60, 5_800_000))  # "a", before "b"
    layer = load(spec, tmp_path).layer(**({} if crs is None else {"crs": crs}))
    opened = [leaf.ds["image"] for leaf in layer.leaves] if crs == "native" else [layer]
    assert {abs(da.odc.geobox.resolution.x) for da in opened} == {10}


def test_layer_has_the_selected_bands_in_their_order(spec, tmp_path):
    values = scenes(tmp_path, crs=METRES[0], transform=METRES[1])
    layer = load(spec, tmp_path, bands=["nir", "red"]).layer()
    assert layer.band.values.tolist() == ["nir", "red"]
    np.testing.assert_array_equal(layer.sel(band="red"), values["B1"])
    assert load(spec, tmp_path, bands="nir").layer(bands=["red"]).band.values.tolist() == ["red"]
