"""`.geoml` binds the functions of geoxt: same results, names, signatures and docstrings."""

import inspect

import numpy as np
import pytest
import xarray as xr

import geoxt  # noqa: F401 (registers the accessor)
from geoxt import bridge
from geoxt.accessor import DataArrayAccessor, DatasetAccessor, DataTreeAccessor, _Bound
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


OF_BENCHMARKS = {"to_torch": {"windows", "keys"}}
"""Parameters whose default or meaning concerns benchmark datasets, which have no accessor."""
ACCESSORS = [DataArrayAccessor, DatasetAccessor, DataTreeAccessor]


def members(accessor):
    return [name for name in dir(accessor) if not name.startswith("_")]


def declarations(accessor):
    """Return the declared function of each bound method by name."""
    bound = {name: member for kind in reversed(accessor.__mro__) for name, member in vars(kind).items()}
    return {name: member.declared for name, member in bound.items() if isinstance(member, _Bound)}


METHODS = [(accessor, name) for accessor in ACCESSORS for name in declarations(accessor) if name != "predict"]
"""Methods with a full signature; that of `predict` has `PredictOptions`."""


@pytest.mark.parametrize("accessor", ACCESSORS)
def test_members_are_few_and_documented(accessor):
    names = members(accessor)
    assert len(names) <= 15
    for name in names:
        assert inspect.getdoc(getattr(accessor, name)), name


@pytest.mark.parametrize(("accessor", "name"), METHODS)
def test_declared_signature_equals_signature_of_function(accessor, name):
    skipped = OF_BENCHMARKS.get(name, set())
    declared, actual = (
        [
            parameter
            for parameter in list(inspect.signature(function).parameters.values())[1:]
            if parameter.name not in skipped
        ]
        for function in (declarations(accessor)[name], getattr(accessor, name))
    )
    assert declared == actual


def test_methods_are_the_functions_with_their_docstrings(layer):
    assert DataArrayAccessor.align is align
    assert layer.geoml.align.__doc__ == align.__doc__
    assert DataArrayAccessor.loader is bridge.loader is DatasetAccessor.loader
    assert list(inspect.signature(layer.geoml.align).parameters) == list(inspect.signature(align).parameters)[1:]


def test_methods_return_what_functions_return(layer):
    target = make_grid((20, 20), left=600_010)
    xr.testing.assert_identical(layer.geoml.align(target), align(layer, target))
    windows = [Window(0, 0, 8, 8)]
    assert layer.geoml.grid == grid_of(layer)
    assert layer.to_dataset().geoml.grid == grid_of(layer)
    assert np.array_equal(layer.geoml.to_torch(windows)[0]["image"], layer[:8, :8])
    assert next(iter(layer.to_dataset(name="dem").geoml.loader(windows)))["dem"].shape == (1, 8, 8)


def test_a_dataset_and_a_tree_plot_every_layer(layer):
    both = layer.to_dataset(name="dem").assign(slope=layer * 2)
    for data in (both, xr.DataTree.from_dict({"a": both})):
        titles = [axes.get_title() for axes in data.geoml.plot().axes]
        assert len([title for title in titles if title]) == 2  # the other axes are color bars


def test_a_dataset_draws_samples(layer):
    mask = (layer % 2).astype("uint8").assign_attrs(flag_values=np.array([0, 1], "uint8"), flag_meanings="even odd")
    pair = layer.to_dataset(name="image").assign(mask=mask)
    assert len(pair.geoml.samples([Window(0, 0, 8, 8), Window(8, 8, 8, 8)]).axes) == 4


def test_a_legend_is_read_from_attributes(layer):
    with pytest.raises(LabelError, match="flag_values"):
        _ = layer.geoml.legend
    coded = layer.assign_attrs(flag_values=np.array([1, 2]), flag_meanings="water open_land")
    assert coded.geoml.legend.names == ("water", "open land")


def test_errors_of_properties_are_raised():
    plain = xr.DataArray(np.ones((3, 3)), dims=("y", "x"), coords={"y": [2, 1, 0], "x": [0, 1, 2]})
    with pytest.raises(CRSError, match="no CRS"):
        _ = plain.geoml.grid
