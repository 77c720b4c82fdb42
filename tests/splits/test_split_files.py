"""Saved splits: loaded equals saved, files of earlier versions load, and a GIS shows the rectangles."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr

from geoxt.errors import MissingDependency, OutputError, ReadError
from geoxt.grid import coordinates
from geoxt.splits import Split, by_block, by_region, by_time, check
from geoxt.testing import make_grid

GRID = make_grid((80, 100))


def make_layer(grid=GRID):
    coords = {"time": pd.date_range("2021-01-01", periods=6, freq="MS"), **coordinates(grid)}
    return xr.DataArray(np.zeros((6, *grid.shape), "uint8"), dims=("time", "y", "x"), coords=coords)


def splits():
    layer = make_layer()
    x, y = GRID.affine @ (30, 40)
    yield "blocks", by_block(layer, size=16, buffer=2, seed=1)
    yield (
        "region",
        by_region(layer, train=shapely.Point(x, y).buffer(500), test=shapely.box(x + 700, y, x + 1500, y + 600)),
    )
    yield (
        "time",
        by_time(layer, train=("2021-01", "2021-03"), val=("2021-05", "2021-05"), test=("2021-06", "2021-06"), gap="9D"),
    )
    odd = make_grid((30, 40), crs="+proj=laea +lat_0=10 +lon_0=20 +datum=WGS84", left=-500, top=700, degrees=9)
    yield "turned", by_block(make_layer(odd), size=8)


@pytest.mark.parametrize(("name", "split"), list(splits()))
@pytest.mark.parametrize("end", [".geojson", ".parquet"])
def test_loaded_split_equals_saved_split(name, split, end, tmp_path):
    if end == ".parquet":
        pytest.importorskip("geopandas")
        pytest.importorskip("pyarrow")
    path = tmp_path / f"{name}{end}"
    split.save(path)
    loaded = Split.load(path)
    assert loaded == split
    check(loaded)


def test_files_of_one_grid_from_before_nodes_load(tmp_path):
    """Splits of one grid were written without node names before splits had nodes."""
    split = by_block(make_layer(), size=16, buffer=2)
    split.save(tmp_path / "split.geojson")
    collection = json.loads((tmp_path / "split.geojson").read_text())
    collection["geoxt"] = {"format": "geoxt split 1", **collection["geoxt"]["nodes"][""]}
    for feature in collection["features"]:
        del feature["properties"]["node"]
    (tmp_path / "earlier.geojson").write_text(json.dumps(collection))
    assert Split.load(tmp_path / "earlier.geojson") == split


def test_features_are_rectangles_in_wgs84(tmp_path):
    gpd = pytest.importorskip("geopandas")
    pytest.importorskip("pyogrio")
    split = by_block(make_layer(), size=16, buffer=2)
    split.save(tmp_path / "split.geojson")
    frame = gpd.read_file(tmp_path / "split.geojson").to_crs(GRID.crs)
    assert frame.part.value_counts().to_dict() == {n: len(r) for n, r in split.parts.items()}
    for row in frame.itertuples():
        left, top = GRID.affine @ (row.col, row.row)
        box = shapely.box(left, top - 30 * row.height, left + 30 * row.width, top)
        assert row.geometry.symmetric_difference(box).area < 1
    assert split.to_geodataframe().crs.to_epsg() == 4326


def test_invalid_files_raise(tmp_path, monkeypatch):
    split = by_block(make_layer(), size=16)
    with pytest.raises(OutputError, match=r"ends in '.shp'. Pass path= in .geojson or .parquet"):
        split.save(tmp_path / "split.shp")
    with pytest.raises(OutputError, match=r"Cannot save the split to .*Pass path="):
        split.save(tmp_path / "none" / "split.geojson")
    (tmp_path / "other.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    for name in ("other.geojson", "missing.geojson"):
        with pytest.raises(ReadError, match=rf"Cannot load a split from '.*{name}'.*Split.save"):
            Split.load(tmp_path / name)
    monkeypatch.setitem(sys.modules, "geopandas", None)
    with pytest.raises(MissingDependency, match=r"geopandas. Run: pip install 'geoxt\[vector\]'"):
        split.to_geodataframe()


def test_plot_names_the_parts_in_the_legend():
    pytest.importorskip("matplotlib")
    layer = make_layer()
    for _, split in list(splits())[:3]:
        for over in (None, layer.isel(time=0)):
            figure = split.plot(over)
            names = [text.get_text() for text in figure.legends[0].get_texts()]
            assert names == [name for name, region in split.parts.items() if region]
