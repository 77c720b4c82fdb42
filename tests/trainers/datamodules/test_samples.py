"""The data module of map-style datasets: worker processes start once, and draw nothing that changes the weights."""

import os

import numpy as np
import pytest
import torch
import xarray as xr

from geoxt.errors import LabelError
from geoxt.trainers import SampleDataModule


class ProcessIds:
    """Samples that hold the process that reads them."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {"image": torch.zeros(1, 2, 2), "process": torch.tensor(os.getpid())}


def two_epochs(module):
    """Return the reading processes of two epochs, and the next random number of this process."""
    torch.manual_seed(0)
    loader = module.train_dataloader()
    processes = {int(process) for _ in range(2) for batch in loader for process in batch["process"]}
    return processes, torch.rand(1)


@pytest.fixture
def forked(monkeypatch):
    """Let workers be forked, since spawned ones import torch again."""
    init = torch.utils.data.DataLoader.__init__

    def fork(self, *args, **options):
        init(self, *args, **options | {"multiprocessing_context": "fork"} if options.get("num_workers") else options)

    monkeypatch.setattr(torch.utils.data.DataLoader, "__init__", fork)


@pytest.mark.parametrize("bands", [["red", "nir"], np.array(["red", "nir"]), xr.DataArray(["red", "nir"], dims="band")])
def test_card_takes_band_names_as_list_or_array(bands):
    data = SampleDataModule([{"image": torch.rand(2, 4, 4), "label": torch.tensor(label)} for label in (0, 1)])
    assert data.card(model="test_resnet18", bands=bands).bands == ("red", "nir")
    assert data.card(model="test_resnet18").bands == ("band 1", "band 2")


def test_vectors_are_no_classes():
    data = SampleDataModule([{"image": torch.rand(2, 4, 4), "label": torch.tensor([1, 0, 1])}])
    with pytest.raises(
        LabelError, match=r"'label' as the class of an image: it has the shape \(3,\)\. Pass task='multilabel'"
    ):
        data.card(model="test_resnet18")
    assert len(data.card(model="test_resnet18", task="multilabel").codes) == 3


@pytest.mark.usefixtures("forked")
def test_worker_processes_start_once():
    processes, with_workers = two_epochs(SampleDataModule(ProcessIds(), batch_size=2, num_workers=1))
    main_process, without = two_epochs(SampleDataModule(ProcessIds(), batch_size=2))
    assert main_process == {os.getpid()}
    assert len(processes) == 1  # two before: one for each epoch
    assert processes != main_process
    assert torch.equal(with_workers, without)  # so that dropout does not depend on num_workers
