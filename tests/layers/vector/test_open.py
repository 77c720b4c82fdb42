"""Vector files as layers: formats, classes, errors, and loading."""

from __future__ import annotations

import builtins
import json
import pickle

import dask
import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

import geoxt
from geoxt import errors
from geoxt.bridge import loader, to_torch
from geoxt.grid import coordinates
from geoxt.layers import features, open_vector
from geoxt.pixels.vector_file import read_features, read_vector_header
from geoxt.samplers import GridSampler
from geoxt.source import VectorSource, view_of
from geoxt.windows import Window

pytestmark = pytest.mark.filterwarnings("ignore:'crs' was not provided")

GRID = GeoBox((64, 80), Affine(30, 0, 500_000, 0, -30, 4_650_000), "EPSG:32615")
BOXES = [(2, 2, 10, 12), (8, 4, 20, 20), (40, 30, 60, 50), (70, 50, 90, 70)]
"""Left, top, right, bottom in pixels of the grid; the last box exceeds the grid."""
DRIVERS = {"gpkg": "GPKG", "geojson": "GeoJSON", "shp": "ESRI Shapefile", "fgb": "FlatGeobuf"}


def in_crs(bounds):
    box = shapely.box(*bounds)
    return shapely.transform(box, lambda p: np.column_stack(GRID.affine @ (p[:, 0], p[:, 1])))


def burned(values, background=0):
    """Return the boxes burned in order on the grid."""
    out = np.full(GRID.shape, background)
    for (left, top, right, bottom), value in zip(BOXES, values, strict=True):
        out[top:bottom, left:right] = value
    return out


@pytest.fixture
def write(tmp_path):
    """Write the boxes, or other geometries, with attributes as a vector file; returns its path."""

    def write_one(name="fields.gpkg", geometries=None, crs="EPSG:32615", layer=None, *, append=False, **columns):
        path = tmp_path / name
        shapes = np.array([in_crs(b) for b in BOXES] if geometries is None else geometries, object)
        options = {"layer": layer} if layer else {}
        pyogrio.raw.write(
            path, shapely.to_wkb(shapes), [np.asarray(c) for c in columns.values()], list(columns), crs=crs,
            geometry_type="Polygon", driver=DRIVERS[path.suffix[1:]], append=append, **options,
        )  # fmt: skip
        return path

    return write_one


@pytest.fixture
def image():
    """Image layer of three bands on the grid."""
    values = np.random.default_rng(0).uniform(size=(3, *GRID.shape)).astype("float32")
    return xr.DataArray(values, dims=("band", "y", "x"), coords=coordinates(GRID), name="image").chunk(y=32, x=32)


@pytest.mark.parametrize("suffix", DRIVERS)
def test_formats_burn_equal_classes_and_instances(write, suffix):
    path = write(f"fields.{suffix}", crop=["rye", "oat", "rye", "maize"], crs="EPSG:32615")
    classes, instances = open_vector(path, grid=GRID, column="crop"), open_vector(path, grid=GRID, instances=True)
    assert (classes.dtype, instances.dtype) == ("uint8", "int64")
    _, numbers, stored, (crops,) = pyogrio.raw.read(path, return_fids=True)
    if suffix != "fgb":  # FlatGeobuf sorts features on write
        np.testing.assert_array_equal(classes, burned([3, 2, 3, 1]))
        assert (numbers - numbers[0]).tolist() == [0, 1, 2, 3]
    expected = np.zeros((2, *GRID.shape), int)
    for number, geometry, crop in zip(numbers, shapely.from_wkb(stored), crops, strict=True):
        left, bottom, right, top = geometry.bounds
        (col, row), (col_end, row_end) = (np.rint(~GRID.affine @ p).astype(int) for p in ((left, top), (right, bottom)))
        expected[:, row:row_end, col:col_end] = [[[["maize", "oat", "rye"].index(crop) + 1]], [[number + 1]]]
    np.testing.assert_array_equal([classes, instances], expected)


def test_opening_reads_no_geometry(write, monkeypatch):
    path = write(crop=["rye", "oat", "rye", "maize"])

    def fail(*args, **options):
        raise AssertionError

    monkeypatch.setattr("geoxt.source.feature_index.read_features", fail)
    with dask.config.set(scheduler=fail):
        layer = open_vector(path, grid=GRID, column="crop", chunks=32)
        aligned = geoxt.align(layer, GRID.zoom_out(2))
        assert view_of(aligned[3:, 2:]).direct
    assert layer.chunks == ((32, 32), (32, 32, 16))
    assert isinstance(pickle.loads(pickle.dumps(layer)), xr.DataArray)


def test_attributes_of_a_categorical_layer(write):
    path = write(crop=["winter rye", "oat", "winter rye", "maize"])
    layer = open_vector(path, grid=GRID, column="crop", name="crops")
    assert layer.name == "crops"
    assert layer.attrs["flag_values"].tolist() == [0, 1, 2, 3]
    assert layer.attrs["flag_meanings"] == "background maize oat winter_rye"
    assert len(set(layer.attrs["flag_colors"].split())) == 4
    assert "_FillValue" not in layer.attrs
    sparse = open_vector(path, grid=GRID, column="crop", nodata=0)
    assert sparse.attrs["_FillValue"] == 0
    assert geoxt.Legend.of(sparse).names == ("maize", "oat", "winter rye")
    np.testing.assert_array_equal(view_of(sparse).read(Window(0, 0, 64, 80))[1][0, 0], sparse != 0)
    assert open_vector(path, grid=GRID).attrs["flag_meanings"] == "background fields"


def test_integer_attributes_are_the_codes(write):
    path = write(code=np.array([7, -3, 300, 7], "int32"), real=[7.0, 3.0, 9.0, 7.0])
    layer = open_vector(path, grid=GRID, column="code")
    np.testing.assert_array_equal(layer, burned([7, -3, 300, 7]))
    assert layer.dtype == "int16"
    assert geoxt.Legend.of(layer).names == ("background", "-3", "7", "300")
    np.testing.assert_array_equal(open_vector(path, grid=GRID, column="real"), burned([7, 3, 9, 7]))
    legend = geoxt.Legend((7, 300, 0), ("rye", "oat", "rest"), ("#ff0000", "#00ff00", "#0000ff"))
    named = geoxt.Legend.of(open_vector(path, grid=GRID, column="code", legend=legend))
    assert named.names == ("rest", "-3", "rye", "oat")
    assert named.colors[2:] == ("#ff0000", "#00ff00")


def test_classes_select_features_and_codes(write):
    path = write(crop=["rye", "oat", None, "maize"])
    expected = np.zeros(GRID.shape, int)
    expected[2:12, 2:10], expected[50:, 70:] = 2, 1
    np.testing.assert_array_equal(open_vector(path, grid=GRID, column="crop", classes=["maize", "rye"]), expected)
    codes = {"rye": 5, "oat": 5, None: 9}
    with pytest.warns(errors.LabelWarning, match=r"No feature .* has the class 'ry' in 'crop'; .*'rye'.* are left out"):
        open_vector(path, grid=GRID, column="crop", classes=["maize", "ry"])
    with_background = open_vector(path, grid=GRID, column="crop", classes=codes, background=1)
    np.testing.assert_array_equal(with_background, np.where(burned([1, 1, 1, 0]) == 1, burned([5, 5, 9, 0]), 1))
    assert geoxt.Legend.of(with_background).names == ("background", "rye", "missing")


def test_largest_value_wins(write):
    path = write(crop=["a", "b", "c", "d"], area=[9.5, 1.0, 1.0, 1.0])
    expected = burned([1, 2, 3, 4])
    expected[2:12, 2:10] = 1
    np.testing.assert_array_equal(open_vector(path, grid=GRID, column="crop", by="area"), expected)


def test_layer_is_selected_by_name(write):
    write(layer="fields")
    path = write(layer="roads", append=True, geometries=[in_crs((0, 0, 4, 4))])
    assert int(open_vector(path, grid=GRID, layer="roads").sum()) == 16
    with pytest.raises(errors.InputError, match=r"it has \['fields', 'roads'\]\. Pass one of the listed .* as layer="):
        open_vector(path, grid=GRID)
    with pytest.raises(errors.InputError, match=r"layer 'paths' in .* Pass one of the listed .* as layer="):
        open_vector(path, grid=GRID, layer="paths")


def test_file_without_crs_raises_unless_source_crs_is_passed(write):
    path = write("plain.shp", crs=None)
    (path.with_suffix(".prj")).unlink(missing_ok=True)
    with pytest.raises(errors.CRSError, match=r"plain.shp': the file has no CRS\. Pass source_crs="):
        open_vector(path, grid=GRID)
    np.testing.assert_array_equal(open_vector(path, grid=GRID, source_crs="EPSG:32615"), burned([1, 1, 1, 1]))
    path.with_suffix(".prj").write_text('LOCAL_CS["site",UNIT["metre",1]]')
    with pytest.raises(errors.CRSError, match=r"plain.shp': .* neither geographic nor projected\. Pass source_crs="):
        open_vector(path, grid=GRID)
    np.testing.assert_array_equal(open_vector(path, grid=GRID, source_crs="EPSG:32615"), burned([1, 1, 1, 1]))


def test_invalid_input_raises_with_a_remedy(write, tmp_path, image):
    path = write(crop=["rye", None, "oat", ""], half=[0.5, 1, 2, 3], code=np.array([0, 1, 2, 3], "int32"))
    text = tmp_path / "broken.gpkg"
    text.write_text("nothing")
    for options, kind, message in [
        ({"column": "crops"}, errors.InputError, r"attribute 'crops' .* \['crop', 'half', 'code'\]\. Pass column="),
        ({"by": "size"}, errors.InputError, r"'size' .* Pass by=, an attribute"),
        ({"column": "crop"}, errors.LabelError, r"'crop': 2 of 4 features have no value\. Pass classes="),
        ({"column": "half"}, errors.LabelError, r"0\.5 is neither a text nor an integer\. Pass classes="),
        ({"column": "code"}, errors.LabelError, r"class '0' has its code 0\. Pass another background="),
        ({"column": "crop", "classes": ["wheat"]}, errors.LabelError, r"\['wheat'\] in 'crop' .*'oat', 'rye'"),
        ({"classes": ["wheat"]}, errors.InputError, r"no attribute was chosen\. Pass column="),
        ({"product": "landsat8"}, errors.InputError, r"product of raster files \(image\)\. Use open_cogs"),
        (
            {"product": "canadian_building_footprints"},
            errors.InputError,
            r"not of the form .*\. Open it without product=",
        ),
    ]:
        with pytest.raises(kind, match=message):
            open_vector(path, grid=GRID, **options)
    with pytest.raises(errors.InputError, match=r"Cannot find the vector file .*nowhere"):
        open_vector(tmp_path / "nowhere.gpkg", grid=GRID)
    with pytest.raises(errors.InputError, match=r"a GeoDataFrame as a vector file\. Pass path=; .*to_file"):
        open_vector(geopandas.read_file(path), grid=GRID)
    with pytest.raises(errors.ReadError, match=r"broken\.gpkg"):
        open_vector(text, grid=GRID)
    with pytest.raises(errors.GridError, match=r"neither of like and grid is given"):
        open_vector(path)
    with pytest.raises(errors.GridError, match=r"both of like and grid is given"):
        open_vector(path, like=image, grid=GRID)
    with pytest.raises(errors.GridError, match=r"without a CRS"):
        open_vector(path, grid=GeoBox((4, 4), Affine.identity(), None))


def test_empty_and_disjoint_files_raise(write):
    with pytest.raises(errors.InputError, match="has no features"):
        open_vector(write("empty.gpkg", geometries=[]), grid=GRID)
    disjoint = write("away.gpkg", geometries=[shapely.box(8, 50, 9, 51)], crs="EPSG:4326")
    with pytest.raises(errors.OverlapError, match=r"lies in x 8 to 9, y 50 to 51 \(EPSG:4326\), the grid in x -93"):
        open_vector(disjoint, grid=GRID)


def test_missing_pyogrio_raises_with_the_extra(write, monkeypatch):
    path, real = write(), builtins.__import__

    def raise_on_import(name, *args, **options):
        if name.startswith(("pyogrio", "pyarrow")):
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", raise_on_import)
    with pytest.raises(errors.MissingDependency, match=r"pip install 'geoxt\[vector\]'"):
        open_vector(path, grid=GRID)
    parquet = path.with_suffix(".parquet")
    parquet.write_bytes(b"")
    with pytest.raises(errors.MissingDependency, match="pyarrow"):
        open_vector(parquet, grid=GRID)


def test_only_features_near_the_grid_are_read(write):
    header = read_vector_header(write(crop=list("abcd"), more=[1, 2, 3, 4]))
    near = read_features(header, columns=["more", "crop"], bounds=(500_000, 4_649_600, 500_100, 4_650_000))
    assert near.ids.tolist() == [1]
    assert {k: v.tolist() for k, v in near.columns.items()} == {"crop": ["a"], "more": [1]}


def test_geoparquet_skips_disjoint_row_groups(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    shapes = [in_crs(b) for b in BOXES]
    sides = [dict(zip(("xmin", "ymin", "xmax", "ymax"), s.bounds, strict=True)) for s in shapes]
    table = pa.table(
        {"geometry": shapely.to_wkb(shapes).tolist(), "crop": ["rye", "oat", "rye", "maize"], "bbox": sides}
    )
    covering = {"bbox": {side: ["bbox", side] for side in sides[0]}}
    column = {"encoding": "WKB", "geometry_types": [], "crs": json.loads(GRID.crs.proj.to_json()), "covering": covering}
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    path = tmp_path / "fields.parquet"
    pq.write_table(table.replace_schema_metadata({"geo": json.dumps(geo)}), path, row_group_size=1)
    np.testing.assert_array_equal(open_vector(path, grid=GRID, column="crop"), burned([3, 2, 3, 1]))
    np.testing.assert_array_equal(open_vector(path, grid=GRID, instances=True), burned([1, 2, 3, 4]))
    near = read_features(read_vector_header(path), bounds=shapes[2].bounds)
    assert near.ids.tolist() == [2]
    pq.write_table(table.replace_schema_metadata({}), tmp_path / "plain.parquet")
    with pytest.raises(errors.ReadError, match="not GeoParquet"):
        open_vector(tmp_path / "plain.parquet", grid=GRID)


def test_intersection_with_an_image_is_loaded(write, image):
    path = write(crop=["rye", "oat", "rye", "maize"])
    finer = GeoBox((200, 200), Affine(15, 0, 499_700, 0, -15, 4_650_300), "EPSG:32615")
    pair = geoxt.intersection(image=image, mask=open_vector(path, grid=finer, column="crop"))
    assert (pair.sizes["y"], pair.sizes["x"]) == GRID.shape
    assert isinstance(view_of(pair["mask"]).source, VectorSource)
    batches = list(loader(pair, GridSampler(pair, size=32, stride=32), batch_size=2, num_workers=0))
    assert str(batches[0]["mask"].dtype) == "torch.int64"
    samples = to_torch(pair, [Window(0, 0, 64, 80)])[0]
    np.testing.assert_array_equal(samples["mask"], burned([3, 2, 3, 1])[:64, :80])
    assert samples["mask_valid"].all()


def test_workers_and_pickles_burn_equal_pixels(write, image):
    pair = geoxt.intersection(image=image, mask=open_vector(write(), like=image, nodata=255))
    windows = [Window(0, 0, 40, 40), Window(20, 30, 40, 40)]
    serial = list(loader(pair, windows, batch_size=1, threads=1))
    parallel = list(loader(pair, windows, batch_size=1, threads=1, num_workers=1, multiprocessing_context="fork"))
    unpickled = pickle.loads(pickle.dumps(to_torch(pair, windows)))  # as workers that are spawned
    for n, (a, b) in enumerate(zip(serial, parallel, strict=True)):
        np.testing.assert_array_equal(a["mask"], b["mask"])
        np.testing.assert_array_equal(a["mask"][0], unpickled[n]["mask"])


def test_align_burns_on_the_new_grid_inside_the_slice(write):
    path = write(crop=["rye", "oat", "rye", "maize"])
    layer, finer = open_vector(path, grid=GRID, column="crop"), GRID.zoom_out(0.5)
    np.testing.assert_array_equal(geoxt.align(layer, finer), open_vector(path, grid=finer, column="crop").to_numpy())
    cut = open_vector(path, grid=GRID, column="crop", nodata=255)[:10, :10]
    aligned = geoxt.align(cut, finer)
    assert (aligned[20:] == 255).all()
    assert (aligned[:20, 20:] == 255).all()
    np.testing.assert_array_equal(aligned[:20:2, :20:2], cut)


def test_features_of_a_window(write):
    layer = open_vector(write(crop=["rye", "oat", "rye", "maize"]), grid=GRID, column="crop")
    window_features = features(layer[4:, 3:], Window(0, 0, 20, 20))
    np.testing.assert_allclose(window_features.boxes, [[0, 0, 7, 8], [5, 0, 17, 16]])
    assert window_features.codes.tolist() == [3, 2]
    assert window_features.ids.tolist() == [2, 3]
    with pytest.raises(errors.InputError, match="directly from a vector file"):
        features(layer + 1, Window(0, 0, 20, 20))


def test_canadian_building_footprints_open(tmp_path):
    path = tmp_path / "Ontario.geojson"
    box = {
        "type": "Polygon",
        "coordinates": [[[-79.5, 43.5], [-79.4, 43.5], [-79.4, 43.6], [-79.5, 43.6], [-79.5, 43.5]]],
    }
    feature = {"type": "Feature", "properties": {}, "geometry": box}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    grid = GeoBox((10, 10), Affine(0.02, 0, -79.55, 0, -0.02, 43.65), "EPSG:4326")
    layer = open_vector(path, grid=grid, product="canadian_building_footprints")
    assert layer.name == "canadian_building_footprints"
    assert layer.attrs["long_name"] == "Microsoft Canadian Building Footprints"
    assert geoxt.Legend.of(layer).names == ("background", "building")
    assert int(layer.sum()) == 25
