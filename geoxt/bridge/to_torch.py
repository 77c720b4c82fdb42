"""Map-style torch datasets of layers and of benchmark datasets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, overload

from geoxt.bridge.layer_reader import TensorDtype
from geoxt.bridge.sample_dataset import SampleDataset
from geoxt.bridge.window_dataset import Transform, WindowDataset
from geoxt.bridge.xbatcher import is_generator, windows_of
from geoxt.datasets import Dataset
from geoxt.errors import InputError
from geoxt.samplers import WindowSequence
from geoxt.trees import SomeData
from geoxt.windows import Window


@overload
def to_torch(
    data: SomeData,
    windows: WindowSequence | Iterable[Window],
    *,
    transform: Transform | None = None,
    dtype: TensorDtype = "float32",
    threads: int | None = None,
) -> WindowDataset: ...
@overload
def to_torch(
    data: Dataset,
    *,
    transform: Transform | None = None,
    dtype: TensorDtype = "float32",
    keys: Sequence[str] | None = None,
) -> SampleDataset: ...
def to_torch(
    data: SomeData | Dataset,
    windows: WindowSequence | Iterable[Window] | None = None,
    *,
    transform: Transform | None = None,
    dtype: TensorDtype = "float32",
    threads: int | None = None,
    keys: Sequence[str] | None = None,
) -> WindowDataset | SampleDataset:
    """Return a map-style torch dataset: windows of layers, or the samples of a benchmark dataset.

    Parameters
    ----------
    data
        A layer, a Dataset of layers on one grid, a tree of these, or a dataset as `geoxt.datasets.load` returns it.
    windows
        For layers: a sampler, or windows of their grid; windows of a tree name their node. The selectors of an
        `xbatcher.BatchGenerator` are read as windows.
    transform
        Applied to every sample.
    dtype
        "float32": continuous layers become float32. "stored": they keep their dtype if torch supports it.
    threads
        For layers: windows of a batch that are read concurrently. Default: the number of cores, 1 in worker processes,
        32 for remote files.
    keys
        For a benchmark dataset: assets to read. Default: all.

    Returns
    -------
    WindowDataset
        For layers: samples as `read_batch` describes them, without the batch dimension.
    SampleDataset
        For a benchmark dataset. Collate its samples with `geoxt.bridge.collate`.

    Raises
    ------
    InputError
        If layers come without windows, or a benchmark dataset with windows.

    Examples
    --------
    >>> import numpy as np
    >>> from geoxt.testing import make_layer
    >>> from geoxt.bridge import to_torch
    >>> from geoxt.samplers import GridSampler
    >>> image = make_layer(np.zeros((8, 8)), name="image")
    >>> dataset = to_torch(image, GridSampler(image, size=4))
    >>> len(dataset), tuple(dataset[0]["image"].shape)
    (4, (4, 4))
    """
    if isinstance(data, Dataset):
        if windows is not None:
            raise InputError(
                f"Cannot read windows of the dataset {data.spec.name!r}: it is a sequence of samples.",
                remedy="Leave {windows} out. Or open its images as a layer with data.layer().",
            )
        return SampleDataset(data, transform=transform, dtype=dtype, keys=keys)
    if windows is None or keys is not None:
        raise InputError(
            f"Cannot read samples of a {type(data).__name__}: it needs windows, and takes no keys.",
            remedy="Pass {windows}, a sampler or a list of Window.",
        )
    if is_generator(windows):
        windows = _generator_windows(windows, data)
    sequence = windows if isinstance(windows, WindowSequence) else list(windows)
    return WindowDataset(data, sequence, transform=transform, dtype=dtype, threads=threads)


def _generator_windows(generator: Any, data: Any) -> list[Window]:
    """Return the windows of all batches of an xbatcher generator."""
    batches = windows_of(generator, data)
    if batches is None:
        raise InputError(
            "Cannot read the generator's selectors as windows: they cut another dimension than y, x and time, or refer"
            " to another grid than the layers'.",
            remedy="Pass the generator to loader(), which computes such batches.",
        )
    return [window for batch in batches for window in batch]
