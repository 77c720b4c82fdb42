"""Grids from the projection extension: odd fields fall through to the next source, at last to the file's header."""

from datetime import UTC, datetime

import numpy as np
import pytest
import rasterio

from geoxt.errors import InputError
from geoxt.grid import grid_of
from geoxt.layers import open_stac
from geoxt.layers.stac.projection import contradicts_bbox, grid_of_asset, grids_of_assets
from geoxt.testing import distinct, make_grid, make_item

GRID = make_grid((60, 80), crs="EPSG:32615")
WKT = rasterio.crs.CRS.from_epsg(32615).to_wkt(version="WKT2_2019")
A, B, C, D, E, F = GRID.affine[:6]
BOX = [C, F + 60 * E, C + 80 * A, F]
FULL = {"code": "EPSG:32615", "shape": [60, 80], "transform": [A, B, C, D, E, F]}


def item_of(path, raster=None, collection="some", **fields):
    item = make_item("one", {"b": path}, time=datetime(2020, 5, 17, tzinfo=UTC), collection=collection)
    for stated in (item.properties, item.assets["b"].extra_fields):
        for key in [key for key in stated if key.startswith("proj:")]:
            del stated[key]
    item.properties |= {f"proj:{key}": value for key, value in fields.items()}
    if raster is not None:
        item.assets["b"].extra_fields["raster:bands"] = [raster]
    return item


def without(key, **fields):
    return {k: v for k, v in FULL.items() if k != key} | fields


@pytest.mark.parametrize("fields", [
    FULL | {"code": "EPSG:None"}, FULL | {"code": "EPSG:None", "wkt2": WKT}, FULL | {"code": ""}, FULL | {"code": []},
    without("code", epsg=32615.0), without("code", epsg="32615"), without("code", epsg=0, wkt2=WKT),
    without("code", epsg=[32615]), FULL | {"transform": []}, FULL | {"transform": [], "bbox": BOX},
    FULL | {"transform": "none"}, FULL | {"transform": [None] * 6}, FULL | {"transform": [float("nan")] * 6},
    FULL | {"transform": [0] * 6}, FULL | {"shape": []}, FULL | {"shape": "60"}, FULL | {"shape": [0, 0]},
    without("transform", bbox=[]), without("transform", bbox=[BOX[2], BOX[1], BOX[0], BOX[3]]),
    FULL | {"transform": [C, A, B, F, D, E]}, FULL | {"transform": [C, A, B, F, D, E], "bbox": BOX},
    FULL | {"bbox": BOX}, FULL | {"transform": [A, B, C + 9e5, D, E, F], "bbox": BOX},
    FULL | {"transform": [A, B, C + 9e5, D, E, F]}, FULL | {"transform": [A * 500, B, C, D, E * 500, F]},
])  # fmt: skip
def test_grid_is_that_of_the_file(write, fields):
    layer = open_stac(item_of(write(distinct((60, 80)), GRID, nodata=0), **fields))
    assert grid_of(layer) == GRID
    assert np.array_equal(layer.compute(scheduler="synchronous").values[0], distinct((60, 80)))


@pytest.mark.parametrize("raster", [
    {"data_type": "UInt16"}, {"data_type": "uint16", "nodata": ""}, {"data_type": "uint16", "nodata": "none"},
    {"data_type": "", "nodata": []}, {"data_type": "short unsigned"}, {"data_type": ["uint16"]}, {"data_type": True},
    {},
])  # fmt: skip
@pytest.mark.parametrize("collection", ["some", None])
def test_type_and_nodata_are_those_of_the_file(write, raster, collection):
    layer = open_stac(item_of(write(distinct((60, 80)), GRID), raster=raster, collection=collection, **FULL))
    assert layer.dtype == "uint16"
    assert "_FillValue" not in layer.attrs


@pytest.mark.parametrize("name", ["cint16", "CFloat32"])
def test_complex_types_raise(write, name):
    with pytest.raises(InputError, match="not real numbers"):
        open_stac(item_of(write(distinct((60, 80)), GRID), raster={"data_type": name}, **FULL))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("raster", [{}, {"data_type": "uint16"}])
@pytest.mark.parametrize("headers", ["missing", "all"])
def test_item_georeferences_a_file_without_georeference(tmp_path, write, raster, headers):
    path = tmp_path / "plain.tif"
    with rasterio.open(path, "w", driver="GTiff", count=1, height=60, width=80, dtype="uint16") as file:
        file.write(distinct((60, 80)), 1)
    item = item_of(write(distinct((60, 80)), GRID), raster=raster, **FULL)
    item.assets["b"].href = str(path)
    layer = open_stac(item, headers=headers)
    assert (layer.dtype, grid_of(layer)) == (np.dtype("uint16"), GRID)


def test_bbox_of_pixel_centers_and_of_the_antimeridian_agree(write):
    item = item_of(write(distinct((60, 80)), GRID), **FULL, bbox=[BOX[0] + 15, BOX[1] - 15, BOX[2] + 15, BOX[3] - 15])
    assert grid_of_asset(item, item.assets["b"]) == GRID
    grid = make_grid((60, 80), crs="EPSG:32601", left=380_000, top=7_000_000)
    boxes = [[179.5, 62.8, -176, 63.2], [-180, 60, 180, 66], None, [10, 62.8, 11, 63.2], [179.5, -63.2, -176, -62.8]]
    assert contradicts_bbox([grid] * 5, boxes).tolist() == [False, False, False, True, True]


def test_assets_of_equal_fields_share_a_grid(write):
    fields = [
        FULL, FULL | {"transform": tuple(FULL["transform"])}, FULL | {"transform": np.array(FULL["transform"])},
        FULL | {"shape": [61, 80]}, without("code", projjson=rasterio.crs.CRS.from_epsg(32616).to_dict(projjson=True)),
        FULL | {"transform": [A, B, C + 1e-6, D, E, F]}, FULL | {"code": "EPSG:32616"}, without("code", epsg=32615),
        FULL | {"shape": None}, FULL | {"shape": [[60], 80]}, FULL | {"transform": [True, 0, 0, 0, -1, 0]}, FULL,
    ]  # fmt: skip
    path = write(distinct((60, 80)), GRID)
    items = [item_of(path, **options) for options in fields]
    pairs = [(item, item.assets["b"]) for item in items]
    grids = grids_of_assets(pairs)
    assert grids == [grid_of_asset(item, asset) for item, asset in pairs]
    assert grids[0] is grids[1] is grids[-1]
