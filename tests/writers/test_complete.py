"""Full disks: what is published is complete, or what it was before; no truncated block is taken for a finished one."""

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import xarray as xr
from support.processes import run_code

from geoxt.errors import OutputError
from geoxt.grid import coordinates
from geoxt.testing import make_grid
from geoxt.writers import to_cog, vrt
from geoxt.writers.complete import require_complete

LIMITED = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from test_complete import layer_of, pixels
from geoxt.errors import OutputError
from geoxt.writers import to_cog, to_zarr

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing fails by an error, as on a full disk
sys.dont_write_bytecode = True  # Python would keep byte code that the limit cuts off
for write, name in ((to_cog, "map.tif"), (to_zarr, "map.zarr")):
    path, new = Path({out!r}) / name, layer_of(values=60000)
    old = write(layer_of(side=64, values=9), path)
    for limit in {limits}:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            write(new, path)
            raise SystemExit(f"{{name}} was written in files of {{limit}} bytes")
        except OutputError as error:
            assert "are free)" in str(error), error
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert pixels(path).shape == (64, 64), "an older map is gone"
    assert (pixels(write(new, path)) == new.to_numpy()).all()
"""


def layer_of(*, side=256, values):
    made = np.random.default_rng(0).integers(0, values, (side, side)).astype("uint16")
    return xr.DataArray(made, dims=("y", "x"), coords=coordinates(make_grid((side, side)))).chunk(y=128, x=128)


def pixels(path):
    if path.suffix == ".zarr":
        return xr.open_zarr(path, mask_and_scale=False)["layer"].to_numpy()
    with rasterio.open(path) as file:
        return file.read(1)


def readable(path):
    """Read all pixels, masks and overviews by GDAL, and return a checksum of each; `None` where GDAL fails."""
    try:
        with rasterio.open(path) as file:
            factors = [1, *file.overviews(1)]
            sizes = [(max(file.height // f, 1), max(file.width // f, 1)) for f in factors]
            return [(file.read(out_shape=(file.count, *s)).sum(), file.dataset_mask(out_shape=s).sum()) for s in sizes]
    except rasterio.errors.RasterioError:
        return None


def test_older_map_survives_and_blocks_are_finished_where_files_cannot_grow(tmp_path):
    pytest.importorskip("resource", reason="limits of file sizes exist on POSIX alone")
    code = LIMITED.format(folder=str(__file__.rpartition("/")[0]), out=str(tmp_path), limits=[100, 20_000])
    run = run_code(code)
    assert run.returncode == 0, run.stderr[-2000:]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["map.tif", "map.zarr"]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    "options",
    [
        {"driver": "GTiff"},
        {"driver": "GTiff", "tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "DEFLATE", "BIGTIFF": "YES"},
        {"driver": "GTiff", "interleave": "pixel", "ENDIANNESS": "BIG"},
        {"driver": "COG", "blocksize": 128, "compress": "DEFLATE"},
    ],
    ids=["strips", "BigTIFF", "big endian", "COG"],
)
@pytest.mark.parametrize("masked", [False, True])
def test_truncated_files_are_refused(options, masked, tmp_path):
    values = np.random.default_rng(1).integers(0, 9, (3, 300, 200)).astype("uint8")
    plain, path = tmp_path / "plain.tif", tmp_path / "made.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        with rasterio.open(plain, "w", driver="GTiff", count=3, height=300, width=200, dtype="uint8") as file:
            file.write(values)
            if masked:
                file.write_mask(values[0] > 2)
        rasterio.shutil.copy(plain, path, **options)
    complete, content = readable(path), path.read_bytes()
    require_complete(path)
    refused = 0
    for size in sorted({*range(0, len(content), len(content) // 23), len(content) - 1}):
        path.write_bytes(content[:size])
        if readable(path) != complete:
            with pytest.raises(OSError, match=r"truncated"):
                require_complete(path)
            refused += 1
    assert refused > 20


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_tiles_that_are_not_stored_are_refused(tmp_path):
    path = tmp_path / "sparse.tif"
    profile = {"driver": "GTiff", "count": 1, "height": 64, "width": 64, "dtype": "uint8", "SPARSE_OK": True}
    with rasterio.open(path, "w", tiled=True, blockxsize=32, blockysize=32, **profile) as file:
        file.write(np.ones((1, 32, 32), "uint8"), window=((0, 32), (0, 32)))
    with pytest.raises(OSError, match=r"truncated"):
        require_complete(path)


def truncated(function, path_of):
    """Return a function that takes the last bytes of the file which it made."""

    def made(*arguments, **options):
        path = path_of(*arguments)
        result = function(*arguments, **options)
        path.write_bytes(path.read_bytes()[:-8])
        return result

    return made


def test_truncated_result_is_not_published(tmp_path, monkeypatch):
    path, new = tmp_path / "map.tif", layer_of(values=60000)
    to_cog(layer_of(side=64, values=9), path)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(rasterio.shutil, "copy", truncated(rasterio.shutil.copy, lambda source, target: target))
        with pytest.raises(OutputError, match=r"No space left .*Make space there \(up to 0.3 MB, .* are free\)"):
            to_cog(new, path)
    assert path.read_bytes() == before
    assert (pixels(to_cog(new, path)) == new.to_numpy()).all()


def test_truncated_block_is_not_finished(tmp_path, monkeypatch):
    path, new = tmp_path / "map.tif", layer_of(values=60000)
    calls = []

    def check(part):
        calls.append(part)
        if len(calls) == 3:
            part.write_bytes(part.read_bytes()[:-1])
        require_complete(part)

    with monkeypatch.context() as patch:
        patch.setattr(vrt, "require_complete", check)
        with pytest.raises(OutputError, match=r"truncated") as raised:
            to_cog(new, path)
    assert "2 finished blocks are kept" in raised.value.__notes__[0]
    assert not path.exists()
    assert (pixels(to_cog(new, path)) == new.to_numpy()).all()
