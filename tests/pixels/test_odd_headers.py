"""Files with odd headers: right pixels, or an error that names the file; never a raw error of a library."""

import warnings

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.errors import NotGeoreferencedWarning

from geoxt.errors import CRSError, GridError, ReadError, ReadWarning
from geoxt.layers import open_cogs
from geoxt.pixels import gdal_retry, reader
from geoxt.source import view_of
from geoxt.testing import distinct, make_grid, write_cog
from geoxt.windows import Window

VRT = """<VRTDataset rasterXSize="8" rasterYSize="8"><SRS>EPSG:32615</SRS><GeoTransform>{transform}</GeoTransform>
<VRTRasterBand dataType="UInt16" band="1">{color}<SimpleSource><SourceFilename relativeToVRT="1">a.tif</SourceFilename>
<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"""


@pytest.fixture
def vrt(tmp_path):
    """Write a VRT of a small file with a geotransform in GDAL's order; returns its path."""
    write_cog(tmp_path / "a.tif", distinct((8, 8)), grid=make_grid((8, 8)), tiled=False, overviews=())

    def write(transform="0, 10, 0, 0, 0, -10", color=""):
        (tmp_path / "a.vrt").write_text(VRT.format(transform=transform, color=color))
        return str(tmp_path / "a.vrt")

    return write


@pytest.mark.parametrize(
    "wkt",
    [
        'LOCAL_CS["site",UNIT["metre",1],AXIS["x",EAST],AXIS["y",NORTH]]',
        'ENGCRS["site",EDATUM["site datum"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]',
    ],
)
def test_local_crs_raises_with_the_path(wkt, tmp_path):
    path = str(tmp_path / "local.tif")
    profile = {"driver": "GTiff", "width": 8, "height": 8, "count": 1, "dtype": "uint8", "crs": wkt}
    with rasterio.open(path, "w", **profile, transform=rasterio.Affine(10, 0, 0, 0, -10, 0)) as file:
        file.write(np.ones((1, 8, 8), "uint8"))
    with pytest.raises(CRSError, match=rf"{path}: .*a local CRS"):
        open_cogs(path)


@pytest.mark.parametrize(
    "transform", ["0, nan, 0, 0, 0, -10", "inf, 10, 0, 0, 0, -10", "5, 0, 0, 5, 0, 0", "0, 1e-300, 0, 0, 0, -1e-300"]
)
def test_geotransform_without_inverse_raises_with_the_path(transform, vrt):
    path = vrt(transform)
    with pytest.raises(GridError, match=rf"{path}: its geotransform \(.*\) has no inverse"):
        open_cogs(path)


def test_palette_without_colors_is_opened(vrt):
    path = vrt(color="<ColorInterp>Palette</ColorInterp>")
    assert reader.read_header(path).colors is None
    assert np.array_equal(open_cogs(path, categorical=False).values.squeeze(), distinct((8, 8)))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_container_names_its_rasters_and_opens_each(tmp_path):
    first = write_cog(tmp_path / "a.tif", distinct((2, 8, 8)), grid=make_grid((8, 8)), tiled=False, overviews=())
    path = tmp_path / "a.nc"
    rasterio.shutil.copy(str(first), path, driver="netCDF")
    with pytest.raises(ReadError, match=rf"Cannot open {path}: it holds 2 rasters.*netcdf:{path}:Band1"):
        open_cogs(path)
    for address in (f'NETCDF:"{path}":Band2', f"netcdf:{path}:Band2"):
        assert np.array_equal(open_cogs(address).values.squeeze(), distinct((2, 8, 8))[1])


def test_file_cut_anywhere_raises_or_is_nodata(tmp_path):
    mask = np.eye(64, dtype=bool)
    options = {"grid": make_grid((64, 64)), "mask": mask, "tiled": True, "blocksize": 16, "overviews": ()}
    path = write_cog(tmp_path / "a.tif", distinct((64, 64), "uint8"), **options)
    content, intact = path.read_bytes(), view_of(open_cogs(path)).read(Window(0, 0, 64, 64))
    outcomes = set()
    for size in range(8, len(content), len(content) // 40):
        path.write_bytes(content[:size])
        outcomes |= {outcome(path, intact, "raise"), outcome(path, intact, "nodata")}
    assert outcomes <= {"raised", "whole", "nodata"}
    assert {"raised", "nodata"} <= outcomes


def outcome(path, intact, errors):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReadWarning)
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            values, valid = view_of(open_cogs(path, errors=errors)).read(Window(0, 0, 64, 64))
        except (ReadError, CRSError) as error:
            return "raised" if str(path) in str(error) else str(error)
    if errors == "nodata" and not valid.any():
        return "nodata"
    return "whole" if np.array_equal(valid.squeeze(), intact[1].squeeze()) and (values == intact[0]).all() else "wrong"


@pytest.mark.parametrize(
    "message",
    [
        "AWS_SECRET_ACCESS_KEY and AWS_NO_SIGN_REQUEST configuration options not defined, and ~/.aws not filled",
        "InvalidCredentials: 403",
    ],
)
def test_missing_credentials_are_not_retried(message, monkeypatch):
    waits = []
    monkeypatch.setattr(gdal_retry.retry, "sleep", waits.append)

    def fail_on_call(*_, **__):
        raise rasterio.errors.RasterioIOError(message)

    monkeypatch.setattr(rasterio, "open", fail_on_call)
    with pytest.raises(ReadError, match=r"Cannot open s3://b/a\.tif: tried once, last error: no credentials.*env="):
        reader.read_header("s3://b/a.tif")
    assert not waits
