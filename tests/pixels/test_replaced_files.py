"""Files and sidecars that are replaced under their name: reads give the new pixels and masks."""

import os
import shutil
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

import geoxt  # noqa: F401 (the accessor)
from geoxt.errors import CatalogError
from geoxt.layers import open_cogs
from geoxt.pixels import reader
from geoxt.pixels.credentials import Credentials
from geoxt.pixels.file_version import local_file
from geoxt.samplers import GridSampler
from geoxt.source import view_of
from geoxt.testing import make_grid, write_cog
from geoxt.windows import Window

GRID = make_grid((40, 40))
WINDOW = Window(3, 4, 8, 9)


def write(path, value, *, shape=(40, 40), bands=1, **options):
    values = np.full((bands, *shape), value, "uint16")
    return str(write_cog(path, values, **{"grid": make_grid(shape), "tiled": False, "overviews": (), **options}))


def write_vrt(path, source):
    wkt, transform = rasterio.CRS.from_epsg(32615).to_wkt(), ",".join(map(str, GRID.affine.to_gdal()))
    band = f'<SimpleSource><SourceFilename relativeToVRT="1">{source}</SourceFilename></SimpleSource>'
    xml = f'<VRTDataset rasterXSize="40" rasterYSize="40"><SRS>{wkt}</SRS><GeoTransform>{transform}</GeoTransform>'
    path.write_text(f'{xml}<VRTRasterBand dataType="UInt16" band="1">{band}</VRTRasterBand></VRTDataset>')
    return str(path)


def write_mask(path, value, shape=(40, 40)):
    profile = {"driver": "GTiff", "width": shape[1], "height": shape[0], "count": 1, "dtype": "uint8"}
    with rasterio.open(f"{path}.msk", "w", **profile, transform=GRID.affine) as file:
        file.write(np.full((1, *shape), value, "uint8"))
        file.update_tags(INTERNAL_MASK_FLAGS_1=2)


def by_rename(path, temporary):
    write(temporary, 2)
    Path(temporary).replace(path)


def by_overwrite(path, temporary):
    write(path, 2)


def by_update(path, temporary):
    with rasterio.open(path, "r+") as file:
        file.write(np.full((1, 40, 40), 2, "uint16"))


def with_former_times(path, temporary):
    status = Path(path).stat()
    write(temporary, 2)
    shutil.copyfile(temporary, path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def through_a_link(path, temporary):
    write(temporary, 2)
    Path(path).unlink()
    Path(path).symlink_to(temporary)


REPLACEMENTS = [by_rename, by_overwrite, by_update, with_former_times, through_a_link]


@pytest.mark.parametrize("compress", ["none", "deflate"])
@pytest.mark.parametrize("replace", REPLACEMENTS, ids=lambda function: function.__name__)
def test_replaced_file_gives_new_pixels(replace, compress, tmp_path):
    path = write(tmp_path / "a.tif", 1, compress=compress)
    for _ in range(3):  # by GDAL, by the raw reader
        assert (reader.read(path, [1], WINDOW)[0] == 1).all()
    replace(path, str(tmp_path / "b.tif"))
    for _ in range(3):
        assert (reader.read(path, [1], WINDOW)[0] == 2).all()


def test_file_with_more_bands_and_another_shape_is_read(tmp_path):
    path = write(tmp_path / "a.tif", 1)
    reader.read(path, [1], WINDOW)
    write(path, 2, shape=(60, 50), bands=3)
    assert (reader.read(path, [3], Window(50, 40, 10, 10))[0] == 2).all()
    assert reader.use_file(path, lambda file: file.shape) == (60, 50)


def test_replaced_mask_is_read(tmp_path):
    path = write(tmp_path / "a.tif", 1)
    write_mask(path, 255)
    assert reader.read(path, [1], WINDOW, masks=True)[1].all()
    write_mask(path, 0)
    assert not reader.read(path, [1], WINDOW, masks=True)[1].any()
    Path(f"{path}.msk").unlink()
    assert reader.read(path, [1], WINDOW, masks=True)[1].all()
    write_mask(path, 0)
    assert not reader.read(path, [1], WINDOW, masks=True)[1].any()


def test_replaced_overviews_are_read(tmp_path):
    path = write(tmp_path / "a.tif", 1, shape=(64, 64))
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as file:
        file.build_overviews([2], Resampling.nearest)
    for value in (10, 20):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(f"{path}.ovr", "r+") as file:
                file.write(np.full((1, 32, 32), value, "uint16"))
        assert (reader.read(path, [1], WINDOW, level=0)[0] == value).all()


@pytest.mark.parametrize("address", ["/vsizip/{zip}/a.tif", "/vsizip/{{{zip}}}/a.tif", "zip://{zip}!a.tif"])
def test_replaced_archive_gives_new_pixels(address, tmp_path):
    archive = tmp_path / "a.zip"
    href = address.format(zip=archive)
    for value in (1, 2):
        with zipfile.ZipFile(archive, "w") as file:
            file.write(write(tmp_path / "a.tif", value, compress="deflate"), "a.tif")
        assert (reader.read(href, [1], WINDOW)[0] == value).all()


def test_replaced_archive_in_an_archive_gives_new_pixels(tmp_path):
    href = f"/vsizip/{{/vsizip/{tmp_path}/b.zip/a.zip}}/a.tif"
    for value in (1, 2):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            file.write(write(tmp_path / "a.tif", value), "a.tif")
        with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
            file.write(tmp_path / "a.zip", "a.zip")
        assert (reader.read(href, [1], WINDOW)[0] == value).all()


@pytest.mark.parametrize("replace", [by_rename, by_overwrite, by_update], ids=lambda function: function.__name__)
def test_replaced_files_of_a_vrt_give_new_pixels(replace, tmp_path):
    """Also through another open VRT of the file, and a VRT of the VRT."""
    for folder in ("a&b", "vrt"):
        (tmp_path / folder).mkdir()
    path = write(tmp_path / "a&b" / "a.tif", 1)
    hrefs = [write_vrt(tmp_path / f"{name}.vrt", "a&amp;b/a.tif") for name in "ab"]
    hrefs.append(write_vrt(tmp_path / "vrt" / "c.VRT", "../a.vrt"))
    assert all((reader.read(href, [1], WINDOW)[0] == 1).all() for href in hrefs * 3)
    names = [open_cogs(href).data.name for href in hrefs]
    replace(path, str(tmp_path / "b.tif"))
    assert all((reader.read(href, [1], WINDOW)[0] == 2).all() for href in hrefs * 3)
    assert not set(names) & {open_cogs(href).data.name for href in hrefs}


def test_replaced_container_gives_new_pixels(tmp_path):
    path = tmp_path / "a.nc"
    for value in (1, 2):
        rasterio.shutil.copy(write(tmp_path / "a.tif", value), path, driver="netCDF")
        assert (reader.read(f'NETCDF:"{path}":Band1', [1], WINDOW)[0] == value).all()


def test_replaced_file_in_memory_gives_new_pixels():
    for value in (1, 2):
        profile = {"driver": "GTiff", "width": 40, "height": 40, "count": 1, "dtype": "uint8"}
        with MemoryFile(filename="replaced.tif") as memory:
            with memory.open(**profile, transform=GRID.affine) as file:
                file.write(np.full((1, 40, 40), value, "uint8"))
            assert (reader.read(memory.name, [1], WINDOW)[0] == value).all()


def test_handles_of_other_gdal_options_are_not_shared(tmp_path):
    path = write(tmp_path / "a.tif", 1)
    write_mask(path, 0)
    without_sidecars = Credentials(env=(("GDAL_DISABLE_READDIR_ON_OPEN", "TRUE"),))
    reader.read(path, [1], WINDOW, masks=True, credentials=without_sidecars)
    assert not reader.read(path, [1], WINDOW, masks=True)[1].any()


def test_signed_local_file_gives_new_pixels(tmp_path):
    path = write(tmp_path / "a.tif", 1)
    credentials = Credentials(sign=str)
    for value in (1, 2):
        write(path, value)
        assert (reader.read(path, [1], WINDOW, credentials=credentials)[0] == value).all()


def test_threads_and_workers_that_hold_handles_read_new_pixels(tmp_path):
    path = write(tmp_path / "a.tif", 1)
    layer = open_cogs(path)
    view = view_of(layer)
    with ThreadPoolExecutor(4) as pool:
        for value in (1, 2):
            write(path, value)
            assert all((values == value).all() for values, _ in pool.map(view.read, [WINDOW] * 16))
    loader = layer.geoml.loader(GridSampler(layer, size=8), batch_size=5, num_workers=1, persistent_workers=True)
    for value in (3, 4):
        write(path, value)
        assert all((batch["image"] == value).all() for batch in loader)


def test_local_file_of_an_address(tmp_path):
    path = tmp_path / "a b:c.tif"
    path.touch()
    for address in (
        "/vsizip/{}/x.tif", "/vsizip/{{{}}}/x.tif", "/vsitar//vsigzip/{}/x.tif", "zip://{}!/x.tif", "file://{}",
        "NETCDF:{}:band", 'HDF5:"{}"://group/band', "GTIFF_DIR:2:{}", "SENTINEL2_L1C:{}:10m:EPSG_32632",
    ):  # fmt: skip
        assert local_file(address.format(path)) == str(path), address
    for address in ("https://a.b/c.tif", "/vsimem/a.tif", "/vsis3/a/b.tif", str(tmp_path / "none.tif"), ""):
        assert local_file(address) is None, address


@pytest.mark.parametrize("change", [by_overwrite, lambda path, _: write_mask(path, 0)], ids=["file", "mask"])
def test_replaced_file_changes_the_dask_token(change, tmp_path):
    path = write(tmp_path / "a.tif", 1)
    names = [open_cogs(path).data.name for _ in range(2)]
    change(path, None)
    assert names[0] == names[1] != open_cogs(path).data.name


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((50, 30), {}, "it had 40 x 40 pixels, the file has 50 x 30 pixels"),
        ((40, 40), {"left": 900_000}, "it had the transform"),
        ((40, 40), {"crs": "EPSG:32616"}, "it had EPSG:32615, the file has EPSG:32616"),
        ((40, 40), {"dtype": "float32"}, "it had pixels of uint16, the file has float32"),
    ],
)
def test_replaced_file_of_another_grid_or_type_raises(shape, options, message, tmp_path):
    path = write(tmp_path / "a.tif", 1)
    view = view_of(open_cogs(path, errors="nodata"))
    dtype = options.pop("dtype", "uint16")
    write_cog(path, np.ones((1, *shape), dtype), grid=make_grid(shape, **options), tiled=False, overviews=())
    with pytest.raises(CatalogError, match=rf"{path}: when the layer was opened {message}.*Open the layer again"):
        view.read(WINDOW)
    write(path, 3)
    assert (view.read(WINDOW)[0] == 3).all()


def set_nodata(path):
    with rasterio.open(path, "r+") as file:
        file.nodata = 7


def set_scale(path):
    with rasterio.open(path, "r+") as file:
        file.scales = (0.5,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_nodata, "it had the nodata value None, the file has the nodata value 7.0"),
        (set_scale, "it had the scale 1.0, the file has the scale 0.5"),
        (lambda path: write_mask(path, 0), "it had an internal mask: False, the file has an internal mask: True"),
    ],
)
def test_open_layer_of_a_file_whose_validity_or_scale_changed_raises(change, message, tmp_path):
    path = write(tmp_path / "a.tif", 7)
    views = [view_of(open_cogs(path)), view_of(open_cogs(path, nodata=3))]
    assert all(view.read(WINDOW)[1].all() for view in views)
    change(path)
    for view in views:
        with pytest.raises(CatalogError, match=f"when the layer was opened {message}.*Open the layer again"):
            view.read(WINDOW)


@pytest.mark.parametrize("ending", ["tfw", "TFW", "tifw"])
def test_changed_world_file_raises(ending, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", count=1, width=9, height=9, dtype="uint8"):
            pass
    world = tmp_path / f"a.{ending}"
    world.write_text("10\n0\n0\n-10\n500005\n4499995\n")
    view = view_of(open_cogs(str(tmp_path / "a.tif"), source_crs="EPSG:32615"))
    view.read(Window(0, 0, 9, 9))
    world.write_text("10\n0\n0\n-10\n500105\n4499995\n")
    with pytest.raises(CatalogError, match="it had the transform"):
        view.read(Window(0, 0, 9, 9))
