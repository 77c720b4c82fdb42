"""The windows of a pack, in the order of the pack or shuffled in each epoch."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr

from geoxt.errors import InputError
from geoxt.samplers.sampler_files import grid_from_json
from geoxt.samplers.sequence import Table, WindowSequence

PACK = "geoxt_pack"
"""Attribute of a pack: its description as JSON text."""
WINDOW = ("row", "col", "height", "width")
"""Coordinates of the samples of a pack that hold their windows."""


class PackSampler(WindowSequence):
    """Windows of a pack, shuffled in each epoch by default.

    Parameters
    ----------
    pack
        Dataset of `open_pack`, or some of its samples (`pack.isel(sample=…)`).
    shuffle
        Whether to shuffle the samples, differently in each epoch. Otherwise they have the order of the pack.
    seed
        The same seed gives the same orders, on any machine and for any number of workers.

    Raises
    ------
    InputError
        If the Dataset is not a pack, or the seed is negative.

    Examples
    --------
    >>> import geoxt
    >>> pack = geoxt.open_pack("train.zarr")  # doctest: +SKIP
    >>> loader = pack.geoml.loader(geoxt.samplers.PackSampler(pack, seed=1), batch_size=64)  # doctest: +SKIP
    """

    def __init__(self, pack: xr.Dataset, *, shuffle: bool = True, seed: int = 0) -> None:
        if seed < 0:
            raise InputError(f"Cannot shuffle with seed={seed}.", remedy="Pass {seed:0} or more.", argument="seed")
        self.shuffle, self.seed, self.epoch = shuffle, seed, 0
        self._stored = pack_windows(pack)
        self._order()

    def at(self, epoch: int) -> PackSampler:
        """Return the windows of another epoch: for the same epoch always in the same order."""
        other = object.__new__(PackSampler)
        other.__dict__.update(self.__dict__)
        other.epoch = epoch
        other._order()
        return other

    def _order(self) -> None:
        windows = self._stored
        if self.shuffle:
            units = np.random.default_rng([self.seed, self.epoch]).permutation(-(-len(windows) // windows.unit))
            index = (units[:, None] * windows.unit + np.arange(windows.unit)).ravel()
            windows = windows.take(index[index < len(windows)])
        super().__init__(
            windows.grids, windows.table, windows.steps, unit=self._stored.unit, node_index=windows.node_index
        )


def pack_windows(pack: xr.Dataset) -> WindowSequence:
    """Return the windows of a pack in its order.

    Raises
    ------
    InputError
        If the Dataset is not a pack.
    """
    description = pack_description(pack)
    table: Table = np.stack([pack[name].values for name in WINDOW], 1).astype("int64")
    steps = pack["steps"].values.astype("int64") if "steps" in pack.coords else None
    grids = {node: grid_from_json(grid) for node, grid in description["grids"].items()}
    index = pack["node"].values.astype("int64")
    unit = int(description["unit"])
    if len(table) != description["samples"]:
        unit = 1  # a selection may cut units apart
    return WindowSequence(grids, table, steps, unit=unit, node_index=index)


def pack_description(pack: Any) -> dict[str, Any]:
    """Return the description of a pack.

    Raises
    ------
    InputError
        If the Dataset is not a pack.
    """
    text = pack.attrs.get(PACK) if isinstance(pack, xr.Dataset) else None
    if text is None:
        raise InputError("Cannot use the data as a pack: they have no windows.", remedy="Open a pack with open_pack().")
    return dict(json.loads(text))
