"""`geoxt bench`: every mix is timed over the windows asked for, and what cannot be measured is refused."""

import re

import numpy as np
import pytest

from geoxt.cli import bench, main
from geoxt.testing import make_grid, write_cog


@pytest.fixture
def image(tmp_path):
    values = np.random.default_rng(0).integers(1, 200, (3, 96, 96)).astype("uint8")
    return str(write_cog(tmp_path / "image.tif", values, grid=make_grid((96, 96))))


@pytest.fixture
def labels(tmp_path):
    codes = np.random.default_rng(1).integers(1, 4, (192, 192)).astype("uint8")
    return str(write_cog(tmp_path / "labels.tif", codes, grid=make_grid((192, 192), resolution=15.0)))


@pytest.mark.parametrize("grid", [False, True])
def test_every_mix_reads_the_same_windows(image, monkeypatch, grid):
    seen, real = {}, bench.loader

    def spy(data, plan, *, num_workers=0, threads=None, **options):
        if threads is not None:  # else the first window, which is timed alone
            seen.setdefault((num_workers, threads), []).append([*plan])
        return real(data, plan, num_workers=num_workers, threads=threads, **options)

    monkeypatch.setattr(bench, "loader", spy)
    monkeypatch.setattr(bench, "CPU_COUNT", 2)
    rates = bench.run(bench.Bench(image=(image,), size=16, batch=4, batches=3, num_workers=(0,), repeats=2, grid=grid))
    assert {(rate.num_workers, rate.threads) for rate in rates} == set(seen) == {(0, 1), (0, 2)}
    assert [rate.windows for rate in rates] == sorted((rate.windows for rate in rates), reverse=True)
    plans = [plan for some in seen.values() for plan in some]
    assert len(plans) == 4
    assert all(plan == plans[0] and len(plan) == 16 for plan in plans)  # 3 batches of 4, after one that is not timed
    beside = [a.col + a.width == b.col for a, b in zip(plans[0], plans[0][1:], strict=False)]
    assert (sum(beside) > 10) == grid
    sizes = [rate.megabytes / rate.windows for rate in rates]
    assert sizes == pytest.approx([3 * 16 * 16 * 4 / 1e6] * 2, rel=0.5)  # medians are taken of each by itself


def test_powers_of_two_are_tried(monkeypatch):
    monkeypatch.setattr(bench, "CPU_COUNT", 6)
    mixes = bench._mixes(bench.Bench(image=("a.tif",)))
    assert mixes == [(0, 1), (0, 6), (1, 1), (2, 1), (4, 1)]


def test_the_command_tells_the_loader_to_write(image, labels, capsys):
    argv = ["bench", image, "--labels", labels, "--size", "16", "--batch", "2", "--batches", "2", "--repeats", "1"]
    assert main([*argv, "--num-workers", "1"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^open +image 3 x \d+ x \d+ uint8, mask \d+ x \d+ uint8 in EPSG:32615", said, re.MULTILINE)
    assert "num_workers=1, threads=1)" in said


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--size", "500"], "windows of 500 px from 96 x 96 px.* Pass --size 96 or less"),
        (["--batches", "1"], "--batches 1: pass 2 or more"),
        (["--num-workers", "-1"], "--num-workers -1: pass numbers of processes"),
    ],
)
def test_what_cannot_be_measured_is_refused(image, capsys, options, says):
    assert main(["bench", image, *options]) == 2
    assert re.search(says, capsys.readouterr().err)
