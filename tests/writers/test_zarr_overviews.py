"""Overviews and shards of Zarr stores: the pixels of GDAL's overviews, and the layout of the GeoZarr conventions."""

import os
import signal
from collections import Counter

import dask.array
import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from support.processes import run_code

import geoxt
from geoxt.errors import InputError
from geoxt.grid import coordinates, grid_of
from geoxt.source import view_of
from geoxt.testing import make_grid
from geoxt.writers import zarr_overviews
from geoxt.writers.overview_pixels import reduce_average, reduce_mode

zarr = pytest.importorskip("zarr")

GRID = make_grid((1040, 80))


def layer_of(values, grid=GRID, **attrs):
    dims = ("band", "y", "x")[-values.ndim :]
    return xr.DataArray(values, dims=dims, coords=coordinates(grid), name="image", attrs=attrs)


def random(dtype, nodata=None, shape=GRID.shape):
    values = np.random.default_rng(0).integers(-300 if np.dtype(dtype).kind != "u" else 0, 300, shape).astype(dtype)
    if nodata is not None:
        values[100:301, 20:71] = nodata
        values[::7, ::5] = nodata
    return values


@pytest.mark.parametrize(("dtype", "nodata"), [("uint16", 7), ("uint8", None), ("float32", np.nan), ("int32", -9999)])
def test_average_is_that_of_gdal(tmp_path, dtype, nodata):
    values = random(dtype, nodata)
    layer = layer_of(values, **({} if nodata is None else {"_FillValue": nodata}))
    geoxt.to_cog(layer, tmp_path / "a.tif", progress=False)
    root = zarr.open_group(str(geoxt.to_zarr(layer, tmp_path / "a.zarr", progress=False)), mode="r")
    assert np.array_equal(root["image"][...], values, equal_nan=dtype == "float32")
    for level in (0, 1):
        with rasterio.open(tmp_path / "a.tif", overview_level=level) as file:
            stored = root[f"ovr_{2 << level}x/image"][...]
            assert stored.dtype == dtype
            np.testing.assert_allclose(stored, file.read(1), rtol=1e-6 if dtype == "float32" else 0)
    layers = [geoxt.open_cogs(tmp_path / "a.tif"), geoxt.open_zarr(tmp_path / "a.zarr")]
    coarse = GeoBox((200, 14), GRID.affine @ Affine.translation(9, 5) @ Affine.scale(4.7), GRID.crs)
    first, other = (geoxt.align(opened, coarse).values for opened in layers)
    np.testing.assert_allclose(first[0], other[0], rtol=1e-6 if dtype == "float32" else 0)


def test_average_keeps_validity_and_cut_blocks():
    values = np.array([[-1, 1, 5, 0, 9], [1, -1, 0, 0, 0], [0, 0, 3, 4, 0]], "int16")
    assert reduce_average(values, 2, 0).tolist() == [[1, 5, 9], [0, 4, 0]]
    assert reduce_average(values, 2, None).tolist() == [[0, 1, 5], [0, 4, 0]]
    assert reduce_average(np.full((2, 2), 250, "uint8"), 2, None).tolist() == [[250]]
    large = np.full((2, 2), 2**63 - 1, "int64")
    assert reduce_average(large, 2, None).tolist() == [[2**63 - 1]]
    floats = reduce_average(np.array([[np.nan, 2.0], [np.nan, np.nan]], "float32"), 1, None)
    assert np.array_equal(floats, [[np.nan, 2.0], [np.nan, np.nan]], equal_nan=True)
    assert reduce_average(np.array([[-1.0, 1.0]], "float32"), 2, 0.0)[0, 0] > 0


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("nodata", [None, 0])
def test_mode_is_the_most_frequent_value(factor, nodata):
    values = np.random.default_rng(1).integers(0, 4, (2, 21, 13)).astype("uint8")
    values[:, :8, :8] = 0
    modes = reduce_mode(values, factor, nodata)
    for index in np.ndindex(*modes.shape):
        plane, y, x = index[0], index[1] * factor, index[2] * factor
        counts = Counter(values[plane, y : y + factor, x : x + factor].ravel().tolist())
        if nodata is not None and len(counts) > 1:
            counts.pop(nodata, None)
        assert modes[index] == min(counts, key=lambda code: (-counts[code], code))


def test_class_codes_have_overviews_by_mode(tmp_path):
    values = random("uint8", shape=GRID.shape) % 5
    layer = layer_of(values, flag_values=np.arange(5, dtype="uint8"), flag_meanings="a b c d e")
    root = zarr.open_group(str(geoxt.to_zarr(layer, tmp_path / "a.zarr", progress=False)), mode="r")
    assert np.array_equal(root["ovr_2x/image"][...], reduce_mode(values, 2, None))
    assert np.array_equal(root["ovr_4x/image"][...], reduce_mode(values, 4, None))
    opened = geoxt.open_zarr(tmp_path / "a.zarr")
    assert geoxt.Legend.of(opened).names == tuple("abcde")
    assert np.array_equal(opened.values, values)


def test_layout_of_the_conventions(tmp_path):
    values = np.stack([random("int16", shape=(1039, 61))] * 2)[None]
    grid = make_grid((1039, 61))
    layer = xr.DataArray(values, dims=("time", "band", "y", "x"), coords=coordinates(grid), name="image")
    layer = layer.assign_coords(time=np.array(["2020-01-01"], "datetime64[ns]"), band=["red", "nir"])
    path = geoxt.to_zarr(layer, tmp_path / "a.zarr", progress=False)
    attrs = zarr.open_group(str(path), mode="r").attrs
    assert [c["name"] for c in attrs["zarr_conventions"]] == ["proj:", "spatial:", "multiscales"]
    assert attrs["multiscales"]["resampling_method"] == "average"
    layout = attrs["multiscales"]["layout"]
    assert [(e["asset"], e.get("derived_from"), e["transform"]["scale"][2:]) for e in layout] == [
        ("image", None, [1, 1]), ("ovr_2x/image", "image", [2, 2]), ("ovr_4x/image", "ovr_2x/image", [2, 2]),
    ]  # fmt: skip
    assert layout[2]["spatial:shape"] == [260, 16]
    assert layout[2]["spatial:transform"] == [120, 0, grid.affine.c, 0, -120, grid.affine.f]
    coarse = xr.open_zarr(path, group="ovr_4x", mask_and_scale=False, decode_coords="all")["image"]
    assert grid_of(coarse).affine == grid.affine @ Affine.scale(4)
    assert coarse.band.values.tolist() == ["red", "nir"]
    (array,) = {asset.array for asset in view_of(geoxt.open_zarr(path)).source.scenes[0].assets}
    assert [level.path for level in array.levels] == ["image", "ovr_2x/image", "ovr_4x/image"]


def test_interrupted_overviews_resume(tmp_path, monkeypatch):
    layer = layer_of(random("uint16")).chunk(y=520, x=80)
    reduce, calls = zarr_overviews._reduce, []

    def interrupted(source, level, *args):
        calls.append(level.factor)
        if calls == [2, 4]:
            raise KeyboardInterrupt
        return reduce(source, level, *args)

    monkeypatch.setattr(zarr_overviews, "_reduce", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        geoxt.to_zarr(layer, tmp_path / "a.zarr", progress=False)
    assert "3 finished blocks" in caught.value.__notes__[0]
    assert not (tmp_path / "a.zarr").exists()
    geoxt.to_zarr(layer, tmp_path / "a.zarr", progress=False)
    assert calls == [2, 4, 4]
    half = reduce_average(layer.values, 2, None)
    root = zarr.open_group(str(tmp_path / "a.zarr"), mode="r")
    assert np.array_equal(root["ovr_4x/image"][...], reduce_average(half, 2, None))
    assert np.array_equal(root["image"][...], layer.values)


KILLED = """
import os, signal, sys
from pathlib import Path
import geoxt
from geoxt.writers import zarr, zarr_overviews

count = 0
def kills(function, name=""):
    def call(*args):
        global count
        count += name in str(args[0])
        if name in str(args[0]) and count == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args)
    return call

zarr_overviews._reduce, zarr_overviews.block_file = kills(zarr_overviews._reduce), kills(zarr_overviews.block_file)
Path.replace = kills(Path.replace, "ovr_4x/layer/c/")
zarr.replace = kills(zarr.replace)
geoxt.to_zarr(geoxt.open_cogs(sys.argv[1], chunks=520), sys.argv[2], progress=False)
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return a file, and the files of the store that an uninterrupted write gives."""
    folder = tmp_path_factory.mktemp("written")
    path = geoxt.to_cog(layer_of(random("uint16")), folder / "a.tif", progress=False)
    return path, files_of(geoxt.to_zarr(geoxt.open_cogs(path, chunks=520), folder / "a.zarr", progress=False))


def files_of(store):
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


@pytest.mark.parametrize("step", [2, 4, 6], ids=["mark 2x", "write 4x", "publish"])
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_killed_overviews_resume(tmp_path, written, step):
    """Until the store is complete, its path has the former one; the resumed store has the same files and bytes."""
    path, expected = written
    former = geoxt.to_zarr(layer_of(random("uint8")[:40, :30], GRID[:40, :30]), tmp_path / "a.zarr", progress=False)
    before = files_of(former)
    assert run_code(KILLED, str(path), str(former), str(step)).returncode == -signal.SIGKILL
    assert files_of(former) == before
    (staged,) = tmp_path.glob(".a.zarr.parts/*/store.zarr")
    assert bool(list(staged.rglob("*.partial"))) == (step == 4)
    geoxt.to_zarr(geoxt.open_cogs(path, chunks=520), former, progress=False)
    assert files_of(former) == expected
    assert not staged.exists()


@pytest.mark.parametrize(
    ("chunks", "shards", "expected"),
    [
        (None, None, ((512, 80), (1024, 80))),
        (520, None, ((260, 80), (520, 80))),
        (300, 256, ((256, 256), None)),
        (None, 1536, ((512, 512), (1536, 1536))),
        (521, None, ((521, 80), None)),
    ],
)
def test_chunks_and_shards(tmp_path, chunks, shards, expected):
    values = random("int32")
    layer = layer_of(values) if chunks is None else layer_of(values).chunk(y=chunks, x=chunks)
    root = zarr.open_group(str(layer.geoml.to_zarr(tmp_path / "a.zarr", shards=shards, progress=False)), mode="r")
    assert (root["image"].chunks, root["image"].shards) == expected
    assert root.metadata.zarr_format == 3
    assert np.array_equal(root["image"][...], values)
    assert np.array_equal(geoxt.open_zarr(tmp_path / "a.zarr").values[0], values)


def test_invalid_shards_raise(tmp_path):
    with pytest.raises(InputError, match="Pass a positive number as shards="):
        geoxt.to_zarr(layer_of(random("int32")), tmp_path / "a.zarr", shards=0)


@pytest.mark.parametrize("style", ["groups", "arrays"])
def test_overviews_of_one_array_in_groups(tmp_path, style):
    """GDAL lists the full resolution as an array, and an overview as a group that has an array of its name."""
    values = random("uint16")
    path = geoxt.to_zarr(layer_of(values), tmp_path / "a.zarr", progress=False)
    root = zarr.open_group(str(path), mode="r+", use_consolidated=False)
    multiscales = root.attrs["multiscales"]
    for entry in multiscales["layout"][1:] if style == "groups" else ():
        entry["asset"] = entry["asset"].removesuffix("/image")
        entry["derived_from"] = entry["derived_from"].removesuffix("/image")
    root.attrs["multiscales"] = multiscales  # written without consolidated metadata
    root.create_array("other", data=values, dimension_names=("y", "x"))
    layer = geoxt.open_zarr(path, bands=["image", "other"])
    levels = [[level.path for level in asset.array.levels] for asset in view_of(layer).source.scenes[0].assets]
    assert levels == [["image", "ovr_2x/image", "ovr_4x/image"], ["other"]]


@pytest.mark.filterwarnings("error::xarray.SerializationWarning")
def test_lazy_text_coordinates_are_written(tmp_path):
    names = xr.DataArray(dask.array.from_array(np.array(["red"])), dims="band")
    layer = layer_of(random("uint8", shape=(1, 16, 16)), make_grid((16, 16))).assign_coords(common_name=names)
    path = geoxt.to_zarr(layer, tmp_path / "text.zarr", progress=False)
    assert xr.open_zarr(path, consolidated=False).common_name.values.tolist() == ["red"]
