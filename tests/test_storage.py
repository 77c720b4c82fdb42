"""Cache folders and atomic writes."""

import os
import signal
import time
from pathlib import Path

import pytest
from support.processes import run_code

from geoxt.storage import atomic_write, cache_folder


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def test_cache_folder_follows_the_environment_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("GEOXT_CACHE", str(tmp_path))
    assert cache_folder("headers") == tmp_path / "headers"
    assert cache_folder() == tmp_path
    assert entries(tmp_path) == []


def test_cache_folder_defaults_to_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("GEOXT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    folder = cache_folder("headers")
    assert folder is not None
    assert folder.parts[-2:] == ("geoxt", "headers")


def test_empty_environment_variable_switches_caching_off(monkeypatch):
    monkeypatch.setenv("GEOXT_CACHE", "")
    assert cache_folder("headers") is None


@pytest.mark.parametrize("fsync", [True, False])
def test_atomic_write_replaces_a_file_at_the_end(tmp_path, fsync):
    path = tmp_path / "scores.json"
    path.write_text("old")
    with atomic_write(path, fsync=fsync) as temporary:
        temporary.write_text("new")
        assert temporary.name == path.name
        assert temporary.parent.parent == tmp_path
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert entries(tmp_path) == ["scores.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failed_write_leaves_the_previous_file(tmp_path, error):
    path = tmp_path / "scores.json"
    path.write_text("old")

    def fail():
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert entries(tmp_path) == ["scores.json"]


def test_atomic_write_moves_sidecars_before_the_file(tmp_path):
    with atomic_write(tmp_path / "map.tif") as temporary:
        temporary.write_text("pixels")
        temporary.with_name("map.tif.aux.xml").write_text("names")
    assert entries(tmp_path) == ["map.tif", "map.tif.aux.xml"]


def test_atomic_write_replaces_a_folder_that_is_not_empty(tmp_path):
    path = tmp_path / "map.zarr"
    path.mkdir()
    (path / "old").touch()
    with atomic_write(path) as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
    assert entries(tmp_path) == ["map.zarr"]
    assert entries(path) == ["new"]


def test_folder_that_cannot_be_moved_is_restored(tmp_path, monkeypatch):
    path = tmp_path / "map.zarr"
    path.mkdir()
    (path / "old").touch()
    rename = Path.rename

    def failing_rename(self, target):
        if Path(target) == path and self.name == path.name:
            raise OSError
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing_rename)
    with pytest.raises(OSError), atomic_write(path) as temporary:  # noqa: PT011 (any)
        temporary.mkdir()
    assert entries(path) == ["old"]
    assert entries(tmp_path) == ["map.zarr"]


def test_nothing_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "scores.json"):
        pass
    assert entries(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_written_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").touch()
    with atomic_write(tmp_path / "written") as temporary:
        temporary.touch()
    assert (tmp_path / "written").stat().st_mode == (tmp_path / "usual").stat().st_mode


DEAD = 2**22 + 1
"""A number above the largest of a process on Linux."""


def leftover(folder, *, name="scores.json", pid=DEAD, days=2.0, inner_days=None):
    """Return a temporary folder such as a killed `atomic_write` leaves."""
    path = folder / f".{name}-{pid}-abc_1234"
    path.mkdir()
    file = path / name
    file.write_text("half")
    then = time.time() - days * 86400
    os.utime(file, (then if inner_days is None else time.time() - inner_days * 86400,) * 2)
    os.utime(path, (then, then))
    return path


def write(path):
    with atomic_write(path, fsync=False) as temporary:
        temporary.write_text("new")


def test_stale_folders_of_killed_processes_are_removed_at_the_next_write(tmp_path):
    leftover(tmp_path)
    leftover(tmp_path, name="other.tif")
    write(tmp_path / "scores.json")
    assert entries(tmp_path) == ["scores.json"]


def test_folders_that_may_be_in_use_or_are_the_users_stay(tmp_path):
    stay = [
        leftover(tmp_path, name="recent", days=0.9),
        leftover(tmp_path, name="growing", inner_days=0.1),
        leftover(tmp_path, name="running", pid=os.getpid()),
    ]
    for name in (".my-archives", ".a-b-abcdefgh", "x-4194305-abcdefgh", ".scores.json-0123456789abcdef.parts"):
        stay.append(tmp_path / name)
        stay[-1].mkdir()
        os.utime(stay[-1], (0, 0))
    write(tmp_path / "scores.json")
    assert entries(tmp_path) == sorted(["scores.json", *(path.name for path in stay)])


def test_what_a_killed_process_leaves_is_recognized(tmp_path):
    code = (
        "import os, signal, sys\nfrom geoxt.storage import atomic_write\n"
        "with atomic_write(sys.argv[1]) as path:\n    path.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert run_code(code, str(tmp_path / "a.json")).returncode == -signal.SIGKILL
    (folder,) = tmp_path.iterdir()
    for path in (*folder.iterdir(), folder):
        os.utime(path, (0, 0))
    write(tmp_path / "b.json")
    assert entries(tmp_path) == ["b.json"]


@pytest.fixture
def versioned(tmp_path):
    """A file with two sidecars of version 1, and a function that writes version 2 with an additional sidecar."""
    for name in ("map.shp", "map.dbf", "map.shx"):
        (tmp_path / name).write_text("1")

    def write():
        with atomic_write(tmp_path / "map.shp") as temporary:
            for suffix in (".shp", ".dbf", ".shx", ".prj"):
                temporary.with_suffix(suffix).write_text("2")

    return write


def versions(folder):
    return {file.suffix: file.read_text() for file in folder.iterdir() if file.name.startswith("map.")}


def test_killed_process_leaves_no_former_file_beside_new_sidecars(versioned, tmp_path, monkeypatch):
    states, move = [], Path.replace

    def recorded(self, target):
        states.append(versions(tmp_path))
        return move(self, target)

    monkeypatch.setattr(Path, "replace", recorded)
    versioned()
    assert versions(tmp_path) == dict.fromkeys((".shp", ".dbf", ".shx", ".prj"), "2")
    assert states[0] == dict.fromkeys((".shp", ".dbf", ".shx"), "1")
    assert len(states) == 7
    assert not any(".shp" in state for state in states[1:])


@pytest.mark.parametrize("number", range(7))
def test_former_file_and_sidecars_are_restored_if_one_cannot_be_moved(versioned, tmp_path, monkeypatch, number):
    calls, move = [], Path.replace

    def failing(self, target):
        calls.append(self)
        if len(calls) == number + 1:
            raise OSError(5, "Input/output error")
        return move(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OSError, match="Input/output"):
        versioned()
    assert versions(tmp_path) == dict.fromkeys((".shp", ".dbf", ".shx"), "1")
    assert len(list(tmp_path.iterdir())) == 3
