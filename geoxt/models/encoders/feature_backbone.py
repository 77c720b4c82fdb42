"""Backbones: models of other libraries that return feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from geoxt.errors import InputError

# Outputs of the hooks by thread, so that threads can share one model.
_OUTPUTS: ContextVar[dict[int, Tensor] | None] = ContextVar("outputs", default=None)


class FeatureBackbone(nn.Module):
    """Model that returns feature maps of normalized images (N, C, H, W), or (N, T, C, H, W) if it takes dates.

    Parameters
    ----------
    model
        Model of the provider.
    patch_size
        Side of a patch in pixels.
    size
        Side of the images in pixels.
    out_channels, reductions
        Channels and stride of each feature map.
    fixed_size
        Whether images must have the side `size`.
    dates
        Number of time steps of an image.
    blocks
        Blocks or stages of the model in order, for freezing; empty if unknown.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        patch_size: int,
        size: int,
        out_channels: Sequence[int],
        reductions: Sequence[int],
        fixed_size: bool = False,
        dates: int = 1,
        blocks: Sequence[nn.Module] | nn.ModuleList = (),
    ) -> None:
        super().__init__()
        self.blocks = tuple(blocks)  # a tuple: the modules are registered by the model
        self.model: Any = model
        self.patch_size, self.size, self.fixed_size, self.dates = patch_size, size, fixed_size, dates
        self.out_channels, self.reductions = tuple(out_channels), tuple(reductions)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return feature maps (N, F, h, w) of normalized images."""
        raise NotImplementedError


class TokenBackbone(FeatureBackbone):
    """Vision transformer whose feature maps are the patch tokens after some of its blocks.

    Parameters
    ----------
    model
        Model of the provider.
    blocks
        Transformer blocks of the model.
    out_indices
        Indices of the blocks whose outputs are returned; by default the last block of each quarter.
    width
        Number of channels of a token.
    patch_size, size, fixed_size, dates
        As in `FeatureBackbone`.
    prefix
        Number of tokens before the patch tokens.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        blocks: Sequence[nn.Module] | nn.ModuleList,
        out_indices: Sequence[int] | None,
        width: int,
        patch_size: int,
        size: int,
        fixed_size: bool = False,
        prefix: int = 1,
        dates: int = 1,
    ) -> None:
        indices = block_indices(len(blocks), out_indices)
        channels = (width * dates,) * len(indices)
        super().__init__(
            model, patch_size=patch_size, size=size, out_channels=channels, reductions=(patch_size,) * len(indices),
            fixed_size=fixed_size, dates=dates, blocks=blocks,
        )  # fmt: skip
        self.prefix = prefix
        for position, index in enumerate(indices):
            blocks[index].register_forward_hook(partial(_store_output, position))

    def call(self, image: Tensor) -> Any:
        """Run the model of the provider on normalized images."""
        return self.model(image)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return feature maps (N, T * F, h, w) of normalized images."""
        outputs: dict[int, Tensor] = {}
        token = _OUTPUTS.set(outputs)
        try:
            self.call(image)
        finally:
            _OUTPUTS.reset(token)
        shape = tuple(side // self.patch_size for side in image.shape[-2:])
        return [token_map(outputs[index][:, self.prefix :], shape, self.dates) for index in sorted(outputs)]


def token_map(tokens: Tensor, shape: Sequence[int], dates: int = 1) -> Tensor:
    """Reshape patch tokens (N, T * h * w, F) to a feature map (N, T * F, h, w)."""
    grid = tokens.reshape(tokens.shape[0], dates, *shape, tokens.shape[-1])
    return grid.movedim(-1, 2).flatten(1, 2)


def block_indices(count: int, requested: Sequence[int] | None) -> tuple[int, ...]:
    """Return nonnegative indices of the requested blocks; by default the last block of each quarter.

    Raises
    ------
    InputError
        If an index is out of range, or indices do not increase.
    """
    if requested is None:
        return tuple(sorted({max(count * quarter // 4 - 1, 0) for quarter in (1, 2, 3, 4)}))
    indices = tuple(index + count if index < 0 else index for index in requested)
    if not indices or sorted(set(indices)) != list(indices) or not 0 <= indices[0] <= indices[-1] < count:
        msg = f"Cannot return the features of the blocks {tuple(requested)!r}: the encoder has {count}."
        remedy = f"Pass {{out_indices}}, increasing numbers from 0 to {count - 1}."
        raise InputError(msg, remedy=remedy, value=tuple(requested), argument="out_indices")
    return indices


def load_state(
    model: nn.Module,
    state: dict[str, Tensor],
    *,
    name: str,
    allow_missing: Sequence[str] = (),
    allow_unexpected: Sequence[str] = (),
) -> None:
    """Load weights into a model.

    Parameters
    ----------
    model
        Model of the provider (modified inplace).
    state
        Weights under the names of the model.
    name
        Name of the weights, for errors.
    allow_missing, allow_unexpected
        Prefixes of names of tensors that the file (`allow_missing`) or the model (`allow_unexpected`) may lack.

    Raises
    ------
    InputError
        If other tensors are missing, left over, or of another shape.
    """
    target = model.state_dict()
    missing = [key for key in target if key not in state and not key.startswith(tuple(allow_missing))]
    extra = [key for key in state if key not in target and not key.startswith(tuple(allow_unexpected))]
    shapes = [key for key in state if key in target and state[key].shape != target[key].shape]
    problems = [("lacks", missing), ("has unknown tensors", extra), ("has other shapes of", shapes)]
    text = "; ".join(f"it {verb} {', '.join(keys[:4])}" + ", …" * (len(keys) > 4) for verb, keys in problems if keys)
    if text:
        msg = f"Cannot load {name!r} into {type(model).__name__}: {text}."
        raise InputError(msg, remedy="Pass the published file of these weights.", value=name, argument="file")
    with torch.no_grad():
        model.load_state_dict({key: value for key, value in state.items() if key in target}, strict=False)


def strip_prefix(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names have a prefix, without the prefix; all tensors if no name has it."""
    inner = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return inner or state


def resize_positions(state: dict[str, Tensor], side: int) -> dict[str, Tensor]:
    """Resize the position embeddings `pos_embed` of weights to `side` x `side` patches, if the weights have any."""
    return (
        state | {"pos_embed": resize_position_embeddings(state["pos_embed"], side)} if "pos_embed" in state else state
    )


def resize_position_embeddings(positions: Tensor, side: int, *, prefix: int = 1) -> Tensor:
    """Resize position embeddings (1, prefix + n * n, F) to `side` x `side` patches by bicubic interpolation."""
    old = round((positions.shape[1] - prefix) ** 0.5)
    if old == side:
        return positions
    grid = positions[:, prefix:].reshape(1, old, old, -1).movedim(-1, 1).float()
    resized = nn.functional.interpolate(grid, size=(side, side), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([positions[:, :prefix], resized.flatten(2).mT.to(positions.dtype)], dim=1)


def _store_output(position: int, module: nn.Module, args: Any, output: Any) -> None:
    """Store the output of a block for the current thread (forward hook)."""
    del module, args
    outputs = _OUTPUTS.get()
    if outputs is not None:
        outputs[position] = output[0] if isinstance(output, tuple) else output
