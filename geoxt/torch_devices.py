"""Devices of torch: names, availability, and the memory, streams and events that loaders and inference use of them.

They use a device only through `Device`, so that tests replace it by one that records calls, delays copies or runs out
of memory (`OPENED`).
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from geoxt.errors import DeviceWarning, InputError
from geoxt.types import Precision

OPENED: dict[str, Device] = {}
"""Devices that this process uses, by name."""
_AUTOCAST: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "16": torch.float16}
_TF32_LOCK = threading.Lock()
_TF32_STATE: list[Any] = [0, None]
"""Number of contexts that compute in IEEE float32, and the setting of cuDNN before the first of them."""


class Device:
    """A device whose copies and computations are finished when they return: MPS, and the base of other devices.

    Parameters
    ----------
    name
        Name by torch, such as "cuda:0".
    """

    sum_dtype: torch.dtype = torch.float64
    """Type of sums over overlapping tiles."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.torch_device = torch.device(name)
        if self.torch_device.type == "mps":
            self.sum_dtype = torch.float32  # Metal has no float64

    def empty_pinned(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return an uninitialized tensor in host memory from which this device copies fastest."""
        return torch.empty(tuple(shape), dtype=dtype)

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return an uninitialized tensor in the memory of this device."""
        return torch.empty(tuple(shape), dtype=dtype, device=self.torch_device)

    def copy(self, source: Tensor, target: Tensor) -> None:
        """Copy a tensor from or to this device, in the order of the current stream."""
        target.copy_(source)

    def current(self) -> AbstractContextManager[Any]:
        """Return a context in which this device is the current one of its type."""
        return nullcontext()

    def copy_stream(self) -> AbstractContextManager[Any]:
        """Return a context whose operations run concurrently with those outside it."""
        return nullcontext()

    def record(self) -> Any:
        """Return an event that is complete once all operations of the current stream so far are."""
        return None

    def wait(self, event: Any) -> None:
        """Let later operations of the current stream start after an event; this thread does not wait."""

    def wait_on_host(self, event: Any) -> None:
        """Let this thread wait for an event."""

    def synchronize(self) -> None:
        """Let this thread wait for all operations of this device."""
        if self.torch_device.type == "mps":
            torch.mps.synchronize()

    def release_memory(self) -> None:
        """Return cached memory of torch to the device."""
        if self.torch_device.type == "mps":
            torch.mps.empty_cache()

    def require_precision(self, precision: Precision) -> None:
        """Raise if this device does not compute in a precision, and warn if it emulates the precision slowly.

        Raises
        ------
        InputError
            If it does not.
        """
        if precision == "32":
            return
        try:
            # TypeError of MPS before macOS 14; float16 of CPUs is emulated, a hundred times slower than float32
            torch.ones(1, dtype=_AUTOCAST[precision], device=self.torch_device).add(1)
            supported = not (precision == "16" and self.torch_device.type == "cpu")
        except (TypeError, RuntimeError):
            supported = False
        _require_supported(precision, self.name, supported=supported)
        if self.torch_device.type == "cpu":
            warn_slow_bfloat16()

    def precision(self, precision: Precision) -> AbstractContextManager[Any]:
        """Return a context in which models compute in a precision."""
        if precision == "32":
            return ieee_float32() if self.torch_device.type == "cuda" else nullcontext()
        return torch.autocast(self.torch_device.type, dtype=_AUTOCAST[precision])


class CudaDevice(Device):
    """A CUDA device: pinned memory, and a second stream for copies."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._copies = torch.cuda.Stream(self.torch_device)  # type: ignore[no-untyped-call]

    def empty_pinned(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Return an uninitialized tensor in page-locked host memory."""
        return torch.empty(tuple(shape), dtype=dtype, pin_memory=True)

    def copy(self, source: Tensor, target: Tensor) -> None:
        """Copy a tensor; with a pinned one the call returns before the copy is complete."""
        target.copy_(source, non_blocking=True)

    def current(self) -> AbstractContextManager[Any]:
        """Return a context in which this device is the current one."""
        return torch.cuda.device(self.torch_device)

    def copy_stream(self) -> AbstractContextManager[Any]:
        """Return a context whose operations run on the stream of copies."""
        return torch.cuda.stream(self._copies)

    def record(self) -> torch.cuda.Event:
        """Return an event on the current stream."""
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.torch_device))
        return event

    def wait(self, event: torch.cuda.Event | None) -> None:
        """Let later operations of the current stream start after an event."""
        if event is not None:
            torch.cuda.current_stream(self.torch_device).wait_event(event)

    def wait_on_host(self, event: torch.cuda.Event | None) -> None:
        """Let this thread wait for an event."""
        if event is not None:
            event.synchronize()

    def synchronize(self) -> None:
        """Let this thread wait for all operations of this device."""
        torch.cuda.synchronize(self.torch_device)

    def release_memory(self) -> None:
        """Return cached memory of torch to the device."""
        with torch.cuda.device(self.torch_device):
            torch.cuda.empty_cache()

    def require_precision(self, precision: Precision) -> None:
        """Raise if this device has no arithmetic of a precision; torch would emulate it."""
        # Compute capability 8.0 (Ampere) and later have bfloat16, 5.3 and later float16.
        minimum = {"32": (0, 0), "bf16": (8, 0), "16": (5, 3)}[precision]
        supported = torch.version.hip is not None or torch.cuda.get_device_capability(self.torch_device) >= minimum
        _require_supported(precision, self.name, supported=supported)


def parse_name(name: str | torch.device, use: str = "run the model") -> str:
    """Return the name of a device, or "auto"; `use` is named in the error.

    Raises
    ------
    InputError
        If torch knows no such device.
    """
    if name == "auto":
        return "auto"
    try:
        return str(torch.device(name))
    except (RuntimeError, TypeError) as error:
        msg = f"Cannot {use} on {name!r}: torch knows no such device."
        remedy = "Pass {device}, one of auto, cpu, cuda, cuda:1, mps."
        raise InputError(msg, remedy=remedy, value=name, argument="device") from error


def resolve(name: str, use: str = "run the model") -> str:
    """Return the name of a device of this process, with its index, such as "cuda:0" of "auto" or "cuda".

    Parameters
    ----------
    name
        Name by torch, or "auto".
    use
        Use of the device, for the error.

    Raises
    ------
    InputError
        If this process has no such device.
    """
    if name in OPENED:
        return name
    if name == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return resolve(kind, use)
    device = torch.device(name)
    if device.type == "cpu":
        return "cpu"
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = device.index if ":" in name else _own_index(count)
        if index < count:
            return f"cuda:{index}"
        reason = f"torch finds {count} CUDA devices" if count else "torch finds no CUDA device"
    elif device.type == "mps":
        if torch.backends.mps.is_available():
            return "mps"
        reason = "torch finds no Metal device (MPS)"
    elif _has_accelerator(device.type):
        return name
    else:
        reason = f"torch finds no device of the type {device.type!r}"
    msg = f"Cannot {use} on {name!r}: {reason}."
    raise InputError(msg, remedy="Pass {device:'auto'} or {device:'cpu'}.", value=name, argument="device")


def open_device(name: str) -> Device:
    """Return a device of this process by its name with an index."""
    if name not in OPENED:  # threads may open one at once, and share the first
        OPENED.setdefault(name, (CudaDevice if name.startswith("cuda") else Device)(name))
    return OPENED[name]


def number_on_host(number: Tensor, device: Device | None = None) -> Callable[[], float]:
    """Start to copy a number to the host, and return a function that waits for the copy and returns it.

    It does not wait for operations that are started after the copy, as `float(number)` does on CUDA.

    Parameters
    ----------
    number
        Tensor with one element.
    device
        Its device, if that is not known from the tensor.
    """
    if device is None:
        if number.device.type != "cuda":
            return number.item
        device = open_device(str(number.device))
    on_host = device.empty_pinned(number.shape, number.dtype)
    computed = device.record()
    with device.copy_stream():
        device.wait(computed)
        device.copy(number, on_host)
        copied = device.record()

    def wait(source: Tensor = number) -> float:
        del source  # its memory is not used again before the copy is complete
        device.wait_on_host(copied)
        return float(on_host)

    return wait


def same_device(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a tensor on the device of another one; this thread does not wait for earlier operations of CUDA."""
    return tensor.to(like.device, non_blocking=like.is_cuda)


def float64_device(device: torch.device) -> torch.device:
    """Return the device on which to compute in float64: the CPU for MPS, which has none, and otherwise the same."""
    return torch.device("cpu") if device.type == "mps" else device


def to_float64(tensor: Tensor) -> Tensor:
    """Return a tensor as float64, on the CPU if its device is MPS."""
    return tensor.to(float64_device(tensor.device), torch.float64)


def warn_slow_bfloat16() -> None:
    """Warn if this CPU has no bfloat16: oneDNN's emulation without AVX-512 is 70 times slower than float32."""
    if torch.backends.cpu.get_cpu_capability() in {"AVX2", "NO AVX"}:
        msg = "This CPU computes in bfloat16 many times slower than in float32. Pass precision='32'."
        warnings.warn(msg, DeviceWarning, stacklevel=2)


def forked_rng() -> AbstractContextManager[Any]:
    """Return a context after which torch's random states are as before, of the CPU and of all CUDA devices.

    `torch.random.fork_rng` warns of several CUDA devices unless they are listed.
    """
    return torch.random.fork_rng(range(torch.cuda.device_count()) if torch.cuda.is_available() else [])


@contextmanager
def ieee_float32() -> Iterator[None]:
    """Compute convolutions in IEEE float32, not TF32, unless `torch.set_float32_matmul_precision` allows TF32.

    cuDNN uses TF32 by default, with 10 bits of mantissa; matrix products do not.
    """
    cudnn: Any = torch.backends.cudnn
    try:
        # the second raises if the operators of cuDNN differ
        allowed = torch.get_float32_matmul_precision() != "highest" or cudnn.allow_tf32 is None
    except RuntimeError:  # precisions were set by the newer `torch.backends.cudnn.conv.fp32_precision` and its siblings
        allowed = True
    if allowed:
        yield
        return
    with _TF32_LOCK:
        if _TF32_STATE[0] == 0:
            _TF32_STATE[1] = cudnn.allow_tf32
            cudnn.allow_tf32 = False
        _TF32_STATE[0] += 1
    try:
        yield
    finally:
        with _TF32_LOCK:
            _TF32_STATE[0] -= 1
            if _TF32_STATE[0] == 0:
                cudnn.allow_tf32 = _TF32_STATE[1]


def _has_accelerator(kind: str) -> bool:
    """Return whether torch has another accelerator, such as "xpu"."""
    module = getattr(torch, kind, None)
    return bool(module is not None and hasattr(module, "is_available") and module.is_available())


def _own_index(count: int) -> int:
    """Return the index of the CUDA device of this process.

    dask-cuda lets each worker see its own device first (CUDA_VISIBLE_DEVICES). The workers of a plain `LocalCluster`
    see all devices in one order; their names are the numbers 0, 1, 2, ….
    """
    distributed: Any = sys.modules.get("distributed")
    if distributed is not None and count > 1 and "CUDA_VISIBLE_DEVICES" not in os.environ:
        try:
            return int(distributed.get_worker().name) % count
        except (ValueError, TypeError):  # no worker, or one with another name
            pass
    return torch.cuda.current_device() if count else 0


def _require_supported(precision: Precision, name: str, *, supported: bool) -> None:
    if not supported:
        kind = {"bf16": "bfloat16", "16": "float16", "32": "float32"}[precision]
        msg = f"Cannot run the model in precision {precision!r} on {name!r}: the device does not compute in {kind}."
        raise InputError(msg, remedy="Pass {precision:'32'}.", value=precision, argument="precision")
