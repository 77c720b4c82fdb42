"""Layers of Zarr stores: the pixels of xarray and of GeoTIFFs, and errors for stores that have no regular grid."""

import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import dask
import numpy as np
import pytest
import xarray as xr
from odc.geo.geobox import GeoBox

import geoxt
from geoxt.bridge import WindowDataset
from geoxt.errors import CatalogError, InputError, OverlapError, ReadError
from geoxt.grid import coordinates, grid_of
from geoxt.pixels import chunk_cache
from geoxt.source import view_of
from geoxt.testing import distinct, make_grid
from geoxt.windows import Window

zarr = pytest.importorskip("zarr")

GRID = make_grid((60, 70))
TIMES = np.array(["2020-01-05", "2020-02-05", "2020-03-05"], "datetime64[ns]")
WINDOWS = (Window(0, 0, 60, 70), Window(3, 5, 20, 33), Window(58, 69, 2, 1), Window(-4, 60, 10, 20))


def write_store(path, variables, grid=GRID, *, zarr_format=3, crs=True, attrs=None, times=None, **options):
    """Write arrays {name: (dims, values, attrs)} with coordinates of a grid."""
    group = zarr.open_group(str(path), mode="w", zarr_format=zarr_format, attributes=attrs or {})
    located = coordinates(grid)
    axes = {"y": located["y"].values, "x": located["x"].values}
    if times is not None:
        axes["time"] = (times - times[0]).astype("timedelta64[h]").astype("int64")
    for dim, values in axes.items():
        write_array(group, dim, (dim,), values)
    if times is not None:
        group["time"].attrs["units"] = f"hours since {np.datetime_as_string(times[0], unit='s')}"
    if crs:
        write_array(group, "spatial_ref", (), np.zeros((), "int64"), {"crs_wkt": grid.crs.to_wkt()})
    for name, (dims, values, own_attrs) in variables.items():
        mapping = {"grid_mapping": "spatial_ref"} if crs else {}
        write_array(group, name, dims, values, mapping | own_attrs, **options)
    return group


def write_array(group, name, dims, values, attrs=None, **options):
    v3 = group.metadata.zarr_format == 3
    named = {"dimension_names": dims} if v3 else {}
    array = group.create_array(name, data=np.asarray(values), **named, **options)
    array.attrs.update((attrs or {}) | ({} if v3 else {"_ARRAY_DIMENSIONS": list(dims)}))
    return array


NESTED = {"name": "v2", "separator": "/"}
LAYOUTS = {
    "v3": {"chunks": (1, 2, 25, 32)},
    "v3-sharded": {"chunks": (1, 2, 16, 24), "shards": (1, 4, 32, 48)},
    "v3-one-chunk": {"chunks": (3, 3, 60, 70), "compressors": None},
    "v2": {"chunks": (2, 1, 20, 70), "zarr_format": 2, "fill_value": None},
    "v2-nested": {"chunks": (1, 3, 17, 35), "zarr_format": 2, "fill_value": None, "chunk_key_encoding": NESTED},
}


@pytest.mark.parametrize(
    ("dtype", "layout"),
    [*(("uint8", layout) for layout in LAYOUTS), (">i2", "v3-sharded"), (">i2", "v2"), ("float32", "v3")],
)
def test_pixels_are_those_of_xarray(tmp_path, layout, dtype):
    values = distinct((3, 3, 60, 70), np.dtype(dtype).newbyteorder("=").name).astype(dtype)
    dims = ("time", "band", "y", "x")
    write_store(tmp_path / "a.zarr", {"image": (dims, values, {})}, times=TIMES, **LAYOUTS[layout])
    layer = geoxt.open_zarr(tmp_path / "a.zarr")
    with xr.open_zarr(tmp_path / "a.zarr", mask_and_scale=False, consolidated=False) as ds:
        expected = ds.image.values
        assert np.array_equal(layer.time.values, ds.time.values)
    assert layer.dims == dims
    assert grid_of(layer) == GRID
    assert np.array_equal(layer.compute(scheduler="synchronous").values, expected)
    view = view_of(layer)
    assert view.direct
    for window in WINDOWS:
        pixels, valid = view.read(window)
        inside = window.intersect(Window(0, 0, 60, 70))
        target = (..., *inside.within(window))
        rows, cols = inside.within(Window(0, 0, 60, 70))
        assert np.array_equal(pixels[target], expected[..., rows, cols])
        assert valid[target].all()
        assert valid.sum() == valid[target].size


@pytest.mark.parametrize("resampling", ["nearest", "bilinear", "average"])
def test_same_bits_as_a_geotiff(tmp_path, write, resampling):
    values = distinct((2, 60, 70), "uint16")
    values[0, 10:20, 5:30] = 7
    path = write(values, GRID, nodata=7)
    variables = {f"b{i}": (("y", "x"), v, {"_FillValue": 7}) for i, v in enumerate(values)}
    write_store(tmp_path / "a.zarr", variables, chunks=(16, 16))
    target = GeoBox.from_bbox((600_100, 4_549_000, 601_900, 4_549_900), GRID.crs, resolution=47, anchor=0.3)
    layers = [geoxt.align(opened, target, resampling=resampling)
              for opened in (geoxt.open_cogs(path), geoxt.open_zarr(tmp_path / "a.zarr"))]  # fmt: skip
    first, other = (layer.compute(scheduler="synchronous") for layer in layers)
    assert np.array_equal(first.values, other.values)
    assert first.attrs["_FillValue"] == other.attrs["_FillValue"] == 7
    windows = [Window(2, 3, 9, 9), Window(2, 12, 9, 9)]
    batches = [WindowDataset(layer, windows).read([0, 1]) for layer in layers]
    assert all(np.array_equal(batches[0][key], batches[1][key]) for key in ("image", "image_valid"))


def test_each_chunk_is_decoded_once(tmp_path, monkeypatch):
    write_store(tmp_path / "a.zarr", {"b": (("y", "x"), distinct((60, 70)), {})}, chunks=(30, 35))
    layer = geoxt.open_zarr(tmp_path / "a.zarr")
    monkeypatch.setattr(chunk_cache, "_cache", chunk_cache.ChunkCache())
    decoded = []
    load = chunk_cache.ChunkCache._decode

    def spy(self, keys, decode):
        decoded.extend(keys)
        load(self, keys, decode)

    monkeypatch.setattr(chunk_cache.ChunkCache, "_decode", spy)
    windows = [Window(row, col, 10, 10) for row in range(0, 60, 10) for col in range(0, 70, 10)]
    view = view_of(layer)
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda w: view.read(w)[0], windows * 3))
    assert len(decoded) == len(set(decoded)) == 4
    values = layer.compute(scheduler="synchronous").values[None]
    assert all(np.array_equal(p, values[..., w.row : w.row + 10, w.col : w.col + 10])
               for p, w in zip(parts, windows * 3, strict=True))  # fmt: skip


def test_cache_holds_no_more_than_its_size():
    cache = chunk_cache.ChunkCache(1000)
    for key in range(50):
        cache.load([key], lambda keys: {k: np.zeros(100, "uint8") for k in keys})
    assert cache._bytes == 1000
    assert len(cache._chunks) == 10


def test_failed_chunk_is_decoded_again():
    cache = chunk_cache.ChunkCache()

    def fail(_):
        raise OSError

    with pytest.raises(OSError, match=r"^$"):
        cache.load(["a"], fail)
    assert cache.load(["a"], lambda _: {"a": np.ones(1)})[0] == 1


def test_replaced_chunks_and_stores_are_read_again(tmp_path):
    path = tmp_path / "a.zarr"
    group = write_store(path, {"b": (("y", "x"), distinct((60, 70)), {})}, chunks=(30, 35))
    layer = geoxt.open_zarr(path)
    before = layer.compute(scheduler="synchronous").values
    group["b"][:10, :10] = 1
    token = dask.base.tokenize(geoxt.open_zarr(path))
    assert token != dask.base.tokenize(layer)
    assert (
        token
        == dask.base.tokenize(geoxt.open_zarr(path))
        == dask.base.tokenize(pickle.loads(pickle.dumps(geoxt.open_zarr(path))))
    )
    assert (view_of(layer).read(Window(0, 0, 10, 10))[0] == 1).all()
    assert np.array_equal(view_of(layer).read(Window(30, 0, 10, 10))[0][0, 0], before[0, 30:40, :10])
    shutil.rmtree(path)
    write_store(path, {"b": (("y", "x"), distinct((60, 70)), {})}, chunks=(20, 20))
    with pytest.raises(CatalogError, match="was replaced since the layer was opened"):
        view_of(layer).read(Window(0, 0, 10, 10))


def test_missing_chunks_are_the_fill_value(tmp_path):
    group = write_store(tmp_path / "a.zarr", {"b": (("y", "x"), distinct((60, 70)), {"_FillValue": 9})},
                        chunks=(30, 35), fill_value=9)  # fmt: skip
    (tmp_path / "a.zarr" / "b" / "c" / "0" / "1").unlink()
    values, valid = view_of(geoxt.open_zarr(tmp_path / "a.zarr")).read(Window(0, 0, 60, 70))
    assert (values[..., :30, 35:] == 9).all()
    assert not valid[..., :30, 35:].any()
    assert np.array_equal(values[0, 0], group["b"][:])


def test_corrupt_chunk_raises(tmp_path):
    write_store(tmp_path / "a.zarr", {"b": (("y", "x"), distinct((60, 70)), {})}, chunks=(30, 35))
    (tmp_path / "a.zarr" / "b" / "c" / "0" / "1").write_bytes(b"no zstd frame")
    layer = geoxt.open_zarr(tmp_path / "a.zarr")
    view_of(layer).read(Window(0, 0, 30, 35))
    with pytest.raises(ReadError, match=r"Cannot read .*a\.zarr/b, rows \(0, 60\) and columns \(0, 70\)"):
        view_of(layer).read(Window(0, 0, 60, 70))
    lenient = geoxt.open_zarr(tmp_path / "a.zarr", errors="nodata")
    with pytest.warns(geoxt.errors.ReadWarning):
        assert not view_of(lenient).read(Window(0, 0, 60, 70))[1].any()


def test_unknown_codec_and_version_raise(tmp_path):
    write_store(tmp_path / "a.zarr", {"b": (("y", "x"), distinct((60, 70)), {})}, chunks=(30, 35))
    meta = tmp_path / "a.zarr" / "b" / "zarr.json"
    text = meta.read_text()
    meta.write_text(text.replace('"zstd"', '"nosuchcodec"'))
    with pytest.raises(ReadError, match="nosuchcodec.*Install the package of the codec"):
        geoxt.open_zarr(tmp_path / "a.zarr")
    meta.write_text(text.replace('"zarr_format": 3', '"zarr_format": 4'))
    with pytest.raises(ReadError, match="Cannot open the Zarr store"):
        geoxt.open_zarr(tmp_path / "a.zarr")


def test_no_store_raises(tmp_path):
    with pytest.raises(ReadError, match="there is no such Zarr store"):
        geoxt.open_zarr(tmp_path / "a.zarr")
    (tmp_path / "b.zarr").mkdir()
    with pytest.raises(ReadError, match="Cannot open the Zarr store"):
        geoxt.open_zarr(tmp_path / "b.zarr")
    with pytest.raises(InputError, match="from a int"):
        geoxt.open_zarr(3)


def test_other_dimensions_are_selected(tmp_path):
    values = distinct((3, 4, 60, 70), "int32")
    group = write_store(tmp_path / "a.zarr", {"t": (("time", "level", "y", "x"), values, {})}, times=TIMES)
    write_array(group, "level", ("level",), np.array([1000, 850, 500, 300]))
    with pytest.raises(InputError, match=r"dimension 'level' \(1000, 850, 500, 300\).*select={'level': 1000}"):
        geoxt.open_zarr(tmp_path / "a.zarr")
    single = geoxt.open_zarr(tmp_path / "a.zarr", select={"level": 850})
    assert single.band.values.tolist() == ["t"]
    assert np.array_equal(single.values[:, 0], values[:, 1])
    two = geoxt.open_zarr(tmp_path / "a.zarr", select={"level": [300, 850]})
    assert two.band.values.tolist() == ["t_300", "t_850"]
    assert np.array_equal(two.values, values[:, [3, 1]])
    with pytest.raises(InputError, match="Cannot select level=10"):
        geoxt.open_zarr(tmp_path / "a.zarr", select={"level": 10})


def test_spatial_dimensions_first(tmp_path):
    values = distinct((60, 70, 3), "uint16")
    group = write_store(tmp_path / "a.zarr", {"rgb": (("y", "x", "band"), values, {})}, chunks=(16, 16, 2))
    write_array(group, "band", ("band",), np.array([10, 20, 30]))
    layer = geoxt.open_zarr(tmp_path / "a.zarr")
    assert layer.band.values.tolist() == ["rgb_10", "rgb_20", "rgb_30"]
    assert np.array_equal(layer.values, np.moveaxis(values, -1, 0))


def test_bands_scale_and_area(tmp_path):
    values = distinct((2, 60, 70), "uint16")
    attrs = {"scale_factor": 0.5, "add_offset": -1.0, "_FillValue": 0}
    write_store(tmp_path / "a.zarr", {"B02": (("y", "x"), values[0], attrs), "B04": (("y", "x"), values[1], attrs)})
    layer = geoxt.open_zarr(tmp_path / "a.zarr", bands=["B04"])
    assert (layer.attrs["scales"], layer.attrs["offsets"], layer.attrs["_FillValue"]) == ([0.5], [-1.0], 0)
    physical = geoxt.open_zarr(tmp_path / "a.zarr", product="sentinel2", bands=["red"], rescale=True)
    assert physical.band.values.tolist() == ["B04"]
    assert np.array_equal(physical.values[0], values[1].astype("float32") * np.float32(0.5) - 1)
    box = GRID[10:20, 5:25].geographic_extent.boundingbox
    cut = geoxt.open_zarr(tmp_path / "a.zarr", bbox=tuple(box))
    assert grid_of(cut).shape[0] < 30
    with pytest.raises(InputError, match=r"Cannot open the bands \['B09'\]: the cube has \['B02', 'B04'\]"):
        geoxt.open_zarr(tmp_path / "a.zarr", bands="B09")
    with pytest.raises(OverlapError):
        geoxt.open_zarr(tmp_path / "a.zarr", bbox=(0, 0, 1, 1))


RED_NIR = {
    name: (("y", "x"), np.full((60, 70), value, "uint16"), {})
    for name, value in (("B04", 1500), ("B08", 3000))  # NDVI 0.6 with the offset of baseline 04.00, else 1 / 3
}


@pytest.mark.parametrize(
    ("store", "attrs", "baseline", "ndvi"),
    [
        ("a.zarr", {}, None, None),
        ("a.zarr", {}, "05.09", 0.6),
        ("a.zarr", {}, "03.00", 1 / 3),
        ("a.zarr", {"stac_discovery": {"properties": {"processing:version": "05.11"}}}, "03.00", 0.6),
        ("a.zarr", {"stac_discovery": {"id": "S2A_MSIL2A_20220517T100559_N0301_R022_T33UUU_2022"}}, None, 1 / 3),
        ("S2A_MSIL2A_20220517T100559_N0509_R022_T33UUU_20220517T163202.zarr", {}, None, 0.6),
    ],
)
def test_index_follows_the_baseline_of_a_store(tmp_path, store, attrs, baseline, ndvi):
    write_store(tmp_path / store, RED_NIR, attrs=attrs)
    layer = geoxt.open_zarr(tmp_path / store, product="sentinel2", baseline=baseline)
    if ndvi is not None:
        assert np.allclose(geoxt.indices.append(layer, "ndvi").sel(band="ndvi"), ndvi)
        return
    with pytest.raises(InputError, match="Cannot compute ndvi .*unknown. Open the layer with .*baseline="):
        geoxt.indices.append(layer, "ndvi")
    with pytest.raises(InputError, match="depend on the processing baseline, which is unknown.*Pass .*baseline="):
        geoxt.open_zarr(tmp_path / store, product="sentinel2", rescale=True)
    with pytest.raises(InputError, match="a baseline without a product"):
        geoxt.open_zarr(tmp_path / store, baseline="05.09")


def test_index_of_a_dataset_follows_its_encoding(tmp_path):
    coords = {**coordinates(GRID), "spatial_ref": coordinates(GRID)["spatial_ref"]}
    stored = xr.Dataset({name: (dims, values) for name, (dims, values, _) in RED_NIR.items()}, coords)
    options = {"product": "sentinel2", "source_crs": GRID.crs}
    with pytest.raises(InputError, match="Cannot compute ndvi .*unknown"):
        geoxt.indices.append(geoxt.open_xarray(stored, **options), "ndvi")
    layer = geoxt.open_xarray(stored, baseline="05.09", **options)
    assert np.allclose(geoxt.indices.append(layer, "ndvi").sel(band="ndvi"), 0.6)
    physical = stored * np.float32(0.0001) - np.float32(0.1)  # floating-point numbers of an unknown conversion
    with pytest.raises(InputError, match="Cannot compute ndvi .*unknown"):
        geoxt.indices.append(geoxt.open_xarray(physical, baseline="05.09", **options), "ndvi")
    for variable in physical.data_vars.values():
        variable.encoding |= {"scale_factor": 0.0001, "add_offset": -0.1}  # as decoded by xarray
    layer = geoxt.open_xarray(physical, **options)
    assert np.allclose(geoxt.indices.append(layer, "ndvi").sel(band="ndvi"), 0.6)


def test_class_codes(tmp_path):
    attrs = {"flag_values": [1, 2], "flag_meanings": "water forest"}
    codes = np.ones((60, 70), "uint8")
    write_store(tmp_path / "a.zarr", {"cover": (("y", "x"), codes, attrs), "b": (("y", "x"), distinct((60, 70)), {})})
    with pytest.raises(InputError, match="as class codes: there are 2 bands"):
        geoxt.open_zarr(tmp_path / "a.zarr")
    cover = geoxt.open_zarr(tmp_path / "a.zarr", bands="cover")
    assert cover.dims == ("y", "x")
    assert geoxt.Legend.of(cover).names == ("water", "forest")


def test_zip_and_memory_stores(tmp_path):
    values = distinct((60, 70))
    write_store(tmp_path / "a.zarr", {"b": (("y", "x"), values, {})}, chunks=(16, 16))
    shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "a.zarr")
    memory = zarr.storage.MemoryStore()
    group = zarr.open_group(memory, mode="w", attributes={"proj:code": "EPSG:32615"})
    write_array(group, "b", ("y", "x"), values, {"spatial:transform": list(GRID.affine[:6])})
    for store in (tmp_path / "a.zip", memory, zarr.storage.LocalStore(tmp_path / "a.zarr")):
        layer = geoxt.open_zarr(store)
        assert np.array_equal(layer.values[0], values)
        assert np.array_equal(pickle.loads(pickle.dumps(layer)).values[0], values)


def test_path_of_a_group_or_an_array(tmp_path):
    outer = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    outer.create_group("m")
    values = distinct((60, 70))
    write_store(tmp_path / "a.zarr" / "m" / "r", {"b": (("y", "x"), values, {}), "c": (("y", "x"), values, {})})
    assert geoxt.open_zarr(tmp_path / "a.zarr" / "m").band.values.tolist() == ["b", "c"]
    assert geoxt.open_zarr(tmp_path / "a.zarr" / "m" / "r" / "c").band.values.tolist() == ["c"]
    assert geoxt.open_zarr(tmp_path / "a.zarr", group="m/r/b").band.values.tolist() == ["b"]
    write_store(tmp_path / "a.zarr" / "n", {"b": (("y", "x"), values, {})})
    with pytest.raises(InputError, match="the groups 'm/r' and 'n' have it. Pass group='m/r' or group='n'"):
        geoxt.open_zarr(tmp_path / "a.zarr")
    with pytest.raises(ReadError, match="group 'q'"):
        geoxt.open_zarr(tmp_path / "a.zarr", group="q")
