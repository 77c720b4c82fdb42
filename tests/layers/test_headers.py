"""The header cache: used for many files, updated after changes, written atomically."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio

from geoxt.errors import ReadError
from geoxt.layers import headers
from geoxt.pixels import reader
from geoxt.testing import distinct, make_grid, write_cog

COUNT = 20


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return a folder of files, which tests copy."""
    folder = tmp_path_factory.mktemp("files")
    colors = {1: "#ff0000", 2: "#00ff00"}
    for n in range(COUNT):
        grid = make_grid((16, 16), left=600_000 + 480 * n)
        options = {"names": {1: "a", 2: "b"}, "colors": colors} if n == 0 else {"nodata": np.nan}
        values = distinct((16, 16), "uint8") if n == 0 else distinct((16, 16), "float32")
        write_cog(folder / f"{n:02d}.tif", values, grid=grid, **options)
    return folder


@pytest.fixture
def folder(written, tmp_path, monkeypatch):
    monkeypatch.setenv("GEOXT_CACHE", str(tmp_path / "cache"))
    return shutil.copytree(written, tmp_path / "files")


@pytest.fixture
def opened(monkeypatch):
    """List of paths whose headers were read."""
    hrefs = []

    def spy(href, *, crs=None):
        hrefs.append(href)
        return reader.read_header(href, crs=crs)

    monkeypatch.setattr(headers, "read_header", spy)
    return hrefs


def paths(folder):
    return [str(p) for p in sorted(folder.glob("*.tif"))]


def test_cached_headers_equal_read_headers(folder, opened):
    first = headers.headers(paths(folder))
    assert opened == paths(folder)
    opened.clear()
    second = headers.headers(paths(folder))
    assert opened == []
    assert [repr(h) for h in second] == [repr(h) for h in first]
    assert [hash(h.grid) for h in second] == [hash(h.grid) for h in first]


def test_changed_file_is_read_again(folder, opened):
    headers.headers(paths(folder))
    opened.clear()
    path = paths(folder)[3]
    write_cog(path, distinct((32, 32)), grid=make_grid((32, 32)), nodata=7)
    reread = headers.headers(paths(folder))
    assert opened == [path]
    assert reread[3].grid.shape == (32, 32)
    assert reread[3].nodata == (7,)


def test_few_files_or_a_crs_argument_write_no_cache(folder, tmp_path):
    headers.headers(paths(folder)[: headers.MIN_FILES - 1])
    headers.headers(paths(folder), crs="EPSG:32615")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("damage", ["", "{", "[]", "[" * 100_000, '{"format": 0}', None], ids=range(6))
def test_damaged_cache_is_rebuilt(folder, tmp_path, opened, damage):
    headers.headers(paths(folder))
    (cache_path,) = (tmp_path / "cache" / "headers").iterdir()
    content = cache_path.read_text()
    cache_path.write_text(content[: len(content) // 2] if damage is None else damage)
    opened.clear()
    headers.headers(paths(folder))
    assert len(opened) == COUNT
    assert len(json.loads(cache_path.read_text())["files"]) == COUNT


def test_headers_are_read_without_a_writable_cache(folder, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    for cache_path in ("", str(tmp_path / "file" / "below")):
        monkeypatch.setenv("GEOXT_CACHE", cache_path)
        assert len(headers.headers(paths(folder))) == COUNT


def test_missing_file_raises(folder):
    with pytest.raises(ReadError, match=r"Cannot open .*gone\.tif"):
        headers.headers([*paths(folder), str(folder / "gone.tif")])


def write_mask(path):
    mask = np.full((1, 16, 16), 255, "uint8")
    mask[:, :, :8] = 0
    with rasterio.open(f"{path}.msk", "w", driver="GTiff", width=16, height=16, count=1, dtype="uint8") as file:
        file.write(mask)
        file.update_tags(INTERNAL_MASK_FLAGS_1=2)


SIDECARS = {
    "mask": write_mask,
    "statistics": lambda path: Path(f"{path}.aux.xml").write_text("<PAMDataset></PAMDataset>"),
    "overviews": lambda path: Path(f"{path}.ovr").write_bytes(b""),
    "world file": lambda path: Path(path).with_suffix(".tfw").write_text("10\n0\n0\n-10\n5\n5\n"),
    "world file of any format": lambda path: Path(path).with_suffix(".wld").write_text("10\n0\n0\n-10\n5\n5\n"),
    "projection": lambda path: Path(path).with_suffix(".prj").write_text("x"),
    "ENVI header": lambda path: Path(path).with_suffix(".hdr").write_text("ENVI"),
}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("sidecar", SIDECARS)
def test_header_is_read_again_after_each_change_of_a_sidecar(folder, opened, sidecar):
    headers.headers(paths(folder))
    path = paths(folder)[5]
    for _ in range(2):  # written, then changed
        opened.clear()
        SIDECARS[sidecar](path)
        headers.headers(paths(folder))
        assert opened == [path]
    opened.clear()
    (written,) = (p for p in folder.iterdir() if p.name.startswith("05.") and p.suffix != ".tif")
    written.unlink()
    headers.headers(paths(folder))
    assert opened == [path]


def test_header_is_read_again_after_a_replacement_of_equal_size_and_time(folder, opened):
    headers.headers(paths(folder))
    opened.clear()
    old, new = Path(paths(folder)[3]), folder.parent / "new.tif"
    write_cog(new, distinct((16, 16), "float32"), grid=make_grid((16, 16), left=0), nodata=np.nan)
    times = old.stat()
    assert new.stat().st_size == times.st_size
    os.utime(new, ns=(times.st_atime_ns, times.st_mtime_ns))
    new.replace(old)
    assert headers.headers(paths(folder))[3].grid.affine.c == 0
    assert opened == [str(old)]


@pytest.mark.parametrize(
    "entries",
    [None, [], {"00.tif": None}, {"00.tif": {"stamp": 1}}, {"00.tif": {"stamp": "STAMP", "header": {"grid": 3}}},
     {"00.tif": {"stamp": "STAMP", "header": {}}}, {"00.tif": {"stamp": "STAMP", "header": []}}],
)  # fmt: skip
def test_cache_of_another_shape_is_read_again(folder, tmp_path, opened, entries):
    expected = headers.headers(paths(folder))
    (file,) = (tmp_path / "cache" / "headers").iterdir()
    content = json.loads(file.read_text())
    if isinstance(entries, dict) and isinstance(entries["00.tif"], dict) and entries["00.tif"]["stamp"] == "STAMP":
        entries = {"00.tif": entries["00.tif"] | {"stamp": content["files"]["00.tif"]["stamp"]}}
    file.write_text(json.dumps(content | {"files": entries}))
    opened.clear()
    assert [repr(h) for h in headers.headers(paths(folder))] == [repr(h) for h in expected]
    assert paths(folder)[0] in opened


def test_nodata_beyond_2_53_is_exact():
    assert headers._number(str(2**60 + 1)) == 2**60 + 1
    assert np.isnan(headers._number("nan"))
