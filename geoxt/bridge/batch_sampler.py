"""Windows of a tree -> tensors: each is read on the grid of its child; a batch holds tensors of one shape."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from odc.geo.geobox import GeoBox
from torch.utils.data import Dataset

from geoxt.bridge.buffer_pool import Room
from geoxt.bridge.epochs import Epochs
from geoxt.bridge.reading import Channel, Sample, single
from geoxt.errors import GridError
from geoxt.samplers import WindowSequence
from geoxt.windows import Window


class Part(Protocol):
    """What reads the windows of one child."""

    grid: GeoBox
    """The child's grid."""
    channels: tuple[Channel, ...]
    """Its layers."""

    def read(self, indices: Sequence[Any], room: Any = None) -> Sample:
        """Return one batch of windows."""


class TreeDataset(Dataset[Sample]):
    """A map-style torch dataset over a tree: one sample a window, which says the child that it is of.

    Parameters
    ----------
    parts
        What reads the windows of each child, by node.
    windows
        A sampler over the tree, or windows with a node.
    transform
        Applied to every sample, or to every batch by `loader`.
    """

    def __init__(
        self,
        parts: Mapping[str, Part],
        windows: WindowSequence | Sequence[Window],
        *,
        transform: Callable[[Sample], Sample] | None = None,
    ) -> None:
        self.parts = dict(parts)
        _require_names(self.parts)
        if isinstance(windows, WindowSequence):
            _require_grids(self.parts, windows)
        self.windows = windows
        self.transform = transform
        self._room = Room()

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The layers of the first child."""
        return next(iter(self.parts.values())).channels

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int | Window) -> Sample:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int | Window]) -> list[Sample]:
        """Return samples; those whose tensors have one shape are read together."""
        windows = [i if isinstance(i, Window) else self.windows[i] for i in indices]
        kinds = [self.kind(window) for window in windows]
        out: list[Sample] = [{}] * len(windows)
        for kind in dict.fromkeys(kinds):
            own = [place for place, one in enumerate(kinds) if one == kind]
            batch = self.read([windows[place] for place in own])
            for row, place in enumerate(own):
                out[place] = single(batch, row)
        return out if self.transform is None else [self.transform(sample) for sample in out]

    def read(self, indices: Sequence[int | Window], room: Any = None) -> Sample:
        """Return one batch of windows whose tensors have one shape, before any transform."""
        windows = [i if isinstance(i, Window) else self.windows[i] for i in indices]
        places: dict[str, list[int]] = {}
        for place, window in enumerate(windows):
            places.setdefault(self._node(window), []).append(place)
        if len(places) == 1:
            return self.parts[next(iter(places))].read(windows, room or self._room)
        kinds = {self.kind(window) for window in windows}
        if len(kinds) > 1:
            msg = f"Cannot stack windows of the children {list(places)} into one batch: their layers have the shapes "
            msg += " and ".join(str([shape for _, shape, _ in kind]) for kind in kinds)
            raise GridError(msg + ". Pass batch_size=1, or let loader() group them.")
        found = [(own, self.parts[node].read([windows[p] for p in own])) for node, own in places.items()]
        return _merged(found, len(windows), room or self._room)

    def kind(self, window: Window) -> tuple[Any, ...]:
        """Return what decides the tensors of a window: name, shape and type of each layer."""
        channels = self.parts[self._node(window)].channels
        return tuple((c.name, c.shape(window), str(c.dtype)) for c in channels)

    def _node(self, window: Window) -> str:
        if window.node not in self.parts:
            what = f"is of node {window.node!r}" if window.node else "names no node"
            msg = f"Cannot read {window} from the tree: it {what}, and the children are {list(self.parts)}."
            raise GridError(msg + " Pass windows of a sampler over the tree, or Window(…, node=…).")
        return window.node


def _require_names(parts: Mapping[str, Part]) -> None:
    """Check that all children have the same layers."""
    names = {node: sorted(c.name for c in part.channels) for node, part in parts.items()}
    first = next(iter(names))
    for node, own in names.items():
        if own != names[first]:
            msg = f"Cannot read a tree whose children differ: {first!r} has the layers {names[first]}, {node!r} {own}."
            raise GridError(msg + " Choose the same in each with tree.map_over_datasets(…).")


def _require_grids(parts: Mapping[str, Part], plan: WindowSequence) -> None:
    """Check that a plan was made of the tree."""
    own = {node: part.grid for node, part in parts.items()}
    strange = [node for node, grid in plan.grids.items() if own.get(node) != grid]
    if strange:
        msg = f"Cannot read windows of {strange[0] or 'one grid'!r} from a tree of the children {list(own)}: their"
        raise GridError(msg + " grids differ. Make the sampler from the same tree.")


def _merged(found: Sequence[tuple[list[int], Sample]], count: int, room: Any) -> Sample:
    """Return one batch of those of several children, each with the places of its windows."""
    batch: Sample = {}
    for name, value in found[0][1].items():
        if isinstance(value, torch.Tensor):
            kind = value.numpy().dtype
            batch[name] = torch.from_numpy(room.array((count, *value.shape[1:]), kind))
            for places, own in found:
                batch[name][places] = own[name]
        else:
            batch[name] = [None] * count
            for places, own in found:
                for place, one in zip(places, own[name], strict=True):
                    batch[name][place] = one
    return batch


class TreeBatchPlan(Epochs[list[Window]]):
    """Batches of a sampler's windows over a tree, in their order as far as tensors of a batch must have one shape.

    Parameters
    ----------
    windows
        A sampler, or windows.
    batch_size
        Windows in a batch.
    kind
        Tells which windows can stand in one batch.
    drop_last
        Leave out batches that are not full.
    """

    def __init__(
        self,
        windows: WindowSequence | Sequence[Window],
        batch_size: int,
        *,
        kind: Callable[[Window], Hashable],
        drop_last: bool = False,
    ) -> None:
        super().__init__()
        self.windows, self.batch_size, self.drop_last = windows, batch_size, drop_last
        self.kind = kind
        self._made: tuple[int, list[npt.NDArray[np.int64]]] | None = None

    def _count(self) -> int:
        return len(self._places(self._at()))

    def _batches(self, start: int) -> Iterator[list[Window]]:
        windows = self._at()
        for places in self._places(windows)[start:]:
            yield [windows[place] for place in places.tolist()]

    def _at(self) -> WindowSequence | Sequence[Window]:
        return self.windows.at(self.epoch) if isinstance(self.windows, WindowSequence) else self.windows

    def _places(self, windows: WindowSequence | Sequence[Window]) -> list[npt.NDArray[np.int64]]:
        """Return the positions of each batch's windows."""
        if self._made is None or self._made[0] != self.epoch:
            found = batches(_kinds(windows, self.kind), self.batch_size)
            self._made = self.epoch, [b for b in found if len(b) == self.batch_size or not self.drop_last]
        return self._made[1]


def batches(kinds: npt.NDArray[np.int64], size: int) -> list[npt.NDArray[np.int64]]:
    """Return the positions of batches of one kind: where each run of `size` is of one, these; else as they fill up."""
    plain = [np.arange(start, min(start + size, len(kinds))) for start in range(0, len(kinds), size)]
    if all((kinds[places] == kinds[places[0]]).all() for places in plain):
        return plain
    found = []
    for kind in np.unique(kinds):
        own = np.flatnonzero(kinds == kind)
        found += [own[start : start + size] for start in range(0, len(own), size)]
    return sorted(found, key=lambda places: (len(places) < size, places[-1]))


def _kinds(windows: WindowSequence | Sequence[Window], kind: Callable[[Window], Hashable]) -> npt.NDArray[np.int64]:
    """Return a number for the kind of each window; one window of each child, shape and number of steps is asked."""
    if isinstance(windows, WindowSequence):
        taken = np.zeros(len(windows)) if windows.steps is None else (windows.steps >= 0).sum(1)
        _, first, of = np.unique(
            np.c_[windows.node_index, windows.table[:, 2:], taken], axis=0, return_index=True, return_inverse=True
        )
        asked = [kind(windows[int(place)]) for place in first]
    else:
        asked, of = [kind(window) for window in windows], np.arange(len(windows))
    numbers = {one: number for number, one in enumerate(dict.fromkeys(asked))}
    return np.array([numbers[one] for one in asked], "int64")[of.ravel()]
