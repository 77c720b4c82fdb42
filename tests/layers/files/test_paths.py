"""Scenes as distributed: `.SAFE` trees, archives and folders, identified by file names."""

import shutil
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio

from geoxt.errors import CRSError, GridError, InputError, ReadError
from geoxt.grid import grid_of
from geoxt.layers import open_cogs, open_stac, products
from geoxt.layers.archives import ARCHIVES, read_bytes
from geoxt.layers.products import is_scene_name, match_path
from geoxt.source import view_of
from geoxt.testing import distinct, make_grid, make_item, write_cog

JP2 = "JP2OpenJPEG"
with rasterio.Env() as gdal:
    jp2 = pytest.mark.skipif(JP2 not in gdal.drivers(), reason="GDAL lacks a JPEG 2000 driver that writes")
SIDE = 120
"""Side in pixels of 10 m; 20 pixels of 60 m."""
SIZES = {
    "L2A": {
        10: ("B02", "B03", "B04", "B08", "AOT"),
        20: ("B02", "B05", "B8A", "SCL", "AOT"),
        60: ("B01", "B02", "B09"),
    },
    "L1C": {10: ("B02", "B03", "B04", "B08", "TCI"), 20: ("B05", "B8A"), 60: ("B01", "B09", "B10")},
}
STEM = "T16TFM_20220412T162841"
LANDSAT = "LC08_L2SP_023032_20210622_20210629_02_T1"
GRID = make_grid((40, 50))
WHEN = datetime(2022, 4, 12, 16, 28, 41, tzinfo=UTC)


def pixels(band, size):
    kind = "uint8" if band in {"SCL", "TCI"} else "uint16"
    values = distinct((SIDE * 10 // size,) * 2, kind)
    return values % 12 if band == "SCL" else values + kind.endswith("16") * (sum(map(ord, band)) + size)


def safe(root, level="L2A", *, baseline="0400", extra=""):
    """Write a small product in the folder layout of ESA; pixel values depend on band and resolution."""
    folder = root / f"S2A_MSI{level}_20220412T162841_N{baseline}_R083_T16TFM_20220412T202300.SAFE"
    images = folder / "GRANULE" / f"{level}_T16TFM_A035554_20220412T163635" / "IMG_DATA"
    for size, bands in SIZES[level].items():
        grid = make_grid((SIDE * 10 // size,) * 2, resolution=float(size), left=600_000, top=4_600_000)
        for band in bands:
            name = f"R{size}m/{extra}{STEM}_{band}_{size}m.jp2" if level == "L2A" else f"{STEM}_{band}.jp2"
            write_jp2(images / name, pixels(band, size), grid)
    return folder


def write_jp2(path, values, grid):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, cols = values.shape
    head = {"driver": JP2, "height": rows, "width": cols, "count": 1, "dtype": values.dtype}
    lossless = {"QUALITY": "100", "REVERSIBLE": "YES"}
    with rasterio.open(path, "w", crs=grid.crs.to_wkt(), transform=grid.affine, **head, **lossless) as file:
        file.write(values, 1)


def metadata(folder, level="L2A", *, offset=-1000, quantity=10_000):
    """Write the scales and offsets of the product metadata."""
    kind, tag = ("BOA", "BOA_QUANTIFICATION_VALUE") if level == "L2A" else ("RADIO", "QUANTIFICATION_VALUE")
    offsets = "".join(f'<{kind}_ADD_OFFSET band_id="{n}">{offset}</{kind}_ADD_OFFSET>' for n in range(13))
    water = '<WVP_QUANTIFICATION_VALUE unit="cm">1000.0</WVP_QUANTIFICATION_VALUE>' if level == "L2A" else ""
    text = f'<?xml version="1.0"?><n1:P xmlns:n1="https://a.b/{level}.xsd"><n1:General_Info><Q><{tag} unit="none">'
    text += f"{quantity}</{tag}>{water}</Q><List>{offsets if offset else ''}</List></n1:General_Info></n1:P>"
    (folder / f"MTD_MSI{level}.xml").write_text(text, encoding="utf-8")


def values_of(layer):
    return layer.compute(scheduler="synchronous").values


def pack(folder, ending):
    """Pack a folder as archives are distributed: `.SAFE` with its folder, Landsat without."""
    target = folder.parent / f"{folder.name}{ending}"
    if ending == ".zip":
        return Path(shutil.make_archive(str(folder), "zip", folder.parent, folder.name))
    with tarfile.open(target, "w:gz" if ending in {".tgz", ".tar.gz"} else "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.add(path, f"./{path.name}" if ending == ".tgz" else path.name)
    return target


@pytest.fixture(scope="module")
def l2a(tmp_path_factory):
    return safe(tmp_path_factory.mktemp("l2a"))


@jp2
@pytest.mark.parametrize("level", ["L2A", "L1C"])
def test_safe_bands_open_at_native_resolution(tmp_path, level):
    folder = safe(tmp_path, level)
    for bands, size in ((["red", "B02"], 10), (["B8A"], 20), (["B01", "nir09"], 60)):
        layer = open_cogs(folder, bands=bands)
        names = layer.band.values.tolist()
        assert (layer.dtype, layer.attrs["_FillValue"]) == (np.dtype("uint16"), 0)
        assert grid_of(layer).affine.a == size
        assert np.array_equal(values_of(layer), [pixels(name, size) for name in names])
    product = products.get("sentinel2" if level == "L2A" else "sentinel2_l1c")
    assert layer.attrs["long_name"] == product.title
    assert layer.common_name.values.tolist() == ["coastal", "nir09"]
    (scene,) = view_of(layer).source.scenes
    assert (scene.id, scene.start) == (folder.stem, np.datetime64("2022-04-12T16:28:41", "ns"))


@jp2
def test_zipped_safe_equals_the_folder(l2a):
    archive = pack(l2a, ".zip")
    for options in ({"bands": ["B02", "B04"]}, {"resolution": 10, "rescale": True}, {"bands": ["SCL"]}):
        layers = open_cogs(l2a, **options), open_cogs(archive, **options)
        assert np.array_equal(*map(values_of, layers), equal_nan=True)
        attrs = [{k: str(v) for k, v in layer.attrs.items()} for layer in layers]
        assert attrs[0] == attrs[1]


@jp2
def test_all_safe_bands_need_a_resolution(l2a):
    with pytest.raises(GridError, match="Pass resolution="):
        open_cogs(l2a)
    layer = open_cogs(l2a, resolution=20)
    assert layer.band.values.tolist() == ["B01", "B02", "B03", "B04", "B05", "B08", "B8A", "B09"]
    assert [a.grid.affine.a for a in view_of(layer).source.scenes[0].assets] == [60, 10, 10, 10, 20, 10, 20, 60]


@jp2
def test_scene_classification_equals_the_stac_layer(l2a):
    layer = open_cogs(l2a, bands="SCL")
    image = l2a / "GRANULE" / "L2A_T16TFM_A035554_20220412T163635" / "IMG_DATA" / "R20m" / f"{STEM}_SCL_20m.jp2"
    item = make_item("one", {"SCL": image}, time=WHEN, collection="sentinel-2-l2a")
    served = open_stac(item, bands=["SCL"])
    assert served.geoml.legend == layer.geoml.legend == products.get("sentinel2").qa[0].legend
    assert layer.dims == served.dims == ("y", "x")
    assert np.array_equal(values_of(layer), values_of(served))
    assert open_cogs(l2a, bands="SCL", categorical=False).dims == ("band", "y", "x")


@jp2
def test_clouds_of_a_safe_tree_are_excluded(l2a):
    layer = open_cogs(l2a, bands=["B05"], exclude="clouds")
    clouds = np.isin(pixels("SCL", 20), (0, 8, 9, 10))
    assert 0.2 < clouds.mean() < 0.5
    assert np.array_equal(values_of(layer)[0], np.where(clouds, 0, pixels("B05", 20)))


@jp2
@pytest.mark.parametrize(
    ("baseline", "tags", "scale", "offset"),
    [
        ("0301", None, 0.0001, 0),
        ("0400", None, 0.0001, -0.1),
        ("9999", {"offset": -1000}, 0.0001, -0.1),
        ("9999", {"offset": 0}, 0.0001, 0),
        ("0509", {"offset": -500, "quantity": 20_000}, 0.00005, -0.025),
    ],
)
@pytest.mark.parametrize("level", ["L2A", "L1C"])
def test_offsets_follow_metadata_then_baseline(tmp_path, level, baseline, tags, scale, offset):
    folder = safe(tmp_path, level, baseline=baseline)
    if tags:
        metadata(folder, level, **tags)
    layer = open_cogs(folder, bands=["B04"])
    assert (layer.attrs["scales"], layer.attrs["offsets"]) == ([scale], [offset])
    physical = values_of(open_cogs(folder, bands=["B04"], rescale=True))
    assert np.allclose(physical[0], pixels("B04", 10) * scale + offset, rtol=1e-6, atol=1e-6)


@jp2
def test_unknown_baseline_needs_metadata(tmp_path):
    folder = safe(tmp_path, baseline="9999")
    with pytest.raises(InputError, match="depend on the processing baseline, which is 9999"):
        open_cogs(folder, bands=["B04"], rescale=True)
    (folder / "MTD_MSIL2A.xml").write_text("<a>", encoding="utf-8")
    with pytest.raises(ReadError, match="Cannot read scales from .*MTD_MSIL2A.xml': ParseError"):
        open_cogs(folder, bands=["B04"])


@jp2
def test_safe_trees_are_found_by_folder_and_pattern(tmp_path):
    first = safe(tmp_path, extra="L2A_")  # file names of products of 2017
    other = tmp_path / first.name.replace("20220412T162841_N", "20220422T162841_N")
    shutil.copytree(first, other)
    for paths in (tmp_path, tmp_path / "S2?_MSI*.SAFE", [first, other]):
        layer = open_cogs(paths, bands=["B03"], groupby="day")
        assert layer.time.dt.day.values.tolist() == [12, 22]
        assert np.array_equal(values_of(layer)[1, 0], pixels("B03", 10))


# --- Landsat


def landsat(folder, scene=LANDSAT, bands=("SR_B4", "SR_B5", "ST_B10", "QA_PIXEL"), left=600_000):
    for n, band in enumerate(bands):
        values = distinct((40, 50)) + 3000 * n if band != "QA_PIXEL" else np.full((40, 50), 1 << 3, "uint16")
        grid = make_grid((40, 50), left=left)
        write_cog(folder / f"{scene}_{band}.TIF", values, grid=grid, nodata=1 if band == "QA_PIXEL" else 0, tiled=False)
    return folder


@pytest.mark.parametrize("ending", [".tar", ".tgz", ".zip", ".tar.gz"])
def test_landsat_archive_equals_the_folder(tmp_path, ending):
    folder = landsat(tmp_path / LANDSAT)
    plain = open_cogs(folder)
    archive = pack(folder, ending)
    layer = open_cogs(archive)
    assert layer.band.values.tolist() == plain.band.values.tolist() == ["B4", "B5"]
    assert layer.attrs["long_name"] == "Landsat 8 OLI and TIRS"
    assert (layer.attrs["scales"], layer.name) == ([0.0000275] * 2, "landsat8")
    assert np.array_equal(values_of(layer), values_of(plain))
    assert np.array_equal(values_of(plain)[1], distinct((40, 50)) + 3000)
    assert open_cogs(archive, bands=["ST_B10", "qa_pixel"]).band.values.tolist() == ["B10", "QA_PIXEL"]
    assert (values_of(open_cogs(archive, exclude="clouds")) == 0).all()
    shutil.rmtree(folder)
    assert np.array_equal(values_of(open_cogs(tmp_path)), values_of(layer))  # a folder of archives


def test_flat_folder_of_scenes_is_a_time_series(tmp_path):
    later = LANDSAT.replace("20210622", "20210708")
    landsat(tmp_path), landsat(tmp_path, later, left=600_300)
    (tmp_path / f"{LANDSAT}_MTL.xml").touch()
    layer = open_cogs(tmp_path, groupby="day")
    assert layer.shape == (2, 2, 40, 60)
    assert [s.id for s in view_of(layer).source.scenes] == [LANDSAT, later]


def test_mixed_processing_levels_raise(tmp_path):
    landsat(tmp_path), landsat(tmp_path, LANDSAT.replace("L2SP", "L1TP"), ("B4", "B5"))
    with pytest.raises(InputError, match=r"band 'B4' is B4 in scene 'LC08_L1TP.*, and SR_B4 in scene .*bands=\["):
        open_cogs(tmp_path)
    assert len(view_of(open_cogs(tmp_path, bands=["SR_B4"])).source.scenes) == 1


def test_search_errors_list_expected_names(tmp_path):
    landsat(tmp_path)
    with pytest.raises(
        InputError, match=r"sentinel2 in '.*': no name has the form 'S2.*'T\{tile\}_\{date\}_\{band\}_.* 4 files: 'LC"
    ):
        open_cogs(tmp_path, product="sentinel2")
    with pytest.raises(
        InputError, match=r"Cannot find the bands \['B3'\] in '.*': its files have \['B10', 'B4',.*bands="
    ):
        open_cogs(tmp_path, bands=["green"])
    landsat(tmp_path, LANDSAT.replace("LC08", "LC09"))
    with pytest.raises(InputError, match=r"may be of landsat8 \('.*'\), landsat9 \('.*'\). Pass product="):
        open_cogs(tmp_path)
    assert len(view_of(open_cogs(tmp_path, product="landsat9")).source.scenes) == 1
    other = tmp_path / "other"
    write_cog(other / "some.tif", distinct((40, 50)), grid=GRID)
    with pytest.raises(InputError, match=r"any known product in '.*other': it holds 1 files: 'some.tif'"):
        open_cogs(other)


def test_broken_archive_raises(tmp_path):
    for ending in ARCHIVES:
        path = tmp_path / f"{LANDSAT}{ending}"
        path.write_bytes(b"none of these")
        with pytest.raises(ReadError, match=f"Cannot list the files of '{path}'"):
            open_cogs(path)


# --- Sentinel-1


def test_sentinel1_opens_by_polarization(tmp_path):
    stem = "S1A_IW_20221204T161641_DVR_RTC30_G_gpuned_1AE1"
    for band in ("VH", "VV"):
        write_cog(tmp_path / stem / f"{stem}_{band}.tif", distinct((40, 50), "float32"), grid=GRID, tiled=False)
    write_cog(tmp_path / stem / f"{stem}_ls_map.tif", distinct((40, 50), "uint8"), grid=GRID, tiled=False)
    for path in (tmp_path, pack(tmp_path / stem, ".zip")):
        layer = open_cogs(path)
        assert (layer.band.values.tolist(), layer.name, layer.attrs["_FillValue"]) == (["VV", "VH"], "sentinel1", 0)


def test_sentinel1_grd_without_grid_raises(tmp_path):
    product = "S1A_IW_GRDH_1SDV_20170613T165043_20170613T165108_017018_01C5B7_1A2B.SAFE"
    name = "s1a-iw-grd-vv-20170613t165043-20170613t165108-017018-01c5b7-001.tiff"
    points = [
        rasterio.control.GroundControlPoint(r, c, 10 + c / 100, 50 - r / 100) for r, c in ((0, 0), (0, 9), (9, 0))
    ]
    (tmp_path / product / "measurement").mkdir(parents=True)
    head = {"driver": "GTiff", "height": 10, "width": 10, "count": 1, "dtype": "uint16"}
    with rasterio.open(tmp_path / product / "measurement" / name, "w", gcps=points, crs="EPSG:4326", **head) as file:
        file.write(distinct((10, 10)), 1)
    with pytest.raises(CRSError, match="no geotransform, only ground control points.*gdalwarp"):
        open_cogs(tmp_path / product)


# --- helpers


def test_scene_names_are_recognized():
    assert is_scene_name(f"/data/{LANDSAT}.tar")
    assert is_scene_name("S2A_MSIL1C_20220412T162841_N0400_R083_T16TFM_20220412T202300.SAFE/")
    assert not is_scene_name("/data/scenes.tar")
    inside = "S2A_MSI{0}_20220412T162841_N0400_R083_T16TFM_20220412T202300.SAFE/a/" + f"{STEM}_B02.jp2"
    assert [product.name for product in match_path(inside.format("L1C"))] == ["sentinel2_l1c"]
    assert [product.name for product in match_path(f"{STEM}_B02.jp2")] == ["sentinel2", "sentinel2_l1c"]


def test_read_bytes_from_folders_and_archives(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_bytes(b"abc")
    zipped, tarred = pack(tmp_path / "in", ".zip"), pack(tmp_path / "in", ".tgz")
    assert read_bytes(str(tmp_path / "in" / "a.txt")) == b"abc"
    assert read_bytes(f"/vsizip/{{{zipped}}}/in/a.txt") == read_bytes(f"/vsizip/{zipped}/in/a.txt") == b"abc"
    assert read_bytes(f"/vsitar/{{{tarred}}}/a.txt") == read_bytes(f"/vsitar/{tarred}/a.txt") == b"abc"
    for missing in (f"/vsizip/{zipped}/in/b.txt", f"/vsitar/{tarred}/b.txt", str(tmp_path), "https://a.b/c.txt"):
        assert read_bytes(missing) is None
