"""The index of headers: kept for many files, right after any change, never half-written."""

import json

import numpy as np
import pytest

from geoxt.errors import ReadError
from geoxt.layers import headers
from geoxt.pixels import reader
from geoxt.testing import distinct, make_grid, write_cog

COUNT = 20


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GEOXT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "files").mkdir()
    colors = {1: "#ff0000", 2: "#00ff00"}
    for n in range(COUNT):
        grid = make_grid((16, 16), left=600_000 + 480 * n)
        options = {"names": {1: "a", 2: "b"}, "colors": colors} if n == 0 else {"nodata": np.nan}
        values = distinct((16, 16), "uint8") if n == 0 else distinct((16, 16), "float32")
        write_cog(tmp_path / "files" / f"{n:02d}.tif", values, grid=grid, **options)
    return tmp_path / "files"


@pytest.fixture
def opened(monkeypatch):
    """The files whose headers were read."""
    seen = []

    def spy(href, *, crs=None):
        seen.append(href)
        return reader.read_header(href, crs=crs)

    monkeypatch.setattr(headers, "read_header", spy)
    return seen


def paths(folder):
    return [str(p) for p in sorted(folder.glob("*.tif"))]


def test_a_second_opening_reads_no_header_and_finds_the_same(folder, opened):
    first = headers.headers(paths(folder))
    assert opened == paths(folder)
    opened.clear()
    second = headers.headers(paths(folder))
    assert opened == []
    assert [repr(h) for h in second] == [repr(h) for h in first]
    assert [hash(h.grid) for h in second] == [hash(h.grid) for h in first]


def test_a_file_that_changed_is_read_again(folder, opened):
    headers.headers(paths(folder))
    opened.clear()
    path = paths(folder)[3]
    write_cog(path, distinct((32, 32)), grid=make_grid((32, 32)), nodata=7)
    found = headers.headers(paths(folder))
    assert opened == [path]
    assert found[3].grid.shape == (32, 32)
    assert found[3].nodata == (7,)


def test_few_files_and_a_given_crs_leave_no_index(folder, tmp_path):
    headers.headers(paths(folder)[: headers.MIN_FILES - 1])
    headers.headers(paths(folder), crs="EPSG:32615")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": 0}', None])
def test_a_damaged_index_is_made_anew(folder, tmp_path, opened, damage):
    headers.headers(paths(folder))
    (place,) = (tmp_path / "cache" / "headers").iterdir()
    whole = place.read_text()
    place.write_text(whole[: len(whole) // 2] if damage is None else damage)
    opened.clear()
    headers.headers(paths(folder))
    assert len(opened) == COUNT
    assert len(json.loads(place.read_text())["files"]) == COUNT


def test_without_a_place_to_write_headers_are_still_read(folder, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    for place in ("", str(tmp_path / "file" / "below")):
        monkeypatch.setenv("GEOXT_CACHE", place)
        assert len(headers.headers(paths(folder))) == COUNT


def test_a_missing_file_is_named(folder):
    with pytest.raises(ReadError, match=r"Cannot open .*gone\.tif"):
        headers.headers([*paths(folder), str(folder / "gone.tif")])
