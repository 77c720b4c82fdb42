"""Servers on loopback for tests: files with ranges (nginx if installed, else `FileServer`), S3 (moto)."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from urllib.request import Request as Call
from urllib.request import urlopen

from support.processes import PATIENCE, free_port, serve, start
from support.wire import Answer, Loopback, Request

__all__ = ["Bucket", "FileServer", "has_moto", "serve_files", "serve_s3"]

NGINX = """
daemon off; worker_processes 1; pid {home}/pid; error_log {home}/errors crit;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 100000; sendfile on; tcp_nodelay on;
  client_body_temp_path {home}/a; proxy_temp_path {home}/b; fastcgi_temp_path {home}/c; uwsgi_temp_path {home}/d;
  scgi_temp_path {home}/e;
  server {{ listen 127.0.0.1:{port}; location / {{ root {folder}; }} }}
}}
"""


class FileServer(Loopback):
    """Serves the files of a folder, with range requests (RFC 9110, section 14), in a thread of this process.

    Parameters
    ----------
    folder
        Root of the paths.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self._folder = Path(folder).resolve()

    async def answer(self, request: Request) -> Answer | None:
        """Return a file, or the requested range of it."""
        path = (self._folder / unquote(request.path.split("?", 1)[0]).lstrip("/")).resolve()
        if request.method not in {"GET", "HEAD"}:
            return Answer(status=405)
        if not path.is_relative_to(self._folder) or not path.is_file():
            return Answer(status=404, body=b"not found")
        size = path.stat().st_size
        if request.suffix is not None:
            first, last = max(size - request.suffix, 0), None
        elif request.range is not None:
            first, last = request.range
        else:
            return self._full_answer(request, path, await asyncio.to_thread(path.read_bytes))
        if first >= size:
            return Answer(status=416, headers={"content-range": f"bytes */{size}"})
        part = await asyncio.to_thread(_read_part, path, first, size if last is None else last + 1)
        where = f"bytes {first}-{first + len(part) - 1}/{size}"
        headers = {"content-range": where, "accept-ranges": "bytes", **self._headers(path)}
        return Answer(status=206, headers=headers, body=part)

    def _headers(self, path: Path) -> dict[str, str]:
        """Return further headers of a file; none."""
        del path
        return {}

    def _full_answer(self, request: Request, path: Path, content: bytes) -> Answer:
        headers = {"accept-ranges": "bytes", "content-length": str(len(content)), **self._headers(path)}
        return Answer(status=200, headers=headers, body=b"" if request.method == "HEAD" else content)


def _read_part(path: Path, start: int, stop: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(stop - start)


class VersionedFileServer(FileServer):
    """A `FileServer` with modification times, ETags and conditional requests (RFC 9110), as servers of rasters have."""

    async def answer(self, request: Request) -> Answer | None:
        """Return 412, or 304, for a file that does not fulfil the condition of a request."""
        path = self._folder / request.path.split("?")[0].strip("/")
        if path.is_file() and request.headers.get("if-none-match", "") == self._headers(path).get("etag"):
            return Answer(status=304, headers=self._headers(path))
        etag, since = request.headers.get("if-match"), request.headers.get("if-unmodified-since")
        if path.is_file() and (etag or since):
            changed = since is not None and parsedate_to_datetime(since).timestamp() < int(path.stat().st_mtime)
            if changed or etag not in {None, self._headers(path)["etag"]}:
                return Answer(status=412)
        return await super().answer(request)

    def _headers(self, path: Path) -> dict[str, str]:
        stat = path.stat()
        etag = f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'
        return {"last-modified": formatdate(stat.st_mtime, usegmt=True), "etag": etag}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """An empty bucket of an S3 server."""

    url: str
    """Address of the server."""
    name: str = "rasters"
    """Name of the bucket."""
    settings: Mapping[str, str] = field(repr=False)
    """GDAL's configuration options for it, credentials among them."""

    def put(self, path: str | Path, key: str) -> str:
        """Store a file; return its "s3://" address."""
        _call(f"{self.url}/{self.name}/{key}", Path(path).read_bytes())
        return f"s3://{self.name}/{key}"

    def client(self) -> Any:
        """Return a client of boto3, which may replace files."""
        keys = {f"aws_{name}": self.settings[f"AWS_{name.upper()}"] for name in ("access_key_id", "secret_access_key")}
        boto3: Any = importlib.import_module("boto3")
        return boto3.client("s3", endpoint_url=self.url, region_name=self.settings["AWS_REGION"], **keys)

    def through(self, url: str) -> dict[str, str]:
        """Return the settings for the same bucket behind a proxy."""
        return {**self.settings, "AWS_S3_ENDPOINT": url.removeprefix("http://")}


@contextmanager
def serve_files(folder: str | Path, *, nginx: bool | None = None) -> Iterator[str]:
    """Serve a folder by HTTP with range requests; give the address.

    Parameters
    ----------
    folder
        Its files.
    nginx
        Whether by nginx or by `VersionedFileServer`, in a separate process; by default nginx if installed.
    """
    executable = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if nginx is False or (nginx is None and executable is None):
        with start(__name__, str(folder)) as url:
            yield url
        return
    if executable is None:
        msg = "Cannot serve by nginx: it is not on the path. Install it, or pass nginx=False."
        raise FileNotFoundError(msg)
    with tempfile.TemporaryDirectory() as home:
        port, config = free_port(), Path(home) / "nginx.conf"
        config.write_text(NGINX.format(home=home, port=port, folder=Path(folder).resolve()), encoding="utf-8")
        command = [executable, "-c", str(config), "-e", f"{home}/errors"]
        if os.getuid() == 0:
            command += ["-g", "user root;"]  # else its workers could not read the caller's folders
        with serve(command, f"http://127.0.0.1:{port}") as url:
            yield url


@contextmanager
def serve_s3(name: str = "rasters") -> Iterator[Bucket]:
    """Serve one empty bucket by moto, in a separate process."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with serve(command, f"http://127.0.0.1:{port}") as url:
        _call(f"{url}/{name}", b"")
        settings = {
            "AWS_S3_ENDPOINT": f"127.0.0.1:{port}", "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE",
            "AWS_ACCESS_KEY_ID": "testing-key", "AWS_SECRET_ACCESS_KEY": "testing-secret",
            "AWS_REGION": "us-east-1",
        }  # fmt: skip
        yield Bucket(url=url, name=name, settings=settings)


def has_moto() -> bool:
    """Whether moto's server is installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("moto", "flask"))


def _call(url: str, body: bytes) -> None:
    call = Call(url, data=body, method="PUT", headers={"content-type": "application/octet-stream"})  # noqa: S310
    with urlopen(call, timeout=PATIENCE) as answer:  # noqa: S310 (loopback alone)
        answer.read()


def main() -> None:
    """Serve a folder until the process is ended; the address is printed first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    VersionedFileServer(parser.parse_args().folder).run()


if __name__ == "__main__":
    main()
