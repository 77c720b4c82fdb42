"""`geoxt bench`: each setting is timed over the same windows, and invalid arguments raise."""

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
def test_settings_read_the_same_windows(image, monkeypatch, grid):
    windows_by_setting, real = {}, bench.loader

    def spy(data, plan, *, num_workers=0, threads=None, **options):
        if threads is not None:  # the first window is timed without threads=
            windows_by_setting.setdefault((num_workers, threads), []).append([*plan])
        return real(data, plan, num_workers=num_workers, threads=threads, **options)

    monkeypatch.setattr(bench, "loader", spy)
    monkeypatch.setattr(bench, "CPU_COUNT", 2)
    rates = bench.run(
        bench.Bench(image=(image,), size=16, batch_size=4, batches=3, num_workers=(0,), repeats=2, grid=grid)
    )
    assert {(rate.num_workers, rate.threads) for rate in rates} == set(windows_by_setting) == {(0, 1), (0, 2)}
    assert [rate.windows for rate in rates] == sorted((rate.windows for rate in rates), reverse=True)
    plans = [plan for repeats in windows_by_setting.values() for plan in repeats]
    assert len(plans) == 4
    assert all(plan == plans[0] and len(plan) == 16 for plan in plans)  # 3 batches of 4, after a warm-up batch
    adjacent = [a.col + a.width == b.col for a, b in zip(plans[0], plans[0][1:], strict=False)]
    assert (sum(adjacent) > 10) == grid
    sizes = [rate.megabytes / rate.windows for rate in rates]
    assert sizes == pytest.approx([3 * 16 * 16 * 4 / 1e6] * 2, rel=0.5)  # medians of the two rates are independent


def test_default_worker_counts_are_powers_of_two(monkeypatch):
    monkeypatch.setattr(bench, "CPU_COUNT", 6)
    settings = bench._settings(bench.Bench(image=("a.tif",)))
    assert settings == [(0, 1), (0, 6), (1, 1), (2, 1), (4, 1)]


def test_command_prints_the_fastest_loader_call(image, labels, capsys):
    argv = ["bench", image, "--labels", labels, "--size", "16", "--batch-size", "2", "--batches", "2", "--repeats", "1"]
    assert main([*argv, "--num-workers", "1"]) == 0
    output = capsys.readouterr().out
    assert re.search(r"^open +image 3 x \d+ x \d+ uint8, mask \d+ x \d+ u?int\d+ in EPSG:32615", output, re.MULTILINE)
    assert "num_workers=1, threads=1)" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "500"], "windows of 500 px: all layers cover only 96 x 96 px. Pass --size of 96 or less"),
        (["--batches", "1"], "batches 1. Pass --batches of 2 or more"),
        (["--num-workers", "-1"], r"worker counts \[-1\]. Pass --num-workers of 0 or more"),
    ],
)
def test_invalid_arguments_raise(image, capsys, options, message):
    assert main(["bench", image, *options]) == 2
    assert re.search(message, capsys.readouterr().err)
