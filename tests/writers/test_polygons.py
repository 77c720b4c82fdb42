"""Polygons of class maps: every pixel once, without seams, with areas of the raster, sieved, simplified, written."""

import numpy as np
import pytest
import rasterio.features
import shapely
from odc.geo.geobox import GeoBox
from odc.geo.xr import wrap_xr
from scipy import ndimage

from geoxt.errors import GridError, InputError, LabelError, OverlapError
from geoxt.legend import Legend
from geoxt.regions.geodesic_area import cell_areas
from geoxt.testing import make_grid
from geoxt.windows import Window
from geoxt.writers import polygonize, to_vector

geopandas = pytest.importorskip("geopandas")
LEGEND = Legend((1, 2, 5), ("water", "forest", "town"))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr("geoxt.writers.polygons.BLOCK", 32)


def make_map(shape=(75, 90), seed=0, grid=None):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), 3)
    codes = np.array([1, 2, 5, 0], "uint8")[np.digitize(smooth, np.quantile(smooth, [0.3, 0.6, 0.9]))]
    return wrap_xr(codes, make_grid(shape) if grid is None else grid, nodata=0).assign_attrs(LEGEND.attrs())


def burn(frame, layer, column):
    shapes = zip(frame.geometry, frame[column], strict=True)
    return rasterio.features.rasterize(shapes, layer.shape, transform=layer.odc.geobox.affine, dtype="float64")


@pytest.mark.parametrize("connectivity", [4, 8])
def test_polygons_are_the_connected_pixels(connectivity):
    layer = make_map()
    frame = polygonize(layer, connectivity=connectivity)
    assert (burn(frame, layer, "code") == layer.values).all()
    neighbours = ndimage.generate_binary_structure(2, 1 if connectivity == 4 else 2)
    count = sum(ndimage.label(layer.values == code, neighbours)[1] for code in LEGEND.codes)
    assert len(frame) == count
    assert {*zip(frame["code"], frame["class"], strict=True)} == {*zip(LEGEND.codes, LEGEND.names, strict=True)}


def test_chunks_and_blocks_leave_no_seams(monkeypatch):
    layer = make_map()
    pieces = polygonize(layer.chunk(x=20, y=13))
    monkeypatch.setattr("geoxt.writers.polygons.BLOCK", 4096)
    assert polygonize(layer).equals(pieces)


@pytest.mark.parametrize("crs", ["EPSG:32616", "EPSG:4326", "EPSG:3857"])
def test_areas_are_those_of_the_raster(crs):
    left, top, size = {"EPSG:4326": (10, 60, 0.01), "EPSG:3857": (1e6, 8e6, 300)}.get(crs, (3e5, 5e6, 30))
    grid = GeoBox.from_bbox((left, top - 75 * size, left + 90 * size, top), crs, shape=(75, 90))
    layer = make_map(grid=grid)
    pixels = cell_areas(grid, Window(0, 0, 75, 90), (1, 1)) / 1e4
    areas = polygonize(layer).groupby("code")["area"].sum()
    for code in LEGEND.codes:
        assert areas[code] == pytest.approx(pixels[layer.values == code].sum(), rel=1e-3)


def test_large_polygons_are_measured_by_their_outline(monkeypatch):
    layer = make_map()
    by_center = polygonize(layer)["area"]
    monkeypatch.setattr("geoxt.writers.polygons.LARGE", 0)
    assert polygonize(layer)["area"].to_numpy() == pytest.approx(by_center.to_numpy(), rel=1e-3)


def test_small_polygons_join_their_neighbours():
    layer = make_map()
    pixel = 0.09
    frame = polygonize(layer, min_area=12 * pixel)
    codes = burn(frame, layer, "code")
    assert ((codes > 0) == (layer.values > 0)).all()
    sizes = frame["area"] / 0.0900487
    small = frame[sizes < 11.9]
    alone = [
        shape.buffer(1).intersects(shapely.union_all(frame.geometry.drop(index)))
        for index, shape in small.geometry.items()
    ]
    assert not any(alone)  # only polygons among missing pixels stay small
    assert 0 < len(frame) < len(polygonize(layer))


def test_no_polygon_of_a_noisy_map_is_below_the_minimum():
    codes = np.random.default_rng(0).integers(1, 9, (48, 48)).astype("uint8")
    once = rasterio.features.sieve(codes, 6)
    sizes = [shapely.geometry.shape(outline).area for outline, _ in rasterio.features.shapes(once)]
    assert min(sizes) < 6  # a pass of GDAL keeps some
    layer = wrap_xr(codes, make_grid((48, 48)))
    frame = polygonize(layer, min_area=6 * 0.09)
    assert frame["area"].min() > 5.9 * 0.09
    assert frame["area"].sum() == pytest.approx(polygonize(layer)["area"].sum())


def test_simplified_polygons_share_their_borders():
    layer = make_map()
    exact, frame = polygonize(layer), polygonize(layer, simplify=60)
    assert shapely.get_num_coordinates(frame.geometry).sum() < shapely.get_num_coordinates(exact.geometry).sum() / 2
    assert shapely.coverage_is_valid(frame.geometry.to_numpy())
    assert shapely.area(frame.geometry).sum() == pytest.approx(
        shapely.area(shapely.union_all(frame.geometry)), rel=1e-9
    )
    assert (frame["area"] == exact["area"]).all()


def test_probabilities_are_averaged_over_polygons():
    layer = make_map()
    rng = np.random.default_rng(1)
    probability = wrap_xr(rng.random(layer.shape).astype("float32"), layer.odc.geobox)
    probability.values[:10, :10] = np.nan
    frame = polygonize(layer, probability=probability)
    labels = burn(frame.assign(number=np.arange(1, len(frame) + 1)), layer, "number").astype(int)
    known = np.isfinite(probability.values)
    for number in (1, len(frame) // 2, len(frame)):
        inside = (labels == number) & known
        expected = probability.values[inside].mean() if inside.any() else np.nan
        assert frame["probability"].iloc[number - 1] == pytest.approx(expected, nan_ok=True)


def test_a_map_is_written_as_polygons(tmp_path):
    layer = make_map()
    path = to_vector(layer, tmp_path / "map.gpkg", min_area=1)
    written, frame = geopandas.read_file(path), polygonize(layer, min_area=1)
    assert written["class"].tolist() == frame["class"].tolist()
    assert written.crs == frame.crs
    assert shapely.equals(written.geometry.to_numpy(), frame.geometry.to_numpy()).all()


def test_invalid_maps_raise():
    layer = make_map()
    with pytest.raises(LabelError, match="dtype float32"):
        polygonize(layer.astype("float32"))
    with pytest.raises(OverlapError, match="no pixel of the map is valid"):
        polygonize(layer.copy(data=np.zeros_like(layer.values)))
    with pytest.raises(GridError, match="dates and bands"):
        polygonize(layer.expand_dims(band=[1, 2]))
    with pytest.raises(GridError, match="probabilities on another grid"):
        polygonize(layer, probability=layer.isel(x=slice(5, None)))
    with pytest.raises(InputError, match=r"min_area = -1.*Pass min_area="):
        polygonize(layer, min_area=-1)
    with pytest.raises(InputError, match=r"min_area = '1'"):
        polygonize(layer, min_area="1")
    with pytest.raises(InputError, match=r"at least 1,000 hectares of a map of .* hectares. Pass a smaller min_area="):
        polygonize(layer, min_area=1000)
    with pytest.raises(InputError, match=r"simplified polygons of 8-connected pixels"):
        polygonize(layer, simplify=30, connectivity=8)


@pytest.mark.parametrize("connectivity", [4, 8])
def test_polygons_of_noise_are_valid(connectivity):
    codes = np.random.default_rng(0).choice(np.array(LEGEND.codes, "uint8"), (40, 50))
    layer = wrap_xr(codes, make_grid(codes.shape), nodata=0).assign_attrs(LEGEND.attrs())
    frame = polygonize(layer, connectivity=connectivity)
    assert frame.is_valid.all()
    assert (burn(frame, layer, "code") == codes).all()
    neighbours = ndimage.generate_binary_structure(2, 1 if connectivity == 4 else 2)
    assert len(frame) == sum(ndimage.label(codes == code, neighbours)[1] for code in LEGEND.codes)
    resolution = layer.odc.geobox.resolution.x
    np.testing.assert_allclose(frame.geometry.area.sum(), codes.size * resolution**2)
