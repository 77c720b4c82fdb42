"""Integers in the roles of labels: class codes, which are never interpolated."""

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

import geoxt
from geoxt.errors import InputError, LabelError
from geoxt.source import is_categorical
from geoxt.testing import make_grid, write_cog

GRID = make_grid((12, 16))
SHIFTED = GeoBox((12, 16), GRID.affine @ Affine.translation(0.5, 0.5), GRID.crs)
CODES = np.where(np.indices((12, 16)).sum(0) % 2, 1, 5)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "image.tif"
    return geoxt.open_cogs(str(write_cog(path, np.ones((2, 12, 16), "uint16"), grid=SHIFTED, tiled=False)))


@pytest.mark.parametrize("key", ["mask", "label"])
@pytest.mark.parametrize("hold", [lambda a: a, xr.DataArray.compute, lambda a: a * 1])
def test_integers_in_the_role_of_labels_are_never_interpolated(image, tmp_path, key, hold):
    path = write_cog(tmp_path / "codes.tif", CODES[None].astype("uint8"), grid=GRID, tiled=False)
    ds = geoxt.intersection(image=image, **{key: hold(geoxt.open_cogs(str(path)))}, grid="image")
    assert set(np.unique(ds[key])) <= {-1, 1, 5}
    assert is_categorical(ds[key])
    assert ds[key].dims == ("y", "x")


def test_floats_in_the_role_of_labels_are_interpolated_on_request_only(image, tmp_path):
    path = write_cog(tmp_path / "height.tif", CODES[None].astype("float32"), grid=GRID, tiled=False)
    height = geoxt.open_cogs(str(path))
    with pytest.raises(InputError, match="may be class codes.*categorical=True"):
        geoxt.intersection(image=image, mask=height, grid="image")
    assert (geoxt.intersection(image=image, target=height, grid="image").target == 3).any()
    assert (geoxt.intersection(image=image, mask=height, grid="image", resampling="bilinear").mask == 3).any()
    assert (geoxt.intersection(image=image, mask=geoxt.align(height, image)).mask == 3).any()
    codes = geoxt.open_cogs(str(path), categorical=True)
    labels = geoxt.intersection(image=image, mask=codes, grid="image").mask
    assert set(np.unique(labels.values[~np.isnan(labels)])) <= {-1, 1, 5}


def test_several_bands_of_integers_in_the_role_of_labels_raise(image):
    with pytest.raises(InputError, match="class codes or quantities") as error:
        geoxt.intersection(image=image, mask=image)
    assert "categorical=True" in str(error.value)


@pytest.fixture
def codes(tmp_path):
    return str(write_cog(tmp_path / "codes.tif", CODES[None].astype("uint8"), grid=GRID, tiled=False))


def as_mask(layer, image):
    return xr.Dataset({"image": image, "mask": layer.isel(band=0, drop=True)})


INTERPOLATIONS = {
    "align": lambda path, image: geoxt.align(geoxt.open_cogs(path), image),
    "align computed": lambda path, image: geoxt.align(geoxt.open_cogs(path), image).compute(),
    "align computed codes": lambda path, image: geoxt.align(geoxt.open_cogs(path).compute(), image),
    "align a dask array": lambda path, image: geoxt.align(geoxt.open_cogs(path).compute().chunk(y=5), image).persist(),
    "grid": lambda path, image: geoxt.open_cogs(path, grid=image.odc.geobox),
    "grid computed": lambda path, image: geoxt.open_cogs(path, grid=image.odc.geobox).compute(),
    "selected": lambda path, image: geoxt.align(geoxt.open_cogs(path), image).sel(band=["band_1"]).rename("codes"),
    "astype": lambda path, image: geoxt.align(geoxt.open_cogs(path), image).astype("int64"),
    "union": lambda path, image: geoxt.align(
        geoxt.union(geoxt.open_cogs(path, grid=image.odc.geobox).isel(x=slice(4)), geoxt.open_cogs(path)), image
    ),
    "union computed": lambda path, image: geoxt.align(
        geoxt.union(geoxt.open_cogs(path, grid=image.odc.geobox).isel(x=slice(4)), geoxt.open_cogs(path)).compute(),
        image,
    ),
}


@pytest.mark.parametrize("name", INTERPOLATIONS)
def test_interpolated_integers_are_no_labels(image, codes, name):
    ds = as_mask(INTERPOLATIONS[name](codes, image), image)
    assert set(np.unique(ds.mask)) - {-1, 0, 1, 5}, "the case shall blend codes"
    uses = {
        "loader": lambda: ds.geoml.loader(geoxt.samplers.GridSampler(ds, size=4), batch_size=1),
        "legend": lambda: geoxt.trainers.legend_of_labels(ds.mask),
        "intersection": lambda: geoxt.intersection(image=image, mask=ds.mask),
        "stratified": lambda: geoxt.samplers.StratifiedSampler(ds, size=4, length=4, labels="mask"),
        "balanced": lambda: geoxt.splits.by_block(ds, size=4, labels=ds.mask),
    }
    for use in uses.values():
        with pytest.raises(InputError, match="blends class codes") as error:
            use()
        assert "categorical=True" in str(error.value)


@pytest.mark.parametrize(
    "select",
    [
        lambda layer: layer.isel(band=1).compute(),
        lambda layer: layer.compute().isel(band=1),
        lambda layer: layer.isel(band=[1]).load().squeeze("band", drop=True),
        lambda layer: layer.to_dataset("band")["band_2"].rename("codes").compute(),
        lambda layer: xr.concat([layer.isel(band=1)] * 2, "time").compute().isel(time=0),
    ],
)
def test_one_of_several_interpolated_bands_is_no_label(image, tmp_path, select):
    path = str(tmp_path / "codes.tif")
    write_cog(tmp_path / "codes.tif", np.stack([CODES, CODES]), grid=GRID, tiled=False)
    with pytest.raises(InputError, match="blends class codes"):
        geoxt.trainers.legend_of_labels(select(geoxt.open_cogs(path, grid=image.odc.geobox)))
    exact = select(geoxt.open_cogs(path, grid=GRID[2:8, 3:9]))
    assert geoxt.trainers.legend_of_labels(exact).codes == (1, 5)


@pytest.mark.parametrize(
    "move",
    [
        lambda layer, image: geoxt.align(layer.rename("mask"), image),
        lambda layer, image: geoxt.align(layer.rename("label"), image),
        lambda layer, image: geoxt.align(layer.to_dataset(name="mask"), image)["mask"],
        lambda layer, image: geoxt.align(layer.compute().rename("mask"), image),
        lambda layer, image: geoxt.align(layer, image, resampling="nearest").isel(band=0),
        lambda layer, image: geoxt.align(geoxt.union(layer.rename("mask"), layer.rename("mask")), image),
    ],
)
def test_labels_by_name_or_by_nearest_are_codes_everywhere(image, codes, move):
    ds = xr.Dataset({"image": image, "mask": move(geoxt.open_cogs(codes), image).drop_vars("band", errors="ignore")})
    assert set(np.unique(ds.mask)) <= {-1, 0, 1, 5}
    batch = next(iter(ds.geoml.loader(geoxt.samplers.GridSampler(ds, size=4), batch_size=1)))
    assert str(batch["mask"].dtype) == "torch.int64"
    assert set(geoxt.trainers.legend_of_labels(ds.mask).codes) == {1, 5}
    assert set(geoxt.samplers.StratifiedSampler(ds, size=4, length=4).strata.codes) == {1, 5}


def test_copied_and_calculated_integers_may_be_labels(image, codes):
    aligned = geoxt.align(geoxt.open_cogs(codes), image)
    above = (aligned > 2).astype("uint8")  # calculated from interpolated numbers on purpose
    exact = geoxt.open_cogs(codes, grid=GRID[2:8, 3:9])
    for layer, expected in ((above, (1,)), (exact, (1, 5)), (exact.compute(), (1, 5))):
        assert geoxt.trainers.legend_of_labels(layer.isel(band=0, drop=True)).codes == expected


def test_fractions_are_no_class_codes(image, codes):
    ds = as_mask(geoxt.align(geoxt.open_cogs(codes).astype("float32") * 0.5, image), image)
    with pytest.raises(LabelError, match="not a whole number"):
        geoxt.samplers.StratifiedSampler(ds, size=4, length=4, labels="mask")
