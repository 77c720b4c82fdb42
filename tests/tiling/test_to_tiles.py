"""Tiled maps: tiles equal the map of one piece, jobs resume, parts share the work, failed tiles are tried again."""

import errno
import json
import os
import shutil
from pathlib import Path

import geopandas
import numpy as np
import pystac
import pytest
import rasterio
import shapely
import torch
import xarray as xr
from torch import nn

import geoxt
from geoxt import cli
from geoxt.errors import InputError, OutputError, ReadError
from geoxt.grid import coordinates
from geoxt.models import Card, Network
from geoxt.models.mlm import MLM, to_stac
from geoxt.models.network import CARD, PREFIX
from geoxt.testing import make_grid, write_cog
from geoxt.tiling import read_manifest, tile_job
from geoxt.tiling.tile_states import locked_part

SHAPE = (90, 75)


def make_layer(shape=SHAPE):
    values = np.random.default_rng(0).normal(100, 30, (3, *shape)).astype("float32")
    values[:, :32, :32] = np.nan
    return xr.DataArray(values, dims=("band", "y", "x"), coords=coordinates(make_grid(shape)))


def make_map(layer=None, *, seed=0, **options):
    torch.manual_seed(seed)
    model = nn.Conv2d(3, 3, 5, padding=2)
    return geoxt.predict(make_layer() if layer is None else layer, model, size=32, overlap=10, batch_size=2, **options)


def read(path):
    with rasterio.open(path) as file:
        return file.read()


@pytest.mark.parametrize(("output", "tiles", "crs"), [("classes", 30, None), ("probabilities", 1400, "EPSG:32615")])
def test_tiles_equal_the_map_of_one_piece(tmp_path, output, tiles, crs):
    prediction = make_map(output=output)
    expected = prediction.values.reshape(-1, *SHAPE)
    table = geoxt.to_tiles(prediction, tmp_path / "map", tiles=tiles, tile_crs=crs, progress=False)
    assert set(table["state"]) == {"done", "empty"} if output == "classes" else {"done"}
    np.testing.assert_array_equal(read(tmp_path / "map" / "map.vrt"), expected)
    if output == "classes":
        assert table["tile"][table["state"] == "empty"].tolist() == ["r0c0"]
        assert not list((tmp_path / "map" / "tiles").glob("r0c0*"))
    for row in table[table["state"] == "done"].itertuples():
        with rasterio.open(tmp_path / "map" / "tiles" / f"{row.tile}.tif") as file:
            window = expected[:, row.row : row.row + row.height, row.col : row.col + row.width]
            np.testing.assert_array_equal(file.read(), window)
            left, top = make_grid(SHAPE).affine @ (row.col, row.row)
            assert (file.bounds.left, file.bounds.top) == (left, top)
            assert row.bytes == Path(file.name).stat().st_size


def test_parts_share_the_tiles_and_the_last_publishes_all(tmp_path):
    prediction = make_map()
    first = geoxt.to_tiles(prediction, tmp_path, tiles=40, part="1/2", progress=False)
    assert (first["state"] == "pending").sum() == 3
    last = prediction.geoml.to_tiles(tmp_path, tiles=40, part=(2, 2), progress=False)
    assert set(last["state"]) == {"done"}
    stored = geopandas.read_parquet(tmp_path / "manifest.parquet")
    assert stored.drop(columns="inputs").equals(last.drop(columns="inputs"))
    np.testing.assert_array_equal(read(tmp_path / "map.vrt")[0], prediction.values)


def count_writes(monkeypatch, fail=lambda path: None):
    """Record the tiles that are written, and let some fail."""
    names, to_cog = [], tile_job.to_cog

    def write(layer, path, **options):
        names.append(path.stem)
        fail(path)
        return to_cog(layer, path, **options)

    monkeypatch.setattr(tile_job, "to_cog", write)
    return names


class Killed(BaseException):
    """Stands for a signal that ends the process."""


def test_killed_jobs_resume_with_the_missing_tiles(tmp_path, monkeypatch):
    prediction = make_map()

    def fail(path):
        if path.stem == "r1c0":
            raise Killed

    with monkeypatch.context() as patch:
        count_writes(patch, fail)
        with pytest.raises(Killed):
            geoxt.to_tiles(prediction, tmp_path, tiles=40, progress=False)
    before = read_manifest(tmp_path).set_index("tile")["state"]
    assert list(before[before == "done"].index) == ["r0c0", "r0c1"]
    (tmp_path / "tiles" / "r0c0.tif").unlink()
    (tmp_path / "states" / "r0c1.json").write_text("")  # killed after the file was written, before its state
    names = count_writes(monkeypatch)
    after = geoxt.to_tiles(prediction, tmp_path, tiles=40, progress=False)
    assert set(after["state"]) == {"done"}
    assert sorted(names) == ["r0c0", "r1c0", "r1c1", "r2c0", "r2c1"]
    np.testing.assert_array_equal(read(tmp_path / "map.vrt")[0], prediction.values)
    names.clear()
    geoxt.to_tiles(prediction, tmp_path, tiles=40, progress=False)
    assert names == []


def test_incomplete_files_are_written_again(tmp_path, monkeypatch):
    prediction = make_map()
    geoxt.to_tiles(prediction, tmp_path, tiles=40, progress=False)
    content = {name: (tmp_path / "tiles" / f"{name}.tif").read_bytes() for name in ("r0c1", "r1c0", "r1c1")}
    (tmp_path / "tiles" / "r0c1.tif").write_bytes(content["r0c1"][:-9])  # truncated by a copy
    table = geopandas.read_parquet(tmp_path / "manifest.parquet")
    table.assign(state="pending").to_parquet(tmp_path / "manifest.parquet")
    for name, size in (("r1c0", 0), ("r1c1", 700)):  # killed before the state, and by a power failure
        (tmp_path / "states" / f"{name}.json").unlink()
        (tmp_path / "tiles" / f"{name}.tif").write_bytes(content[name][:size].ljust(len(content[name]), b"\0"))
    (tmp_path / "states" / "r2c0.json").write_text("null")  # complete file
    assert read_manifest(tmp_path)["state"].tolist() == ["done", *["pending"] * 4, "done"]
    names = count_writes(monkeypatch)
    after = geoxt.to_tiles(prediction, tmp_path, tiles=40, progress=False)
    assert set(after["state"]) == {"done"}
    assert sorted(names) == ["r0c1", "r1c0", "r1c1"]
    np.testing.assert_array_equal(read(tmp_path / "map.vrt")[0], prediction.values)


def test_tiles_without_their_sidecars_are_written_again(files, tmp_path):
    def write():
        layer = geoxt.predict(geoxt.open_cogs(files / "image.tif"), files / "model.ckpt", size=32)
        geoxt.to_tiles(layer, tmp_path, tiles=64, progress=False)
        return sorted(file.name for file in (tmp_path / "tiles").iterdir())

    names = write()
    assert "r0c0.tif.aux.xml" in names
    for file in ("states/r0c0.json", "tiles/r0c0.tif.aux.xml"):
        (tmp_path / file).unlink()
    table = geopandas.read_parquet(tmp_path / "manifest.parquet")
    table.assign(state="pending").to_parquet(tmp_path / "manifest.parquet")
    (tmp_path / "tiles" / ".r0c0.tif.parts" / "0123").mkdir(parents=True)  # killed after the file was moved
    assert write() == names


def test_a_full_disk_leaves_no_manifest(tmp_path, monkeypatch):
    def write(table, path, **options):
        Path(path).write_bytes(b"PAR1")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(geopandas.GeoDataFrame, "to_parquet", write)
        with pytest.raises(OutputError, match=r"No space left on device\. Make space there"):
            geoxt.to_tiles(make_layer()[0], tmp_path, tiles=40, progress=False)
    assert not list(tmp_path.glob("m*"))
    assert not list(tmp_path.glob(".manifest.parquet*"))
    assert set(geoxt.to_tiles(make_layer()[0], tmp_path, tiles=40, progress=False)["state"]) <= {"done", "empty"}


def test_failed_tiles_are_tried_again_and_listed(tmp_path, monkeypatch):
    prediction, counts = make_map(), {"r0c1": 1, "r1c0": 9, "r1c1": 9}

    def fail(path):
        counts[path.stem] = counts.get(path.stem, 0) - 1
        if counts[path.stem] >= 0:
            raise InputError("no finite output") if path.stem == "r1c1" else ReadError(f"cannot read {path.stem}")

    with monkeypatch.context() as patch:
        names = count_writes(patch, fail)
        with pytest.raises(OutputError, match=r"2 of 6 map tiles .*'r1c1', 'r1c0'") as error:
            geoxt.to_tiles(prediction, tmp_path, tiles=40, retries=2, progress=False)
    assert error.value.value == ["r1c1", "r1c0"]
    assert (names.count("r0c1"), names.count("r1c0"), names.count("r1c1")) == (2, 3, 1)
    assert names[-1] == "r1c0"  # after all others
    table = read_manifest(tmp_path).set_index("tile")
    assert table["state"]["r0c1"] == "done"
    assert (table["attempts"]["r1c0"], table["error"]["r1c0"]) == (3, "ReadError: cannot read r1c0")
    again = geoxt.to_tiles(prediction, tmp_path, tiles=40, progress=False)
    assert set(again["state"]) == {"done"}
    assert set(again["error"]) == {""}


def test_a_full_disk_ends_the_job(tmp_path, monkeypatch):
    def fail(path):
        raise OutputError("Cannot write.") from OSError(errno.ENOSPC, "No space left on device")

    names = count_writes(monkeypatch, fail)
    with pytest.raises(OutputError, match=r"Cannot write\."):
        geoxt.to_tiles(make_layer()[0], tmp_path, tiles=40, progress=False)
    assert len(names) == 1


def test_system_errors_of_the_computation_fail_its_tiles(tmp_path):
    class Model(nn.Module):
        def forward(self, images):
            if (images == 1).any():
                msg = "connection lost"
                raise ConnectionError(msg)
            return images

    layer = make_layer()
    layer[:, 85, 70] = 1
    prediction = geoxt.predict(layer, Model(), size=32, output="values")
    with pytest.raises(OutputError, match=r"2 of 6 map tiles .*'r1c1', 'r2c1' \(ConnectionError: connection lost\)"):
        geoxt.to_tiles(prediction, tmp_path, tiles=40, retries=0, progress=False)


@pytest.mark.slow
def test_processes_share_the_tiles(tmp_path):
    prediction = make_map()
    table = geoxt.to_tiles(prediction, tmp_path, tiles=40, num_workers=2, progress=False)
    assert set(table["state"]) == {"done"}
    np.testing.assert_array_equal(read(tmp_path / "map.vrt")[0], prediction.values)


def test_two_jobs_of_one_part_raise(tmp_path):
    layer = make_layer()[0]

    def write(part):
        return geoxt.to_tiles(layer, tmp_path, tiles=80, part=part, progress=False)

    write(None)
    with locked_part(tmp_path, (1, 2)):
        write("2/2")
        for part in ("1/1", "1/2", "2/3"):
            with pytest.raises(OutputError, match=rf"process {os.getpid()} of .* writes part 1/2.*part="):
                write(part)
    for part in ("1/1", "1/2", "2/3"):
        write(part)


def test_manifests_of_other_maps_raise(tmp_path):
    geoxt.to_tiles(make_map(), tmp_path, tiles=80, progress=False)

    def resume(prediction, **options):
        return geoxt.to_tiles(prediction, tmp_path, **{"tiles": 80, **options}, progress=False)

    assert len(resume(make_map(chunks=20, device="cpu"))) == 2  # the same map
    for prediction, text in (
        (make_map(seed=1), "another model"),
        (make_map(make_layer() + 1), "another layer"),
        (make_map(blend="hann"), "other options"),
        (make_map(output="probabilities"), "other options"),
    ):
        with pytest.raises(InputError, match=text):
            resume(prediction)
    with pytest.raises(InputError, match="another tiling"):
        resume(make_map(), tiles=41)
    left, top = make_grid(SHAPE).affine @ (20, 20)
    squares = {x: shapely.box(left + x, top - 900, left + x + 900, top) for x in (0, 300)}
    tables = [geopandas.GeoSeries([square], crs="EPSG:32615") for square in squares.values()]
    other = tmp_path.parent / "polygons"
    geoxt.to_tiles(make_map(), other, tiles=tables[0], progress=False)
    with pytest.raises(InputError, match="another tiling"):  # of one name and size, elsewhere
        geoxt.to_tiles(make_map(), other, tiles=tables[1], progress=False)
    content = json.loads((tmp_path / "map.json").read_text())
    (tmp_path / "map.json").write_text(json.dumps(content | {"version": 99, "geoxt": "9.9"}))
    with pytest.raises(InputError, match=r"version 99.*Use geoxt 9\.9"):
        resume(make_map())
    (tmp_path / "map.json").write_text("{")
    with pytest.raises(ReadError, match="map.json"):
        resume(make_map())
    (tmp_path / "map.json").unlink()
    with pytest.raises(OutputError, match="no manifest"):
        resume(make_map())
    shutil.rmtree(tmp_path / "tiles")
    with pytest.raises(ReadError, match="no file 'map.json'"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"part": "3/2"}, "part '3/2'"),
        ({"part": "a"}, "part 'a'"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"retries": -1}, "retries=-1"),
    ],
)
def test_invalid_arguments_raise(tmp_path, options, text):
    with pytest.raises(InputError, match=text):
        geoxt.to_tiles(make_map(), tmp_path, tiles=40, **options)
    with pytest.raises(InputError, match="dimensions"):
        geoxt.to_tiles(make_layer().expand_dims("time"), tmp_path, tiles=40)


def test_trees_have_tiles_and_a_raster_per_node(tmp_path):
    grids = {zone: make_grid((40, 40), crs=f"EPSG:{zone}") for zone in (32615, 32616)}
    layers = {zone: make_layer((40, 40)).assign_coords(coordinates(grid)) for zone, grid in grids.items()}
    tree = xr.DataTree.from_dict({f"epsg_{zone}": xr.Dataset({"image": layer}) for zone, layer in layers.items()})
    prediction = make_map(tree)
    table = geoxt.to_tiles(prediction, tmp_path, tiles=64, progress=False)
    assert table["crs"].tolist() == ["EPSG:32615", "EPSG:32616"]
    for node in tree.children:
        values = prediction[f"{node}/prediction"].values
        np.testing.assert_array_equal(read(tmp_path / f"map-{node}.vrt")[0], values)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    network = Network(Card(
        task="segmentation", model="test_unet", bands=("green", "red", "nir"), mean=(100.0,) * 3, std=(30.0,) * 3,
        codes=(7, 2, 40), names=("open water", "forest", "city"), colors=("#0000ff", "#00ff00", "#ff0000"),
        size=(32, 32),
    ))  # fmt: skip
    state = {f"{PREFIX}{name}": value for name, value in network.state_dict().items()}
    torch.save({CARD: network.card.to_dict(), MLM: to_stac(network.card), "state_dict": state}, folder / "model.ckpt")
    values = np.random.default_rng(0).integers(1, 255, (3, 60, 40)).astype("uint8")
    write_cog(folder / "image.tif", values, grid=make_grid((60, 40)), nodata=0, bands=("nir", "green", "red"))
    return folder


def run(files, out, *options):
    model = ["--model", str(files / "model.ckpt")]
    return cli.main(["predict", str(files / "image.tif"), *model, "--out", str(out), "--size", "32", *options])


def test_command_writes_tiles_with_stac_items(files, tmp_path, capsys):
    out = tmp_path / "country"
    assert run(files, out, "--tiles", "32", "--dry-run", "--rate", "1e6") == 0
    assert "4 (0 more are empty)" in capsys.readouterr().out
    assert not out.exists()
    for part in ("1/2", "2/2"):
        assert run(files, out, "--tiles", "32", "--part", part) == 0
    expected = geoxt.predict(geoxt.open_cogs(files / "image.tif"), files / "model.ckpt", size=32)
    with rasterio.open(out / "map.vrt") as file:
        np.testing.assert_array_equal(file.read(1), expected.values)
        assert file.colormap(1)[7] == (0, 0, 255, 255)
        assert file.tags(1)["flag_values"] == "7 2 40"
    collection = pystac.Collection.from_file(str(out / "collection.json"))
    items = list(collection.get_items())
    assert [item.id for item in items] == ["r0c0", "r0c1", "r1c0", "r1c1"]
    for item in items:
        with rasterio.open(item.assets["map"].get_absolute_href()) as file:
            assert item.properties["proj:code"] == "EPSG:32615"
            assert item.properties["proj:shape"] == list(file.shape)
            assert item.properties["proj:transform"] == list(file.transform)[:6]
            assert shapely.box(*item.bbox).covers(shapely.geometry.shape(item.geometry))
        assert [row["value"] for row in item.assets["map"].extra_fields["classification:classes"]] == [7, 2, 40]
    model = pystac.Item.from_file(items[0].get_single_link("derived_from").get_absolute_href())
    assert Path(model.assets["model"].get_absolute_href()).samefile(files / "model.ckpt")


def test_command_reads_stac_items(files, tmp_path):
    out = tmp_path / "first"
    layer = geoxt.open_cogs(files / "image.tif")
    geoxt.to_tiles(layer, out, tiles=32, progress=False)
    items = [json.loads((out / "tiles" / f"r{row}c0.json").read_text()) for row in (0, 1)]
    for item in items:
        item["assets"]["map"]["href"] = str(out / "tiles" / f"{item['id']}.tif")
        item["assets"]["map"]["bands"] = [{**band, "nodata": 0} for band in item["assets"]["map"]["bands"]]
    (tmp_path / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    model = ["--model", str(files / "model.ckpt"), "--size", "32", "--tiles", "20"]
    assert cli.main(["predict", str(tmp_path / "items.json"), *model, "--out", str(tmp_path / "map")]) == 0
    expected = geoxt.predict(layer.isel(x=slice(32)), files / "model.ckpt", size=32)
    np.testing.assert_array_equal(read(tmp_path / "map" / "map.vrt")[0], expected.values)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--part", "1/2"], "Pass --tiles"),
        (["--dry-run"], "Pass --tiles"),
        (["--tiles", "2.5"], "Or pass --tile-crs"),
        (["--tiles", "32", "--part", "3/2"], "Pass --part 1/4"),
        (["--tiles", "missing.gpkg"], "Pass --tiles a vector file"),
    ],
)
def test_command_errors_name_flags(files, tmp_path, capsys, options, text):
    assert run(files, tmp_path / "out.tif", *options) == 2
    assert text in capsys.readouterr().err
