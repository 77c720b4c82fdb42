"""A map as a lazy array: any rectangle is computed from the tiles that overlap it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from dask.base import normalize_token

from geoxt.bridge.malloc import keep_freed_memory
from geoxt.inference.accumulator import MapEncoding, RowAccumulator
from geoxt.inference.device_accumulator import DeviceAccumulator
from geoxt.inference.device_model import DeviceModel, is_out_of_memory
from geoxt.inference.device_pipeline import TilePipeline, borrowed_device
from geoxt.inference.runner import Runner
from geoxt.inference.thread_pool import prefetch
from geoxt.inference.tile_cache import TileCache, TileOutput
from geoxt.inference.tile_reader import StepReader, TileReader
from geoxt.inference.tiles import Lattice
from geoxt.torch_devices import Device, open_device
from geoxt.types import Array, Mask
from geoxt.windows import Window

_RunTiles = Callable[[StepReader, list[Window]], Iterator[TileOutput]]
_ONE_BLOCK = threading.RLock()
"""Held while a block is computed: it uses all cores, and two at once would share them and take twice the memory."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BlendedMap:
    """Model output over a scene: ([time,] channel, y, x), without channels if the largest one is chosen."""

    reader: TileReader
    """Reads tiles of the scene."""
    runner: Runner
    """The model."""
    lattice: Lattice
    """Positions of the tiles on the grid of the output, and their blending weights."""
    encoding: MapEncoding
    """Storage of the blended values."""
    steps: int | None
    """Number of time steps that are mapped separately; `None` if the map has no time dimension."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Time steps, channels (unless the largest is chosen), rows, columns."""
        times = () if self.steps is None else (self.steps,)
        return (*times, *self.encoding.leading_shape, *self.lattice.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the map."""
        return self.encoding.dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the tile caches."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}

    def __dask_tokenize__(self) -> Any:
        """Return the fields that determine the values."""
        return normalize_token(("BlendedMap", self.reader, self.runner, self.lattice, self.encoding.token, self.steps))

    def __getitem__(self, key: Any) -> Array:
        """Return the pixels of an index: computes the rectangle that contains it."""
        keys = key if isinstance(key, tuple) else (key,)
        keys = keys + (slice(None),) * (self.ndim - len(keys))
        indices = [np.atleast_1d(np.arange(length)[part]) for length, part in zip(self.shape, keys, strict=True)]
        shape = tuple(len(axis) for axis in indices)
        dropped = tuple(axis for axis, part in enumerate(keys) if isinstance(part, (int, np.integer)))
        if 0 in shape:
            return np.empty(shape, self.dtype).squeeze(dropped)
        rows, cols = indices[-2:]
        window = Window(int(rows.min()), int(cols.min()), int(np.ptp(rows)) + 1, int(np.ptp(cols)) + 1)
        inner = (*indices[:-2], rows - window.row, cols - window.col)
        if self.steps is None:
            return _select(self.read(window), inner).squeeze(dropped)
        steps = [_select(self.read(window, step), inner[1:]) for step in inner[0].tolist()]
        return np.stack(steps).squeeze(dropped)

    def read(self, window: Window, step: int = 0) -> Array:
        """Compute a window of the map, on the grid of the output, for one time step."""
        keep_freed_memory()  # before the threads of the model start, which share the heap then
        names = self.runner.options.resolved()
        if names == ("cpu",):
            with _ONE_BLOCK:
                accumulator = RowAccumulator(window=window, height=self.lattice.size[0], encoding=self.encoding)
                return self._blend(accumulator, step, self.lattice.weights(), self._run_on_cpu, "cpu")
        with borrowed_device(names) as name, open_device(name).current():
            device = open_device(name)
            model, shape = self.runner.on(device), self.lattice.size
            while True:
                size = self._batch_size(model)
                try:
                    return self._read_on(device, window, step)
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                # Memory ran out beside the model, as for buffers; here, as the error holds the tensors.
                device.release_memory()
                model.halve(size, shape)

    def _read_on(self, device: Device, window: Window, step: int) -> Array:
        """Compute a window of the map, for one time step, on a device."""
        accumulator = self._accumulator(window, device)
        weights: Any = self.lattice.weights()
        if isinstance(accumulator, DeviceAccumulator):
            weights = torch.from_numpy(weights).to(device.torch_device, device.sum_dtype)
        return self._blend(accumulator, step, weights, partial(self._run_on, device), device.name)

    def _batch_size(self, model: DeviceModel) -> int:
        """Return the number of tiles per batch, at most as many as fit in the memory of the device."""
        return min(self.runner.batch_size, model.limit or self.runner.batch_size)

    def _accumulator(self, window: Window, device: Device) -> RowAccumulator:
        """Return an accumulator on a device, or on the host if the device has too little memory."""
        options: Any = {"window": window, "height": self.lattice.size[0], "encoding": self.encoding}
        try:
            return DeviceAccumulator(**options, device=device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        device.release_memory()
        return RowAccumulator(**options)

    def _blend(self, accumulator: RowAccumulator, step: int, weights: Any, run: _RunTiles, device: str) -> Array:
        """Return the blended outputs of the tiles that overlap the window of an accumulator."""
        window = accumulator.window
        on_host = not isinstance(accumulator, DeviceAccumulator) and device != "cpu"
        cache = self._caches.setdefault(device, TileCache())
        with closing(self._outputs(window, step, run, cache)) as outputs:
            for tile, output in outputs:
                accumulator.start_row(tile.row)
                part = tile.intersect(window)
                assert part is not None
                accumulator.add(part, output.on_host() if on_host else output, weights[part.within(tile)])
        return accumulator.result()

    @property
    def _caches(self) -> dict[str, TileCache]:
        """Tile caches by device."""
        caches: dict[str, TileCache] = self.__dict__.setdefault("_tile_caches", {})
        return caches

    def _outputs(
        self, window: Window, step: int, run: _RunTiles, cache: TileCache
    ) -> Generator[tuple[Window, TileOutput]]:
        """Yield the tiles that overlap a window, row by row, with their cached or computed outputs.

        A tile that another block is computing at the same time is waited for.
        """
        visible = {tile: tile.intersect(window) for tile in self.lattice.touching(window)}
        claimed = {tile: cache.claim(step, tile, part) for tile, part in visible.items() if part is not None}
        missing = [tile for tile, output in claimed.items() if output is None]
        try:
            computed = run(self.reader.step_reader(missing, step), missing)
            for tile, claim in claimed.items():
                if isinstance(claim, Future):
                    claim.result()
                    part = visible[tile]
                    output = None if part is None else cache.get(step, tile, part)
                    if output is None:  # the other block failed, or its output is evicted
                        (output,) = run(self.reader.step_reader([tile], step), [tile])
                elif claim is None:
                    output = next(computed)
                    cache.put(step, tile, output, window, self.lattice.shape)
                    cache.release(step, tile)
                else:
                    output = claim
                yield tile, output
            for _ in computed:  # empty by now, but a device checks its outputs at the end
                pass
        finally:
            for tile in missing:
                cache.release(step, tile)

    def _run_on(self, device: Device, tiles_of_step: StepReader, tiles: list[Window]) -> Iterator[TileOutput]:
        """Yield the outputs of tiles, computed on a device."""
        model = self.runner.on(device)
        pipeline = TilePipeline(
            tiles_of_step,
            model,
            size=self.lattice.size,
            batch_size=self._batch_size(model),
            all_finite=self.encoding.all_finite,
            scale_check=self.runner.scale_check,
        )
        return pipeline.run(tiles)

    def _run_on_cpu(self, tiles_of_step: StepReader, tiles: list[Window]) -> Iterator[TileOutput]:
        """Yield the outputs of tiles, computed by a thread per core."""
        batches = _batches(tiles, self.runner.batch_size)
        return chain.from_iterable(prefetch(lambda batch: self._run(tiles_of_step, batch), batches))

    def _run(self, tiles_of_step: StepReader, tiles: tuple[Window, ...]) -> list[TileOutput]:
        """Read a batch of tiles, and run the model on it if any of its pixels is valid."""
        dtype = self.runner.input_dtype(self.reader.view.dtype)
        read = [tiles_of_step.read_tile(tile, dtype) for tile in tiles]
        images, image_valid, output_valid = zip(*read, strict=True)
        has_valid = [bool(valid.any()) for valid in output_valid]
        outputs = self.runner(np.stack(images), np.stack(image_valid)) if any(has_valid) else None
        return [
            TileOutput(window=tile, values=None, valid=output_valid[index])
            if outputs is None or not has_valid[index]
            else self._tile_output(tile, outputs[index], output_valid[index])
            for index, tile in enumerate(tiles)
        ]

    def _tile_output(self, tile: Window, values: Array, valid: Mask) -> TileOutput:
        """Return the output of a tile; pixels whose values are not finite are not valid, and have no weight."""
        is_finite = np.isfinite(values)
        if is_finite.all():
            return TileOutput(window=tile, values=values, valid=valid)
        finite: Mask = np.asarray(is_finite.all(axis=0) if self.encoding.all_finite else is_finite.any(axis=0))
        return TileOutput(window=tile, values=np.where(finite, values, 0), valid=valid & finite, finite=finite)


def _batches(tiles: list[Window], batch_size: int) -> Iterator[tuple[Window, ...]]:
    return (tuple(tiles[start : start + batch_size]) for start in range(0, len(tiles), batch_size))


def _select(values: Array, indices: tuple[Array, ...]) -> Array:
    """Return the outer product of indices of an array; the array itself if they select all of it."""
    is_complete = all(len(axis) == length for axis, length in zip(indices, values.shape, strict=True))
    if is_complete and all((np.diff(axis) == 1).all() for axis in indices):
        return values
    return values[np.ix_(*indices)]
