"""Data module for runs of `geoxt fit` with pretrained encoders: a generated image, and a mask of its bright pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from geoxt.splits import by_block
from geoxt.trainers import WindowDataModule
from support.encoder_layers import image_layer


class BrightPixels(WindowDataModule):
    """Windows of 32 pixels of `image_layer`, with a mask of the pixels above the mean of the first band."""

    def __init__(self, bands: Sequence[str], *, high: int, side: int = 128, seed: int = 0) -> None:
        image = image_layer(list(bands), side, high=high)
        mask = (image[0] > float(image[0].mean())).astype(np.uint8)
        mask.attrs = {"flag_values": [0, 1], "flag_meanings": "dark bright"}
        data = xr.Dataset({"image": image, "mask": mask.drop_vars("band")})
        split = by_block(data, size=32, seed=seed)
        super().__init__(data, split, size=32, eval_size=32, batch_size=4, length=8, seed=seed)
