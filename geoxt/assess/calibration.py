"""Calibration of class probabilities by temperature scaling."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from torch import nn

from geoxt.assess.held_out_pixels import MAX_PIXELS, held_out_pixels, network_with_card
from geoxt.assess.reliability import Reliability, reliability
from geoxt.errors import AssessmentWarning, InputError, optional_import
from geoxt.models.network import Network, save_checkpoint
from geoxt.plot.reliability_diagram import reliability_diagram
from geoxt.regions.rasterize import SomeRegion
from geoxt.samplers.drawing import Figure
from geoxt.types import Array, Floats, SomePath

_LIMIT = 100.0
"""Largest temperature; the smallest is its inverse."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """Fitted temperature of a model, and the reliability of its probabilities before and after calibration."""

    temperature: float
    """Divisor of the logits: above 1 for an overconfident model."""
    before: Reliability
    """Reliability with the temperature that the model card had."""
    after: Reliability
    """Reliability with the fitted temperature."""
    classes: tuple[str, ...]
    """Names of the classes."""
    pixels: int
    """Number of pixels."""
    model: Network
    """The calibrated network, whose card states the temperature."""

    def save(self, path: SomePath) -> Path:
        """Write the calibrated network as a checkpoint for prediction, and return its path."""
        return save_checkpoint(self.model, path)

    def plot(self) -> Figure:
        """Plot the reliability diagram: accuracy by confidence, before and after.

        Returns
        -------
        matplotlib.figure.Figure
        """
        return reliability_diagram({"before": self.before, "after": self.after})

    def __repr__(self) -> str:
        rows = [
            f"{name:<7} ECE {part.ece:.4f}, Brier score {part.brier:.4f}, negative log-likelihood {part.nll:.4f}"
            for name, part in (("before:", self.before), ("after:", self.after))
        ]
        return "\n".join([f"temperature {self.temperature:.4f} from {self.pixels:,} pixels", *rows])


def calibrate(
    model: nn.Module | SomePath,
    data: xr.Dataset,
    *,
    region: SomeRegion | None = None,
    n_bins: int = 15,
    max_pixels: int = MAX_PIXELS,
    seed: int = 0,
    **options: Any,
) -> Calibration:
    """Return the temperature that calibrates a model's probabilities, fitted on held-out pixels.

    Logits are divided by one number, the temperature, which minimizes the negative log-likelihood of the labels. The
    predicted classes stay the same. The temperature is stored in the model card, and used by `geoxt.predict`.

    Parameters
    ----------
    model
        A trained task, its network, or the path of its checkpoint. The card of a task or network is changed in place.
        A checkpoint is not changed: call `save` of the result.
    data
        An image and labels `mask` on one grid, such as `geoxt.intersection(image=…, mask=…)`.
    region
        Held-out pixels, such as the validation part of a split; all by default. Training pixels give a temperature that
        is too low.
    n_bins
        Bins of the reliability diagram and of the expected calibration error.
    max_pixels
        Approximate maximum number of pixels; of more, a random sample is used.
    seed
        Seed of the sample.
    options
        Further arguments of `geoxt.predict`, such as `size` and `bands`.

    Returns
    -------
    Calibration
        `temperature`, and the reliability `before` and `after`: diagram, `ece` and `brier`. Probabilities are
        the softmax of the logits, blended over tiles.

    Raises
    ------
    InputError
        If the model has no card, or is not a model of mutually exclusive classes.
    LabelError
        If a code has other names in the labels and the model.
    OverlapError
        If no pixel has a prediction and a label.

    Warns
    -----
    AssessmentWarning
        If labels have codes that the model lacks, which are excluded, or the temperature is at its limit, 0.01 or 100.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> import xarray as xr
    >>> from geoxt import assess
    >>> from geoxt.grid import coordinates
    >>> from geoxt.legend import Legend
    >>> from geoxt.models import Card, Network
    >>> from geoxt.testing import make_grid
    >>> legend = Legend((1, 2), ("water", "land"))
    >>> card = Card(
    ...     task="segmentation",
    ...     model="fcn",
    ...     options={"width": 2, "layers": 1},
    ...     bands=("nir",),
    ...     mean=(0,),
    ...     std=(1,),
    ...     codes=legend.codes,
    ...     names=legend.names,
    ...     colors=legend.colors,
    ...     size=(32, 32),
    ... )
    >>> network = Network(card)
    >>> rng, coords = np.random.default_rng(0), coordinates(make_grid((64, 64)))
    >>> codes, noise = rng.integers(1, 3, (64, 64)).astype("uint8"), rng.normal(size=(1, 64, 64)).astype("float32")
    >>> image = xr.DataArray(noise, dims=("band", "y", "x"), coords={"band": ["nir"], **coords})
    >>> mask = xr.DataArray(codes, dims=("y", "x"), coords=coords, attrs=legend.attrs())
    >>> calibration = assess.calibrate(network, xr.Dataset({"image": image, "mask": mask}), size=32)
    >>> network.card.temperature == calibration.temperature, calibration.after.nll <= calibration.before.nll
    (True, True)

    References
    ----------
    Guo et al. 2017, On calibration of modern neural networks. https://arxiv.org/abs/1706.04599
    """
    network = network_with_card(model, {})
    card = network.card
    if not card.kind.is_categorical:
        problem = f"Cannot calibrate a model for {card.task}: it has no class probabilities."
        raise InputError(problem, remedy="Pass a {model} for segmentation.", value=card.task, argument="model")
    if not isinstance(n_bins, Integral) or n_bins < 1:
        problem = f"Cannot divide confidences into {n_bins!r} bins."
        raise InputError(problem, remedy="Pass {n_bins:15}, 1 or more.", value=n_bins, argument="n_bins")
    pixels = held_out_pixels(
        network, data, card, output="logits", region=region, max_pixels=max_pixels, seed=seed, options=options
    )
    logits = pixels.outputs.astype(np.float64)
    temperature = fitted_temperature(logits, pixels.labels)
    if max(temperature, 1 / temperature) > 0.99 * _LIMIT:
        text = (
            f"The temperature is at its limit, {temperature:.2f}: predictions agree with all labels, or by chance only."
        )
        warnings.warn(text, AssessmentWarning, stacklevel=2)
    network.card = replace(card, temperature=temperature)
    if isinstance(model, nn.Module) and hasattr(model, "card"):
        setattr(model, "card", network.card)  # noqa: B010 (of a task; nn.Module types attributes as tensors)
    return Calibration(
        temperature=temperature,
        before=reliability(softmax(logits / card.temperature), pixels.labels, n_bins=n_bins),
        after=reliability(softmax(logits / temperature), pixels.labels, n_bins=n_bins),
        classes=card.legend.distinct_names,
        pixels=len(logits),
        model=network,
    )


def fitted_temperature(logits: Floats, labels: Array) -> float:
    """Return the temperature that minimizes the negative log-likelihood of labels (n,) given logits (n, classes)."""
    with optional_import("scipy", "assess", "calibrate a model"):
        from scipy.optimize import minimize_scalar
        from scipy.special import logsumexp
    label_logit = float(np.take_along_axis(logits, labels[:, None], 1).mean())

    # convex in 1 / temperature, so that it has one minimum on the logarithmic axis, too
    def nll(log_temperature: float) -> float:
        scale = math.exp(-log_temperature)
        return float(logsumexp(logits * scale, axis=1).mean()) - label_logit * scale

    limit = math.log(_LIMIT)
    return math.exp(minimize_scalar(nll, bounds=(-limit, limit), method="bounded", options={"xatol": 1e-6}).x)


def softmax(logits: Floats) -> Floats:
    """Return class probabilities (n, classes) of logits."""
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)
