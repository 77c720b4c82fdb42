"""`.geoml` binds the functions of geoxt: same results, same names, same texts, and not many of them."""

import inspect

import numpy as np
import pytest
import xarray as xr

import geoxt  # noqa: F401 (registers the accessor)
from geoxt import bridge
from geoxt.accessor import ArrayGeoml, DatasetGeoml
from geoxt.alignment import align
from geoxt.errors import CRSError, LabelError
from geoxt.grid import coordinates, grid_of
from geoxt.testing import distinct, make_grid
from geoxt.windows import Window


@pytest.fixture
def layer():
    return xr.DataArray(
        distinct((40, 40), "float32"), dims=("y", "x"), coords=coordinates(make_grid((40, 40))), name="a"
    )


def members(kind):
    return [name for name in dir(kind) if not name.startswith("_")]


@pytest.mark.parametrize("kind", [ArrayGeoml, DatasetGeoml])
def test_members_are_few_and_every_one_says_what_it_does(kind):
    names = members(kind)
    assert len(names) <= 12
    for name in names:
        assert inspect.getdoc(getattr(kind, name)), name


def test_a_method_is_the_function_with_its_own_text(layer):
    assert ArrayGeoml.align is align
    assert layer.geoml.align.__doc__ == align.__doc__
    assert ArrayGeoml.loader is bridge.loader is DatasetGeoml.loader
    assert list(inspect.signature(layer.geoml.align).parameters) == list(inspect.signature(align).parameters)[1:]


def test_methods_do_what_functions_do(layer):
    target = make_grid((20, 20), left=600_010)
    xr.testing.assert_identical(layer.geoml.align(target), align(layer, target))
    windows = [Window(0, 0, 8, 8)]
    assert layer.geoml.grid == grid_of(layer)
    assert layer.to_dataset().geoml.grid == grid_of(layer)
    assert np.array_equal(layer.geoml.to_torch(windows)[0]["image"], layer[:8, :8])
    assert next(iter(layer.to_dataset(name="dem").geoml.loader(windows)))["dem"].shape == (1, 8, 8)


def test_a_legend_is_read_from_attributes(layer):
    with pytest.raises(LabelError, match="flag_values"):
        _ = layer.geoml.legend
    coded = layer.assign_attrs(flag_values=np.array([1, 2]), flag_meanings="water open_land")
    assert coded.geoml.legend.names == ("water", "open land")


def test_errors_of_a_property_are_not_hidden():
    plain = xr.DataArray(np.ones((3, 3)), dims=("y", "x"), coords={"y": [2, 1, 0], "x": [0, 1, 2]})
    with pytest.raises(CRSError, match="no CRS"):
        _ = plain.geoml.grid
