"""A frozen copy of a model for inference: numpy arrays in and out, in batches of one shape."""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass, field, replace
from typing import Any

import cloudpickle
import numpy as np
import torch
from torch import Tensor, nn

from geoxt.errors import InputError
from geoxt.inference.device_model import DeviceModel, model_on
from geoxt.inference.devices import DeviceOptions
from geoxt.inference.fingerprint import fingerprint
from geoxt.inference.model_output import model_output
from geoxt.inference.output_kinds import Stage
from geoxt.models.network import Network
from geoxt.models.scale_check import ScaleCheck
from geoxt.torch_devices import Device, open_device
from geoxt.types import Array, Mask

LOADED: dict[str, nn.Module] = {}
"""Unpickled models of this process by fingerprint: each is unpickled once for all dask tasks."""
ON_DEVICES: dict[Any, DeviceModel] = {}
"""Models on devices of this process, by fingerprint, stage, precision and device."""
LOADS = 0
"""Number of models that this process has unpickled."""
_MAX_LOADED = 4
_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Runner:
    """A frozen copy of a model, in evaluation mode."""

    model: nn.Module
    """Takes images (N, C, H, W), or (N, T, C, H, W) for series; a `Network` also takes their valid mask, without C."""
    digest: str
    """Fingerprint of the model."""
    stage: Stage
    """Stage at which its output is taken."""
    head: str | int | None
    """Key or index of one of several outputs."""
    batch_size: int
    """Tiles per batch."""
    options: DeviceOptions = field(default_factory=DeviceOptions)
    """Devices and precision of the computations."""
    scale_check: ScaleCheck
    """Warns if the first tiles have other values than those on which the model was trained."""

    @classmethod
    def of(
        cls,
        model: nn.Module,
        *,
        stage: Stage,
        batch_size: int,
        head: str | int | None = None,
        options: DeviceOptions | None = None,
    ) -> Runner:
        """Return a runner of a copy of a model in its current state, so that further training does not change maps.

        The copy is on the CPU, and is copied from there to the devices of each process.
        """
        if batch_size < 1:
            raise InputError(f"Cannot predict in batches of {batch_size} tiles.", remedy="Pass {batch_size:1} or more.")
        options = options or DeviceOptions()
        options.require_available()
        _require_finite_weights(model)
        frozen = copy.deepcopy(model).eval()
        if device_of(model).type != "cpu":
            frozen = frozen.cpu()
        return cls(
            model=frozen,
            digest=fingerprint(frozen),
            stage=stage,
            head=head,
            batch_size=batch_size,
            options=options,
            scale_check=ScaleCheck(frozen),
        )

    def __reduce__(self) -> Any:
        """Pickle the model as bytes, which a process unpickles only once."""
        payload = cloudpickle.dumps(self.model)
        return _restore_runner, (payload, self.digest, self.stage, self.head, self.batch_size, self.options)

    def __dask_tokenize__(self) -> Any:
        """Return the fields that determine the output."""
        options = self.options.devices, self.options.precision, self.options.compile
        return "Runner", self.digest, self.stage, self.head, self.batch_size, options

    def input_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the type in which pixels of a layer are passed: float32, or float64 to estimators that fit in it."""
        wide = getattr(self.model, "takes_float64", False) and np.result_type(dtype, np.float32) == np.float64
        return np.dtype(np.float64 if wide else np.float32)

    def on(self, device: Device, *, detects: bool = False) -> DeviceModel:
        """Return the model on a device of this process; `detects` if its output is a list of objects."""
        if device.name == "cpu" and not self.options.compile:
            forward = self.detect if detects else self.forward
            return DeviceModel(forward, device, precision=self.options.precision)
        key = self.digest, self.stage, self.head, self.options.precision, self.options.compile, device.name, detects
        with _LOCK:
            model = ON_DEVICES.get(key)
            if model is None or model.device is not device:
                while len(ON_DEVICES) >= _MAX_LOADED:
                    ON_DEVICES.pop(next(iter(ON_DEVICES)))
                moved = replace(self, model=model_on(self.model, self.digest, device))
                precision, compiled = self.options.precision, self.options.compile
                forward = moved.detect if detects else moved.forward
                model = ON_DEVICES[key] = DeviceModel(forward, device, precision=precision, compiled=compiled)
            return model

    def probe(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return the channels, height and width of the model's output for one image of a shape (…, C, H, W).

        Raises
        ------
        InputError
            If the output is neither a map nor a vector.
        """
        valid = np.ones((1, *shape[:-3], *shape[-2:]), bool)
        with torch.inference_mode():
            probe = self.forward(torch.zeros(1, *shape), torch.from_numpy(valid))
        output = probe.shape
        if len(output) != 4 or output[0] != 1:
            raise InputError(
                f"Cannot map with this model: for images of {shape[-2:]} pixels its output has the shape {output[1:]}.",
                remedy="Pass a {model} whose output is (channels, height, width).",
            )
        return int(output[1]), int(output[2]), int(output[3])

    def __call__(self, images: Array, valid: Mask) -> Array:
        """Return the output float32 (N, K, h, w) of images (N, …, C, H, W) and their valid masks (N, …, H, W).

        A batch shorter than `batch_size` is padded: on CPUs the last bits of a convolution depend on the number of
        images in a batch, and the result must not depend on how a scene is divided into blocks.
        """
        self.scale_check(images, valid)
        count, missing = len(images), self.batch_size - len(images)
        if missing:
            images = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)])
            valid = np.concatenate([valid, np.zeros((missing, *valid.shape[1:]), bool)])
        result: Array = self._run(images, valid)[:count].float().cpu().numpy()
        if not np.isfinite(result).any():  # images are finite: invalid pixels are 0
            msg = f"Cannot predict with this model: none of its outputs for {count} tiles is finite."
            remedy = "Pass a {model} whose training did not diverge, or mark pixels of extreme values as nodata."
            raise InputError(msg, remedy=remedy, argument="model")
        return result

    def _run(self, images: Array, valid: Mask) -> Tensor:
        device, on_device = self._copy(images, valid)
        return self.on(device)(*on_device)

    def _copy(self, *arrays: Array) -> tuple[Device, list[Tensor]]:
        """Return the first device, and copies of arrays on it."""
        device = open_device(self.options.resolved()[0])
        return device, [torch.from_numpy(array).to(device.torch_device) for array in arrays]

    def objects(self, images: Array, valid: Mask) -> Any:
        """Return the output of a detector, on its device, for images (N, C, H, W) and their valid masks (N, H, W)."""
        self.scale_check(images, valid)
        device, on_device = self._copy(images, valid)
        return self.on(device, detects=True).objects(*on_device)

    def detect(self, images: Tensor, valid: Tensor) -> Any:
        """Return the output of a detector for images and valid masks on its device."""
        return self.model(images, valid) if isinstance(self.model, Network) else self.model(list(images))

    def forward(self, images: Tensor, valid: Tensor) -> Tensor:
        """Return the output (N, K, h, w) at the stage, for images and valid masks on the model's device."""
        return model_output(self.model, images, valid, stage=self.stage, head=self.head)


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a model's parameters; the CPU if it has none."""
    return next((weight.device for weight in model.parameters()), torch.device("cpu"))


def _require_finite_weights(model: nn.Module) -> None:
    """Raise if a weight of a model is NaN or infinite, as after a training that diverged."""
    for name, weight in model.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            msg = f"Cannot predict with this model: its weights {name!r} are not finite."
            remedy = "Train it again with a lower learning rate, and pass that {model}."
            raise InputError(msg, remedy=remedy, value=name, argument="model")


def _restore_runner(
    payload: bytes, digest: str, stage: Stage, head: str | int | None, batch_size: int, options: DeviceOptions
) -> Runner:
    global LOADS  # noqa: PLW0603 (a count of this process)
    if digest not in LOADED:
        LOADS += 1
        while len(LOADED) >= _MAX_LOADED:
            LOADED.pop(next(iter(LOADED)))
        LOADED[digest] = cloudpickle.loads(payload)
    model = LOADED[digest]
    return Runner(
        model=model,
        digest=digest,
        stage=stage,
        head=head,
        batch_size=batch_size,
        options=options,
        scale_check=ScaleCheck(model),
    )
