"""Credentials and signers of a layer are restored in another process, as observed by a server."""

import base64
import os
import pickle
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import methodcaller
from pathlib import Path

import numpy as np
import pytest
import rasterio
from support.processes import run_code

from geoxt.layers import open_cogs, open_stac
from geoxt.source import view_of
from geoxt.testing import distinct, make_grid, make_item
from geoxt.windows import Window

GRID = make_grid((300, 300))
VALUES = distinct((300, 300))
READ = """
import base64, pickle, sys
from geoxt.source import view_of
from geoxt.windows import Window
layer = pickle.loads(base64.b64decode(sys.argv[1]))
values, valid = view_of(layer).read(Window(10, 20, 30, 40))
assert valid.all()
print(base64.b64encode(pickle.dumps(values)).decode())
"""


class Bucket(BaseHTTPRequestHandler):
    """Minimal S3 server: whole files and ranges, for requests with a key and requester pays."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body):
        self.server.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        paid = self.headers.get("x-amz-request-payer") == "requester" and "AKTEST" in str(self.headers["Authorization"])
        content = Path(self.server.file).read_bytes() if paid and self.path == "/bucket/scene.tif" else None
        first, last = 0, len(content or b"") - 1
        status = 403 if not paid else 404 if content is None else 200
        if content is not None and self.headers.get("Range"):
            low, high = self.headers["Range"].removeprefix("bytes=").split("-")
            first, last, status = int(low), min(int(high), last), 206
        part = b"" if content is None else content[first : last + 1]
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if body:
            self.wfile.write(part)

    def log_message(self, *args):
        """Silence the request log."""


@pytest.fixture
def bucket(write):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    server.requests, server.file = [], write(VALUES, GRID, nodata=0, tiled=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def read_in_subprocess(layer):
    """Return a window read by a new process from a pickle of the layer."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "GDAL_"))}
    text = base64.b64encode(pickle.dumps(layer)).decode()
    process = run_code(READ, text, env=environment)
    assert process.returncode == 0, process.stderr
    return pickle.loads(base64.b64decode(process.stdout))


def test_requester_pays_and_keys_reach_a_worker(bucket):
    host = f"127.0.0.1:{bucket.server_port}"
    keys = {"AWS_ACCESS_KEY_ID": "AKTEST", "AWS_SECRET_ACCESS_KEY": "xyz"}
    options = {"AWS_S3_ENDPOINT": host, "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "NO", "AWS_REGION": "us-east-1"}
    options |= {
        "AWS_REQUEST_PAYER": "requester",
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_HTTP_MAX_RETRY": "0",
    }
    with rasterio.Env(**options):
        layer = open_cogs("s3://bucket/scene.tif", env=keys)
    opened = len(bucket.requests)
    assert opened
    expected = view_of(layer).read(Window(10, 20, 30, 40))[0]  # outside of the rasterio.Env of opening
    assert np.array_equal(expected[0, 0], VALUES[10:40, 20:60])
    bucket.requests.clear()
    assert np.array_equal(read_in_subprocess(layer), expected)
    assert bucket.requests
    for path, sent in bucket.requests:
        assert path.startswith("/bucket/")
        assert sent["x-amz-request-payer"] == "requester"
        assert "Credential=AKTEST/" in sent["authorization"]
        assert "xyz" not in str(sent)


def test_signer_reaches_a_worker(write):
    path = write(VALUES, GRID, nodata=0)
    item = make_item("one", {"b": path}, time=datetime(2022, 5, 17, tzinfo=UTC))
    item.assets["b"].href = path.replace("raster.tif", "unsigned-raster.tif")
    layer = open_stac(item, sign=methodcaller("replace", "unsigned-", ""), env={"GDAL_HTTP_TIMEOUT": 5})
    assert np.array_equal(read_in_subprocess(layer)[0, 0], VALUES[10:40, 20:60])
