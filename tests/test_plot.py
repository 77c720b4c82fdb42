"""Figures: picture arrays equal those of numpy, and every figure is drawn without a display."""

import json
import pickle

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from sklearn.metrics import confusion_matrix

import geoxt
from geoxt import plot
from geoxt.errors import InputError
from geoxt.grid import coordinates
from geoxt.legend import Legend
from geoxt.source.stored_attrs import mark_stored
from geoxt.testing import make_grid, write_cog
from geoxt.windows import Window

LEGEND = Legend((1, 5), ("water", "forest"), ("#0000ff", "#00ff00"))


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    image = rng.integers(1, 1000, (4, 40, 30)).astype("uint16")
    image[:, :2] = 0
    mask = rng.choice([0, 1, 5, 9], (40, 30)).astype("uint8")
    return xr.Dataset(
        {
            "image": (("band", "y", "x"), image, {"_FillValue": 0}),
            "mask": (("y", "x"), mask, {"_FillValue": 0, **LEGEND.attrs()}),
        },
        coords={"band": ["blue", "green", "red", "nir"], **coordinates(make_grid((40, 30)))},
    )


def test_rgb_selects_bands_by_name_and_stretches_them(data):
    picture = plot.rgb(data["image"])
    red = data["image"].sel(band="red").to_numpy()[2:].astype("float64")
    low, high = np.percentile(red, (2, 98))
    np.testing.assert_allclose(picture[2:, :, 0], np.clip((red - low) / (high - low), 0, 1), atol=1e-6)
    assert (picture[:2] == 0).all()
    assert (picture[2:, :, 3] == 1).all()
    named = plot.rgb(data["image"].assign_coords(band=list("abcd"), common_name=("band", ["blue", "green", "red", ""])))
    np.testing.assert_array_equal(named, picture)
    np.testing.assert_array_equal(plot.rgb(data["image"].drop_vars("band")), picture)
    np.testing.assert_array_equal(plot.rgb(data["image"], bands=["red", 1, "blue"]), picture)


def test_single_band_is_gray_and_constant_or_empty_bands_are_drawn(data):
    grey = plot.rgb(data["image"].isel(band=0))
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])
    assert (plot.rgb(xr.zeros_like(data["image"])) == 0).all()
    assert np.isfinite(plot.rgb(xr.ones_like(data["image"]))).all()


def test_bands_that_make_no_color_image_have_a_panel_each(data):
    def titles(layer):
        return [axes.get_title() for axes in plot.plot(layer).axes if axes.get_title()]

    image = data["image"]
    assert titles(image.sel(band=["red", "nir"])) == ["image: red", "image: nir"]
    assert titles(image.sel(band=["red", "nir"]).drop_vars("band").rename(None)) == ["0", "1"]
    indices = image.assign_coords(band=["ndvi", "ndwi", "evi", "nbr"], common_name=("band", [""] * 4))
    figure = plot.compare({"one date": indices})
    assert len(figure.axes) == 8  # each panel has a color bar
    np.testing.assert_array_equal(figure.axes[3].images[0].get_array(), plot.rgb(image.sel(band="nir")))
    assert titles(image.isel(band=[0, 1, 3])) == ["image (nir, green, blue)"]  # bands of a sensor: false color
    unnamed = indices.drop_vars("common_name").rename(None)
    assert titles(unnamed) == ["(evi, ndwi, ndvi)"]
    assert titles(unnamed.drop_vars("band").rename("stack")) == ["stack"]


def test_figures_have_the_resolution_of_matplotlib(data):
    with mpl.rc_context({"figure.dpi": 80}):
        assert plot.plot(data["mask"]).dpi == 80


def test_classes_have_their_colors_and_other_pixels_are_transparent(data):
    mask = data["mask"].to_numpy()
    picture = plot.classes(data["mask"])
    assert (picture[mask == 1] == (0, 0, 1, 1)).all()
    assert (picture[mask == 5] == (0, 1, 0, 1)).all()
    assert (picture[(mask == 0) | (mask == 9), 3] == 0).all()


def test_figures_are_written(data, tmp_path):
    windows = [Window(0, 0, 8, 8), Window(30, 20, 8, 8), Window(36, 26, 8, 8)]
    figures = [
        plot.plot(data["image"]),
        plot.plot(data["mask"], title="mask"),
        plot.compare({"image": data["image"], "labels": data["mask"]}, outlines=windows[:2], title="both"),
        plot.samples(data, windows, columns=2),
    ]
    for index, figure in enumerate(figures):
        figure.savefig(tmp_path / f"{index}.png")
        assert (tmp_path / f"{index}.png").stat().st_size > 2000
    assert [axes.get_title() for axes in figures[2].axes] == ["image", "labels"]
    assert [text.get_text() for text in figures[2].legends[0].get_texts()] == ["water", "forest"]


def test_windows_without_labels_are_drawn_without_a_legend(data):
    bare = data.assign(mask=xr.zeros_like(data["mask"]))
    figure = plot.samples(bare, [Window(4, 0, 8, 8)])
    assert figure.legends == []
    assert (figure.axes[1].images[0].get_array()[..., 3] == 0).all()


def test_classes_without_legend_are_named_by_code(data):
    unnamed = data["mask"].assign_attrs(Legend((), ()).attrs())
    figure = plot.plot(unnamed)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["1", "5", "9"]
    blank = plot.plot(xr.zeros_like(unnamed))
    assert blank.legends == []


@pytest.mark.parametrize("count", [3, 100])
def test_legend_of_any_length_is_below_the_map_and_inside_the_figure(count):
    codes = np.arange(1, count + 1, dtype="uint8")
    legend = Legend(tuple(codes.tolist()), tuple(f"Dbl Crop Triticale/Corn {c}" for c in codes), ("#267000",) * count)
    rows = np.tile(codes, (count, 1))
    layer = xr.DataArray(rows, dims=("y", "x"), coords=coordinates(make_grid(rows.shape)), attrs=legend.attrs())
    both = xr.Dataset({"mask": layer, "image": layer.astype("float32").drop_attrs()})
    for figure in (plot.plot(layer), plot.samples(both, [Window(0, 0, 1, count)])):
        figure.draw_without_rendering()
        key = figure.legends[0].get_window_extent()
        assert len(figure.legends[0].get_texts()) == count
        assert key.x0 >= 0
        assert key.y0 >= 0
        assert key.x1 <= figure.bbox.x1
        assert key.y1 <= min(axes.get_window_extent().y0 for axes in figure.axes)


def test_figure_has_a_png_representation_without_pyplot(data):
    figure = plot.plot(data["mask"])
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert pickle.loads(pickle.dumps(figure))._repr_png_() == figure._repr_png_()


def test_large_layer_is_subsampled():
    large = xr.DataArray(np.ones((4000, 10), "uint8"), dims=("y", "x"), coords=coordinates(make_grid((4000, 10))))
    assert plot.plot(large).axes[0].images[0].get_array().shape[0] == 1000


def test_invalid_layers_raise(data):
    with pytest.raises(InputError, match="no windows|without windows"):
        plot.samples(data, [])
    with pytest.raises(InputError, match=r"also has time \(3\)"):
        plot.rgb(data["image"].expand_dims(time=3))
    with pytest.raises(InputError, match="band 'swir' of 'image': it has blue"):
        plot.rgb(data["image"], bands=["swir"])


def test_single_bands_have_a_color_bar_and_calculated_layers_their_valid_pixels(data, tmp_path):
    values = np.array([[0, 10, 20], [30, 40, 50]] * 4, "uint16")
    path = write_cog(tmp_path / "a.tif", values[None], grid=make_grid((8, 3)), tiled=False, nodata=0)
    derived = (geoxt.open_cogs(str(path)).isel(band=0) == 10).rename("ten")  # 0 is a number now, not nodata
    opacity = plot.rgb(derived.astype("float32"))[..., 3]
    assert np.array_equal(opacity, values > 0)
    figure = plot.plot(derived.astype("float32"))
    panel, bar = figure.axes
    assert panel.get_title() == "ten"
    assert bar.get_ylim() == (0, 1)
    assert len(plot.plot(data["image"]).axes) == 1  # a color image has no scale


def test_titles_name_calculated_numbers_by_the_layer(tmp_path):
    values = np.arange(48, dtype="uint16").reshape(2, 8, 3)
    write_cog(tmp_path / "a.tif", values, grid=make_grid((8, 3)), tiled=False)
    opened = mark_stored(
        geoxt.open_cogs(str(tmp_path / "a.tif"), name="image").assign_attrs(long_name="Landsat 8", units="1")
    )
    ratio = ((opened.isel(band=1) - 1.0) / 7).rename("ratio")
    titles = [plot.plot(panel).axes[0].get_title() for panel in (opened.isel(band=0), ratio, ratio.compute())]
    assert titles == ["Landsat 8: band_1", "ratio", "ratio"]


def test_confusion_shows_counts_or_fractions_as_scikit_learn():
    counts = np.array([[3, 1, 0], [0, 4, 0], [2, 1, 5]])
    truth, predicted = (np.repeat(index, counts.ravel()) for index in np.indices((3, 3)).reshape(2, -1))
    for normalize in (None, "true", "pred", "all"):
        expected = confusion_matrix(truth, predicted, normalize=normalize)
        axes = plot.confusion(counts, "abc", normalize=normalize).axes[0]
        texts = np.array([float(text.get_text()) for text in axes.texts]).reshape(3, 3)
        np.testing.assert_allclose(texts, expected, atol=0.005)
    with pytest.raises(InputError, match="of 2 classes"):
        plot.confusion(counts, "ab")


def test_history_shows_the_epochs_of_a_run(tmp_path):
    epochs = [{"epoch": n, "train/loss": 1 / n, "val/loss": 2 / n, "val/miou": 0.1 * n, "val/iou/a": 0} for n in (1, 2)]
    (tmp_path / "result.json").write_text(json.dumps({"history": epochs}))
    for run in (epochs, tmp_path, str(tmp_path)):
        loss, miou = plot.history(run).axes
        assert [axes.get_ylabel() for axes in (loss, miou)] == ["loss", "miou"]
        assert [list(line.get_ydata()) for line in loss.lines] == [[1, 0.5], [2, 1]]
    for run in ([], tmp_path / "none"):
        with pytest.raises(InputError, match="history"):
            plot.history(run)
