"""Interactive maps: positions of images and windows, embedded without the network, and in a browser."""

import base64
import re
import shutil
import subprocess

import numpy as np
import pytest
import rasterio
import xarray as xr
from odc.geo.geobox import GeoBox
from pyproj import Transformer
from rasterio.io import MemoryFile

pytest.importorskip("bokeh")

from geoxt import plot, splits
from geoxt.errors import CRSError, InputError, OutputError
from geoxt.grid import coordinates
from geoxt.legend import Legend
from geoxt.plot.interactive_map import draw_map, mercator_grid
from geoxt.samplers import GridSampler
from geoxt.testing import make_grid

LEGEND = Legend((1, 5), ("<b>water", "forest"), ("#0000ff", "#00c800"))
GRID = make_grid((64, 48))


@pytest.fixture
def data():
    codes = np.full((64, 48), 1, "uint8")
    codes[:, 24:] = 5
    codes[:8, :8] = 0
    image = np.random.default_rng(0).random((3, 64, 48)).astype("float32")
    variables = {
        "image": (("band", "y", "x"), image),
        "cover": (("y", "x"), codes, {"_FillValue": np.uint8(0), **LEGEND.attrs()}),
    }
    return xr.Dataset(variables, coords={"band": ["red", "green", "blue"], **coordinates(GRID)})


def uri_of(renderer):
    source = renderer.data_source.data
    return source["url"][0] if "url" in source else renderer.glyph.url


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_pixels_have_the_colors_of_their_classes(data):
    shown = data["cover"].geoml.explore()
    image = next(r for r in shown.figure.renderers if type(r.glyph).__name__ == "ImageURL")
    with MemoryFile(base64.b64decode(uri_of(image).partition(",")[2])) as file, file.open() as png:
        pixels = png.read().transpose(1, 2, 0)
    target = mercator_grid(GRID)
    assert pixels.shape[:2] == target.shape
    rows, cols = np.indices(target.shape)
    x, y = target.affine @ np.stack([cols.ravel() + 0.5, rows.ravel() + 0.5])
    east, north = Transformer.from_crs("EPSG:3857", GRID.crs.to_wkt(), always_xy=True).transform(x, y)
    col, row = np.floor(~GRID.affine @ np.stack([east, north])).astype(int)
    inside = (row >= 0) & (row < 64) & (col >= 0) & (col < 48)
    codes = np.where(inside, data["cover"].to_numpy()[row.clip(0, 63), col.clip(0, 47)], 0)
    expected = np.zeros((len(codes), 4), "uint8")
    expected[codes == 1], expected[codes == 5] = (0, 0, 255, 255), (0, 200, 0, 255)
    drawn = np.where(pixels[..., 3:] > 0, pixels, 0).reshape(-1, 4)
    assert (drawn == expected).all(1).mean() > 0.99
    assert repr(shown) == "<InteractiveMap: cover, <b>water, forest>"


def test_pages_are_escaped_and_load_nothing(data, tmp_path):
    shown = data.geoml.explore(title="<i>title")
    page = shown.save(tmp_path / "map.html").read_text(encoding="utf-8")
    assert re.findall(r"""<(?:script|link|img)[^>]+(?:src|href)=["']?http""", page) == []
    assert "<b>water" not in page.replace("\\u003cb", "<B").split("<script")[0]
    frame = shown._repr_html_()
    assert frame.startswith("<iframe srcdoc=")
    assert "<script" not in frame
    assert "OpenStreetMap" in data.geoml.explore(basemap="OSM").to_html()
    with pytest.raises(OutputError, match="map.html"):
        shown.save(tmp_path / "map.html" / "map.html")


def test_windows_of_splits_and_samplers_are_outlined(data):
    split = splits.by_block(data["cover"], size=16, seed=0)
    shown = split.explore(data)
    outlines = [r for r in shown.figure.renderers if "xs" in r.data_source.data]
    assert [len(r.data_source.data["xs"]) for r in outlines] == [len(part.windows) for part in split.parts.values()]
    assert f"train ({len(split.train.windows)})" in repr(shown)
    sampler = GridSampler(data, size=16)
    (drawn,) = (r.data_source.data for r in sampler.explore().figure.renderers)
    window = sampler[0]
    x, y = GRID.affine @ (window.col, window.row)
    expected = Transformer.from_crs(GRID.crs.to_wkt(), "EPSG:3857", always_xy=True).transform(x, y)
    assert (drawn["xs"][0][0][0][0], drawn["ys"][0][0][0][0]) == pytest.approx(expected)
    assert (drawn["row"][0], drawn["height"][0]) == (window.row, 16)


def test_unsuitable_data_raise(data):
    with pytest.raises(InputError, match="none of the variables"):
        plot.explore(xr.Dataset({"a": ("time", [1, 2])}))
    with pytest.raises(InputError, match="time"):
        plot.explore(data["cover"].expand_dims(time=2))
    without = data["cover"].drop_vars("spatial_ref", errors="ignore")
    without.attrs.pop("grid_mapping", None)
    with pytest.raises(CRSError, match="CRS"):
        plot.explore(without.assign_coords(x=np.arange(48.0), y=np.arange(64.0)).drop_encoding())
    assert repr(draw_map(None, ())) == "<InteractiveMap: empty>"


def test_maps_of_the_world_end_at_85_degrees():
    world = GeoBox.from_bbox((-180, -90, 180, 90), "EPSG:4326", shape=(18, 36))
    half = np.pi * 6378137
    assert mercator_grid(world).boundingbox.bbox == pytest.approx((-half, -half, half, half))
    layer = xr.DataArray(np.ones((18, 36), "float32"), dims=("y", "x"), coords=coordinates(world))
    assert repr(plot.explore(layer)) == "<InteractiveMap: layer>"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_a_browser_without_network_shows_the_map(data, tmp_path):
    splits.by_block(data["cover"], size=16, seed=0).explore(data["cover"]).save(tmp_path / "map.html")
    command = [shutil.which("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=900,600", "--virtual-time-budget=5000"]
    command += [f"--screenshot={tmp_path / 'map.png'}", (tmp_path / "map.html").as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with rasterio.open(tmp_path / "map.png") as file:
        red, green, blue = file.read((1, 2, 3)).astype(int)
    assert ((blue > 150) & (red < 110) & (green < 110)).sum() > 20_000  # water below outlines
    assert ((green > 130) & (red < 110) & (blue < 110)).sum() > 20_000  # forest
