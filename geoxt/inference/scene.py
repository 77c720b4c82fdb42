"""Predict a lazy map of a scene with a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypedDict, Unpack, overload

import dask
import dask.array
import numpy as np
import xarray as xr
from dask.base import tokenize
from odc.geo.geobox import GeoBox
from torch import nn

from geoxt.errors import InputError
from geoxt.grid import coordinates
from geoxt.inference.blended_map import BlendedMap
from geoxt.inference.device_pipeline import BLOCKS_PER_DEVICE
from geoxt.inference.devices import DeviceOptions, SomeDevice, parse_options, task_resources
from geoxt.inference.ensemble import ensemble_of
from geoxt.inference.estimator_network import EstimatorNetwork, estimators_for
from geoxt.inference.map_encoding import encoding_of, legend_of_map, measures_of
from geoxt.inference.model_bands import bands_of, common_bands, select_bands
from geoxt.inference.networks import networks_of
from geoxt.inference.output_grid import embedding_attrs, output_grid
from geoxt.inference.output_kinds import OutputKind, output_for
from geoxt.inference.runner import Runner, device_of
from geoxt.inference.tiles import Blend
from geoxt.layers.time import require_time_order
from geoxt.legend import Legend
from geoxt.models.encoders.pretrained_encoder import Encoder
from geoxt.models.file_body import FileNetwork
from geoxt.models.network import Network
from geoxt.progress import default_client
from geoxt.source import is_band_dataset, is_categorical, resolve_attrs, stack_bands, view_of
from geoxt.tasks import Output
from geoxt.trees import SomeData, from_nodes, is_layer, nodes_of, require_data
from geoxt.types import Estimator, Precision, SomePath, SomeSize
from geoxt.windows import parse_size
from geoxt.writers.blocks import CONCURRENT

_MAX_SIDE = 4096
"""Pixels: maximum side of a chunk. Every tile runs once if chunks are computed in order; otherwise tiles on the edge of
a chunk run in each chunk that they overlap."""
_MAX_BYTES = 64 * 2**20
"""Bytes: maximum size of a chunk of the map; and twice that of the input that dask computes for it."""


class PredictOptions(TypedDict, total=False):
    """Keyword arguments of `predict`."""

    size: SomeSize
    overlap: SomeSize | None
    batch_size: int
    blend: Blend
    output: Output | None
    members: Sequence[nn.Module | Estimator | SomePath]
    num_mc_samples: int | None
    tta: bool
    seed: int
    bands: Mapping[str, str] | None
    head: str | int | None
    series: bool | None
    legend: Legend | None
    chunks: int | None
    device: SomeDevice
    precision: Precision
    compile: bool


@overload
def predict(
    layer: xr.DataArray | xr.Dataset,
    model: nn.Module | Estimator | SomePath | None = None,
    **options: Unpack[PredictOptions],
) -> xr.DataArray: ...
@overload
def predict(
    layer: xr.DataTree,
    model: nn.Module | Estimator | SomePath | None = None,
    **options: Unpack[PredictOptions],
) -> xr.DataTree: ...
def predict(
    layer: SomeData,
    model: nn.Module | Estimator | SomePath | None = None,
    *,
    size: SomeSize = 256,
    overlap: SomeSize | None = None,
    batch_size: int = 8,
    blend: Blend = "linear",
    output: Output | None = None,
    members: Sequence[nn.Module | Estimator | SomePath] = (),
    num_mc_samples: int | None = None,
    tta: bool = False,
    seed: int = 0,
    bands: Mapping[str, str] | None = None,
    head: str | int | None = None,
    series: bool | None = None,
    legend: Legend | None = None,
    chunks: int | None = None,
    device: SomeDevice = "auto",
    precision: Precision = "32",
    compile: bool = False,
) -> xr.DataArray | xr.DataTree:
    """Return a lazy map of a model's predictions for a layer.

    Parameters
    ----------
    layer
        Dimensions among (time, band, y, x). Or a Dataset with one image beside layers of class codes, or with one
        variable per band as `odc.stac.load` returns it; or a tree of such Datasets.
    model
        A trained task, its network, or the path of its checkpoint, with bands, scaling and classes. Or the path of an
        ONNX, `torch.export` or TorchScript file beside its MLM item; without an item pass `geoxt.models.from_file`. Or
        any module that maps float32 (N, C, H, W) to (N, K, H, W). Or a fitted scikit-learn estimator, whose features
        are the bands of a pixel: by name if it was fitted to a DataFrame, by position if to an array.
    size
        Height and width of the tiles in pixels.
    overlap
        Minimum overlap of neighbouring tiles in pixels. Default: a quarter of a tile; 0 for estimators.
    batch_size
        Tiles per batch.
    blend
        Weights of overlapping tiles: "linear", "hann" and "gaussian" decrease towards the edges of a tile, "none" is
        the plain mean.
    output
        Kind of map, by default that of the model's task:

        - "classes": class codes; the default of models without a card, too.
        - "probabilities" (of multi-label models by default) and "logits": a float32 band per class.
        - "regression": a band per quantity.
        - "uncertainty": a float32 band per measure, see Notes.
        - "embeddings": features, averaged where tiles overlap, from the first of `embed`, `forward_features`, `encoder`
          and `features` that the model has, else its output. Their grid is coarser than the layer's by the model's
          stride, as is the map of a model with one vector per tile. Their attributes name the model, a hash of its
          weights (`version`) and the size of the tiles; writers state them by the geoembeddings convention, and
          embeddings that differ in these are not combined. Bands are "band_1", "band_2", …
        - "values": the raw output.
    members
        Models or checkpoints of an ensemble, whose probabilities or values are averaged. `model` is a member too, and
        may be omitted.
    num_mc_samples
        Samples of Monte Carlo dropout, 2 or more: predictions with active dropout layers (`torch.nn.Dropout`), which
        are averaged. Each sample has one mask for all tiles. By default dropout is not active.
    tta
        Whether to average over flips and rotations of each tile (test-time augmentation): eight of square tiles, four
        of others.
    seed
        Seed of the masks of dropout.
    bands
        Band names of the layer by those of the model, where they differ.
    head
        Key or index of one of several outputs.
    series
        Whether the model takes all time steps of a tile at once, (N, T, C, H, W). Default: as the model's card states,
        else every time step is mapped separately. Models of change take two time steps, the earlier one first.
    legend
        Codes, names and colors of the channels. Default: those of the model, or 0, 1, 2, …
    chunks
        Approximate side of the dask chunks in pixels of the map. Default: up to 64 MB per chunk.
    device
        Device that runs the model, by torch's name: "cpu", "cuda", "cuda:1", "mps". "auto" is the model's device if
        that is not the CPU, else CUDA, else MPS, else the CPU. Several devices, such as `["cuda:0", "cuda:1"]`, share
        the chunks. Workers of a dask cluster use their devices.
    precision
        "32" for float32, or mixed precision in "bf16" or "16", which the device must support.
    compile
        Whether to compile the model by `torch.compile`; the first tiles then take up to minutes.

    Returns
    -------
    xarray.DataArray
        Lazy, on the grid of the layer. Classes are ([time,] y, x) with CF `flag_values`, `flag_meanings` and
        `flag_colors`, else ([time,] band, y, x). On CPUs its values do not depend on chunks, cluster or number of
        cores: tiles have fixed positions in the layer, and each batch runs on one core. The model is copied in its
        current state.

        A time step of a pixel is valid if all bands are. Pixels that are not valid, or for which the model's output is
        not finite, are `_FillValue`: for change if either date is missing, for series if all dates are. Missing dates
        of a series are passed to the model as the mean of each band.
    xarray.DataTree
        For a tree: a map of each node, named "prediction", on the grid of the node.

    Raises
    ------
    InputError
        If the layer lacks a band of the model, a Dataset has no or several images, or `output` does not fit the model's
        task, or the model has weights or outputs that are not finite. If members differ in task, bands or classes, or
        a model without dropout layers is to be sampled. If this process has no such device, or the device does not
        compute in the precision.

    Notes
    -----
    The measures of "uncertainty" are computed from the class probabilities, in nats, blended over tiles:

    - `entropy`: of the probabilities; 0 for a certain pixel, at most log(classes).
    - `margin`: difference between the two largest probabilities; 1 for a certain pixel.
    - `mutual_information`, for several predictions (members, samples of dropout, flips and rotations): the entropy of
      the mean probabilities minus the mean entropy. Zero if all predictions agree.
    - `variance`, for several predictions: the unbiased variance of each probability, averaged over classes.

    For a regression, the measures are `variance` and `std` of several predictions; with several quantities, they are
    named "height variance" and so on. Mutual information and variances are computed in each tile, and blended.

    Examples
    --------
    >>> from geoxt.testing import make_layer
    >>> image = make_layer(np.ones((3, 40, 50)))
    >>> predict(image, nn.Conv2d(3, 2, 1), size=32).shape
    (40, 50)
    """
    require_data(layer)
    networks = networks_of(model, members)
    network = networks[0]
    for candidate in networks:
        if isinstance(candidate, FileNetwork):
            candidate.require_output(output)
    task = network.card.kind if isinstance(network, Network) else None
    kind = output_for(task, output)
    if isinstance(network, EstimatorNetwork):
        legend, networks = network.legend_of_channels(legend), estimators_for(networks, kind.name)
        network = networks[0]
        overlap = 0 if overlap is None else overlap
        device = "cpu" if device == "auto" else device
    regression = kind.name == "regression" or (task is not None and task.activation == "identity")
    ensemble = ensemble_of(
        networks, kind=kind, regression=regression, head=head, num_mc_samples=num_mc_samples, tta=tta, seed=seed
    )
    options = parse_options(device, precision, compile, model_device=device_of(network))
    runner = Runner.of(
        network if ensemble is None else ensemble,
        stage=kind.stage if ensemble is None else "raw",
        batch_size=batch_size,
        head=head if ensemble is None else None,
        options=options,
    )
    predict_node = partial(
        _predict,
        network=network,
        runner=runner,
        kind=kind,
        size=parse_size(size),
        overlap=overlap,
        blend=blend,
        bands=bands,
        series=series,
        legend=legend,
        chunks=chunks,
    )
    if isinstance(layer, xr.DataArray):
        return predict_node(layer)
    if not isinstance(network, Network) or not network.card.bands:  # its bands are not selected by name
        common_bands((_image_of(node, ds) for node, ds in nodes_of(layer).items()), "layer")
    maps = {node: predict_node(_image_of(node, ds)) for node, ds in nodes_of(layer).items()}
    return from_nodes(maps, like=layer)


def _image_of(node: str, ds: xr.Dataset) -> xr.DataArray:
    """Return the image of a Dataset: its only layer that holds no class codes, or its variables as bands."""
    images = [str(n) for n, layer in ds.data_vars.items() if is_layer(layer) and not is_categorical(layer)]
    if len(images) == 1:
        return ds[images[0]]
    if images and is_band_dataset(ds[images]):
        return stack_bands(ds[images])
    location = f"node {node!r}" if node else "the Dataset"
    msg = f"Cannot choose the image to predict from: {location} has {[str(name) for name in ds.data_vars]}, "
    msg += f"{len(images)} of which are images."
    remedy = "Choose one with ds[['image']], of a tree with tree.map_over_datasets(lambda ds: ds[['image']])."
    raise InputError(msg, remedy=remedy)


def _predict(
    layer: xr.DataArray,
    *,
    network: nn.Module,
    runner: Runner,
    kind: OutputKind,
    size: tuple[int, int],
    overlap: SomeSize | None,
    blend: Blend,
    bands: Mapping[str, str] | None,
    series: bool | None,
    legend: Legend | None,
    chunks: int | None,
) -> xr.DataArray:
    """Return the map of a layer on one grid."""
    card = network.card if isinstance(network, Network) else None
    selected = select_bands(layer, card, bands)
    if isinstance(network, EstimatorNetwork):
        network.require_attrs(layer, selected)
    if isinstance(network, Encoder):
        _require_input(layer, network, bands_of(selected))
    dates = 1 if card is None else card.kind.dates
    series = dates != 1 if series is None else series
    # A pixel that is missing at one of a fixed number of dates cannot be compared.
    compares = series and dates > 1
    if compares and selected.sizes.get("time", 1) != dates:
        msg = f"Cannot predict change from {selected.sizes.get('time', 1)} time steps: the model compares {dates}."
        raise InputError(msg, remedy="Pass a {layer} of two, such as xr.concat([before, after], 'time').")
    if series:
        require_time_order(selected, "predict from several dates")
    map_grid = output_grid(
        view_of(selected), runner, size=size, overlap=overlap, blend=blend, series=series, all_steps_valid=compares,
        coarse=kind.coarse,
    )  # fmt: skip
    measures = measures_of(kind, runner, card, map_grid.channels)
    channels = measures.classes if measures is not None and measures.classes else map_grid.channels
    has_classes = measures is None or measures.classes
    classes = legend_of_map(kind, legend, card, channels) if has_classes else Legend(tuple(range(channels)))
    steps = selected.sizes["time"] if "time" in selected.dims and not series else None
    encoding = encoding_of(kind, classes, map_grid.channels, card, measures)
    array = BlendedMap(reader=map_grid.reader, runner=runner, lattice=map_grid.lattice, encoding=encoding, steps=steps)
    names = classes if kind.classes or legend else None
    if kind.name == "regression" and card is not None and len(card.names) == map_grid.channels:
        names = Legend(tuple(range(map_grid.channels)), tuple(card.names))
    prediction = _layer(array, map_grid.grid, kind, names, chunks)
    if kind.name == "embeddings":
        prediction.attrs |= embedding_attrs(network, runner, layer, size, map_grid)
        if "band" not in prediction.coords:  # named as in files
            prediction = prediction.assign_coords(band=[f"band_{n}" for n in range(1, map_grid.channels + 1)])
    dated = steps is not None and "time" in selected.coords
    return prediction.assign_coords(time=selected["time"]) if dated else prediction


def _require_input(layer: xr.DataArray, encoder: Encoder, names: Sequence[str] | None) -> None:
    """Raise if a layer has other units or scales than an encoder takes, also after arithmetic that kept attributes."""
    resolved = resolve_attrs(layer)
    if "scales" in layer.attrs and "scales" not in resolved.attrs:
        name = "the layer" if layer.name is None else repr(layer.name)
        problem = (
            f"Cannot predict from {name}: it was computed from stored numbers, and its attributes state their scale."
        )
        remedy = "Open the {layer} with rescale=True, and load the encoder for it. Or delete the attributes."
        raise InputError(problem, remedy=remedy, argument="layer")
    encoder.require_layer(resolved, names)


def _side(array: BlendedMap, axis: int, chunks: int | None) -> int:
    """Return the side of a chunk: a multiple of the stride of the tiles."""
    if chunks is not None and chunks < 1:
        msg = f"Cannot divide the map into chunks of {chunks!r} pixels."
        raise InputError(msg, remedy="Pass {chunks} of 1 or more.")
    stride = array.lattice.stride[axis]
    pixel_bytes = int(np.prod(array.encoding.leading_shape)) * array.dtype.itemsize
    side = (_MAX_BYTES / pixel_bytes) ** 0.5
    if not array.reader.view.direct:
        input_bytes = array.reader.nbytes * array.reader.factor[0] * array.reader.factor[1]
        side = min(side, (2 * _MAX_BYTES / input_bytes) ** 0.5)
    return max(int(chunks or min(side, _MAX_SIDE)) // stride, 1) * stride


def _annotations(options: DeviceOptions) -> dict[str, Any]:
    """Return dask's annotations: required resources, or for writers the number of chunks to compute at once."""
    if default_client() is not None:
        resources = task_resources(options)
        return {"resources": resources} if resources else {}
    names = options.resolved()
    return {} if names == ("cpu",) else {CONCURRENT: BLOCKS_PER_DEVICE * len(names)}


def _layer(
    array: BlendedMap, grid: GeoBox, kind: OutputKind, classes: Legend | None, chunks: int | None
) -> xr.DataArray:
    leading = (1,) * (array.steps is not None) + array.encoding.leading_shape
    with dask.annotate(**_annotations(array.runner.options)):  # type: ignore[attr-defined]
        lazy = dask.array.from_array(
            array,
            chunks=dask.array.core.normalize_chunks(
                (*leading, _side(array, 0, chunks), _side(array, 1, chunks)), array.shape, dtype=array.dtype
            ),
            name=f"predict-{tokenize(array, chunks)}",
            asarray=False,
            meta=np.empty((0,) * array.ndim, array.dtype),
        )
    attrs: dict[str, Any] = {"_FillValue": array.dtype.type(array.encoding.nodata), "long_name": kind.long_name}
    coords = dict(coordinates(grid))
    dims = (*(("time",) if array.steps is not None else ()), *(() if kind.argmax else ("band",)), "y", "x")
    if array.encoding.measures is not None:
        coords["band"] = xr.DataArray(list(array.encoding.measures.names), dims="band")
    elif classes is not None and kind.argmax:
        attrs |= classes.attrs()
    elif classes is not None:
        coords["band"] = xr.DataArray(list(classes.distinct_names), dims="band")
    return xr.DataArray(lazy, dims=dims, coords=coords, attrs=attrs, name="prediction")
