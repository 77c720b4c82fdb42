"""Settings of all tests: loopback only, small hypothesis runs in CI, GPU tests only with a GPU, skips by reason."""

from __future__ import annotations

import gc
import importlib.metadata
import ipaddress
import os
import re
import signal
import socket
import sys
from collections import Counter
from functools import cache, lru_cache
from pathlib import Path

import hypothesis
import pytest
from hypothesis.internal.conjecture import providers

ROOT = Path(__file__).parent
LOCAL_NAMES = {"", "localhost", socket.gethostname()}
SLOW_FILES = (
    "test_typing.py",
    "inference/test_cluster.py",
    "datasets/test_conformance.py",
    "trainers/config/test_datamodules.py",
    "trainers/loop/test_resume.py",
    "trainers/loop/test_fit.py",
    "test_architecture.py",
    "source/test_time_validity.py",
    "models/test_export.py",
    "cli/test_experiment.py",
    "cli/test_cli.py",
    "tiling/test_to_tiles.py",
    "test_docs_examples.py",
    "trainers/test_selfsup.py",
    "cli/test_demo.py",
    "bridge/test_pack.py",
    "cli/test_fit.py",
    "alignment/test_align.py",
    "test_how_to.py",
    "layers/test_headers.py",
    "models/test_families.py",
)
"""Files of 6 to 11 s after the first files of the two largest units, longest first, by CPU time."""
UNITS = {
    "processes": r"support\.processes import .*(load_server|run_code|start_code)",  # a server imports geoxt in 10 s
    "trees of all datasets": r"trees\(name\)",  # 4 s to write
}
"""Groups of files with an expensive fixture in common, by a pattern of their texts."""
NETWORK_EVENTS = frozenset({"socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"})


class NetworkBlockedError(RuntimeError):
    """A test reached for the network; not an OSError, so that no retry or fallback hides it."""


def is_local(address) -> bool:
    """Whether a socket address, or a host, is on this machine."""
    host = address[0] if isinstance(address, tuple) else address
    if isinstance(host, bytes):
        host = host.decode(errors="replace")
    if not isinstance(host, str) or host in LOCAL_NAMES or host.startswith(("/", "\0")):
        return True  # no host, the name of this machine, or the path of a Unix socket
    try:
        ip = ipaddress.ip_address(host.split("%")[0])
    except ValueError:
        return False
    return ip.is_loopback or ip.is_unspecified


def block_network(event: str, args: tuple, events: frozenset[str] = NETWORK_EVENTS) -> None:
    """Raise on access to another machine (an audit hook, which forked workers inherit)."""
    if event not in events:  # an argument: globals are None when the interpreter exits
        return
    address = args[1] if event in {"socket.connect", "socket.sendto"} else args[0]
    if not is_local(address):
        msg = f"Tests use no network but loopback: {event} to {address!r}."
        raise NetworkBlockedError(msg)


def pytest_configure(config: pytest.Config) -> None:
    """Block the network: for Python by an audit hook, for GDAL and child processes by curl's proxy variables."""
    sys.addaudithook(block_network)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts commands in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)
    importlib.metadata.entry_points = lru_cache(importlib.metadata.entry_points)  # Lightning reads all for each trainer
    config.option.loadscopereorder = False  # of pytest-xdist, which puts files of few tests last, however slow
    closed = "http://127.0.0.1:9"  # the discard port: nothing listens there
    os.environ.update(dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy"), closed))
    os.environ.update(no_proxy="localhost,127.0.0.1,::1", NO_PROXY="localhost,127.0.0.1,::1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads that spin for a busy core cost ten times what they save
    os.environ.setdefault("GEOXT_CACHE", "")  # tests leave nothing in the user's cache

    # The constants of 540 modules, among which hypothesis draws 5 % of its values, take 5 s to parse in each process.
    providers._get_local_constants = lambda: providers._local_constants
    hypothesis.settings.register_profile("ci", max_examples=10, deadline=None, derandomize=True, print_blob=True)
    hypothesis.settings.register_profile("local", max_examples=10, deadline=None)  # other ones in each run
    hypothesis.settings.register_profile("deep", max_examples=1000, deadline=None)
    profile = "ci" if os.environ.get("CI") else "local"
    if not config.getoption("--hypothesis-profile", default=None):
        hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", profile))


@pytest.fixture(autouse=True, scope="session")
def cached_landscapes():
    """Generate the tables of each landscape once per process: they take a third of the time of a small world."""
    from geoxt.testing import world

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "make_land", lru_cache(4)(world.make_land))
        yield


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Leave modules and tests out of garbage collection, which would go through these millions of objects each time.

    By the threshold: a decorator of dask restores the state of `gc.isenabled` at its import, which is in collection.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(0)
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(*thresholds)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put slow files first, lest one process ends long before another, and skip `gpu` tests without a CUDA device."""
    ranks = {(ROOT / name).resolve(strict=True): rank for rank, name in enumerate(SLOW_FILES)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch  # only where a test asks for it

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@cache
def unit_of(path: Path) -> str:
    """Return the unit of tests that one worker runs: the file, or all files with an expensive fixture in common."""
    text = path.read_text(encoding="utf-8") if path.suffix == ".py" else ""
    return next((unit for unit, pattern in UNITS.items() if re.search(pattern, text)), str(path))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """Let `--dist loadfile` give all files of a unit to one worker."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit_of(config.rootpath / super()._split_scope(nodeid))

    return Scheduling(config, log)


def pytest_terminal_summary(terminalreporter) -> None:
    """Print the number of skipped tests by reason."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(str(report.longrepr[-1] if isinstance(report.longrepr, tuple) else "") for report in skipped)
    if reasons:
        terminalreporter.section(f"{reasons.total()} skipped, by reason")
    for reason, count in reasons.most_common():
        terminalreporter.line(f"{count:5d}  {reason.removeprefix('Skipped: ') or 'no reason'}")
