"""Export a trained network as a `torch.export` or ONNX file, with scaling and activation inside."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geoxt.errors import InputError, OutputError, optional_import
from geoxt.models.card import Card
from geoxt.models.encoders.encoder_decoder import ENCODER
from geoxt.models.file_body import FileNetwork
from geoxt.models.mlm import MLM, FileFormat, to_stac
from geoxt.models.model_file import from_file
from geoxt.models.network import CARD, Network
from geoxt.storage import atomic_write
from geoxt.types import SomePath

_TOLERANCE = 1e-4
"""Greatest difference of the file's outputs to the network's, in units of the largest output or of 1."""
_OPERATOR = re.compile(r"\b(?:aten|prims|torchvision|torch\.ops\.\w+|torch\.nn\.functional)(?:::|\.)\w+(?:\.\w+)?")
"""Name of an operator in an error of torch."""


class _Activated(nn.Module):
    """A network with its activation."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        output: Tensor = self.network(image)
        return output if self.network.card.kind.activation is None else self.network.activate(output)


def export(model: nn.Module | SomePath, path: SomePath, *, compile: bool = False) -> Path:
    """Export a network to a file that runs without geoxt, with its MLM item beside it.

    The file takes float32 (N, C, H, W), or (N, T, C, H, W) for time series, with bands in the order of the model card
    and in the units of the layer. It scales them, and returns probabilities, or values of a regression. N is any
    number; H, W and T are any if the architecture allows it, else those of the training windows. The file holds the
    model card and the MLM item, which is also written to `<path>.json`.

    Parameters
    ----------
    model
        A trained task, its network, or the path of its checkpoint.
    path
        Path of the file, with the extension `.pt2` (`torch.export`) or `.onnx`, which needs the extra `onnx`. Written
        atomically.
    compile
        Whether to compile the network for the processor of this machine with AOTInductor, which needs a C++ compiler;
        for `.pt2` only. The file then holds a native library: `from_file(path, trust=True)` loads it, or
        `torch._inductor.aoti_load_package` without geoxt.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    InputError
        If the extension is another, the model cannot be exported (the message names the operator), or the machine has
        no C++ compiler.
    OutputError
        If outputs of the file for noise differ from those of the network by more than 1e-4 (of the largest value, if
        that is above 1).
    MissingDependency
        If onnxscript is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from geoxt.models import Card, Network, from_file
    >>> card = Card(
    ...     task="segmentation", model="fcn", options={"width": 4, "layers": 1}, bands=("red", "nir"), mean=(0.1, 0.3),
    ...     std=(0.1, 0.2), codes=(0, 1), names=("land", "water"), colors=("#00ff00", "#0000ff"), size=(16, 16),
    ... )  # fmt: skip
    >>> file = export(Network(card), f"{tempfile.mkdtemp()}/water.pt2")
    >>> from_file(file).card.names
    ('land', 'water')
    """
    path = Path(path)
    network = from_file(model) if not isinstance(model, nn.Module) else getattr(model, "network", model)
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        msg = f"Cannot export a model to {str(path)!r}: its extension is none of {', '.join(_WRITERS)}."
        raise InputError(msg, remedy="Pass {path} with the extension .pt2 or .onnx.", value=path, argument="path")
    if compile:
        if write is not _write_pt2:
            msg = f"Cannot compile a model for {path.name!r}: AOTInductor writes .pt2 files."
            raise InputError(msg, remedy="Pass {path} with the extension .pt2.", value=path, argument="path")
        write = _write_compiled
    if not isinstance(network, Network) or isinstance(network, FileNetwork):
        msg = f"Cannot export {type(network).__name__}: it is not a network trained by geoxt."
        raise InputError(msg, remedy="Pass {model}, a checkpoint.", argument="model")
    if network.card.kind.target == "instances":
        msg = f"Cannot export a model for {network.card.task}: its operator torchvision::nms has outputs of any number."
        raise InputError(msg, remedy="Pass a {model} for another task.", argument="model")
    network = copy.deepcopy(network).cpu().eval().requires_grad_(requires_grad=False)
    file_format: FileFormat = "onnx" if path.suffix.lower() == ".onnx" else "pt2"
    weights = sum(parameter.numel() for parameter in network.parameters())
    item = to_stac(network.card, href=path.name, weights=weights, file_format=file_format)
    texts = {CARD: json.dumps(network.card.to_dict()), MLM: json.dumps(item)}
    beside = path.with_name(f"{path.name}.json")
    with atomic_write(path) as temporary:
        with _quiet(), _raise_missing_operator(network):
            write(_program(network), temporary, texts)
        _require_equal(network, temporary)
        with atomic_write(beside) as description:
            description.write_text(json.dumps(item, indent=2), encoding="utf-8")
    return path


def _image_shape(card: Card) -> tuple[int, ...]:
    """Return the shape ([T,] C, H, W) of an image of the training; a series of any length has 3 dates."""
    dates = (card.kind.dates if card.kind.dates > 1 else 3,) if card.kind.takes_series else ()
    return (*dates, len(card.bands), *card.size)


def _program(network: Network) -> torch.export.ExportedProgram:
    """Return the exported program, of images of any size if the architecture allows it."""
    card = network.card
    example = torch.zeros(2, *_image_shape(card))
    fixed = card.model.startswith(ENCODER)  # models of other libraries round sides by operators that cannot be saved
    axes = {0} if fixed else {0, example.ndim - 2, example.ndim - 1} | ({1} if card.kind.dates < 0 else set())
    module = _Activated(network).eval()
    try:
        program = _export_program(module, example, axes)
    except Exception:  # noqa: BLE001 (torch raises errors of many types for sizes that an architecture fixes)
        program = _export_program(module, example, {0})
    for part in program.graph_module.modules():
        if isinstance(part, torch.fx.GraphModule):
            for node in part.graph.nodes:
                node.meta.pop("stack_trace", None)  # paths of this machine
    return program


def _export_program(module: nn.Module, example: Tensor, axes: set[int]) -> torch.export.ExportedProgram:
    dynamic = dict.fromkeys(sorted(axes), torch.export.Dim.DYNAMIC)
    return torch.export.export(module, (example,), dynamic_shapes={"image": dynamic})


def _write_pt2(program: torch.export.ExportedProgram, path: Path, texts: Mapping[str, str]) -> None:
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={f"{name}.json": text for name, text in texts.items()})
    path.write_bytes(buffer.getvalue())


def _write_compiled(program: torch.export.ExportedProgram, path: Path, texts: Mapping[str, str]) -> None:
    inductor = torch._inductor  # noqa: SLF001 (its documented functions have no other name; imported on first access)
    try:
        inductor.aoti_compile_and_package(program, package_path=str(path))
    except (inductor.exc.InvalidCxxCompiler, inductor.exc.CppCompileError) as error:
        missing = isinstance(error, inductor.exc.InvalidCxxCompiler)
        reason = "no C++ compiler was found" if missing else "its C++ compiler failed"
        msg = f"Cannot compile the model for {path.name!r}: {reason}."
        remedy = "Install g++, or set the environment variable CXX. Or pass {compile:False}."
        raise InputError(msg, remedy=remedy, argument="compile") from error
    with zipfile.ZipFile(path, "a") as archive:
        folder = archive.namelist()[0].partition("/")[0]
        for name, text in texts.items():
            archive.writestr(f"{folder}/extra/{name}.json", text)


def _write_onnx(program: torch.export.ExportedProgram, path: Path, texts: Mapping[str, str]) -> None:
    with optional_import("onnxscript", "onnx", "export to ONNX"):
        converted: Any = torch.onnx.export(program, dynamo=True, verbose=False, external_data=False)
    for node in converted.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces
    converted.model.metadata_props.update(texts)
    converted.save(path, external_data=False)


_WRITERS: Mapping[str, Callable[[torch.export.ExportedProgram, Path, Mapping[str, str]], None]] = {
    ".pt2": _write_pt2,
    ".onnx": _write_onnx,
}
"""Writer of an exported program by file extension."""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress warnings and logs of torch's exporters about deprecated functions."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@contextlib.contextmanager
def _raise_missing_operator(network: Network) -> Iterator[None]:
    """Raise an error that names the operator which a format lacks."""
    try:
        yield
    except (InputError, ImportError, OSError):
        raise
    except Exception as error:  # the exporters raise errors of many types
        messages = [str(cause) for cause in (error, error.__cause__, error.__context__) if cause is not None]
        operators = [match[0] for message in messages for match in _OPERATOR.finditer(message)]
        reason = f"the operator {operators[0]}" if operators else messages[0].strip().partition("\n")[0]
        msg = f"Cannot export the architecture {network.card.model!r}: the format does not support {reason}."
        raise InputError(msg, remedy="Pass another format as {path}, .pt2 or .onnx.", argument="path") from error


def _require_equal(network: Network, path: Path) -> None:
    """Raise if outputs of the file for noise are not within the tolerance of the network's."""
    card = network.card
    noise = torch.randn((3, *_image_shape(card)), generator=torch.Generator().manual_seed(0))
    image = noise * network.std + network.mean
    with torch.no_grad():
        expected, actual = _Activated(network)(image), from_file(path, trust=True)(image)
    difference = float((actual - expected).abs().max()) / max(1.0, float(expected.abs().max()))
    if not difference <= _TOLERANCE:
        msg = f"Cannot export the architecture {card.model!r}: outputs of {path.name!r} differ by {difference:.2g}."
        raise OutputError(msg, remedy="Pass another format as {path}, .pt2 or .onnx.", value=difference)
