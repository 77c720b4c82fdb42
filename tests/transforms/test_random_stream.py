"""Random streams: torch's global generator or a seed, in one process and in workers."""

import copy

import torch
from torch.utils.data import DataLoader, Dataset

from geoxt.transforms.random_stream import RandomStream


class Drawn(Dataset):
    def __init__(self, draws):
        self.draws = draws

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.draws.uniform(1)


def test_default_is_the_global_generator():
    torch.manual_seed(5)
    first = RandomStream().uniform(3)
    torch.manual_seed(5)
    assert torch.equal(first, torch.rand(3))


def test_seed_repeats_the_stream():
    first, second = RandomStream(8), RandomStream(8)
    assert torch.equal(first.normal(3), second.normal(3))
    assert not torch.equal(first.normal(3), RandomStream(8).normal(3))
    assert torch.equal(copy.deepcopy(first).beta(0.5, 2), RandomStream(8).beta(0.5, 2))


def test_workers_draw_independently_each_epoch():
    def epochs():
        torch.manual_seed(0)
        loader = DataLoader(Drawn(RandomStream(1)), num_workers=2, batch_size=None, multiprocessing_context="fork")
        return [tuple(value.item() for value in loader) for _ in range(2)]

    first = epochs()
    assert len({value for epoch in first for value in epoch}) == 8
    assert epochs() == first
