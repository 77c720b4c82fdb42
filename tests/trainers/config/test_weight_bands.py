"""Bands of pretrained weights match those of the data by meaning; equal names of other meaning raise."""

import pytest

from geoxt.errors import InputError
from geoxt.models import weights
from geoxt.models.card import Card
from geoxt.trainers.config.weight_bands import alias_by_common_name

OLI = "torchgeo:ResNet18_Weights.LANDSAT_OLI_TIRS_TOA_MOCO"


def card(*bands, common=None):
    count = len(bands)
    return Card(
        task="segmentation", model="unet", bands=bands, mean=(0.0,) * count, std=(1.0,) * count, codes=(0, 1),
        names=("a", "b"), colors=("#000000", "#ffffff"), size=(8, 8), common_names=bands if common is None else common,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "alias"),
    [
        ("efficientnet_lite0-imagenet", {"blue": "B", "red": "R"}),
        ("torchgeo:ResNet18_Weights.SENTINEL2_ALL_MOCO", {"blue": "B02", "red": "B04", "swir16": "B11"}),
        ("torchgeo:ResNet18_Weights.LANDSAT_ETM_SR_MOCO", {"blue": "SR_B1", "red": "SR_B3", "swir16": "SR_B5"}),
        ("torchgeo:ResNet18_Weights.LANDSAT_TM_TOA_MOCO", {"blue": "B1", "red": "B3", "swir16": "B5"}),
        (OLI, {"blue": "B2", "red": "B4", "swir16": "B6"}),
    ],
)
def test_bands_match_by_common_name(name, alias):
    assert alias_by_common_name(card("blue", "red", "swir16"), weights.get(name)) == alias


def test_equal_names_of_one_meaning_need_no_alias():
    bands = ("B2", "B4")
    assert alias_by_common_name(card(*bands, common=("blue", "red")), weights.get(OLI)) == {}
    assert alias_by_common_name(card(*bands, common=()), weights.get(OLI)) == {}


def test_equal_names_of_two_meanings_raise():
    with pytest.raises(InputError, match="'B2' is green in the data, and blue in the weights"):
        alias_by_common_name(card("B2", "B3", common=("green", "red")), weights.get(OLI))
