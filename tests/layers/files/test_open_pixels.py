"""Opening files: pixels of any file layout, legends, nodata and masks."""

from datetime import datetime

import numpy as np
import pytest
import rasterio
from support import oracles

from geoxt.errors import InputError
from geoxt.grid import full_window, grid_of
from geoxt.layers import open_cogs, products
from geoxt.legend import Legend
from geoxt.source import is_categorical, view_of
from geoxt.testing import distinct, make_grid
from geoxt.writers import to_cog

GRID = make_grid((60, 70))
COLORS = {1: "#ff0000", 2: "#00ff00", 5: "#0000ff"}


def values_of(layer):
    return layer.compute(scheduler="synchronous").values


def test_cdl_has_its_legend(write):
    codes = np.random.default_rng(0).choice(np.array([1, 5, 0], "uint8"), (60, 70))
    path = write(codes, make_grid((60, 70), crs="EPSG:5070"), name="2019_30m_cdls.tif")
    layer = open_cogs(path, product="cdl")
    assert layer.dims == ("y", "x")
    assert is_categorical(layer)
    assert layer.geoml.legend == products.get("cdl").legend
    assert layer.geoml.legend.name(5) == "Soybeans"
    assert layer.attrs["_FillValue"] == 0
    assert np.array_equal(values_of(layer), codes)
    assert view_of(layer).source.scenes[0].start == np.datetime64(datetime(2019, 1, 1), "ns")  # noqa: DTZ001


def test_color_table_makes_a_categorical_layer(write):
    codes = np.random.default_rng(0).choice(np.array([1, 2, 5], "uint8"), (60, 70))
    layer = open_cogs(write(codes, GRID, colors=COLORS, nodata=0))
    assert (layer.dims, is_categorical(layer), view_of(layer).source.resampling) == (("y", "x"), True, "nearest")
    assert layer.attrs["flag_values"].tolist() == [1, 2, 5]
    assert layer.attrs["flag_colors"].split() == list(COLORS.values())
    plain = open_cogs(write(codes, GRID, colors=COLORS), categorical=False)
    assert (plain.dims, is_categorical(plain)) == (("band", "y", "x"), False)


def test_gray_ramp_is_an_image(write):
    greys = {n: f"#{n:02x}{n:02x}{n:02x}" for n in range(256)}
    layer = open_cogs(write(distinct((60, 70), "uint8"), GRID, colors=greys))
    assert not is_categorical(layer)
    assert layer.dims == ("band", "y", "x")
    mask = np.random.default_rng(0).choice(np.array([0, 255], "uint8"), (60, 70))
    labels = open_cogs(write(mask, GRID, colors=greys), categorical=True)
    assert (is_categorical(labels), len(labels.geoml.legend)) == (True, 0)  # no classes 1 to 255


@pytest.mark.parametrize("colors", [None, dict.fromkeys(range(4), "#000000")])
def test_categorical_layer_is_never_interpolated(write, colors):
    codes = np.random.default_rng(0).choice(np.array([1, 9], "uint8"), (60, 70))
    layer = open_cogs(write(codes, GRID, **({"colors": colors} if colors else {})), categorical=True)
    aligned = layer.geoml.align(make_grid((50, 50), left=600_010, resolution=17.0))
    assert set(np.unique(values_of(aligned))) <= {0, 1, 9}
    assert is_categorical(layer)


def test_categorical_multiband_file_raises(write):
    with pytest.raises(InputError, match=r"class codes: there are 2 bands. Pass bands="):
        open_cogs(write(distinct((2, 60, 70), "uint8"), GRID), categorical=True)


@pytest.mark.parametrize("options", [{}, {"nodata": -9999}, {"nodata": 300}, {"nodata": 0.5}])
def test_nodata_argument_outside_the_dtype_raises(write, options):
    path = write(distinct((60, 70), "uint8"), GRID)
    if not options:
        assert view_of(open_cogs(path)).read(full_window(GRID))[1].all()
        return
    with pytest.raises(InputError, match=rf"nodata value {options['nodata']}.*uint8"):
        open_cogs(path, **options)


@pytest.mark.parametrize("nodata", [-9999.9, 0.1, 1e20, float("nan")])
def test_float_nodata_keeps_reads_direct(write, nodata):
    values = distinct((60, 70), "float32")
    values[:5] = nodata
    for layer in (open_cogs(write(values, GRID, nodata=nodata)), open_cogs(write(values, GRID), nodata=nodata)):
        view = view_of(layer)
        assert view.direct
        assert (~view.read(full_window(GRID))[1]).sum() == 5 * 70


def test_nodata_argument_applies_to_files_without_nodata(write):
    layer = open_cogs(write(distinct((60, 70)), GRID), nodata=7)
    assert layer.attrs["_FillValue"] == 7
    assert (~view_of(layer).read(full_window(GRID))[1]).sum() == 1
    tagged = open_cogs([write(distinct((60, 70)), GRID, nodata=3), write(distinct((60, 70)), GRID)], nodata=3)
    assert np.argwhere(~view_of(tagged).read(full_window(GRID))[1][0, 0]).tolist() == [[0, 2]]


LAYOUTS = {
    "south-up": {"grid": {"south_up": True}},
    "pixel is point": {"write": {"point": True}},
    "striped": {"write": {"tiled": False}},
    "tiled": {"write": {"tiled": True, "blocksize": 16, "overviews": (2,)}},
    "cog": {"write": {"tiled": True}},
    "external overviews": {"write": {"tiled": True, "overviews": (2, 4), "external": True}},
    "deflate": {"write": {"compress": "deflate", "predictor": 2}},
    "zstd": {"write": {"tiled": True, "compress": "zstd"}},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_pixels_are_independent_of_the_file_layout(write, name):
    grid = make_grid((60, 70), **LAYOUTS[name].get("grid", {}))
    values = distinct((60, 70))
    layer = open_cogs(write(values, grid, **LAYOUTS[name].get("write", {})))
    actual = values_of(layer)[0]
    expected = values[::-1] if name == "south-up" else values
    assert grid_of(layer).affine.e < 0
    assert np.array_equal(actual, expected)
    x, y = grid.affine @ (10.5, 20.5)
    assert layer.sel(x=x, y=y, method="nearest").values == values[20, 10]


def test_rotated_file_is_resampled_to_a_north_up_grid(write):
    grid = make_grid((60, 70), degrees=30.0)
    values = distinct((60, 70), "float32")
    layer = open_cogs(write(values, grid), resampling="nearest")
    layer_grid = grid_of(layer)
    assert (layer_grid.affine.b, layer_grid.affine.d) == (0, 0)
    exact = oracles.nearest(values, grid, layer_grid)
    unambiguous = exact.margin > 1e-3
    actual, valid = view_of(layer).read(full_window(layer_grid))
    assert np.array_equal(valid[0, 0][unambiguous], exact.valid[unambiguous])
    assert np.array_equal(actual[0, 0][unambiguous & exact.valid], exact.values[unambiguous & exact.valid])
    assert exact.valid.sum() > 0.95 * 60 * 70


@pytest.mark.parametrize("count", [1, 3, 4])
@pytest.mark.filterwarnings("ignore:Band . of .* is tagged as alpha")
@pytest.mark.parametrize("kind", ["mask", "alpha"])
def test_masks_and_alpha_bands_set_the_valid_mask(write, count, kind):
    mask = np.ones((60, 70), bool)
    mask[:20] = False
    validity = {"mask": mask} if kind == "mask" else {"alpha": mask * 65535}
    layer = open_cogs(write(distinct((count, 60, 70)), GRID, **validity))
    assert layer.sizes["band"] == count
    values, valid = view_of(layer).read(full_window(GRID))
    assert np.array_equal(valid[0], np.broadcast_to(mask, (count, 60, 70)))
    assert (values[0][:, :20] == layer.attrs["_FillValue"]).all()
    assert np.array_equal(values_of(layer), values[0])
    _, computed_valid = view_of(layer.compute()).read(full_window(GRID))
    assert np.array_equal(computed_valid, valid)


def test_written_map_reopens_with_its_legend(write, tmp_path):
    names, colors = {-2: "deep water", 3: "land"}, {-2: "#0000ff", 3: "#00ff00"}
    path = write(np.full((60, 70), 3, "uint8"), GRID, names={1: "a b", 3: "land"}, colors={1: "#010203", 3: "#00ff00"})
    legend = open_cogs(path).geoml.legend
    assert (legend.codes, legend.names, legend.colors) == ((1, 3), ("a b", "land"), ("#010203", "#00ff00"))
    layer = (
        open_cogs(path)
        .astype("int16")
        .assign_attrs(Legend(tuple(names), tuple(names.values()), tuple(colors.values())).attrs())
    )
    to_cog(layer, tmp_path / "map.tif")
    assert open_cogs(tmp_path / "map.tif").geoml.legend.names == ("deep water", "land")


def test_complex_integers_raise(tmp_path):
    with rasterio.open(
        tmp_path / "slc.tif", "w", driver="GTiff", width=8, height=8, count=1, dtype="complex_int16", crs="EPSG:32615",
        transform=rasterio.transform.from_origin(5e5, 4e6, 10, 10),
    ):  # fmt: skip
        pass
    with pytest.raises(InputError, match="complex_int16 pixels: they are not real"):
        open_cogs(tmp_path / "slc.tif")


def test_complex_pixels_raise(write):
    path = write(np.ones((60, 70), "complex64"), GRID, name="slc.tif")
    with pytest.raises(InputError, match=r"scene 'slc': its pixels are complex64, not real"):
        open_cogs(path)
