"""The keyword arguments that type checkers see are those of the openers and of `predict`."""

import inspect
from typing import get_type_hints

import pytest

from geoxt.inference import predict
from geoxt.inference.scene import PredictOptions
from geoxt.layers import open_cogs, open_stac, open_vector, open_xarray, open_zarr
from geoxt.layers.options import CogOptions, StacOptions, VectorOptions, XarrayOptions, ZarrOptions


@pytest.mark.parametrize(
    ("function", "options", "overloaded"),
    [
        (open_cogs, CogOptions, {"crs"}),
        (open_stac, StacOptions, {"crs"}),
        (open_vector, VectorOptions, {"like", "grid"}),
        (open_zarr, ZarrOptions, {"crs"}),
        (open_xarray, XarrayOptions, {"crs"}),
        (predict, PredictOptions, set()),
    ],
)
def test_options_equal_the_signature(function, options, overloaded):
    hints = get_type_hints(function)
    keywords = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert get_type_hints(options) == {name: hints[name] for name in keywords if name not in overloaded}
    assert not options.__required_keys__
