"""`geoxt predict`: the file equals the map of `predict`, errors are one line, and no partial file is left."""

import shutil

import numpy as np
import pytest
import rasterio
import torch
import xarray as xr
from tqdm import tqdm

from geoxt import cli, progress
from geoxt.inference import predict
from geoxt.layers import open_cogs
from geoxt.models import Card, Network
from geoxt.models.mlm import MLM, to_stac
from geoxt.models.network import CARD, PREFIX
from geoxt.testing import make_grid, write_cog

BANDS = ("green", "red", "nir")


def make_card(**options):
    return Card(
        task="segmentation", model="test_unet", bands=BANDS, mean=(100.0,) * 3, std=(30.0,) * 3, codes=(7, 2, 40),
        names=("open water", "forest", "city"), colors=("#0000ff", "#00ff00", "#ff0000"), size=(32, 32), **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    network = Network(make_card())
    state = {f"{PREFIX}{name}": value for name, value in network.state_dict().items()}
    card = network.card
    torch.save({CARD: card.to_dict(), MLM: to_stac(card), "state_dict": state}, folder / "model.ckpt")
    values = np.random.default_rng(0).integers(1, 255, (3, 70, 60)).astype("uint8")
    write_cog(folder / "image.tif", values, grid=make_grid((70, 60)), nodata=0, bands=("nir", "green", "B04"))
    return folder


def run(files, out, *options):
    base = ["predict", str(files / "image.tif"), "--model", str(files / "model.ckpt"), "--out", str(out)]
    return cli.main([*base, *options])


TILES = ("--size", "32", "--overlap", "8", "--batch-size", "3", "--blend", "hann")


def test_file_equals_map_of_predict(files, tmp_path, capsys):
    out = tmp_path / "map.tif"
    assert run(files, out, *TILES, "--bands", "red=B04") == 0
    assert capsys.readouterr().out == f"{out}\n"
    layer = open_cogs(files / "image.tif")
    expected = predict(
        layer, files / "model.ckpt", size=32, overlap=8, batch_size=3, blend="hann", bands={"red": "B04"}
    )
    with rasterio.open(out) as file:
        np.testing.assert_array_equal(file.read(1), expected)
        assert file.colormap(1)[7] == (0, 0, 255, 255)
    assert run(files, tmp_path / "map.zarr", *TILES, "--bands", "red=B04", "--output", "probabilities") == 0
    stored = xr.open_zarr(tmp_path / "map.zarr")["prediction"]
    assert list(stored["band"].values) == ["open water", "forest", "city"]


def test_uncertainty_of_members(files, tmp_path):
    network = Network(make_card(), seed=1)
    state = {f"{PREFIX}{name}": value for name, value in network.state_dict().items()}
    torch.save({CARD: network.card.to_dict(), "state_dict": state}, tmp_path / "other.ckpt")
    members = [str(files / "model.ckpt"), str(tmp_path / "other.ckpt")]
    out = tmp_path / "uncertainty.tif"
    image = str(files / "image.tif")
    command = ["predict", image, "--out", str(out), *TILES, "--bands", "red=B04", "--output", "uncertainty"]
    assert cli.main([*command, "--members", *members]) == 0
    layer = open_cogs(image)
    options = {"size": 32, "overlap": 8, "batch_size": 3, "blend": "hann", "bands": {"red": "B04"}}
    expected = predict(layer, members=members, output="uncertainty", **options)
    with rasterio.open(out) as file:
        assert file.descriptions[:3] == ("entropy", "margin", "mutual_information")
        np.testing.assert_array_equal(file.read(), expected)


def test_ensembles_need_a_model_and_a_map(files, tmp_path, capsys):
    image = str(files / "image.tif")
    assert cli.main(["predict", image, "--out", str(tmp_path / "map.tif")]) == 2
    assert "Pass --model. Or pass --members." in capsys.readouterr().err
    assert run(files, tmp_path / "map.csv", "--tta") == 2
    assert "Cannot average predictions of objects" in capsys.readouterr().err
    assert run(files, tmp_path / "map.tif", "--bands", "red=B04", "--num-mc-samples", "3") == 2
    message = capsys.readouterr().err
    assert "no dropout layer" in message
    assert "--members" in message


@pytest.mark.parametrize(
    ("out", "options", "words"),
    [
        ("map.tif", (), ["has no band 'red', only nir, green, B04", "--bands MODEL=IMAGE"]),
        ("map.tif", ("--bands", "red"), ["Cannot read the band names 'red'", "nir=B08"]),
        ("map.tif", ("--bands", "red=B04", "--size", "32", "--overlap", "32"), ["overlap"]),
        ("map.tif", ("--bands", "rot=B04"), ["Cannot pass the band 'rot'", "--bands"]),
        ("map.tif", ("--bands", "red=B04", "--batch-size", "0"), ["--batch-size"]),
        ("map.gpkg", ("--bands", "red=B04"), ["the output of the model is a raster map", ".tif, .tiff, .zarr"]),
        ("map.tif", ("--model", "missing.ckpt"), ["Cannot read the checkpoint 'missing.ckpt'"]),
    ],
)
def test_errors_are_one_line_and_exit_with_2(files, tmp_path, capsys, out, options, words):
    assert run(files, tmp_path / out, *options) == 2
    message = capsys.readouterr().err
    assert message.startswith("geoxt: Cannot")
    assert message.count("\n") == 1
    assert [word for word in words if word not in message] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["image.tif", "./image.tif"])
def test_output_must_not_be_an_input(files, tmp_path, capsys, monkeypatch, name):
    shutil.copy(files / "image.tif", tmp_path / "image.tif")
    before = (tmp_path / "image.tif").read_bytes()
    monkeypatch.chdir(tmp_path)
    arguments = ["predict", "im*.tif", "--model", str(files / "model.ckpt"), "--out", name, "--bands", "red=B04"]
    assert cli.main(arguments) == 2
    assert "the map is made from this file" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["image.tif"]
    assert (tmp_path / "image.tif").read_bytes() == before


@pytest.mark.parametrize("options", [(), ("--no-resume",)])
def test_interrupt_leaves_no_partial_file(files, tmp_path, capsys, monkeypatch, options):
    class InterruptingBar(tqdm):
        def update(self, n=1):
            raise KeyboardInterrupt

    monkeypatch.setattr(progress, "tqdm", InterruptingBar)
    assert run(files, tmp_path / "map.tif", *TILES, "--bands", "red=B04", *options) == 130
    message = capsys.readouterr().err
    assert message.startswith("geoxt: interrupted")
    left = list(tmp_path.iterdir())
    if options:
        assert left == []
    else:
        assert "1 finished blocks are kept in" in message
        assert [path.name.endswith(".parts") for path in left] == [True]
    monkeypatch.undo()
    assert run(files, tmp_path / "map.tif", *TILES, "--bands", "red=B04") == 0
    assert {path.name for path in tmp_path.iterdir()} == {"map.tif", "map.tif.aux.xml"}


def test_remedies_of_unreadable_files_name_no_python_argument(files, tmp_path, capsys):
    values = np.ones((3, 64, 64), "uint8")
    nowhere = write_cog(tmp_path / "nowhere.tif", values, grid=make_grid((64, 64), crs=None), bands=BANDS)
    noise = np.random.default_rng(0).integers(1, 255, (3, 64, 64)).astype("uint8")
    broken = write_cog(tmp_path / "broken.tif", noise, grid=make_grid((64, 64)), bands=BANDS, compress="DEFLATE")
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    for image, words in (
        (nowhere, ["has no CRS", "gdal_edit.py -a_srs"]),
        (broken, ["Cannot read", "(scene 'broken')"]),
    ):
        out = tmp_path / "out" / "map.tif"
        assert cli.main(["predict", str(image), "--model", str(files / "model.ckpt"), "--out", str(out)]) == 2
        message = capsys.readouterr().err.splitlines()[-1]
        assert [word for word in words if word not in message] == []
        assert "source_crs" not in message
        assert "errors=" not in message
        assert list(out.parent.iterdir()) == []
