"""Layers for tests of pretrained encoders, and the comparison of feature maps."""

import numpy as np
import torch
import xarray as xr

from geoxt.grid import coordinates
from geoxt.testing import make_grid


def image_layer(names, side, *, low=0, high=255, dates=0, **attrs):
    """Return a layer of random integers, of one date or several."""
    shape = (*((dates,) if dates else ()), len(names), side, side)
    values = np.random.default_rng(0).integers(low, high, shape).astype(np.float32)
    coords = {**coordinates(make_grid((side, side))), "band": list(names)}
    days = np.array(["2024-03-01", "2024-06-15", "2024-09-30"], "datetime64[ns]")
    coords["time"] = ("time", days[:dates]) if dates else days[1]
    dims = (*(("time",) if dates else ()), "band", "y", "x")
    return xr.DataArray(values, dims=dims, coords=coords, attrs=attrs)


def images_of(layer, encoder):
    """Return a batch of one image with the bands of an encoder."""
    return torch.from_numpy(layer.sel(band=list(encoder.bands)).to_numpy())[None]


@torch.no_grad()
def assert_features(encoder, layer, expected):
    """Check feature maps of an encoder against those of the provider's model."""
    maps = encoder(images_of(layer, encoder))
    side = layer.sizes["x"]
    assert [tuple(x.shape[1:]) for x in maps] == [
        (c, side // r, side // r) for c, r in zip(encoder.out_channels, encoder.reductions, strict=True)
    ]
    torch.testing.assert_close(maps[-1], expected, atol=1e-5, rtol=1e-5)
