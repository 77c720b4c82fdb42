"""The table of weights: every row is whole; scalings are what their steps do; searches find by model and bands."""

import pytest
import timm
import torch

from geoxt import models
from geoxt.errors import InputError
from geoxt.models.weights import table

ROWS = list(table._table().values())


def test_names_stand_once_and_files_as_well():
    assert len(ROWS) == len(table._TABLE.read_text(encoding="utf-8").splitlines()) > 180
    assert len({row.file for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_is_whole(row):
    assert (row.url or "").startswith("https://") != (row.package is not None)
    assert "/" not in row.file
    assert row.sha256 is None or 6 <= len(row.sha256) <= 64
    assert row.bands is None or len(row.bands) > 0
    assert {step["op"] for step in row.steps} <= {
        "divide",
        "multiply",
        "normalize",
        "clip_minmax",
        "resize",
        "center_crop",
    }
    assert set(row.unverified) <= set(table.Weights.__dataclass_fields__) | {"keys"}


def test_what_can_be_loaded_has_an_architecture_of_timm():
    for name in models.weights_names():
        row = models.weights_info(name)
        assert timm.is_model(row.architecture.split(".")[0]), name


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [{"op": "divide", "by": 255}],
        [{"op": "divide", "by": 255}, {"op": "normalize", "mean": [0.1, 0.2], "std": [0.3, 0.4]}],
        [{"op": "normalize", "mean": [7.0, 8.0], "std": [2.0, 4.0]}, {"op": "resize", "size": 8}],
        [
            {"op": "normalize", "mean": [7.0, 8.0], "std": [2.0, 4.0]},
            {"op": "multiply", "by": 3.0},
            {"op": "normalize", "mean": [1.0, 2.0], "std": 0.5},
        ],
    ],
)
def test_scaling_does_what_the_steps_do(steps):
    row = table.Weights(
        name="",
        family="",
        architecture="",
        timm=True,
        bands=("a", "b"),
        steps=tuple(steps),
        license=None,
        url="",
        file="",
    )
    stored = torch.linspace(0, 300, 8, dtype=torch.float64).view(4, 2)
    expected = stored.clone()
    for step in steps:
        match step["op"]:
            case "divide":
                expected /= step["by"]
            case "multiply":
                expected *= step["by"]
            case "normalize":
                expected = (expected - torch.as_tensor(step["mean"])) / torch.as_tensor(step["std"])
    mean, std = (torch.tensor(one, dtype=torch.float64) for one in row.scaling)
    torch.testing.assert_close((stored - mean) / std, expected)


def test_scaling_is_unknown_where_steps_do_more():
    assert models.weights_info("seco:seco_resnet18_1m").scaling is None
    assert models.weights_info("torchgeo:DOFABase16_Weights.DOFA_MAE").scaling is None


def test_weights_are_found_by_model_and_bands():
    found = models.weights_names(architecture="resnet50", bands=["B8A", "B10"])
    assert "torchgeo:ResNet50_Weights.SENTINEL2_ALL_MOCO" in found
    assert all("B8A" in models.weights_info(name).bands for name in found)
    assert set(found) < set(models.weights_names(architecture="resnet50")) < set(models.weights_names())


def test_weights_that_timm_knows_need_no_row():
    row = models.weights_info("timm/resnet18.a1_in1k")
    assert (row.architecture, row.bands, row.license) == ("resnet18", ("R", "G", "B"), "apache-2.0")
    assert row.scaling[0] == pytest.approx([255 * one for one in (0.485, 0.456, 0.406)])


@pytest.mark.parametrize("name", ["resnet50.a1", "timm/no_such_model", "timm/resnet18.no_such_tag"])
def test_names_that_are_unknown_are_refused(name):
    with pytest.raises(InputError, match=f"Cannot find weights named '{name}'"):
        models.weights_info(name)
