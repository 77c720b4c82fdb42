"""Pickles of scenes as columns: every field returns unchanged, and repeated values are stored once."""

import pickle

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from geoxt.source import Asset, Mosaic, Scene
from geoxt.source.scene_assets import QualityBand, token_of
from geoxt.source.scene_table import table_of
from geoxt.testing import make_grid

GRIDS = [make_grid((4, 4)), make_grid((8, 8))]
NUMBERS = st.sampled_from([None, 0, 0.0, -0.0, float("nan"), -9999.0])
TIMES = st.sampled_from([
    None, np.datetime64("NaT"), np.datetime64("2023-01-01"), np.datetime64("2023-01-01T10:00:00.5", "us"),
    np.datetime64("2024-02-29T00:00:00", "ns"),
])  # fmt: skip
TEXTS = st.sampled_from(["", "a", "a\0b", "é/ü.tif", "\udcff.tif", "https://example.com/1/B04.tif"])
ASSETS = st.builds(
    Asset, href=TEXTS, band=st.integers(1, 2), grid=st.sampled_from(GRIDS), dtype=st.sampled_from(["uint8", "float32"]),
    nodata=NUMBERS, extra_nodata=st.sampled_from([(), (0.0,), (0,)]), masked=st.sampled_from([True, False, None]),
    scale=st.sampled_from([1, 1.0, 1e-4]), stated=st.booleans(),
)  # fmt: skip
SCENES = st.builds(
    Scene, id=TEXTS, assets=st.lists(st.none() | ASSETS, max_size=2).map(tuple), start=TIMES, end=TIMES,
    cloud_cover=st.sampled_from([None, 0, 0.0, -0.0, 12.5]), geometry=st.sampled_from([None, b"", b"wkb"]),
    quality=st.lists(st.builds(QualityBand, asset=ASSETS, excluded=st.just(((0, 1, 1),))), max_size=1).map(tuple),
)  # fmt: skip


@given(st.lists(SCENES, max_size=6).map(tuple))
@settings(max_examples=20, deadline=None)
def test_scenes_return_unchanged(scenes):
    returned = pickle.loads(pickle.dumps(table_of(scenes))).scenes
    assert repr(returned) == repr(scenes)  # NaN and -0.0 too, which == does not tell
    units = [[None if t is None else t.dtype for s in table for t in (s.start, s.end)] for table in (returned, scenes)]
    assert units[0] == units[1]
    assert [[a is None for a in s.assets] for s in returned] == [[a is None for a in s.assets] for s in scenes]


def _scenes(count):
    return tuple(
        Scene(
            id=f"S2-{i:06d}",
            assets=tuple(
                Asset(href=f"https://example.com/S2-{i:06d}/{band}.tif", band=1, grid=GRIDS[i % 2], dtype="uint16")
                for band in ("B04", "B08")
            ),
            start=np.datetime64("2023-01-01", "us") + i,
        )
        for i in range(count)
    )


def _mosaic(scenes):
    steps = tuple((i,) for i in range(len(scenes)))
    return Mosaic(grid=GRIDS[0], scenes=scenes, steps=steps, bands=("B04", "B08"), dtype=np.dtype("uint16"))


def test_a_scene_takes_few_bytes():
    size = {count: len(pickle.dumps(table_of(_scenes(count)))) for count in (100, 1100)}
    assert size[1100] - size[100] < 1000 * 60  # an object per scene and asset takes 360, the two addresses alone 70


def test_mosaics_of_the_same_scenes_hold_them_once():
    mosaic = _mosaic(_scenes(200))
    single, several = len(pickle.dumps(mosaic)), len(pickle.dumps([mosaic, mosaic.onto(GRIDS[1])]))
    assert several - single < single / 3
    first, second = pickle.loads(pickle.dumps([mosaic, mosaic.onto(GRIDS[1])]))
    assert first.scenes is second.scenes
    assert token_of(first.scenes) == token_of(mosaic.scenes)
