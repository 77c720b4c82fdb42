"""`from_file`: the network of a checkpoint, ONNX, `torch.export` or TorchScript file, with its model card."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geoxt.errors import GeoxtError, InputError, ReadError, optional_import
from geoxt.legend import Legend
from geoxt.models.card import Card
from geoxt.models.checkpoint import from_checkpoint
from geoxt.models.file_body import FileBody, FileNetwork
from geoxt.models.file_checks import check_pt2, check_torchscript
from geoxt.models.file_runtimes import Format, onnx_session
from geoxt.models.mlm import MLM
from geoxt.models.mlm_reader import ModelItem, read_item
from geoxt.models.network import CARD, Network
from geoxt.tasks import Activation
from geoxt.types import SomePath

_SIDE = 64
"""Height and width in pixels of the image with which a model of any size is tried."""
_BY_HAND = "geoxt.models.from_file(…, bands=[…], mean=…, std=…, legend=…)"

_PICKLES = {".joblib", ".pkl", ".pickle", ".skops"}
"""Suffixes of files of estimators."""


def from_file(
    path: SomePath,
    *,
    bands: Sequence[str] | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    legend: Legend | None = None,
    task: str | None = None,
    activation: Activation | None = None,
    head: str | int | None = None,
    item: Mapping[str, Any] | SomePath | None = None,
    trust: bool = False,
) -> Network:
    """Return the network of a model file, in evaluation mode on the CPU.

    Parameters
    ----------
    path
        A checkpoint of geoxt, which takes no other argument; or an ONNX, `torch.export` (`.pt2`) or TorchScript file
        with one input, float (N, C, H, W), or (N, T, C, H, W) for time series. Files that `export` wrote hold all of
        the following.
    bands
        Names of the input bands, in the order of the model. Default: those of the MLM item.
    mean, std
        Mean and standard deviation of each band in the units of the layer, or one number for all; bands are scaled to
        (x - mean) / std. Default: the scaling of the MLM item. `mean=0, std=1` if the model scales them itself.
    legend
        Codes, names and colors of the channels. Default: those of the MLM item.
    task
        Task, such as "segmentation". Default: that of the MLM item, else by the output: (N, K, H, W) is segmentation,
        (N, K) classification.
    activation
        Activation to apply to the output; "identity" if the file applies it. Default: that of the task, unless outputs
        for noise are probabilities, which sum to 1.
    head
        Name or index of the output, if there are several.
    item
        STAC item with the Machine Learning Model extension (MLM), as dict or path. Default: that in the file, else
        `model.onnx.json` or `model.json` beside `model.onnx`.
    trust
        Whether to load files that could run code of their author, such as AOTInductor packages.

    Returns
    -------
    Network
        Its `card` states bands, scaling and classes. `predict` selects the bands by name, as for a checkpoint. It holds
        the content of the file, and computes no gradients.

    Raises
    ------
    ReadError
        If the file cannot be read.
    InputError
        If bands, scaling or names of the classes are unknown, or contradict the file; if its output does not fit the
        task; or if it could run code of its author.
    MissingDependency
        If it is an ONNX file, and onnxruntime is not installed.

    Examples
    --------
    >>> clouds = from_file(
    ...     "model_4b_l2a.onnx",
    ...     bands=["blue", "green", "red", "nir"],
    ...     mean=[0.26, 0.27, 0.27, 0.36],
    ...     std=[0.33, 0.31, 0.31, 0.27],
    ...     legend=Legend((0, 1, 2), ("clear", "cloud", "shadow")),
    ... )  # doctest: +SKIP
    >>> geoxt.predict(scene, clouds, size=256)  # doctest: +SKIP
    """
    path = Path(path)
    arguments = {
        "bands": bands, "mean": mean, "std": std, "legend": legend, "task": task, "activation": activation,
        "head": head, "item": item,
    }  # fmt: skip
    file_format = format_of(path)
    if path.suffix.lower() in _PICKLES:
        msg = f"Cannot open {str(path)!r} as a model: loading a pickled estimator can run code of its author."
        remedy = "Load a file that you trust by joblib.load or skops.io.load, and pass the estimator as {model}."
        raise InputError(msg, remedy=remedy, value=path, argument="model")
    if file_format is None:
        _refuse_arguments(path, arguments)
        return from_checkpoint(path)
    contents = _read(path, file_format, trust=trust)
    body = FileBody(contents.model, file_format, title=path.name, head=head)
    if CARD in contents.texts and not any(value is not None for value in arguments.values()):
        card = Card.from_dict(json.loads(contents.texts[CARD]))
        return FileNetwork(card, body, scaled=True, activated=True).eval()
    mlm_item = _item(path, item, contents.texts, scaling=mean is None or std is None)
    return _described_network(
        body, mlm_item, bands=bands, mean=mean, std=std, legend=legend, task=task, activation=activation
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Contents:
    model: bytes
    """The whole file."""
    texts: Mapping[str, str]
    """Metadata of the file."""


def format_of(path: SomePath) -> Format | None:
    """Return the format of a model file by its content, of ONNX by its name; `None` for checkpoints."""
    path = Path(path)
    if path.suffix.lower() == ".onnx":
        return "onnx"
    try:
        with path.open("rb") as file:
            if file.read(4) != b"PK\x03\x04":
                return None
            with zipfile.ZipFile(file) as archive:
                names = [name.partition("/")[2] for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile):  # from_checkpoint raises of a file that cannot be read
        return None
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return "torchscript"
    return "pt2" if "archive_format" in names else None


def _refuse_arguments(path: Path, arguments: Mapping[str, Any]) -> None:
    names = [name for name, value in arguments.items() if value is not None]
    if names:
        msg = f"Cannot change {' and '.join(names)} of {str(path)!r}: it is a checkpoint, which states them."
        raise InputError(msg, remedy=f"Leave out {', '.join(f'{{{name}}}' for name in names)}.", argument=names[0])


def _read(path: Path, file_format: Format, *, trust: bool) -> _Contents:
    """Read a file, and check that loading it runs no code."""
    try:
        content = path.read_bytes()
        if file_format == "onnx":
            content = _with_weights(content, path)
            session = onnx_session(content, torch.device("cpu"))
            return _Contents(model=content, texts=dict(session.get_modelmeta().custom_metadata_map))
        check = check_pt2 if file_format == "pt2" else check_torchscript
        check(content, path.name, trust=trust)
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            inside = {name.partition("/")[2]: name for name in archive.namelist()}
            extra = {name: full for name, full in inside.items() if name.startswith("extra/")}
            texts = {Path(name).stem: archive.read(full).decode() for name, full in extra.items()}
        return _Contents(model=content, texts=texts)
    except GeoxtError:
        raise
    except Exception as error:  # onnxruntime, torch and zipfile raise errors of many types
        reason = str(error).strip().partition("\n")[0]
        msg = f"Cannot read the model {str(path)!r} ({type(error).__name__}: {reason})."
        remedy = "Pass a {model} whose file exists and is complete, with its weight files in the same folder."
        raise ReadError(msg, remedy=remedy, value=path) from error


def _with_weights(content: bytes, path: Path) -> bytes:
    """Return an ONNX model with its external weights embedded.

    torch's exporter writes weights to a file of their own; onnxruntime would search it in the working directory.
    """
    if b"location" not in content:
        return content
    with optional_import("onnx", "onnx", "read an ONNX model"):
        import onnx
    model = onnx.load_model_from_string(content)
    onnx.load_external_data_for_model(model, str(path.absolute().parent))
    return bytes(model.SerializeToString())


def _item(
    path: Path, item: Mapping[str, Any] | SomePath | None, texts: Mapping[str, str], *, scaling: bool
) -> ModelItem | None:
    """Return the MLM item: the argument, else that in the file, else that beside it."""
    if isinstance(item, Mapping):
        return read_item(item, scaling=scaling)
    beside = [path.with_name(f"{path.name}.json"), path.with_suffix(".json")]
    sources = [Path(item)] if item is not None else [file for file in beside if file.is_file()]
    if item is None and MLM in texts:
        return read_item(json.loads(texts[MLM]), scaling=scaling)
    for source in sources:
        try:
            values = json.loads(source.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            if item is None:
                continue
            msg = f"Cannot read the MLM item {str(source)!r}: {error}."
            raise ReadError(msg, remedy="Pass {item}, the path of a STAC item.", value=item, argument="item") from error
        if isinstance(values, dict) and "mlm:input" in values.get("properties", {}):
            return read_item(values, scaling=scaling)
        if item is not None:
            msg = f"Cannot use {str(source)!r} as an MLM item: it has no mlm:input."
            raise InputError(msg, remedy="Pass {item}, a STAC item with that extension.", value=item, argument="item")
    return None


def _described_network(
    body: FileBody,
    item: ModelItem | None,
    *,
    bands: Sequence[str] | None,
    mean: float | Sequence[float] | None,
    std: float | Sequence[float] | None,
    legend: Legend | None,
    task: str | None,
    activation: Activation | None,
) -> FileNetwork:
    """Return a network with a model card from the arguments, else from the MLM item."""
    title, fields = body.title, item or ModelItem()
    shape = body.runtime().shape or ()
    _require_channels_first(title, shape, len(bands or fields.bands))
    names = _bands(title, bands, fields.bands, shape[-3] if len(shape) > 3 else None)
    is_described = item is not None and names == fields.bands
    means = _numbers("mean", mean, fields.mean if is_described else None, len(names))
    stds = _numbers("std", std, fields.std if is_described else None, len(names))
    if (means is None or stds is None) and not is_described:
        msg = f"Cannot use the model {title!r}: the scaling of its bands is unknown, as it has no MLM item."
        remedy = f"Pass {_BY_HAND} as the model, with mean=0 and std=1 if it scales the bands itself."
        raise InputError(msg, remedy=remedy, argument="mean" if means is None else "std")
    fixed = shape[-2:] if len(shape) > 3 else (None, None)
    height, width = (size or item_size or _SIDE for size, item_size in zip(fixed, fields.size, strict=True))
    card = Card(
        task=task or fields.task or "segmentation",
        model=fields.architecture,
        bands=names,
        mean=means or (0.0,) * len(names),
        std=stds or (1.0,) * len(names),
        codes=(),
        names=(),
        colors=(),
        size=(height, width),
        common_names=fields.common_names if is_described else (),
        wavelengths=fields.wavelengths if is_described else (),
    )
    output = _output_for_noise(body, card, shape)
    if task is None and fields.task is None and output.ndim == 2:
        card = replace(card, task="classification")
    _require_task(title, card, output)
    classes = _classes(title, card, legend or fields.legend, output)
    card = replace(card, codes=classes.codes, names=classes.names, colors=classes.colors)
    return FileNetwork(card, body, scaled=False, activated=_is_activated(title, card, output, activation)).eval()


def _bands(
    title: str, requested: Sequence[str] | None, item_bands: tuple[str, ...], channels: int | None
) -> tuple[str, ...]:
    """Return the names of the input bands."""
    names = item_bands if requested is None else tuple(requested)
    if isinstance(requested, str) or not names or len(set(names)) != len(names):
        count = "" if channels is None else f"{channels} "
        reason = "their order is unknown" if requested is None else f"bands= is {requested!r}"
        msg = f"Cannot use the model {title!r}: it takes {count}bands, and {reason}."
        remedy = f"Put its MLM item beside it, as {title}.json. Or pass {_BY_HAND} as the model, with distinct names."
        raise InputError(msg, remedy=remedy, value=requested, argument="bands")
    if channels not in {None, len(names)}:
        source = "its MLM item states" if requested is None else "bands= has"
        msg = f"Cannot use the model {title!r}: its input has {channels} channels, and {source} {len(names)} bands: "
        remedy = f"Pass {_BY_HAND} as the model, with a name for each channel."
        raise InputError(f"{msg}{', '.join(names)}.", remedy=remedy, value=names, argument="bands")
    return names


def _require_channels_first(title: str, shape: tuple[int | None, ...], channels: int) -> None:
    """Raise if the input is channels-last, (N, H, W, C), as for models of TensorFlow."""
    if len(shape) == 4 and shape[1] != channels and shape[3] == channels:
        msg = f"Cannot use the model {title!r}: its input has the bands last, (N, H, W, {channels})."
        remedy = "Export it with the dimensions batch, bands, height and width, in this order."
        raise InputError(msg, remedy=remedy, value=shape, argument="model")


def _numbers(
    argument: str, requested: float | Sequence[float] | None, default: tuple[float, ...] | None, count: int
) -> tuple[float, ...] | None:
    """Return a number per band."""
    if requested is None:
        return default
    try:
        numbers = tuple(np.atleast_1d(np.asarray(requested, float)).tolist())
    except (TypeError, ValueError):
        numbers = ()
    numbers *= count if np.ndim(requested) == 0 else 1
    if len(numbers) != count:
        msg = f"Cannot scale {count} bands by {argument} of {len(numbers)} numbers."
        raise InputError(msg, remedy=f"Pass {{{argument}}} with a number per band.", value=requested, argument=argument)
    return numbers


def _output_for_noise(body: FileBody, card: Card, shape: tuple[int | None, ...]) -> Tensor:
    """Return the output for one image of standard normal noise, in the units of the layer."""
    kind, (height, width) = card.kind, card.size
    if kind.target == "instances":
        msg = f"Cannot use the model file {body.title!r} for {card.task}: outputs of objects have no common form."
        raise InputError(msg, remedy="Pass the checkpoint, or a module with torchvision's interface, as {model}.")
    length = shape[1] if len(shape) == 5 else None
    dates = (kind.dates if kind.dates > 1 else length or 2,) if kind.takes_series else ()
    noise = torch.randn((1, *dates, len(card.bands), height, width), generator=torch.Generator().manual_seed(0))
    network = FileNetwork(card, body, scaled=False, activated=True)
    output: Tensor = network(noise * network.std + network.mean)
    return output


def _require_task(title: str, card: Card, output: Tensor) -> None:
    """Raise if the output does not fit the task."""
    height, width = card.size
    sizes: dict[str | None, list[tuple[int, ...]]] = {"pixels": [(height, width)], "image": [(), (1, 1)]}
    spatial = tuple(output.shape[2:])
    has_classes = card.kind.activation in {"softmax", "sigmoid"}
    if has_classes and (output.ndim == 3 or output.shape[1] == 1) and bool((output == output.round()).all()):
        msg = f"Cannot use the model {title!r} for {card.task}: its output is whole numbers, such as class codes."
        raise InputError(msg, remedy="Export it without its argmax, with a channel per class.", argument="model")
    if output.ndim in {2, 4} and spatial in sizes.get(card.kind.target, [spatial]):
        return
    expected = f"(channels, {height}, {width})" if card.kind.target == "pixels" else "(channels,)"
    msg = f"Cannot use the model {title!r} for {card.task}: for images of {height} x {width} pixels its output has the "
    msg += f"shape {tuple(output.shape[1:])}, not {expected}."
    raise InputError(msg, remedy="Pass {task} or {head}.", value=tuple(output.shape), argument="task")


def _classes(title: str, card: Card, legend: Legend | None, output: Tensor) -> Legend:
    """Return the classes of the channels; quantities without names are numbered."""
    channels, has_classes = output.shape[1], card.kind.activation in {"softmax", "sigmoid"}
    if not isinstance(legend, Legend | None):
        msg = f"Cannot name the classes of the model {title!r} by {legend!r}."
        raise InputError(
            msg, remedy="Pass {legend:Legend((0, 1), ('land', 'water'))}.", value=legend, argument="legend"
        )
    if legend is None and not has_classes:
        return Legend(tuple(range(channels)))
    if legend is None:
        msg = f"Cannot use the model {title!r} for {card.task}: the classes of its {channels} channels have no names."
        raise InputError(msg, remedy=f"Pass {_BY_HAND} as the model.", argument="legend")
    if len(legend) == channels or (channels == 1 and len(legend) == 2 and card.kind.is_categorical):
        return legend
    msg = f"Cannot use the model {title!r}: its output has {channels} channels, and its legend {len(legend)} classes: "
    msg = f"{msg}{', '.join(legend.names)}."
    raise InputError(msg, remedy=f"Pass {{legend}} with {channels} classes.", argument="legend")


def _is_activated(title: str, card: Card, output: Tensor, activation: Activation | None) -> bool:
    """Return whether the output is after the activation of the task."""
    expected = card.kind.activation
    if activation not in {None, "identity", expected}:
        msg = f"Cannot apply {activation} to the output of a model for {card.task}."
        remedy = f"Pass {{activation}}, {expected!r} or 'identity'."
        raise InputError(msg, remedy=remedy, value=activation, argument="activation")
    fractions = bool(((output >= 0) & (output <= 1)).all())
    sums_to_one = output.shape[1] > 1 and bool(torch.isclose(output.sum(dim=1), torch.ones(()), atol=1e-3).all())
    if expected == "softmax" == activation and fractions and sums_to_one:
        msg = f"Cannot apply softmax to the output of the model {title!r}: its outputs for noise sum to 1."
        remedy = "Pass {activation:'identity'}, as the file applies it."
        raise InputError(msg, remedy=remedy, value=activation, argument="activation")
    if activation is not None or expected in {None, "identity"}:
        return activation in {None, "identity"}
    if expected == "softmax" and fractions and sums_to_one:
        return True
    if fractions:
        msg = f"Cannot use the model {title!r}: its outputs for noise are between 0 and 1, which logits can be as well."
        raise InputError(
            msg,
            remedy=f"Pass {{activation:'identity'}} if they are probabilities, or {expected!r}.",
            argument="activation",
        )
    return False
