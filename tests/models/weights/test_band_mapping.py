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
    return adapt(KERNELS, OF, bands, missing=missing, fresh=fresh, alias=alias or {})


def image(bands):
    return torch.randn(2, bands, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@given(st.permutations(OF))
def test_band_order_does_not_change_output(order):
    pixels = image(3)
    shuffled = pixels[:, [OF.index(name) for name in order]]
    found = adapted(order)
    torch.testing.assert_close(F.conv2d(shuffled, found.kernels), F.conv2d(pixels, KERNELS))
    assert torch.equal(found.kernels[:, [order.index(name) for name in OF]], KERNELS)
    assert (found.initialized, found.unused, found.scale) == ((), (), 1)


@given(st.lists(st.sampled_from(OF), min_size=1, unique=True))
def test_subset_keeps_kernels(bands):
    found = adapted(bands)
    assert torch.equal(found.kernels, KERNELS[:, [OF.index(name) for name in bands]])
    assert set(found.unused) == set(OF) - set(bands)


@given(st.permutations([*OF, "NIR", "SWIR", "VV"]))
def test_mean_kernels_keep_response_to_equal_bands(bands):
    found = adapted(bands)
    assert found.scale == 0.5
    torch.testing.assert_close(found.kernels[:, bands.index("NIR")], KERNELS.mean(dim=1) / 2)
    torch.testing.assert_close(found.kernels[:, bands.index("G")], KERNELS[:, 1] / 2)
    grey = image(1)
    torch.testing.assert_close(
        F.conv2d(grey.expand(-1, 6, -1, -1), found.kernels), F.conv2d(grey.expand(-1, 3, -1, -1), KERNELS)
    )
    assert set(found.known) == set(OF)
    assert found.initialized == tuple(band for band in bands if band not in OF)


@pytest.mark.parametrize(("missing", "value"), [("zero", 0.0), ("random", 7.0)])
def test_known_kernels_are_unchanged(missing, value):
    found = adapted(["NIR", "B", "G", "R"], missing=missing)
    assert torch.equal(found.kernels[:, [3, 2, 1]], KERNELS)
    assert (found.kernels[:, 0] == value).all()


def test_alias_renames_bands():
    found = adapted(["B02", "B03", "B04", "B08"], missing="zero", alias=ALIASES["sentinel-2"])
    assert torch.equal(found.kernels[:, [2, 1, 0]], KERNELS)
    assert found.known == ("B02", "B03", "B04")
    assert found.initialized == ("B08",)


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
