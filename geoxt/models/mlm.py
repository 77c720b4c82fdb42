"""STAC item of a model card, with the Machine Learning Model extension (MLM) of model catalogs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from geoxt.models.card import Card

FileFormat = Literal["checkpoint", "pt2", "onnx"]
"""Format of the file that an item describes."""
MLM = "stac_mlm"
"""Checkpoint key of the item."""
EXTENSIONS = (
    "https://stac-extensions.github.io/mlm/v1.6.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
)
_RELEASE = re.compile(r"(\d+)\.(\d+)\.(\d+)")
"""Semantic version. MLM accepts no other; torch's local and nightly versions have suffixes."""


_ASSETS: Mapping[FileFormat, tuple[str, str, str]] = {
    "checkpoint": (
        "Lightning checkpoint: weights and model card",
        "application/octet-stream; framework=pytorch",
        "torch.save",
    ),
    "pt2": (
        "Exported program: scaling, network and activation",
        "application/zip; application=pt2",
        "torch.export.save",
    ),
    "onnx": ("ONNX: scaling, network and activation", "application/octet-stream; framework=onnx", "ONNX"),
}
"""Title, media type and `mlm:artifact_type` of a file."""


def to_stac(
    card: Card, *, href: str = "model.ckpt", weights: int | None = None, file_format: FileFormat = "checkpoint"
) -> dict[str, Any]:
    """Return the STAC item of a model card.

    Parameters
    ----------
    card
        Model card.
    href
        Path or URL of the checkpoint, relative to the item.
    weights
        Number of weights of the model.
    file_format
        Format of the file. Exported files scale their bands themselves, and return activated values.

    Returns
    -------
    dict
        The item as JSON-compatible values, for `pystac.Item.from_dict`. Its geometry is null, its time range open.

    References
    ----------
    STAC MLM 1.6, https://github.com/stac-extensions/mlm
    """
    tasks = [card.kind.mlm] if card.kind.mlm else []
    exported = file_format != "checkpoint"
    release = _RELEASE.match(str(torch.__version__))
    name = _name(f"geoxt-{card.model}-{card.task}")
    bands = [{"name": band} for band in card.bands]
    properties: dict[str, Any] = {
        "datetime": None,
        "start_datetime": "1900-01-01T00:00:00Z",
        "end_datetime": "9999-12-31T23:59:59Z",
        "bands": bands,
        "mlm:name": name,
        "mlm:architecture": card.model,
        "mlm:tasks": tasks,
        "mlm:framework": "ONNX" if file_format == "onnx" else "PyTorch",
        "mlm:input": [_input(card, exported=exported)],
        "mlm:output": [_output(card, tasks, *result) for result in _results(card, exported=exported)],
    }
    if release is not None and file_format != "onnx":
        properties["mlm:framework_version"] = release[0]
    if weights is not None:
        properties["mlm:total_parameters"] = weights
    title, media_type, artifact = _ASSETS[file_format]
    asset = {
        "href": href,
        "title": title,
        "type": media_type,
        "roles": ["mlm:model"],
        "mlm:artifact_type": artifact,
        "bands": bands,  # MLM requires bands in the properties, where STAC 1.1 allows only those of an asset
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(EXTENSIONS),
        "id": name,
        "geometry": None,
        "properties": properties,
        "links": [],
        "assets": {"model": asset},
    }


def _input(card: Card, *, exported: bool) -> dict[str, Any]:
    """Return the model's input: pixels in the units of the layer; an exported file needs no scaling before it."""
    times = [(card.kind.dates, "time")] if card.kind.takes_series else []
    shape = [(-1, "batch"), *times, (len(card.bands), "bands"), (card.size[0], "height"), (card.size[1], "width")]
    scaling = [{"type": "z-score", "mean": mean, "stddev": std} for mean, std in zip(card.mean, card.std, strict=True)]
    return {
        "name": "image",
        "bands": list(card.bands),
        "input": _array(shape, "float32"),
        "value_scaling": None if exported else scaling,
        "resize_type": None,
        "pre_processing_function": None,
    }


def _results(card: Card, *, exported: bool) -> list[tuple[str, list[tuple[int, str]], str]]:
    """Return name, shape and data type of each output: one channel per class or quantity, or lists of instances."""
    height, width = (card.size[0], "height"), (card.size[1], "width")
    if card.kind.target != "instances":
        names = {"identity": "values", "": "embedding"} if exported else {"identity": "values"}
        name = names.get(card.kind.activation or "", "probabilities" if exported else "logits")
        spatial = [height, width] if card.kind.target == "pixels" else []
        return [(name, [(-1, "batch"), (len(card.codes), "channel"), *spatial], "float32")]
    instance = [(-1, "batch"), (-1, "box")]
    results = [
        ("boxes", [*instance, (4, "coordinate")], "float32"),
        ("labels", instance, "int64"),
        ("scores", instance, "float32"),
    ]
    return results + ([("masks", [*instance, height, width], "float32")] if card.kind.has_masks else [])


def _output(card: Card, tasks: list[str], name: str, shape: list[tuple[int, str]], kind: str) -> dict[str, Any]:
    """Return one `mlm:output`; outputs of class scores or labels list the classes."""
    classes = classes_of(card.codes, card.names, card.colors) if name in {"logits", "probabilities", "labels"} else []
    return {
        "name": name,
        "tasks": tasks,
        "result": _array(shape, kind),
        # stac-model 0.7 rejects the `title` of version 2.0 of the classification extension
        "classification:classes": [{"description": entry.pop("title"), **entry} for entry in classes],
        "post_processing_function": None,
    }


def classes_of(codes: Sequence[int], names: Sequence[str], colors: Sequence[str]) -> list[dict[str, Any]]:
    """Return `classification:classes`; the extension requires colors as `RRGGBB` and names without spaces."""
    classes = []
    for code, name, color in zip(codes, names, colors or ("",) * len(codes), strict=True):
        hint = {"color_hint": color.removeprefix("#").upper()} if color else {}
        classes.append({"value": code, "name": class_name(name), "title": name, **hint})
    return classes


def class_name(text: str) -> str:
    """Return text with characters that names of classes may hold."""
    return re.sub(r"[^0-9A-Za-z_-]+", "_", text)


def _array(shape: list[tuple[int, str]], kind: str) -> dict[str, Any]:
    return {
        "shape": [length for length, _ in shape],
        "dim_order": [dim for _, dim in shape],
        "data_type": kind,
    }


def _name(text: str) -> str:
    """Return text with characters that MLM names may hold."""
    return re.sub(r"[^0-9A-Za-z_.-]+", "-", text)
