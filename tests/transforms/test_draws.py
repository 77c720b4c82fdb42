"""Draws: from torch's global generator, or from a seed, in one process and in workers."""

import copy

import torch
from torch.utils.data import DataLoader, Dataset

from geoxt.transforms.draws import Draws


class Drawn(Dataset):
    def __init__(self, draws):
        self.draws = draws

    def __len__(self):
        return 4

    def __getitem__(self, place):
        return self.draws.uniform(1)


def test_without_a_seed_they_are_those_of_torch():
    torch.manual_seed(5)
    first = Draws().uniform(3)
    torch.manual_seed(5)
    assert torch.equal(first, torch.rand(3))


def test_a_seed_begins_a_stream():
    one, two = Draws(8), Draws(8)
    assert torch.equal(one.normal(3), two.normal(3))
    assert not torch.equal(one.normal(3), Draws(8).normal(3))
    assert torch.equal(copy.deepcopy(one).beta(0.5, 2), Draws(8).beta(0.5, 2))


def test_workers_draw_their_own_and_new_ones_every_epoch():
    def epochs():
        torch.manual_seed(0)
        loader = DataLoader(Drawn(Draws(1)), num_workers=2, batch_size=None, multiprocessing_context="fork")
        return [tuple(value.item() for value in loader) for _ in range(2)]

    first = epochs()
    assert len({value for epoch in first for value in epoch}) == 8
    assert epochs() == first
