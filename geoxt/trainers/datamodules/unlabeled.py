"""The data module of unlabeled layers: windows of any sampler, for self-supervised learning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import xarray as xr
from torch.utils.data import DataLoader

from geoxt.bridge import loader, statistics
from geoxt.models import Card
from geoxt.samplers import WindowSequence
from geoxt.trainers.datamodules.layer_windows import band_meanings, band_names, select_layer
from geoxt.trainers.loop.data_files import layer_files
from geoxt.trainers.loop.resume import ResumableDataModule
from geoxt.trainers.selfsup.module import EMBEDDING

_STATISTICS_WINDOWS = 256
"""Maximum number of training windows from which band statistics are computed."""


class UnlabeledDataModule(ResumableDataModule):
    """Batches of the windows of samplers.

    Parameters
    ----------
    data
        Image layer, a Dataset with the layer `image`, or a tree of either.
    train
        Sampler of training windows; each epoch draws others.
    val
        Sampler of validation windows, the same in every epoch.
    batch_size
        Windows per batch; a multiple of 3 for triplets.
    num_workers
        Worker processes that read windows.
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

    def file_versions(self) -> dict[str, str]:
        """Return the version of each local file that the layers are read from."""
        return layer_files(self.data)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return full training batches."""
        return self.resumed(self._loader(self.train))

    def val_dataloader(self) -> Any:
        """Return full validation batches."""
        return [] if self.val is None else self.divided(self._loader(self.val), even=True)

    def _loader(self, windows: WindowSequence) -> DataLoader[Any]:
        options: Any = {"batch_size": self.batch_size, "num_workers": self.num_workers, "device": self.device}
        return loader(self.data, windows, drop_last=True, **options)

    def card(self, *, model: str, size: Sequence[int] | None = None, **options: Any) -> Card:
        """Return the model card of an encoder for these data.

        Parameters
        ----------
        model
            Architecture in `geoxt.models`.
        size
            Height and width of the windows; by default those of the first.
        options
            Further arguments of the architecture.
        """
        height, width = size or self.train[0].shape
        bands = statistics(select_layer(self.data, "image"), self.train[:_STATISTICS_WINDOWS], percentiles=())
        meanings: dict[str, Any] = dict(band_meanings(self.data, "image"))
        return Card(
            task="classification",
            model=model,
            options=options,
            bands=band_names(self.data, "image"),
            mean=bands.mean,
            std=bands.std,
            codes=(0,),
            names=(EMBEDDING,),
            colors=("#000000",),
            size=(height, width),
            **meanings,
        )
