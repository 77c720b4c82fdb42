"""Tables of embeddings of Major TOM, Clay and Earth Index, by the columns of their published files."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely

import geoxt
from geoxt.embeddings import build_index, knn, read_parquet, similar
from geoxt.errors import InputError, ReadError
from geoxt.testing import make_layer

BOXES = [shapely.box(x, 50, x + 0.02, 50.02) for x in (8.0, 8.1, 9.5)]


def vectors(count=3, length=4, seed=0):
    return np.random.default_rng(seed).normal(size=(count, length)).astype("float32")


def write_major_tom(folder, values, *, geo=True):
    """Write a part with the columns of https://huggingface.co/datasets/Major-TOM/Core-S2L1C-SSL4EO."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = {
        "unique_id": [f"{n:064x}" for n in range(len(values))], "embedding": list(values),
        "grid_cell": ["922D_249R"] * len(values), "grid_row_u": [-922] * len(values), "grid_col_r": [249] * len(values),
        "product_id": ["S2B_MSIL1C_20180321T101021"] * len(values),
        "timestamp": ["2018-03-21T10:10:21", "2018-03-21T10:10:21.024000", "2019-08-02T10:10:31"],
        "centre_lat": [box.centroid.y for box in BOXES], "centre_lon": [box.centroid.x for box in BOXES],
        "utm_footprint": ["POLYGON EMPTY"] * len(values), "utm_crs": ["EPSG:32632"] * len(values),
        "pixel_bbox": [[0, 0, 224, 224]] * len(values),
    }  # fmt: skip
    path = folder / "part_00001-00050.parquet"
    if geo:
        gpd.GeoDataFrame(columns, geometry=BOXES, crs="EPSG:4326").to_parquet(path)
    else:
        pd.DataFrame(columns).to_parquet(path)
    return path


def write_clay(path, values, column="embeddings"):
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {
        "source_url": "s3://clay-tiles-02/x.tif",
        "date": pd.Timestamp("2022-06-10").date(),
        column: list(values),
    }
    gpd.GeoDataFrame(columns, geometry=BOXES, crs="EPSG:4326").to_parquet(path)
    return path


@pytest.mark.parametrize("geo", [True, False])
def test_major_tom(tmp_path, geo):
    values = vectors()
    write_major_tom(tmp_path / "Core-S2L1C-SSL4EO" / "embeddings", values, geo=geo)
    table = read_parquet(tmp_path / "Core-S2L1C-SSL4EO")
    assert table.attrs["bands"] == [f"embedding_{n}" for n in range(4)]
    np.testing.assert_array_equal(table[table.attrs["bands"]], values)
    assert (table.dtypes[table.attrs["bands"]] == "float32").all()
    assert table.attrs["model"] == "Major-TOM/Core-S2L1C-SSL4EO"
    assert table["time"].tolist()[0] == pd.Timestamp("2018-03-21T10:10:21")
    assert table["grid_cell"].tolist() == ["922D_249R"] * 3
    expected = BOXES if geo else [box.centroid for box in BOXES]
    assert shapely.equals_exact(table.geometry.to_numpy(), expected, 1e-9).all()
    assert read_parquet(tmp_path, bbox=(8.05, 49, 8.2, 51))["embedding_0"].tolist() == [values[1, 0]]
    assert len(read_parquet(tmp_path, bbox=(170, 49, 8.05, 51))) == 1, "across the antimeridian"
    for bounds in ((-5, 50, 5, 40), (0, 1, 2), (0, np.nan, 1, 1)):
        with pytest.raises(InputError, match="Cannot read the bounds"):
            read_parquet(tmp_path, bbox=bounds)


def test_clay_versions_and_tables_that_were_written(tmp_path):
    values = vectors()
    path = write_clay(tmp_path / "clay-model-v0-embeddings" / "32VLM_v001.gpq", values)
    table = read_parquet(path)
    assert (table.attrs["version"], table["time"].dt.date.astype(str)[0]) == ("0", "2022-06-10")
    later = write_clay(tmp_path / "clay-v1-5-naip-2" / "m_3807511.parquet", vectors(seed=1), "embedding")
    assert read_parquet(later).attrs["version"] == "1.5"
    with pytest.raises(InputError, match="the version of .* is '0', that of .* is '1.5'"):
        read_parquet(tmp_path)
    copy = tmp_path / "copy.parquet"
    table.to_parquet(copy)
    again = read_parquet(copy)
    assert again.attrs["bands"] == table.attrs["bands"]
    np.testing.assert_array_equal(again[again.attrs["bands"]], values)


def test_written_tables_keep_the_names_of_bands(tmp_path):
    layer = make_layer(np.random.default_rng(0).normal(size=(3, 4, 4)), bands=["band_1", "band_2", "band_3"])
    layer.attrs |= {"model": "m", "version": "1", "embedding_type": "pixel"}
    points = gpd.GeoDataFrame(geometry=gpd.points_from_xy(layer.x[:3], layer.y[:3]), crs=layer.odc.crs)
    table = geoxt.extract(layer, points)
    table.to_parquet(tmp_path / "a.parquet")
    table[["band_3", "band_1", "band_2", "geometry"]].to_parquet(tmp_path / "b.parquet")
    read = read_parquet(tmp_path)
    assert read.attrs == {"bands": ["band_1", "band_2", "band_3"], "model": "m", "version": "1"}
    np.testing.assert_allclose(read[read.attrs["bands"]], np.tile(table[table.attrs["bands"]], (2, 1)), rtol=1e-6)
    assert float(similar(layer.sel(band=["band_3", "band_1", "band_2"]), read).max()) == pytest.approx(1)
    renamed = table.rename(columns={"band_1": "other"})
    renamed.attrs["bands"] = ["other", "band_2", "band_3"]
    renamed.to_parquet(tmp_path / "c.parquet")
    with pytest.raises(InputError, match=r"bands \['band_1', .*\] and \['other'"):
        read_parquet(tmp_path)


def test_tables_are_learned_from_and_searched(tmp_path):
    write_major_tom(tmp_path / "Core-S2L1C-SSL4EO", vectors())
    table = read_parquet(tmp_path).assign(**{"class": ["a", "b", "b"]})
    table = pd.concat([table, table.iloc[:1]], ignore_index=True)
    assert knn(table, n_neighbors=1, features=table.attrs["bands"]).classes_.tolist() == ["a", "b"]
    nearest = build_index(table.iloc[:3]).search(table.iloc[[2]], k=1)
    assert nearest["grid_cell"].tolist() == ["922D_249R"]
    assert shapely.equals(nearest.geometry[0], BOXES[2])
    write_clay(tmp_path / "clay-v1-5-x" / "a.parquet", vectors())
    clay = read_parquet(tmp_path / "clay-v1-5-x")
    with pytest.raises(InputError, match="the model of '0' is 'Major-TOM/.*that of '1' is .*Clay"):
        build_index([table, clay])
    with pytest.raises(InputError, match="the model of the index is 'Major-TOM/.*that of the vectors is .*Clay"):
        build_index(table).search(clay, k=1)


def test_other_files_raise(tmp_path):
    with pytest.raises(InputError, match="there is no .parquet or .gpq file"):
        read_parquet(tmp_path)
    gpd.GeoDataFrame({"a": [1, 2, 3]}, geometry=BOXES, crs="EPSG:4326").to_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"its columns are \['a', 'geometry'\]"):
        read_parquet(tmp_path / "a.parquet")
    pd.DataFrame({"embedding": list(vectors())}).to_parquet(tmp_path / "b.parquet")
    with pytest.raises(InputError, match="it has no geometries"):
        read_parquet(tmp_path / "b.parquet")
    first, second = (write_clay(tmp_path / f"{n}.parquet", vectors(length=n)) for n in (4, 5))
    with pytest.raises(InputError, match=r"vectors of .*4.parquet' have 4 numbers, those of .*5.parquet' 5"):
        read_parquet([first, second])
    write_clay(first, [np.ones(4), np.ones(5), np.ones(4)])
    with pytest.raises(InputError, match=r"vectors of \[4, 5\] numbers are in one file"):
        read_parquet(first)
    write_clay(first, [np.ones(4), None, np.ones(4)])
    with pytest.raises(InputError, match=r"1 of 3 rows have no vector\. .*dropna\(subset=\['embeddings'\]\)"):
        read_parquet(first)
    for column in (["a", "b", "c"], [[[1.0], [2.0, 3.0]]] * 3, [[[1.0, 2.0]]] * 3, [["x"]] * 3, [1.0, 2.0, 3.0]):
        write_clay(first, column)
        with pytest.raises(InputError, match="holds no vectors of numbers"):
            read_parquet(first)
    second.write_bytes(second.read_bytes()[:-50])
    with pytest.raises(ReadError, match="Cannot read"):
        read_parquet(second)
