"""`geoxt cache`: list of cached files, and their removal."""

from pathlib import Path

import numpy as np

from geoxt import cli
from geoxt.layers import open_cogs
from geoxt.pixels.block_cache import entries_of
from geoxt.testing import make_grid, write_cog


def test_info_lists_files_and_clear_removes_them(tmp_path, capsys):
    grid = make_grid((300, 200))
    values = np.arange(60_000, dtype="uint16").reshape(1, 300, 200)
    paths = [write_cog(tmp_path / f"{n}.tif", values, grid=grid, compress="deflate") for n in range(2)]
    for path in paths:
        open_cogs(path, cache=tmp_path / "blocks").values  # noqa: B018
    folder = str(tmp_path / "blocks")
    assert cli.main(["cache", "info", "--folder", folder]) == 0
    text = capsys.readouterr().out
    assert "2 files" in text
    assert all(str(path) in text for path in paths)
    assert cli.main(["cache", "clear", "--folder", folder]) == 0
    assert not list(entries_of(folder))
    assert all(Path(path).exists() for path in paths)


def test_folder_of_the_environment_is_the_default(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("GEOXT_BLOCK_CACHE", f"{tmp_path / 'blocks'}:3GB")
    assert cli.main(["cache", "info"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'blocks'}: 0 files, 0.00 GB of 3.00 GB\n"
