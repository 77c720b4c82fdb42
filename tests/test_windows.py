"""Windows against boolean arrays of their pixels: intersection, shift, padding, slices; invalid sizes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoxt.errors import InputError
from geoxt.windows import Window, parse_size

SIDE = 24
some_windows = st.builds(
    Window, st.integers(-8, 12), st.integers(-8, 12), st.integers(1, 12), st.integers(1, 12), st.none()
)


def pixels(window):
    """Return the pixels of a window as True in an array that extends beyond it on every side."""
    board = np.zeros((4 * SIDE, 4 * SIDE), bool)
    bottom, right = window.stop
    board[window.row + SIDE : bottom + SIDE, window.col + SIDE : right + SIDE] = True
    return board


@given(some_windows, some_windows)
def test_intersection_is_the_common_pixels(a, b):
    shared = a.intersect(b)
    both = pixels(a) & pixels(b)
    assert both.any() == (shared is not None)
    assert shared is None or np.array_equal(pixels(shared), both)
    assert a.contains(b) == (not (pixels(b) & ~pixels(a)).any())


@given(some_windows, st.integers(-9, 9), st.integers(-9, 9))
def test_shift_moves_every_pixel(window, rows, cols):
    assert np.array_equal(pixels(window.shift(rows, cols)), np.roll(pixels(window), (rows, cols), (0, 1)))


@given(some_windows, st.integers(0, 5))
def test_padding_is_undone_by_negative_padding(window, count):
    grown = window.pad(count)
    assert grown.contains(window)
    assert grown.shape == (window.height + 2 * count, window.width + 2 * count)
    assert grown.pad(-count) == window


@given(some_windows)
def test_within_slices_the_array_of_another_window(window):
    outer = Window(-8, -8, 40, 40)
    rows, cols = np.mgrid[-8:32, -8:32]
    cut = window.within(outer)
    assert rows[cut][0, 0] == window.row
    assert cols[cut][0, 0] == window.col
    assert rows[cut].shape == window.shape


def test_time_steps_and_node_stay_with_a_window():
    window = Window(0, 0, 4, 4, (2, 0), "west")
    moved = (window.shift(1, 1), window.pad(1), window.intersect(Window(1, 1, 9, 9)))
    assert {(w.time, w.node) for w in moved} == {((2, 0), "west")}


def test_windows_hash_and_sort_by_value():
    assert len({Window(0, 1, 2, 3), Window(0, 1, 2, 3), Window(0, 1, 2, 4)}) == 2
    assert min(Window(1, 0, 2, 2), Window(0, 5, 2, 2)).row == 0


@pytest.mark.parametrize("size", [(0, 3), (3, 0), (-1, 1)])
def test_empty_window_raises(size):
    with pytest.raises(InputError, match=rf"window of {size[0]} x {size[1]} pixels.*Pass a height"):
        Window(0, 0, *size)


def test_size_is_one_number_or_a_pair():
    assert parse_size(3) == (3, 3)
    assert parse_size((3, 4)) == (3, 4)
    assert parse_size(np.int64(3)) == (3, 3)


@pytest.mark.parametrize("size", [0, -2, (3, 0), (2.5, 3)])
def test_size_must_be_whole_pixels(size):
    with pytest.raises(InputError, match=r"Cannot use stride=.*Pass stride= whole pixels"):
        parse_size(size, argument="stride")
