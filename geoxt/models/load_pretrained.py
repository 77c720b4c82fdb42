"""`load`: pretrained weights into a model, or a pretrained encoder for the bands of a layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

from torch import nn

from geoxt.errors import InputError
from geoxt.models.encoders.load_encoder import load_encoder
from geoxt.models.encoders.pretrained_encoder import Encoder
from geoxt.models.weights.band_mapping import Missing
from geoxt.models.weights.loading import Loaded
from geoxt.models.weights.loading import load as load_into
from geoxt.models.weights.table import Weights
from geoxt.types import SomePath


@overload
def load(
    model: str,
    *,
    bands: Any,
    missing: Literal["raise", "mean"] | None = None,
    file: SomePath | None = None,
    folder: SomePath | None = None,
    progress: bool = True,
    **options: Any,
) -> Encoder: ...


@overload
def load(
    model: nn.Module,
    weights: str | Weights,
    *,
    bands: Sequence[str] | None = None,
    missing: Missing | None = None,
    alias: str | Mapping[str, str] | None = None,
    strict: bool = True,
    file: SomePath | None = None,
    folder: SomePath | None = None,
    progress: bool = True,
) -> Loaded: ...


def load(
    model: nn.Module | str,
    weights: str | Weights | None = None,
    *,
    bands: Any = None,
    missing: Any = None,
    alias: str | Mapping[str, str] | None = None,
    strict: bool = True,
    file: SomePath | None = None,
    folder: SomePath | None = None,
    progress: bool = True,
    **options: Any,
) -> Loaded | Encoder:
    """Load pretrained weights into a model, or return a pretrained encoder for the bands of a layer.

    Parameters
    ----------
    model
        Model built by `create`, or a timm model, which is modified inplace and whose first kernels are matched by band
        name. Or the name of an encoder, such as one of `geoxt.models.encoder_names(layer)`.
    weights
        Weights to load into a model: one of `geoxt.models.weights.names()`, `"timm/"` plus a timm name with its tag, or
        a `Weights`.
    bands
        For an encoder: the layer, whose bands are matched by name, common name and wavelength, or names of bands. For a
        model: its bands, in order; by default those given to `create`.
    missing
        Bands that the layer lacks: for an encoder `"raise"` (default), or `"mean"`, their mean in the training data.
        For a model, the initialization of the kernels of bands that the weights lack: `"mean"` of the other kernels
        (default), with all kernels scaled so that the response to equal bands is unchanged; `"random"`, the initial
        values of the model; or `"zero"`.
    alias
        For a model: name in the weights by name of a band, if they differ, or a sensor of `ALIASES`.
    strict
        For a model: whether to raise if tensors other than those of the last layers do not fit.
    file
        Local weights file, instead of a download.
    folder
        Folder of downloaded files; by default the cache folder of geoxt.
    progress
        Whether to show a progress bar during the download.
    options
        Of an encoder: `size`, the side of its images in pixels; `dates`, the number of time steps of an image;
        `out_indices`, the blocks whose outputs are the feature maps; `mean` and `std` of each band in units of the
        layer, for models without published statistics; `time`, `location` (longitude, latitude) and `gsd` (metres),
        by default those of the layer.

    Returns
    -------
    Loaded or Encoder
        Report of the weights loaded into a model; or the encoder, in evaluation mode.

    Raises
    ------
    InputError
        If model and weights do not match, bands are missing, the layer is in other units than the model takes, or the
        weights are not supported; the message states why, and an alternative.
    ReadError, MissingDependency
        If the file cannot be located, downloaded or read, or the library of the model is not installed.

    Examples
    --------
    >>> from geoxt import models  # doctest: +SKIP
    >>> model = models.create("timm/resnet18", bands=["blue", "green", "red"], num_classes=10)  # doctest: +SKIP
    >>> models.load(model, "torchgeo:ResNet18_Weights.SENTINEL2_RGB_MOCO")  # doctest: +SKIP
    >>> encoder = models.load("terramind:v1_tiny", bands=layer)  # doctest: +SKIP
    >>> geoxt.predict(layer, encoder, output="embeddings", size=encoder.size)  # doctest: +SKIP
    """
    if isinstance(model, str):
        if weights is not None or alias is not None or not strict:
            msg = f"Cannot load the encoder {model!r} with weights=, alias= or strict=: its name states the weights."
            raise InputError(msg, remedy="Pass {model} alone, the name of the encoder.", argument="weights")
        if bands is None:
            msg = f"Cannot load the encoder {model!r} without bands."
            raise InputError(msg, remedy="Pass {bands}, a layer or names of bands.", argument="bands")
        return load_encoder(
            model, bands=bands, missing=missing or "raise", file=file, folder=folder, progress=progress, **options
        )
    if weights is None:
        msg = f"Cannot load weights into {type(model).__name__} without their name."
        raise InputError(msg, remedy="Pass {weights}, one of geoxt.models.weights.names().", argument="weights")
    if options:
        msg = f"Cannot load weights into a model with the option {next(iter(options))!r}, which is for encoders."
        raise InputError(msg, remedy="Leave it out.", value=next(iter(options)))
    return load_into(
        model, weights, bands=bands, missing=missing or "mean", alias=alias, strict=strict, file=file, folder=folder,
        progress=progress,
    )  # fmt: skip
