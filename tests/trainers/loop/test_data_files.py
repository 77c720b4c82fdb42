"""Files of a run's data: a run is not resumed, nor its result reused, after one of them changed."""

import json
import os
import shutil
from dataclasses import replace

import geopandas
import numpy as np
import pytest
import shapely
import xarray as xr
from support.dataset_trees import make_tree

import geoxt
from geoxt.bridge import to_torch
from geoxt.datasets import load
from geoxt.errors import InputError
from geoxt.pixels import remote_version
from geoxt.splits import by_block
from geoxt.testing import distinct, make_grid, write_cog
from geoxt.trainers import (
    Experiment,
    Recipe,
    Task,
    TrainingConfig,
    TrainingOptions,
    WindowDataModule,
    fit,
    run_experiment,
)
from geoxt.trainers.loop import data_files
from geoxt.trainers.loop.data_files import FILES, file_versions, layer_files, require_same_files, write_files

GRID = make_grid((32, 32))


@pytest.fixture
def folder(tmp_path):
    """Return a folder of two images, a mask beside one of them, polygons and a Zarr store."""
    folder = tmp_path / "data"
    for name in ("a", "b"):
        write_cog(folder / f"{name}.tif", distinct((32, 32)), grid=GRID, nodata=0)
    write_cog(folder / "labels.tif", distinct((32, 32), "uint8") % 2 + 1, grid=GRID, names={1: "dry", 2: "wet"})
    field = shapely.box(*GRID.boundingbox)
    geopandas.GeoDataFrame({"crop": ["corn"]}, geometry=[field], crs=GRID.crs).to_file(folder / "fields.gpkg")
    geoxt.to_zarr(geoxt.open_cogs(folder / "a.tif"), folder / "cube.zarr", progress=False)
    return folder


def opened(folder, kind):
    match kind:
        case "cogs":
            return geoxt.open_cogs([folder / "a.tif", folder / "b.tif"])
        case "derived":
            return geoxt.open_cogs(folder / "a.tif").astype("float32") / geoxt.open_cogs(folder / "b.tif")
        case "vector":
            return geoxt.open_vector(folder / "fields.gpkg", like=geoxt.open_cogs(folder / "a.tif"), column="crop")
        case "zarr":
            return geoxt.open_zarr(folder / "cube.zarr")
        case "xarray":
            return xr.open_dataset(folder / "cube.nc", decode_coords="all")["a"]
        case "memory":
            return geoxt.open_cogs(folder / "a.tif").compute()


def rewrite(path):
    """Write a file's bytes again, at a later time."""
    path.write_bytes(path.read_bytes())
    later = path.stat().st_mtime_ns + 1_000_000
    os.utime(path, ns=(later, later))


@pytest.mark.parametrize(
    ("kind", "changed"),
    [("cogs", "b.tif"), ("derived", "b.tif"), ("vector", "fields.gpkg"), ("zarr", "cube.zarr/*/c/*/*/0")],
)
def test_change_of_any_file_of_a_layer_is_named(folder, kind, changed, tmp_path):
    write_files(tmp_path, layer_files(opened(folder, kind)))
    require_same_files(tmp_path, layer_files(opened(folder, kind)))
    (path,) = folder.glob(changed)
    rewrite(path)
    with pytest.raises(InputError, match=rf"{path.name}' of its data was changed since it was started\. .*{FILES}"):
        require_same_files(tmp_path, layer_files(opened(folder, kind)))
    (tmp_path / FILES).unlink()
    require_same_files(tmp_path, layer_files(opened(folder, kind)))


def test_moved_data_are_the_same_and_arrays_in_memory_are_compared_by_their_values(folder, tmp_path):
    before = layer_files(opened(folder, "cogs"))
    assert set(before) == {str(folder / "a.tif"), str(folder / "b.tif")}
    write_files(tmp_path, before)
    moved = shutil.copytree(folder, tmp_path / "moved")  # keeps modification times
    require_same_files(tmp_path, layer_files(opened(moved, "cogs")))
    write_cog(moved / "b.tif.msk", np.ones((32, 32), "uint8"), grid=GRID)
    with pytest.raises(InputError, match=r"'b.tif.msk' of its data was added"):
        require_same_files(tmp_path, layer_files(opened(moved, "cogs")))
    with pytest.raises(InputError, match=r"'b.tif' of its data is missing"):
        require_same_files(tmp_path, {name: before[name] for name in before if "a.tif" in name})

    layer = opened(folder, "memory")
    write_files(tmp_path, layer_files(layer))
    require_same_files(tmp_path, layer_files(layer.copy()))
    layer[..., 3, 4] += 1
    with pytest.raises(InputError, match="'array /.*' of its data was changed"):
        require_same_files(tmp_path, layer_files(layer))


def test_remote_files_are_compared_if_their_version_is_known(folder, tmp_path, monkeypatch):
    layer = opened(folder, "cogs")
    address = "https://a.b/x.tif?sig=1"
    monkeypatch.setattr(data_files, "_paths", lambda _: [address])
    states = ["", '"one"  9', '"two"  9']  # unknown, and ETags
    unknown, first, second = ({} if not s else {"remote https://a.b/x.tif": s} for s in states)
    for state, expected in zip(states, (unknown, first, second), strict=True):
        monkeypatch.setitem(remote_version._versions, address, remote_version.RemoteVersion("", state))
        assert layer_files(layer) == expected
    for before, now in ((first, first), (unknown, first), (first, unknown)):
        write_files(tmp_path, before)
        require_same_files(tmp_path, now)
    write_files(tmp_path, first)
    with pytest.raises(InputError, match=r"'remote https://a.b/x.tif' of its data was changed"):
        require_same_files(tmp_path, second)


def test_layers_of_xarray_without_dask_are_identified_by_their_file(folder):
    layer = opened(folder, "memory").rename("a").drop_vars("band", errors="ignore")
    layer.to_dataset().to_netcdf(folder / "cube.nc")
    with xr.open_dataset(folder / "cube.nc") as ds:
        assert list(layer_files(ds[["a"]])) == [str(folder / "cube.nc")]


def test_files_of_samples_are_those_of_their_paths(tmp_path):
    spec = geoxt.datasets.get("levircd_plus")
    root = make_tree(spec, tmp_path / "data").root
    samples = to_torch(load(spec, root, split="train"))
    assert set(file_versions(samples.paths())) == {str(p) for p in root.glob("*/train/**/*.png")}
    only = to_torch(load(spec, root, split="train"), keys=["image"])
    assert not any("label" in path for path in only.paths())


def data_of(folder, seed=0):
    image, labels = geoxt.open_cogs(folder / "a.tif"), geoxt.open_cogs(folder / "labels.tif")
    ds = geoxt.intersection(image=image, mask=labels, grid="image")
    return WindowDataModule(ds, by_block(ds, size=8, seed=1), size=8, length=4, batch_size=2, seed=seed)


def test_run_is_not_resumed_after_a_file_changed(folder, tmp_path):
    options = {"epochs": 2, "resume": tmp_path / "run", "progress": "none", "accelerator": "cpu"}
    recipe = Recipe(schedule="constant")
    data = data_of(folder)
    card = data.card(model="test_fcn")
    fit(Task(card, recipe), data, **options)
    rewrite(folder / "labels.tif")
    with pytest.raises(InputError, match=r"run': 'labels.tif' of its data was changed"):
        fit(Task(card, recipe), data_of(folder), **{**options, "epochs": 3})


def test_results_of_experiments_are_not_reused_after_a_file_changed(folder, tmp_path):
    config = TrainingConfig(model="test_fcn", training=TrainingOptions(epochs=1, accelerator="cpu"))
    built = []

    def data(seed, epochs):
        built.append(epochs)
        return data_of(folder, seed)

    experiment = Experiment(seeds=(0,))
    first = run_experiment(experiment, config, data, tmp_path)
    del built[:]
    assert run_experiment(experiment, config, data, tmp_path) == first
    assert len(built) == 1
    rewrite(folder / "a.tif")
    with pytest.raises(InputError, match=r"'a.tif' of its data was changed since it was started"):
        run_experiment(experiment, replace(config), data, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(first))
