"""A model card as a STAC item with the Machine Learning Model extension (MLM), which catalogs of models understand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from geoxt.models.card import Card

MLM = "stac_mlm"
"""Where a checkpoint keeps the item."""
EXTENSIONS = (
    "https://stac-extensions.github.io/mlm/v1.4.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
)
TASKS: Mapping[str, str] = {
    "segmentation": "semantic-segmentation",
    "change": "semantic-segmentation",
    "time-series": "semantic-segmentation",
    "pixelwise-regression": "regression",
    "regression": "regression",
    "classification": "scene-classification",
    "multilabel": "scene-classification",
    "detection": "object-detection",
    "instance-segmentation": "instance-segmentation",
}
"""The extension's name of a task, by a card's."""
_SERIES = {"change", "time-series"}
_IMAGES = {"classification", "multilabel", "regression"}
_THINGS = {"detection", "instance-segmentation"}


def to_stac(card: Card, *, href: str = "model.ckpt", weights: int | None = None) -> dict[str, Any]:
    """Return the STAC item that describes a model.

    Parameters
    ----------
    card
        Architecture, bands, scaling and classes.
    href
        Where the checkpoint is, as seen from the item.
    weights
        Number of weights of the model.

    Returns
    -------
    dict
        The item as JSON has it; `pystac.Item.from_dict` takes it. A model has no place of its own, and fits any time.

    References
    ----------
    STAC MLM 1.4, https://github.com/stac-extensions/mlm
    """
    task = TASKS.get(card.task, card.task)
    name = _name(f"geoxt-{card.model}-{card.task}")
    properties: dict[str, Any] = {
        "datetime": None,
        "start_datetime": "1900-01-01T00:00:00Z",
        "end_datetime": "9999-12-31T23:59:59Z",
        "bands": [{"name": band} for band in card.bands],
        "mlm:name": name,
        "mlm:architecture": card.model,
        "mlm:tasks": [task],
        "mlm:framework": "PyTorch",
        "mlm:framework_version": str(torch.__version__),
        "mlm:input": [_input(card)],
        "mlm:output": [_output(card, task)],
    }
    if weights is not None:
        properties["mlm:total_parameters"] = weights
    asset = {
        "href": href,
        "title": "Lightning checkpoint: weights and model card",
        "type": "application/octet-stream; framework=pytorch",
        "roles": ["mlm:model"],
        "mlm:artifact_type": "torch.save",
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


def _input(card: Card) -> dict[str, Any]:
    """Return what goes in: pixels in the layer's own units; the network itself scales each band."""
    times = [(-1, "time")] if card.task in _SERIES else []
    shape = [(-1, "batch"), *times, (len(card.bands), "bands"), (card.size[0], "height"), (card.size[1], "width")]
    scaling = [{"type": "z-score", "mean": mean, "stddev": std} for mean, std in zip(card.mean, card.std, strict=True)]
    return {
        "name": "image",
        "bands": list(card.bands),
        "input": _array(shape),
        "value_scaling": scaling,
        "resize_type": None,
        "pre_processing_function": None,
    }


def _output(card: Card, task: str) -> dict[str, Any]:
    """Return what comes out: a channel for each class or quantity."""
    places = [] if card.task in _IMAGES else [(card.size[0], "height"), (card.size[1], "width")]
    shape = [(-1, "batch"), (len(card.codes), "channel"), *places]
    if card.task in _THINGS:
        shape = [(-1, "batch"), (-1, "box"), (4, "coordinate")]
    regression = task == "regression"
    return {
        "name": "values" if regression else "boxes" if card.task in _THINGS else "logits",
        "tasks": [task],
        "result": _array(shape),
        "classification:classes": [] if regression else _classes(card),
        "post_processing_function": None,
    }


def _classes(card: Card) -> list[dict[str, Any]]:
    """Return the classes; the extension wants colours in capitals without a mark, and names without blanks."""
    colors = card.colors or ("",) * len(card.codes)
    found = []
    for code, name, color in zip(card.codes, card.names, colors, strict=True):
        hint = {"color_hint": color.removeprefix("#").upper()} if color else {}
        found.append({"value": code, "name": re.sub(r"[^0-9A-Za-z_-]+", "_", name), "title": name, **hint})
    return found


def _array(shape: list[tuple[int, str]]) -> dict[str, Any]:
    return {
        "shape": [length for length, _ in shape],
        "dim_order": [dim for _, dim in shape],
        "data_type": "float32",
    }


def _name(text: str) -> str:
    """Return a name as the extension allows it."""
    return re.sub(r"[^0-9A-Za-z_.-]+", "-", text)
