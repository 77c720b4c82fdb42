"""Runtimes of model files: ONNX, `torch.export` and TorchScript; one loaded model per file, process and device."""

from __future__ import annotations

import io
import os
import threading
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.export.passes import move_to_device_pass

from geoxt.errors import InputError, optional_import

Format = Literal["onnx", "pt2", "torchscript"]
"""Format of a model file."""

_MAX_LOADED = 4
_LOADED: dict[tuple[int, str, str], Runtime] = {}
"""Loaded models by process, digest and device: a forked child must not run a session of its parent."""
_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """A loaded model, safe to run from several threads."""

    run: Callable[[Tensor], Any]
    """Returns the outputs for one batch of images, as torch tensors."""
    shape: tuple[int | None, ...] | None = None
    """Sizes of the input, such as (N, C, H, W), `None` for sizes that may vary; `None` if the file does not state
    them."""


def runtime_of(content: bytes, digest: str, file_format: Format, device: torch.device) -> Runtime:
    """Return the model of a file's content on a device, loaded once per process.

    Raises
    ------
    MissingDependency
        If the runtime of the format is not installed.
    InputError
        If the model has several inputs, or an input of integers.
    """
    key = (os.getpid(), digest, str(device))
    with _LOCK:
        if key not in _LOADED:
            while len(_LOADED) >= _MAX_LOADED:
                _LOADED.pop(next(iter(_LOADED)))
            _LOADED[key] = _LOADERS[file_format](content, device)
        return _LOADED[key]


def _onnx(content: bytes, device: torch.device) -> Runtime:
    session = onnx_session(content, device)
    inputs, names = session.get_inputs(), [output.name for output in session.get_outputs()]
    _require_one_input([str(value.name) for value in inputs])
    dtypes = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16, "tensor(double)": torch.float64}
    dtype = _require_float(dtypes.get(inputs[0].type), inputs[0].type)
    sizes = tuple(size if isinstance(size, int) else None for size in inputs[0].shape)

    def run(images: Tensor) -> Any:
        arrays = session.run(names, {inputs[0].name: images.detach().to("cpu", dtype).contiguous().numpy()})
        tensors = [torch.from_numpy(array).to(images.device) for array in arrays]
        return tensors[0] if len(tensors) == 1 else dict(zip(names, tensors, strict=True))

    return Runtime(run=run, shape=sizes or None)


def onnx_session(content: bytes, device: torch.device) -> Any:
    """Return an onnxruntime session on a device, with settings that make its results reproducible."""
    with optional_import("onnxruntime", "onnx", "run an ONNX model"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    # One thread, as for torch: the batches of predict run concurrently, and the order of sums does not depend on cores.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    cuda = ("CUDAExecutionProvider", {"device_id": device.index or 0, "use_tf32": 0})
    offered = onnxruntime.get_available_providers()
    providers = [cuda] if device.type == "cuda" and cuda[0] in offered else []
    return onnxruntime.InferenceSession(content, options, providers=[*providers, "CPUExecutionProvider"])


def _pt2(content: bytes, device: torch.device) -> Runtime:
    if _is_compiled(content):
        compiled = torch._inductor.aoti_load_package(io.BytesIO(content))  # noqa: SLF001 (imported on first access)
        target = torch.device(compiled.get_metadata()["AOTI_DEVICE_KEY"])
        return Runtime(run=lambda images: compiled(images.to(target, torch.float32)).to(images.device))
    program = torch.export.load(io.BytesIO(content))
    names = list(program.graph_signature.user_inputs)
    _require_one_input([str(name) for name in names])
    value = next(node.meta["val"] for node in program.graph.nodes if node.name == names[0])
    dtype = _require_float(value.dtype if value.dtype.is_floating_point else None, str(value.dtype))
    if device.type != "cpu":
        program = move_to_device_pass(program, str(device))
    module = program.module()
    sizes = tuple(size if isinstance(size, int) else None for size in value.shape)
    return Runtime(run=lambda images: module(images.to(dtype)), shape=sizes)


def _is_compiled(content: bytes) -> bool:
    """Return whether a `.pt2` file is an AOTInductor package."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return any("/data/aotinductor/" in name for name in archive.namelist())


def _torchscript(content: bytes, device: torch.device) -> Runtime:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; its files remain
        module = torch.jit.load(io.BytesIO(content), map_location=device).eval()  # type: ignore[no-untyped-call]

    def run(images: Tensor) -> Any:
        # The profiling executor would change the graph after the first calls, and with it the last bits.
        with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            return module(images)

    return Runtime(run=run)


_LOADERS: Mapping[Format, Callable[[bytes, torch.device], Runtime]] = {
    "onnx": _onnx,
    "pt2": _pt2,
    "torchscript": _torchscript,
}


def _require_one_input(names: list[str]) -> None:
    if len(names) != 1:
        msg = f"Cannot use a model file with {len(names)} inputs: {', '.join(names)}."
        raise InputError(msg, remedy="Export a model with one input, the images.", value=names, argument="model")


def _require_float(dtype: torch.dtype | None, name: str) -> torch.dtype:
    if dtype is None:
        msg = f"Cannot use a model file whose input is {name}."
        raise InputError(msg, remedy="Export a model with an input of floats.", value=name, argument="model")
    return dtype
