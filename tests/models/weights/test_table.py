"""Table of weights: complete rows; scaling equals the steps; search by model and bands."""

import pytest
import timm
import torch

from geoxt import models
from geoxt.errors import InputError
from geoxt.models.weights import table

ROWS = list(table._table().values())


def test_names_and_files_are_unique():
    assert len(ROWS) == len(table._TABLE.read_text(encoding="utf-8").splitlines()) > 180
    assert len({row.file for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row_is_complete(row):
    assert (row.url or "").startswith("https://") != (row.package is not None)
    assert "/" not in row.file
    assert row.sha256 is None or 6 <= len(row.sha256) <= 64
    assert row.bands is None or len(row.bands) > 0
    assert {step["op"] for step in row.steps} <= {
        "divide",
        "multiply",
        "normalize",
        "clip",
        "clip_minmax",
        "stretch",
        "resize",
        "center_crop",
    }
    assert (row.timm, row.encoder is not None, row.unsupported is not None).count(True) == 1
    assert set(row.unverified) <= set(table.Weights.__dataclass_fields__) | {"keys"}


def test_loadable_weights_have_timm_architecture():
    for name in models.weights.names():
        row = models.weights.get(name)
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
def test_scaling_equals_steps(steps):
    row = table.Weights(
        name="",
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
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in row.scaling)
    torch.testing.assert_close((stored - mean) / std, expected)


def test_scaling_is_none_for_nonlinear_steps():
    assert models.weights.get("seco:seco_resnet18_1m").scaling is None
    assert models.weights.get("torchgeo:DOFABase16_Weights.DOFA_MAE").scaling is None


def test_names_by_model_and_bands():
    names = models.weights.names(architecture="resnet50", bands=["B8A", "B10"])
    assert "torchgeo:ResNet50_Weights.SENTINEL2_ALL_MOCO" in names
    assert all("B8A" in models.weights.get(name).bands for name in names)
    assert set(names) < set(models.weights.names(architecture="resnet50")) < set(models.weights.names())


def test_timm_weights_need_no_row():
    row = models.weights.get("timm/resnet18.a1_in1k")
    assert (row.architecture, row.bands, row.license) == ("resnet18", ("R", "G", "B"), "apache-2.0")
    assert row.scaling[0] == pytest.approx([255 * value for value in (0.485, 0.456, 0.406)])


@pytest.mark.parametrize(
    "name", ["resnet50.a1", "torchgeo:Nope", "Prithvi_EO_V2_300", "timm/no_such_model", "timm/resnet18.no_such_tag"]
)
def test_unknown_name_raises(name):
    with pytest.raises(InputError, match=f"Cannot find weights named '{name}'"):
        models.weights.get(name)
