"""Detections of a scene: each object once, for any tiles."""

import geopandas
import numpy as np
import pytest
import shapely
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize
from torch import nn

from geoxt.errors import InputError, OutputError
from geoxt.grid import coordinates, grid_of
from geoxt.inference import detect
from geoxt.inference.nms import nms
from geoxt.legend import Legend
from geoxt.testing import make_grid
from geoxt.writers import to_vector


class Finder(nn.Module):
    """Detects each region of equal positive values: its visible box in a tile, label and score by its value."""

    def __init__(self, *, masks=False):
        super().__init__()
        self.masks = masks

    def forward(self, images):
        return [self.detections_of(image[0]) for image in images]

    def detections_of(self, image):
        boxes, labels, scores, masks = [], [], [], []
        for value in image[image > 0].unique().tolist():
            rows, cols = torch.nonzero(image == value, as_tuple=True)
            boxes.append([cols.min(), rows.min(), cols.max() + 1, rows.max() + 1])
            labels.append(int(value) % 3 + 1)
            scores.append(0.5 + value / 1000 + len(rows) / 1e7)
            masks.append((image == value).float()[None])
        size = image.shape
        detections = {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor(labels, dtype=torch.int64),
            "scores": torch.tensor(scores, dtype=torch.float32),
        }
        return detections | ({"masks": torch.stack(masks) if masks else torch.zeros(0, 1, *size)} if self.masks else {})


def make_layer(shape=(90, 110), *, boxes=(), nodata=None):
    values = np.zeros((1, *shape), "float32")
    for value, (left, top, right, bottom) in enumerate(boxes, start=1):
        values[0, top:bottom, left:right] = value
    coords = {"band": ["gray"], **coordinates(make_grid(shape))}
    layer = xr.DataArray(values, dims=("band", "y", "x"), coords=coords)
    return layer if nodata is None else layer.assign_attrs(_FillValue=nodata)


BOXES = ((3, 4, 12, 10), (28, 20, 40, 33), (60, 60, 70, 69), (100, 80, 110, 90), (45, 5, 47, 8))


def pixels(frame, layer):
    """Return outlines in pixels (left, top, right, bottom), sorted."""
    inverse = ~grid_of(layer).affine
    outlines = []
    for geometry in frame.geometry:
        (left, top), (right, bottom) = (
            inverse @ (x, y)
            for x, y in ((geometry.bounds[0], geometry.bounds[3]), (geometry.bounds[2], geometry.bounds[1]))
        )
        outlines.append(tuple(round(value, 6) for value in (left, top, right, bottom)))
    return sorted(outlines)


@pytest.mark.parametrize(("size", "overlap"), [(110, 0), (40, 16), (33, 15), ((48, 30), (14, 20))])
@pytest.mark.parametrize("masks", [False, True])
def test_each_object_is_detected_once_and_complete(size, overlap, masks):
    layer = make_layer(boxes=BOXES)
    detections = detect(layer, Finder(masks=masks), size=size, overlap=overlap, batch_size=3)
    assert pixels(detections, layer) == sorted(BOXES)
    assert detections.crs == grid_of(layer).crs.to_wkt()
    assert (np.diff(detections["score"]) <= 0).all()


def test_detections_have_scores_codes_and_names():
    layer, legend = make_layer(boxes=BOXES), Legend((10, 20, 30), ("car", "house", "car"))
    detections = detect(layer, Finder(), size=40, overlap=16, legend=legend)
    values = [round((score - 0.5) * 1000) for score in detections["score"]]
    assert list(detections["code"]) == [(10, 20, 30)[value % 3] for value in values]
    assert set(detections["class"]) <= {"car (10)", "house", "car (30)"}
    few = detect(layer, Finder(), size=40, overlap=16, score_threshold=float(detections["score"].iloc[1]) - 1e-5)
    assert len(few) == 2


def test_outline_of_an_instance_equals_its_pixels():
    layer = make_layer()
    shape = shapely.Polygon([(30, 30), (50, 30), (50, 36), (36, 36), (36, 50), (30, 50)])
    values = rasterize([shape], (90, 110)).astype("float32")[None]
    outlines = detect(layer.copy(data=values), Finder(masks=True), size=64, overlap=32)
    assert len(outlines) == 1
    drawn = rasterize(outlines.geometry, (90, 110), transform=grid_of(layer).affine)
    np.testing.assert_array_equal(drawn, values[0])


def test_no_detections_on_nodata_or_empty_scenes():
    layer = make_layer(boxes=BOXES[:2], nodata=2.0)
    assert pixels(detect(layer, Finder(), size=40, overlap=16), layer) == [BOXES[0]]
    empty = detect(make_layer(), Finder(), size=40, overlap=16)
    assert list(empty.columns) == ["score", "code", "class", "geometry"]
    assert len(empty) == 0
    assert empty.crs is not None


@settings(deadline=None)
@given(st.data())
def test_nms_equals_a_plain_loop(data):
    count = data.draw(st.integers(0, 12))
    agnostic, tiled = data.draw(st.booleans()), data.draw(st.booleans())
    box = st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(1, 6), st.integers(1, 6))
    boxes = [data.draw(box) for _ in range(count)]
    scores = np.array(data.draw(st.lists(st.integers(1, 50), min_size=count, max_size=count, unique=True)), float)
    classes = np.array(data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)), int)
    cut = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool)
    shapes = np.array([shapely.box(x, y, x + w, y + h) for x, y, w, h in boxes], object)
    grown = [data.draw(st.tuples(*[st.integers(0, 3)] * 4)) for _ in range(count)]
    tiles = np.array(
        [
            shapely.box(x - a, y - b, x + w + c, y + h + d)
            for (x, y, w, h), (a, b, c, d) in zip(boxes, grown, strict=True)
        ],
        object,
    )
    remaining: list[int] = []
    for index in sorted(range(count), key=lambda i: (cut[i], -scores[i])):
        for other in remaining:
            shared = shapes[index].intersection(shapes[other]).area
            visible = shapes[other].intersection(tiles[index]) if tiled and cut[index] else shapes[other]
            alike = classes[index] == classes[other]
            same = shared > 0.4 * (shapes[index].area + visible.area - shared) and (alike or agnostic)
            if same or (alike and cut[index] and shared > 0.5 * shapes[index].area):
                break
        else:
            remaining.append(index)
    indices = nms(
        shapes, scores, classes, cut, iou_threshold=0.4, tiles=tiles if tiled else None, class_agnostic=agnostic
    )
    assert indices.tolist() == sorted(remaining, key=lambda i: -scores[i])


class Wavers(Finder):
    """Labels an object by its column in a tile, so that two tiles give different labels."""

    def detections_of(self, image):
        detections = super().detections_of(image)
        right = detections["boxes"][:, 0] > image.shape[1] / 2
        return detections | {"labels": torch.where(right, 2, 1), "scores": detections["scores"] + 0.1 * right}


def test_class_agnostic_nms_keeps_the_best_class():
    layer = make_layer(boxes=[(28, 20, 36, 30), (65, 60, 75, 69)])
    both = detect(layer, Wavers(), size=40, overlap=20)
    assert sorted(both["code"]) == [1, 1, 2, 2]
    agnostic = detect(layer, Wavers(), size=40, overlap=20, class_agnostic=True)
    assert list(agnostic["code"]) == [2, 2]
    assert pixels(agnostic, layer) == [(28, 20, 36, 30), (65, 60, 75, 69)]


def test_truncated_part_is_suppressed_but_contained_object_is_not():
    layer = make_layer(boxes=[(30, 20, 48, 30)])
    halves = detect(layer, Wavers(), size=40, overlap=20, class_agnostic=True)
    assert pixels(halves, layer) == [(30, 20, 48, 30)]
    values = make_layer(boxes=[(2, 2, 38, 38)]).to_numpy()
    values[0, 10:14, 10:14] = 2
    nested = detect(layer.copy(data=values), Finder(), size=40, overlap=20, class_agnostic=True)
    assert pixels(nested, layer) == [(2, 2, 38, 38), (10, 10, 14, 14)]


@pytest.mark.parametrize("ending", ["gpkg", "fgb", "geojson", "shp"])
def test_vector_file_equals_detections(tmp_path, ending):
    layer = make_layer(boxes=BOXES)
    detections = detect(layer, Finder(), size=40, overlap=16)
    path = to_vector(detections, tmp_path / "deep" / f"things.{ending}")
    back = geopandas.read_file(path).to_crs(detections.crs)
    assert sorted(back["score"].round(6)) == sorted(detections["score"].round(6))
    assert sorted(back["class"]) == sorted(detections["class"])
    areas = np.sort(shapely.area(detections.geometry))
    np.testing.assert_allclose(np.sort(shapely.area(back.geometry)), areas, rtol=1e-3)
    assert [file for file in path.parent.iterdir() if file.name.startswith(".")] == []


def test_failed_vector_write_keeps_the_existing_file(tmp_path, monkeypatch):
    detections = detect(make_layer(boxes=BOXES), Finder(), size=40, overlap=16)
    path = to_vector(detections, tmp_path / "things.gpkg")
    before = path.read_bytes()

    def half(frame, path, **options):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(geopandas.GeoDataFrame, "to_file", half)
    with pytest.raises(OutputError, match="No space left on device"):
        to_vector(detections, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(InputError, match=r"'.csv' is not a vector format"):
        to_vector(detections, tmp_path / "things.csv")


@pytest.mark.parametrize(
    ("layer", "model", "options", "message"),
    [
        (make_layer(), nn.Identity(), {}, "Cannot detect objects with this model: its output is a list"),
        (make_layer().expand_dims(time=2), Finder(), {}, "2 time steps"),
        (make_layer(boxes=BOXES), Finder(), {"legend": Legend((1,), ("a",))}, "labels 1 to 3 .* legend of 1 classes"),
    ],
)
def test_model_that_is_no_detector_raises(layer, model, options, message):
    with pytest.raises(InputError, match=message):
        detect(layer, model, size=32, overlap=8, **options)
