"""Load a pretrained encoder by the name of its weights, for the bands of a layer."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from geoxt.errors import InputError
from geoxt.models.card import Card
from geoxt.models.encoders import terratorch_backbones, time_series_backbones, torchgeo_backbones, vision_backbones
from geoxt.models.encoders.backbone_request import BackboneRequest, Builder
from geoxt.models.encoders.band_metadata import BandMetadata, band_metadata_of
from geoxt.models.encoders.layer_inputs import (
    Context,
    LayerInputs,
    MissingBands,
    Units,
    context_of,
    layer_band_names,
    layer_inputs,
)
from geoxt.models.encoders.pretrained_encoder import Encoder
from geoxt.models.weights.table import GEOMETRIC, Weights, get, linear_scaling
from geoxt.models.weights.table import names as weights_names
from geoxt.models.weights.weights_file import fetch, read
from geoxt.types import SomePath

_LOG = logging.getLogger("geoxt")
BUILDERS: Mapping[str, Builder] = {
    "clay": terratorch_backbones.clay,
    "copernicus-fm": torchgeo_backbones.copernicus_fm,
    "croma": torchgeo_backbones.croma,
    "dofa": torchgeo_backbones.dofa,
    "earthloc": torchgeo_backbones.earthloc,
    "olmoearth": time_series_backbones.olmoearth,
    "panopticon": torchgeo_backbones.panopticon,
    "presto": time_series_backbones.presto,
    "prithvi": terratorch_backbones.prithvi,
    "scale-mae": torchgeo_backbones.scale_mae,
    "swin": vision_backbones.swin,
    "terramind": terratorch_backbones.terramind,
    "tessera": time_series_backbones.tessera,
    "tilenet": torchgeo_backbones.tilenet,
    "unet": vision_backbones.unet,
}
"""Builders of models by the family of the weights."""
Scaling = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel."""
_TIMM: Mapping[str, Any] = {"family": "timm", "size": 224}


def load_encoder(
    weights: str | Weights,
    *,
    bands: Any,
    missing: MissingBands = "raise",
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | None = None,
    dates: int | None = None,
    out_indices: Sequence[int] | None = None,
    time: Sequence[str] | None = None,
    location: tuple[float, float] | None = None,
    gsd: float | None = None,
    file: SomePath | None = None,
    folder: SomePath | None = None,
    progress: bool = True,
) -> Encoder:
    """Return a pretrained encoder for the bands of a layer; see `load` for the parameters."""
    if isinstance(weights, str):
        weights = get(weights)
    options, names, inputs = _match_layer(weights, bands, missing)
    steps, scaling = _normalization(weights, options, inputs, mean, std)
    count = _num_dates(weights, options, bands, dates)
    context = _context(bands, count, time=time, location=location, gsd=gsd)
    request = BackboneRequest(
        name=weights.name, options=options, names=names or inputs.bands, inputs=inputs, context=context,
        size=_size(options, size), dates=count, out_indices=out_indices,
    )  # fmt: skip
    if options["family"] == "timm":
        body = vision_backbones.timm_backbone(weights, request, file=file, folder=folder, progress=progress)
    else:
        path = Path(file) if file is not None else fetch(weights, folder=folder, progress=progress)
        body = BUILDERS[options["family"]](request, read(path))
    encoder = Encoder(
        _card(weights, inputs, scaling, request.size),
        body,
        inputs=inputs,
        steps=steps,
        fill=options.get("fill") or scaling[0],
        notes=_missing_inputs(options, context),
    )
    encoder.description = {
        "architecture": weights.architecture, "bands": weights.bands, "names": request.names, "inputs": asdict(inputs),
        "context": asdict(context), "size": request.size, "dates": count, "steps": encoder.steps,
        "out_indices": None if out_indices is None else tuple(out_indices), "fill": encoder.fill.flatten().tolist(),
        "card": encoder.card.to_dict(),
    }  # fmt: skip
    _LOG.info("Loaded %s: bands %s. %s", weights.name, ", ".join(encoder.bands), " ".join(encoder.notes))
    return encoder.eval()


def encoder_names(bands: Any) -> tuple[str, ...]:
    """Return the names of the pretrained encoders that accept the bands of a layer, for `geoxt.models.load`.

    Encoders of any bands may need further arguments of `load`, such as `mean` and `std`.

    Parameters
    ----------
    bands
        A layer, whose bands are matched by name, common name and wavelength; or names of bands.

    Raises
    ------
    InputError
        If the bands have no names, or repeated names.

    Examples
    --------
    >>> encoder_names(["VV", "VH"])[:2]
    ('torchgeo:CROMABase_Weights.CROMA_VIT', 'torchgeo:CROMALarge_Weights.CROMA_VIT')
    """
    layer_band_names(bands)  # raises for invalid bands
    return tuple(name for name in weights_names(encoders=True) if _accepts(get(name), bands))


def _accepts(weights: Weights, bands: Any) -> bool:
    try:
        _match_layer(weights, bands, "raise")
    except InputError:
        return False
    return True


def _match_layer(
    weights: Weights, bands: Any, missing: MissingBands
) -> tuple[Mapping[str, Any], tuple[str, ...] | None, LayerInputs]:
    """Return the options of an encoder, its bands (`None` for any) and the matched bands of a layer.

    Raises
    ------
    InputError
        If the weights are not supported, or the bands do not match.
    """
    if weights.unsupported is not None:
        msg = f"Cannot load {weights.name!r}: {weights.unsupported}"
        raise InputError(msg, remedy="Pass another {model}.", value=weights.name, argument="model")
    options = weights.encoder or (_TIMM if weights.timm else None)
    if options is None or (weights.bands is None and not options.get("any_bands")):
        msg = f"Cannot load {weights.name!r}: its architecture {weights.architecture!r} or its bands are unknown."
        raise InputError(msg, remedy="Pass another {model}.", value=weights.name, argument="model")
    names = None if options.get("any_bands") else weights.bands
    inputs = layer_inputs(
        bands, model=weights.name, names=names,
        metadata=tuple(band_metadata_of(name, weights.sensor) for name in names or ()),
        units=_units(weights, options), factor=float(options.get("factor", 10_000)), missing=missing,
        fillable=any(step["op"] == "normalize" for step in weights.steps),
        groups=options.get("groups", ()),
    )  # fmt: skip
    if options["family"] == "copernicus-fm":
        torchgeo_backbones.require_bandwidths(weights.name, inputs)
    return options, names, inputs


def rebuild_encoder(description: Mapping[str, Any]) -> Encoder:
    """Return the encoder of a description, with initial weights.

    The builder is looked up in the table of weights, so that a checkpoint cannot name another function to call.
    """
    name = description["card"]["model"]
    table_row = get(name) if name in weights_names(encoders=True) else None
    options = _TIMM if table_row is None else table_row.encoder or _TIMM
    inputs = LayerInputs(
        **_with_tuples(description["inputs"])
        | {"metadata": tuple(BandMetadata(**band) for band in description["inputs"]["metadata"])}
    )
    context = Context(**_with_tuples(description["context"]))
    request = BackboneRequest(
        name=name, options=options, names=tuple(description["names"]), inputs=inputs, context=context,
        size=description["size"], dates=description["dates"], out_indices=description["out_indices"],
        pretrained=False,
    )  # fmt: skip
    if options["family"] == "timm":
        bands = tuple(description["bands"])
        weights = Weights(
            name=name, architecture=description["architecture"], timm=True, bands=bands, license=None,
            url=None, file="",
        )  # fmt: skip
        body = vision_backbones.timm_backbone(weights, request)
    else:
        body = BUILDERS[options["family"]](request, {})
    encoder = Encoder(
        Card.from_dict(description["card"]), body, inputs=inputs, steps=description["steps"], fill=description["fill"]
    )
    encoder.description = description
    return encoder


def _with_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields with tuples instead of the lists of JSON."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def _units(weights: Weights, options: Mapping[str, Any]) -> tuple[Units, ...]:
    """Return the units of each band of the weights, from the table or inferred from the normalization."""
    declared = options.get("units") or weights.units
    count = len(weights.bands or ()) or 1
    if options.get("any_bands"):
        declared = declared or "any"
    elif declared is None:
        first = next((step for step in weights.steps if step["op"] not in GEOMETRIC), {})
        byte = first.get("op") == "divide" and first.get("by") == 255
        optical = (weights.sensor or "").lower().replace("-", "") in {"sentinel2", "sentinel2 l1c", "sentinel2 l2a"}
        radar, scaling = set(weights.bands or ("",)) <= {"VV", "VH"}, weights.scaling
        decibel = radar and scaling is not None and max(scaling[0]) < 0  # power is not negative
        declared = "byte" if byte else "reflectance" if optical else "decibel" if decibel else "stored"
    per_band = declared if isinstance(declared, (list, tuple)) else [declared] * count
    return tuple(cast("Sequence[Units]", per_band))


def _normalization(
    weights: Weights,
    options: Mapping[str, Any],
    inputs: LayerInputs,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> tuple[tuple[Mapping[str, Any], ...], Scaling]:
    """Return the normalization steps, and mean and std of each channel in units of the model (0 and 1 if unknown)."""
    if (mean is None) != (std is None) or (mean is not None and not len(mean) == len(std or ()) == len(inputs.bands)):
        msg = f"Cannot normalize {len(inputs.bands)} bands with mean={mean!r} and std={std!r}."
        remedy = f"Pass {{mean}} and {{std}}, of each of {', '.join(inputs.bands)}."
        raise InputError(msg, remedy=remedy, argument="mean")
    if mean is not None and std is not None:
        if inputs.channels != tuple(range(inputs.count)):
            msg = f"Cannot normalize {weights.name!r} with other statistics: the layer lacks bands of the model."
            raise InputError(msg, remedy="Leave {mean} and {std} out.", argument="mean")
        scaled = [m * s + o for m, s, o in zip(mean, inputs.scale, inputs.offset, strict=True)]
        stds = tuple(abs(w * s) for w, s in zip(std, inputs.scale, strict=True))
        return ({"op": "normalize", "mean": scaled, "std": list(stds)},), (tuple(scaled), stds)
    statistics = options.get("statistics")
    if statistics is not None and all(f.common in statistics for f in inputs.metadata):
        pairs = [statistics[f.common] for f in inputs.metadata]
        means, stds = tuple(float(m) for m, _ in pairs), tuple(float(s) for _, s in pairs)
        return ({"op": "normalize", "mean": list(means), "std": list(stds)},), (means, stds)
    if options.get("any_bands"):
        msg = f"Cannot normalize the bands {', '.join(inputs.bands)} for {weights.name!r}: its authors state no "
        msg += "statistics of them."
        remedy = "Pass {mean} and {std} of each band in units of the layer, such as those of your training data."
        raise InputError(msg, remedy=remedy, argument="mean")
    if inputs.filled and not any(step["op"] == "normalize" for step in weights.steps):
        msg = f"Cannot fill the bands {', '.join(inputs.filled)} of {weights.name!r}: their mean is not published."
        raise InputError(msg, remedy="Leave {missing} out, and pass a layer with these bands.", argument="missing")
    return weights.steps, linear_scaling(weights.steps, inputs.count)


def _card(weights: Weights, inputs: LayerInputs, scaling: Scaling, size: int) -> Card:
    """Return the model card, with mean and std in units of the layer."""
    means, stds = (weights.encoder or {}).get("fill") or scaling[0], scaling[1]
    conversions = list(zip(inputs.channels, inputs.scale, inputs.offset, strict=True))
    return Card(
        task="self-supervised",
        model=weights.name,
        bands=inputs.bands,
        mean=tuple((means[channel] - offset) / scale for channel, scale, offset in conversions),
        std=tuple(abs(stds[channel] / scale) for channel, scale, _ in conversions),
        codes=(),
        names=(),
        colors=(),
        size=(size, size),
        common_names=tuple(f.common for f in inputs.metadata),
        wavelengths=tuple(f.wavelength if f.wavelength > 0 else None for f in inputs.metadata),
        valid_max=inputs.valid_max,
    )


def _num_dates(weights: Weights, options: Mapping[str, Any], layer: Any, dates: int | None) -> int:
    """Return the number of time steps: as requested, else of the layer if the model takes several."""
    min_dates, max_dates = options.get("dates", (1, 1))
    if dates is None and max_dates > 1 and "time" in getattr(layer, "dims", ()):
        dates = int(layer.sizes["time"])
    count = min_dates if dates is None else dates
    if not min_dates <= count <= max_dates:
        span = str(min_dates) if min_dates == max_dates else f"{min_dates} to {max_dates}"
        msg = f"Cannot encode {count} dates with {weights.name!r}: it takes {span}."
        raise InputError(msg, remedy="Pass other {dates}.", value=count, argument="dates")
    return count


def _size(options: Mapping[str, Any], size: int | None) -> int:
    step = int(options.get("step", 1))
    side = int(options["size"]) if size is None else size
    if side < 1 or side % step:
        msg = f"Cannot encode images of {side} pixels: the patches of the model have {step}."
        raise InputError(msg, remedy=f"Pass {{size}}, a multiple of {step}.", value=side, argument="size")
    if options.get("fixed_size") and side != options["size"]:
        msg = f"Cannot encode images of {side} pixels: the positions of the model are for {options['size']}."
        raise InputError(msg, remedy="Leave {size} out.", value=side, argument="size")
    return side


def _context(
    layer: Any, dates: int, *, time: Sequence[str] | None, location: tuple[float, float] | None, gsd: float | None
) -> Context:
    """Return dates, location and resolution: the arguments, else those of the layer."""
    if isinstance(time, str):
        msg = f"Cannot use time={time!r} as a sequence of dates."
        raise InputError(msg, remedy="Pass {time} as a list.", value=time, argument="time")
    context = context_of(layer, dates=dates)
    if time is not None:
        context = replace(context, time=tuple(map(str, time)))
    if location is not None:
        context = replace(context, location=location)
    return context if gsd is None else replace(context, gsd=float(gsd))


def _missing_inputs(options: Mapping[str, Any], context: Context) -> tuple[str, ...]:
    """Return a note that lists unknown optional inputs."""
    values = {"time": context.time, "location": context.location}
    names = [name for name in options.get("uses", ()) if not values.get(name)]
    return (f"Not passed to the model, as the layer does not state it: {', '.join(names)}.",) if names else ()
