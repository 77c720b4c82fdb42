"""A model maps layers of other openers: files and catalogs name the same bands differently."""

import numpy as np
import pytest
import torch
import xarray as xr

import geoxt
from geoxt.cli import FAILED, main
from geoxt.errors import InputError
from geoxt.inference.model_bands import select_bands
from geoxt.models import Card, Network
from geoxt.samplers import RandomSampler
from geoxt.testing import make_world
from geoxt.trainers import SelfSupervised, Task, UnlabeledDataModule

CRS = "EPSG:32615"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    return folder, make_world(folder, seed=0, size=96).catalog


@pytest.fixture(scope="module")
def layers(world):
    folder, catalog = world
    files = str(folder / "landsat" / "*_SR_B[2-7].TIF")
    return {
        "catalog": geoxt.open_stac(catalog, collections=["landsat-c2-l2"], crs=CRS, name="image"),
        "files": geoxt.open_cogs(files, product="landsat8", crs=CRS, name="image"),
    }


def card_of(layer):
    return UnlabeledDataModule(layer, RandomSampler(layer, size=32, length=4), batch_size=2).card(model="test_unet")


def network_of(layer, tmp_path=None):
    card = card_of(layer)
    fields = {name: getattr(card, name) for name in ("bands", "mean", "std", "common_names", "wavelengths")}
    return Network(
        Card(**fields, task="segmentation", model="test_unet", codes=(0, 1), names=("a", "b"), colors=(), size=(32, 32))
    )


@pytest.mark.parametrize(("trained", "mapped"), [("catalog", "files"), ("files", "catalog")])
def test_model_of_one_opener_maps_the_other(layers, trained, mapped):
    network = network_of(layers[trained])
    assert layers[trained]["band"].values.tolist() != layers[mapped]["band"].values.tolist()
    assert network.card.common_names == ("blue", "green", "red", "nir08", "swir16", "swir22")
    made = geoxt.predict(layers[mapped].isel(band=[5, 0, 4, 1, 3, 2]), network, size=64)
    np.testing.assert_array_equal(made, geoxt.predict(layers[trained], network, size=64))


def test_command_maps_files_of_two_zones(world, layers, tmp_path, capsys):
    task = Task(network_of(layers["catalog"]).card)
    checkpoint = {"state_dict": {f"network.{k}": v for k, v in task.network.state_dict().items()}}
    torch.save({**checkpoint, "geoxt": task.card.to_dict()}, tmp_path / "model.ckpt")
    files, out = str(world[0] / "landsat" / "*_SR_B*.TIF"), tmp_path / "map.tif"
    command = ["predict", files, "--model", str(tmp_path / "model.ckpt"), "--out", str(out), "--size", "64"]
    assert main([*command, "--product", "landsat8", "--crs", CRS]) == 0
    expected = geoxt.predict(layers["catalog"], task.network, size=64)
    np.testing.assert_array_equal(geoxt.open_cogs(out, categorical=True), expected)
    assert main([*command, "--crs", CRS]) == FAILED  # names of files alone do not say which bands they are
    assert "has no band 'blue', 'green'" in (error := capsys.readouterr().err)
    assert "--product, if the files are of a known one, or --bands MODEL=IMAGE" in error
    assert main([*command, "--product", "landsat8"]) == FAILED
    assert "Pass --crs" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "--crs", "native"])
    assert "the command needs one grid" in capsys.readouterr().err


def test_bands_by_names_or_common_names_of_the_layer(layers):
    card = Card(
        task="segmentation", model="test_unet", bands=("r", "n"), mean=(0.0, 0.0), std=(1.0, 1.0), codes=(0, 1),
        names=("a", "b"), colors=(), size=(32, 32),
    )  # fmt: skip
    layer = layers["files"]
    for names in ({"r": "B4", "n": "B5"}, {"r": "red", "n": "nir08"}):
        assert select_bands(layer, card, names)["band"].values.tolist() == ["B4", "B5"]
    with pytest.raises(
        InputError, match="has no band 'n', only B2 .blue., B3 .green..*Or pass the layer's names of them"
    ):
        select_bands(layer, card, {"r": "red"})


def test_name_of_another_sensor_raises(layers):
    network = network_of(layers["files"])
    other = layers["files"].assign_coords(common_name=("band", ["green", "red", "nir", "swir16", "x", "swir22"]))
    with pytest.raises(InputError, match="Cannot match the band 'B2' by its name: it is blue in the model, and green"):
        geoxt.predict(other, network, size=64)


def test_card_survives_a_checkpoint_and_cards_of_earlier_versions_load(layers):
    card = network_of(layers["files"]).card
    assert Card.from_dict(card.to_dict()) == card
    values = card.to_dict()
    del values["common_names"], values["wavelengths"]
    assert Card.from_dict(values).band_names.names == card.bands


def test_plot_takes_common_names(layers):
    from geoxt import plot

    layer = layers["files"].isel(y=slice(0, 16), x=slice(0, 16))
    by_name = plot.rgb(layer, bands=("B5", "B4", "B3"))
    np.testing.assert_array_equal(plot.rgb(layer, bands=("nir08", "red", "green")), by_name)
    with pytest.raises(InputError, match="Cannot plot band 'nir'"):
        plot.rgb(layer, bands=("nir", "red", "green"))


def test_self_supervised_model_maps_embeddings(layers):
    layer = layers["files"].isel(y=slice(0, 64), x=slice(0, 64))
    data = UnlabeledDataModule(layer, RandomSampler(layer, size=32, length=4), batch_size=2)
    task = SelfSupervised(data.card(model="test_classifier"), "simclr")
    made = geoxt.predict(layer, task, size=64)
    assert made.dims == ("band", "y", "x")
    assert made.attrs["long_name"] == "embedding"
    assert made.sizes["band"] > 1
    xr.testing.assert_identical(made.compute(), geoxt.predict(layer, task, size=64, output="embeddings").compute())
