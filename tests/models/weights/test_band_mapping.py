"""Kernels are matched by band name: any order, any subset, additional bands."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from geoxt.errors import InputError
from geoxt.models.weights.band_mapping import ALIASES, adapt, alias_of

OF = ("R", "G", "B")
KERNELS = torch.randn(6, 3, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def adapted(bands, *, missing="mean", alias=None):
    fresh = torch.full((6, len(bands), 3, 3), 7.0, dtype=torch.float64)
    return adapt(KERNELS, OF, bands, missing=missing, initial=fresh, alias=alias or {})


def image(bands):
    return torch.randn(2, bands, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@given(st.permutations(OF))
def test_band_order_does_not_change_output(order):
    pixels = image(3)
    shuffled = pixels[:, [OF.index(name) for name in order]]
    kernels = adapted(order)
    torch.testing.assert_close(F.conv2d(shuffled, kernels.kernels), F.conv2d(pixels, KERNELS))
    assert torch.equal(kernels.kernels[:, [order.index(name) for name in OF]], KERNELS)
    assert (kernels.initialized, kernels.unused, kernels.scale) == ((), (), 1)


@given(st.lists(st.sampled_from(OF), min_size=1, unique=True))
def test_subset_keeps_kernels(bands):
    kernels = adapted(bands)
    assert torch.equal(kernels.kernels, KERNELS[:, [OF.index(name) for name in bands]])
    assert set(kernels.unused) == set(OF) - set(bands)


@given(st.permutations([*OF, "NIR", "SWIR", "VV"]))
def test_mean_kernels_keep_response_to_equal_bands(bands):
    kernels = adapted(bands)
    assert kernels.scale == 0.5
    torch.testing.assert_close(kernels.kernels[:, bands.index("NIR")], KERNELS.mean(dim=1) / 2)
    torch.testing.assert_close(kernels.kernels[:, bands.index("G")], KERNELS[:, 1] / 2)
    grey = image(1)
    torch.testing.assert_close(
        F.conv2d(grey.expand(-1, 6, -1, -1), kernels.kernels), F.conv2d(grey.expand(-1, 3, -1, -1), KERNELS)
    )
    assert set(kernels.matched) == set(OF)
    assert kernels.initialized == tuple(band for band in bands if band not in OF)


@pytest.mark.parametrize(("missing", "value"), [("zero", 0.0), ("random", 7.0)])
def test_known_kernels_are_unchanged(missing, value):
    kernels = adapted(["NIR", "B", "G", "R"], missing=missing)
    assert torch.equal(kernels.kernels[:, [3, 2, 1]], KERNELS)
    assert (kernels.kernels[:, 0] == value).all()


def test_alias_renames_bands():
    kernels = adapted(["B02", "B03", "B04", "B08"], missing="zero", alias=ALIASES["sentinel-2"])
    assert torch.equal(kernels.kernels[:, [2, 1, 0]], KERNELS)
    assert kernels.matched == ("B02", "B03", "B04")
    assert kernels.initialized == ("B08",)


@pytest.mark.parametrize(
    ("bands", "options", "message"),
    [
        (["B02", "B03"], {}, "the model's are B02, B03, the weights' R, G, B. Pass alias="),
        (["r", "g"], {}, "the weights' R, G, B"),
        (["R", "x"], {"alias": {"x": "R"}}, "several of R, x are 'R'"),
        (["R", "x"], {"missing": "guess"}, r"missing='guess'\. Pass missing=, one of mean, random, zero"),
    ],
)
def test_unmatched_bands_raise(bands, options, message):
    with pytest.raises(InputError, match=message):
        adapted(bands, **options)


def test_aliases_by_sensor():
    assert alias_of("sentinel-2")["B04"] == "R"
    assert alias_of({"x": "R"}) == {"x": "R"}
    assert alias_of(None) == {}
    with pytest.raises(InputError, match="band names of 'sentinel-9'"):
        alias_of("sentinel-9")
