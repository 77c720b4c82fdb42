"""The public API has types: mypy knows every name, and rejects misspelt arguments."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mypy import api

import geoxt

ROOT = Path(__file__).parents[1]
NAMES = sorted(set(geoxt.__all__) - {"__version__"})
REVEALS = "\n".join(f"reveal_type(geoxt.{name})" for name in NAMES)
SCRIPT = """
import xarray as xr
import geoxt

layer: xr.DataArray
dem: xr.DataArray
dataset: xr.Dataset
tree: xr.DataTree

# accepted
single = geoxt.open_cogs("a.tif", crs="EPSG:32632", resolution=3)
geoxt.open_stac("catalog.json", bands=["red"], resolution=10)
geoxt.open_vector("fields.gpkg", like=layer)
cube: xr.DataArray = geoxt.open_zarr("cube.zarr", group="r10m", select={"level": 850})
aligned: xr.DataArray = geoxt.align(dem, layer, resampling="bilinear")
pair: xr.Dataset = geoxt.intersection(image=layer, dem=dem)
map_: xr.DataArray = geoxt.predict(layer, "best.ckpt", overlap=64)
geoxt.to_cog(map_, "map.tif")
accessor = geoxt.accessor.DataArrayAccessor(layer)
also_aligned: xr.DataArray = accessor.align(dem)
accessor.predict("best.ckpt", size=512).geoml

# rejected
geoxt.open_cogs("a.tif", resolutoin=3)
geoxt.open_stac("catalog.json", resolutoin=10)
geoxt.open_vector("fields.gpkg", gird=1)
geoxt.open_zarr("cube.zarr", gruop="r10m")
geoxt.align(dem, layer, gird=1)
geoxt.align(dem, layer, resampling="bilinaer")
geoxt.predict(layer, "best.ckpt", overlpa=64)
geoxt.to_cog(layer, "map.tif", resmue=True)
geoxt.to_zarr(layer, "map.zarr", resmue=True)
geoxt.detect(layer, "best.ckpt", scroe=0.5)
geoxt.union(layer, dem, chunsk=512)
accessor.align(dem, gird=1)
accessor.predict("best.ckpt", siez=512)
"""


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    """Return a function that runs mypy on a script and returns its messages by line number."""
    path = tmp_path_factory.mktemp("mypy") / "script.py"

    def run(script: str) -> dict[int, str]:
        path.write_text(script)
        # The options and the cache of `mypy`: without a cache of all modules this takes a minute.
        options = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
        out, err, _ = api.run([*options, "--no-error-summary", "--hide-error-context", str(path)])
        assert not err, err
        messages = re.findall(r"script\.py:(\d+): (?:error|note): (.*)", out)
        return {int(line): text for line, text in reversed(messages)}

    return run


@pytest.mark.slow
def test_every_top_level_name_has_its_type(check):
    messages = check(f"import geoxt\n{REVEALS}\n")
    types = {name: messages[line] for line, name in enumerate(NAMES, 2)}
    assert {
        name: text for name, text in types.items() if re.search(r'Revealed type is "(Any|def \(\*.*Any\))', text)
    } == {}


@pytest.mark.slow
def test_misspelt_arguments_are_rejected_and_correct_ones_accepted(check):
    messages = check(SCRIPT)
    lines = SCRIPT.splitlines()
    start = lines.index("# rejected") + 1
    assert set(messages) == set(range(start + 1, len(lines) + 1)), messages
