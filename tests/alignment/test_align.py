"""align, intersection and union are lazy, resample once, and keep overlapping pixels."""

import dask
import numpy as np
import pyproj
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.warp import Resampling, reproject
from support import oracles, strategies

from geoxt.alignment import align, intersection, union
from geoxt.crs import parse_crs
from geoxt.errors import InputError, OverlapError
from geoxt.footprints import footprint
from geoxt.grid import coordinates, full_window, grid_of, pixel_offset, to_rasterio, window_grid
from geoxt.layers import open_cogs
from geoxt.pixels import reader
from geoxt.source import view_of
from geoxt.testing import distinct, make_grid, write_cog
from geoxt.windows import Window

GRID = make_grid((80, 90))
ALBERS = make_grid((60, 70), crs="EPSG:5070", left=349_200, top=2_017_000)
COLORS = {1: "#ff0000", 2: "#00ff00", 3: "#0000ff"}


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    """Write an array as a raster file of a new name; returns its path."""
    folder = tmp_path_factory.mktemp("align")

    def write_one(values, grid, **options):
        number = len(list(folder.iterdir()))
        return str(write_cog(folder / f"{number}.tif", values, grid=grid, tiled=False, **options))

    return write_one


@pytest.fixture(scope="module")
def image(write):
    return open_cogs(write(distinct((3, 80, 90), "int32"), GRID, nodata=0, bands=["r", "g", "b"]), name="image")


@pytest.fixture(scope="module")
def labels(write):
    values = (distinct((90, 90), "uint8") % 3) + 1
    grid = make_grid((90, 90), crs="EPSG:5070", left=348_800, top=2_017_800)
    return open_cogs(write(values, grid, nodata=0, colors=COLORS), name="labels")


@pytest.fixture
def no_reads(monkeypatch):
    """Make any pixel read or dask computation raise."""

    def raise_on_read(*_, **__):
        msg = "a pixel was read"
        raise AssertionError(msg)

    monkeypatch.setattr(reader, "start_read", raise_on_read)
    with dask.config.set(scheduler=raise_on_read):
        yield raise_on_read


def values_of(layer):
    return layer.compute(scheduler="synchronous").values


def test_align_intersection_and_union_read_no_pixel(write, image, labels, no_reads):
    path = write(distinct((3, 80, 90), "int32"), make_grid((80, 90), left=601_500), nodata=0, bands=["r", "g", "b"])
    other = open_cogs(path)
    align(labels, image)
    align(image, labels)
    align(align(image, labels), image)
    align(image + 1, labels)
    ds = intersection(image=image, mask=labels)
    assert ds.image.chunks is not None
    union(image, other)
    intersection(image=image, mask=labels, grid="mask").isel(x=slice(3, 9))


def test_align_keeps_name_coordinates_and_attributes(image, labels):
    aligned = align(labels, image)
    assert grid_of(aligned) == grid_of(image)
    assert aligned.attrs == labels.attrs
    assert (aligned.name, aligned.dtype, aligned.dims) == (labels.name, labels.dtype, labels.dims)
    assert np.array_equal(aligned.x, image.x)
    assert np.array_equal(aligned.y, image.y)
    assert aligned.spatial_ref == image.spatial_ref
    assert align(image, labels).band.values.tolist() == ["r", "g", "b"]


def test_labels_are_never_interpolated(image, labels):
    source = view_of(labels)
    values, _ = source.read(full_window(source.grid))
    exact = oracles.nearest(values[0, 0], source.grid, GRID, 0)
    aligned = values_of(align(labels, image))
    unambiguous = exact.margin > 1e-3
    assert np.array_equal(aligned[unambiguous], exact.values[unambiguous])
    for method in ("bilinear", "cubic", "average"):
        with pytest.raises(InputError, match=rf"align 'labels' by '{method}': it holds class codes. Pass resampling="):
            align(labels, image, resampling=method)


@settings(max_examples=settings.default.max_examples // 2)
@given(strategies.grid_pairs(shape=strategies.shapes(3, 50)), st.data(), st.sampled_from(["nearest", "bilinear"]))
def test_aligning_twice_equals_aligning_once(write, pair, data, method):
    values, _, nodata = data.draw(strategies.nodata_rasters((1, *pair.src.shape)))
    layer = open_cogs(write(values, pair.src, nodata=nodata), resampling=method)
    around = window_grid(pair.src, full_window(pair.src).pad(data.draw(st.integers(1, 9))))
    between = data.draw(st.sampled_from([around, make_wide(pair.src)]))
    try:
        once = align(layer, pair.dst, resampling=method)
    except OverlapError:
        return
    twice = align(align(layer, between, resampling=method), pair.dst, resampling=method)
    assert np.array_equal(values_of(once), values_of(twice), equal_nan=values.dtype.kind == "f")


def make_wide(grid):
    """Return a coarse grid that contains the grid: in degrees, or in its CRS near a pole or the antimeridian."""
    crs = parse_crs(4326) if grid.crs in (parse_crs(32615), parse_crs(32616), parse_crs(5070)) else grid.crs
    left, bottom, right, top = footprint(grid, crs).bounds
    size = max(right - left, top - bottom) / 8
    return make_grid((24, 24), crs=str(crs), left=left - 8 * size, top=top + 8 * size, resolution=size)


def test_aligning_through_a_smaller_grid_keeps_its_extent(image):
    small = window_grid(GRID, Window(20, 30, 25, 26))
    through, once = align(align(image, small), ALBERS), align(image, ALBERS)
    inside = oracles.nearest(np.ones((25, 26)), small, ALBERS).valid
    unambiguous = oracles.nearest(np.ones((25, 26)), small, ALBERS).margin > 1e-3
    actual, full = values_of(through), values_of(once)
    assert np.array_equal(actual[:, unambiguous & inside], full[:, unambiguous & inside])
    assert (actual[:, unambiguous & ~inside] == 0).all()


def test_aligned_selection_equals_aligned_computed_selection(image):
    cut = image.isel(y=slice(10, 50), x=slice(5, 60), band=[2, 0])
    lazy, eager = align(cut, ALBERS), align(cut.compute(), ALBERS)
    a, b = values_of(lazy), values_of(eager)
    assert lazy.band.values.tolist() == ["b", "r"]
    inner = window_grid(grid_of(cut), Window(1, 1, 38, 53))
    unambiguous = oracles.nearest(np.ones(tuple(inner.shape)), inner, ALBERS)
    assert np.array_equal(a[:, unambiguous.valid], b[:, unambiguous.valid])


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.assign_coords(x=a.x + 300),
        lambda a: a.odc.assign_crs("EPSG:32616"),
        lambda a: a.assign_attrs(_FillValue=-5),
        lambda a: a.drop_attrs(deep=False).assign_attrs(_FillValue=7),
    ],
    ids=["shifted", "another crs", "another nodata", "nodata after drop_attrs"],
)
def test_nodata_and_categorical_attributes_are_respected(image, change):
    changed = change(image)
    grid = grid_of(changed)
    target = make_grid((50, 50), crs=str(grid.crs), left=600_310, top=4_550_200)
    lazy, eager = align(changed, target), align(changed.compute(), target)
    assert np.array_equal(values_of(lazy), values_of(eager))


@pytest.mark.parametrize(("rows", "cols"), [(0, 0), (3, 5), (-7, 11), (79, 89)])
def test_whole_pixel_shifts_are_copied(image, rows, cols):
    target = make_grid((40, 40), left=600_000 + 30 * cols, top=4_550_000 - 30 * rows)
    aligned = values_of(align(image, target))
    expected = np.zeros_like(aligned)
    overlap = Window(rows, cols, 40, 40).intersect(full_window(GRID))
    window_part, image_part = overlap.within(Window(rows, cols, 40, 40)), overlap.within(full_window(GRID))
    expected[:, *window_part] = distinct((3, 80, 90), "int32")[:, *image_part]
    assert np.array_equal(aligned, expected)


def test_align_to_the_same_grid_is_the_identity(image):
    again = align(image, image)
    assert again.data.name == image.data.name


def test_layers_that_do_not_overlap_raise_with_extents(image):
    far = make_grid((9, 9), crs="EPSG:32645")
    with pytest.raises(OverlapError, match=r"'image' lies in -9.* E, 4.* N \(EPSG:32615\), .*EPSG:32645.*Pass layers"):
        align(image, far)
    layer = xr.DataArray(np.ones((9, 9)), dims=("y", "x"), coords=coordinates(far), name="far")
    with pytest.raises(OverlapError, match=r"'image' lies in .*'far' lies in"):
        intersection(image=image, far=layer)


@pytest.mark.parametrize("method", ["average", "mode", "min", "max", "cubic"])
def test_other_resampling_methods_equal_gdal(write, method):
    src, dst = make_grid((90, 90)), make_grid((30, 30), left=600_040, top=4_549_930, resolution=70.0)
    values = np.random.default_rng(0).integers(0, 50, (1, 90, 90)).astype("float32")
    exact = np.zeros((1, *dst.shape), "float32")
    a, b = to_rasterio(src), to_rasterio(dst)
    reproject(
        values, exact, src_transform=a["transform"], src_crs=a["crs"], dst_transform=b["transform"],
        dst_crs=b["crs"], resampling=Resampling[method],
    )  # fmt: skip
    aligned = values_of(align(open_cogs(write(values, src)), dst, resampling=method))
    assert np.allclose(aligned, exact, atol=1e-3)


@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_bilinear_is_close_to_gdal(image, method):
    """GDAL's approximate transformer errs by up to an eighth of a pixel; values differ by as much of a step."""
    values = distinct((1, 80, 90), "float32")
    ramp = np.indices((80, 90)).sum(0, dtype="float32")[None]
    for array, bound in ((values, None), (ramp, 0.3)):
        exact = np.full((1, *ALBERS.shape), np.nan, "float32")
        a, b = to_rasterio(GRID), to_rasterio(ALBERS)
        reproject(
            array, exact, src_transform=a["transform"], src_crs=a["crs"], dst_transform=b["transform"],
            dst_crs=b["crs"], dst_nodata=np.nan, resampling=Resampling[method],
        )  # fmt: skip
        layer = xr.DataArray(array, dims=("band", "y", "x"), coords=coordinates(GRID))
        actual = values_of(align(layer, ALBERS, resampling=method))
        finite = np.isfinite(actual) & np.isfinite(exact)
        assert finite.mean() > 0.5
        if bound is None:
            assert method == "bilinear" or (actual != exact)[finite].mean() < 0.05
        elif method == "bilinear":
            assert np.abs(actual - exact)[finite].max() < bound


def test_intersection_is_cut_to_the_common_extent(image, labels):
    ds = intersection(image=image, mask=labels)
    offset = pixel_offset(grid_of(ds.image), GRID)
    assert offset is not None
    assert ds.image.shape[1:] == ds.mask.shape
    rows, cols = (slice(s, s + n) for s, n in zip(offset, ds.mask.shape, strict=True))
    assert np.array_equal(values_of(ds.image), distinct((3, 80, 90), "int32")[:, rows, cols])
    assert np.array_equal(values_of(ds.mask), values_of(align(labels, image))[rows, cols])
    assert view_of(ds.image).direct
    assert view_of(ds.mask).direct


def test_intersection_uses_the_requested_grid(image, labels):
    assert pixel_offset(grid_of(intersection(image=image, mask=labels, grid="mask").image), grid_of(labels)) is not None
    assert pixel_offset(grid_of(intersection(image=image, mask=labels, grid=ALBERS).image), ALBERS) is not None
    assert grid_of(intersection(image=image, mask=labels, grid=labels).mask).crs == grid_of(labels).crs
    with pytest.raises(InputError, match=r"grid of 'dem': the layers are \['image', 'mask'\]. Pass grid="):
        intersection(image=image, mask=labels, grid="dem")
    with pytest.raises(InputError, match="Pass layers by name"):
        intersection()


def test_intersection_of_layers_with_different_bands(write, image):
    other = open_cogs(write(distinct((2, 80, 90), "float32"), GRID, bands=["vv", "vh"]), name="radar")
    ds = intersection(image=image, radar=other)
    assert ds.sizes["y"] == 80
    for name, expected in (("image", distinct((3, 80, 90), "int32")), ("radar", distinct((2, 80, 90), "float32"))):
        view = view_of(ds[name])
        assert view.direct
        assert np.array_equal(view.read(full_window(GRID))[0][0], expected)
    aligned = align(ds["radar"], ALBERS)
    assert aligned.sizes["y"] == 60


def test_union_covers_both_layers_and_the_first_wins(write):
    second = make_grid((80, 90), left=600_000 + 30 * 40, top=4_550_000 + 30 * 20)
    a, b = distinct((1, 80, 90), "int32"), distinct((1, 80, 90), "int32") + 50_000
    a[:, 10:20] = 0
    layers = [open_cogs(write(v, g, nodata=0), name="x") for v, g in ((a, GRID), (b, second))]
    united = union(*layers)
    assert united.shape == (1, 100, 130)
    expected = np.zeros((1, 100, 130), "int32")
    expected[:, :80, 40:] = b
    np.copyto(expected[:, 20:, :90], a, where=a != 0)
    assert np.array_equal(values_of(united), expected)
    assert view_of(united).direct
    derived = union(layers[0] + 0, layers[1])  # the numbers of a derived layer have another fill
    assert np.array_equal(derived.where(derived != derived.attrs["_FillValue"], 0), expected)


def test_union_of_different_kinds_raises(image, labels):
    with pytest.raises(InputError, match=r"Cannot unite 'image' and 'labels': their .* Convert one of them"):
        union(image, labels)
    with pytest.raises(InputError, match=r"their band are \['r', 'g', 'b'\] and \['r', 'g'\]"):
        union(image, image.isel(band=[0, 1]))


def test_union_across_utm_zones(write):
    zone = make_grid((80, 80), crs="EPSG:32616", left=96_500, top=4_560_000)
    a, b = np.full((1, 80, 90), 1, "int16"), np.full((1, 80, 80), 2, "int16")
    united = union(*(open_cogs(write(v, g, nodata=0)) for v, g in ((a, GRID), (b, zone))))
    values = values_of(united)
    assert grid_of(united).crs == GRID.crs
    assert (values == 1).sum() == 80 * 90
    exact = oracles.nearest(b[0], zone, grid_of(united), 0)
    assert abs((values == 2).sum() + 80 * 90 - (exact.valid | (values[0] == 1)).sum()) < 400


def test_wkt_and_authority_code_are_the_same_crs(write, image):
    grid = make_grid((80, 90), crs=pyproj.CRS.from_epsg(32615).to_wkt("WKT1_GDAL"))
    layer = open_cogs(write(distinct((3, 80, 90), "int32"), grid, nodata=0))
    assert view_of(align(layer, image)).source.grid == grid_of(image)
    assert np.array_equal(values_of(align(layer, image)), distinct((3, 80, 90), "int32"))


def test_rioxarray_layer_is_aligned(write):
    rioxarray = pytest.importorskip("rioxarray")
    path = write(distinct((2, 80, 90), "float32"), GRID, nodata=-1)
    for chunks in (None, 32):
        with rioxarray.open_rasterio(path, chunks=chunks) as layer:
            actual = values_of(align(layer, ALBERS))
            assert np.array_equal(actual, values_of(align(open_cogs(path), ALBERS)))


@pytest.mark.parametrize("second", ["uint16", "uint8", "float32", "int64"])
@pytest.mark.parametrize("change", ["first", "second", "both", "computed"])
def test_union_of_calculated_layers_of_different_nodata(write, second, change):
    grids = make_grid((6, 8)), make_grid((6, 8), left=600_000 + 5 * 30)
    values = [distinct((6, 8), "uint16") % 11 + 1, (distinct((6, 8), "uint16") % 13 + 1).astype(second)]
    layers = [open_cogs(write(v, g, nodata=n)) for v, g, n in zip(values, grids, (3, 5), strict=True)]
    calculated = [layer.compute() if change == "computed" else layer + 0 for layer in layers]
    chosen = [
        calculated[n] if change in {name, "both", "computed"} else layers[n]
        for n, name in enumerate(("first", "second"))
    ]
    united = union(*chosen)
    expected = np.full((6, 13), np.nan)
    for v, nodata, col in ((values[1], 5, 5), (values[0], 3, 0)):
        valid = v != nodata
        expected[:, col : col + 8][valid] = v[valid]
    view = view_of(united)
    pixels, valid = view.read(full_window(view.grid))
    assert np.array_equal(valid[0, 0], ~np.isnan(expected))
    assert np.array_equal(pixels[0, 0][valid[0, 0]], expected[valid[0, 0]])
    nodata = united.attrs["_FillValue"]
    assert np.array_equal(united[0].isnull() if np.isnan(nodata) else united[0] == nodata, np.isnan(expected))
