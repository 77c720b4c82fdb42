"""Writing block by block: interrupted writes resume, outputs are complete or absent."""

import os
import signal

import numpy as np
import pytest
import rasterio
import xarray as xr
from support.processes import run_code

from geoxt.errors import InputError, OutputError
from geoxt.writers import to_cog, to_zarr
from geoxt.writers.staging import block_file, finished_blocks

SCENE = """
import os
from pathlib import Path

import dask.array
import numpy as np
import xarray as xr
from torch import nn

from geoxt.grid import coordinates
from geoxt.inference import predict
from geoxt.testing import make_grid


class Logged:
    '''Every pixel has a value of its own; each read is noted, and the one that the file `fatal` names kills.'''

    shape, ndim, dtype = (1, 90, 60), 3, np.dtype("float32")

    def __init__(self, folder):
        self.folder = Path(folder)

    def __getitem__(self, key):
        name = "-".join(str(one.start) for one in key[1:])
        fatal = self.folder / "fatal"
        if fatal.exists() and fatal.read_text() == name:
            os.kill(os.getpid(), 9)
        with (self.folder / "log").open("a") as log:
            log.write(name + "\\n")
        return np.arange(5400, dtype="float32").reshape(self.shape)[key]


def make(folder):
    array = dask.array.from_array(Logged(folder), chunks=(1, 30, 30), name="logged", asarray=False,
                                  meta=np.empty((0, 0, 0), "float32"))
    layer = xr.DataArray(array, dims=("band", "y", "x"), coords=coordinates(make_grid((90, 60))))
    return predict(layer, nn.Identity(), size=10, overlap=0, chunks=30, output="values")
"""
KILLED = """
import os, sys
from geoxt.writers import to_cog, to_zarr
exec(open(sys.argv[1]).read())

for name, write in (("cog", to_cog), ("zarr", to_zarr)):
    child = os.fork()
    if child == 0:
        write(make(sys.argv[2]), os.path.join(sys.argv[2], "map." + name), progress=False)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 9, "the write was not killed"
"""
PIXELS = np.arange(5400, dtype="float32").reshape(1, 90, 60)


def scene(folder):
    names = {}
    exec(SCENE, names)  # noqa: S102 (the same text runs in another process)
    return names["make"](folder)


def reads(folder):
    return (folder / "log").read_text().split()


def read_cog(path):
    with rasterio.open(path) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        return file.read()


def read_zarr(path):
    return xr.open_zarr(path, mask_and_scale=False, decode_coords="all")["prediction"].to_numpy()


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    (folder / "fatal").write_text("60-0")
    (folder / "scene.py").write_text(SCENE)
    run = run_code(KILLED, str(folder / "scene.py"), str(folder))
    assert run.returncode == 0, run.stderr
    (folder / "fatal").unlink()
    assert reads(folder) == ["0-0", "0-30", "30-0", "30-30"] * 2
    return folder


def test_more_than_a_million_blocks_resume(tmp_path):
    numbers = {0, 999_999, 1_000_000, 12_345_678}
    for number in numbers:
        block_file(tmp_path, number).touch()
    (tmp_path / "blocks.vrt").touch()
    assert finished_blocks(tmp_path) == numbers


@pytest.mark.parametrize("write", [to_cog, to_zarr])
def test_writes_do_not_list_the_files_beside_the_output(tmp_path, monkeypatch, write):
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    write(scene(tmp_path), tmp_path / "map")
    assert len(listed) > 0
    assert str(tmp_path) not in listed


@pytest.mark.parametrize(("name", "write", "read"), [("cog", to_cog, read_cog), ("zarr", to_zarr, read_zarr)])
def test_killed_write_resumes(killed, name, write, read):
    path = killed / f"map.{name}"
    (folder,) = killed.glob(f".map.{name}.parts/*")
    assert not path.exists()
    assert finished_blocks(folder) == {0, 1, 2, 3}
    (killed / "log").unlink()
    assert write(scene(killed), path) == path
    assert reads(killed) == ["60-0", "60-30"]
    np.testing.assert_array_equal(read(path), PIXELS)
    assert not folder.exists()


@pytest.mark.parametrize(("write", "read"), [(to_cog, read_cog), (to_zarr, read_zarr)])
@pytest.mark.parametrize("resume", [True, False])
def test_interrupt_keeps_finished_blocks_or_nothing(tmp_path, monkeypatch, write, read, resume):
    path, made = tmp_path / "map", scene(tmp_path)
    (tmp_path / "fatal").write_text("30-0")
    monkeypatch.setattr(os, "kill", lambda pid, number: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt) as caught:
        write(made, path, resume=resume)
    left = [file for file in tmp_path.iterdir() if file.name not in {"fatal", "log"}]
    assert not path.exists()
    assert len(left) == resume
    notes = getattr(caught.value, "__notes__", [])
    assert [note.split(" finished")[0] for note in notes] == (["2"] if resume else [])
    (tmp_path / "fatal").unlink()
    (tmp_path / "log").unlink()
    write(made, path)
    assert len(reads(tmp_path)) == (4 if resume else 6)
    np.testing.assert_array_equal(read(path), PIXELS)
    assert {file.name for file in tmp_path.iterdir()} == {"log", "map"}


def test_blocks_of_another_layer_are_removed(tmp_path, monkeypatch):
    path, made = tmp_path / "map.tif", scene(tmp_path)
    (tmp_path / "fatal").write_text("30-0")
    monkeypatch.setattr(os, "kill", lambda pid, number: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        to_cog(made, path)
    (tmp_path / "fatal").unlink()
    to_cog(made + 1, path)
    np.testing.assert_array_equal(read_cog(path), PIXELS + 1)
    assert list(tmp_path.glob(".map*")) == []


def test_progress_bar_counts_blocks_and_is_hidden_without_a_terminal(tmp_path, capsys):
    to_cog(scene(tmp_path), tmp_path / "map.tif", progress=True)
    assert "map.tif: 100%" in (shown := capsys.readouterr().err)
    assert "6/6" in shown
    to_cog(scene(tmp_path), tmp_path / "map.tif")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("chunks", [None, {"y": 7, "x": 60}, {"y": (10, 30, 50), "x": (60,)}, {"band": 1, "y": 90}])
def test_zarr_store_equals_the_layer_for_any_chunks(tmp_path, chunks):
    layer = scene(tmp_path).compute().isel(band=[0, 0, 0]).assign_coords(band=["a", "b", "c"]).rename("image")
    layer = layer.assign_attrs(_FillValue=np.float32(7), units="1")
    path = to_zarr(layer if chunks is None else layer.chunk(chunks), tmp_path / "a" / "image.zarr")
    stored = xr.open_zarr(path, mask_and_scale=False, decode_coords="all")["image"]
    xr.testing.assert_identical(stored.compute().drop_attrs(deep=False), layer.drop_attrs(deep=False))
    assert stored.attrs == layer.attrs
    assert stored.geoml.grid == layer.geoml.grid


def test_zarr_store_replaces_only_zarr_stores(tmp_path):
    layer = scene(tmp_path).compute()
    to_zarr(layer, tmp_path / "map.zarr")
    to_zarr(layer + 1, tmp_path / "map.zarr")
    np.testing.assert_array_equal(read_zarr(tmp_path / "map.zarr"), PIXELS + 1)
    (tmp_path / "photos").mkdir()
    with pytest.raises(OutputError, match="is not a Zarr store"):
        to_zarr(layer, tmp_path / "photos")
    with pytest.raises(InputError):
        to_zarr(layer.isel(y=0), tmp_path / "row.zarr")
