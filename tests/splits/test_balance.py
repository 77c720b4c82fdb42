"""Balanced blocks and folds: similar fractions of every class in each part, each block in test once."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from geoxt.errors import InputError, LabelError
from geoxt.grid import coordinates, grid_of
from geoxt.splits import by_block, check, folds
from geoxt.splits.balance import apportion, balance_classes, class_rows, class_table
from geoxt.testing import make_grid
from geoxt.windows import Window


def make_labels(shape=(160, 160), seed=0):
    """Classes in patches: frequent, scattered, and one that fills few blocks."""
    rng = np.random.default_rng(seed)
    patches = rng.choice(4, (shape[0] // 16, shape[1] // 16), p=(0.6, 0.25, 0.1, 0.05))
    values = np.kron(patches, np.ones((16, 16))).astype("uint8")
    attrs = {"flag_values": np.arange(4), "_FillValue": 255}
    return xr.DataArray(values, dims=("y", "x"), coords=coordinates(make_grid(shape)), attrs=attrs, name="mask")


def class_fractions(split, layer):
    values = layer.to_numpy()
    outer = Window(0, 0, *values.shape)
    count = np.array(
        [
            sum((np.bincount(values[w.within(outer)].ravel(), minlength=4) for w in part), np.zeros(4))
            for part in split.parts.values()
        ]
    )
    return count / count.sum(0)


@pytest.mark.parametrize("seed", range(4))
def test_every_part_has_its_fraction_of_every_class(seed):
    layer = make_labels(seed=seed)
    plain, even = (by_block(layer, size=16, labels=labels, seed=seed) for labels in (None, layer))
    check(even)
    aim = np.array([[0.6], [0.2], [0.2]])
    assert [len(p) for p in even.parts.values()] == [len(p) for p in plain.parts.values()]
    assert abs(class_fractions(even, layer) - aim).max() < 0.15  # the rarest class has about five blocks
    assert ((class_fractions(even, layer) - aim) ** 2).sum() < 0.5 * (
        (class_fractions(plain, layer) - aim) ** 2
    ).sum() + 1e-3
    assert by_block(layer, size=16, labels=layer, seed=seed) == even


@given(st.integers(2, 5), st.integers(8, 40), st.integers(1, 6), st.integers(0, 99))
def test_balancing_keeps_counts_and_reduces_deviation(parts, count, classes, seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 50, (count, classes)).astype(float)
    fractions = np.full(parts, 1 / parts)
    part = rng.permutation(np.repeat(np.arange(parts), apportion(count, fractions)))
    balanced = balance_classes(counts, part, fractions, rng)
    assert np.bincount(balanced, minlength=parts).tolist() == np.bincount(part, minlength=parts).tolist()

    def deviation(parts_of_blocks):
        weight = np.c_[counts, counts.sum(1)]
        weight = weight / np.maximum(weight.sum(0), 1)
        return sum(((weight[parts_of_blocks == p].sum(0) - s) ** 2).sum() for p, s in enumerate(fractions))

    assert deviation(balanced) <= deviation(part) + 1e-9


@given(st.integers(1, 60), st.lists(st.floats(0, 1), min_size=2, max_size=5))
def test_apportioned_counts_add_up_and_are_not_zero(count, weights):
    total = sum(weights)
    if total < 0.1:
        return
    fractions = [w / total for w in weights]
    counts = apportion(count, fractions)
    if count >= sum(f > 0 for f in fractions):
        assert sum(counts) == count
        assert all((n > 0) == (f > 0) for n, f in zip(counts, fractions, strict=True))


@given(st.integers(3, 6), st.integers(0, 3), st.booleans(), st.integers(0, 9))
def test_each_block_is_in_test_once(count, buffer, even, seed):
    layer = make_labels((96, 96))
    splits = folds(layer, size=24, n_splits=count, buffer=buffer, labels=layer if even else None, seed=seed)
    assert len(splits) == count
    tests = [w for split in splits for w in split.test]
    all_blocks = {w for part in splits[0].parts.values() for w in part}
    assert len(tests) == len(set(tests)) == 16
    assert set(tests) == all_blocks
    for fold, split in enumerate(splits):
        check(split)
        assert {w for part in split.parts.values() for w in part} == all_blocks
        assert split.val == splits[(fold + 1) % count].test
        assert split.train.nodes[""].margin == buffer


def test_labels_are_read_once():
    layer = make_labels()
    halves = [[Window(0, 0, 160, 80)], [Window(0, 80, 160, 80)]]
    counts = class_table(class_rows(layer, grid_of(layer), halves), "mask")
    assert counts.sum() == 160 * 160
    assert counts[0].tolist() == np.bincount(layer.to_numpy()[:, :80].ravel(), minlength=4).tolist()
    with pytest.raises(LabelError, match=r"classes of 'mask': it has 0 in the blocks"):
        by_block(layer, size=16, labels=(layer * 0 + 255).assign_attrs(layer.attrs).rename("mask"))


@pytest.mark.parametrize("count", [2, 99])
def test_invalid_number_of_folds_raises(count):
    with pytest.raises(InputError, match=rf"Cannot make {count} folds of 25 blocks.*Pass n_splits="):
        folds(make_labels(), size=32, n_splits=count)
