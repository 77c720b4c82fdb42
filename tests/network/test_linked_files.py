"""Remote files that link to local ones: refused unless their address names them as such."""

from datetime import UTC, datetime

import numpy as np
import pytest
import rasterio.shutil
from support.servers import serve_files

from geoxt.errors import ReadError
from geoxt.layers import open_cogs, open_stac
from geoxt.testing import distinct, make_grid, make_item, write_cog

PIXELS = distinct((20, 30))


@pytest.fixture
def served(tmp_path):
    """URL of a folder with VRTs of a local file under several names, and of a tile service description."""
    local = write_cog(tmp_path / "local.tif", PIXELS, grid=make_grid((20, 30)), nodata=0)
    (tmp_path / "served").mkdir()
    rasterio.shutil.copy(local, tmp_path / "served" / "a.vrt", driver="VRT")
    text = (tmp_path / "served" / "a.vrt").read_text()
    text = text.replace('relativeToVRT="1">../local.tif', f'relativeToVRT="0">{local}')
    assert str(local) in text
    for name in ("a.vrt", "a.tif", "a"):
        (tmp_path / "served" / name).write_text(text)
    service = "<ServerUrl>http://127.0.0.1:1/${z}/${x}/${y}.png</ServerUrl>"
    window = (
        "<UpperLeftX>0</UpperLeftX><UpperLeftY>1</UpperLeftY><LowerRightX>1</LowerRightX><LowerRightY>0</LowerRightY>"
    )
    size = "<SizeX>20</SizeX><SizeY>20</SizeY>"
    (tmp_path / "served" / "wms.tif").write_text(
        f'<GDAL_WMS><Service name="TMS">{service}</Service><DataWindow>{window}{size}</DataWindow>'
        "<Projection>EPSG:4326</Projection><BandsCount>3</BandsCount></GDAL_WMS>"
    )
    with serve_files(tmp_path / "served") as url:
        yield url


@pytest.mark.parametrize("name", ["a.tif", "a", "wms.tif"])
def test_linking_file_under_another_name_raises(served, name):
    with pytest.raises(ReadError, match=r"it is a (VRT|WMS) file, whose sources may be local files"):
        open_cogs(f"{served}/{name}")


def test_file_that_its_address_names_is_opened(served):
    assert np.array_equal(open_cogs(f"{served}/a.vrt").compute(scheduler="synchronous")[0], PIXELS)


def test_item_whose_file_links_raises_at_the_first_read(served, tmp_path):
    item = make_item("one", {"b": tmp_path / "local.tif"}, time=datetime(2020, 1, 1, tzinfo=UTC), collection="c")
    item.assets["b"].href = f"{served}/a.tif"
    layer = open_stac(item)
    with pytest.raises(ReadError, match=r"it is a VRT file.*\(scene 'one'\)"):
        layer.compute(scheduler="synchronous")
