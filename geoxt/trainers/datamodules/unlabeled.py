"""The data module of plans: the windows of any samplers, such as triplets or two times of a place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import xarray as xr
from torch.utils.data import DataLoader

from geoxt.bridge import loader
from geoxt.models import Card
from geoxt.samplers import WindowSequence
from geoxt.trainers.datamodules.band_statistics import band_statistics
from geoxt.trainers.datamodules.layer_windows import layer_of, shared_bands
from geoxt.trainers.loop.resume import ResumableDataModule
from geoxt.trainers.selfsup.module import EMBEDDING

_STATISTICS = 256
"""Windows that the bands' mean and deviation are taken from, at most."""


class UnlabeledDataModule(ResumableDataModule):
    """Batches of the windows of samplers.

    Parameters
    ----------
    data
        A Dataset with the layer `image`, or that layer alone; or a tree of either.
    train
        Windows to train on; each epoch takes the sampler's own.
    val
        Windows to validate on, always the same.
    batch_size
        Windows in a batch; of triplets, a multiple of 3.
    num_workers
        Processes that read windows.
    """

    def __init__(
        self,
        data: xr.Dataset | xr.DataArray | xr.DataTree,
        train: WindowSequence,
        val: WindowSequence | None = None,
        *,
        batch_size: int = 32,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.data = data.rename("image").to_dataset() if isinstance(data, xr.DataArray) else data
        self.train, self.val = train, val
        self.batch_size, self.num_workers = batch_size, num_workers

    def train_dataloader(self) -> DataLoader[Any]:
        """Return training batches, all full."""
        whole = loader(self.data, self.train, batch_size=self.batch_size, num_workers=self.num_workers, drop_last=True)
        return self.resumed(whole)

    def val_dataloader(self) -> Any:
        """Return validation batches."""
        if self.val is None:
            return []
        return loader(self.data, self.val, batch_size=self.batch_size, num_workers=self.num_workers, drop_last=True)

    def card(self, *, model: str, size: Sequence[int] | None = None, **options: Any) -> Card:
        """Describe an encoder for these data.

        Parameters
        ----------
        model
            Name of an architecture in `geoxt.models`.
        size
            Height and width of the windows; by default those of the first one.
        options
            The architecture's own options.
        """
        first = self.train[0]
        image, bands = layer_of(self.data, "image"), shared_bands(self.data, "image")
        mean, std = band_statistics(image, [self.train[at] for at in range(min(len(self.train), _STATISTICS))])
        height, width = size or first.shape
        return Card(
            task="classification",
            model=model,
            options=options,
            bands=bands,
            mean=tuple(mean.tolist()),
            std=tuple(std.tolist()),
            codes=(0,),
            names=(EMBEDDING,),
            colors=("#000000",),
            size=(height, width),
        )
