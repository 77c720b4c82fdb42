"""Apply a model to images without georeference: a table of classes, or masks of class codes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from torch import nn

from geoxt.errors import InputError
from geoxt.grid import coordinates
from geoxt.inference.devices import SomeDevice, parse_options
from geoxt.inference.networks import network_of
from geoxt.inference.runner import Runner, device_of
from geoxt.inference.scene import predict
from geoxt.layers.files.paths import expand_paths
from geoxt.models.band_match import BandNames, match_bands
from geoxt.models.card import Card
from geoxt.models.network import Network
from geoxt.pixels.plain_images import PlainImage, plain_images, read_plain_image
from geoxt.types import Array, Mask, Precision, SomePath, SomePaths

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".gif", ".bmp"})
"""Extensions of the images of a folder."""
_COMMON = {"R": "red", "G": "green", "B": "blue"}
_IMAGE_TASKS = ("classification", "multilabel", "regression")

SomeImages = SomePaths | Array | Mapping[str, Array]
"""Image files, folders or patterns; or arrays (N, C, H, W), also by name."""


def classify_images(
    images: SomeImages,
    model: nn.Module | SomePath,
    *,
    batch_size: int = 64,
    tta: bool = True,
    device: SomeDevice = "auto",
    precision: Precision = "32",
    compile: bool = False,
) -> pd.DataFrame:
    """Return the class and the class probabilities of plain images.

    Parameters
    ----------
    images
        Image files (PNG, JPEG, TIFF), patterns, or folders, at any depth. Or an array (N, C, H, W), or arrays (C, H, W)
        by name, with the bands of the model in its order. Values are in the units of the training data.
    model
        A trained task for classification, multi-label classification or regression of images, its network, or the path
        of its checkpoint.
    batch_size
        Images per batch; images of one size form a batch.
    tta
        Whether to average over the eight flips and rotations of an image (test-time augmentation), as `geoxt score`
        does.
    device, precision, compile
        Device and precision of the model, and whether to compile it, as for `predict`; of several devices the first.

    Returns
    -------
    pandas.DataFrame
        A row per image, in the order of the files: `file`, `class`, `probability` (of that class), and the
        probabilities of all classes, `probability/NAME`. A multi-label model has no `class` and `probability`; a
        regression has its quantities by name.

    Raises
    ------
    InputError
        If the model is for another task, or an image lacks bands of the model, or this process has no such device, or
        the device does not compute in the precision.
    ReadError
        If an image cannot be decoded.

    Examples
    --------
    >>> classify_images("chips/", "classifier.ckpt").to_csv("classes.csv", index=False)  # doctest: +SKIP
    """
    network = _network(model, _IMAGE_TASKS, "Pass it to segment_images, or a georeferenced layer to predict.")
    options = parse_options(device, precision, compile, model_device=device_of(network))
    runner = Runner.of(network, stage="activated", batch_size=batch_size, options=options)
    names, rows = [], []
    for group in _batches(_open_images(images, network.card), batch_size):
        values = np.stack([image.pixels for _, image in group]).astype("float32")
        valid = np.stack([image.valid for _, image in group])
        names += [name for name, _ in group]
        rows += list(_outputs(runner, values, valid, tta=tta))
    if not names:
        raise InputError("Cannot classify the images: there are none.", remedy="Pass {images} with files.")
    return _table(names, np.stack(rows), network.card)


def segment_images(
    images: SomeImages,
    model: nn.Module | SomePath,
    *,
    size: int | tuple[int, int] = 256,
    overlap: int | None = None,
    batch_size: int = 8,
    device: SomeDevice = "auto",
    precision: Precision = "32",
    compile: bool = False,
) -> Iterator[tuple[str, Array]]:
    """Yield name and mask of each plain image: class codes (H, W), without georeference.

    Parameters
    ----------
    images
        As for `classify_images`.
    model
        A trained task for segmentation, its network, or the path of its checkpoint.
    size, overlap, batch_size
        Height and width of tiles, their overlap in pixels, and tiles per batch, as for `predict`.
    device, precision, compile
        Device and precision of the model, and whether to compile it, as for `predict`.

    Yields
    ------
    tuple of str and numpy.ndarray
        Invalid pixels have the nodata code of the model's labels, else 255 or another free code.

    Raises
    ------
    InputError
        If the model is for another task, an image lacks bands of the model, or is georeferenced, or this process has no
        such device, or the device does not compute in the precision.
    ReadError
        If an image cannot be decoded.

    Examples
    --------
    >>> from geoxt.inference import segment_images  # doctest: +SKIP
    >>> for name, mask in segment_images("chips/", "run/best.ckpt"):  # doctest: +SKIP
    ...     print(name, mask.shape)
    """
    network = _network(
        model, ("segmentation",), "Pass a classifier to classify_images, or a georeferenced layer to predict."
    )
    for name, image in _open_images(images, network.card):
        if image.georeferenced:
            msg = f"Cannot write a mask without georeference for {name!r}: the file has a CRS."
            raise InputError(msg, remedy="Map it by predict(open_cogs(…)), which keeps the georeference.", value=name)
        height, width = image.pixels.shape[-2:]
        grid = GeoBox((height, width), Affine(1, 0, 0, 0, -1, 0), "EPSG:3857")  # of the tiles; it is not returned
        values = np.where(image.valid, image.pixels.astype("float32"), np.float32("nan"))
        coords: dict[Any, Any] = {"band": list(network.card.bands), **coordinates(grid)}
        layer = xr.DataArray(values, dims=("band", "y", "x"), coords=coords, attrs={"_FillValue": float("nan")})
        mask = predict(
            layer, network, size=size, overlap=overlap, batch_size=batch_size, device=device, precision=precision,
            compile=compile,
        )  # fmt: skip
        yield name, mask.to_numpy()


def image_files(paths: SomePaths) -> list[str]:
    """Return the image files of paths, patterns and folders.

    Raises
    ------
    InputError
        If there are none.
    """
    files: list[str] = []
    for path in expand_paths(paths, folders=True):
        inside = sorted(Path(path).rglob("*")) if Path(path).is_dir() else []
        files += [str(file) for file in inside if file.suffix.lower() in SUFFIXES] if inside else [path]
    files = [file for file in files if not Path(file).is_dir()]
    if not files:
        msg = f"Cannot find images in {paths!r}: there are no files of {', '.join(sorted(SUFFIXES))}."
        raise InputError(msg, remedy="Pass {images}, a folder with image files.", argument="images")
    return files


def _network(model: nn.Module | SomePath, tasks: Sequence[str], remedy: str) -> Network:
    network = network_of(model)
    if isinstance(network, Network) and network.card.task in tasks:
        return network
    task = network.card.task if isinstance(network, Network) else "no known task"
    msg = f"Cannot apply the model to plain images: it is for {task}, not for {' or '.join(tasks)}."
    raise InputError(msg, remedy=remedy, value=task, argument="model")


def _open_images(images: SomeImages, card: Card) -> Iterator[tuple[str, PlainImage]]:
    """Yield name and image, with the bands of the model in its order."""
    if isinstance(images, np.ndarray):
        images = dict(zip(map(str, range(len(images))), images, strict=True))
    if isinstance(images, Mapping):
        for name, values in images.items():
            yield name, _of_array(name, np.asarray(values), card)
        return
    if isinstance(images, Sequence) and not all(isinstance(item, str | PathLike) for item in images):
        msg = f"Cannot take a {type(images).__name__} of arrays as images."
        remedy = "Pass {images} as one array (N, C, H, W), or as arrays (C, H, W) by name."
        raise InputError(msg, remedy=remedy, argument="images")
    for file in image_files(images):
        with plain_images():
            image = read_plain_image(file)
        yield file, _select_bands(file, image, card)


def _of_array(name: str, values: Array, card: Card) -> PlainImage:
    if values.ndim != 3 or len(values) != len(card.bands):
        msg = f"Cannot take the array {name} of shape {values.shape} as an image of {len(card.bands)} bands."
        remedy = f"Pass {{images}} of shape (N, {len(card.bands)}, H, W): {', '.join(card.bands)}."
        raise InputError(msg, remedy=remedy, value=values.shape, argument="images")
    valid = np.asarray(np.isfinite(values).all(axis=0))
    return PlainImage(pixels=np.where(valid, values, 0), valid=valid, names=card.bands, georeferenced=False)


def _select_bands(name: str, image: PlainImage, card: Card) -> PlainImage:
    """Return an image with the bands of a model: by name, or if the bands have no names by position."""
    common = tuple(_COMMON.get(band, "") for band in image.names)
    available = BandNames(names=image.names, common_names=common if any(common) else ())
    model_bands = card.band_names
    if not any(card.common_names):
        model_bands = BandNames(names=card.bands, common_names=tuple(_COMMON.get(band, "") for band in card.bands))
    positions = match_bands(model_bands, available) if image.names else (None,) * len(model_bands)
    matched = [position for position in positions if position is not None]
    count, band_count = len(image.pixels), len(card.bands)
    if len(matched) == band_count:
        values = image.pixels[matched]
    elif not matched and count == band_count and image.names in ((), tuple(_COMMON)):
        values = image.pixels
    elif count == 1 and set(card.bands) == set(_COMMON) and image.pixels.dtype == np.uint8:
        values = np.repeat(image.pixels, band_count, axis=0)  # gray images among color ones, as for training
    else:
        labels = ", ".join(image.names) if image.names else f"{count} unnamed"
        msg = f"Cannot apply the model to {name!r}: its bands are {labels}, the model's {', '.join(card.bands)}."
        raise InputError(msg, remedy="Pass {images} with these bands, or arrays in their order.", argument="images")
    valid = image.valid & np.isfinite(values).all(axis=0)
    return PlainImage(
        pixels=np.where(valid, values, 0), valid=valid, names=card.bands, georeferenced=image.georeferenced
    )


def _batches(images: Iterator[tuple[str, PlainImage]], size: int) -> Iterator[list[tuple[str, PlainImage]]]:
    """Yield consecutive images of one shape, at most `size`."""
    batch: list[tuple[str, PlainImage]] = []
    for name, image in images:
        if batch and (len(batch) == size or batch[0][1].pixels.shape != image.pixels.shape):
            yield batch
            batch = []
        batch.append((name, image))
    if batch:
        yield batch


def _outputs(runner: Runner, values: Array, valid: Mask, *, tta: bool) -> Array:
    """Return activated outputs (N, K), averaged over the symmetries of a square."""
    square = values.shape[-1] == values.shape[-2]
    turns = (range(4) if square else (0, 2)) if tta else (0,)
    outputs = []
    for turn in turns:
        for flip in (False, True) if tta else (False,):
            turned = [np.rot90(a[..., ::-1] if flip else a, turn, (-2, -1)).copy() for a in (values, valid)]
            outputs.append(runner(turned[0], turned[1])[:, :, 0, 0])
    mean: Array = np.mean(outputs, axis=0)
    if not np.isfinite(mean).all():
        msg = "Cannot classify the images: the model's outputs are not finite."
        raise InputError(msg, remedy="Pass a {model} whose training did not diverge.", argument="model")
    return mean


def _table(files: Sequence[str], outputs: Array, card: Card) -> pd.DataFrame:
    columns: dict[str, Any] = {"file": list(files)}
    if card.task == "classification":
        best = outputs.argmax(axis=1)
        columns |= {"class": [card.names[k] for k in best], "probability": outputs.max(axis=1)}
    prefix = "" if card.task == "regression" else "probability/"
    return pd.DataFrame(columns | {f"{prefix}{name}": outputs[:, k] for k, name in enumerate(card.names)})
