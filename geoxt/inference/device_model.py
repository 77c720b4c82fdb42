"""A model on a device: batches of tensors in and out, in a precision, in batches that fit in its memory."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from itertools import chain
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from geoxt.bridge.malloc import keep_freed_memory
from geoxt.errors import DeviceWarning, InputError
from geoxt.torch_devices import Device
from geoxt.types import Precision

T = TypeVar("T")

MODELS: WeakValueDictionary[tuple[str, str], nn.Module] = WeakValueDictionary()
"""Models in use on devices of this process, by fingerprint and name of the device."""


class DeviceModel:
    """A model on a device.

    Parameters
    ----------
    forward
        Returns the output (N, K, …) of images and their valid masks, with a model on the device.
    device
        The device.
    precision
        Precision of the computations.
    compiled
        Whether to compile `forward`.
    """

    def __init__(
        self,
        forward: Callable[[Tensor, Tensor], Tensor],
        device: Device,
        *,
        precision: Precision = "32",
        compiled: bool = False,
    ) -> None:
        keep_freed_memory()
        self.device = device
        self.limit: int | None = None
        """Images per forward pass that fit in the memory of the device; `None` as long as all batches did."""
        self._forward = torch.compile(forward, dynamic=False) if compiled else forward
        self._precision, self._compiled = precision, compiled
        # Forward passes on a device are enqueued one after the other. On a CPU threads run them at once.
        self._lock = threading.Lock() if compiled or device.torch_device.type != "cpu" else nullcontext()

    def __call__(self, images: Tensor, valid: Tensor) -> Tensor:
        """Return the output float32 (N, K, …), on the device, of images on the device and their valid masks.

        If the memory of the device is exhausted, this and later batches are divided into halves.

        Raises
        ------
        InputError
            If one image does not fit in the memory of the device, or the model cannot be compiled.
        """
        return self._in_memory(images, valid, _concatenate_outputs)

    def objects(self, images: Tensor, valid: Tensor) -> Any:
        """Return the outputs of a detector, one per image; otherwise as for tensors."""
        return self._in_memory(images, valid, _chain_outputs)

    def _in_memory(self, images: Tensor, valid: Tensor, join: Callable[[list[Any]], T]) -> T:
        """Return the joined outputs of parts of a batch, the largest that fit in memory."""
        with self._lock:
            while True:
                size = min(self.limit or len(images), len(images))
                try:
                    with torch.inference_mode(), self.device.current(), self.device.precision(self._precision):
                        starts = range(0, len(images), size)
                        parts = [self._call(self._to_float(images[i : i + size]), valid[i : i + size]) for i in starts]
                        return join(parts)
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                # Here, as the error holds the tensors of the forward pass that did not fit.
                self.device.release_memory()
                self.halve(size, tuple(images.shape[-2:]))

    def _to_float(self, images: Tensor) -> Tensor:
        """Return images as float32; float64, which pipelines of estimators alone pass, unchanged."""
        if images.dtype == torch.float64:
            return images
        if images.dtype == torch.uint16:  # few operations of torch support it
            images = images.view(torch.int16).to(torch.int32).bitwise_and_(0xFFFF)
        if images.ndim == 4 and self.device.torch_device.type == "cuda":
            return images.to(torch.float32, memory_format=torch.channels_last)
        return images.float()

    def _call(self, images: Tensor, valid: Tensor) -> Tensor:
        if not self._compiled:
            return self._forward(images, valid)
        try:
            return self._forward(images, valid)
        except InputError:
            raise
        except Exception as error:
            if is_out_of_memory(error) or not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            msg = f"Cannot compile the model for {self.device.name!r} ({type(error).__name__}: {_first_line(error)})."
            raise InputError(msg, remedy="Pass {compile:False}.", value=True, argument="compile") from error

    def halve(self, size: int, shape: tuple[int, ...]) -> None:
        """Halve the batch size, `size` tiles of a shape (height, width), which exceeded the memory of the device.

        Raises
        ------
        InputError
            If one tile did not fit.
        """
        if size == 1:
            msg = f"Cannot run the model on {self.device.name!r}: a tile of {shape} pixels does not fit in its memory."
            remedy = "Pass a smaller {size}. Or pass {precision:'bf16'}. Or pass {device:'cpu'}."
            raise InputError(msg, remedy=remedy, value=shape, argument="size")
        if self.limit is None:
            warnings.warn(
                f"The memory of {self.device.name!r} is exhausted by {size} tiles of {shape} pixels: the model runs in "
                f"batches of {size // 2}, or fewer. Pass a smaller batch_size to avoid failed attempts.",
                DeviceWarning,
                stacklevel=2,
            )
        self.limit = size // 2


def model_on(model: nn.Module, digest: str, device: Device) -> nn.Module:
    """Return a model on a device: one copy per process and device."""
    if device.torch_device.type == "cpu":
        return model
    moved = MODELS.get((digest, device.name))
    if moved is None:
        moved = MODELS[digest, device.name] = _move_model(copy.deepcopy(model), device)
    return moved


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error states that the memory of a device is exhausted."""
    kind: Any = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)
    # MPS, cuDNN and cuBLAS raise plain RuntimeErrors.
    return isinstance(error, kind) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in ("out of memory", "ALLOC_FAILED"))
    )


def _concatenate_outputs(parts: list[Tensor]) -> Tensor:
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).float()


def _chain_outputs(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else [item for part in parts for item in part]


def _move_model(model: nn.Module, device: Device) -> nn.Module:
    """Return a model on a device; on CUDA its convolutions are in channels-last order, which tensor cores use."""
    try:
        model = model.to(device.torch_device)
    except TypeError as error:
        if device.sum_dtype == torch.float64:
            raise
        msg = f"Cannot run the model on {device.name!r}: its weights are float64, which the device does not support."
        raise InputError(msg, remedy="Pass {device:'cpu'}.", value=device.name, argument="device") from error
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        msg = f"Cannot run the model on {device.name!r}: its weights do not fit in the memory of the device."
        raise InputError(msg, remedy="Pass {device:'cpu'}.", value=device.name, argument="device") from error
    if device.torch_device.type == "cuda" and all(t.ndim != 5 for t in chain(model.parameters(), model.buffers())):
        model = model.to(memory_format=torch.channels_last)
    return model


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "")
