"""Tiles cover the scene, and blending weights sum to one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoxt.errors import InputError
from geoxt.inference.tiles import Lattice
from geoxt.windows import Window


@st.composite
def lattices(draw):
    size = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    overlap = tuple(draw(st.integers(0, length - 1)) for length in size)
    return Lattice(shape=draw(st.tuples(st.integers(1, 40), st.integers(1, 40))), size=size, overlap=overlap)


@given(lattices(), st.data())
def test_tiles_cover_the_scene_and_parts_use_the_same_tiles(lattice, data):
    rows, cols = lattice.shape
    full_map = list(lattice.touching(Window(0, 0, rows, cols)))
    covered = np.zeros((rows + lattice.size[0], cols + lattice.size[1]), int)
    for tile in full_map:
        assert tile.row >= 0
        assert tile.col >= 0
        covered[tile.row : tile.stop[0], tile.col : tile.stop[1]] += 1
    assert (covered[:rows, :cols] > 0).all()
    assert len(set(full_map)) == len(full_map)

    row, col = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, cols - 1))
    part = Window(row, col, data.draw(st.integers(1, rows - row)), data.draw(st.integers(1, cols - col)))
    assert list(lattice.touching(part)) == [tile for tile in full_map if tile.intersect(part)]


@given(lattices())
def test_tiles_exceed_only_scenes_smaller_than_a_tile(lattice):
    for tile in lattice.touching(Window(0, 0, *lattice.shape)):
        for stop, length, size in zip(tile.stop, lattice.shape, lattice.size, strict=True):
            assert stop <= max(length, size)


@pytest.mark.parametrize("blend", ["linear", "hann"])
@pytest.mark.parametrize("overlap", [0, 1, 4])
def test_linear_and_hann_weights_of_neighbours_sum_to_one(overlap, blend):
    size, step = 8, 8 - overlap
    row = Lattice(shape=(9, 9), size=(1, size), overlap=(0, overlap), blend=blend).weights()[0]
    line = np.zeros(step + size)
    line[:size] += row
    line[step:] += row
    np.testing.assert_allclose(line[overlap:-overlap] if overlap else line, 1)


@pytest.mark.parametrize("blend", ["linear", "hann", "gaussian"])
def test_weights_are_positive_symmetric_and_decrease_towards_edges(blend):
    weight = Lattice(shape=(9, 9), size=(7, 9), overlap=(6, 3), blend=blend).weights()
    assert (weight > 0).all()
    np.testing.assert_allclose(weight, weight[::-1, ::-1], rtol=1e-12)
    assert (np.diff(weight[:4], axis=0) > 0).all()
    assert (np.diff(weight[:, :5], axis=1) >= 0).all()


def test_gaussian_weights_equal_a_normal_density():
    row = Lattice(shape=(9, 9), size=(1, 8), overlap=(0, 2), blend="gaussian").weights()[0]
    offsets = np.arange(8) - 3.5
    np.testing.assert_allclose(row / row.max(), np.exp(-(offsets**2) / 2) / np.exp(-0.125))


def test_weights_without_blending_are_equal():
    assert (Lattice(shape=(9, 9), size=(2, 2), overlap=(1, 1), blend="none").weights() == 1).all()


def test_invalid_overlap_or_blend_raises():
    with pytest.raises(InputError, match="0 to size - 1"):
        Lattice(shape=(10, 10), size=(4, 4), overlap=(4, 0))
    with pytest.raises(InputError, match="Cannot blend tiles by 'cosine'"):
        Lattice(shape=(9, 9), size=(4, 4), overlap=(1, 1), blend="cosine")
