"""Written COGs equal the layer, are valid, and are complete or absent."""

import errno
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import xarray as xr

from geoxt.errors import InputError, OutputError, ReadError
from geoxt.grid import coordinates, full_window, grid_of
from geoxt.layers import open_cogs
from geoxt.legend import Legend
from geoxt.source import view_of
from geoxt.testing import make_grid
from geoxt.writers import cog, require_writable, to_cog

LEGEND = Legend((1, 5, 9), ("open water", "forest & scrub", "city"), ("#0000ff", "#00ff00", "#ff0000"))


def make_map(shape=(700, 600), chunks=None):
    blocks = np.random.default_rng(0).choice([0, 1, 5, 9], (shape[0] // 20 + 1, shape[1] // 20 + 1))
    values = np.kron(blocks, np.ones((20, 20)))[: shape[0], : shape[1]].astype("uint8")
    attrs = {"_FillValue": np.uint8(0), **LEGEND.attrs()}
    layer = xr.DataArray(values, dims=("y", "x"), coords=coordinates(make_grid(shape)), attrs=attrs, name="map")
    return layer if chunks is None else layer.chunk(chunks)


@pytest.mark.parametrize("chunks", [None, {"y": 300, "x": 250}])
def test_categorical_cog_has_colors_names_and_nodata(tmp_path, chunks):
    layer = make_map(chunks=chunks)
    path = to_cog(layer, tmp_path / "deep" / "map.tif")
    with rasterio.open(path) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        np.testing.assert_array_equal(file.read(1), layer)
        assert file.crs == rasterio.CRS.from_wkt(grid_of(layer).crs.to_wkt())
        assert file.transform == grid_of(layer).affine
        assert file.nodata == 0
        assert {code: file.colormap(1)[code] for code in LEGEND.codes} == LEGEND.colormap()
        assert file.overviews(1) == [2]
        assert set(np.unique(file.read(1, out_shape=(350, 300)))) <= {0, 1, 5, 9}
        assert file.tags(1)["flag_values"] == "1 5 9"
        assert file.tags(1)["flag_meanings"] == "open_water forest_&_scrub city"
    assert [file_path.name for file_path in path.parent.iterdir() if file_path.name.startswith(".")] == []


def test_gdal_reads_class_names(tmp_path):
    path = to_cog(make_map(), tmp_path / "map.tif")
    rasterio.shutil.copy(path, tmp_path / "map.vrt", driver="VRT")
    names = [file_path.text for file_path in ET.parse(tmp_path / "map.vrt").iter("Category")]  # noqa: S314 (our own file)
    assert dict(enumerate(names)) == {**dict.fromkeys(range(10)), 1: "open water", 5: "forest & scrub", 9: "city"}


def test_extension_of_another_format_raises(tmp_path):
    with pytest.raises(InputError, match=r"not a file of the extension '\.png'\. Pass path= with the extension \.tif"):
        to_cog(make_map((4, 4)), tmp_path / "map.png")


def test_rio_cogeo_validates_the_file(tmp_path):
    validate = pytest.importorskip("rio_cogeo").cog_validate
    valid, errors, warnings = validate(str(to_cog(make_map(), tmp_path / "map.tif")))
    assert (valid, errors, warnings) == (True, [], [])


def test_continuous_cog_keeps_bands_and_nan(tmp_path):
    values = np.random.default_rng(0).normal(size=(2, 520, 530)).astype("float32")
    values[:, :9] = np.nan
    coords = {"band": ["a", "b"], **coordinates(make_grid((520, 530)))}
    layer = xr.DataArray(values, dims=("band", "y", "x"), coords=coords, attrs={"_FillValue": np.nan})
    to_cog(make_map(), tmp_path / "map.tif")
    path = to_cog(layer, tmp_path / "map.tif")
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(), values)
        assert file.descriptions == ("a", "b")
        assert np.isnan(file.nodata)
    assert not (tmp_path / "map.tif.aux.xml").exists()


def test_masked_band_has_nan_as_nodata_and_its_name(tmp_path):
    image = xr.DataArray(
        np.ones((2, 40, 30), "uint16"),
        dims=("band", "y", "x"),
        coords={"band": ["red", "nir"], **coordinates(make_grid((40, 30)))},
    )
    with rasterio.open(to_cog(image.sel(band="nir").where(image.x > image.x[4]), tmp_path / "nir.tif")) as file:
        assert np.isnan(file.nodata)
        assert (file.read_masks(1) == 0).sum() == 5 * 40
        assert file.descriptions == ("nir",)
    with rasterio.open(to_cog(image.rename("landsat8").sel(band="nir"), tmp_path / "named.tif")) as file:
        assert file.descriptions == ("nir",)


def test_failed_write_keeps_the_existing_file(tmp_path, monkeypatch):
    path = to_cog(make_map(), tmp_path / "map.tif")
    before = path.read_bytes()

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cog.rasterio.shutil, "copy", full)
    with pytest.raises(
        OutputError, match=re.escape(f"Cannot write {str(path)!r}: No space left on device. Make space")
    ):
        to_cog(make_map((20, 20)), path, resume=False)
    assert path.read_bytes() == before
    assert sorted(file_path.name for file_path in tmp_path.iterdir()) == ["map.tif", "map.tif.aux.xml"]


@pytest.mark.parametrize(("dtype", "stored"), [("bool", "uint8"), ("float16", "float32"), ("int64", "int64")])
def test_dtypes_without_geotiff_counterpart_are_widened(tmp_path, dtype, stored):
    layer = (make_map((40, 30)) > 3).astype(dtype).drop_attrs(deep=False)
    with rasterio.open(to_cog(layer, tmp_path / "map.tif")) as file:
        assert file.dtypes == (stored,)
        np.testing.assert_array_equal(file.read(1), layer.astype(stored))


def test_object_dtype_raises(tmp_path):
    with pytest.raises(InputError, match="Cannot write pixels of dtype object as a COG"):
        to_cog(make_map((40, 30)).drop_attrs(deep=False).astype(object), tmp_path / "map.tif")


def test_read_error_is_not_an_output_error(tmp_path):
    def cut(block):
        msg = "Cannot read in.tif."
        raise ReadError(msg)

    layer = make_map((40, 30), chunks=20)
    broken = layer.copy(data=layer.data.map_blocks(cut, dtype="uint8", meta=np.empty((0, 0), "uint8")))
    with pytest.raises(ReadError, match="Cannot read in.tif"):
        to_cog(broken, tmp_path / "map.tif")
    assert list(tmp_path.iterdir()) == []


def test_classes_without_a_legend_have_no_names(tmp_path):
    path = to_cog(make_map((40, 30)).assign_attrs(Legend((), ()).attrs()), tmp_path / "map.tif")
    assert [file_path.name for file_path in tmp_path.iterdir()] == ["map.tif"]
    with rasterio.open(path) as file:
        assert "flag_values" not in file.tags(1)


def test_unwritable_output_raises_before_computing(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Pass a path in a writable folder"):
        require_writable(tmp_path / "file" / "map.tif")
    with pytest.raises(OutputError, match="it is a folder"):
        require_writable(tmp_path)


def test_time_dimension_raises(tmp_path):
    with pytest.raises(InputError, match=r"Cannot write the dimensions \('time', 'y', 'x'\)"):
        to_cog(make_map().expand_dims(time=2), tmp_path / "map.tif")


def former_map(path):
    """Write a map with all of GDAL's sidecars: class names, a mask of no valid pixel, and overviews."""
    to_cog(make_map() // 2, path)
    with rasterio.open(path) as file:
        profile = file.profile
    profile.update(driver="GTiff", blockxsize=256, blockysize=256)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "w", **profile) as file:
        file.write(np.full(file.shape, 7, "uint8"), 1)
        file.write_mask(np.zeros(file.shape, "uint8"))
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as file:
        file.build_overviews([4])
    path.with_name(f"{path.name}.aux.xml").write_text("<PAMDataset></PAMDataset>")
    return {p.name: p.read_bytes() for p in path.parent.iterdir() if not p.name.startswith(".")}


def test_sidecars_of_a_replaced_file_do_not_mask_the_new_one(tmp_path):
    files = former_map(tmp_path / "map.tif")
    assert set(files) == {f"map.tif{end}" for end in ("", ".aux.xml", ".msk", ".msk.ovr", ".ovr")}
    layer = xr.DataArray(make_map().values.astype("int32"), dims=("y", "x"), coords=make_map().coords)
    to_cog(layer, tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.nodata is None
        assert file.read_masks(1).all()
        assert file.overviews(1) == [2]
    assert [p.name for p in tmp_path.iterdir()] == ["map.tif"]


def test_a_file_that_cannot_be_replaced_keeps_its_sidecars(tmp_path, monkeypatch):
    path = tmp_path / "map.tif"
    files = former_map(path)
    rename = Path.replace

    def raise_error(source, target):
        if Path(target) == path:
            raise PermissionError(errno.EACCES, "in use by another process")
        return rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", raise_error)
        with pytest.raises(OutputError, match="in use"):
            to_cog(make_map(), path, resume=False)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == files


class Killed(BaseException):
    """Raised instead of a kill signal."""


def test_a_process_killed_before_the_replacement_loses_no_sidecar(tmp_path, monkeypatch):
    path, layer = tmp_path / "map.tif", make_map()
    files = former_map(path)
    move, calls = cog._move_sidecars, []

    def move_once(*folders):
        calls.append(folders)
        if len(calls) == 1:
            move(*folders)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(cog, "_move_sidecars", move_once)
        with pytest.raises(Killed):
            to_cog(layer, path)
    assert path.read_bytes() == files["map.tif"]
    assert not path.with_name("map.tif.aux.xml").exists()
    with monkeypatch.context() as patch:
        patch.setattr(cog, "write_blocks", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        with pytest.raises(OutputError):
            to_cog(layer, path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == files


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("int64", -(2**63)), ("int64", 2**62 + 1), ("uint64", 2**64 - 1), ("int8", -128)]
)
def test_nodata_of_any_integer_type_is_written_exactly(tmp_path, dtype, nodata):
    """rasterio sets a float64: -2**63 became -9, so that all missing pixels were valid and a -9 was not."""
    values = np.arange(-9, 11).reshape(4, 5).astype(dtype)
    values[0, 1] = nodata
    grid = make_grid((4, 5))
    layer = xr.DataArray(values, dims=("y", "x"), coords=coordinates(grid), attrs={"_FillValue": values[0, 1]})
    path = to_cog(layer, tmp_path / "map.tif")
    with rasterio.open(path) as file:
        assert np.array_equal(file.read(1), values)
        assert np.array_equal(file.read_masks(1) > 0, values != values[0, 1])
    opened = view_of(open_cogs(str(path))).read(full_window(grid))
    assert np.array_equal(opened[1].squeeze(), values != values[0, 1])
