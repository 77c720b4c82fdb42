"""Prediction and writing on a dask cluster: equal bits, small tasks, killed workers."""

import os
import signal
from contextlib import contextmanager, suppress

import cloudpickle
import dask
import numpy as np
import pytest
import rasterio
import xarray as xr
from support.fake_device import FakeDevice
from support.processes import load_server
from torch import nn
from tqdm import tqdm

from geoxt import progress
from geoxt import torch_devices as devices
from geoxt.grid import coordinates
from geoxt.inference import predict
from geoxt.models import Card, Network
from geoxt.testing import make_grid
from geoxt.writers import to_cog, to_zarr

distributed = pytest.importorskip("distributed")


@contextmanager
def loaded_once():
    """Start workers, replacements of killed ones too, from the server of processes, which has imported geoxt."""
    distributed.utils.get_mp_context()  # names what it loads itself; later calls leave that as it is
    load_server()
    yield


@pytest.fixture(scope="module")
def client():
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}),
        loaded_once(),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            memory_limit=None,
            scheduler_kwargs={"dashboard_address": ":0"},
        ) as cluster,
        distributed.Client(cluster) as connected,
    ):
        yield connected


def make_layer():
    values = np.random.default_rng(0).normal(100, 30, (3, 96, 80)).astype("float32")
    values[0, 10:20, 5:9] = np.nan
    coords = {"band": ["green", "red", "nir"], **coordinates(make_grid((96, 80)))}
    return xr.DataArray(values, dims=("band", "y", "x"), coords=coords)


def make_map(**options):
    card = Card(
        task="segmentation", model="test_unet", bands=("green", "red", "nir"), mean=(100.0,) * 3, std=(30.0,) * 3,
        codes=(1, 2, 3), names=("a", "b", "c"), colors=("#0000ff", "#00ff00", "#ff0000"), size=(32, 32),
    )  # fmt: skip
    return predict(make_layer(), Network(card), size=32, overlap=8, batch_size=2, chunks=24, **options)


def alone(made):
    with dask.config.set(scheduler="synchronous"):
        return made.to_numpy()


def test_cluster_computes_equal_maps_and_unpickles_the_model_once(client):
    made = make_map(output="probabilities")
    assert made.data.npartitions == 16

    def loads():
        from geoxt.inference import runner

        return runner.LOADS

    np.testing.assert_array_equal(made.to_numpy(), alone(made))
    assert set(client.run(loads).values()) == {1}


def test_dask_tasks_do_not_contain_the_model():
    made = make_map()
    (optimised,) = dask.optimize(made.data)
    sizes = sorted(len(cloudpickle.dumps(task)) for task in dict(optimised.__dask_graph__()).values())
    model = len(cloudpickle.dumps(make_map().data.dask))
    assert sizes[-2] < 3000 < sizes[-1] < model
    assert len(sizes) == 17


@pytest.mark.parametrize("write", [to_cog, pytest.param(to_zarr, marks=pytest.mark.slow)])
def test_killed_worker_does_not_change_the_map(client, tmp_path, monkeypatch, write):
    client.wait_for_workers(2)
    pids = sorted(client.run(os.getpid).values())
    killed = []

    class Kills(tqdm):
        def update(self, n=1):
            super().update(n)
            if not killed:
                killed.append(pids[0])
                os.kill(pids[0], signal.SIGKILL)

    monkeypatch.setattr(progress, "tqdm", Kills)
    made = make_map()
    path = write(made, tmp_path / "map")
    assert killed
    assert pids[0] not in client.run(os.getpid).values()
    if write is to_cog:
        with rasterio.open(path) as file:
            values = file.read(1)
    else:
        values = xr.open_zarr(path, mask_and_scale=False)["prediction"].to_numpy()
    np.testing.assert_array_equal(values, alone(made))
    assert list(tmp_path.glob(".map*")) == []


RAN_ON = []


class RecordsWorkers(nn.Module):
    """Returns two of the bands, and records the workers that run it."""

    def forward(self, images):
        with suppress(ValueError):  # this process computes the size of the output
            RAN_ON.append(distributed.get_worker().name)
        return images[:, :2]


@pytest.fixture(scope="module")
def gpu_client():
    workers = {
        name: {"cls": distributed.Worker, "options": {"host": "127.0.0.1", "nthreads": 1, "resources": resources}}
        for name, resources in (("plain", {}), ("with GPU", {"GPU": 1}))
    }
    scheduler = {
        "cls": distributed.Scheduler,
        "options": {"host": "127.0.0.1", "port": 0, "dashboard": False, "dashboard_address": "127.0.0.1:0"},
    }
    with (
        distributed.SpecCluster(workers=workers, scheduler=scheduler, silence_logs=False) as cluster,
        distributed.Client(cluster) as connected,
    ):
        connected.wait_for_workers(2)
        yield connected


def unfused(made):
    """Compute a map without dask's fusion of tasks, which drops annotations."""
    with dask.config.set({"optimization.fuse.active": False}):
        return made.compute().to_numpy()


@pytest.mark.parametrize(
    ("run", "chunked"),
    [
        (lambda made, *_: unfused(made), False),
        (lambda made, *_: unfused((made + 1).astype("float64")) - 1, True),
        (lambda made, client, _: client.compute(made, resources={"GPU": 1}).result().to_numpy(), False),
        (lambda made, _, path: rasterio.open(to_cog(made, path / "map.tif")).read(), True),
        (lambda made, _, path: xr.open_zarr(to_zarr(made, path / "map.zarr"))["prediction"].to_numpy(), False),
    ],
    ids=["compute", "compute other tasks too", "client.compute", "COG", "Zarr"],
)
def test_models_run_on_workers_with_a_gpu_only(gpu_client, monkeypatch, tmp_path, run, chunked):
    fake = FakeDevice("cuda:0")
    monkeypatch.setitem(devices.OPENED, "cuda:0", fake)
    RAN_ON.clear()
    layer = make_layer().fillna(100).round()
    made = predict(
        layer.chunk(x=40) if chunked else layer, RecordsWorkers(), size=32, overlap=0, batch_size=1, output="values",
        chunks=32, device="cuda:0",
    )  # fmt: skip
    np.testing.assert_array_equal(run(made, gpu_client, tmp_path), layer[:2])
    assert len(RAN_ON) >= 9
    assert set(RAN_ON) == {"with GPU"}
    assert "copy" in fake.log
