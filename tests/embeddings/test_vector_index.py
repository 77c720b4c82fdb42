"""Search of similar embeddings: the neighbors of brute force, with their position, source and date."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr
from geopandas.testing import assert_geodataframe_equal

import geoxt
from geoxt.embeddings import build_index, open_index
from geoxt.errors import InputError, MissingDependency, NodataWarning, ReadError
from geoxt.testing import make_layer


def make_embeddings(seed, *, bands=5, size=24, left=600_000):
    values = np.random.default_rng(seed).normal(size=(bands, size, size)).astype("float32")
    values[:, 0, :2], values[:, 1, 1] = np.nan, 0
    return make_layer(values, bands=list("abcde")[:bands], left=left, top=4_000_000, resolution=10)


def brute_force(layers, query):
    """Return similarity, source, x and y of all valid pixels, the most similar first."""
    rows = []
    for name, layer in layers.items():
        x, y = (axis.ravel() for axis in np.meshgrid(layer["x"], layer["y"]))
        values = layer.to_numpy().reshape(len(query), -1).T.astype("float64")
        with np.errstate(invalid="ignore"):
            cosine = values @ query / np.linalg.norm(values, axis=1) / np.linalg.norm(query)
        rows += [(cosine[n], name, x[n], y[n]) for n in np.flatnonzero(np.isfinite(cosine))]
    return sorted(rows, reverse=True)


@pytest.mark.parametrize("method", ["exact", "hnsw"])
def test_neighbors_are_those_of_brute_force(method, monkeypatch):
    if method == "hnsw":
        pytest.importorskip("faiss")
    monkeypatch.setattr("geoxt.embeddings.vector_index._ROWS", 100)
    monkeypatch.setattr("geoxt.embeddings.vector_index._BLOCK", 10)
    layers = {"a": make_embeddings(1), "b": make_embeddings(2, left=700_000)}
    index = build_index(layers, method=method)
    assert len(index) == 2 * (24 * 24 - 3)
    queries = np.random.default_rng(3).normal(size=(4, 5))
    result = index.search(queries, k=7)
    assert result["query"].tolist() == np.repeat(range(4), 7).astype(str).tolist()
    for number, query in enumerate(queries):
        rows = result.iloc[7 * number : 7 * number + 7]
        expected = brute_force(layers, query)[:7]
        np.testing.assert_allclose(rows["similarity"], [row[0] for row in expected], atol=1e-6)
        assert [*zip(rows["source"], rows.geometry.x, rows.geometry.y, strict=True)] == [row[1:] for row in expected]
    assert result.crs == layers["a"].odc.crs


@pytest.mark.parametrize("method", ["exact", "hnsw"])
def test_a_saved_index_returns_the_same_entries(method, tmp_path):
    if method == "hnsw":
        pytest.importorskip("faiss")
    first = make_embeddings(1)
    dated = xr.concat([first, make_embeddings(2)], pd.DatetimeIndex(["2020-01-01", "2021-01-01"], name="time"))
    table = geoxt.extract(
        make_embeddings(3), gpd.GeoSeries(gpd.points_from_xy([600_105, 600_055], [3_999_935] * 2, crs=32615))
    )
    data = [{"layer": dated.assign_attrs({"geoemb:model": "a"})}, {"table": table, "layer": first}]
    for sources in data:
        index = build_index(sources, method=method)
        index.save(tmp_path / "a.index")
        again = open_index(tmp_path / "a.index")
        query = first[:, 5, 6].to_numpy()
        assert (len(again), again.attrs) == (len(index), index.attrs)
        assert_geodataframe_equal(again.search(query, k=9), index.search(query, k=9))


def test_damaged_and_missing_indexes_are_refused(tmp_path):
    index = build_index(make_embeddings(1))
    for name in ("index.json", "vectors.npy", "rows-0.parquet"):
        index.save(tmp_path / "a.index")
        file = tmp_path / "a.index" / name
        file.write_bytes(file.read_bytes()[:-9])
        with pytest.raises(ReadError, match="Cannot open the index"):
            open_index(tmp_path / "a.index")
    with pytest.raises(ReadError, match="Build it again"):
        open_index(tmp_path / "b.index")


def test_times_nodes_and_other_crs():
    first = make_embeddings(1)
    dated = xr.concat([first, make_embeddings(2)], pd.DatetimeIndex(["2020-01-01", "2021-01-01"], name="time"))
    query = dated[1, :, 5, 6].to_numpy()
    nearest = build_index(dated).search(query, k=1)
    assert (nearest["time"][0], nearest["query"][0]) == (pd.Timestamp("2021-01-01"), "0")
    assert nearest.geometry[0] == shapely.Point(dated["x"].to_numpy()[6], dated["y"].to_numpy()[5])
    tree = xr.DataTree.from_dict({"north": first.rename("a").to_dataset()})
    assert build_index(tree).search(query, k=2)["node"].tolist() == ["north"] * 2
    points = gpd.GeoDataFrame(geometry=[nearest.geometry[0]], crs=first.odc.crs)
    table = geoxt.extract(dated.isel(time=1), points).to_crs("EPSG:4326")
    both = build_index([first, table]).search(query, k=1)
    assert (both["source"].tolist(), both.crs) == (["1"], first.odc.crs)
    assert both.geometry[0].distance(nearest.geometry[0]) < 1e-3


def test_step_reads_every_nth_pixel():
    layer = make_embeddings(1)
    index = build_index(layer, step=3)
    assert len(index) == 64 - 1
    query = layer[:, 6, 9].to_numpy()
    assert index.search(query, k=1)["similarity"][0] == pytest.approx(1)
    assert build_index(layer).search(layer[:, 7, 9].to_numpy(), k=1)["similarity"][0] == pytest.approx(1)


def test_vectors_without_a_value_are_left_out():
    layer = make_embeddings(1)
    grid = layer.geoml.grid
    xy = [grid.affine @ (0.5, 0.5), grid.affine @ (5.5, 7.5)]
    points = gpd.GeoDataFrame(geometry=[shapely.Point(p) for p in xy], crs=layer.odc.crs, index=["p", "q"])
    with pytest.warns(NodataWarning):
        table = geoxt.extract(layer, points)
    with pytest.warns(NodataWarning, match="1 of 2 vectors"):
        assert build_index(layer).search(table, k=1)["query"].tolist() == ["q"]
    with pytest.raises(InputError, match="Cannot compare with points"):
        build_index(layer).search(points, k=1)


@pytest.mark.parametrize(
    ("vectors", "k", "text"),
    [
        ([1.0, 2.0], 1, "2 numbers: the index holds vectors of 5"),
        (np.zeros(5), 1, "none may be zero"),
        (np.ones(5), 0, "Cannot find 0 entries in an index of 573"),
        (np.ones(5), 574, "Cannot find 574 entries"),
    ],
)
def test_other_vectors_raise(vectors, k, text):
    with pytest.raises(InputError, match=text):
        build_index(make_embeddings(1)).search(vectors, k=k)


def test_sources_that_differ_raise():
    layer = make_embeddings(1)
    with pytest.raises(InputError, match="the model of 'a' is 'x', that of 'b' is 'y'"):
        build_index({"a": layer.assign_attrs(model="x"), "b": layer.assign_attrs(model="y")})
    with pytest.raises(InputError, match=r"Cannot index vectors of 5 numbers \('a'\) and 3 \('b'\)"):
        build_index({"a": layer, "b": make_embeddings(2, bands=3)})
    with pytest.raises(InputError, match="no vector is valid"):
        build_index(layer.where(False))
    with pytest.raises(InputError, match="states no columns of bands"):
        build_index(gpd.GeoDataFrame({"a": [1.0]}, geometry=[shapely.Point(0, 0)], crs="EPSG:4326"))
    with pytest.raises(InputError, match="at a distance of 0"):
        build_index(layer, step=0)


def test_approximate_index_needs_faiss(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(MissingDependency, match="search"):
        build_index(make_embeddings(1), method="hnsw")


def test_bands_match_by_name(tmp_path):
    layer = make_embeddings(1)
    points = gpd.GeoDataFrame(geometry=gpd.points_from_xy([600_105], [3_999_935]), crs=layer.odc.crs)
    table, reverse = geoxt.extract(layer, points), geoxt.extract(layer[::-1], points)
    names = table.attrs["bands"]
    vectors = [table, reverse, table.loc[0, names], layer[::-1, 6, 10]]
    build_index({"L": layer[::-1], "P": layer, "R": reverse}).save(tmp_path / "a.index")
    for index in (build_index({"L": layer, "P": layer[::-1]}), build_index([table, reverse])):
        for query in vectors:
            assert index.search(query, k=2)["similarity"].tolist() == pytest.approx([1, 1])
    for query in vectors:
        assert open_index(tmp_path / "a.index").search(query, k=3)["similarity"].tolist() == pytest.approx([1] * 3)
    with pytest.raises(InputError, match="Cannot match bands by name"):
        build_index([layer, layer.assign_coords(band=list("vwxyz"))])
    with pytest.raises(InputError, match="Cannot match bands by name"):
        build_index(layer).search(layer[:, 6, 10].assign_coords(band=list("vwxyz")), k=1)
    for call in (lambda: build_index(layer, step=1.5), lambda: build_index(layer, step=True)):
        with pytest.raises(InputError, match="at a distance of"):
            call()
    for k in (2.5, True):
        with pytest.raises(InputError, match="entries in an index"):
            build_index(layer).search(table, k=k)
