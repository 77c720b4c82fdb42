"""The benchmark of assessments runs with small sizes."""

import runpy
import sys
from pathlib import Path

PATH = Path(__file__).parents[2] / "benchmarks" / "assess.py"


def test_benchmark_runs_with_small_sizes(monkeypatch, capsys):
    monkeypatch.setenv("GDAL_CACHEMAX", "8")
    monkeypatch.syspath_prepend(PATH.parent)
    sizes = ["--map", "300", "--applicability", "40", "--training", "30", "--draws", "2"]
    monkeypatch.setattr(sys, "argv", [str(PATH), *sizes])
    runpy.run_path(str(PATH), run_name="__main__")
    printed = capsys.readouterr().out
    assert "applicability of 40 x 40 x 10 against 30 training pixels" in printed
    assert "strata of 300 x 300" in printed
    assert "2 samples of 300 pixels" in printed
