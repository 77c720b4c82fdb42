"""Executors of map tiles: a dask cluster, and pools whose processes are killed."""

import pickle
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
import xarray as xr

import geoxt
from geoxt.errors import GeoxtWarning, OutputError
from geoxt.grid import coordinates
from geoxt.testing import make_grid
from geoxt.tiling import tile_executors
from geoxt.tiling.tile_executors import SharedJob, run_shared

LAYER = xr.DataArray(np.arange(1, 2001.0).reshape(40, 50), dims=("y", "x"), coords=coordinates(make_grid((40, 50))))


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


def test_workers_of_a_cluster_write_tiles_by_small_tasks(tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    sizes, submit = [], distributed.Client.submit

    def record(client, function, *args, **options):
        if function is run_shared:
            sizes.append(len(pickle.dumps(args[1:])))  # the first is the future of the map
        return submit(client, function, *args, **options)

    monkeypatch.setattr(distributed.Client, "submit", record)
    options = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "dashboard_address": None}
    options |= {"scheduler_kwargs": {"dashboard_address": ":0"}}  # 8787 may be in use
    options |= {"protocol": "tcp://", "host": "127.0.0.1"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        table = geoxt.to_tiles(LAYER.chunk(16), tmp_path, tiles=20, progress=False)
        with monkeypatch.context() as patch:
            patch.setattr(client, "run", lambda *_: {"worker": False})
            with pytest.raises(OutputError, match="not all workers"):
                geoxt.to_tiles(LAYER, tmp_path / "other", tiles=20, progress=False)
    assert table["state"].tolist() == ["done"] * 6
    assert len(sizes) == table["attempts"].sum() == 6
    assert max(sizes) < 1000
    np.testing.assert_array_equal(read(tmp_path / "map.vrt"), LAYER)


def test_workers_pass_a_job_on_without_loading_it():
    passed = pickle.loads(pickle.dumps(SharedJob(pickle.dumps("job"))))
    assert vars(passed) == {"payload": pickle.dumps("job")}
    assert passed.job == "job"
    assert vars(pickle.loads(pickle.dumps(passed))) == {"payload": pickle.dumps("job")}


def test_a_cluster_without_workers_is_warned_of(tmp_path, monkeypatch):
    monkeypatch.setattr(tile_executors, "_CHECK_INTERVAL", 0)
    future, state = Future(), {"tile": "r0c0", "state": "done"}

    def nthreads():
        if counts:
            future.set_result(state)  # a worker has come, and computed the tile
        counts.append(0)
        return {}

    counts = []
    client = SimpleNamespace(
        run=lambda *_: {"worker": True},
        submit=lambda *_, **__: SimpleNamespace(status="finished"),
        get_executor=lambda **_: SimpleNamespace(submit=lambda *_: future),
        nthreads=nthreads,
    )
    job = SimpleNamespace(folder=tmp_path, resources=dict)
    workers = tile_executors._cluster(job, client)
    waiting = deque([tile_executors._Attempt(SimpleNamespace(name="r0c0"))])
    with pytest.warns(GeoxtWarning, match=r"no workers.*lost-worker-timeout"):
        assert list(tile_executors._run(job, workers, waiting, retries=0)) == [state]


class Pool(ThreadPoolExecutor):
    """Threads instead of processes; `deaths` of them are killed at tile r0c1, with the pool."""

    deaths = 1
    started = 0

    def __init__(self, count, context, *, initializer, initargs):
        del context
        super().__init__(count)
        Pool.started += 1
        self.broken = False
        initializer(*initargs)

    def submit(self, function, tile, attempt):
        if self.broken:
            raise BrokenProcessPool
        if tile.name == "r0c1" and Pool.deaths:
            Pool.deaths -= 1
            self.broken = True
            return super().submit(self.die)
        return super().submit(function, tile, attempt)

    def die(self):
        raise BrokenProcessPool("a process was killed")


@pytest.mark.parametrize(("deaths", "failed"), [(1, False), (3, True)])
def test_killed_processes_are_replaced(tmp_path, monkeypatch, deaths, failed):
    monkeypatch.setattr(tile_executors, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(Pool, "deaths", deaths)
    monkeypatch.setattr(Pool, "started", 0)

    def write():
        return geoxt.to_tiles(LAYER, tmp_path, tiles=20, num_workers=2, retries=2, progress=False)

    if failed:
        with pytest.raises(OutputError, match=r"1 of 6 map tiles .*'r0c1' \(BrokenProcessPool: a process was killed"):
            write()
        assert geoxt.tiling.read_manifest(tmp_path)["state"].tolist() == ["done", "failed", *["done"] * 4]
    table = write()
    assert table["state"].tolist() == ["done"] * 6
    assert Pool.started >= deaths + 1
    np.testing.assert_array_equal(read(tmp_path / "map.vrt"), LAYER)
