"""Opening files: bands and scenes from headers and file names; ambiguous input raises."""

import dask
import numpy as np
import pytest
import rasterio
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from geoxt import indices
from geoxt.crs import parse_crs, transformer
from geoxt.errors import CRSError, GridError, InputError, OverlapError, ReadError
from geoxt.grid import full_window, grid_of, pixel_offset
from geoxt.layers import open_cogs
from geoxt.pixels import reader
from geoxt.source import view_of
from geoxt.testing import distinct, make_grid, write_bands
from geoxt.windows import Window

GRID = make_grid((60, 70))


def values_of(layer):
    return layer.compute(scheduler="synchronous").values


def raise_on_read(*_, **__):
    msg = "a pixel was read"
    raise AssertionError(msg)


def landsat(folder, *, days=("20190701", "20190717"), lefts=(600_000, 600_900), bands=(2, 3, 4), **options):
    names = [f"LC08_L2SP_026031_{day}_20200827_02_T1" for day in days]
    for n, (name, left) in enumerate(zip(names, lefts, strict=True)):
        values = distinct((len(bands), 60, 70)) + 20_000 * n
        files = [f"{name}_SR_B{b}.TIF" for b in bands]
        grid = make_grid((60, 70), left=left)
        write_bands(folder, values, names=files, grid=grid, nodata=0, tiled=False, **options)
    return str(folder / "*_SR_B[2-7].TIF"), names


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_layer_equals_its_file(write, dtype):
    path = write(distinct((2, 60, 70), dtype), GRID)
    layer = open_cogs(path)
    assert (layer.dims, layer.dtype) == (("band", "y", "x"), np.dtype(dtype))
    assert grid_of(layer) == GRID
    with rasterio.open(path) as file:
        assert np.array_equal(values_of(layer), file.read())
    assert "_FillValue" not in layer.attrs


def test_opening_reads_no_pixel(write, tmp_path, monkeypatch):
    path = write(distinct((2, 60, 70)), GRID)
    pattern, _ = landsat(tmp_path)
    monkeypatch.setattr(reader, "start_read", raise_on_read)
    with dask.config.set(scheduler=raise_on_read):
        open_cogs(path)
        open_cogs(pattern, product="landsat8")
        open_cogs(path, crs="EPSG:5070", resolution=30, chunks=16)


def test_each_header_is_read_once(tmp_path, monkeypatch):
    pattern, _ = landsat(tmp_path)
    opened, real = [], rasterio.open
    monkeypatch.setattr(rasterio, "open", lambda href, *a, **k: opened.append(href) or real(href, *a, **k))
    open_cogs(pattern, product="landsat8")
    assert len(opened) == len(set(opened)) == 6


def test_landsat_files_are_grouped_into_scenes(tmp_path):
    pattern, names = landsat(tmp_path)
    layer = open_cogs(pattern, product="landsat8")
    assert layer.band.values.tolist() == ["B2", "B3", "B4"]
    assert layer.common_name.values.tolist() == ["blue", "green", "red"]
    assert (layer.shape, layer.attrs["_FillValue"]) == ((3, 60, 100), 0)
    expected = np.zeros((3, 60, 100), "uint16")
    expected[:, :, 30:] = distinct((3, 60, 70)) + 20_000
    expected[:, :, :70] = distinct((3, 60, 70))
    assert np.array_equal(values_of(layer), expected)
    assert [s.id for s in view_of(layer).source.scenes] == names


@pytest.mark.parametrize("groupby", ["time", "day", None])
def test_scenes_become_time_steps(tmp_path, groupby):
    pattern, _ = landsat(tmp_path, days=("20190717", "20190701"))
    layer = open_cogs(pattern, product="landsat8", groupby=groupby)
    assert layer.dims == ("time", "band", "y", "x")
    assert layer.time.values.tolist() == np.array(["2019-07-01", "2019-07-17"], "datetime64[ns]").tolist()
    values = values_of(layer)
    assert (values[0, :, :, :30] == 0).all() != (values[1, :, :, :30] == 0).all()
    assert values[0].max() != values[1].max()


@pytest.mark.parametrize("names", [["red", "blue"], ["SR_B4", "SR_B2"]])
def test_bands_are_selected_by_name_or_common_name(tmp_path, names):
    pattern, _ = landsat(tmp_path)
    layer = open_cogs(pattern, product="landsat8", bands=names)
    assert layer.common_name.values.tolist() == ["red", "blue"]
    assert np.array_equal(values_of(layer)[:, 0, 0], distinct((3, 60, 70))[[2, 0], 0, 0])


def test_unknown_band_raises(write, tmp_path):
    pattern, _ = landsat(tmp_path)
    with pytest.raises(InputError, match=r"Cannot open the bands \['(swir16|B6|SR_B6)'\]: the files have"):
        open_cogs(pattern, product="landsat8", bands=["swir16"])
    path = write(distinct((2, 60, 70)), GRID, bands=["vv", "vh"])
    assert open_cogs(path, bands=["vh"]).band.values.tolist() == ["vh"]
    with pytest.raises(InputError, match=r"open the bands \['hh'\]: the files have \['vv', 'vh'\].*bands="):
        open_cogs(path, bands=["hh"])


def test_scene_with_a_missing_band_raises(tmp_path):
    pattern, names = landsat(tmp_path)
    (tmp_path / f"{names[1]}_SR_B3.TIF").unlink()
    with pytest.raises(InputError, match=rf"scene '{names[1]}' lacks the bands \[.*B3.*Pass files"):
        open_cogs(pattern, product="landsat8")


def test_file_of_another_product_raises(tmp_path, write):
    landsat(tmp_path)
    write(distinct((60, 70)), GRID, name="other.tif", folder=tmp_path)
    with pytest.raises(InputError, match=r"Cannot take '.*other.tif' as landsat8: its name is not of the form.*Leave"):
        open_cogs([str(tmp_path / "*.TIF"), str(tmp_path / "other.tif")], product="landsat8")


def test_grouping_without_dates_raises(write):
    paths = [write(distinct((60, 70)), GRID), write(distinct((60, 70)), make_grid((60, 70), left=603_000))]
    with pytest.raises(InputError, match=r"group scenes by time: scene 'raster' has no date. Pass groupby='mosaic'"):
        open_cogs(paths, groupby="time")


def test_band_names_are_the_differing_parts_of_file_names(write, tmp_path):
    for n, name in enumerate(("scene_10.tif", "scene_20.tif", "scene_30.tif")):
        write(distinct((60, 70)) + n, GRID, name=name, folder=tmp_path)
    layer = open_cogs(str(tmp_path / "scene_*.tif"))
    assert layer.band.values.tolist() == ["10", "20", "30"]
    assert values_of(layer)[:, 0, 0].tolist() == [1, 2, 3]


def test_band_names_are_split_at_word_boundaries(write, tmp_path):
    for name in ("S2_B02_10m.tif", "S2_B03_10m.tif", "S2_B8A_10m.tif"):
        write(distinct((60, 70)), GRID, name=name, folder=tmp_path)
    assert open_cogs(str(tmp_path / "*.tif")).band.values.tolist() == ["B02", "B03", "B8A"]


def test_band_descriptions_become_band_names(write):
    layer = open_cogs(write(distinct((2, 60, 70)), GRID, bands=["vv", "vh"]))
    assert layer.band.values.tolist() == ["vv", "vh"]
    assert open_cogs(write(distinct((2, 60, 70)), GRID)).band.values.tolist() == ["band_1", "band_2"]


def test_ambiguous_bands_or_scenes_raise(write):
    paths = [
        write(distinct((60, 70)), GRID),
        write(distinct((60, 70)), GRID),
        write(distinct((60, 70)), make_grid((60, 70), left=1e5)),
    ]
    with pytest.raises(InputError, match=r"bands from scenes: 2 bands .* 1 .*Open each grid .*Or pass product="):
        open_cogs(paths)


def test_file_without_crs_raises_unless_source_crs_is_passed(write):
    path = write(distinct((60, 70)), make_grid((60, 70), crs=None))
    with pytest.raises(CRSError, match=rf"Cannot georeference {path}: the file has no CRS.*EPSG"):
        open_cogs(path)
    assert grid_of(open_cogs(path, source_crs=32615)) == GRID


def test_missing_crs_remedy_is_an_argument_of_the_opener(write):
    with pytest.raises(CRSError, match="source_crs="):
        open_cogs(write(distinct((60, 70)), make_grid((60, 70), crs=None)))


def test_patterns_without_matches_raise(tmp_path):
    with pytest.raises(InputError, match=r"Cannot find any file for '.*missing\*.tif'. Pass an existing path"):
        open_cogs(str(tmp_path / "missing*.tif"))
    with pytest.raises(InputError, match=r"files of any known product in .*: it holds no file. Pass product="):
        open_cogs(tmp_path)
    with pytest.raises(InputError, match="empty list"):
        open_cogs([])


def test_several_crs_raise(write):
    paths = [
        write(distinct((60, 70)), GRID, name="a.tif"),
        write(distinct((60, 70)), make_grid((60, 70), crs="EPSG:32616", left=96_000, top=4_561_000), name="b.tif"),
    ]
    with pytest.raises(CRSError, match=r"'a' is in EPSG:32615, 'b' in EPSG:32616. Pass crs="):
        open_cogs(paths)
    layer = open_cogs(paths, crs="EPSG:32616")
    assert pixel_offset(grid_of(layer), make_grid((60, 70), crs="EPSG:32616", left=96_000, top=4_561_000)) is not None
    assert view_of(layer).read(full_window(grid_of(layer)))[1].mean() > 0.5
    albers = open_cogs(paths, crs="EPSG:5070", resolution=30)
    assert grid_of(albers).affine.a == 30


def test_several_resolutions_raise(write):
    paths = [
        write(distinct((60, 70)), GRID, name="a.tif"),
        write(distinct((90, 90)), make_grid((90, 90), left=601_800, resolution=20.0), name="b.tif"),
    ]
    with pytest.raises(GridError, match=r"'a' has pixels of 30, 'b' of 20 .*Pass resolution=30 or resolution=20"):
        open_cogs(paths)
    assert grid_of(open_cogs(paths, resolution=20)).affine.a == 20
    with pytest.raises(GridError, match="pixels of size 0"):
        open_cogs(paths, resolution=0)


@pytest.mark.parametrize("coarse_first", [True, False])
@pytest.mark.parametrize(
    ("other", "crs", "shown"),
    [
        ({"resolution": 10.0}, "EPSG:5070", "of 30, 'b' of 10"),
        ({"resolution": 10.0}, "EPSG:4326", "of 0.0003"),
        ({"crs": "EPSG:32616", "resolution": 10.0}, "EPSG:32615", "of 30, 'b' of 10"),
        ({"crs": "EPSG:2264", "left": 2e6, "top": 6e5, "resolution": 32.8084}, "EPSG:4326", "of 0.0003"),  # feet: 10 m
    ],
    ids=["one zone", "degrees", "two zones", "feet"],
)
def test_several_resolutions_raise_in_any_crs(write, other, crs, shown, coarse_first):
    """The first file decided, so that ten metres became thirty without a word."""
    names = ["a.tif", "b.tif"] if coarse_first else ["b.tif", "a.tif"]
    paths = [write(distinct((40, 40)), make_grid((40, 40)), name=names[0])]
    paths.append(write(distinct((40, 40)), make_grid((40, 40), **other), name=names[1]))
    with pytest.raises(GridError, match="Cannot choose one resolution: '[ab]' has pixels of") as raised:
        open_cogs(sorted(paths), crs=crs)
    assert not coarse_first or shown in str(raised.value)
    assert open_cogs(sorted(paths), crs=crs, resolution=raised.value.value).ndim == 3


def test_pixel_sizes_of_scenes_that_are_resampled_anyway_may_differ_slightly(write):
    grids = make_grid((40, 40)), make_grid((40, 40), crs="EPSG:32616", resolution=30.4)
    paths = [write(distinct((40, 40)), grid, name=f"{n}.tif") for n, grid in enumerate(grids)]
    assert grid_of(open_cogs(paths, crs="EPSG:32615")).affine.a == 30
    assert grid_of(open_cogs(paths, crs="EPSG:5070")).affine.a == 30


def test_resolution_error_names_the_files_of_one_scene(write, tmp_path):
    name = "LC08_L2SP_026031_20190701_20200827_02_T1"
    write(distinct((60, 70)), GRID, name=f"{name}_SR_B4.TIF", folder=tmp_path)
    finer = make_grid((120, 140), resolution=15.0)
    write(distinct((120, 140)), finer, name=f"{name}_SR_B5.TIF", folder=tmp_path)
    with pytest.raises(GridError, match=rf"'{name}_SR_B4.TIF' has pixels of 30, '{name}_SR_B5.TIF' of 15 units"):
        open_cogs(str(tmp_path / "*.TIF"), product="landsat8")


def test_overlapping_files_of_two_resolutions_raise(write):
    paths = [
        write(distinct((60, 70)), GRID, name="a.tif"),
        write(distinct((120, 140)), make_grid((120, 140), resolution=15.0), name="b.tif"),
    ]
    for options in ({}, {"resolution": 30}):
        with pytest.raises(InputError, match=r"a.tif' and '.*b.tif' overlap and differ.*intersection.*union"):
            open_cogs(paths, **options)


def test_file_that_is_not_a_raster_raises(tmp_path):
    path = tmp_path / "broken.tif"
    path.write_bytes(b"II*\0 not a tiff")
    with pytest.raises(ReadError, match=rf"Cannot open {path}"):
        open_cogs(path)


def test_layer_is_opened_on_the_grid_argument(write):
    target = make_grid((20, 20), left=600_300)
    layer = open_cogs(write(distinct((60, 70)), GRID), grid=target)
    assert grid_of(layer) == target
    assert np.array_equal(values_of(layer)[0], distinct((60, 70))[:20, 10:30])


def test_forms_of_chunks_name_and_paths(write, tmp_path):
    path = write(distinct((2, 60, 70)), GRID, folder=tmp_path)
    assert open_cogs(path, chunks=32).chunks == ((2,), (32, 28), (32, 32, 6))
    assert open_cogs(path, chunks={"x": 70, "band": 1}).chunks == ((1, 1), (60,), (70,))
    assert open_cogs(tmp_path / "*.tif", name="dem").name == "dem"
    xr.testing.assert_identical(open_cogs([path, path]), open_cogs(path))


def test_distant_scenes_form_a_large_lazy_layer(write):
    paths = [
        write(distinct((8, 8)), make_grid((8, 8), left=300_000, top=9_000_000)),
        write(distinct((8, 8)), make_grid((8, 8))),
    ]
    layer = open_cogs(paths, nodata=0)
    assert layer.sizes["y"] > 100_000
    assert view_of(layer).read(Window(0, 0, 8, 8))[1].all()
    assert not view_of(layer).read(Window(50_000, 0, 8, 8))[1].any()


def test_nodata_beside_that_of_all_files_raises(write):
    path, other = write(distinct((8, 8)), GRID, nodata=0), write(distinct((8, 8)), GRID)
    with pytest.raises(InputError, match=r"5 as nodata: the files state 0\. Leave nodata= out\. Mask .*layer != 5"):
        open_cogs(path, nodata=5)
    for paths, nodata in ((path, 0), (other, 5), ([path, other], 0)):
        assert open_cogs(paths, nodata=nodata).attrs["_FillValue"] == nodata


def test_layer_is_cropped_to_bbox_or_geometry(tmp_path):
    pattern, names = landsat(tmp_path, lefts=(600_000, 606_000))
    layer = open_cogs(pattern, product="landsat8", groupby="day")
    lon, lat = transformer(GRID.crs, parse_crs("EPSG:4326")).transform([606_320, 606_880], [4_549_100, 4_549_400])
    for options in (
        {"bbox": (lon[0], lat[0], lon[1], lat[1])},
        {"intersects": shapely.box(lon[0], lat[0], lon[1], lat[1])},
    ):
        part = open_cogs(pattern, product="landsat8", groupby="day", **options)
        assert [s.id for s in view_of(part).source.scenes] == names[1:]
        assert part.sizes["time"] == 1
        assert 18 <= part.sizes["x"] <= 24
        whole_scene = layer.isel(time=1).sel(x=part.x, y=part.y)
        assert np.array_equal(values_of(part)[0], values_of(whole_scene))
    with pytest.raises(OverlapError, match=r"Cannot cut the layer to 10 to 11 E, 50 to 51 N: none of its files.*bbox="):
        open_cogs(pattern, product="landsat8", bbox=(10, 50, 11, 51))
    with pytest.raises(InputError, match="both given"):
        open_cogs(pattern, product="landsat8", bbox=(10, 50, 11, 51), intersects=shapely.box(10, 50, 11, 51))


def test_bands_accepts_one_name_or_an_array_of_names(write):
    path = write(distinct((2, 60, 70)), GRID, bands=["red", "nir"])
    assert open_cogs(path, bands="nir").band.values.tolist() == ["nir"]
    band = open_cogs(path).band[::-1]
    assert open_cogs(path, bands=band).band.values.tolist() == ["nir", "red"]
    assert open_cogs(path, bands=band.values).band.values.tolist() == ["nir", "red"]


def test_invalid_errors_argument_raises(write):
    with pytest.raises(InputError, match="read errors by 'x'.*errors='raise' or 'nodata'"):
        open_cogs(write(distinct((60, 70)), GRID), errors="x")


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32615"])
def test_bands_whose_grids_differ_by_rounding_are_one_scene(write, crs):
    size, left, top = (8.983152841195215e-05, -0.78, 38.1) if crs == "EPSG:4326" else (10 / 3, 5e5 + 1 / 3, 4e6 + 2 / 3)
    grids = [
        GeoBox((60, 70), Affine(size * (1 + d), 0, left + d * size, 0, -size * (1 - d), top), crs)
        for d in (0, 4e-16, -3e-9, 5e-9)
    ]
    paths = [write(np.full((60, 70), n + 1, "uint16"), grid, name=f"b{n}.tif") for n, grid in enumerate(grids)]
    layer = open_cogs(paths)
    assert layer.values[:, 5, 5].tolist() == [1, 2, 3, 4]
    view = view_of(layer)
    assert len(view.source._asset_groups(0, (0, 1, 2, 3))) == 1  # read together


def test_files_shifted_by_part_of_a_pixel_are_no_mosaic(write):
    grids = GRID, GeoBox(GRID.shape, GRID.affine @ Affine.translation(0.5, 0), GRID.crs)
    paths = [write(np.full((60, 70), n + 1, "uint16"), grid, name=f"b{n}.tif") for n, grid in enumerate(grids)]
    with pytest.raises(InputError, match="b0.* and .*b1.* shifted by less than a pixel.*intersection"):
        open_cogs(paths)
    assert open_cogs(paths, composite="mean", grid=GRID).values[0, 5, 5] == 2  # 1.5, rounded


def described(folder, names):
    path = folder / "stack.tif"
    grid = make_grid((8, 9))
    profile = {"driver": "GTiff", "height": 8, "width": 9, "count": len(names), "dtype": "uint16", "crs": "EPSG:32615"}
    with rasterio.open(path, "w", transform=grid.affine, **profile) as file:
        file.write(distinct((len(names), 8, 9)))
        file.descriptions = names
    return str(path)


def test_bands_described_by_known_names_have_common_names(tmp_path):
    path = described(tmp_path, ("SR_B5", "SR_B4", "SR_B6", "height"))
    layer = open_cogs(path)
    assert layer["common_name"].values.tolist() == ["nir08", "red", "swir16", ""]
    chosen = open_cogs(path, bands=("red", "height"))
    assert chosen["band"].values.tolist() == ["SR_B4", "height"]
    with rasterio.open(path) as file:
        assert np.array_equal(values_of(chosen), file.read([2, 4]))
        by_common_name = layer.set_xindex("common_name").sel(common_name=["red", "nir08"])
        assert np.array_equal(values_of(by_common_name), file.read([2, 1]))
        nir, red = (file.read(n).astype("float32") for n in (1, 2))
    ndvi = indices.append(layer, "ndvi", scale=1, offset=0).isel(band=-1)
    np.testing.assert_allclose(values_of(ndvi), (nir - red) / (nir + red), rtol=1e-6)


def test_names_of_several_meanings_have_no_common_name(tmp_path):
    layer = open_cogs(described(tmp_path, ("B4", "B5")))
    assert "common_name" not in layer.coords
    with pytest.raises(InputError, match="bands"):
        indices.append(layer, "ndvi", scale=1, offset=0)
