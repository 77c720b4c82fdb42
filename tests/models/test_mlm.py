"""STAC items of model cards: values of the card, valid against the Machine Learning Model extension."""

import json
import re

import pystac
import pytest
import torch

from geoxt.models import Card
from geoxt.models.mlm import to_stac
from geoxt.tasks import TASKS

mlm = pytest.importorskip("pystac.extensions.mlm")
MLM_TASKS = [name for name, kind in TASKS.items() if kind.mlm]
NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_.-]+[a-zA-Z0-9]")


def make_card(task="segmentation"):
    return Card(
        task=task, model="test_unet", bands=("green", "nir"), mean=(100.0, 90.5), std=(30.0, 20.0), codes=(7, 2),
        names=("open water", "forêt & maquis"), colors=("#0000ff", "#00ff7a"), size=(32, 48),
    )  # fmt: skip


def extension(card, **options):
    item = pystac.Item.from_dict(json.loads(json.dumps(to_stac(card, **options))))
    assert mlm.MLMExtension.has_extension(item)
    return item, mlm.MLMExtension.ext(item)


def test_pystac_extension_reads_card():
    card = make_card()
    item, mlm_item = extension(card, weights=1234)
    assert (mlm_item.architecture, mlm_item.framework, mlm_item.total_parameters) == ("test_unet", "PyTorch", 1234)
    assert mlm_item.tasks == [mlm.TaskType.SEMANTIC_SEGMENTATION]
    assert NAME.fullmatch(mlm_item.mlm_name)
    (image,) = mlm_item.input
    assert image.input.shape == [-1, 2, 32, 48]
    assert image.input.dim_order == ["batch", "bands", "height", "width"]
    assert item.properties["bands"] == [{"name": "green"}, {"name": "nir"}]
    assert [band if isinstance(band, str) else band.name for band in image.bands] == ["green", "nir"]
    (output,) = mlm_item.output
    assert output.tasks == mlm_item.tasks
    assert output.result.shape == [-1, 2, 32, 48]
    classes = output.classes
    assert [(category.value, category.description, category.color_hint) for category in classes] == [
        (7, "open water", "0000FF"),
        (2, "forêt & maquis", "00FF7A"),
    ]
    assert all(re.fullmatch("[0-9A-Za-z_-]+", category.name) for category in classes)


def test_scaling_of_each_band_is_valid():
    (image,) = to_stac(make_card())["properties"]["mlm:input"]
    scaling = [mlm.ValueScaling(value_scaling) for value_scaling in image["value_scaling"]]
    for value_scaling in scaling:
        mlm.ValueScaling.validate_property_dict(value_scaling.type, value_scaling.to_dict())
    assert [(value_scaling.type, value_scaling.mean, value_scaling.stddev) for value_scaling in scaling] == [
        ("z-score", 100.0, 30.0),
        ("z-score", 90.5, 20.0),
    ]


def test_checkpoint_is_asset():
    item, _ = extension(make_card(), href="runs/best.ckpt")
    asset = item.assets["model"]
    assert asset.href == "runs/best.ckpt"
    assert asset.roles == ["mlm:model"]
    assert mlm.AssetGeneralMLMExtension.ext(asset).artifact_type == "torch.save"


@pytest.mark.parametrize("task", MLM_TASKS)
def test_task_name_is_valid_in_extension(task):
    _, extended = extension(make_card(task))
    assert [mlm.TaskType(listed) for listed in extended.tasks] == extended.tasks
    (image,) = extended.input
    for output in extended.output:
        assert len(output.result.shape) == len(output.result.dim_order) == len(set(output.result.dim_order))
    assert ("time" in image.input.dim_order) == (task in {"change", "time-series"})


def test_number_of_dates():
    shapes = {task: extension(make_card(task))[1].input[0].input.shape for task in ("change", "time-series")}
    assert shapes == {"change": [-1, 2, 2, 32, 48], "time-series": [-1, -1, 2, 32, 48]}


@pytest.mark.parametrize("task", ["detection", "instance-segmentation"])
def test_detector_outputs(task):
    _, extended = extension(make_card(task))
    names = [output.name for output in extended.output]
    assert names == ["boxes", "labels", "scores", *(["masks"] if task == "instance-segmentation" else [])]
    classes = {output.name: [category.value for category in output.classes or ()] for output in extended.output}
    assert classes == {name: [7, 2] if name == "labels" else [] for name in names}


def test_task_without_mlm_name_is_left_out():
    assert to_stac(make_card("self-supervised"))["properties"]["mlm:tasks"] == []


@pytest.mark.parametrize(
    ("version", "expected"), [("2.9.1+cu126", "2.9.1"), ("2.10.0a0+git1", "2.10.0"), ("main", None)]
)
def test_framework_version_is_semantic(monkeypatch, version, expected):
    monkeypatch.setattr(torch, "__version__", version)
    assert to_stac(make_card())["properties"].get("mlm:framework_version") == expected


@pytest.mark.parametrize("task", MLM_TASKS)
def test_item_is_valid_for_the_package_of_the_extension(task):
    schema = pytest.importorskip("stac_model.schema")
    item = json.loads(json.dumps(to_stac(make_card(task), weights=7)))
    assert item["stac_extensions"][0] == schema.SCHEMA_URI == "https://stac-extensions.github.io/mlm/v1.6.0/schema.json"
    parsed = schema.MLModelProperties.model_validate(item["properties"])
    written = json.loads(parsed.model_dump_json(by_alias=True))
    for field in ("mlm:input", "mlm:output"):
        for expected, actual in zip(item["properties"][field], written[field], strict=True):
            values = {name: value for name, value in expected.items() if value is not None}
            assert {name: actual[name] for name in values} == values
    item["properties"]["mlm:output"][0]["result"]["data_type"] = "float31"
    with pytest.raises(ValueError, match="data_type"):
        schema.MLModelProperties.model_validate(item["properties"])


# Version 1.6 of the extension, https://github.com/stac-extensions/mlm, with data types and sizes from STAC 1.1 and
# classes from version 2.0 of the classification extension, by `description`: stac-model has no `title`.
PROPERTIES = {
    "mlm:name": r"[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]",
    "mlm:architecture": r".+",
    "mlm:framework": r".+",
    "mlm:framework_version": r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)",
    "mlm:tasks": list,
    "mlm:input": list,
    "mlm:output": list,
    "mlm:total_parameters": int,
}
REQUIRED = PROPERTIES.keys() - {"mlm:framework", "mlm:framework_version", "mlm:total_parameters"}
IO = {"mlm:input": ("name", "bands", "input"), "mlm:output": ("name", "tasks", "result")}
ARRAY = {"shape", "dim_order", "data_type"}
FURTHER = {
    "mlm:input": {"description", "value_scaling", "resize_type", "pre_processing_function"},
    "mlm:output": {"description", "classification:classes", "post_processing_function"},
}
TYPES = {"uint8", "int16", "int32", "int64", "uint16", "float16", "float32", "float64"}


def conforms(value, rule):
    return bool(re.fullmatch(rule, value)) if isinstance(rule, str) else type(value) is rule


@pytest.mark.parametrize("task", MLM_TASKS)
def test_item_has_required_and_no_unknown_fields(task):
    item = json.loads(json.dumps(to_stac(make_card(task), weights=7), allow_nan=False))
    properties = item["properties"]
    mlm_names = {name for name in properties if name.startswith("mlm:")}
    assert mlm_names >= REQUIRED
    assert {
        name for name in mlm_names if name not in PROPERTIES or not conforms(properties[name], PROPERTIES[name])
    } == set()
    for field, required in IO.items():
        assert properties[field]
        for entry in properties[field]:
            assert set(required) <= set(entry) <= set(required) | FURTHER[field]
            array = entry[required[2]]
            assert set(array) == ARRAY
            assert array["data_type"] in TYPES
            assert all(type(length) is int and (length == -1 or length > 0) for length in array["shape"])
            assert all(re.fullmatch("[a-z-_]+", dim) for dim in array["dim_order"])
            assert ("bands" in array["dim_order"]) == bool(entry.get("bands"))  # since 1.5
            assert entry.get("value_scaling") != []
            for kind in entry.get("classification:classes", ()):
                assert {"value", "name"} <= set(kind) <= {"value", "name", "description", "color_hint"}
                assert type(kind["value"]) is int
                assert re.fullmatch("[0-9A-F]{6}", kind["color_hint"])
    described = {band["name"] for band in properties["bands"]}
    assert {band for entry in properties["mlm:input"] for band in entry["bands"]} == described
    models = [asset for asset in item["assets"].values() if "mlm:model" in asset["roles"]]
    assert len(models) == 1
    assert {name for name in models[0] if name.startswith("mlm:")} == {"mlm:artifact_type"}
    assert models[0]["mlm:artifact_type"]


@pytest.mark.parametrize("task", MLM_TASKS)
def test_item_is_valid_stac(task):
    pytest.importorskip("jsonschema")
    item = pystac.Item.from_dict(to_stac(make_card(task)))
    item.stac_extensions = []  # their schemas are not shipped with pystac, and tests have no network
    assert item.validate()
    del item.assets["model"].extra_fields["bands"]  # in the properties alone they are against STAC 1.1
    with pytest.raises(pystac.STACValidationError):
        item.validate()
