"""The data module of chips: small images in a folder per class, or a zip of these, decoded once and kept in memory."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from geoxt.errors import InputError, ReadError
from geoxt.trainers.datamodules.samples import SampleDataModule, Shuffled
from geoxt.trainers.tasks.flips import dihedral
from geoxt.types import SomePath

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif"}
_SHARES = (0.8, 0.1, 0.1)


def read_chips(path: SomePath) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Read all chips of a folder or zip, in the order of their names.

    Parameters
    ----------
    path
        Holds a folder per class, at any depth, with images of one size in it: JPEG, PNG, WebP or GIF.

    Returns
    -------
    images
        uint8 (N, 3, H, W).
    labels
        int64 (N,): positions among the classes.
    classes
        Names of the folders, in alphabetical order.

    Raises
    ------
    ReadError
        Where the path or an image cannot be read.
    InputError
        Where there is no chip, or sizes differ.
    """
    found = dict(_files(Path(path)))
    if not found:
        msg = f"Cannot find chips in {str(path)!r}: it has no image in a folder."
        raise InputError(msg + " Pass a folder, or zip, with a folder per class.")
    names = sorted(found)
    with warnings.catch_warnings(), ThreadPoolExecutor() as pool:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # chips are plain images
        images = list(pool.map(lambda name: _decode(name, found[name]), names))
    shapes = {tuple(image.shape) for image in images}
    if len(shapes) > 1:
        msg = f"Cannot stack the chips in {str(path)!r}: they have the sizes {sorted(shapes)[:4]}."
        raise InputError(msg + " Pass chips of one size.")
    folders = [PurePosixPath(name).parent.name for name in names]
    classes = tuple(sorted(set(folders)))
    return torch.stack(images), torch.tensor([classes.index(folder) for folder in folders]), classes


def stratified(labels: Tensor, shares: Sequence[float] = _SHARES, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Split samples at random into training, validation and test, each class in the same shares.

    Returns
    -------
    tuple of Tensor
        Numbers of the samples of each part, int64, rising; no two share one, together they are all.

    Examples
    --------
    >>> import torch
    >>> [len(part) for part in stratified(torch.arange(40) % 2)]
    [32, 4, 4]
    """
    if len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        msg = f"Cannot split into shares={tuple(shares)}: pass three shares that add up to 1."
        raise InputError(msg)
    rng = np.random.default_rng([seed, 80])
    parts: tuple[list[int], list[int], list[int]] = [], [], []
    for label in torch.unique(labels).tolist():
        own = rng.permutation(torch.nonzero(labels == label).flatten().numpy())
        ends = np.round(np.cumsum(shares) * len(own)).astype(int)
        for part, chosen in zip(parts, np.split(own, ends[:2]), strict=True):
            part.extend(chosen.tolist())
    first, second, third = (torch.tensor(sorted(part), dtype=torch.int64) for part in parts)
    return first, second, third


class Chips:
    """Some of the chips in memory, as samples `image` float32 (3, H, W) in 0 to 255 and `label`.

    Parameters
    ----------
    images, labels, classes
        As `read_chips` gives them.
    numbers
        Which of them.
    size
        Pixels: side to which chips are scaled; `None` leaves them.
    """

    bands = ("R", "G", "B")

    def __init__(
        self, images: Tensor, labels: Tensor, classes: tuple[str, ...], numbers: Tensor, *, size: int | None = None
    ) -> None:
        self.images, self.labels, self.classes, self.numbers, self.size = images, labels, classes, numbers, size

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        batch = self.__getitems__([index])
        return {name: value[0] for name, value in batch.items()}

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return a whole batch."""
        chosen = self.numbers[torch.as_tensor(indices)]
        return {"image": scaled(self.images[chosen], self.size), "label": self.labels[chosen]}


def scaled(images: Tensor, size: int | None) -> Tensor:
    """Return images uint8 (N, C, H, W) as float32, scaled to a side in pixels by bilinear interpolation."""
    found = images.float()
    if size is None or size == found.shape[-1] == found.shape[-2]:
        return found
    return F.interpolate(found, size=(size, size), mode="bilinear", align_corners=False)


class ImageFolderDataModule(SampleDataModule):
    """Chips of a folder or zip, split at random into stratified parts.

    Parameters
    ----------
    path
        As `read_chips` takes it.
    sizes
        Pixels: sides to which training chips are scaled, one after the other over the epochs: small ones are quick.
    epochs
        Over how many epochs `sizes` are spread.
    eval_side
        Side for validation and test; by default the last of `sizes`.
    shares
        Of training, validation and test.
    split_seed
        Of the split.
    batch_size, eval_size, seed
        As for `SetModule`.
    """

    def __init__(
        self,
        path: str,
        *,
        sizes: Sequence[int] | None = None,
        epochs: int = 1,
        eval_side: int | None = None,
        shares: Sequence[float] = _SHARES,
        split_seed: int = 0,
        batch_size: int = 64,
        eval_size: int | None = 128,
        seed: int = 0,
    ) -> None:
        images, labels, classes = read_chips(path)
        self.sizes, self.epochs = tuple(sizes or (images.shape[-1],)), max(epochs, 1)
        self.parts = stratified(labels, shares, seed=split_seed)
        side = eval_side or self.sizes[-1]
        train, val, test = (Chips(images, labels, classes, part, size=side) for part in self.parts)
        super().__init__(train, val, test, batch_size=batch_size, eval_size=eval_size, seed=seed)
        self.growing = Chips(images, labels, classes, self.parts[0], size=self.sizes[0])

    def train_dataloader(self) -> DataLoader[Any]:
        """Return training batches; chips have the size of their epoch."""
        plan = _Growing(self.growing, self.batch_size, seed=self.seed, sizes=self.sizes, epochs=self.epochs)
        return self.going_on(self._loader(self.growing, plan))


class _Growing(Shuffled):
    """Shuffled batches; an epoch sets the size of the chips."""

    def __init__(self, chips: Chips, batch_size: int, *, seed: int, sizes: Sequence[int], epochs: int) -> None:
        super().__init__(len(chips), batch_size, seed=seed)
        self.chips, self.sizes, self.epochs = chips, sizes, epochs

    def __iter__(self) -> Iterator[list[int]]:
        step = min(self.epoch * len(self.sizes) // self.epochs, len(self.sizes) - 1)
        self.chips.size = self.sizes[step]
        return super().__iter__()


@torch.no_grad()
def classify(network: Any, images: Tensor, *, side: int | None = None, turns: bool = True, batch: int = 128) -> Tensor:
    """Return probabilities float32 (N, K) of chips uint8 (N, C, H, W).

    Parameters
    ----------
    network
        A `geoxt.models.Network`, such as `from_checkpoint` gives.
    side
        Pixels: side to which chips are scaled.
    turns
        Whether to average over all eight flips and quarter turns.
    batch
        Chips that run at once.
    """
    network.eval()
    ways = [(turn, flip) for turn in range(4) for flip in (False, True)] if turns else [(0, False)]
    found = []
    for part in torch.split(images, batch):
        view = scaled(part, side).contiguous(memory_format=torch.channels_last)
        logits = [network(dihedral(view, turns=turn, flip=flip)) for turn, flip in ways]
        found.append(torch.stack([one.softmax(dim=1) for one in logits]).mean(dim=0))
    return torch.cat(found)


def score_chips(network: Any, path: SomePath, *, side: int | None = None, turns: bool = True) -> dict[str, float]:
    """Return the share of the chips in a folder or zip that a network names rightly: in all, and of each class.

    Folders must have the names of the network's classes.

    Raises
    ------
    InputError
        Where a folder is none of its classes.
    """
    images, labels, classes = read_chips(path)
    known = list(network.card.names)
    strange = [name for name in classes if name not in known]
    if strange:
        msg = f"Cannot score the chips in {strange[0]!r}: the model knows {', '.join(known)}. Rename the folder."
        raise InputError(msg)
    truth = torch.tensor([known.index(name) for name in classes])[labels]
    right = classify(network, images, side=side, turns=turns).argmax(dim=1) == truth
    each: Mapping[str, float] = {
        f"recall/{known[k]}": float(right[truth == k].double().mean()) for k in torch.unique(truth).tolist()
    }
    return {"accuracy": float(right.double().mean()), "chips": len(right), **each}


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name of each chip with its folders, and its bytes."""
    try:
        if path.is_dir():
            for file in path.rglob("*"):
                if file.suffix.lower() in _SUFFIXES:
                    yield file.relative_to(path.parent).as_posix(), file.read_bytes()
            return
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if PurePosixPath(name).suffix.lower() in _SUFFIXES:
                    yield name, archive.read(name)
    except (OSError, zipfile.BadZipFile) as error:
        msg = f"Cannot read chips from {str(path)!r}: {error}. Pass a folder, or a zip, of a folder per class."
        raise ReadError(msg) from error


def _decode(name: str, content: bytes) -> Tensor:
    try:
        with MemoryFile(content) as file, file.open() as image:
            pixels = image.read((1, 1, 1) if image.count < 3 else (1, 2, 3))
    except RasterioError as error:
        msg = f"Cannot decode the chip {name!r}: {error}. Leave it out, or mend it."
        raise ReadError(msg) from error
    if pixels.dtype != np.uint8:
        msg = f"Cannot take the chip {name!r}: its type is {pixels.dtype}. Pass images of 8 bit."
        raise InputError(msg)
    return torch.from_numpy(pixels)
