"""Sources as dask arrays: indexing as in NumPy, deterministic tokens, tasks of constant size, and selections."""

import pickle
import sys

import dask
import dask.array
import numpy as np
import pytest
from dask.base import tokenize
from hypothesis import given
from hypothesis import strategies as st
from support.processes import run_code

from geoxt.layers import open_cogs
from geoxt.source import ArraySource, Mosaic
from geoxt.source.dask_source import SourceArray, find_selection, to_dask
from geoxt.testing import distinct, make_grid
from geoxt.windows import Window

SHAPE = (2, 3, 20, 30)
VALUES = distinct(SHAPE, "int32")
SOURCE = ArraySource(array=VALUES, array_grid=make_grid((20, 30)), grid=make_grid((20, 30)))


def indexers(length):
    """Draw an indexer of one axis: an integer, a slice with any step, or an array of positions."""
    positions = st.integers(0, length - 1)
    return st.one_of(
        positions,
        st.slices(length),
        st.lists(positions, min_size=1, max_size=length, unique=True).map(np.array),
    )


def expected(keys, axes=(0, 1, 2, 3)):
    """Return the values under NumPy orthogonal indexing."""
    values = VALUES if len(axes) == 4 else VALUES[0, 0]
    for axis, key in reversed(list(enumerate(keys))):
        values = values[(slice(None),) * axis + (key,)]
    return values


@given(st.tuples(*map(indexers, SHAPE)))
def test_source_is_indexed_like_numpy(keys):
    assert np.array_equal(SourceArray(SOURCE, (0, 1, 2, 3))[keys], expected(keys))


@given(st.tuples(*map(indexers, SHAPE)))
def test_selection_found_in_a_graph_equals_compute(keys):
    array = to_dask(SOURCE, axes=(0, 1, 2, 3), chunks=(1, -1, 7, 11))
    for axis, key in reversed(list(enumerate(keys))):
        array = array[(slice(None),) * axis + (key,)]
    assert np.array_equal(array.compute(scheduler="synchronous"), expected(keys))
    selection = find_selection(array)
    if selection is None:
        return
    values, _ = SOURCE.read(selection.window, times=selection.times, bands=selection.bands)
    dims = tuple(slice(None) if a in selection.axes else 0 for a in range(4))
    assert np.array_equal(values[dims], expected(keys))


@given(st.data())
def test_selection_is_found_in_nested_slices(data):
    array = to_dask(SOURCE, axes=(0, 1, 2, 3), chunks=(1, -1, 7, 11))
    for _ in range(data.draw(st.integers(1, 4))):
        rows, cols = array.shape[2:]
        row, col = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, cols - 1))
        array = array[:, :, row : data.draw(st.integers(row + 1, rows)), col : data.draw(st.integers(col + 1, cols))]
    selection = find_selection(array)
    assert selection is not None
    assert selection.window.shape == array.shape[2:]
    values, _ = SOURCE.read(selection.window, times=selection.times, bands=selection.bands)
    assert np.array_equal(values, array.compute(scheduler="synchronous"))


OPERATIONS = {
    "arithmetic": lambda a: a + 0,
    "negation": lambda a: -a,
    "astype": lambda a: a.astype("float32"),
    "where": lambda a: dask.array.where(a > 5, a, 0),
    "concatenate": lambda a: dask.array.concatenate([a, a], axis=1),
    "stack": lambda a: dask.array.stack([a, a], axis=1)[:, 0],
    "map_blocks": lambda a: a.map_blocks(lambda b: b * 2, dtype=a.dtype),
    "map_blocks named getitem": lambda a: a.map_blocks(lambda b: b * 2, dtype=a.dtype, name="getitem-disguise"),
    "a mask": lambda a: a[:, :, np.arange(20) % 2 == 0],
    "reversed": lambda a: a[:, :, ::-1],
    "steps": lambda a: a[:, :, :, ::2],
    "repeated rows": lambda a: a[:, :, [3, 3, 4]],
    "flip": lambda a: dask.array.flip(a, 3),
    "roll": lambda a: dask.array.roll(a, 2, 3),
    "rechunk": lambda a: a.rechunk((2, 3, 5, 5)),
    "transpose": lambda a: a.transpose(1, 0, 2, 3),
    "pad": lambda a: dask.array.pad(a, 1),
    "persist": lambda a: a.persist(scheduler="synchronous"),
    "overlap": lambda a: a.map_overlap(lambda b: b, depth=1),
    "setitem": lambda a: _set(a.copy()),
    "from numpy": lambda a: dask.array.from_array(VALUES),
    "new axis": lambda a: a[:, None, 0],
}


def _set(array):
    array[:, :, 3, 4] = -1
    return array


@pytest.mark.parametrize("operation", OPERATIONS)
def test_selection_found_after_an_operation_equals_compute(operation):
    array = OPERATIONS[operation](to_dask(SOURCE, axes=(0, 1, 2, 3), chunks=(1, -1, 7, 11)))
    selection = find_selection(array)
    if selection is not None:
        values, _ = SOURCE.read(selection.window, times=selection.times, bands=selection.bands)
        assert np.array_equal(values, array.compute(scheduler="synchronous"))
    if operation not in {"rechunk", "a mask"}:
        assert selection is None


def test_numpy_array_has_no_selection():
    assert find_selection(VALUES) is None


def tasks_of(array):
    return [(key, node) for layer in array.dask.layers.values() for key, node in dict(layer).items()]


@pytest.mark.parametrize("size", [10, 100])
def test_task_size_is_independent_of_task_count(write, size):
    """One task holds only a slice; the graph holds the source once."""
    layer = open_cogs(write(distinct((100, 100)), make_grid((100, 100))), chunks=100 // size)
    array = layer.data
    sizes = [len(pickle.dumps(node)) for key, node in tasks_of(array) if not str(key).startswith("original-")]
    assert len(sizes) >= size**2 / 2
    assert max(sizes) < 2000
    roots = [node for key, node in tasks_of(array) if str(key).startswith("original-")]
    assert len(roots) == 1
    assert len(pickle.dumps(roots[0])) < 20_000


SCRIPT = """
import sys
from dask.base import tokenize
from geoxt.alignment import align
from geoxt.layers import open_cogs
from geoxt.testing import make_grid
layer = open_cogs(sys.argv[1], chunks=32)
other = align(layer, make_grid((50, 50), crs="EPSG:5070", left=349_000, top=2_017_000))
tokens = tokenize(layer.data), tokenize(other.data), other.data.name
"""


def test_tokens_are_equal_in_every_process(write, monkeypatch):
    path = write(distinct((2, 90, 90)), make_grid((90, 90)), nodata=0)
    run = run_code(SCRIPT + "print(tokens)", path)
    monkeypatch.setattr(sys, "argv", ["", path])
    namespace = {}
    exec(SCRIPT, namespace)  # noqa: S102 (the same lines in this process)
    assert run.stdout.strip() == str(namespace["tokens"])


def mosaic(path):
    return find_selection(open_cogs(path).data).source


def test_options_that_change_pixels_change_the_token(write):
    base = mosaic(write(distinct((2, 90, 90)), make_grid((90, 90)), nodata=0))
    second = mosaic(write(distinct((2, 90, 90)), make_grid((90, 90)), nodata=0))
    others = [
        second,
        base.onto(make_grid((9, 9))),
        base.onto(base.grid, resampling="nearest"),
        base.choose((0,), (1, 0)),
        base.choose((0,), (0,)),
    ]
    assert isinstance(base, Mosaic)
    assert len({tokenize(s) for s in (base, *others)}) == 6
    names = {to_dask(s, axes=(1, 2, 3), chunks=(-1, 64, 64)).name for s in (base, *others)}
    assert len(names) == 6


def test_large_arrays_that_differ_in_one_pixel_have_different_names():
    array = np.zeros((1, 1, 400, 400), "float32")
    changed = array.copy()
    changed[0, 0, 200, 200] = 1
    grid = make_grid((400, 400))
    names = {
        to_dask(ArraySource(array=a, array_grid=grid, grid=grid), axes=(2, 3), chunks=(64, 64)).name
        for a in (array, changed)
    }
    assert len(names) == 2


def test_threaded_compute_equals_the_file(write):
    path = write(distinct((2, 200, 200)), make_grid((200, 200)))
    array = open_cogs(path, chunks=32).data
    assert np.array_equal(array.compute(scheduler="threads", num_workers=4), distinct((2, 200, 200)))
    assert np.array_equal(array[:, 3:77, 50:].compute(), distinct((2, 200, 200))[:, 3:77, 50:])


def test_slice_reads_only_its_window(write, monkeypatch):
    array = open_cogs(write(distinct((1, 200, 200)), make_grid((200, 200))), chunks=100).data
    windows, real = [], Mosaic.read
    monkeypatch.setattr(Mosaic, "read", lambda self, window, **k: windows.append(window) or real(self, window, **k))
    array[:, 90:110, 20:30].compute(scheduler="synchronous")
    assert sorted(windows) == [Window(90, 20, 10, 10), Window(100, 20, 10, 10)]
