"""AlphaEarth embeddings are dequantized before they are averaged, and keep their unit length."""

from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

import geoxt
from geoxt.errors import InputError
from geoxt.grid import coordinates
from geoxt.layers import open_cogs
from geoxt.layers.products import get
from geoxt.testing import make_layer

NODATA, SIDE = -128, 8
BANDS = [f"A{axis:02}" for axis in range(64)]


def make_stored(seed):
    """Return int8 whose numbers are vectors of about unit length, each value of int8 among them."""
    stored = np.random.default_rng(seed).integers(-70, 71, (64, SIDE, SIDE)).astype("int8")
    stored[:, 0, 0], stored[:, 0, 1] = np.arange(-64, 0), np.arange(64)
    stored[0, 0, 2], stored[:, 2, 3] = 127, NODATA
    return stored


def dequantized(stored):
    values = np.sign(stored.astype(float)) * (np.abs(stored.astype(float)) / 127.5) ** 2
    return np.where(stored == NODATA, np.nan, values).astype("float32")


def write(folder, stored, *, year=2020, zone="15N", row=0, dtype="int8"):
    """Write a file whose rows go from south to north."""
    path = folder / str(year) / zone / f"xabc-{row:010}-0000000000.tiff"
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = Affine(10, 0, 500_000, 0, 10, 4_000_000 + 10 * row)
    profile = {"driver": "GTiff", "height": SIDE, "width": SIDE, "count": 64, "dtype": dtype, "nodata": NODATA}
    crs = f"EPSG:326{zone[:2]}"
    with rasterio.open(path, "w", crs=crs, transform=transform, **profile) as file:
        file.write(stored.astype(dtype))
        file.build_overviews([2], rasterio.enums.Resampling.average)
    return path


@pytest.fixture
def layer(tmp_path):
    write(tmp_path, make_stored(1))
    return open_cogs(tmp_path / "2020", product="alphaearth")


def test_stored_numbers_are_dequantized_exactly(tmp_path, layer):
    north_up = dequantized(make_stored(1))
    order = slice(None, None, -1 if layer.geoml.grid.affine.e < 0 else 1)
    np.testing.assert_array_equal(layer, north_up[:, order])
    assert layer.dtype == "float32"
    assert layer["band"].to_numpy().tolist() == BANDS
    assert (layer.attrs["version"], layer.attrs["normalization"]) == ("1", "unit length")
    single = open_cogs(tmp_path / "2020", product="alphaearth", bands=["A07"])
    np.testing.assert_array_equal(single[0], north_up[7, order])
    np.testing.assert_array_equal(layer.sel(band=["A63", "A00"]), north_up[[63, 0]][:, order])


@pytest.mark.parametrize("resampling", ["average", "bilinear"])
def test_averages_are_of_dequantized_vectors_and_have_unit_length(tmp_path, layer, resampling):
    grid = layer.geoml.grid
    coarse = GeoBox((4, 4), grid.affine @ Affine.scale(2), grid.crs)
    moved = open_cogs(tmp_path / "2020", product="alphaearth", grid=coarse, resampling=resampling)
    values = layer.to_numpy().astype("float64")
    mean = np.nanmean(values.reshape(64, 4, 2, 4, 2), axis=(2, 4))
    mean /= np.linalg.norm(mean, axis=0)
    inner = (slice(None), slice(1, 3), slice(1, 3)) if resampling == "bilinear" else ()
    if resampling == "average":
        np.testing.assert_allclose(moved.to_numpy()[inner], mean[inner], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(moved, axis=0), 1, atol=1e-6)
    np.testing.assert_array_equal(moved.sel(band=["A05"]).isel(x=slice(1, 3)), moved.to_numpy()[[5], :, 1:3])
    aligned = geoxt.align(layer, moved) if resampling == "bilinear" else moved
    np.testing.assert_allclose(np.linalg.norm(aligned, axis=0), 1, atol=1e-6)


def test_nearest_pixels_are_exact(tmp_path, layer):
    grid = layer.geoml.grid
    shifted = GeoBox((8, 8), grid.affine @ Affine.translation(0.3, -0.2), grid.crs)
    moved = open_cogs(tmp_path / "2020", product="alphaearth", grid=shifted, resampling="nearest")
    np.testing.assert_array_equal(moved[:, 1:, :7], layer[:, 1:, :7])


def test_parts_of_vectors_are_not_averaged(tmp_path, layer):
    grid = layer.geoml.grid
    coarse = GeoBox((4, 4), grid.affine @ Affine.scale(2), grid.crs)
    part = open_cogs(tmp_path / "2020", product="alphaearth", bands=["A00"], grid=coarse)
    with pytest.raises(InputError, match="Cannot average vectors of unit length: 1 of their 64 bands"):
        part.compute()


def test_years_are_time_steps_and_zones_are_nodes(tmp_path):
    for year, zone in ((2019, "15N"), (2020, "15N"), (2020, "16N")):
        write(tmp_path, make_stored(year), year=year, zone=zone)
    paths = sorted(tmp_path.rglob("*.tiff"))
    tree = open_cogs(paths, product="alphaearth", crs="native", groupby="time")
    assert {node.name for node in tree.leaves} == {"epsg_32615", "epsg_32616"}
    layer = tree["epsg_32615"].ds["alphaearth"]
    assert layer["time"].dt.year.to_numpy().tolist() == [2019, 2020]
    np.testing.assert_array_equal(np.sort(layer[1].to_numpy().ravel()), np.sort(dequantized(make_stored(2020)).ravel()))
    points = gpd.GeoDataFrame({"class": ["a"]}, geometry=[shapely.Point(500_045, 4_000_045)], crs="EPSG:32615")
    table = geoxt.extract(tree, points)
    np.testing.assert_array_equal(table.loc[table["time"].dt.year == 2020, BANDS].to_numpy()[0],
                                  dequantized(make_stored(2020))[:, 4, 4])  # fmt: skip


@pytest.mark.parametrize("method", ["mode", "min", "max"])
def test_bands_of_one_vector_are_of_one_pixel(tmp_path, layer, method):
    grid = layer.geoml.grid
    coarse = GeoBox((4, 4), grid.affine @ Affine.scale(2), grid.crs)
    like = make_layer(np.ones((4, 4), "float32")).assign_coords(coordinates(coarse))
    with pytest.raises(InputError, match=f"{method} of vectors of embeddings.*resampling='average'"):
        open_cogs(tmp_path / "2020", product="alphaearth", grid=coarse, resampling=method)
    without_length = layer.assign_attrs(normalization="none")  # as of own maps of embeddings
    for embeddings in (layer, layer.compute(), layer.compute().chunk(), without_length):
        with pytest.raises(InputError, match=f"{method} of vectors.*'bilinear' or 'nearest'"):
            geoxt.align(embeddings, like, resampling=method)
    other = layer.copy()
    other.attrs = {}
    assert geoxt.align(other, like, resampling=method).shape == (64, 4, 4)
    with pytest.raises(InputError, match="median of vectors of embeddings.*composite='mean' or 'first'"):
        open_cogs(tmp_path / "2020", product="alphaearth", composite="median")


def test_composites_keep_unit_length(tmp_path):
    for year in (2019, 2020):
        write(tmp_path, make_stored(year), year=year)
    layer = open_cogs(sorted(tmp_path.rglob("*.tiff")), product="alphaearth", composite="mean")
    assert np.nanmax(abs(np.linalg.norm(layer, axis=0) - 1)) < 1e-6
    np.testing.assert_array_equal(layer.isel(band=[3]), layer.to_numpy()[[3]])


def test_other_files_raise_and_numbers_stay(tmp_path):
    path = write(tmp_path, make_stored(1), dtype="int16")
    with pytest.raises(InputError, match="Cannot take files of int16 as alphaearth"):
        open_cogs([path], product="alphaearth")
    floats = np.where(make_stored(1) == NODATA, NODATA, dequantized(make_stored(1)))
    path = write(tmp_path, floats, year=2021, dtype="float32")
    layer = open_cogs([path], product="alphaearth")
    np.testing.assert_array_equal(np.unique(layer), np.unique(floats.astype("float32")))


def test_copies_keep_model_and_unit_length(tmp_path, layer):
    values = layer.to_numpy()[:4]
    attrs = dict(layer.attrs) | {"dimensions": 4}
    vectors = (layer[:4].compute() / np.linalg.norm(values, axis=0)).assign_attrs(attrs)
    again = open_cogs([geoxt.to_cog(vectors, tmp_path / "copy.tif")])
    assert again.attrs["model"] == get("alphaearth").embedding.model
    assert again.attrs["version"] == "1"
    grid = layer.geoml.grid
    coarse = GeoBox((4, 4), grid.affine @ Affine.scale(2), grid.crs)
    mean = np.nanmean(vectors.to_numpy().astype("float64").reshape(4, 4, 2, 4, 2), axis=(2, 4))
    mean /= np.linalg.norm(mean, axis=0)
    for copy in (again, vectors, vectors.chunk(x=3)):
        np.testing.assert_allclose(geoxt.align(copy, coarse, resampling="average"), mean, atol=1e-6)
        with pytest.raises(InputError, match="Cannot average vectors of unit length: .*2"):
            geoxt.align(copy.isel(band=[1, 2]), coarse).compute()
    part = open_cogs([geoxt.to_cog(vectors.isel(band=[1, 2]), tmp_path / "part.tif")])
    assert "normalization" not in part.attrs
    with pytest.raises(InputError, match="Cannot combine embeddings: the version of layer"):
        geoxt.union(layer, layer.assign_attrs(version="2"))


def write_tessera(path, values, version, dtype="float32"):
    """Write a file as `export_embedding_geotiff` of geotessera 0.7.5 does."""
    profile = {"driver": "GTiff", "height": SIDE, "width": SIDE, "count": 128, "dtype": dtype, "crs": "EPSG:32631"}
    transform = Affine(10, 0, 300_000, 0, -10, 5_770_000)
    with rasterio.open(path, "w", transform=transform, **profile) as file:
        file.write(values.astype(dtype))
        file.descriptions = [f"Tessera_Band_{band}" for band in range(128)]
        file.update_tags(TESSERA_DATASET_VERSION=version, TESSERA_YEAR="2024")
    return path


def test_files_of_tessera_state_their_version(tmp_path):
    values = np.random.default_rng(0).normal(size=(128, SIDE, SIDE)).astype("float32")
    values[:, 2, 3] = np.nan
    layer = open_cogs([write_tessera(tmp_path / "grid_0.15_52.05_2024.tiff", values, "v1")], product="tessera")
    np.testing.assert_array_equal(layer, values)
    assert (layer.attrs["model"], layer.attrs["version"]) == ("https://geotessera.org/model", "1.0")
    assert layer["band"].to_numpy()[[0, 127]].tolist() == ["T000", "T127"]
    later = write_tessera(tmp_path / "grid_0.15_52.05_2025.tiff", values, "v1.1")
    with pytest.raises(InputError, match=r"the version of '.*2024.tiff' is '1.0', that of '.*2025.tiff' is '1.1'"):
        open_cogs(sorted(tmp_path.glob("*.tiff")), product="tessera")
    assert open_cogs([later], product="tessera").attrs["version"] == "1.1"
    quantized = write_tessera(tmp_path / "grid_0.25_52.05_2024.tiff", values[:, :1].repeat(8, 1), "v1", "int8")
    with pytest.raises(InputError, match="files of int8 as tessera: their embeddings are floating-point numbers"):
        open_cogs([quantized], product="tessera")


def test_products_are_not_mixed(tmp_path, layer):
    values = np.ones((128, SIDE, SIDE))
    tessera = open_cogs([write_tessera(tmp_path / "grid_0.15_52.05_2024.tiff", values, "v1")], product="tessera")
    table = geoxt.extract(tessera, gpd.GeoDataFrame(geometry=[shapely.Point(300_005, 5_769_995)], crs="EPSG:32631"))
    with pytest.raises(InputError, match=r"Cannot combine embeddings: the model of the layer .*geotessera"):
        geoxt.embeddings.similar(layer, table)


def test_npy_tiles_of_tessera_as_documented(tmp_path):
    name = "grid_0.15_52.05"
    stored = np.random.default_rng(0).integers(-128, 128, (SIDE, SIDE, 128), dtype="int8")
    scales = np.random.default_rng(1).uniform(0.001, 0.02, (SIDE, SIDE)).astype("float32")
    np.save(tmp_path / f"{name}.npy", stored)
    np.save(tmp_path / f"{name}_scales.npy", scales)
    profile = {"driver": "GTiff", "height": SIDE, "width": SIDE, "count": 1, "dtype": "uint8", "crs": "EPSG:32631"}
    with rasterio.open(
        tmp_path / f"{name}.tiff", "w", transform=Affine(10, 0, 3e5, 0, -10, 5_770_000), **profile
    ) as file:
        file.write(np.ones((1, SIDE, SIDE), "uint8"))
    page = Path(__file__).parents[2].joinpath("docs/reference/datasets.md").read_text(encoding="utf-8")
    code = page.split("geotessera, which it deprecates")[1].split("```python\n")[1].split("```")[0]
    scope = {"folder": tmp_path, "name": name}
    exec(code, scope)  # noqa: S102
    layer = scope["layer"]
    np.testing.assert_array_equal(layer[7], stored[..., 7] * scales)
    point = gpd.GeoDataFrame(geometry=[shapely.Point(300_015, 5_769_995)], crs="EPSG:32631")
    assert geoxt.extract(layer, point)["T005"].to_numpy()[0] == stored[0, 1, 5] * scales[0, 1]
    assert layer.attrs["model"] == "https://geotessera.org/model"


@pytest.mark.parametrize("options", [{"scale": 1 / 127.5}, {"offset": 0.5}])
def test_dequantized_numbers_have_no_other_scale(tmp_path, options):
    write(tmp_path, make_stored(1))
    with pytest.raises(InputError, match="dequantized as published. Leave scale= and offset= out"):
        open_cogs(tmp_path / "2020", product="alphaearth", rescale=True, **options)
