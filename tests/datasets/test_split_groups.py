"""Related samples (views of one recording, crops of one scene) share a split."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
import shapely

from geoxt.datasets import RandomSplit, get
from geoxt.datasets.entries import Entry
from geoxt.datasets.rasters import Crop
from geoxt.datasets.splits import assign, hold_out
from geoxt.errors import InputError
from geoxt.windows import Window


def entries(*samples):
    return [Entry(fields=fields, files={}) for fields in samples]


def splits_by(names, samples, splits):
    splits_of = defaultdict(set)
    for fields, split in zip(samples, splits, strict=True):
        splits_of[tuple(fields[name] for name in names)].add(split)
    return splits_of


def test_images_of_one_recording_share_a_split():
    spec = get("advance")
    samples = [
        {"label": label, "id": f"{n:05d}{suffix}"}
        for k, label in enumerate(spec.classes.names)
        for n in range(100 * k, 100 * k + 20)
        for suffix in ("", "_1", "_2", "_3")
    ]
    splits = assign(spec, entries(*samples))
    recordings = splits_by(("recording",), [{"recording": s["id"][:5]} for s in samples], splits)
    assert all(len(splits_of) == 1 for splits_of in recordings.values())
    # Recordings are stratified by class: 14 of 20 for training, 2 for validation, 4 for test.
    for label in spec.classes.names:
        counts = Counter(split for s, split in zip(samples, splits, strict=True) if s["label"] == label)
        assert counts == {"train": 56, "val": 8, "test": 16}


def test_names_without_a_suffix_are_single_recordings():
    spec = get("advance")
    names = ("airport_12", "airport_34", "a_b_c", "7")  # two digits are not a suffix
    keys = {name: assign(spec, entries({"label": "airport", "id": name}))[0] for name in names}
    assert set(keys) == set(names)
    samples = [{"label": "airport", "id": f"airport_{n:02d}"} for n in range(10, 40)]
    assert len(set(assign(spec, entries(*samples)))) == 3


def test_group_of_several_labels_is_in_one_split(ponds):
    rule = RandomSplit(group=("site",))
    samples = [{"label": f"class{n % 3}", "site": n // 6, "n": n} for n in range(240)]
    splits = assign(replace(ponds, splits=rule), entries(*samples))
    assert all(len(splits_of) == 1 for splits_of in splits_by(("site",), samples, splits).values())
    assert set(splits) == {"train", "val", "test"}


def test_groups_from_a_pattern_are_independent_of_the_order(ponds):
    rule = RandomSplit(group=("storm",), patterns={"name": r"(?P<storm>[a-z]+)\d+"})
    spec = replace(ponds, splits=rule)
    samples = [{"name": f"{storm}{n}"} for storm in ("ana", "bob", "cyd", "dan", "eva", "fay") for n in range(5)]
    splits = assign(spec, entries(*samples))
    assert assign(spec, entries(*samples[::-1])) == splits[::-1]
    assert Counter(splits) == {"train": 20, "val": 5, "test": 5}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (RandomSplit(group=("scene",)), "Cannot split by 'scene': the fields of a sample are place"),
        (RandomSplit(group=("n",), patterns={"place": r"(?P<n>\d+)"}), r"place 's000' does not match"),
    ],
)
def test_unknown_group_fields_raise(ponds, rule, message):
    with pytest.raises(InputError, match=message):
        assign(replace(ponds, splits=rule), entries({"place": "s000"}))


def test_dates_of_one_site_are_held_out_by_location():
    """All images of the site show the same locations, with one mask."""
    spec = get("benin_cashews")
    samples = [(date, row, col) for date in range(9) for row in range(4) for col in range(4)]
    crops = [Crop(window=Window(256 * row, 256 * col, 256, 256), image_shape=(1024, 1024)) for _, row, col in samples]
    dated = [
        Entry(fields={"date": date, "top": 256 * row, "left": 256 * col}, files={}, crop=crop)
        for (date, row, col), crop in zip(samples, crops, strict=True)
    ]
    held = hold_out(spec, dated, 0.25)
    areas = [
        {sample[1:] for sample, is_held in zip(samples, held, strict=True) if is_held is part} for part in (False, True)
    ]
    assert not areas[0] & areas[1]
    assert (len(areas[0]), len(areas[1])) == (12, 4)


def test_images_of_one_block_are_held_out_together_and_overlaps_left_out():
    spec = get("seasonal_contrast")
    left = np.arange(40) * 30_000.0  # images of 40 km overlap their neighbors
    footprints = shapely.box(left, 0, left + 40_000, 40_000)
    images = entries(*({"location": n} for n in range(40)))
    held = np.array(hold_out(spec, images, 0.3, footprints=footprints), object)
    training = footprints[held == False]  # noqa: E712 (some are None)
    assert len(training)
    assert shapely.area(shapely.intersection(training[:, None], footprints[held == True])).max() == 0  # noqa: E712
    blocks = np.floor((left + 20_000) / 100_000)
    assert all(set(held[blocks == block]) <= {True} or True not in held[blocks == block] for block in set(blocks))
