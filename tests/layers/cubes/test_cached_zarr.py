"""Remote Zarr chunks in the block cache: the same bits as without it, never those of a former version of a chunk."""

import errno
import os
import shutil
import time
import warnings

import numpy as np
import pytest
from support.processes import start_code
from support.servers import FileServer, VersionedFileServer

import geoxt
from geoxt.cli.caching import cache_info
from geoxt.errors import GeoxtWarning, InputError
from geoxt.pixels import cached_blocks, cached_chunks, object_versions, zarr_array
from geoxt.pixels.block_cache import BlockCache, entries_of
from geoxt.source import view_of
from geoxt.testing import distinct
from geoxt.windows import Window

from .test_open_zarr import write_store
from .test_stac_zarr import band, make_item, write_product

zarr = pytest.importorskip("zarr")
pytest.importorskip("obstore")
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "preadv"), reason="the cache needs positioned reads"),
    pytest.mark.filterwarnings("ignore:Consolidated metadata"),
]

FULL = Window(0, 0, 60, 70)
KINDS = {
    "version 3": (("band", "y", "x"), {"chunks": (1, 30, 35)}),
    "version 2": (("band", "y", "x"), {"chunks": (1, 30, 35), "zarr_format": 2}),
    "chunks of two bands": (("band", "y", "x"), {"chunks": (2, 32, 40)}),
    "bands last": (("y", "x", "band"), {"chunks": (32, 40, 3)}),
    "shards": (("band", "y", "x"), {"chunks": (1, 16, 20), "shards": (1, 32, 40)}),
    "shards of all bands": (("band", "y", "x"), {"chunks": (1, 16, 20), "shards": (3, 32, 40)}),
}


class Server(VersionedFileServer):
    """Records the status of each response for a chunk or shard."""

    def __init__(self, folder):
        super().__init__(folder)
        self.log, self.sent = [], []

    async def answer(self, request):
        answer = await super().answer(request)
        if request.method == "GET" and answer.status == 200:
            self.sent.append(request.path)
        if "/b/" in request.path and not request.path.split("?")[0].endswith((".json", ".zarray", ".zattrs")):
            self.log.append(answer.status)
        return answer

    def take(self):
        """Return the recorded statuses, and clear them."""
        taken, self.log, self.sent = sorted(self.log), [], []
        return taken


class WithoutETag(Server):
    """States modification times only."""

    def _headers(self, path):
        return {"last-modified": super()._headers(path)["last-modified"]}


class WithoutVersion(Server):
    """States neither an ETag nor a modification time."""

    def _headers(self, path):
        return FileServer._headers(self, path)


class Store:
    """A store behind a server, and its cache."""

    def __init__(self, folder, server=Server):
        self.folder, self.cache, self.server = folder, folder / "cache", server(folder)

    def write(self, kind="version 3", seed=0, **options):
        dims, stored = KINDS[kind]
        self.values = distinct((3, 60, 70), "uint16") + np.uint16(7 * seed)
        self.values[:, :32, :40] = 0  # the fill value: chunks that are not written
        values = np.moveaxis(self.values, 0, dims.index("band"))
        shutil.rmtree(self.folder / "a.zarr", ignore_errors=True)
        write_store(self.folder / "a.zarr", {"b": (dims, values, {})}, fill_value=0, **stored, **options)
        zarr.consolidate_metadata(str(self.folder / "a.zarr"))
        for path in self.folder.glob("a.zarr/**/*"):
            os.utime(path, (1e9 + seed, 1e9 + seed))

    def open(self, **options):
        """Open the layer as a new process does: no chunk is in memory, and no version is known."""
        return geoxt.open_zarr(f"{self.server.url}/a.zarr", **{"cache": self.cache, **options})

    def read(self, layer, window=FULL, bands=slice(None)):
        values = view_of(layer.isel(band=bands)).read(window)[0]
        part = self.values[bands, window.row : window.stop[0], window.col : window.stop[1]]
        assert values.dtype == part.dtype
        assert np.array_equal(values.reshape(part.shape), part)


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(object_versions, "_warned", set())
    made = Store(tmp_path)
    with made.server:
        yield made


@pytest.mark.parametrize("kind", KINDS)
def test_cold_warm_and_half_filled_cache_equal_the_array(store, kind):
    store.write(kind)
    rng = np.random.default_rng(1)
    layer = store.open()
    for n in range(8):  # the first windows find an empty cache, the last a full one
        top, left = int(rng.integers(0, 59)), int(rng.integers(0, 69))
        window = Window(top, left, int(rng.integers(1, 61 - top)), int(rng.integers(1, 71 - left)))
        layer = layer if n % 4 else store.open()
        store.read(layer, window, rng.permutation(3)[: rng.integers(1, 4)].tolist())
    (entry,) = entries_of(store.cache)
    assert entry.source == f"{store.server.url}/a.zarr/b"
    assert entry.source in cache_info(str(store.cache))


@pytest.mark.parametrize("kind", ["version 3", "bands last", "shards of all bands"])
def test_each_object_is_compared_once_per_opening_and_read_again_if_it_changed(store, kind):
    store.write(kind)
    store.read(store.open())
    missing = store.server.take().count(404)
    files = [path for path in store.folder.glob("a.zarr/b/**/*") if path.is_file() and path.suffix != ".json"]
    files = [path for path in files if not path.name.startswith(".z")]
    layer = store.open()
    for _ in range(2):
        store.read(layer)
        assert store.server.take() in ([304] * len(files) + [404] * missing, [])
    assert missing
    store.write(kind, seed=1)
    store.read(store.open())
    assert 304 not in store.server.take()
    changed = files[-1]
    os.utime(changed, (2e9, 2e9))  # another version of one object
    store.read(store.open())
    assert store.server.take().count(304) == len(files) - 1


def test_stored_chunks_are_read_without_a_request_or_decoding(store, monkeypatch):
    store.write()
    layer = store.open()
    store.read(layer)
    store.server.take()
    zarr_array.chunk_cache().drop(lambda key: True)
    monkeypatch.setattr(zarr_array, "read_planes", None)
    store.read(layer, Window(3, 5, 40, 60))
    assert store.server.take() == []


def test_chunks_that_appear_and_disappear(store):
    store.write()
    store.read(store.open())
    chunk = store.folder / "a.zarr/b/c/0/0/1"
    file, content = chunk.read_bytes(), store.values[0, :30, 35:].copy()
    chunk.unlink()
    store.values[0, :30, 35:] = 0
    store.read(store.open())
    (store.folder / "a.zarr/b/c/0/0/0").write_bytes(file)
    os.utime(store.folder / "a.zarr/b/c/0/0/0", (1e9, 1e9))
    store.values[0, :30, :35] = content
    for _ in range(2):
        store.read(store.open())


def test_a_shard_replaced_between_two_requests_is_read_again(store, monkeypatch):
    store.write("shards")
    layer = store.open()
    read = cached_chunks.read_chunks

    def replace(*arguments):
        result = read(*arguments)
        if not store.server.replaced:
            store.server.replaced = True
            store.write("shards", seed=3)
            read(*arguments)  # of another version than the first
        return result

    store.server.replaced = False
    monkeypatch.setattr(cached_chunks, "read_chunks", replace)
    view_of(layer).read(Window(0, 40, 8, 12))
    store.read(layer, Window(32, 0, 28, 70))
    store.read(store.open())


def test_another_layer_with_the_former_version_reads_whole_chunks(store):
    store.write()
    former = store.open()
    store.read(former)
    opened = list(zarr_array._open_arrays.values())[-1]
    store.write(seed=5)
    store.read(store.open())  # replaces the chunks in the entry
    assert opened.read_stored([1, 2, 3], FULL) is None
    assert np.array_equal(opened.read([1, 2, 3], FULL), store.values)


@pytest.mark.parametrize("damage", ["header", "truncated", "versions", "lost pages"])
def test_a_damaged_entry_is_dropped(store, damage, monkeypatch):
    store.write()
    store.read(store.open())
    (entry,) = [entry.path for entry in entries_of(store.cache)]
    content = bytearray(entry.read_bytes())
    if damage == "header":
        content[60] ^= 1
    elif damage == "versions":
        content[-12 * 256 :: 256] = bytes(12)
    elif damage == "lost pages":  # a crash of the system
        content[12_000:30_000] = bytes(18_000)
        monkeypatch.setattr(cached_blocks, "boot", lambda: "another")
    else:
        content = content[: len(content) // 2]
    entry.write_bytes(content)
    for _ in range(2):
        store.read(store.open())


def test_a_killed_process_leaves_no_block_of_another_version(store, monkeypatch):
    store.write("shards")
    store.read(store.open())
    write = cached_chunks.write_all

    class Killed(BaseException):
        pass

    for n in range(1, 38, 18):
        count = iter(range(n))

        def die(*arguments, count=count):
            if next(count, None) is None:
                raise Killed
            write(*arguments)

        store.write("shards", seed=n)
        monkeypatch.setattr(cached_chunks, "write_all", die)
        with pytest.raises(Killed):
            store.read(store.open(), Window(0, 40, 32, 30))
        monkeypatch.setattr(cached_chunks, "write_all", write)
        store.read(store.open())


def test_a_full_disk_reads_on_without_the_cache_and_warns_once(store, monkeypatch):
    store.write()

    def pwrite(descriptor, data, offset):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cached_blocks.os, "pwrite", pwrite)
    layer = store.open()
    with pytest.warns(GeoxtWarning, match="No space left on device"):
        store.read(layer)
    store.read(store.open(), Window(3, 5, 40, 60))  # a second warning would raise


def test_an_array_larger_than_any_file_is_read_without_the_cache(store, monkeypatch):
    store.write()

    def too_large(*arguments):
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr(cached_blocks, "_create_entry", too_large)
    layer = store.open()
    with pytest.warns(GeoxtWarning, match="a file of .* TB"):
        store.read(layer, Window(0, 0, 10, 10))
    store.read(layer)  # a second warning would raise
    assert cached_blocks.budget_of(BlockCache(str(store.cache))).enabled


def test_the_limit_holds(store):
    store.write()
    for _ in range(2):
        store.read(store.open(cache=f"{store.cache}:30kB"))
    assert sum(entry.size for entry in entries_of(store.cache)) <= 30_000


def test_an_entry_removed_by_another_process_is_made_again(store):
    store.write()
    layer = store.open()
    store.read(layer, Window(0, 0, 60, 24))
    shutil.rmtree(store.cache)
    store.read(layer)
    assert len(list(entries_of(store.cache))) == 1


@pytest.mark.parametrize(("server", "cached"), [(WithoutETag, True), (WithoutVersion, False)])
def test_servers_without_etags(tmp_path, monkeypatch, server, cached):
    monkeypatch.setattr(object_versions, "_warned", set())
    store = Store(tmp_path, server)
    with store.server, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for seed in (0, 0, 1):
            store.write(seed=seed)
            store.server.take()
            store.read(store.open())
        store.server.take()
        store.read(store.open())
    sent = sum("a.zarr/b/c" in path for path in store.server.sent)
    assert sent == (0 if cached else 9)
    assert len([w for w in caught if "neither an ETag" in str(w.message)]) == (not cached)


def test_objects_of_the_last_minute_are_not_stored(store):
    store.write()
    now = time.time()
    for path in store.folder.glob("a.zarr/b/**/*"):
        os.utime(path, (now, now))  # a file server's ETag may be of whole seconds
    for _ in range(2):
        store.read(store.open())
    assert 304 not in store.server.take()


def test_stores_of_fsspec_warn_once_and_local_ones_have_no_cache(store):
    pytest.importorskip("aiohttp")
    store.write()
    with pytest.warns(GeoxtWarning, match="without storage_options"):
        store.read(store.open(storage_options={}))
    store.read(store.open(storage_options={}))
    local = geoxt.open_zarr(store.folder / "a.zarr", cache=store.cache)
    store.read(local)
    assert not list(entries_of(store.cache))
    with pytest.raises(InputError, match="none of the layers"):
        geoxt.warm_cache(local)


def test_signatures_are_not_part_of_the_key(store):
    store.write()
    for signature in ("?sig=1", "?sig=2"):
        store.read(store.open(sign=lambda url, s=signature: url + s))
    assert store.server.take().count(304) > 0
    assert len(list(entries_of(store.cache))) == 1


def test_warm_cache_and_the_environment_variable(store, monkeypatch):
    store.write()
    monkeypatch.setenv("GEOXT_BLOCK_CACHE", str(store.cache))
    geoxt.warm_cache(store.open(cache=None), progress=False)
    store.server.take()
    store.read(store.open(cache=None))
    assert set(store.server.take()) <= {304, 404}


def test_zarr_assets_of_stac_items(store, tmp_path):
    values = write_product(tmp_path / "s2.zarr")
    zarr.consolidate_metadata(str(tmp_path / "s2.zarr"))
    for path in tmp_path.glob("s2.zarr/**/*"):
        os.utime(path, (1e9, 1e9))
    reflectance = "measurements/reflectance/r10m"
    item = make_item(f"{store.server.url}/s2.zarr", red=(f"{reflectance}/b04", band("b04")))
    for _ in range(2):
        layer = geoxt.open_stac([item], bands=["b04"], cache=store.cache, trust=True)
        assert np.array_equal(layer.values.squeeze(), values["b04"])
    assert len(list(entries_of(store.cache))) == 1


FILL = """
import sys
import numpy as np
import geoxt
from geoxt.source import view_of
from geoxt.windows import Window
url, folder, cache, seed = sys.argv[1:]
whole = np.load(folder + "/whole.npy")
rng = np.random.default_rng(int(seed))
layer = geoxt.open_zarr(url, cache=cache)
for _ in range(8):
    top, left = rng.integers(0, 40, 2).tolist()
    values = view_of(layer).read(Window(top, left, 20, 30))[0]
    assert np.array_equal(values.squeeze(), whole[:, top:top + 20, left:left + 30])
"""


def test_two_processes_fill_one_cache_and_a_third_reads_a_changed_store(store):
    store.write("shards")
    former = store.open()
    np.save(store.folder / "whole.npy", store.values)
    for seed in (0, 1):
        if seed:
            store.write("shards", seed=1)
            np.save(store.folder / "whole.npy", store.values)
        runs = []
        for n in range(2):
            output = store.folder / f"{seed}{n}"
            output.mkdir()
            arguments = f"{store.server.url}/a.zarr", str(store.folder), str(store.cache), str(n)
            runs.append(start_code(FILL, *arguments, output=output))
        for run in runs:
            run.join()
        assert [run.exitcode for run in runs] == [0, 0], (store.folder / f"{seed}0/stderr").read_text()
    store.read(former)
    assert len(list(entries_of(store.cache))) == 1
