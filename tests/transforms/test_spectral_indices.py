"""Spectral indices: complete entries, text equal to the formula, known values."""

from pathlib import Path

import numpy as np
import pytest

from geoxt.errors import InputError
from geoxt.transforms.spectral_indices import INDICES, find_bands, indices_of, table

REFLECTANCE = {
    "blue": 0.04, "green": 0.08, "red": 0.05, "rededge1": 0.12, "rededge2": 0.3, "rededge3": 0.38, "nir": 0.4,
    "swir16": 0.2, "swir22": 0.1,
}  # fmt: skip
# By hand from the papers' formulas, for the leaf above.
KNOWN = {
    "ndvi": 35 / 45,
    "gndvi": 32 / 48,
    "ndre": 28 / 52,
    "evi": 2.5 * 0.35 / (0.4 + 0.3 - 0.3 + 1),
    "evi2": 2.5 * 0.35 / 1.52,
    "savi": 1.5 * 0.35 / 0.95,
    "msavi2": (1.8 - (3.24 - 2.8) ** 0.5) / 2,
    "osavi": 0.35 / 0.61,
    "arvi": (0.4 - 0.06) / 0.46,
    "vari": 0.03 / 0.09,
    "gli": 0.07 / 0.25,
    "cire": 0.4 / 0.12 - 1,
    "cig": 4.0,
    "mcari": (0.07 - 0.2 * 0.04) * 2.4,
    "tcari": 3 * (0.07 - 0.2 * 0.04 * 2.4),
    "psri": 0.01 / 0.3,
    "ndwi": -32 / 48,
    "mndwi": -12 / 28,
    "awei_nsh": 4 * -0.12 - 0.375,
    "awei_sh": 0.04 + 0.2 - 0.9 - 0.025,
    "ndmi": 2 / 6,
    "msi": 0.5,
    "ndci": 7 / 17,
    "ndsi": -12 / 28,
    "ndbi": -2 / 6,
    "bsi": (0.25 - 0.44) / 0.69,
    "nbr": 0.6,
    "nbr2": 1 / 3,
    "bai": 1 / (0.0025 + 0.1156),
}


@pytest.mark.parametrize("name", INDICES)
def test_values_and_text_match_the_formula(name):
    index = INDICES[name]
    bands = {band: np.float64(REFLECTANCE[band]) for band in index.bands}
    assert index.formula(**bands) == pytest.approx(KNOWN[name])
    assert eval(index.text, {}, bands) == index.formula(**bands)  # noqa: S307 - text of the table
    assert index.cite.startswith(("10.", "https://"))


def test_at_least_20_indices():
    assert len(INDICES) >= 20
    assert set(KNOWN) == set(INDICES)


def test_scale_free_indices():
    needing = {name for name, index in INDICES.items() if not index.scale_free}
    assert needing == {"evi", "evi2", "savi", "msavi2", "osavi", "mcari", "tcari", "awei_nsh", "awei_sh", "bai"}


def test_common_names_take_precedence():
    (ndvi,) = indices_of("NDVI")
    assert find_bands(ndvi, ["B4", "B8", "B8A"], ["red", "nir", "nir08"]) == (1, 0)
    assert find_bands(ndvi, ["B4", "B5"], ["red", "nir08"]) == (1, 0)
    assert find_bands(ndvi, ["red", "x", "NIR"]) == (2, 0)
    assert find_bands(ndvi, ["B1", "B2"], mapping={"nir": "B1", "red": "B2"}) == (0, 1)
    (ndre,) = indices_of(["ndre"])
    assert find_bands(ndre, ["a", "b"], ["rededge071", "nir"]) == (1, 0)


def test_missing_or_ambiguous_bands_raise():
    (evi,) = indices_of("evi")
    with pytest.raises(
        InputError, match=r"Cannot compute evi = 2.5 .* no band is named blue. The bands are B4 \(red\)"
    ):
        find_bands(evi, ["B4", "B8"], ["red", "nir"])
    with pytest.raises(
        InputError, match="Cannot choose the nir band of evi: a \\(nir\\), b \\(nir\\) all have this name"
    ):
        find_bands(evi, ["a", "b"], ["nir", "nir"])
    with pytest.raises(InputError, match="Cannot use 'B9' as the nir band"):
        find_bands(evi, ["B8"], mapping={"nir": "B9"})
    with pytest.raises(InputError, match="Did you mean ndwi or ndvi"):
        indices_of("nvdi")
    with pytest.raises(InputError, match="Cannot append 'evi' twice"):
        indices_of(["evi", "EVI"])


def test_documentation_table_matches_the_code():
    page = Path(__file__).parents[2] / "docs" / "reference" / "api" / "transforms.md"
    assert page.read_text().endswith(f"-->\n{table()}")


def test_table_has_a_row_per_index():
    rows = table().splitlines()
    assert len(rows) == len(INDICES) + 2
    assert rows[2].startswith("| `ndvi` | normalized difference vegetation index | `(nir - red) / (nir + red)` |")
