"""Thresholds of malloc: set once, left alone where the user states others, and freed tensors are used again."""

import ctypes
import os
import platform

import pytest
from support.processes import run_code

from geoxt.bridge.malloc import keep_freed_memory


@pytest.fixture
def mallopt(monkeypatch):
    calls = []

    class Library:
        def __init__(self, name):
            self.mallopt = lambda number, value: calls.append((number, value)) or 1

    for name in [name for name in os.environ if name.startswith(("GLIBC_TUNABLES", "MALLOC_", "GEOXT_MALLOPT"))]:
        monkeypatch.delenv(name)  # dask's workers set MALLOC_TRIM_THRESHOLD_ in the process that starts them
    monkeypatch.setattr(ctypes, "CDLL", Library)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    keep_freed_memory.cache_clear()
    yield calls
    keep_freed_memory.cache_clear()


def test_thresholds_are_set_once(mallopt):
    assert keep_freed_memory()
    assert keep_freed_memory()
    assert mallopt == [(-4, 0), (-1, 2**31 - 1), (-8, 1)]


@pytest.mark.parametrize("name", ["GLIBC_TUNABLES", "MALLOC_ARENA_MAX", "GEOXT_MALLOPT"])
def test_settings_of_the_user_hold(mallopt, monkeypatch, name):
    monkeypatch.setenv(name, "0")
    assert not keep_freed_memory()
    assert mallopt == []


def test_other_c_libraries_are_unchanged(mallopt, monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
    assert mallopt == []


RUN = """
import resource, threading, torch
from geoxt.bridge.malloc import in_main_heap, keep_freed_memory, start_in_main_heap

release, ready, heaps = threading.Event(), threading.Barrier(4), []
for _ in range(3):  # threads with heaps of their own
    threading.Thread(target=lambda: (bytearray(2**20), ready.wait(), release.wait()), daemon=True).start()
ready.wait()

def start_thread():
    allocated = threading.Event()
    target = lambda: (heaps.append(in_main_heap()), allocated.set(), release.wait())
    threading.Thread(target=target, daemon=True).start()
    allocated.wait()

print(keep_freed_memory())
start_in_main_heap(start_thread, 3)
print(sum(heaps))
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(40 * 2**20, dtype=torch.uint8)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_threads_share_the_main_heap_and_freed_tensors_are_used_again_without_page_faults():
    run = run_code(RUN)  # in its own process: threads that ran before may have divided the heap
    assert run.returncode == 0, run.stderr
    is_set, threads_in_main_heap, *faults = run.stdout.split()
    if is_set != "True":
        pytest.skip("the C library is not glibc, or the environment states thresholds")
    assert threads_in_main_heap == "3"
    assert min(map(int, faults[1:])) < 1000  # of 10,240 pages
