"""Number of requests: one header per file, few per window, none for sidecar files."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from support.processes import run_code

import geoxt
from geoxt.layers import open_cogs
from geoxt.pixels import remote
from geoxt.pixels.credentials import Credentials
from geoxt.source import view_of
from geoxt.windows import Window

PATIENT = dict.fromkeys(("GDAL_HTTP_CONNECTTIMEOUT", "GDAL_HTTP_TIMEOUT", "GDAL_HTTP_LOW_SPEED_TIME"), "600")
"""Timeouts that a busy machine does not reach: a request repeated after one would be counted."""


def test_header_is_read_once_for_all_threads(proxy, address, truth):
    layer = open_cogs([address("red.tif"), address("nir.tif")], env=PATIENT)
    view = view_of(layer)
    windows = [Window(r, c, 64, 64) for r in range(0, 512, 128) for c in range(0, 512, 128)]
    with ThreadPoolExecutor(8) as pool:
        patches = list(pool.map(lambda w: view.read(w)[0][0], windows))
    for window, values in zip(windows, patches, strict=True):
        assert np.array_equal(values, truth[:, *window.within(Window(0, 0, 512, 512))])
    headers = [(r.method, r.path) for r in proxy.requests if r.range is None or r.range[0] == 0]
    assert len(headers) == len(set(headers)) == 4  # size and first bytes of each of two files
    assert {path.split("?")[0] for _, path in headers} == {"/red.tif", "/nir.tif"}


def test_number_of_requests_per_window_is_bounded(proxy, address):
    view = view_of(open_cogs([address("red.tif"), address("nir.tif")]))
    proxy.forget()
    view.read(Window(200, 200, 128, 128))  # four blocks of each file, in two rows of blocks
    assert max(proxy.counts.values()) <= 2
    proxy.forget()
    view.read(Window(210, 210, 100, 100))
    assert not proxy.counts  # the same blocks are cached


def test_sidecar_files_are_not_requested(proxy, address):
    view_of(open_cogs(address("red.tif"))).read(Window(0, 0, 9, 9))
    assert set(proxy.counts) == {"/red.tif"}


def test_bands_of_a_window_are_requested_concurrently(proxy, address, monkeypatch):
    view = view_of(open_cogs([address("red.tif"), address("nir.tif")]))
    submitted = []
    real = remote.submit
    monkeypatch.setattr(remote, "submit", lambda call: submitted.append(real(call)) or submitted[-1])
    submitted_at_wait = []

    def recorded_result(self, timeout=None):
        submitted_at_wait.append(len(submitted))
        return real_result(self, timeout)

    real_result = type(real(int)).result
    monkeypatch.setattr(type(real(int)), "result", recorded_result)
    view.read(Window(0, 0, 9, 9))
    assert submitted_at_wait[0] == 2


@pytest.mark.parametrize(
    ("href", "expected"),
    [
        ("https://a.b/c.tif", True), ("/vsicurl/http://a.b/c.tif", True), ("/vsis3/a/b.tif", True), ("s3://a/b", True),
        ("gs://a/b", True), ("az://a/b", True), ("/vsizip//vsicurl/http://a.b/c.zip/d.tif", True),
        ("zip+https://a.b/c.zip!d.tif", True), ("/vsizip//data/c.zip/d.tif", False), ("/data/https/c.tif", False),
        ("data/c.tif", False), ("/vsimem/c.tif", False),
    ],
)  # fmt: skip
def test_is_remote(href, expected):
    assert remote.is_remote(href) is expected


def test_options_of_the_caller_take_precedence(monkeypatch):
    gdal_options = {}

    def record_options(address, **options):
        gdal_options.update(rasterio.env.getenv() if rasterio.env.hasenv() else {})
        return SimpleNamespace(driver="GTiff")

    monkeypatch.setattr(rasterio, "open", record_options)
    monkeypatch.setenv("GDAL_HTTP_CONNECTTIMEOUT", "3")
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="NO", GDAL_HTTP_LOW_SPEED_TIME="8"):
        Credentials(env=(("GDAL_HTTP_TIMEOUT", "4"), ("GDAL_HTTP_LOW_SPEED_TIME", "9"))).open("https://a.b/c.tif")
    assert gdal_options["GDAL_HTTP_TIMEOUT"] == "4"
    assert gdal_options["GDAL_HTTP_LOW_SPEED_TIME"] == "9"
    assert str(gdal_options["GDAL_DISABLE_READDIR_ON_OPEN"]) in {"NO", "False"}
    assert "GDAL_HTTP_CONNECTTIMEOUT" not in gdal_options  # GDAL takes it from the environment
    assert gdal_options["GDAL_INGESTED_BYTES_AT_OPEN"] == "32768"
    gdal_options.clear()
    Credentials().open("data/c.tif")
    assert "GDAL_HTTP_TIMEOUT" not in gdal_options


def test_workers_read_equal_pixels(proxy, address, truth):
    layer = open_cogs([address("red.tif"), address("nir.tif")], env={"GDAL_HTTP_USERAGENT": "geoxt-worker-test"})
    view_of(layer).read(Window(0, 0, 9, 9))  # opens connections that the workers must not share
    proxy.forget()
    windows = [Window(128 * n, 128 * n, 128, 128) for n in range(4)]
    loader = geoxt.bridge.loader(layer, windows, batch_size=1, num_workers=2, dtype="stored")
    for window, batch in zip(windows, loader, strict=True):
        assert np.array_equal(batch["image"][0].numpy(), truth[:, *window.within(Window(0, 0, 512, 512))])
    agents = {r.headers.get("user-agent") for r in proxy.requests}
    assert agents == {"geoxt-worker-test"}


def test_env_is_restored_in_another_process(proxy, address, tmp_path):
    layer = open_cogs(address("red.tif"), env={"GDAL_HTTP_USERAGENT": "geoxt-other-process"})
    (tmp_path / "layer").write_bytes(pickle.dumps(view_of(layer).source))
    proxy.forget()
    code = (
        "import pickle, sys; from geoxt.windows import Window; "
        "s = pickle.load(open(sys.argv[1], 'rb')); assert s.read(Window(0, 0, 9, 9))[1].all()"
    )
    run = run_code(code, str(tmp_path / "layer"))
    assert run.returncode == 0, run.stderr
    assert {r.headers.get("user-agent") for r in proxy.requests} == {"geoxt-other-process"}
    assert len(proxy.requests) <= 5  # two of them check the server's ranges


def test_windows_of_a_remote_layer_are_read_concurrently(proxy, address, rasters):
    served, local = open_cogs(address("red.tif")), open_cogs(rasters / "red.tif")
    assert (view_of(served).remote, view_of(local).remote) == (True, False)
    window = [Window(0, 0, 9, 9)]
    assert geoxt.bridge.to_torch(served, window)._thread_count() == remote.WINDOWS
    reads = geoxt.bridge.to_torch(served, window, threads=3)._map_reads(3)
    assert reads.__self__._max_workers == 3
