"""STAC items with Zarr assets: EOPF's groups and arrays, opened by `open_stac` with the pixels of the store."""

import numpy as np
import pystac
import pytest

import geoxt
from geoxt.errors import CatalogError, InputError
from geoxt.grid import grid_of
from geoxt.source import view_of
from geoxt.testing import distinct, make_grid
from geoxt.windows import Window

from .test_open_zarr import write_array, write_store

zarr = pytest.importorskip("zarr")

ZARR = "application/vnd+zarr"
GRID, COARSE = make_grid((60, 70)), make_grid((30, 35), resolution=60)


def write_product(path, shift=0):
    """Write a store of the layout of EOPF's Sentinel-2 products."""
    zarr.open_group(str(path), mode="w", attributes={"stac_discovery": {"properties": {"proj:epsg": 32615}}})
    for group in ("measurements", "measurements/reflectance", "conditions"):
        zarr.open_group(str(path / group), mode="w")
    values = {name: distinct((60, 70), "uint16") + n * 100 + shift for n, name in enumerate(("b02", "b04"))}
    attrs = {"scale_factor": 0.0001, "add_offset": -0.1, "_FillValue": 0}
    fine = {name: (("y", "x"), v, attrs) for name, v in values.items()}
    write_store(path / "measurements/reflectance/r10m", fine, crs=False, chunks=(32, 32))
    coarse = {"b05": (("y", "x"), distinct((30, 35), "uint16"), attrs)}
    write_store(path / "measurements/reflectance/r20m", coarse, grid=COARSE, crs=False)
    scl = np.where(np.arange(35) < 10, 9, 4).astype("uint8") * np.ones((30, 1), "uint8")
    write_store(path / "conditions/r20m", {"scl": (("y", "x"), scl, {})}, grid=COARSE, crs=False)
    return values


def make_item(path, item="S2A", date="2025-06-10", **assets):
    stated = {key: {"href": f"{path}/{href}", "roles": ["data"], **fields} for key, (href, fields) in assets.items()}
    content = {
        "type": "Feature", "stac_version": "1.1.0", "id": item, "geometry": None, "collection": "sentinel-2-l2a",
        "properties": {"datetime": f"{date}T10:36:41Z", "platform": "sentinel-2a", "instruments": ["msi"]},
        "links": [], "assets": stated,
    }  # fmt: skip
    return pystac.Item.from_dict(content)


def band(name):
    return {"type": ZARR, "bands": [{"name": name}]}


@pytest.fixture
def items(tmp_path):
    result = []
    for n, date in enumerate(("2025-06-10", "2025-06-20")):
        path = tmp_path / f"{n}.zarr"
        values = write_product(path, shift=n)
        reflectance = "measurements/reflectance"
        result.append(make_item(
            path, f"S2A_{n}", date,
            B02_10m=(f"{reflectance}/r10m/b02", band("B02")),
            B04_10m=(f"{reflectance}/r10m/b04", band("B04")),
            B05_20m=(f"{reflectance}/r20m/b05", band("B05")),
            SCL_20m=("conditions/r20m/scl", {"type": ZARR}),
            SR_10m=(f"{reflectance}/r10m", {"type": f"{ZARR}; version=3", "bands": [{"name": "b04"}, {"name": "b02"}]}),
            group=("", {"type": "application/vnd.zarr", "xarray:open_kwargs": {"group": f"{reflectance}/r10m"}}),
        ))  # fmt: skip
    return result, values


def test_arrays_of_items(items):
    stac_items, values = items
    layer = geoxt.open_stac(stac_items, bands=["B04_10m", "B02_10m"], groupby=None)
    assert layer.sizes["time"] == 2
    assert grid_of(layer) == GRID
    assert np.array_equal(layer.values[1], [values["b04"], values["b02"]])
    assert layer.attrs["scales"] == [0.0001, 0.0001]
    view = view_of(layer)
    assert view.direct
    assert np.array_equal(view.read(Window(20, 30, 16, 16))[0], layer.values[..., 20:36, 30:46])


def test_groups_of_items(items):
    stac_items, values = items
    layer = geoxt.open_stac(stac_items[1], bands=["SR_10m"])
    assert layer.band.values.tolist() == ["b04", "b02"]
    assert np.array_equal(layer.values, [values["b04"], values["b02"]])
    stated = geoxt.open_stac(stac_items[1], bands=["group"])
    assert np.array_equal(stated.values, [values["b02"], values["b04"]])


def test_quality_band_and_resolution(items):
    stac_items, values = items
    layer = geoxt.open_stac(stac_items[1:], bands=["B02_10m", "B05_20m"], resolution=30, exclude="clouds")
    pixels, valid = view_of(layer).read(Window(0, 0, 60, 70))
    assert not valid[..., :20].any()
    assert np.array_equal(pixels[0, 0][:, 20:], values["b02"][:, 20:])
    physical = geoxt.open_stac(stac_items[1:], bands=["B02_10m"], rescale=True)
    assert np.allclose(physical.values[0], values["b02"] * 0.0001 - 0.1)


def test_missing_band_and_mixed_grids_raise(items):
    (item, _), _ = items
    item.assets["SR_10m"].extra_fields["bands"][0]["name"] = "b99"
    with pytest.raises(CatalogError, match=r"has the bands \['b02', 'b04'\]"):
        geoxt.open_stac(item, bands=["SR_10m"])
    item.assets["SR_10m"].href = item.assets["SR_10m"].href.removesuffix("/r10m")
    with pytest.raises(InputError, match="its bands are on several grids"):
        geoxt.open_stac(item, bands=["SR_10m"])


def test_resolution_groups_are_overviews(tmp_path):
    path = tmp_path / "a.zarr"
    values = write_product(path)
    halved = values["b02"].reshape(30, 2, 35, 2).mean((1, 3)).astype("uint16")
    attrs = {"scale_factor": 0.0001, "add_offset": -0.1, "_FillValue": 0}
    write_array(zarr.open_group(str(path / "measurements/reflectance/r20m")), "b02", ("y", "x"), halved, attrs)
    layer = geoxt.open_zarr(path, group="measurements/reflectance", bands=["b02"])
    assert grid_of(layer) == GRID
    assert np.array_equal(layer.values[0], values["b02"])
    assert np.array_equal(geoxt.align(layer, COARSE).values[0], halved)
    assert np.array_equal(geoxt.align(layer, COARSE, resampling="nearest").values[0] % 2, values["b02"][1::2, 1::2] % 2)


@pytest.mark.parametrize("kind", ["object", "dict"])
def test_open_zarr_of_items_and_assets(items, kind):
    (item, _), values = items
    stated = item if kind == "object" else item.to_dict()
    layer = geoxt.open_zarr(stated, group="measurements/reflectance/r10m")
    assert layer.band.values.tolist() == ["b02", "b04"]
    assert np.array_equal(layer.values, [values["b02"] - 1, values["b04"] - 1])
    assets = item.assets if kind == "object" else {key: asset.to_dict() for key, asset in item.assets.items()}
    assert geoxt.open_zarr(assets["B04_10m"]).band.values.tolist() == ["b04"]
    assert geoxt.open_zarr(assets["group"], bands="b02").band.values.tolist() == ["b02"]
    assert grid_of(geoxt.open_zarr(assets["SR_10m"])) == GRID


def test_open_zarr_of_a_store_without_crs(tmp_path):
    write_store(tmp_path / "a.zarr", {"b": (("y", "x"), distinct((60, 70)), {})}, crs=False)
    item = make_item(tmp_path / "a.zarr", data=("", {"type": ZARR, "proj:code": "EPSG:32615"}))
    assert grid_of(geoxt.open_zarr(item)) == GRID
    item.assets["data"].extra_fields.clear()
    item.properties["proj:epsg"] = 32615
    assert grid_of(geoxt.open_zarr(item)) == GRID
    item.assets["other"] = pystac.Asset(str(tmp_path / "b.zarr"), media_type=ZARR)
    with pytest.raises(CatalogError, match="are in several. Pass one of them: item.assets"):
        geoxt.open_zarr(item)
    item.assets = {"a": pystac.Asset("a.tif")}
    with pytest.raises(CatalogError, match="none of its assets"):
        geoxt.open_zarr(item)
