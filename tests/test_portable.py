"""Platforms without fork, positioned reads or CPU affinity (Windows, older macOS): geoxt imports and reads."""

import os

import numpy as np
from support.processes import run_code

from geoxt.layers import open_cogs
from geoxt.pixels import file_version, raw_tiff
from geoxt.source import view_of
from geoxt.testing import distinct, make_grid, write_cog
from geoxt.windows import Window

LACKING = ("register_at_fork", "sched_getaffinity", "preadv", "pread", "fork")
WITHOUT = f"""
import os, sys
import dask, pystac, rasterio, shapely, torch, xarray
for name in [name for name in sys.modules if name.split(".")[0] == "geoxt"]:
    del sys.modules[name]  # of the process that this one was forked from
for name in {LACKING}:
    if hasattr(os, name):
        delattr(os, name)
import geoxt.bridge, geoxt.datasets, geoxt.layers, geoxt.splits
"""


def test_import_without_fork():
    done = run_code(WITHOUT)
    assert done.returncode == 0, done.stderr


def test_gdal_reads_without_positioned_reads(tmp_path, monkeypatch):
    values, window = distinct((2, 60, 70)), Window(row=7, col=9, height=20, width=30)
    monkeypatch.setattr(file_version, "TICK", 0)  # files of the last 50 ms are opened again
    opened = []
    monkeypatch.setattr(raw_tiff, "block_offsets", opened.append)
    for name in ("a.tif", "b.tif"):
        file = write_cog(tmp_path / name, values, grid=make_grid((60, 70)), compress=None)
        view = view_of(open_cogs(file))
        for _ in range(2):  # the first read of a file goes through GDAL anyway
            pixels, valid = view.read(window)
            assert valid.all()
            assert np.array_equal(pixels[0], values[:, 7:27, 9:39])
        assert len(opened) == 1  # for the first file only
        monkeypatch.delattr(os, "preadv", raising=False)
