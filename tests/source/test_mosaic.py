"""Mosaics against the oracle: the first valid pixel wins across grids; failed files are named in errors."""

import copy
import os
import pickle
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import shapely
from affine import Affine
from dask.base import tokenize
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from support import oracles, strategies

from geoxt.alignment import align
from geoxt.errors import ReadError, ReadWarning
from geoxt.grid import full_window
from geoxt.layers import open_cogs
from geoxt.layers.files.product_scenes import asset_of
from geoxt.pixels import reader
from geoxt.source import Asset, Mosaic, Scene, view_of
from geoxt.source.scene_assets import QualityBand, token_of
from geoxt.testing import distinct, make_grid
from geoxt.windows import Window

ALBERS = make_grid((120, 120), crs="EPSG:5070", left=348_500, top=2_018_000)


def mosaic_of(*scenes, grid=None, **options):
    """Build a mosaic; a scene is a path, or a list of paths with one band each."""
    built, count = [], 0
    for number, paths in enumerate(scenes):
        headers = [reader.read_header(p) for p in ([paths] if isinstance(paths, str) else paths)]
        assets = tuple(asset_of(h, b + 1) for h in headers for b in range(len(h.dtypes)))
        count = len(assets)
        built.append(Scene(id=f"scene{number}", assets=assets))
    given_options = {"nodata": built[0].assets[0].nodata, "dtype": np.dtype(built[0].assets[0].dtype), **options}
    return Mosaic(
        grid=grid or built[0].grid,
        scenes=tuple(built),
        steps=(tuple(range(len(built))),),
        bands=tuple(f"b{n}" for n in range(count)),
        **given_options,
    )


def truncate(path):
    os.truncate(path, Path(path).stat().st_size // 2)


def first_valid(results, fill):
    """Return values and valid mask of the first valid raster per pixel, and a mask of pixels far from ties."""
    values = np.full(results[0].values.shape, fill, results[0].values.dtype)
    valid = np.zeros(results[0].valid.shape, bool)
    unambiguous = np.ones_like(valid)
    for raster in results:
        newly_valid = raster.valid & ~valid
        values[:, newly_valid] = raster.values[:, newly_valid]
        unambiguous &= raster.margin > 1e-3
        valid |= raster.valid
    return values, valid, unambiguous


@settings(max_examples=settings.default.max_examples // 2)
@given(st.permutations([0, 1, 2]), st.integers(0, 99), st.data())
def test_first_valid_pixel_wins_across_two_crs(write, order, seed, data):
    rng = np.random.default_rng(seed)
    grids = [
        make_grid((60, 70)),
        make_grid((60, 70), left=600_900, top=4_549_600),
        make_grid((70, 60), crs="EPSG:32616", left=96_000, top=4_561_000),
    ]
    arrays = [distinct((1, *g.shape), "int32") + 10_000 * n for n, g in enumerate(grids)]
    arrays = [np.where(rng.random(a.shape) < 0.3, 0, a) for a in arrays]
    paths = [write(a, g, nodata=0) for a, g in zip(arrays, grids, strict=True)]
    source = mosaic_of(*(paths[i] for i in order), grid=ALBERS, resampling="nearest")
    exact = [oracles.nearest(arrays[i], grids[i], ALBERS, 0) for i in order]
    values, valid, unambiguous = first_valid(exact, 0)
    pixels, good = source.read(full_window(ALBERS))
    assert valid.sum() > 5000
    assert np.array_equal(good[0, 0][unambiguous], valid[unambiguous])
    assert np.array_equal(pixels[0, 0][unambiguous], values[0][unambiguous])
    window = Window(*data.draw(strategies.windows(tuple(ALBERS.shape))))
    part, fine = source.read(window)
    overlap = window.intersect(full_window(ALBERS))
    if overlap is None:
        assert not fine.any()
    else:
        window_part, grid_part = overlap.within(window), overlap.within(full_window(ALBERS))
        assert np.array_equal(part[:, :, *window_part], pixels[:, :, *grid_part])
        assert np.array_equal(fine[:, :, *window_part], good[:, :, *grid_part])
        assert fine.sum() == fine[:, :, *window_part].sum()


@settings(max_examples=settings.default.max_examples // 2)
@given(strategies.grid_pairs(shape=strategies.shapes(4, 60)), st.sampled_from(["nearest", "bilinear"]), st.data())
def test_windows_and_chunks_equal_part_of_whole(write, pair, method, data):
    shape = (2, *pair.src.shape)
    values, _, nodata = data.draw(strategies.nodata_rasters(shape))
    path = write(values, pair.src, nodata=nodata)
    layer = open_cogs(path, grid=pair.dst, resampling=method)
    full, valid = view_of(layer).read(full_window(pair.dst))
    for size in (data.draw(st.integers(3, 70)), 1024):
        chunked = open_cogs(path, grid=pair.dst, resampling=method, chunks=size)
        assert np.array_equal(
            chunked.compute(scheduler="synchronous").values, full[0], equal_nan=full.dtype.kind == "f"
        )
    window = Window(*data.draw(strategies.windows(tuple(pair.dst.shape))))
    pixels, good = view_of(layer).read(window)
    overlap = window.intersect(full_window(pair.dst))
    if overlap is not None:
        window_part, grid_part = overlap.within(window), overlap.within(full_window(pair.dst))
        assert np.array_equal(good[:, :, *window_part], valid[:, :, *grid_part])
        assert np.array_equal(pixels[:, :, *window_part], full[:, :, *grid_part], equal_nan=full.dtype.kind == "f")


def test_pixels_beyond_the_chord_of_a_curved_edge_are_read(write):
    """An edge of the scene outline may bend outwards by more than a pixel between two vertices."""
    grid = GeoBox((400, 1200), Affine(0.1, 0, -60, 0, -0.05, 80), "EPSG:4326")
    values = distinct((1, 400, 1200), "float32")
    target = GeoBox((600, 600), Affine(9000, 0, -2.7e6, 0, -9000, 0), "EPSG:3413")
    source = mosaic_of(write(values, grid), grid=target, resampling="nearest")
    exact = oracles.nearest(values, grid, target)
    ring = exact.valid & ~eroded(exact.valid)
    for row, col in np.argwhere(ring)[::7].tolist():
        if exact.margin[row, col] > 1e-3:
            pixels, good = source.read(Window(row, col, 1, 1))
            assert good.all(), (row, col)
            assert pixels.item() == exact.values[0, row, col]


def eroded(mask):
    inner = np.zeros_like(mask)
    inner[1:-1, 1:-1] = mask[1:-1, 1:-1] & mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    return inner


PROJECTIONS = {
    "world to utm": (
        GeoBox((180, 360), Affine(1, 0, -180, 0, -1, 90), "EPSG:4326"),
        make_grid((60, 60), resolution=20_000.0),
    ),
    "world to albers": (
        GeoBox((180, 360), Affine(1, 0, -180, 0, -1, 90), "EPSG:4326"),
        make_grid((60, 60), crs="EPSG:5070", left=-2e6, top=3e6, resolution=60_000.0),
    ),
    "world to mercator": (
        GeoBox((180, 360), Affine(1, 0, -180, 0, -1, 90), "EPSG:4326"),
        make_grid((60, 60), crs="EPSG:3857", left=-9e6, top=5e6, resolution=60_000.0),
    ),
    "world to the pole": (
        GeoBox((180, 360), Affine(1, 0, -180, 0, -1, 90), "EPSG:4326"),
        make_grid((60, 60), crs="EPSG:3413", left=-1.5e6, top=1.5e6, resolution=50_000.0),
    ),
    "the pole to the world": (
        make_grid((60, 60), crs="EPSG:3413", left=-1.5e6, top=1.5e6, resolution=50_000.0),
        GeoBox((60, 360), Affine(1, 0, -180, 0, -0.5, 90), "EPSG:4326"),
    ),
    "across the antimeridian to utm": (
        GeoBox((200, 200), Affine(0.1, 0, 170, 0, -0.1, 60), "EPSG:4326"),
        make_grid((90, 90), crs="EPSG:32601", left=0, top=6.2e6, resolution=8000.0),
    ),
    "utm to degrees west of the antimeridian": (
        make_grid((200, 200), crs="EPSG:32601", left=150_000, top=6.2e6, resolution=1000.0),
        GeoBox((200, 300), Affine(0.01, 0, 177.5, 0, -0.01, 56), "EPSG:4326"),
    ),
    "utm to degrees east of the antimeridian": (
        make_grid((200, 200), crs="EPSG:32601", left=150_000, top=6.2e6, resolution=1000.0),
        GeoBox((200, 300), Affine(0.01, 0, -180, 0, -0.01, 56), "EPSG:4326"),
    ),
    "utm to the east end of mercator": (
        make_grid((200, 200), crs="EPSG:32601", left=150_000, top=6.2e6, resolution=1000.0),
        make_grid((200, 200), crs="EPSG:3857", left=19_737_508, top=7.5e6, resolution=1500.0),
    ),
    "utm to the west end of mercator": (
        make_grid((200, 200), crs="EPSG:32601", left=150_000, top=6.2e6, resolution=1000.0),
        make_grid((200, 200), crs="EPSG:3857", left=-20_037_508, top=7.5e6, resolution=1500.0),
    ),
}


@pytest.mark.parametrize("name", PROJECTIONS)
def test_seams_and_poles_equal_the_oracle(write, name):
    scene_grid, target = PROJECTIONS[name]
    values = distinct((1, *scene_grid.shape), "float32")
    exact = oracles.nearest(values, scene_grid, target)
    layer = align(open_cogs(write(values, scene_grid)), target, resampling="nearest")
    unambiguous = exact.margin > 1e-3
    assert exact.valid.sum() > 1000
    pixels, good = (part[0, 0] for part in view_of(layer).read(full_window(target)))
    assert np.array_equal(good[unambiguous], exact.valid[unambiguous])
    assert np.array_equal(pixels[unambiguous & good], exact.values[0][unambiguous & good])
    for row in range(0, target.shape[0] - 9, 25):
        for col in range(0, target.shape[1] - 9, 25):
            part, fine = (p[0, 0] for p in view_of(layer).read(Window(row, col, 9, 9)))
            assert np.array_equal(fine, good[row : row + 9, col : col + 9])
            assert np.array_equal(part[fine], pixels[row : row + 9, col : col + 9][fine])


def test_bands_of_several_resolutions_are_resampled_to_one_grid(write):
    fine, coarse = make_grid((60, 60), resolution=10.0), make_grid((20, 20), resolution=30.0)
    a, b = distinct((60, 60), "int32"), distinct((20, 20), "int32")
    source = mosaic_of([write(a, fine), write(b, coarse)], resampling="nearest")
    values, valid = source.read(Window(6, 9, 30, 30))
    assert valid.all()
    assert np.array_equal(values[0, 0], a[6:36, 9:39])
    assert np.array_equal(values[0, 1], np.repeat(np.repeat(b, 3, 0), 3, 1)[6:36, 9:39])


def test_band_missing_in_a_scene_is_read_from_the_next(write):
    grid = make_grid((20, 20))
    source = mosaic_of(write(distinct((2, 20, 20)), grid), write(distinct((2, 20, 20)) + 5000, grid))
    first = replace(source.scenes[0], assets=(source.scenes[0].assets[0], None))
    values, valid = replace(source, scenes=(first, source.scenes[1])).read(Window(0, 0, 20, 20))
    assert valid.all()
    assert values[0, 0, 0, 0] == 1
    assert values[0, 1, 0, 0] == 5401


def test_valid_mask_is_per_band(write):
    values = distinct((2, 20, 20))
    values[0, :10] = 0
    under = write(distinct((2, 20, 20)) + 5000, make_grid((20, 20)), nodata=0)
    pixels, valid = mosaic_of(write(values, make_grid((20, 20)), nodata=0), under).read(Window(0, 0, 20, 20))
    assert valid.all()
    assert (pixels[0, 0, :10] > 5000).all()
    assert (pixels[0, 0, 10:] < 5000).all()
    assert (pixels[0, 1] < 5000).all()


def test_scene_nodata_becomes_mosaic_nodata(write):
    grid, beside = make_grid((20, 20)), make_grid((20, 20), left=600_600)
    a, b = np.full((20, 20), 7, "int16"), np.full((20, 20), 9, "int16")
    a[:5], b[:5] = -1, -2
    source = mosaic_of(write(a, grid, nodata=-1), write(b, beside, nodata=-2), grid=make_grid((20, 40)))
    values, valid = source.read(Window(0, 0, 20, 40))
    assert not valid[0, 0, :5].any()
    assert valid[0, 0, 5:].all()
    assert (values[0, 0, :5] == -1).all()


@pytest.mark.parametrize("nodata", [np.nan, -9999.0, -3.4028234663852886e38])
def test_nan_and_nodata_floats_are_invalid(write, nodata):
    values = distinct((20, 20), "float32")
    values[3:6, 3:6] = nodata
    values[10, 10] = np.nan
    pixels, valid = mosaic_of(write(values, make_grid((20, 20)), nodata=nodata)).read(Window(0, 0, 20, 20))
    assert (~valid).sum() == 10
    assert np.array_equal(pixels[0, 0], np.where(np.isnan(values), np.float32(nodata), values), equal_nan=True)


def test_infinite_pixels_are_copied_but_never_interpolated(write):
    values = distinct((30, 30), "float32")
    values[10, 10] = np.inf
    layer = open_cogs(write(values, make_grid((30, 30))))
    assert np.isinf(layer.values[0, 10, 10])
    moved = align(layer, make_grid((30, 30), left=600_010)).values
    assert not np.isinf(moved).any()


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_integers_are_rounded_once_and_clipped_to_range(write, dtype):
    kind = np.dtype(dtype)
    top = np.iinfo(kind).max if kind.kind in "iu" else 1e30
    values = np.where(np.indices((40, 40)).sum(0) % 7 == 0, top, 3).astype(kind)
    target = make_grid((30, 30), left=600_007, top=4_549_980, resolution=31.0)
    pixels, valid = mosaic_of(write(values, make_grid((40, 40))), grid=target).read(full_window(target))
    exact = oracles.bilinear(values[None], None, make_grid((40, 40)), target)
    assert pixels.dtype == kind
    assert valid.all()
    allowed = 0.5 + 0.01 * float(top) if kind.kind in "iu" else 0.01 * top
    assert np.abs(pixels[0, 0].astype("float64") - exact.values[0]).max() <= allowed


def test_truncated_file_raises_with_path_and_scene(write):
    path = write(distinct((1, 512, 512)), make_grid((512, 512)))
    truncate(path)
    with pytest.raises(ReadError, match=rf"{path}.*scene 'scene0'.*Pass errors='nodata' to continue"):
        mosaic_of(path).read(Window(480, 480, 16, 16))


def test_deleted_file_raises_with_path_and_scene(write):
    path = write(distinct((1, 64, 64)), make_grid((64, 64)))
    source = mosaic_of(path)
    Path(path).unlink()
    with pytest.raises(ReadError, match=rf"Cannot open {path}.*scene 'scene0'"):
        source.read(Window(0, 0, 16, 16))


def test_errors_nodata_warns_once_per_scene(write):
    bad = [write(distinct((1, 512, 512)), make_grid((512, 512)), nodata=0) for _ in range(2)]
    good = write(distinct((1, 512, 512)) + 9, make_grid((512, 512)), nodata=0)
    source = mosaic_of(*bad, good, errors="nodata")
    for path in bad:
        truncate(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for row in (480, 490):
            values, valid = source.read(Window(row, 480, 16, 16))
            assert valid.all()
            assert values[0, 0, 0, 0] == distinct((512, 512))[row, 480] + 9
        assert mosaic_of(*bad, errors="nodata").read(Window(480, 480, 4, 4))[1].sum() == 0
    first, second, *_ = [w for w in caught if w.category is ReadWarning]
    assert bad[0] in str(first.message)
    assert "scene" in str(first.message) or bad[0] in str(first.message)
    assert bad[1] in str(second.message)
    assert len([w for w in caught if w.category is ReadWarning]) == 4


def test_scene_outside_the_window_is_not_opened(write, monkeypatch):
    paths = [write(distinct((1, 32, 32)), make_grid((32, 32), left=600_000 + 3000 * n)) for n in range(4)]
    source = mosaic_of(*paths, grid=make_grid((32, 400)))
    opened, real = [], reader.start_read
    monkeypatch.setattr(reader, "start_read", lambda href, *a, **k: opened.append(href) or real(href, *a, **k))
    source.read(Window(0, 205, 10, 10))
    assert opened == [paths[2]]


def test_covered_scene_is_not_read(write, monkeypatch):
    paths = [write(distinct((1, 32, 32)), make_grid((32, 32))) for _ in range(2)]
    opened, real = [], reader.start_read
    monkeypatch.setattr(reader, "start_read", lambda href, *a, **k: opened.append(href) or real(href, *a, **k))
    mosaic_of(*paths).read(Window(0, 0, 10, 10))
    assert opened == [paths[0]]


def test_pickle_excludes_cached_state(write):
    source = mosaic_of(write(distinct((2, 64, 64)), make_grid((64, 64))), grid=ALBERS)
    fresh = len(pickle.dumps(source))
    before = source.read(Window(0, 0, 64, 64))
    assert len(pickle.dumps(source)) == fresh
    for other in (pickle.loads(pickle.dumps(source)), copy.deepcopy(source)):
        assert tokenize(other) == tokenize(source)
        after = other.read(Window(0, 0, 64, 64))
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_footprint_is_the_union_of_scene_outlines(write):
    beside = make_grid((20, 20), left=600_900)
    source = mosaic_of(
        write(distinct((20, 20)), make_grid((20, 20))), write(distinct((20, 20)), beside), grid=make_grid((30, 60))
    )
    expected = shapely.union(shapely.box(0, 0, 20, 20), shapely.box(30, 0, 50, 20))
    assert source.footprint().symmetric_difference(expected).area < 1e-6


def test_token_depends_on_every_field_of_scenes():
    grid = make_grid((4, 5))
    asset = Asset(href="a.tif", band=1, grid=grid, dtype="uint8")
    scene = Scene(id="a", assets=(asset, None))
    token = token_of((scene,))
    assert token == token_of((Scene(id="a", assets=(replace(asset, grid=make_grid((4, 5))), None)),))
    changed = [replace(asset, grid=make_grid((4, 6))), replace(asset, grid=make_grid((4, 5), crs="EPSG:32616"))]
    values = {
        "href": "b",
        "band": 2,
        "dtype": "int8",
        "nodata": 0.0,
        "extra_nodata": (1,),
        "masked": None,
        "scale": 2.0,
    }
    changed += [replace(asset, **{name: value}) for name, value in (values | {"offset": 1.0, "stated": True}).items()]
    scenes = [replace(scene, assets=(other, None)) for other in changed] + [replace(scene, assets=(None, asset))]
    scenes += [replace(scene, id="b"), replace(scene, start=np.datetime64("2020-01-01")), replace(scene, geometry=b"x")]
    scenes.append(replace(scene, quality=(QualityBand(asset=asset, excluded=((0, 1, 1),)),)))
    tokens = {token, *(token_of((other,)) for other in scenes), token_of((scene, scene))}
    assert len(tokens) == len(scenes) + 2


@pytest.mark.parametrize(("low", "nodata"), [(1, 0), (65_530, 65_535), (0, 65_535), (0, 4)])
@pytest.mark.parametrize("resampling", ["bilinear", "average", "cubic", "lanczos"])
def test_averages_of_valid_pixels_never_equal_nodata(write, low, nodata, resampling):
    values = np.random.default_rng(0).integers(low, low + 5, (2, 40, 40)).astype("uint16")
    values[:, 10:20, 5:15] = nodata
    target = make_grid((30, 30), left=600_017, top=4_549_960)
    mosaic = mosaic_of(write(values, make_grid((40, 40)), nodata=nodata), grid=target)
    pixels, valid = mosaic.onto(target, resampling=resampling).read(full_window(target))
    assert 0.5 < valid.mean() < 1
    assert ((pixels == nodata) == ~valid).all()
