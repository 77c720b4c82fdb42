"""Separate processes: servers on loopback, as GDAL may hold Python's lock while it waits, and other interpreters."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

PATIENCE = 300
"""Seconds that a server has to start, and that code has to run."""
HASH_SEED = "5"
LOADED = [
    "distributed",
    "geoxt.inference",
    "geoxt.layers",
    "geoxt.bridge",
    "geoxt.writers",
    "geoxt.datasets",
    "geoxt.trainers",
]
"""Modules that the server of new processes imports once."""


class Finished(NamedTuple):
    """Exit code and output of a process."""

    returncode: int | None
    stdout: str
    stderr: str


def run_code(code: str, *arguments: str, env: Mapping[str, str] | None = None) -> Finished:
    """Run Python code in another process, with `sys.argv[1:]` of the arguments, and return its output.

    The process is forked from a server that has another hash seed and no state of the caller, and that has imported
    geoxt: a new interpreter would take seconds to import it.
    """
    with tempfile.TemporaryDirectory() as folder:
        process = start_code(code, *arguments, output=Path(folder), env=env)
        process.join(PATIENCE)
        return Finished(process.exitcode, *((Path(folder) / name).read_text() for name in ("stdout", "stderr")))


def load_server() -> ForkServerContext:
    """Return the context whose processes start from a server that has imported geoxt."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)  # without effect once the server runs
    return context


def start_code(code: str, *arguments: str, output: Path, env: Mapping[str, str] | None = None) -> BaseProcess:
    """Start Python code as `run_code` does; the files "stdout" and "stderr" in a folder hold its output."""
    context = load_server()
    variables = dict(os.environ if env is None else env)
    process = context.Process(target=_execute, args=(code, arguments, str(output), variables))
    with patch.dict(os.environ, PYTHONHASHSEED=HASH_SEED):  # of the server, which the first process starts
        process.start()
    return process


def _execute(code: str, arguments: tuple[str, ...], output: str, env: dict[str, str]) -> None:
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{output}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    sys.stdout, sys.stderr = (os.fdopen(descriptor, "w", buffering=1, closefd=False) for descriptor in (1, 2))
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})  # noqa: S102 (code of tests)


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
