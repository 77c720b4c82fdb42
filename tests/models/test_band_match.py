"""Bands match by name, then by common name, then by wavelength; never by one of them against another."""

import math

import pytest

from geoxt.errors import InputError
from geoxt.layers import products
from geoxt.models.band_match import BandNames, match_bands


def bands_of(product, *names):
    """Return bands of a known product as a layer has them."""
    table = {band.name: band for band in products.get(product).bands}
    bands = [table[name] for name in names or table]
    return BandNames(
        names=tuple(band.name for band in bands),
        common_names=tuple(band.common or "" for band in bands),
        wavelengths=tuple(math.nan if band.wavelength is None else band.wavelength for band in bands),
    )


def matched(requested, available):
    return [None if p is None else available.names[p] for p in match_bands(requested, available)]


def test_names_come_first():
    requested, available = BandNames(names=("b", "a", "x")), BandNames(names=("a", "c", "b"))
    assert match_bands(requested, available) == (2, 0, None)


@pytest.mark.parametrize("swapped", [False, True])
def test_common_names_of_a_catalog_match_names_of_files(swapped):
    catalog = BandNames(names=("blue", "red", "nir08"))
    files = bands_of("landsat8", "B2", "B3", "B4", "B5")
    if swapped:
        assert matched(bands_of("landsat8", "B2", "B4", "B5"), catalog) == ["blue", "red", "nir08"]
    else:
        assert matched(catalog, files) == ["B2", "B4", "B5"]


def test_bands_of_other_sensors_match_by_common_name():
    requested = BandNames(names=("R", "N"), common_names=("red", "nir"))
    assert matched(requested, bands_of("sentinel2")) == ["B04", "B08"] or matched(requested, bands_of("sentinel2")) == [
        "B4",
        "B8",
    ]
    landsat = bands_of("landsat8", "B2", "B3", "B4", "B6", "B7")
    requested = BandNames(names=("a", "b", "c"), common_names=("blue", "swir16", "swir22"))
    assert matched(requested, landsat) == ["B2", "B6", "B7"]


def test_bands_of_every_product_match_by_wavelength_unless_ambiguous():
    for name in products.names():
        bands = bands_of(name)
        if not bands.names:
            continue
        nameless = BandNames(names=tuple(f"x{i}" for i in range(len(bands))), wavelengths=bands.wavelengths)
        known = [w for w in bands.wavelengths if not math.isnan(w)]
        distinct = [sum(abs(w - v) <= 0.015 * w for v in known) == 1 for w in known]
        if all(distinct):
            requested = tuple(None if math.isnan(w) else i for i, w in enumerate(bands.wavelengths))
            assert match_bands(nameless, bands) == requested
        else:
            with pytest.raises(InputError, match="have its wavelength|several match"):
                match_bands(nameless, bands)


def test_name_of_another_meaning_raises():
    requested = BandNames(names=("B3", "B4"), common_names=("green", "red"))
    available = BandNames(names=("B3", "B4"), common_names=("red", "nir"))
    with pytest.raises(
        InputError, match="'B3' by its name: it is green in the model, and red in the layer. Pass bands="
    ):
        match_bands(requested, available)


@pytest.mark.parametrize(
    ("requested", "available", "message"),
    [
        (BandNames(names=("red",)), BandNames(names=("a", "b"), common_names=("red", "red")), "a .red. and b .red."),
        (
            BandNames(names=("x",), wavelengths=(0.665,)),
            BandNames(names=("a", "b"), wavelengths=(0.66, 0.67)),
            "a and b have its wavelength",
        ),
        (
            BandNames(names=("r", "s"), common_names=("red", "red")),
            BandNames(names=("a",), common_names=("red",)),
            "several match 'a .red.'",
        ),
    ],
)
def test_ambiguous_bands_raise(requested, available, message):
    with pytest.raises(InputError, match=message):
        match_bands(requested, available)


def test_wavelengths_within_the_tolerance_match():
    available = BandNames(names=("B8", "B8A"), wavelengths=(0.842, 0.865))
    assert matched(BandNames(names=("x",), wavelengths=(0.865,)), available) == ["B8A"]
    assert matched(BandNames(names=("x",), wavelengths=(0.83,)), available) == ["B8"]
    assert matched(BandNames(names=("x",), wavelengths=(0.9,)), available) == [None]
    assert matched(BandNames(names=("x",)), available) == [None]
