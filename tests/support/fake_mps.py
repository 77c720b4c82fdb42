"""A stand-in for MPS, Apple's device: tensors state the device "mps", are computed on the CPU, and refuse float64."""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

_CPU = torch.device("cpu")
_GUARDED = {"__bool__", "__float__", "__getitem__", "__index__", "__int__", "__invert__", "__setitem__",
            "copy_", "item", "tolist"}  # fmt: skip
"""Methods of tensors that require torch's build for the device before they call an operator."""
_PARSERS = (torch.device, torch._C._nn._parse_to)
"""Functions that take the name of a device, and return no tensor."""


class _MpsTensor(torch.Tensor):
    """A tensor of the stand-in, which holds a tensor on the CPU."""

    @staticmethod
    def __new__(cls, inner):
        if inner.dtype == torch.float64:  # as torch does
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        options = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, inner.size(), device="mps", **options)

    def __init__(self, inner):
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs)


def _is_mps(value):
    return isinstance(value, (str, torch.device)) and str(value) in {"mps", "mps:0"}


def _on_mps(value):
    return _MpsTensor(value) if isinstance(value, torch.Tensor) else value


def _run(func, args, kwargs):
    """Run an operator on the CPU; its result is on MPS if it names that device, or names none and an input is."""
    inputs = []

    def unwrap(value):
        if isinstance(value, _MpsTensor):
            inputs.append(value)
            return value.inner
        return _CPU if _is_mps(value) else value

    def wrap(value):
        inplace = [tensor for tensor in inputs if tensor.inner is value]
        return inplace[0] if inplace else _on_mps(value)

    kwargs = kwargs or {}
    cpu_args, cpu_kwargs = tree_map(unwrap, (args, kwargs))
    result = func(*cpu_args, **cpu_kwargs)
    device = kwargs.get("device")
    return tree_map(wrap, result) if (inputs if device is None else _is_mps(device)) else result


class _Dispatch(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs)


class _Functions(TorchFunctionMode):
    """Replaces the device before torch, which is built without MPS, refuses it."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _GUARDED and isinstance(args[0], _MpsTensor):
            result = func(*tree_map(lambda value: getattr(value, "inner", value), args), **kwargs)
            return _on_mps(result)
        if func is torch.Tensor.new_tensor and isinstance(args[0], _MpsTensor):
            return _MpsTensor(torch.tensor(*args[1:], **{"dtype": args[0].dtype} | kwargs))
        if func is torch.Tensor.to and isinstance(args[-1], _MpsTensor) and len(args) > 1:
            args = (args[0], args[1].device, args[1].dtype)
        if func in _PARSERS or not any(map(_is_mps, [*args, *kwargs.values()])):
            return func(*args, **kwargs)
        args, kwargs = tree_map(lambda value: _CPU if _is_mps(value) else value, (args, kwargs))
        return tree_map(_on_mps, func(*args, **kwargs))


@contextmanager
def fake_mps():
    """Return a context in which tensors can be moved to "mps"."""
    with _Dispatch(), _Functions():
        yield
