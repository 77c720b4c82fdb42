"""`geoxt predict`: the map that predict gives, in a file; errors in one line; nothing half-written."""

import shutil

import numpy as np
import pytest
import rasterio
import torch
import xarray as xr

from geoxt import cli
from geoxt.cli.errors import for_the_shell
from geoxt.errors import InputError, OutputError
from geoxt.inference import predict
from geoxt.layers import open_cogs
from geoxt.models import Card, Network
from geoxt.models.mlm import MLM, to_stac
from geoxt.models.network import CARD, PREFIX
from geoxt.testing import make_grid, write_cog
from geoxt.writers import blocks
from geoxt.writers.progress import Bar

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


TILES = ("--size", "32", "--overlap", "8", "--batch", "3", "--blend", "hann")


def test_the_file_holds_what_predict_gives(files, tmp_path, capsys):
    out = tmp_path / "map.tif"
    assert run(files, out, *TILES, "--bands", "red=B04") == 0
    assert capsys.readouterr().out == f"{out}\n"
    layer = open_cogs(files / "image.tif")
    wanted = predict(layer, files / "model.ckpt", size=32, overlap=8, batch_size=3, blend="hann", bands={"red": "B04"})
    with rasterio.open(out) as file:
        np.testing.assert_array_equal(file.read(1), wanted)
        assert file.colormap(1)[7] == (0, 0, 255, 255)
    assert run(files, tmp_path / "map.zarr", *TILES, "--bands", "red=B04", "--output", "probabilities") == 0
    stored = xr.open_zarr(tmp_path / "map.zarr")["prediction"]
    assert list(stored["band"].values) == ["open water", "forest", "city"]


@pytest.mark.parametrize(
    ("out", "options", "words"),
    [
        ("map.tif", (), ["has no band 'red', only nir, green, B04", "--bands MODEL=IMAGE"]),
        ("map.tif", ("--bands", "red"), ["Cannot read --bands 'red'", "nir=B08"]),
        ("map.tif", ("--bands", "red=B04", "--size", "32", "--overlap", "32"), ["overlap"]),
        ("map.tif", ("--bands", "rot=B04"), ["Cannot give the band 'rot'", "pass --bands the layer's names"]),
        ("map.tif", ("--bands", "red=B04", "--batch", "0"), ["with --batch 0"]),
        ("map.gpkg", ("--bands", "red=B04"), ["the model maps pixels", ".tif, .tiff, .zarr"]),
        ("map.tif", ("--model", "missing.ckpt"), ["Cannot read the checkpoint 'missing.ckpt'"]),
    ],
)
def test_an_error_is_one_line_and_exits_2(files, tmp_path, capsys, out, options, words):
    assert run(files, tmp_path / out, *options) == 2
    found = capsys.readouterr().err
    assert found.startswith("geoxt: Cannot")
    assert found.count("\n") == 1
    assert [word for word in words if word not in found] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["image.tif", "./image.tif"])
def test_the_image_itself_is_never_written_over(files, tmp_path, capsys, monkeypatch, name):
    shutil.copy(files / "image.tif", tmp_path / "image.tif")
    before = (tmp_path / "image.tif").read_bytes()
    monkeypatch.chdir(tmp_path)
    asked = ["predict", "im*.tif", "--model", str(files / "model.ckpt"), "--out", name, "--bands", "red=B04"]
    assert cli.main(asked) == 2
    assert "it is what the map is made from" in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["image.tif"]
    assert (tmp_path / "image.tif").read_bytes() == before


@pytest.mark.parametrize("options", [(), ("--no-resume",)])
def test_ctrl_c_leaves_nothing_half_written(files, tmp_path, capsys, monkeypatch, options):
    class Stops(Bar):
        def step(self):
            raise KeyboardInterrupt

    monkeypatch.setattr(blocks, "Bar", Stops)
    assert run(files, tmp_path / "map.tif", *TILES, "--bands", "red=B04", *options) == 130
    told = capsys.readouterr().err
    assert told.startswith("geoxt: interrupted")
    left = list(tmp_path.iterdir())
    if options:
        assert left == []
    else:
        assert "1 finished regions are kept in" in told
        assert [one.name.endswith(".parts") for one in left] == [True]
    monkeypatch.undo()
    assert run(files, tmp_path / "map.tif", *TILES, "--bands", "red=B04") == 0
    assert {one.name for one in tmp_path.iterdir()} == {"map.tif", "map.tif.aux.xml"}


def test_what_cannot_be_opened_is_mended_on_the_command_line(files, tmp_path, capsys):
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
        said = capsys.readouterr().err.splitlines()[-1]
        assert [word for word in words if word not in said] == []
        assert "source_crs" not in said
        assert "errors=" not in said
        assert list(out.parent.iterdir()) == []


def test_an_error_retold_for_the_shell_keeps_what_was_noted():
    error = OutputError("Cannot write with size=3 (scene 'a'; errors='nodata' would go on). Pass crs= one.")
    error.add_note("2 regions are kept")
    with pytest.raises(OutputError) as found, for_the_shell("Pass a file.", options={"size": "--size"}):
        raise error
    assert str(found.value) == "Cannot write with --size 3 (scene 'a'). Pass a file."
    assert found.value.__notes__ == error.__notes__
    plain = InputError("Cannot. Pass --bands MODEL=IMAGE.")
    with pytest.raises(InputError) as kept, for_the_shell("Pass a file."):
        raise plain
    assert kept.value is plain
