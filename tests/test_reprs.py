"""Representations of objects: short text, and small escaped HTML that reads no pixel."""

import re
import sys
from html.parser import HTMLParser
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from geoxt import bridge, datasets, progress
from geoxt.grid import coordinates
from geoxt.legend import Legend
from geoxt.models import Card
from geoxt.samplers import GridSampler, RandomSampler
from geoxt.splits import by_block
from geoxt.testing import make_grid
from geoxt.trainers import Task
from geoxt.windows import Window

SCRIPT = "<script>alert(1)</script>"
LARGE = Legend(tuple(range(134)), (SCRIPT, *(f"class {code}" for code in range(1, 134))))
CARD = {"task": "segmentation", "model": "unet", "bands": (SCRIPT,), "mean": (0.0,), "std": (1.0,), "size": (64, 64)}
GRID = xr.DataArray(np.zeros((640, 512), "uint8"), dims=("y", "x"), coords=coordinates(make_grid((640, 512))))
SMALL = {"task": "segmentation", "model": "fcn", "bands": ("red",), "mean": (0,), "std": (1,), "size": (8, 8)}
LEGEND = Legend((1, 2), ("water", "forest"))
LAYERS = xr.Dataset({"image": GRID.rename("image"), "mask": GRID.assign_attrs(LEGEND.attrs())})
OBJECTS = {
    "legend": LARGE,
    "card": Card(**CARD, codes=LARGE.codes, names=LARGE.names, colors=LARGE.colors),
    "split": by_block(GRID, size=64, seed=0),
    "grid sampler": GridSampler(GRID, size=8),
    "window": Window(2, 3, 4, 5, time=(0, 2), node="a"),
    "window dataset": bridge.to_torch(LAYERS, GridSampler(GRID, size=8)),
    "loader": bridge.loader(LAYERS, GridSampler(GRID, size=8), batch_size=4),
    "task": Task(Card(**SMALL, codes=LEGEND.codes, names=LEGEND.names, colors=LEGEND.colors)),
    "random sampler": RandomSampler(GRID, size=(8, 16), length=5, seed=0),
}


class Tags(HTMLParser):
    """Collects open elements, and checks that each is closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.names = [], []

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.open.append(tag)
        assert {"src", "href", "onload"}.isdisjoint(dict(attrs))

    def handle_startendtag(self, tag, attrs):
        self.names.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", OBJECTS)
def test_html_is_small_escaped_and_well_formed(name):
    html = OBJECTS[name]._repr_html_()
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    assert "script" not in tags.names
    assert len(html.encode()) < 60_000


@pytest.mark.parametrize("name", sorted({*OBJECTS} - {"card"}))  # the text of a card is part of a model's fingerprint
def test_text_is_short(name):
    lines = repr(OBJECTS[name]).splitlines()
    assert len(lines) <= 10
    assert len(repr(OBJECTS[name])) <= 500


def test_legend_folds_many_classes():
    html = LARGE._repr_html_()
    assert "114 more" in html
    assert html.count("background:#") == 134
    assert repr(Legend((1, 2), ("water", "forest"))) == "<Legend: 2 classes: 1 water, 2 forest>"


def test_split_shows_fractions_and_every_rectangle():
    split = OBJECTS["split"]
    html = split._repr_html_()
    for name, region in split.parts.items():
        total = sum(part.pixels for part in split.parts.values())
        assert f"{name} {region.pixels:,} pixels ({region.pixels / total:.0%})" in repr(split)
    drawn = {tuple(map(int, values)) for values in re.findall(r"<rect x='(\d+)' y='(\d+)' width='(\d+)'", html)}
    assert drawn == {(w.col, w.row, w.width) for region in split.parts.values() for w in region}


def test_text_of_a_card_is_short_and_its_repr_complete():
    card = OBJECTS["card"]
    assert len(str(card)) < 400
    assert "classes 134: " in str(card)
    assert "class 133" in repr(card)  # the text of all fields is part of a model's fingerprint


def test_loader_shows_keys_shapes_dtypes_and_workers():
    for text in (repr(OBJECTS["loader"]), OBJECTS["loader"]._repr_html_()):
        for part in ("1,280 batches of up to 4 of 5,120 windows", "image", "float32 (8, 8)", "mask", "int64 (8, 8)"):
            assert part in text
    assert "workers 0" in repr(OBJECTS["loader"])
    assert "5,120 windows of image" in repr(OBJECTS["window dataset"])
    empty = bridge.to_torch(LAYERS, [])
    assert repr(empty) == "<WindowDataset: 0 windows of no layers>"
    assert "rows</th>" in OBJECTS["window"]._repr_html_()


def test_task_shows_model_classes_and_recipe():
    for text in (repr(OBJECTS["task"]), OBJECTS["task"]._repr_html_()):
        for part in ("segmentation", "fcn (", "2: water, forest", "loss cross_entropy, AdamW, learning rate 0.002"):
            assert part in text


@pytest.mark.parametrize("widgets", [False, True])
def test_progress_bars_of_notebooks_are_widgets_where_ipywidgets_is(monkeypatch, widgets):
    monkeypatch.setitem(sys.modules, "ipykernel", ModuleType("ipykernel"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: ModuleType(name) if widgets else None)
    assert progress.bar_class().__module__ == ("tqdm.notebook" if widgets else "tqdm.std")
    if not widgets:
        with progress.progress_bar(3, "map", unit="block", progress=None) as bar:  # as of to_cog, predict and warm
            assert not bar.disable


def test_sampler_shows_count_and_sizes():
    assert "5,120" in OBJECTS["grid sampler"]._repr_html_()
    html = OBJECTS["random sampler"]._repr_html_()
    assert "8 x 16" in html
    assert html.count("<rect x=") == 5
    assert np.isin(["windows", "height x width"], re.findall(">([^<]+)</th>", html)).all()


def test_dataset_shows_samples_split_and_classes():
    spec = datasets.get("eurosat")
    reader = SimpleNamespace(spec=spec, excluded=frozenset(), bands={})
    dataset = datasets.Dataset(reader, [None] * 1200, split="train")
    for text in (repr(dataset), dataset._repr_html_()):
        assert spec.name in text
        assert "1,200" in text
        assert spec.classes.names[0] in text
    assert len(repr(dataset)) < 500
