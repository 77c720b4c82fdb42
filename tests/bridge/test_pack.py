"""Packs: the samples of a loader, stored once, and loaded bit for bit without the files they came from."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
import xarray as xr

import geoxt
from geoxt.bridge import pack_dataset
from geoxt.errors import GridError, InputError, OutputError, ReadError
from geoxt.grid import coordinates
from geoxt.samplers import GridSampler, PackSampler, RandomSampler
from geoxt.testing import make_grid, write_cog
from geoxt.windows import Window

pytest.importorskip("zarr")
SHAPE = 120, 140
SHARD = 40_000
"""Small shards, so that a pack has several."""


@pytest.fixture(scope="module")
def layers(tmp_path_factory):
    """An image of three bands with nodata, labels without, and an image in degrees that is warped."""
    folder = tmp_path_factory.mktemp("pack")
    rng = np.random.default_rng(0)
    grid = make_grid(SHAPE)
    image = rng.integers(0, 4000, (3, *SHAPE)).astype("uint16")
    image[:, :40, :50] = 0
    write_cog(folder / "image.tif", image, grid=grid, nodata=0, bands=["red", "green", "blue"])
    codes = rng.integers(1, 4, (1, *SHAPE)).astype("uint8")
    write_cog(
        folder / "labels.tif",
        codes,
        grid=grid,
        names={1: "a", 2: "b", 3: "c"},
        colors={1: "#ff0000", 2: "#00ff00", 3: "#0000ff"},
    )
    return geoxt.intersection(
        image=geoxt.open_cogs(folder / "image.tif"),
        mask=geoxt.open_cogs(folder / "labels.tif", categorical=True),
        grid="image",
    )


@pytest.fixture(scope="module")
def sampler(layers):
    return RandomSampler(layers, size=32, length=30, seed=1)


@pytest.fixture(scope="module", params=[None, "zstd"])
def path(request, layers, sampler, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "train.zarr"
    return geoxt.pack(layers, sampler, path, compression=request.param, shard_size=SHARD, progress=False)


def batches(data, windows, **options):
    return list(data.geoml.loader(windows, **{"batch_size": 8} | options))


def assert_equal(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        for key, value in a.items():
            assert type(b[key]) is type(value)
            if isinstance(value, torch.Tensor):
                assert value.dtype == b[key].dtype
                assert torch.equal(value, b[key]), key
            else:
                assert value == b[key]


@pytest.mark.parametrize("options", [{}, {"dtype": "stored"}, {"num_workers": 2}, {"drop_last": True}])
def test_batches_equal_those_of_the_layers(path, layers, sampler, options):
    pack = geoxt.open_pack(path)
    stored = PackSampler(pack, shuffle=False)
    assert stored == sampler.take(np.arange(len(sampler)))
    expected = [dict(batch) for batch in batches(layers, sampler, dtype=options.get("dtype", "float32"))]
    if options.get("drop_last"):
        expected = expected[:-1]
    for start, batch in enumerate(pack.geoml.loader(stored, batch_size=8, **options)):
        assert_equal([expected[start]], [batch])
    assert start == len(expected) - 1


def test_dataset_holds_pixels_classes_bands_and_statistics(path, layers, sampler):
    pack = geoxt.open_pack(path)
    assert pack.image.dims == ("sample", "image_band", "y", "x")
    assert pack.image_band.values.tolist() == ["red", "green", "blue"]
    window = sampler[7]
    part = layers.isel(y=slice(window.row, window.row + 32), x=slice(window.col, window.col + 32))
    assert np.array_equal(
        pack.image[7], part.image.transpose("band", "y", "x") if "band" in part.image.dims else part.image
    )
    assert pack.mask.attrs["flag_values"] == list(layers.mask.attrs["flag_values"])
    valid = np.concatenate([np.asarray(b["image_valid"]) for b in batches(layers, sampler)])
    values = np.concatenate([np.asarray(b["image"], "float64") for b in batches(layers, sampler)])
    expected = [values[:, band][valid].mean() for band in range(3)]
    assert np.allclose(pack.image.attrs["mean"], expected)
    assert np.allclose(pack.image.attrs["std"], [values[:, band][valid].std() for band in range(3)])
    assert (pack.row.values[7], pack.col.values[7]) == (window.row, window.col)


def test_epochs_are_shuffled_by_the_seed_and_resume(path):
    pack = geoxt.open_pack(path)
    windows = PackSampler(pack, seed=3)
    orders = [list(windows.at(epoch)) for epoch in (0, 1)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(PackSampler(pack, shuffle=False))
    assert [*PackSampler(pack, seed=3).at(1)] == orders[1]
    loader = pack.geoml.loader(windows, batch_size=8)
    assert "image float32 (" in repr(loader)
    all_bounds = [batch["bounds"].clone() for batch in loader]
    loader.sampler.resume(0, 2)
    assert all(torch.equal(a, batch["bounds"]) for a, batch in zip(all_bounds[2:], loader, strict=True))


def test_selected_samples_and_layers(path):
    pack = geoxt.open_pack(path)
    selection = pack.isel(sample=slice(5, 12)).drop_vars(["mask", "mask_valid"])
    windows = PackSampler(selection, shuffle=False)
    assert [*windows] == [*PackSampler(pack, shuffle=False)][5:12]
    (batch,) = batches(selection, windows)
    assert "mask" not in batch
    assert np.array_equal(batch["image"], pack.image[5:12].values.astype("float32"))


@pytest.mark.parametrize(
    "select",
    [
        lambda pack: pack.isel(sample=[4, 1, 9]),
        lambda pack: pack.isel(sample=[7]),
        lambda pack: pack.isel(sample=slice(None, None, -2)),
        lambda pack: pack.isel(sample=slice(3, 20)).isel(sample=slice(1, 6)),
        lambda pack: pack.isel(sample=np.arange(30) % 3 == 0),
        lambda pack: pack.chunk(sample=7),
    ],
)
def test_any_selection_of_samples_is_loaded(path, select):
    selection = select(geoxt.open_pack(path))
    (batch,) = batches(selection, PackSampler(selection, shuffle=False), batch_size=30)
    assert np.array_equal(batch["image"], selection.image.values.astype("float32"))


def test_shards_of_processes_cover_the_pack(path):
    windows = PackSampler(geoxt.open_pack(path), seed=1)
    parts = [windows.shard(rank, 3, even=False) for rank in range(3)]
    assert sorted(w for part in parts for w in part) == sorted(windows)


def test_pack_of_a_tree_and_of_series(tmp_path):
    ds = {}
    for number, crs in enumerate(["EPSG:32615", "EPSG:32616"]):
        grid = make_grid((60, 60), crs=crs)
        times = np.array(["2020-01-01", "2020-02-01"], "datetime64[ns]")
        values = np.random.default_rng(number).normal(size=(2, 60, 60)).astype("float32")
        ds[f"n{number}"] = xr.Dataset(
            {"image": (("time", "y", "x"), values)},
            coords={**coordinates(grid), "time": times + np.timedelta64(number)},
        )
    tree = xr.DataTree.from_dict(ds)
    windows = GridSampler(tree, size=20)
    geoxt.pack(tree, windows, tmp_path / "p.zarr", progress=False)
    pack = geoxt.open_pack(tmp_path / "p.zarr")
    assert pack.image.dims == ("sample", "time", "y", "x")
    assert_equal(
        [{k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in b.items()} for b in batches(tree, windows)],
        [{k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in b.items()}
         for b in batches(pack, PackSampler(pack, shuffle=False))],
    )  # fmt: skip


def test_pixels_that_are_not_finite_are_kept_and_invalid(tmp_path):
    values = np.zeros((40, 40), "float32")
    values[3, 4], values[5, 6] = np.nan, np.inf
    layer = xr.DataArray(values, dims=("y", "x"), coords=coordinates(make_grid((40, 40))))
    geoxt.pack(layer, [Window(0, 0, 20, 20), Window(20, 20, 20, 20)], tmp_path / "p.zarr", progress=False)
    pack = geoxt.open_pack(tmp_path / "p.zarr")
    (batch,) = batches(pack, PackSampler(pack, shuffle=False))
    assert torch.isnan(batch["image"][0, 3, 4])
    assert torch.isinf(batch["image"][0, 5, 6])
    assert batch["image_valid"].sum() == 2 * 400 - 2


def test_a_changed_pack_is_refused(path):
    pack = geoxt.open_pack(path)
    changes = {
        "values": pack.assign(image=pack.image * 2),
        "data": pack.assign(image=pack.image.copy(data=pack.image.data + 1)),
        "bands": pack.isel(image_band=[1]),
        "rows": pack.isel(y=slice(3)),
        "new": pack.assign(index=pack.image),
        "computed": pack.compute(),
    }
    for changed in changes.values():
        with pytest.raises(InputError, match="changed or computed after it was opened"):
            changed.geoml.loader(PackSampler(pack))


def test_windows_of_another_pack_are_refused(path):
    with pytest.raises(GridError, match="no such sample"):
        next(iter(geoxt.open_pack(path).geoml.loader([Window(1, 2, 3, 4)])))


@pytest.mark.parametrize("windows", [[], [Window(0, 0, 8, 8), Window(0, 0, 9, 8)], [Window(0, 0, 8, 8, node="other")]])
def test_windows_that_make_no_pack_are_refused(layers, windows, tmp_path):
    with pytest.raises(InputError):
        geoxt.pack(layers, windows, tmp_path / "p.zarr", progress=False)
    assert not any(tmp_path.iterdir())


def test_a_failing_read_leaves_no_pack(layers, sampler, tmp_path, monkeypatch):
    old = geoxt.pack(layers, sampler, tmp_path / "p.zarr", progress=False)
    before = geoxt.open_pack(old).image.values

    def fail(*args, **options):
        raise ReadError("Cannot read.")

    monkeypatch.setattr("geoxt.source.layer.View.read", fail)
    with pytest.raises(ReadError):
        geoxt.pack(layers, sampler.at(1), old, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == ["p.zarr"]
    assert np.array_equal(geoxt.open_pack(old).image.values, before)


def test_another_folder_is_not_replaced(layers, sampler, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("")
    with pytest.raises(OutputError, match="it exists and is not a pack"):
        geoxt.pack(layers, sampler, tmp_path / "data", progress=False)
    xr.Dataset({"v": ("x", np.arange(3))}).to_zarr(tmp_path / "store.zarr", zarr_format=3, consolidated=False)
    with pytest.raises(OutputError, match="it exists and is not a pack"):
        geoxt.pack(layers, sampler, tmp_path / "store.zarr", progress=False)
    assert xr.open_zarr(tmp_path / "store.zarr", consolidated=False).v.values.tolist() == [0, 1, 2]


@pytest.mark.parametrize("damage", ["missing", "no pack", "version", "truncated", "index"])
def test_damaged_packs_are_errors(layers, sampler, tmp_path, damage):
    path = geoxt.pack(layers, sampler, tmp_path / "p.zarr", shard_size=SHARD, progress=False)
    shard = path / "image" / "c" / "0" / "0" / "0" / "0"
    metadata = path / "zarr.json"
    if damage == "missing":
        shutil.rmtree(path)
    elif damage in {"no pack", "version"}:
        content = json.loads(metadata.read_text())
        description = json.loads(content["attributes"].pop("geoxt_pack"))
        if damage == "version":
            content["attributes"]["geoxt_pack"] = json.dumps(description | {"format": 99})
        metadata.write_text(json.dumps(content))
    elif damage == "truncated":
        shard.write_bytes(shard.read_bytes()[:100])
    else:
        shard.write_bytes(shard.read_bytes()[:-200] + bytes(range(200)))
    with pytest.raises(ReadError, match=r"p\.zarr"):
        batches(pack := geoxt.open_pack(path), PackSampler(pack))


def test_local_shards_are_read_without_zarr(layers, sampler, tmp_path, monkeypatch):
    path = geoxt.pack(layers, sampler, tmp_path / "p.zarr", progress=False)
    monkeypatch.setattr(pack_dataset._StoredArray, "_read_by_zarr", None)
    pack = geoxt.open_pack(path)
    assert len(batches(pack, PackSampler(pack))) == 4


def test_pack_over_http(layers, sampler, tmp_path):
    pytest.importorskip("aiohttp")
    from support.servers import serve_files

    geoxt.pack(layers, sampler, tmp_path / "p.zarr", shard_size=SHARD, progress=False)
    local = geoxt.open_pack(tmp_path / "p.zarr")
    with serve_files(tmp_path) as url:
        remote = geoxt.open_pack(f"{url}/p.zarr")
        assert_equal(batches(local, PackSampler(local)), batches(remote, PackSampler(remote)))
