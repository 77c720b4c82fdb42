"""Vector files that replace others: nothing beside the former file changes the content of the new one."""

import shutil
import sqlite3

import geopandas as gpd
import pytest
import shapely

from geoxt import storage
from geoxt.errors import OutputError
from geoxt.writers.vector import to_vector


def frame_of(count, crs="EPSG:32632", offset=0):
    points = [shapely.Point(offset + n, n) for n in range(count)]
    return gpd.GeoDataFrame({"code": range(count)}, geometry=points, crs=crs)


def test_changes_of_a_killed_process_are_not_applied_to_a_new_geopackage(tmp_path):
    path, wal = tmp_path / "map.gpkg", tmp_path / "map.gpkg-wal"
    frame_of(30).to_file(path, engine="pyogrio")
    connection = sqlite3.connect(path)
    connection.execute("pragma journal_mode=wal")
    connection.execute("create table former(x)")
    connection.commit()
    for file in (path, wal):  # as they are after kill -9
        shutil.copy(file, tmp_path / f"kept-{file.name}")
    connection.close()
    wal.unlink(missing_ok=True)
    for file in (path, wal):
        shutil.move(tmp_path / f"kept-{file.name}", file)
    to_vector(frame_of(70), path)
    assert len(gpd.read_file(path)) == 70
    connection = sqlite3.connect(path)
    assert not connection.execute("select * from sqlite_master where name = 'former'").fetchall()
    connection.close()


def test_failed_replacement_keeps_the_journal_of_the_former_geopackage(tmp_path, monkeypatch):
    path, wal = tmp_path / "map.gpkg", tmp_path / "map.gpkg-wal"
    path.write_bytes(b"former")
    wal.write_bytes(b"changes")

    def full(*_):
        assert not wal.exists()  # SQLite would apply it to the new file
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "replace", full)
    with pytest.raises(OutputError, match="No space left"):
        to_vector(frame_of(3), path)
    assert (path.read_bytes(), wal.read_bytes()) == (b"former", b"changes")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["map.gpkg", "map.gpkg-wal"]


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_a_new_shapefile_has_neither_index_nor_crs_of_the_former_one(tmp_path):
    path = tmp_path / "map.shp"
    frame_of(300).to_file(path, engine="pyogrio", SPATIAL_INDEX="YES")
    assert {".qix", ".prj"} <= {file.suffix for file in tmp_path.iterdir()}
    to_vector(frame_of(300, crs=None, offset=5000), path)
    assert gpd.read_file(path).crs is None
    assert len(gpd.read_file(path, bbox=(5100, 90, 5110, 200))) == 11
