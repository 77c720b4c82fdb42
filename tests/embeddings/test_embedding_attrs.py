"""Embeddings state their model and version, in files too, and those of two models are not combined."""

import json

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import torch
import xarray as xr
import zarr
from torch import nn

import geoxt
from geoxt.embeddings import build_index, change, knn, similar
from geoxt.errors import InputError
from geoxt.grid import coordinates
from geoxt.source.embedding_attrs import to_stac
from geoxt.testing import make_grid

GRID = make_grid((8, 8))


class Encoder(nn.Module):
    """A feature map of a quarter of the size."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Conv2d(2, 3, 4, stride=4)

    def forward(self, images):
        return self.layer(images)


def make_layer(**attrs):
    values = np.random.default_rng(0).normal(size=(2, 8, 8)).astype("float32")
    coords = {"band": ["red", "nir"], **coordinates(GRID)}
    return xr.DataArray(values, dims=("band", "y", "x"), coords=coords, name="scene", attrs=attrs)


def embed(model, size=8):
    return geoxt.predict(make_layer(), model, output="embeddings", size=size, overlap=0)


@pytest.fixture(scope="module")
def embeddings():
    return embed(Encoder())


def test_predicted_embeddings_name_model_weights_and_patch(embeddings):
    attrs = embeddings.attrs
    assert attrs["model"] == "Encoder"
    assert (attrs["patch_size"], attrs["embedding_type"], attrs["normalization"]) == ([8, 8], "pixel", "none")
    assert attrs["source_data"] == ["scene"]
    assert embed(Encoder()).attrs["version"] == attrs["version"]
    assert embed(Encoder(seed=1)).attrs["version"] != attrs["version"]
    assert embed(Encoder(), size=4).attrs["embedding_type"] == "chip"
    assert "model" not in geoxt.predict(make_layer(), nn.Conv2d(2, 3, 1), output="values").attrs


def test_files_follow_the_convention_and_return_the_attributes(tmp_path, embeddings):
    store, cog = tmp_path / "map.zarr", tmp_path / "map.tif"
    geoxt.to_zarr(embeddings, store)
    geoxt.to_cog(embeddings, cog)
    group = dict(zarr.open_group(str(store), mode="r").attrs)
    with rasterio.open(cog) as file:
        tags = file.tags()
    model = f"urn:geoxt:model:Encoder#{embeddings.attrs['version']}"
    expected = {
        "geoemb:type": "pixel", "geoemb:dimensions": 3, "geoemb:model": model,
        "geoemb:source_data": ["urn:geoxt:layer:scene"], "geoemb:data_type": "float32",
        "geoemb:gsd": abs(embeddings.geoml.grid.affine.a),
    }  # fmt: skip
    assert {name: group[name] for name in expected} == expected
    assert {name: tags[name.replace(":", "_")] for name in expected} == {
        name: str(value) for name, value in expected.items()
    }
    conventions = {entry["name"]: entry["uuid"] for entry in group["zarr_conventions"]}
    assert conventions["geoemb:"] == "61c12cc5-0e28-4056-999a-480cf3fb7e4c"
    names = ("model", "version", "embedding_type", "patch_size", "normalization", "source_data")
    for layer in (geoxt.open_zarr(store), geoxt.open_cogs([cog])):
        assert {name: layer.attrs[name] for name in names} == {name: embeddings.attrs[name] for name in names}


def test_chips_state_their_layout_and_other_layers_nothing(tmp_path):
    geoxt.to_zarr(embed(Encoder(), size=4), tmp_path / "chips.zarr")
    group = zarr.open_group(str(tmp_path / "chips.zarr"), mode="r").attrs
    layout = {"layout_type": "regular_grid", "chip_size": [4, 4], "stride": [4, 4]}
    assert (group["geoemb:type"], group["geoemb:chip_layout"]) == ("chip", layout)
    geoxt.to_zarr(make_layer(model="ERA5"), tmp_path / "other.zarr")
    assert "geoemb" not in json.dumps(dict(zarr.open_group(str(tmp_path / "other.zarr"), mode="r").attrs))


def test_items_follow_the_stac_extension(embeddings):
    properties, links = to_stac(embeddings)
    assert (properties["emb:type"], properties["emb:dimensions"], properties["data_type"]) == ("pixel", 3, "float32")
    assert properties["emb:runtime_parameters"] == {"patch_size": [8, 8], "normalization": "none"}
    assert [link["rel"] for link in links] == ["emb:source-data", "emb:model"]
    assert to_stac(make_layer(model="ERA5")) == ({}, [])


def test_stores_of_others_name_their_model(tmp_path):
    attrs = {"geoemb:model": "https://geotessera.org/model/1.1", "geoemb:type": "pixel"}
    layer = make_layer()
    layer["band"] = layer["band"].astype(object)
    layer.to_dataset(name="embeddings").assign_attrs(attrs).to_zarr(
        tmp_path / "a.zarr", zarr_format=3, consolidated=False
    )
    layer = geoxt.open_zarr(tmp_path / "a.zarr")
    assert layer.attrs["model"] == attrs["geoemb:model"]
    assert "version" not in layer.attrs


@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize("method", ["per_pixel_scale", "signed_square"])
def test_quantized_integers_of_others_are_not_opened_as_numbers(tmp_path, dtype, method):
    attrs = {"geoemb:model": "https://geotessera.org/model/1.1", "geoemb:quantization": {"method": method}}
    layer = make_layer().astype(dtype).rename("embeddings")
    layer["band"] = layer["band"].astype(object)
    layer.to_dataset().assign_attrs(attrs).to_zarr(tmp_path / "store", zarr_format=3, consolidated=False)
    if dtype == "float32":
        assert geoxt.open_zarr(tmp_path / "store").dtype == dtype
        return
    with pytest.raises(InputError, match=rf"its int8 are quantized embeddings \(method '{method}'\)"):
        geoxt.open_zarr(tmp_path / "store")


def test_files_and_lazy_maps_have_equal_names_of_bands(tmp_path, embeddings):
    geoxt.to_cog(embeddings, tmp_path / "a.tif", progress=False)
    geoxt.to_zarr(embeddings, tmp_path / "a.zarr", progress=False)
    pixel = embeddings.isel(y=1, x=1).compute()
    for copy in (geoxt.open_cogs(tmp_path / "a.tif"), geoxt.open_zarr(tmp_path / "a.zarr")):
        assert copy["band"].to_numpy().tolist() == embeddings["band"].to_numpy().tolist()
        np.testing.assert_allclose(change(copy, embeddings), 0, atol=1e-6)
        np.testing.assert_allclose(similar(copy, pixel)[0, 1, 1], 1, atol=1e-6)
        np.testing.assert_allclose(similar(embeddings, copy.isel(y=1, x=1).compute())[0, 1, 1], 1, atol=1e-6)
        assert len(build_index([embeddings, copy.rename("copy")]).search(pixel, k=8)) == 8


def test_other_patch_sizes_and_normalizations_are_not_combined(embeddings):
    locations = [shapely.Point(GRID.affine @ (x, 4.5)) for x in (1, 3, 5, 7)]
    points = gpd.GeoDataFrame({"class": list("abab")}, geometry=locations, crs=GRID.crs.to_wkt())
    table = geoxt.extract(embeddings, points)
    index, nearest = build_index(embeddings), knn(table, n_neighbors=1)
    for name, value, words in (
        ("patch_size", [16, 16], "the patch size of .* is '8 x 8', that of .* is '16 x 16'"),
        ("normalization", "unit length", "the normalization of .* is 'none', that of .* is 'unit length'"),
    ):
        other = embeddings.assign_attrs({name: value}).compute()
        for combine in (
            lambda layer: change(embeddings, layer),
            lambda layer: similar(embeddings, layer.isel(y=1, x=1)),
            lambda layer: index.search(layer.isel(y=1, x=1), k=1),
            lambda layer: build_index([embeddings, layer.rename("b")]),
            lambda layer: geoxt.predict(layer, nearest),
        ):
            with pytest.raises(InputError, match=f"Cannot combine embeddings: {words}"):
                combine(other)
    assert geoxt.predict(embeddings.assign_attrs(patch_size=np.array([8, 8])), nearest).shape == (2, 2)


def test_two_models_are_not_combined(tmp_path, embeddings):
    other = embed(Encoder(seed=1))
    points = gpd.GeoDataFrame(geometry=[shapely.Point(GRID.affine @ (4.5, 4.5))], crs=GRID.crs.to_wkt())
    renamed = other.assign_coords(band=["x", "y", "z"])
    words = "Cannot combine embeddings: the version of "
    with pytest.raises(InputError, match=words):
        geoxt.union(embeddings, other)
    with pytest.raises(InputError, match=words):
        geoxt.extract(xr.Dataset({"a": embeddings, "b": renamed}), points)
    with pytest.raises(InputError, match=words):
        geoxt.extract(xr.DataTree.from_dict({"/a": embeddings.to_dataset(), "/b": other.to_dataset()}), points)
    for number, layer in enumerate((embeddings, other)):
        geoxt.to_cog(layer, tmp_path / f"{number}.tif")
    with pytest.raises(InputError, match=words):
        geoxt.open_cogs([tmp_path / "0.tif", tmp_path / "1.tif"])
    assert geoxt.union(embeddings, embed(Encoder())).attrs["version"] == embeddings.attrs["version"]
    assert geoxt.extract(embeddings, points).attrs["version"] == embeddings.attrs["version"]


@pytest.mark.parametrize("known", [False, True])
def test_int8_of_no_stated_model_are_not_compared_with_embeddings(known):
    values = np.random.default_rng(0).integers(-100, 100, (2, 8, 8)).astype("int8")
    names = ["A00", "A01"] if known else ["red", "nir"]
    raw = xr.DataArray(values, dims=("band", "y", "x"), coords={"band": names, **coordinates(GRID)}, name="raw")
    embedded = raw.astype("float32").rename("embedded").assign_attrs(model="m", version="1")
    points = gpd.GeoDataFrame(
        {"class": list("aabb")}, geometry=gpd.points_from_xy(raw.x[[0, 2, 4, 6]], raw.y[[1, 2, 3, 4]]), crs=GRID.crs
    )
    table, raw_table = geoxt.extract(embedded, points), geoxt.extract(raw, points)
    for function in (
        lambda: similar(raw, table),
        lambda: similar(embedded, raw_table),
        lambda: similar(raw, embedded[:, 2, 2]),
        lambda: similar(embedded, raw[:, 2, 2]),
        lambda: change(embedded, raw),
        lambda: build_index([embedded, raw]),
        lambda: build_index(embedded).search(raw[:, 2, 2]),
        lambda: build_index(embedded).search(raw_table),
        lambda: geoxt.predict(raw, knn(table, n_neighbors=1)),
        lambda: geoxt.predict(embedded, knn(raw_table, n_neighbors=1)),
    ):
        with pytest.raises(InputError, match="int8 of no stated model.*product='alphaearth'"):
            function()
    assert similar(embedded, raw_table[["A00", "A01"] if known else names].to_numpy()).shape == (4, 8, 8)
    assert geoxt.predict(raw, knn(raw_table, n_neighbors=1)).shape == (8, 8)
    for function in (lambda: similar(raw, [1, 2]), lambda: change(raw, raw), lambda: build_index(raw)):
        if known:
            with pytest.raises(InputError, match="bands are those of AlphaEarth, whose files hold quantized numbers"):
                function()
        else:
            function()
    stated = raw.assign_attrs(model="m", version="1")
    assert float(similar(stated, table).max()) == pytest.approx(1)
