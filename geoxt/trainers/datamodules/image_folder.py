"""Image folders: small images in a folder per class, or a zip file of these, decoded once and held in memory."""

from __future__ import annotations

import copy
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from dask.base import normalize_token
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from geoxt.errors import InputError, ReadError
from geoxt.inference.device_model import DeviceModel
from geoxt.inference.devices import SomeDevice, first_device, parse_options
from geoxt.inference.networks import network_of
from geoxt.inference.runner import device_of
from geoxt.metrics.confusion import classification_scores, confusion_matrix
from geoxt.metrics.scores import Scores
from geoxt.models.network import Network
from geoxt.models.scale_check import ScaleCheck
from geoxt.pixels.plain_images import plain_images, read_plain_image
from geoxt.trainers.datamodules.samples import SampleDataModule, ShuffledBatches
from geoxt.trainers.loop.data_files import file_versions
from geoxt.trainers.tasks.flips import dihedral
from geoxt.types import Precision, SomePath

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif"}
_FRACTIONS = (0.8, 0.1, 0.1)


def read_image_folder(path: SomePath) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Read all images of an image folder, in the order of their names.

    Parameters
    ----------
    path
        Folder or zip file with a folder per class, at any depth, of 8-bit images of one size: JPEG, PNG, WebP or GIF.

    Returns
    -------
    images
        uint8 (N, 3, H, W).
    labels
        int64 (N,), class indices.
    classes
        Names of the folders, in alphabetical order.

    Raises
    ------
    ReadError
        If the path or an image cannot be read.
    InputError
        If there is no image, images differ in size, or a class has folders in several folders.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from geoxt.trainers import read_image_folder
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("forest", "water"):
    ...     (folder / name).mkdir()
    ...     Image.new("RGB", (8, 8)).save(folder / name / "1.png")
    >>> images, labels, classes = read_image_folder(folder)
    >>> tuple(images.shape), labels.tolist(), classes
    ((2, 3, 8, 8), [0, 1], ('forest', 'water'))
    """
    files = dict(_files(Path(path)))
    if not files:
        msg = f"Cannot find images in {str(path)!r}: no folder in it has any."
        raise InputError(msg, remedy="Pass {path}, a folder or zip file with a folder per class.", argument="path")
    names = sorted(files)
    with plain_images(), ThreadPoolExecutor() as pool:
        images = list(pool.map(lambda name: _decode(name, files[name]), names))
    shapes = {tuple(image.shape) for image in images}
    if len(shapes) > 1:
        msg = f"Cannot stack the images in {str(path)!r}: their shapes are {sorted(shapes)[:4]}."
        raise InputError(msg, remedy="Resize the images to one size.")
    folders = [PurePosixPath(name).parent.name for name in names]
    _require_one_parent(names, path)
    classes = tuple(sorted(set(folders)))
    return torch.stack(images), torch.tensor([classes.index(folder) for folder in folders]), classes


def stratified_split(
    labels: Tensor, fractions: Sequence[float] = _FRACTIONS, *, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Split samples at random into training, validation and test parts, each class by the same fractions.

    Parameters
    ----------
    labels
        int64 (N,), class indices.
    fractions
        Fractions of the training, validation and test part.
    seed
        Seed of the random order.

    Returns
    -------
    tuple of Tensor
        Indices of the samples of each part, int64, ascending; together all samples, each once.

    Raises
    ------
    InputError
        If the fractions are not three that add up to 1.

    Examples
    --------
    >>> import torch
    >>> [len(part) for part in stratified_split(torch.arange(40) % 2)]
    [32, 4, 4]
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        msg = f"Cannot split by the fractions {tuple(fractions)}."
        raise InputError(msg, remedy="Pass {fractions}, three fractions that add up to 1.", argument="fractions")
    rng = np.random.default_rng([seed, 80])
    parts: tuple[list[int], list[int], list[int]] = [], [], []
    for label in torch.unique(labels).tolist():
        order = rng.permutation(torch.nonzero(labels == label).flatten().numpy())
        ends = np.round(np.cumsum(fractions) * len(order)).astype(int)
        for part, indices in zip(parts, np.split(order, ends[:2]), strict=True):
            part.extend(indices.tolist())
    train, val, test = (torch.tensor(sorted(part), dtype=torch.int64) for part in parts)
    return train, val, test


class ImageFolder:
    """Map-style dataset of images in memory: `image` float32 (3, H, W) in 0 to 255, and `label`.

    Parameters
    ----------
    images, labels, classes
        As `read_image_folder` returns them.
    indices
        Images of the dataset.
    size
        Height and width in pixels to which images are resized; None for no resizing.
    """

    bands = ("R", "G", "B")

    def __init__(
        self, images: Tensor, labels: Tensor, classes: tuple[str, ...], indices: Tensor, *, size: int | None = None
    ) -> None:
        self.images, self.labels, self.classes, self.indices, self.size = images, labels, classes, indices, size

    def __len__(self) -> int:
        return len(self.indices)

    def __dask_tokenize__(self) -> Any:
        """Return the images and their classes, in order, as a token of dask."""
        return normalize_token((self.images[self.indices].numpy(), self.labels[self.indices].numpy(), self.classes))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        batch = self.__getitems__([index])
        return {name: value[0] for name, value in batch.items()}

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return a batch."""
        selected = self.indices[torch.as_tensor(indices)]
        return {"image": resized(self.images[selected], self.size), "label": self.labels[selected]}


def resized(images: Tensor, size: int | None) -> Tensor:
    """Return images uint8 (N, C, H, W) as float32, resized to `size` pixels by bilinear interpolation."""
    images = images.float()
    if size is None or size == images.shape[-1] == images.shape[-2]:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)


class ImageFolderDataModule(SampleDataModule):
    """Images of a folder or zip file, split at random into stratified parts.

    Parameters
    ----------
    path
        Folder or zip file with a folder of images per class; see `read_image_folder`.
    sizes
        Heights and widths in pixels to which training images are resized, in turn over the epochs (progressive
        resizing: small images train faster); by default they are not resized.
    epochs
        Number of epochs over which `sizes` are spread.
    eval_size
        Height and width in pixels of validation and test images; by default the last of `sizes`.
    fractions
        Fractions of the training, validation and test part.
    split_seed
        Seed of the split.
    batch_size, eval_batch_size, seed
        As for `SampleDataModule`.
    """

    def __init__(
        self,
        path: str,
        *,
        sizes: Sequence[int] | None = None,
        epochs: int = 1,
        eval_size: int | None = None,
        fractions: Sequence[float] = _FRACTIONS,
        split_seed: int = 0,
        batch_size: int = 64,
        eval_batch_size: int | None = 128,
        seed: int = 0,
    ) -> None:
        images, labels, classes = read_image_folder(path)
        self.path = str(path)
        self.sizes, self.epochs = tuple(sizes or (images.shape[-1],)), max(epochs, 1)
        self.parts = stratified_split(labels, fractions, seed=split_seed)
        size = eval_size or self.sizes[-1]
        train, val, test = (ImageFolder(images, labels, classes, part, size=size) for part in self.parts)
        super().__init__(train, val, test, batch_size=batch_size, eval_batch_size=eval_batch_size, seed=seed)
        self._resized_train = ImageFolder(images, labels, classes, self.parts[0], size=self.sizes[0])

    def file_versions(self) -> dict[str, str]:
        """Return the version of each file in the folder, or of the zip file."""
        return file_versions([self.path])

    def train_dataloader(self) -> DataLoader[Any]:
        """Return training batches, whose images have the size of the epoch."""
        dataset = self._resized_train
        batches = _ProgressiveBatches(dataset, self.batch_size, seed=self.seed, sizes=self.sizes, epochs=self.epochs)
        return self.resumed(self._loader(dataset, batches))


class _ProgressiveBatches(ShuffledBatches):
    """Shuffled batches that set the image size at the start of an epoch."""

    def __init__(self, dataset: ImageFolder, batch_size: int, *, seed: int, sizes: Sequence[int], epochs: int) -> None:
        super().__init__(len(dataset), batch_size, seed=seed)
        self.dataset, self.sizes, self.epochs = dataset, sizes, epochs

    def __iter__(self) -> Iterator[list[int]]:
        step = min(self.epoch * len(self.sizes) // self.epochs, len(self.sizes) - 1)
        self.dataset.size = self.sizes[step]
        return super().__iter__()


def classify(
    network: Any,
    images: Tensor,
    *,
    size: int | None = None,
    tta: bool = True,
    batch_size: int = 128,
    device: SomeDevice = "auto",
    precision: Precision = "32",
    compile: bool = False,
) -> Tensor:
    """Return class probabilities float32 (N, K), on the CPU, of images uint8 (N, C, H, W).

    Parameters
    ----------
    network
        A classifier, as `geoxt.models.from_checkpoint` returns it.
    images
        Images in the units of the training data.
    size
        Height and width in pixels to which images are resized.
    tta
        Whether to average over the eight flips and rotations of an image (test-time augmentation).
    batch_size
        Images per forward pass.
    device, precision, compile
        Device and precision of the network, and whether to compile it, as for `geoxt.predict`; of several devices the
        first.

    Raises
    ------
    InputError
        If a probability is not finite, or this process has no such device, or the device does not compute in the
        precision.
    """
    where = first_device(parse_options(device, precision, compile, model_device=device_of(network)))
    network.eval()
    moved = network if device_of(network) == where.torch_device else copy.deepcopy(network).to(where.torch_device)
    symmetries = [(turns, flip) for turns in range(4) for flip in (False, True)] if tta else [(0, False)]

    def mean_probabilities(batch: Tensor, _: Tensor) -> Tensor:
        outputs = [moved(dihedral(batch, turns=turns, flip=flip)) for turns, flip in symmetries]
        return torch.stack([network.activate(values) for values in outputs]).mean(dim=0)

    model = DeviceModel(mean_probabilities, where, precision=precision, compiled=compile)
    ScaleCheck(network)(images[:batch_size].cpu().numpy())
    probabilities = []
    for part in torch.split(images, batch_size):
        batch = resized(part.to(where.torch_device), size).contiguous(memory_format=torch.channels_last)
        probabilities.append(model(batch, batch[:, 0]).cpu())
    result = torch.cat(probabilities)
    if not bool(result.isfinite().all()):
        msg = "Cannot classify the images: the model's outputs are not finite."
        raise InputError(msg, remedy="Train it again with a lower learning rate.")
    return result


def score_images(
    path: SomePath,
    model: Any,
    *,
    size: int | None = None,
    tta: bool = True,
    device: SomeDevice = "auto",
    precision: Precision = "32",
    compile: bool = False,
) -> Scores:
    """Return the scores of a classifier on an image folder.

    Parameters
    ----------
    path
        Folder or zip file whose folders are named after the model's classes; see `read_image_folder`.
    model
        A classifier, or the path of its checkpoint or model file.
    size, tta, device, precision, compile
        As for `classify`.

    Returns
    -------
    Scores
        `accuracy`, `images` and further scores, and scores by class such as `recall`, as those of `trainers.evaluate`.

    Raises
    ------
    InputError
        If the model is not a classifier, or a folder is named after no class.

    Examples
    --------
    >>> from geoxt import trainers  # doctest: +SKIP
    >>> trainers.score_images("EuroSAT/test", "run/best.ckpt")["accuracy"]  # doctest: +SKIP
    """
    network = network_of(model)
    card = network.card if isinstance(network, Network) else None
    if card is None or card.task != "classification":
        msg = f"Cannot score a model {'without a card' if card is None else f'for {card.task}'} on folders of images."
        raise InputError(msg, remedy="Pass {model}, a classifier of geoxt.", argument="model")
    images, labels, classes = read_image_folder(path)
    names = list(card.names)
    unknown = [name for name in classes if name not in names]
    if unknown:
        msg = f"Cannot score the images in the folder {unknown[0]!r}: the model's classes are {', '.join(names)}."
        raise InputError(msg, remedy="Rename the folder.")
    truth = torch.tensor([names.index(name) for name in classes])[labels]
    probabilities = classify(network, images, size=size, tta=tta, device=device, precision=precision, compile=compile)
    matrix = confusion_matrix(probabilities.argmax(dim=1), truth, len(names))
    return classification_scores(matrix, card.legend.distinct_names, unit="images")


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield path relative to the parent and content of each image."""
    try:
        if path.is_dir():
            for file in path.rglob("*"):
                name = file.relative_to(path.parent).as_posix()
                if _is_image(name):
                    yield name, file.read_bytes()
            return
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if _is_image(name):
                    yield name, archive.read(name)
    except (OSError, zipfile.BadZipFile) as error:
        msg = f"Cannot read images from {str(path)!r}: {error}."
        raise ReadError(msg, remedy="Pass {path}, a folder or zip file with a folder per class.") from error


def _is_image(name: str) -> bool:
    """Return whether a file has the suffix of an image, and is no metadata of macOS."""
    path = PurePosixPath(name)
    return path.suffix.lower() in _SUFFIXES and not path.name.startswith("._") and "__MACOSX" not in path.parts


def _require_one_parent(names: Sequence[str], path: SomePath) -> None:
    """Raise if a class has folders in several folders, such as `train/forest` and `test/forest`: they may be splits."""
    for first, other in pairwise(sorted({PurePosixPath(name).parent for name in names}, key=lambda f: (f.name, f))):
        if first.name == other.name:
            msg = f"Cannot tell whether '{first}' and '{other}' in {str(path)!r} are one class or parts of a split."
            raise InputError(msg, remedy="Pass {path}, a folder that holds folders of classes.", argument="path")


def _decode(name: str, content: bytes) -> Tensor:
    """Return red, green and blue of an image; gray thrice."""
    pixels = read_plain_image(content, name=name).pixels
    pixels = pixels[[0, 0, 0]] if len(pixels) < 3 else pixels[:3]
    if pixels.dtype != np.uint8:
        msg = f"Cannot read the image {name!r}: its type is {pixels.dtype}, not uint8."
        raise InputError(msg, remedy="Convert images to 8 bits.")
    return torch.from_numpy(np.ascontiguousarray(pixels))
