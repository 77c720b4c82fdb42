"""Separate processes for servers on loopback: GDAL may hold Python's lock while it waits for an answer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 300
"""Seconds that a server has to start."""


@contextmanager
def start(module: str, *arguments: str) -> Iterator[str]:
    """Run a module of this package that prints its address; give the address."""
    command = [sys.executable, "-m", module, *arguments]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@contextmanager
def serve(command: list[str], url: str) -> Iterator[str]:
    """Run a server from when it takes connections; give its address."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait(process, url)
            yield url
        finally:
            process.terminate()


def free_port() -> int:
    """Return the number of a port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    msg = f"Cannot reach the server {process.args!r} at {url}. Is it installed, and the port free?"
    raise ConnectionError(msg)
