"""Plans: sharded without duplicates, skipped, saved and loaded, for every sampler alike."""

import os
import pickle
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from geoxt.errors import InputError, OutputError, ReadError
from geoxt.grid import coordinates
from geoxt.samplers import (
    GridSampler,
    PointSampler,
    RandomBatchSampler,
    RandomSampler,
    StratifiedSampler,
    TripletSampler,
    WindowSequence,
    time_periods,
    time_steps,
)
from geoxt.testing import make_grid

GRID = make_grid((60, 80))
TIMES = xr.date_range("2021-01-01", periods=12, freq="10D")


def make_data():
    labels = np.arange(60 * 80).reshape(60, 80) // 1200
    image = np.zeros((12, 60, 80), "uint8")
    data = {
        "image": (("time", "y", "x"), image),
        "mask": (("y", "x"), labels.astype("uint8"), {"flag_values": np.arange(4, dtype="uint8")}),
    }
    return xr.Dataset(data, coords={"time": TIMES, **coordinates(GRID)})


POINTS = np.c_[np.linspace(600_100, 602_300, 9), np.linspace(4_549_900, 4_548_300, 9)]
MAKERS = {
    "random": lambda ds, **o: RandomSampler(ds, size=8, length=30, **o),
    "batch": lambda ds, **o: RandomBatchSampler(ds, size=8, length=30, batch_size=4, **o),
    "grid": lambda ds, **o: GridSampler(ds, size=(16, 24), **o),
    "triplet": lambda ds, **o: TripletSampler(ds, size=8, length=10, radius=12, **o),
    "stratified": lambda ds, **o: StratifiedSampler(ds, size=8, length=30, **o),
    "points": lambda ds, **o: PointSampler(ds, points=POINTS, size=9, **o),
    "points drawn": lambda ds, **o: PointSampler(ds, points=POINTS, size=9, length=30, jitter=2, **o),
}


@cache
def made(make):
    return make(make_data())


every = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@every
@pytest.mark.parametrize("timed", [False, True], ids=["all", "timed"])
def test_a_plan_is_a_sequence_that_repeats(make, timed):
    ds = make_data()
    options = {"times": time_periods(ds, "M")} if timed else {}
    plan = make(ds, **options)
    found = list(plan)
    assert len(found) == len(plan) > 0
    assert found == [plan[i] for i in range(len(plan))]
    assert plan == make(ds, **options) == pickle.loads(pickle.dumps(plan))
    assert plan.at(3) == make(ds, **options).at(3) == pickle.loads(pickle.dumps(plan)).at(3)
    assert len(plan.at(3)) == len(plan)
    assert all((w.time is not None) == timed for w in found)
    with pytest.raises(ValueError, match="read-only"):
        plan.table[0, 0] = 1


@every
@given(world=st.integers(1, 5), epoch=st.integers(0, 2))
def test_shards_share_no_window_and_follow_the_epochs(make, world, epoch):
    plan = made(make)
    numbers = WindowSequence(
        {"": GRID}, np.c_[np.arange(len(plan)), np.zeros((len(plan), 3), "int64") + 1], unit=plan.unit
    )
    shards = [numbers.shard(rank, world) for rank in range(world)]
    rows = [w.row for shard in shards for w in shard]
    assert len(rows) == len(set(rows)) > len(plan) - world * plan.unit
    assert len({len(shard) for shard in shards}) == 1
    loose = [w.row for rank in range(world) for w in numbers.shard(rank, world, even=False)]
    assert sorted(loose) == list(range(len(plan)))
    for rank in range(world):
        shard = plan.shard(rank, world).at(epoch)
        assert list(shard) == [plan.at(epoch)[w.row] for w in shards[rank]]
        units = [w.row // plan.unit for w in shards[rank]]
        assert all(units.count(u) == plan.unit for u in units if (u + 1) * plan.unit <= len(plan))


@every
def test_a_plan_goes_on_where_it_was_cut_off(make):
    plan = make(make_data()).at(2)
    assert list(plan[:7]) + list(plan.skip(7)) == list(plan)
    assert len(plan.skip(len(plan))) == 0
    with pytest.raises(InputError, match=r"Cannot skip .* windows of a plan of .*pass 0 to"):
        plan.skip(len(plan) + 1)


@every
@pytest.mark.parametrize("timed", [False, True], ids=["all", "timed"])
def test_a_saved_plan_is_the_same(make, timed, tmp_path):
    ds = make_data()
    plan = make(ds, **({"times": time_steps(ds, length=2)} if timed else {})).at(1)
    plan.save(tmp_path / "plan.npz")
    loaded = WindowSequence.load(tmp_path / "plan.npz")
    assert loaded == plan
    assert list(loaded) == list(plan)
    assert (loaded.grid, loaded.unit) == (plan.grid, plan.unit)
    assert loaded.shard(1, 2) == plan.shard(1, 2)


def test_another_process_draws_the_same(tmp_path):
    """A fresh interpreter with its own hash seed and one thread, as a worker or a rank has."""
    code = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("plans", {str(Path(__file__))!r})
plans = importlib.util.module_from_spec(spec)
spec.loader.exec_module(plans)
for name, make in plans.MAKERS.items():
    data = plans.make_data()
    make(data, times=plans.time_steps(data), seed=7).at(2).save({str(tmp_path)!r} + f"/{{name}}.npz")
""".replace("seed=7", "**({} if name == 'grid' else {'seed': 7})")
    env = {**os.environ, "PYTHONHASHSEED": "5", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
    data = make_data()
    for name, make in MAKERS.items():
        seed = {} if name == "grid" else {"seed": 7}
        assert WindowSequence.load(tmp_path / f"{name}.npz") == make(data, times=time_steps(data), **seed).at(2)


def test_files_that_are_no_plan_are_refused(tmp_path):
    (tmp_path / "other.npz").write_bytes(b"nothing")
    for name in ("other.npz", "none.npz"):
        with pytest.raises(ReadError, match=rf"Cannot load a plan from '.*{name}'.*Plan.save"):
            WindowSequence.load(tmp_path / name)
    with pytest.raises(OutputError, match=r"Cannot save the plan to .*Pass a path"):
        GridSampler(make_data(), size=16).save(tmp_path / "no" / "plan.npz")
    with pytest.raises(InputError, match=r"rank=2 of world_size=2: pass a rank of 0 to 1"):
        GridSampler(make_data(), size=16).shard(2, 2)


@every
def test_plans_draw_themselves(make):
    pytest.importorskip("matplotlib")
    ds = make_data()
    plan = make(ds)
    for layer in (None, ds.mask, ds.image.isel(time=0)):
        axes = plan.plot(layer).axes[0]
        assert len(axes.lines) == 2 * len(plan)
        assert axes.get_ylim() == (60, 0)
    with pytest.raises(InputError, match=r"Cannot draw over 'mask': it lies on another grid. Pass"):
        plan.plot(ds.mask[1:])
