"""Devices and precision of inference, and their resources in a dask cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch

from geoxt.errors import InputError
from geoxt.progress import default_client
from geoxt.torch_devices import Device, open_device, parse_name, resolve
from geoxt.types import Precision

SomeDevice = str | torch.device | Sequence[str | torch.device]
"""A device by torch's name ("cpu", "cuda", "cuda:1", "mps"), "auto", or several devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceOptions:
    """Devices and precision of a model, as requested; resolved in the process that runs it."""

    devices: tuple[str, ...] = ("auto",)
    """Names of devices, or "auto"."""
    precision: Precision = "32"
    """Precision of the computations."""
    compile: bool = False
    """Whether the model is compiled by `torch.compile`."""

    def resolved(self) -> tuple[str, ...]:
        """Return the names of the devices of this process, such as ("cuda:0",).

        Raises
        ------
        InputError
            If this process has no such device.
        """
        return tuple(dict.fromkeys(map(resolve, self.devices)))

    def require_available(self) -> None:
        """Raise if this process has no such device, or the device does not support the precision.

        Without effect if the default dask client is connected to a cluster, whose workers have other devices.

        Raises
        ------
        InputError
            If a device or the precision is missing.
        """
        if default_client() is not None:  # the devices are those of the workers
            return
        for name in self.resolved():
            open_device(name).require_precision(self.precision)


def parse_options(
    device: SomeDevice = "auto",
    precision: Precision = "32",
    compile: bool = False,  # noqa: FBT001, FBT002
    *,
    model_device: torch.device | None = None,
) -> DeviceOptions:
    """Return parsed device options; the default device is that of the model, unless it is the CPU.

    Raises
    ------
    InputError
        If a device has no valid name, no device is named, or the precision is unknown.
    """
    names = [device] if isinstance(device, (str, torch.device)) else list(device)
    if not names:
        msg = "Cannot run the model: the list of devices is empty."
        raise InputError(msg, remedy="Pass {device:'auto'}.", value=device, argument="device")
    if precision not in get_args(Precision):
        msg = f"Cannot run the model in the precision {precision!r}."
        remedy = f"Pass {{precision}}, one of {', '.join(get_args(Precision))}."
        raise InputError(msg, remedy=remedy, value=precision, argument="precision")
    parsed = tuple(parse_name(name) for name in names)
    if parsed == ("auto",) and model_device is not None and model_device.type not in {"cpu", "meta"}:
        parsed = (str(model_device),)
    return DeviceOptions(devices=parsed, precision=precision, compile=bool(compile))


def first_device(options: DeviceOptions) -> Device:
    """Return the first of the requested devices.

    Raises
    ------
    InputError
        If this process has no such device, or the device does not compute in the precision.
    """
    device = open_device(options.resolved()[0])
    device.require_precision(options.precision)
    return device


def task_resources(options: DeviceOptions) -> dict[str, float]:
    """Return the resources that tasks require: a GPU, if workers of the dask cluster offer any as dask-cuda's do."""
    client = default_client()
    if client is None or set(options.devices) == {"cpu"}:
        return {}
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return {"GPU": 1} if any(worker.get("resources", {}).get("GPU") for worker in workers) else {}
