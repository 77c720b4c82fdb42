"""Batches equal the computed layers, with valid masks and geometry."""

from itertools import count
from pathlib import Path

import dask
import dask.array
import numpy as np
import pytest
import rasterio.windows
import torch
import xarray as xr
from torch.utils.data import default_collate

from geoxt.alignment import intersection
from geoxt.bridge.layer_reader import readers_of
from geoxt.bridge.read_batch import geometry, read_batch, sample_at
from geoxt.errors import GridError, InputError, ReadError
from geoxt.grid import coordinates, grid_of
from geoxt.layers import open_cogs
from geoxt.pixels import file_version
from geoxt.testing import distinct, make_grid, write_cog
from geoxt.windows import Window

WINDOWS = [Window(0, 0, 32, 24), Window(30, 20, 32, 24), Window(-5, 140, 32, 24)]


def layer_of(values, **attrs):
    dims = ("time", "band", "y", "x")[-values.ndim :]
    return xr.DataArray(values, dims=dims, coords=coordinates(make_grid(values.shape[-2:])), attrs=attrs)


def expected(layer, window):
    """The computed layer in a window that may reach over the edge, padded with nodata."""
    values = layer.compute(scheduler="synchronous").values
    rows, cols = values.shape[-2:]
    out = np.full((*values.shape[:-2], *window.shape), layer.attrs.get("_FillValue", 0), values.dtype)
    shared = window.intersect(Window(0, 0, rows, cols))
    out[..., *shared.within(window)] = values[..., *shared.within(Window(0, 0, rows, cols))]
    return out


def test_batch_equals_computed_layers(ds):
    batch = read_batch(readers_of(ds), WINDOWS)
    assert (batch["image"].dtype, batch["mask"].dtype) == (torch.float32, torch.int64)
    assert (batch["image"].shape, batch["mask"].shape) == ((3, 3, 32, 24), (3, 32, 24))
    for n, window in enumerate(WINDOWS):
        for name in ("image", "mask"):
            values, exact = batch[name][n].numpy(), expected(ds[name], window)
            assert np.array_equal(values, exact)
    assert set(np.unique(batch["mask"])) <= {0, 1, 5, 250}


def test_pixel_is_valid_if_all_bands_are(ds):
    batch = read_batch(readers_of(ds), WINDOWS)
    image = (batch["image"] != 0).all(dim=1)
    assert batch["image_valid"].dtype == torch.bool
    assert torch.equal(batch["image_valid"], image)
    assert torch.equal(batch["mask_valid"], batch["mask"] != 0)
    assert not batch["image_valid"][1, 10:20, 10:24].any()
    assert not batch["image_valid"][2, :5].any()


def test_unmodified_dataset_is_read_without_dask(ds, monkeypatch):
    def fail_on_compute(*_, **__):
        msg = "asked dask"
        raise AssertionError(msg)

    monkeypatch.setattr(dask.array.Array, "compute", fail_on_compute)
    with dask.config.set(scheduler=fail_on_compute):
        read_batch(readers_of(ds), WINDOWS)
        read_batch(readers_of(ds.isel(x=slice(3, 99), band=[2, 0])), [Window(0, 0, 9, 9)])


def test_modified_dataset_is_read_as_computed(ds):
    touched = ds.assign(image=(ds.image.astype("float64") / 7).where(ds.mask != 5))
    window = Window(30, 20, 32, 24)
    batch = read_batch(readers_of(touched), [window])
    exact = touched.image.isel(y=slice(30, 62), x=slice(20, 44)).compute().values.astype("float32")
    valid = batch["image_valid"][0].numpy()
    assert valid.any()
    assert np.array_equal(batch["image"][0].numpy()[:, valid], exact[:, valid])
    assert not batch["image_valid"][0][np.isnan(exact).any(0)].any()


def test_bounds_and_transforms_equal_rasterio(ds):
    grid = grid_of(ds)
    entries = geometry({"": grid}, WINDOWS)
    for n, w in enumerate(WINDOWS):
        window = rasterio.windows.Window(w.col, w.row, w.width, w.height)
        assert np.allclose(entries["bounds"][n], rasterio.windows.bounds(window, grid.affine), rtol=0, atol=1e-6)
        assert np.allclose(
            entries["transform"][n], rasterio.windows.transform(window, grid.affine)[:6], rtol=0, atol=1e-6
        )
    assert (entries["bounds"].dtype, entries["transform"].dtype) == (torch.float64, torch.float64)
    assert entries["crs"] == ["EPSG:32615"] * 3


@pytest.mark.parametrize("options", [{"south_up": True}, {"degrees": 30.0}])
def test_bounds_contain_the_corners_of_rotated_grids(options):
    grid = make_grid((50, 60), **options)
    entries = geometry({"": grid}, [Window(10, 20, 8, 6)])["bounds"][0].numpy()
    corners = np.array([grid.affine @ (col, row) for col in (20, 26) for row in (10, 18)])
    assert np.allclose(entries, [*corners.min(0), *corners.max(0)])


@pytest.mark.parametrize(
    ("stored", "batch_dtype"),
    [
        ("uint8", "uint8"), ("int16", "int16"), ("uint16", "int32"), ("uint32", "int64"), (">u2", "int32"),
        (">f4", "float32"), ("float64", "float64"), ("bool", "bool"), ("int8", "int8"),
    ],
)  # fmt: skip
def test_dtype_is_float32_or_stored(stored, batch_dtype):
    layer = layer_of((distinct((2, 20, 20)) % 100).astype(stored))
    plain = read_batch(readers_of(layer), [Window(0, 0, 8, 8)])["image"]
    same = read_batch(readers_of(layer, dtype="stored"), [Window(0, 0, 8, 8)])["image"]
    assert plain.dtype == torch.float32
    assert str(same.dtype) == f"torch.{batch_dtype}"
    assert np.array_equal(plain.numpy(), same.numpy().astype("float32"))


def test_absent_dimensions_are_left_out():
    for shape in ((20, 20), (3, 20, 20), (4, 3, 20, 20)):
        batch = read_batch(readers_of(layer_of(distinct(shape, "float32"))), [Window(0, 0, 8, 9)] * 2)
        assert batch["image"].shape == (2, *shape[:-2], 8, 9)
        assert batch["image_valid"].shape == (2, *([4] if len(shape) == 4 else []), 8, 9)


def test_window_selects_time_steps():
    values = distinct((4, 3, 20, 20), "float32")
    batch = read_batch(readers_of(layer_of(values)), [Window(2, 3, 8, 9, (3, 1))])
    assert np.array_equal(batch["image"][0], values[[3, 1], :, 2:10, 3:12])
    assert batch["image_valid"].shape == (1, 2, 8, 9)


def test_dataarray_is_named_image_or_mask(ds):
    assert set(read_batch(readers_of(ds.image), WINDOWS[:1])) >= {"image", "image_valid", "bounds"}
    assert set(read_batch(readers_of(ds.mask), WINDOWS[:1])) >= {"mask", "mask_valid", "bounds"}


def test_collated_samples_equal_the_batch(ds):
    batch = read_batch(readers_of(ds), WINDOWS)
    again = default_collate([sample_at(batch, n) for n in range(3)])
    assert batch.keys() == again.keys()
    for key, value in batch.items():
        assert torch.equal(value, again[key]) if isinstance(value, torch.Tensor) else value == again[key]


def test_windows_of_several_sizes_raise(ds):
    with pytest.raises(GridError, match=r"several sizes \[\(8, 8\), \(8, 9\)\] into one batch. Pass batch_size=1"):
        read_batch(readers_of(ds), [Window(0, 0, 8, 8), Window(0, 0, 8, 9)])


def test_layers_keep_their_times_and_bands():
    steps = [np.array([f"{y}-01-01" for y in years], "datetime64[ns]") for years in ((2020, 2021), (2018, 2019, 2020))]
    a = layer_of(distinct((2, 2, 20, 20), "float32")).assign_coords(time=steps[0], band=["r", "g"])
    b = layer_of(distinct((3, 1, 20, 20), "float32")).assign_coords(time=steps[1], band=["vv"])
    batch = read_batch(readers_of(intersection(a=a, b=b)), [Window(1, 2, 8, 9)] * 2)
    assert (batch["a"].shape, batch["b"].shape) == ((2, 2, 2, 8, 9), (2, 3, 1, 8, 9))
    assert np.array_equal(batch["b"][1], b[:, :, 1:9, 2:11])
    assert (batch["a_valid"].shape, batch["b_valid"].shape) == ((2, 2, 8, 9), (2, 3, 8, 9))


def test_dataset_without_layers_raises():
    with pytest.raises(InputError, match="no .*y.*x"):
        readers_of(xr.Dataset({"count": 1}))


def test_layers_with_and_without_time_are_read_together():
    grid = make_grid((20, 20))
    image = xr.DataArray(distinct((3, 20, 20)), dims=("time", "y", "x"), coords=coordinates(grid), name="image")
    mask = xr.DataArray(distinct((20, 20)), dims=("y", "x"), coords=coordinates(grid), attrs={"flag_values": [1]})
    nodes = readers_of(xr.Dataset({"image": image, "mask": mask}))
    batch = read_batch(nodes, [Window(2, 3, 8, 8, (2, 0)), Window(0, 0, 8, 8, (1, 2))])
    assert batch["image"].shape == (2, 2, 8, 8)
    assert batch["mask"].shape == (2, 8, 8)
    assert np.array_equal(batch["image"][0], image.values[[2, 0], 2:10, 3:11])
    assert np.array_equal(batch["mask"][0], mask.values[2:10, 3:11])


def test_infinite_pixels_are_not_valid():
    values = np.ones((8, 8), "float32")
    values[3, 4] = np.inf
    layer = xr.DataArray(values, dims=("y", "x"), coords=coordinates(make_grid((8, 8))), name="image")
    nodes = readers_of(layer)
    batch = read_batch(nodes, [Window(0, 0, 8, 8)])
    assert np.argwhere(~batch["image_valid"][0].numpy()).tolist() == [[3, 4]]


def write_constant(path, value):
    values = np.full((1, 40, 40), value, "uint16")
    return str(write_cog(path, values, grid=make_grid((40, 40)), tiled=False, overviews=()))


def replace_by_rename(path, value):
    Path(write_constant(f"{path}.new.tif", value)).replace(path)


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("write", [replace_by_rename, write_constant])
def test_batch_has_one_version_of_a_file_that_is_replaced_meanwhile(write, warm, tmp_path, monkeypatch):
    monkeypatch.setattr(file_version, "TICK", -1)  # the modification time of a file just written tells it apart
    path = write_constant(tmp_path / "a.tif", 1)
    nodes, windows = readers_of(open_cogs(path)), [Window(row, 0, 8, 40) for row in (0, 8, 16, 24)]
    if warm:
        assert (read_batch(nodes, windows)["image"] == 1).all()
    values = iter((2, 3))

    def map_and_replace(read, reads):
        for number, each in enumerate(reads):
            yield read(each)
            if number == 1 and (value := next(values, None)):
                write(path, value)

    assert (read_batch(nodes, windows, map_reads=map_and_replace)["image"] == 3).all()
    write(path, 4)
    assert (read_batch(nodes, windows)["image"] == 4).all()


def test_file_that_changes_in_each_read_of_a_batch_raises(tmp_path, monkeypatch):
    monkeypatch.setattr(file_version, "TICK", -1)
    path, values = write_constant(tmp_path / "a.tif", 1), count(2)

    def map_and_replace(read, reads):
        for each in reads:
            yield read(each)
            replace_by_rename(path, next(values))

    with pytest.raises(ReadError, match=r"a\.tif changed 3 times meanwhile"):
        read_batch(readers_of(open_cogs(path)), WINDOWS[:1], map_reads=map_and_replace)


def test_batch_compares_each_file_with_the_disk_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(file_version, "TICK", -1)
    nodes, calls = readers_of(open_cogs(write_constant(tmp_path / "a.tif", 1))), []
    read_batch(nodes, WINDOWS[:1])
    stat = file_version._stat
    monkeypatch.setattr(file_version, "_stat", lambda path: calls.append(path) or stat(path))
    read_batch(nodes, [Window(row, 0, 8, 8) for row in range(0, 32, 4)])
    assert len(calls) == 2
