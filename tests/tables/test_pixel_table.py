"""Tables of pixels at points and in polygons equal brute-force lookups, and each block is read once."""

from collections import Counter

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import xarray as xr
from rasterio.features import geometry_mask

import geoxt
from geoxt.errors import CRSError, InputError, NodataWarning
from geoxt.grid import coordinates
from geoxt.layers import open_cogs
from geoxt.source import Mosaic
from geoxt.tables import extract, layer_values
from geoxt.testing import distinct, make_grid, write_cog

GRID = make_grid((40, 50), left=600_000, top=5_000_000, resolution=10)


def make_layer(values, *, grid=GRID, nodata=None, **coords):
    dims = ("time", "band", "y", "x")[4 - values.ndim :]
    attrs = {} if nodata is None else {"_FillValue": values.dtype.type(nodata)}
    return xr.DataArray(values, dims=dims, coords={**coords, **coordinates(grid)}, attrs=attrs, name="image")


def points_at(rows, cols, *, grid=GRID, shift=0.5, **columns):
    x, y = grid.affine @ np.stack([np.asarray(cols) + shift, np.asarray(rows) + shift])
    return gpd.GeoDataFrame(columns, geometry=gpd.points_from_xy(x, y), crs=grid.crs.to_wkt())


@pytest.fixture
def layer():
    return make_layer(distinct((2, 40, 50), "uint16"), nodata=65535, band=["red", "nir"])


def test_points_equal_rasterio_and_carry_their_columns(tmp_path):
    values = distinct((2, 40, 50), "uint16")
    path = write_cog(tmp_path / "a.tif", values, grid=GRID, nodata=65535)
    rng = np.random.default_rng(0)
    points = points_at(rng.integers(0, 40, 30), rng.integers(0, 50, 30), shift=0.2, label=list("abc") * 10)
    points.index = range(100, 130)
    table = extract(open_cogs([path]).isel(time=0, drop=True, missing_dims="ignore"), points.to_crs(4326))
    with rasterio.open(path) as file:
        expected = np.array(list(file.sample(zip(points.geometry.x, points.geometry.y, strict=True))))
    names = table.attrs["bands"]
    np.testing.assert_array_equal(table[names], expected)
    assert table[names].dtypes.unique().tolist() == ["float32"]
    assert list(table.index) == list(range(100, 130))
    assert list(table["label"]) == list(points["label"])
    assert table.crs == 4326


def test_pixels_without_a_value_are_nan_and_counted(layer):
    layer[:, 3, 4] = 65535
    layer[1, 5, 6] = 65535
    points = points_at([3, 5, 0, -3], [4, 6, 0, 0])
    with pytest.warns(NodataWarning) as warned:
        table = layer.geoml.extract(points)
    assert [str(w.message) for w in warned if w.category is NodataWarning] == [
        "1 of 4 points lie outside the layer.",
        "1 of 4 points lie on nodata.",
    ]
    expected = [[np.nan, np.nan], [layer[0, 5, 6], np.nan], layer[:, 0, 0], [np.nan, np.nan]]
    np.testing.assert_array_equal(table[["red", "nir"]], expected)


def test_points_that_the_projection_does_not_reach_lie_outside(layer):
    points = gpd.GeoDataFrame(geometry=gpd.points_from_xy([0, -170], [95, 10]), crs=4326)
    with pytest.warns(NodataWarning, match="2 of 2 points lie outside"):
        assert extract(layer, points)["red"].isna().all()


def test_edges_belong_to_the_right_and_lower_pixel(layer):
    table = extract(layer, points_at([0, 1, 1], [0, 0, 1], shift=0.0))
    assert table["red"].tolist() == [layer[0, 0, 0], layer[0, 1, 0], layer[0, 1, 1]]


def test_time_steps_are_rows(layer):
    values = np.stack([layer.to_numpy(), layer.to_numpy() + 1000])
    values[1, :, 2, 2] = 65535
    times = np.array(["2024-01-01", "2024-02-01"], "datetime64[ns]")
    dated = make_layer(values, nodata=65535, time=times, band=["red", "nir"])
    ds = xr.Dataset({"image": dated, "height": dated[0, 0].drop_vars(["time", "band"]).astype("float64")})
    with pytest.warns(NodataWarning, match="1 of 3 points lie outside"):
        table = extract(ds, points_at([1, 2, 99], [1, 2, 0], plot=[7, 8, 9]))
    assert table["plot"].tolist() == [7, 7, 8, 8, 9, 9]
    assert table["time"].tolist() == list(times) * 3
    assert table["red"].fillna(-1).tolist() == [*values[:, 0, 1, 1], values[0, 0, 2, 2], -1, -1, -1]
    assert table["height"].fillna(-1).tolist() == [*[values[0, 0, 1, 1]] * 2, *[values[0, 0, 2, 2]] * 2, -1, -1]


@pytest.mark.parametrize("chunks", [None, {"y": 16, "x": 16}])
def test_each_block_is_read_once(tmp_path, monkeypatch, layer, chunks):
    monkeypatch.setattr(layer_values, "BLOCK", 16)
    reads, blocks, source = Counter(), Counter(), layer.to_numpy()
    if chunks is None:
        layer = open_cogs([write_cog(tmp_path / "a.tif", source, grid=GRID)])
        read = Mosaic.read

        def counting(self, window, **options):
            reads[window.row // 16, window.col // 16] += 1
            blocks[window.stop[0] - 1 >> 4, window.stop[1] - 1 >> 4] += 1
            return read(self, window, **options)

        monkeypatch.setattr(Mosaic, "read", counting)
        view = layer[..., 3:, 5:]
    else:

        def counted(block, block_info=None):
            reads[tuple(block_info[0]["chunk-location"][1:])] += 1
            return block

        data = layer.chunk(chunks).data.map_blocks(counted, dtype=layer.dtype, meta=np.empty((0, 0, 0), layer.dtype))
        view = layer.copy(data=data)
    row, col = np.random.default_rng(0).integers(0, 37, (2, 500))
    inner = make_grid((37, 45), left=GRID.affine.c + 50, top=GRID.affine.f - 30, resolution=10)
    table = extract(view, points_at(row, col, grid=inner))
    np.testing.assert_array_equal(table[table.attrs["bands"]], source[:, row + 3, col + 5].T)
    assert set(reads.values()) == {1}
    assert chunks or blocks == reads  # a window lies within a block of the file
    assert len(reads) == 9


def test_pixels_of_polygons_equal_a_rasterized_mask(layer):
    circle = shapely.Point(GRID.affine @ (20.3, 15.1)).buffer(87)
    polygons = gpd.GeoDataFrame({"crop": ["rye"]}, geometry=[circle], crs=GRID.crs.to_wkt(), index=["field"])
    table = extract(layer, polygons)
    inside = ~geometry_mask([circle], GRID.shape, GRID.affine)
    assert sorted(table["red"]) == sorted(layer[0].to_numpy()[inside])
    assert set(table["crop"]) == {"rye"}
    assert set(table.index) == {"field"}
    again = extract(layer, table[["geometry"]])  # the centers are points of the same pixels
    np.testing.assert_array_equal(again[["red", "nir"]], table[["red", "nir"]])


def test_reductions_skip_invalid_pixels(layer):
    layer[0, 2, 3] = 65535
    left, top = GRID.affine @ (2, 1)
    boxes = [shapely.box(left, top - 30, left + 30, top), shapely.box(left + 1, top - 2, left + 2, top - 1)]
    polygons = gpd.GeoSeries(boxes, crs=GRID.crs.to_wkt()).to_crs(3857)
    names = ["count", "mean", "median", "min", "max", "std", "sum", "mode"]
    with pytest.warns(NodataWarning, match="1 of 2 polygons contain the center of no pixel"):
        table = extract(layer, polygons, reduce=names)
    pixels = layer[0, 1:4, 2:5].to_numpy().astype(float)
    pixels[1, 1] = np.nan
    expected = [8, *(f(pixels) for f in (np.nanmean, np.nanmedian, np.nanmin, np.nanmax, np.nanstd, np.nansum))]
    np.testing.assert_allclose(table.loc[0, [f"red_{name}" for name in names[:-1]]].astype(float), expected, rtol=1e-6)
    assert table.loc[0, "red_mode"] == np.nanmin(pixels)
    assert table.loc[1, "red_count"] == 0
    assert table.loc[1, ["red_mean", "red_sum", "red_mode"]].isna().all()
    with pytest.warns(NodataWarning):
        assert extract(layer, polygons, reduce="mean").attrs["bands"] == ["red", "nir"]


def test_points_of_a_tree_take_the_node_that_is_valid():
    west = make_layer(np.full((1, 40, 50), 5, "uint8"), nodata=0, band=["red"])
    west[:, :, 30:] = 0
    grid = make_grid((40, 50), left=600_200, top=5_000_000, resolution=10)
    east = make_layer(np.full((1, 40, 50), 9, "uint8"), grid=grid, nodata=0, band=["red"])
    tree = xr.DataTree.from_dict({"west": west.to_dataset(), "east": east.to_dataset()})
    points = points_at([0, 0, 0, 0], [5, 25, 35, 99])  # west, both, both but west is nodata, outside
    with pytest.warns(NodataWarning, match="1 of 4 points lie outside"):
        table = tree.geoml.extract(points)
    assert table["node"].fillna("").tolist() == ["west", "west", "east", ""]
    assert table["red"].fillna(0).tolist() == [5, 5, 9, 0]
    fields = points.iloc[:3].set_geometry(points.geometry[:3].buffer(12, cap_style="square"))
    table = extract(tree, fields, reduce="max")
    assert table["node"].tolist() == ["west", "west", "east"]
    east = east.assign_coords(band=["nir"])
    with pytest.raises(InputError, match="the bands of node 'west' are red, those of node 'east' are nir"):
        extract(xr.DataTree.from_dict({"west": west.to_dataset(), "east": east.to_dataset()}), points)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda p: p.set_crs(None, allow_override=True), CRSError, "without a CRS"),
        (lambda p: np.zeros((3, 2)), InputError, "Cannot extract pixels at a ndarray"),
        (lambda p: p.iloc[:0], InputError, "there are no geometries"),
        (lambda p: p.set_geometry(p.boundary), InputError, "2 of 2 geometries are missing"),
        (lambda p: p.set_geometry([p.geometry[0], p.geometry[0].buffer(1)]), InputError, "of the types Point, Polygon"),
        (lambda p: p.assign(red=1), InputError, r"Cannot add the columns \['red'\]"),
    ],
)
def test_other_geometries_raise(layer, change, error, words):
    with pytest.raises(error, match=words):
        extract(layer, change(points_at([0, 1], [0, 1])))


def test_other_reductions_and_layers_raise(layer):
    points = points_at([0], [0])
    with pytest.raises(InputError, match="points have one pixel each"):
        extract(layer, points, reduce="mean")
    with pytest.raises(InputError, match="there is no such reduction"):
        extract(layer, points.buffer(20), reduce="average")
    with pytest.raises(InputError, match="several bands have these names"):
        extract(xr.Dataset({"a": layer, "b": layer}), points)
    assert geoxt.extract is extract
