"""Files without a geotransform: an error, or the pixels of a grid that the caller states."""

import warnings

import numpy as np
import pytest
import rasterio
import xarray as xr
from rasterio.control import GroundControlPoint
from rasterio.errors import NotGeoreferencedWarning
from rasterio.rpc import RPC

import geoxt
from geoxt.errors import CRSError, GridError, InputError
from geoxt.grid import coordinates
from geoxt.pixels.images import read_image_header
from geoxt.testing import make_grid

GRID = make_grid((30, 40))
VALUES = (np.arange(30 * 40).reshape(1, 30, 40) % 251 + 1).astype("uint8")
POINTS = [GroundControlPoint(r, c, 10 + 0.001 * c, 50 - 0.001 * r) for r in (0, 30) for c in (0, 40)]
CUBIC = {"line_num_coeff": [0, 0, -1] + [0] * 17, "line_den_coeff": [1] + [0] * 19}
CUBIC |= {"samp_num_coeff": [0, 1] + [0] * 18, "samp_den_coeff": [1] + [0] * 19}
SCALES = {"lat_off": 40, "lat_scale": 0.1, "long_off": -93, "long_scale": 0.1, "height_off": 0, "height_scale": 500}
RPCS = RPC(line_off=15, line_scale=15, samp_off=20, samp_scale=20, err_bias=0, err_rand=0, **SCALES, **CUBIC)


def picture(path, driver="GTiff", *, values=VALUES, crs=None, gcps=None, rpcs=None, **options):
    count, height, width = values.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        profile = {"driver": driver, "count": count, "height": height, "width": width, "dtype": values.dtype}
        with rasterio.open(path, "w", crs=crs, **profile, **options) as file:
            file.write(values)
        if gcps or rpcs:
            with rasterio.open(path, "r+") as file:
                if gcps:
                    file.gcps = gcps, rasterio.crs.CRS.from_epsg(4326)
                else:
                    file.rpcs = rpcs
    return path


FILES = {
    "plain.tif": {},
    "png": {"driver": "PNG"},
    "bmp": {"driver": "BMP"},
    "jpeg": {"driver": "JPEG"},
    "crs.tif": {"crs": GRID.crs.to_wkt()},
}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("source_crs", [None, "EPSG:32615"])
@pytest.mark.parametrize("name", FILES)
def test_file_without_a_geotransform_is_not_opened_at_0_0(tmp_path, name, source_crs):
    path = picture(tmp_path / name, **FILES[name])
    with pytest.raises(CRSError, match=r"30 x 40 pixels.*no(r a)? geotransform.*Pass like=.*world file") as raised:
        geoxt.open_cogs(path, source_crs=source_crs)
    assert name in str(raised.value)


@pytest.mark.parametrize("options", [{}, {"source_crs": "EPSG:4326"}, {"grid": GRID}])
@pytest.mark.parametrize(("key", "tool"), [("gcps", "-tps"), ("rpcs", "-rpc")])
def test_file_with_control_points_or_rpcs_must_be_warped_first(tmp_path, key, tool, options):
    path = picture(tmp_path / "a.tif", **{key: {"gcps": POINTS, "rpcs": RPCS}[key]})
    with pytest.raises(CRSError, match=f"no geotransform, only .*Warp it to a grid first.*{tool}"):
        geoxt.open_cogs(path, **options)


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_those_of_a_grid_of_the_same_shape(tmp_path, name):
    path = picture(tmp_path / name, **FILES[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        stored = rasterio.open(path).read()
        layer = geoxt.open_cogs(path, grid=GRID)
    assert layer.geoml.grid == GRID
    np.testing.assert_array_equal(layer.values, stored)
    np.testing.assert_array_equal(layer.isel(x=slice(5, 20)).geoml.align(GRID).values[..., 5:20], stored[..., 5:20])


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_like_takes_the_grid_of_a_layer(tmp_path):
    image = xr.DataArray(np.zeros(GRID.shape), dims=("y", "x"), coords=coordinates(GRID), name="image")
    path = picture(tmp_path / "labels.png", "PNG")
    labels = geoxt.open_cogs(path, like=image, categorical=True)
    pair = geoxt.intersection(image=image, mask=labels)
    np.testing.assert_array_equal(pair["mask"].values, VALUES[0])
    batch = next(iter(pair.geoml.loader(geoxt.samplers.GridSampler(pair, size=8), batch_size=1)))
    np.testing.assert_array_equal(batch["mask"][0].numpy(), VALUES[0, :8, :8])
    with pytest.raises(InputError, match="two grids.*like=.*grid="):
        geoxt.open_cogs(path, like=image, grid=GRID)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_grid_of_another_shape_or_crs_raises(tmp_path):
    path = picture(tmp_path / "a.png", "PNG")
    with pytest.raises(GridError, match=r"a.png.*it has 30 x 40 pixels, the grid 40 x 30.*Pass a grid="):
        geoxt.open_cogs(path, grid=make_grid((40, 30)))
    path = picture(tmp_path / "a.tif", crs="EPSG:32633")
    with pytest.raises(CRSError, match=r"a.tif.*EPSG:32633.*EPSG:32615.*grid="):
        geoxt.open_cogs(path, grid=GRID)


def test_georeferenced_file_is_warped_to_a_grid_of_its_shape(tmp_path):
    path = picture(tmp_path / "a.tif", crs=GRID.crs.to_wkt(), transform=GRID.affine @ GRID.affine.translation(3, 2))
    layer = geoxt.open_cogs(path, grid=GRID, nodata=0)
    np.testing.assert_array_equal(layer.values[0, 2:, 3:], VALUES[0, :-2, :-3])
    assert not layer.values[0, :2].any()


def test_world_file_and_source_crs_georeference_a_picture(tmp_path):
    path = picture(tmp_path / "a.png", "PNG")
    a = GRID.affine
    centre = a @ (0.5, 0.5)
    (tmp_path / "a.pgw").write_text("\n".join(map(repr, (a.a, a.d, a.b, a.e, *centre))))
    layer = geoxt.open_cogs(path, source_crs=GRID.crs)
    assert layer.geoml.grid == GRID
    with pytest.raises(CRSError, match=r"the file has no CRS\. Pass source_crs="):
        geoxt.open_cogs(path)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_stated_grid_is_not_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOXT_CACHE", str(tmp_path / "cache"))
    paths = [picture(tmp_path / f"{n:02d}.tif", values=VALUES + n) for n in range(16)]
    other = make_grid((30, 40), resolution=60)
    for grid in (GRID, other):
        assert geoxt.open_cogs(paths, grid=grid).geoml.grid == grid
    with pytest.raises(CRSError, match="geotransform"):
        geoxt.open_cogs(paths)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_image_with_a_crs_and_no_geotransform_has_no_grid(tmp_path):
    path = picture(tmp_path / "a.tif", crs="EPSG:32615")
    assert read_image_header(str(path)).grid is None


LOCAL = {
    "LOCAL_CS": 'LOCAL_CS["site",UNIT["metre",1]]',
    "ENGCRS": 'ENGCRS["site",EDATUM["x"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]',
    "geocentric": "EPSG:4978",
}


@pytest.mark.parametrize("name", LOCAL)
def test_local_crs_is_named_with_the_file_or_replaced(tmp_path, name):
    path = picture(tmp_path / "plan.tif", crs=LOCAL[name], transform=GRID.affine)
    with pytest.raises(CRSError, match=r"plan.tif: the file has a local CRS.*Pass source_crs="):
        geoxt.open_cogs(path)
    assert geoxt.open_cogs(path, source_crs=GRID.crs).geoml.grid == GRID
    assert read_image_header(str(path)).grid is None
    with pytest.raises(CRSError, match="neither geographic nor projected. Pass crs="):
        geoxt.open_cogs(path, source_crs=GRID.crs, crs=LOCAL[name])


def test_compound_crs_is_that_of_its_horizontal_part(tmp_path):
    path = picture(tmp_path / "dem.tif", crs="EPSG:32615+5703", transform=GRID.affine)
    layer = geoxt.open_cogs(path)
    np.testing.assert_array_equal(layer.geoml.align(GRID).values, VALUES)
    assert geoxt.open_cogs(path, crs="EPSG:32615+5703").geoml.grid.affine == GRID.affine
