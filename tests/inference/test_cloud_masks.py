"""The ONNX cloud mask networks of the package ukis-csmask give the same classes as that package, on Sentinel-2."""

import json
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from geoxt.inference import predict
from geoxt.layers import open_cogs
from geoxt.legend import Legend
from geoxt.models import from_file

CELL = Path(__file__).parents[3] / "shared" / "data" / "sentinel" / "s2-l2a-33NZA"
BANDS = {"blue": "B02", "green": "B03", "red": "B04", "nir": "B08", "swir16": "B11", "swir22": "B12"}
pytestmark = [
    pytest.mark.skipif(find_spec("ukis_csmask") is None, reason="needs the package ukis-csmask"),
    pytest.mark.skipif(not CELL.is_dir(), reason="needs the Sentinel-2 cell of shared/data"),
]


@pytest.fixture(scope="module")
def scene():
    """One tile of the package, half of it darkened, so that not all pixels are clouds."""
    layers = [open_cogs(CELL / f"{band}.tif") for band in BANDS.values()]
    pixels = [layer.isel(x=slice(256), y=slice(256)) if layer.sizes["x"] > 600 else layer for layer in layers]
    fine = pixels[0]
    values = [layer.to_numpy().squeeze() for layer in pixels]
    values = [v if v.shape == (256, 256) else v.repeat(2, 0).repeat(2, 1)[:256, :256] for v in values]
    stack = np.stack(values).astype("float32")
    stack[:, :, 128:] *= 0.2
    coords = {"band": list(BANDS.values()), "y": fine["y"], "x": fine["x"], "spatial_ref": fine["spatial_ref"]}
    return xr.DataArray(stack, dims=("band", "y", "x"), coords=coords)


@pytest.mark.parametrize("level", ["l2a", pytest.param("l1c", marks=pytest.mark.slow)])
@pytest.mark.parametrize("count", [4, pytest.param(6, marks=pytest.mark.slow)])
def test_classes_equal_those_of_the_package(scene, count, level):
    mask = pytest.importorskip("ukis_csmask.mask")
    path = Path(mask.__file__).with_name(f"model_{count}b_{level}.onnx")
    statistics = json.loads(path.with_suffix(".json").read_text())["data"]["dataset_statistics"]
    mean, std = (np.array(values) * 10000 for values in statistics["img"])
    names = statistics["band_names"]
    clouds = from_file(
        path, bands=names, mean=mean, std=std, legend=Legend((0, 1, 2), ("clear", "cloud", "cloud shadow"))
    )
    cover = predict(scene, clouds, size=256, batch_size=1, bands={name: BANDS[name] for name in names})
    image = np.moveaxis(scene.to_numpy()[:count] / np.float32(10000), 0, -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = mask.CSmask(image, list(BANDS)[:count], product_level=level, intra_op_num_threads=1)
    # its map blends mirrored tiles beyond the edges; its session, on the image that it scaled, has none
    tile = np.moveaxis(package.img, -1, 0)[None]
    expected = package.session.run(None, {package.input_names: tile})[0][0].argmax(axis=0)
    assert len(np.unique(expected)) > 1
    assert (cover.to_numpy() == expected).mean() > 0.999  # scaling in other units rounds differently
