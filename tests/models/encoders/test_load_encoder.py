"""`load` of an encoder by name: rows that it refuses, wrong arguments, dates and units of every row."""

import sys
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from geoxt import models
from geoxt.errors import InputError, MissingDependency
from geoxt.models.encoders.load_encoder import BUILDERS, _units
from geoxt.models.weights import table
from geoxt.testing import make_layer

ROWS = list(table._table().values())
ENCODERS = [row for row in ROWS if row.encoder is not None]


@pytest.mark.parametrize("row", ENCODERS, ids=lambda row: row.name)
def test_row_of_an_encoder_is_complete(row):
    options = row.encoder
    assert options["family"] in BUILDERS
    assert options["size"] % options.get("step", 1) == 0
    units = _units(row, options)
    if options.get("any_bands"):
        assert len(units) == 1
        return
    assert len(units) == len(row.bands) == len(set(row.bands))
    assert {name for group in options.get("groups", ()) for name in group} <= set(row.bands)
    for step in row.steps:
        for key in ("mean", "std", "by"):
            assert not isinstance(step.get(key), list) or len(step[key]) in (1, len(row.bands))
    assert row.steps or options["family"] == "unet"


def test_weights_of_negative_means_take_decibels():
    rows = [row for row in ROWS if row.scaling is not None and row.bands == ("VV", "VH")]
    units = [(_units(row, {})[0], max(row.scaling[0]) < 0) for row in rows]
    assert Counter(units) == {("decibel", True): 13, ("stored", False): 5}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("efficientnet_lite0-imagenet", ["byte"] * 3),
        ("seco:seco_resnet18_1m", ["byte"] * 3),  # quantiles of bytes
        ("torchgeo:ResNet50_Weights.SENTINEL2_RGB_SECO", ["byte"] * 3),
        ("torchgeo:ResNet50_Weights.SENTINEL2_MI_RGB_SATLAS", ["byte"] * 3),  # the 8-bit image of true color
        ("torchgeo:ResNet152_Weights.SENTINEL2_SI_MS_SATLAS", ["byte"] * 3 + ["stored"] * 6),
        ("torchgeo:ResNet18_Weights.LANDSAT_TM_TOA_MOCO", ["byte"] * 7),  # SSL4EO-L, of 8 bits
        ("torchgeo:ViTSmall16_Weights.LANDSAT_OLI_SR_SIMCLR", ["byte"] * 7),
        ("torchgeo:ResNet18_Weights.SENTINEL2_RGB_MOCO", ["reflectance"] * 3),
    ],
)
def test_units_of_weights_of_8_bit_images(name, expected):
    row = table.get(name)
    assert list(_units(row, {})) == expected
    if expected[0] == "byte" and len(set(expected)) == 1:
        layer = make_layer(np.ones((len(row.bands), 4, 4), "uint16"), bands=row.bands)
        with pytest.raises(InputError, match="layer of uint16.*8-bit images"):
            models.load(name, bands=layer)


@pytest.mark.parametrize("row", [row for row in ROWS if row.unsupported], ids=lambda row: row.name)
def test_unsupported_weights_state_reason_and_alternative(row):
    assert row.unsupported.endswith(".")
    alternative = row.unsupported.split("'")[1]
    assert alternative in models.weights.names(encoders=True)
    with pytest.raises(InputError) as error:
        models.load(row.name, bands=["B02"])
    assert row.unsupported in str(error.value)


def test_rows_load_or_state_why_not():
    assert len(ROWS) == 182
    silent = [
        row.name for row in ROWS if row.unsupported is None and row.encoder is None and not (row.timm and row.bands)
    ]
    assert silent == []


def test_families_are_suggested():
    with pytest.raises(InputError, match="Did you mean torchgeo:SatCLIP_Weights.SATCLIP_VIT16_L40"):
        models.load("satclip", bands=["B02"])
    with pytest.raises(InputError, match=r"Did you mean clay:v1 or clay:v1\.5\?"):
        models.load("clay", bands=["B02"])


def test_the_mean_is_offered_where_it_is_known():
    for name, offered in (("torchgeo:ResNet18_Weights.SENTINEL2_RGB_MOCO", False),
                          ("prithvi:eo1_100m", True)):  # fmt: skip
        with pytest.raises(InputError, match="Cannot match the bands") as error:
            models.load(name, bands=["blue"])
        assert ("missing='mean'" in str(error.value)) == offered


def test_names_of_encoders():
    timm, all_names = models.weights.names(), models.weights.names(encoders=True)
    assert set(timm) < set(all_names)
    assert len(all_names) == len(ROWS) - sum(row.unsupported is not None for row in ROWS)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "without bands"),
        ({"bands": ["B02"], "strict": False}, "its name states the weights"),
        ({"bands": ["B02"], "size": 250}, "patches of the model have 32"),
        ({"bands": ["B02"], "dates": 2}, "2 dates .* it takes 1"),
        ({"bands": ["B02"], "time": "2024-01-01"}, "sequence of dates"),
        ({"bands": ["R"], "missing": "mean"}, "has no band|mean is not published"),
        ({"bands": ["B02"], "missing": "random"}, "missing='random'"),
    ],
)
def test_wrong_arguments(options, text):
    if options.get("bands") == ["B02"]:
        options = options | {"bands": ["B02", "B03", "B04"]}
    with pytest.raises(InputError, match=text):
        models.load("torchgeo:Swin_V2_T_Weights.SENTINEL2_SI_RGB_SATLAS", **options)


def test_wrong_arguments_for_a_model():
    with pytest.raises(InputError, match="Linear without their name"):
        models.load(nn.Linear(1, 1))
    with pytest.raises(InputError, match="option 'size'"):
        models.load(nn.Linear(1, 1), "x", size=3)


def test_missing_library_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchgeo", None)
    torch.save({"x": torch.ones(1)}, tmp_path / "x.pth")
    with pytest.raises(MissingDependency, match=r"torchgeo.*pip install 'geoxt\[foundation\]'"):
        models.load("torchgeo:TileNet_Weights.NAIP_ALL_TILE2VEC", bands=["R", "G", "B", "NIR"], file=tmp_path / "x.pth")


def test_encoder_names_match_the_bands():
    radar = models.encoder_names(["VV", "VH"])
    assert "croma:base" in radar
    assert not [name for name in radar if "CopernicusFM" in name]  # it needs bandwidths
    rows = [models.weights.get(name) for name in models.encoder_names(["red", "green", "blue"])]
    assert {len(row.bands) for row in rows if row.bands and not (row.encoder or {}).get("groups")} == {3}
    with pytest.raises(InputError, match="distinct names"):
        models.encoder_names("red")
