"""Excluded pixels and missing values of Zarr stores: brute force over the quality band, and equal by both openers."""

import numpy as np
import pytest

import geoxt
from geoxt.errors import InputError
from geoxt.grid import grid_of
from geoxt.source import view_of
from geoxt.testing import distinct
from geoxt.windows import Window

from .test_open_zarr import TIMES, write_array, write_store
from .test_stac_zarr import COARSE, GRID, band, make_item, write_product

zarr = pytest.importorskip("zarr")

WINDOW = Window(0, 0, 60, 70)
SCL = np.random.default_rng(0).choice(np.array([4, 5, 8, 9, 3], "uint8"), (30, 35))


@pytest.fixture
def store(tmp_path):
    """Return a store of EOPF's layout, whose scene classification is outside the group of the bands."""
    values = write_product(tmp_path / "a.zarr")
    zarr.open_group(str(tmp_path / "a.zarr"))["conditions/r20m/scl"][:] = SCL
    return tmp_path / "a.zarr", values


@pytest.mark.parametrize(("flags", "classes"), [("clouds", {8, 9, 10}), (("clouds", "shadows"), {3, 8, 9, 10})])
def test_quality_band_of_another_group(store, flags, classes):
    path, values = store
    layer = geoxt.open_zarr(
        path, group="measurements/reflectance", product="sentinel2", bands=["B02", "B04"], exclude=flags
    )
    pixels, valid = view_of(layer).read(WINDOW)
    expected = ~np.isin(SCL, [*classes, 0]).repeat(2, 0).repeat(2, 1)
    assert np.array_equal(valid, np.broadcast_to(expected, valid.shape))
    assert np.array_equal(pixels[..., 1, :, :][..., expected], values["b04"][None][..., expected])
    assert np.array_equal(layer.isel(band=0).values == layer.attrs["_FillValue"], ~expected)
    part = Window(7, 11, 20, 30)
    assert np.array_equal(view_of(layer).read(part)[1][..., 0, :, :], valid[..., 0, 7:27, 11:41])


def test_quality_band_of_time_steps(tmp_path):
    values = np.stack([distinct((60, 70), "uint16") + step for step in range(3)])
    scl = np.random.default_rng(1).choice(np.array([4, 9], "uint8"), (3, 60, 70))
    dims = ("time", "y", "x")
    variables = {"B02": (dims, values, {"_FillValue": 0}), "SCL": (dims, scl, {})}
    group = write_store(tmp_path / "a.zarr", variables, times=TIMES, chunks=(1, 32, 32))
    layer = geoxt.open_zarr(tmp_path / "a.zarr", product="sentinel2", bands="B02", exclude="clouds")
    assert np.array_equal(layer.values[:, 0], np.where(scl == 9, 0, values))
    first = geoxt.open_zarr(tmp_path / "a.zarr", product="sentinel2", bands="B02", exclude="clouds", groupby="mosaic")
    expected = np.where(scl[0] == 4, values[0], np.where(scl[1] == 4, values[1], np.where(scl[2] == 4, values[2], 0)))
    assert np.array_equal(first.values[0], expected)
    del group["SCL"]
    write_array(group, "SCL", ("y", "x"), scl[1], {"grid_mapping": "spatial_ref"})  # one for all steps
    static = geoxt.open_zarr(tmp_path / "a.zarr", product="sentinel2", bands="B02", exclude="clouds")
    assert np.array_equal(static.values[:, 0], np.where(scl[1] == 9, 0, values))
    times = write_store(tmp_path / "b.zarr", {"SCL": (dims, scl[:2], {})}, times=TIMES[1:])
    assert times["SCL"].shape[0] == 2
    other = zarr.open_group(str(tmp_path / "a.zarr" / "other"), mode="w")
    del group["SCL"]
    for name in ("time", "y", "x", "spatial_ref", "SCL"):
        source = times[name]
        write_array(other, name, source.metadata.dimension_names, source[...], dict(source.attrs))
    with pytest.raises(InputError, match="their times differ"):
        geoxt.open_zarr(tmp_path / "a.zarr", product="sentinel2", bands="B02", exclude="clouds")


def test_no_quality_band_raises(store, tmp_path):
    path, _ = store
    group = "measurements/reflectance/r10m"
    with pytest.raises(InputError, match=r"the meaning of its quality bands is unknown. Pass product="):
        geoxt.open_zarr(path, group=group, exclude="clouds")
    with pytest.raises(InputError, match="exclude="):
        geoxt.open_zarr(path, group=group, product="sentinel2", bands="B02", exclude="unicorns")
    root = zarr.open_group(str(path))
    root["conditions/r20m"].create_group("again")
    write_store(path / "conditions/again", {"scl": (("y", "x"), SCL, {})}, grid=COARSE, crs=False)
    with pytest.raises(InputError, match="Cannot choose one variable 'scl'"):
        geoxt.open_zarr(path, group=group, product="sentinel2", bands="B02", exclude="clouds")
    del root["conditions/again/scl"], root["conditions/r20m/scl"]
    with pytest.raises(InputError, match=r"has no quality band 'SCL'. Leave exclude= out"):
        geoxt.open_zarr(path, group=group, product="sentinel2", bands="B02", exclude="clouds")
    write_array(root["conditions/r20m"], "scl", ("y", "x"), SCL.astype("float32"))
    with pytest.raises(InputError, match="it has the data type float32"):
        geoxt.open_zarr(path, group=group, product="sentinel2", bands="B02", exclude="clouds")


def test_missing_value_by_both_openers(tmp_path):
    """CF allows a `missing_value` beside `_FillValue`: both mark missing pixels."""
    values = distinct((60, 70), "int16")
    values[:5], values[5:9] = -1, -2
    write_store(tmp_path / "a.zarr", {"b": (("y", "x"), values, {"_FillValue": -1, "missing_value": -2})})
    item = make_item(tmp_path / "a.zarr", b=("b", band("b")))
    for layer in (geoxt.open_zarr(tmp_path / "a.zarr"), geoxt.open_stac(item, bands=["b"])):
        assert np.array_equal(view_of(layer).read(WINDOW)[1].reshape(60, 70), values >= 0)


def test_resolutions_as_tree_and_aligned(store):
    """Groups of EOPF's resolutions as layers, and their bands in one tree at a stated resolution."""
    path, values = store
    reflectance = "measurements/reflectance"
    fine, coarse = (geoxt.open_zarr(path, group=f"{reflectance}/{name}") for name in ("r10m", "r20m"))
    assert (grid_of(fine), grid_of(coarse)) == (GRID, COARSE)
    stored = zarr.open_group(str(path))[f"{reflectance}/r20m/b05"][:]
    aligned = geoxt.align(coarse, fine, resampling="nearest")
    assert np.array_equal(aligned.values[0], stored.repeat(2, 0).repeat(2, 1))
    tree = geoxt.open_zarr(path, group=reflectance, crs="native", resolution=30, resampling="nearest")
    (child,) = tree.children.values()
    (cube,) = child.ds.data_vars.values()
    assert dict(zip(cube.band.values.tolist(), cube.values.tolist(), strict=True)) == {
        "b02": values["b02"].tolist(), "b04": values["b04"].tolist(),
        "b05": stored.repeat(2, 0).repeat(2, 1).tolist(),
    }  # fmt: skip
