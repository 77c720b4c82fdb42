"""Assessment reports: values, escaping, pictures, and files that are complete or unchanged."""

import base64
import json
import re
from dataclasses import dataclass, replace
from html.parser import HTMLParser

import numpy as np
import pytest
import rasterio
import xarray as xr
from odc.geo.xr import wrap_xr

from geoxt import assess
from geoxt.assess import map_strata, report_figures
from geoxt.assess.continuous import ContinuousEstimate
from geoxt.assess.survey import Estimate
from geoxt.errors import GridError, InputError, OutputError
from geoxt.legend import Legend
from geoxt.models.card import Card
from geoxt.testing import make_grid

COUNTS = [[66, 0, 5], [0, 55, 8], [1, 0, 153]]
NAMES = ("<script>alert(1)</script>", "a|b [x](javascript:y)", 'c" onload="z')


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(path):
    """Return the page, the Markdown and the values of a report."""

    def invalid(constant):
        raise AssertionError(constant)

    values = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"), parse_constant=invalid)
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    return page, path.with_suffix(".md").read_text(encoding="utf-8"), values


def class_map(codes):
    return wrap_xr(codes, make_grid(codes.shape), nodata=0)


def test_values_are_those_of_the_estimate(tmp_path):
    table = assess.estimate_from_counts(COUNTS, [200, 150, 3200], classes=["forest", "water", "crop"])
    notes = ["2 pixels are excluded."]
    path = assess.write_report(tmp_path / "new" / "folder", table, metadata={"Seed": 7}, notes=notes)
    assert sorted(file.name for file in path.parent.iterdir()) == ["report.html", "report.json", "report.md"]
    page, markdown, values = read(path)
    assert values["accuracy"]["overall"]["value"] == table.overall.value
    assert values["accuracy"]["users"]["lower"] == table.users.lower.tolist()
    assert values["accuracy"]["counts"] == COUNTS
    assert values["metadata"] == {"Seed": 7}
    method = "stratified random sample of pixels; Jeffreys intervals, without finite population correction"
    assert values["accuracy"]["method"] == method
    assert f"Method: {method}." in markdown
    for text in (
        f"{100 * table.overall.value:.1f} %",
        f"Method: {method}.",
        f"± {table.area.ci95[2]:,.1f}",
        "2 pixels are excluded.",
        "7",
    ):
        assert text in page.text
        assert text in markdown
    users = [f"{100 * value:.1f} %" for value in table.users.value]
    assert [text for text in page.text if text in users][:3] == users


def test_names_are_text_and_not_markup(tmp_path):
    table = assess.estimate_from_counts(COUNTS, [200, 150, 3200], classes=NAMES)
    metadata = {name: name for name in NAMES}
    path = assess.write_report(tmp_path, table, metadata=metadata, notes=NAMES, title=NAMES[0])
    page, markdown, values = read(path)
    assert "script" not in page.tags
    assert not {name for name, _ in page.attributes if name.startswith("on")}
    assert {*NAMES} <= {*page.text}
    assert values["accuracy"]["classes"] == [*NAMES]
    assert "<script" not in markdown
    assert "[x](" not in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    columns = [len(re.findall(r"(?<!\\)\|", line)) - 1 for line in rows]
    assert columns[:5] == [6] * 5
    assert columns[5:10] == [4] * 5  # the confusion matrix


def test_the_page_loads_no_file(tmp_path):
    codes = np.ones((8, 8), "uint8")
    table = assess.estimate_from_counts(COUNTS, [200, 150, 3200])
    page, _, _ = read(assess.write_report(tmp_path, table, map=class_map(codes)))
    references = [value for name, value in page.attributes if name in {"src", "href", "srcset", "data"}]
    assert len(references) == 1
    assert references[0].startswith("data:image/png;base64,")
    assert "url(" not in "".join(page.text)
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in page.attributes


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("pixels", [19, 1000])
def test_the_map_is_drawn_in_the_colors_of_its_classes(tmp_path, monkeypatch, pixels):
    monkeypatch.setattr(map_strata, "BLOCK", 30)  # no multiple of the step of 4 pixels
    monkeypatch.setattr(report_figures, "PIXELS", pixels)
    codes = np.random.default_rng(0).integers(0, 4, (75, 61)).astype("uint8")
    legend = Legend((1, 3), ("forest", "water"), ("#00ff00", "#0000ff"))  # 2 is of no class
    layer = class_map(codes).assign_attrs(legend.attrs())
    table = assess.estimate_from_counts([[5, 1], [2, 5]], [200, 150], classes=["forest", "water"])
    page, _, _ = read(assess.write_report(tmp_path, table, map=layer))
    data = next(value for name, value in page.attributes if name == "src").partition(",")[2]
    with rasterio.MemoryFile(base64.b64decode(data)) as memory, memory.open() as file:
        index, colors = file.read(1), file.colormap(1)
    step = 4 if pixels == 19 else 1
    drawn = np.array([colors[k] for k in range(len(colors))])[index]
    expected = legend.covering([1, 2, 3]).rgb(codes[::step, ::step])
    valid = codes[::step, ::step] > 0
    assert np.array_equal(drawn[..., :3][valid], expected[valid])
    assert np.array_equal(drawn[..., 3] > 0, valid)
    assert f"2: {100 * (codes == 2).sum() / (codes > 0).sum():.1f} %" in page.text


def test_missing_numbers_are_marked(tmp_path):
    counts = np.zeros((2, 3, 3), int)  # the first stratum has one pixel, and the third class none in the map
    counts[0, 0, 0], counts[1, 1, 1], counts[1, 0, 2] = 1, 5, 2
    with pytest.warns(match="one sampled pixel"):
        table = assess.estimate_from_counts(counts, [10, 20])
    page, markdown, values = read(assess.write_report(tmp_path, table))
    assert values["accuracy"]["overall"]["se"] is None
    assert "not estimable" in page.text
    assert "not estimable" in markdown
    assert not re.search(r"\bnan\b", "".join(page.text))


def test_numbers_instead_of_classes(tmp_path):
    estimate = Estimate(1.5, 0.25, 0.5, 1.0, 2.0)
    table = ContinuousEstimate(**dict.fromkeys(("bias", "rmse", "mae", "r2", "mean", "total"), estimate))
    layer = wrap_xr(np.linspace(0, 1, 64, dtype="float32").reshape(8, 8), make_grid((8, 8)))
    page, _, values = read(assess.write_report(tmp_path, table, map=layer))
    assert page.text.count("1.5 ± 0.5") == 6 + 3
    assert values["accuracy"]["rmse"]["upper"] == 2.0


def test_area_of_applicability(tmp_path):
    bands = np.stack([np.arange(100.0).reshape(10, 10), np.ones((10, 10))]).astype("float32")
    layer = wrap_xr(bands, make_grid((10, 10)), axis=1).rename({"time": "band"}).assign_coords(band=["red", "nir"])
    area = assess.applicability([[10.0, 1.0], [20.0, 1.5], [40.0, 0.5]], layer, importance={"red": 1, "nir": 0})
    table = assess.estimate_from_counts(COUNTS, [200, 150, 3200])
    page, _, values = read(assess.write_report(tmp_path, table, applicability=area))
    assert values["applicability"]["fraction"] == (area["applicable"] == 1).mean()
    assert values["applicability"]["threshold"] == area.attrs["threshold"]
    assert "Area of applicability" in page.text


@dataclass
class Curve:
    prob_pred: np.ndarray
    prob_true: np.ndarray
    counts: np.ndarray
    ece: float = 0.0125
    brier: float = 0.25
    nll: float = 0.5


@dataclass
class Fitted:
    before: Curve
    after: Curve
    temperature: float = 1.5
    pixels: int = 1234
    model: object = None


@dataclass
class Sets:
    classes: tuple
    class_coverage: np.ndarray
    test_pixels: np.ndarray
    sizes: np.ndarray
    alpha: float = 0.1
    coverage: float = 0.912
    coverage_ci95: float = 0.034
    class_coverage_ci95: tuple = (0.05, np.nan, np.nan)
    blocks: tuple = (7, 5)


@dataclass
class Intervals:
    alpha: float = 0.1
    half_width: float = 2.5
    test_pixels: int = 1234
    coverage: float = 0.912
    coverage_ci95: float = np.nan
    blocks: tuple = (7, 5)


def test_calibration_and_conformal_sets(tmp_path):
    table = assess.estimate_from_counts(COUNTS, [200, 150, 3200])
    curve = Curve(np.array([np.nan, 0.75]), np.array([np.nan, 0.5]), np.array([0, 30]))
    sets = Sets(NAMES, np.array([0.9, np.nan, 0.95]), np.array([30, 0, 10]), np.array([0, 30, 10, 0]))
    for calibration in (curve, Fitted(Curve(np.ones(2) / 2, np.ones(2) / 4, np.array([1, 1])), curve)):
        path = assess.write_report(tmp_path, table, calibration=calibration, conformal=sets)
        page, _, values = read(path)
        assert "M239.0 140.0" in [value for name, value in page.attributes if name == "d"]  # 44 + 260 * 0.75, 10 + 130
        assert {"0.0125", "75.0 %", "25.0 %", *NAMES} <= {*page.text}
        assert "91.2 % ± 3.4 % of 40 test pixels in 5 blocks" in "".join(page.text)
        assert {"90.0 % ± 5.0 %", "95.0 %"} <= {*page.text}
        assert "script" not in page.tags
    assert "Temperature 1.500, fitted on 1,234" in "".join(page.text)
    assert values["calibration"]["after"]["prob_true"] == [None, 0.5]
    assert values["conformal"]["class_coverage"] == [0.9, None, 0.95]
    page, _, _ = read(assess.write_report(tmp_path, table, conformal=Intervals()))
    assert "91.2 % of 1,234 test pixels" in "".join(page.text)
    assert "Their half width is 2.5." in "".join(page.text)


def test_model_card_and_grid_are_stated(tmp_path):
    card = Card(
        task="segmentation", model="unet", bands=("red", "<b>"), mean=(0, 0), std=(1, 1), codes=(1, 5),
        names=("forest", "5"), colors=("#00ff00", "#0000ff"), size=(64, 32),
    )  # fmt: skip
    table = assess.estimate_from_counts(COUNTS, [200, 150, 3200])
    layer = class_map(np.ones((8, 6), "uint8")).expand_dims(time=[np.datetime64("2021-05-03T10:00")])
    page, _, values = read(assess.write_report(tmp_path, table, map=layer, model=card))
    for text in ("red, <b>", "forest (1), 5", "64 x 32 pixels", "6 x 8 pixels", "2021-05-03", "30 x 30 m"):
        assert text in page.text
    assert values["model"]["codes"] == [1, 5]


def test_invalid_arguments_raise_and_leave_files(tmp_path):
    table = assess.estimate_from_counts(COUNTS, [200, 150, 3200])
    path = assess.write_report(tmp_path, table)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    dates = xr.concat([class_map(np.ones((4, 4), "uint8"))] * 2, "time")
    for error, options in ((InputError, {"model": 3}), (GridError, {"map": dates})):
        with pytest.raises(error):
            assess.write_report(tmp_path, table, **options)
    small, sampled = class_map(np.ones((4, 4), "uint8")), replace(table, unit="ha")
    named = small.assign_attrs(Legend((1,), ("forest",)).attrs())
    with pytest.raises(InputError, match=r"it covers 1\.44\d* ha, and the assessed area is 3,550 ha"):
        assess.write_report(tmp_path, sampled, map=small)
    with pytest.raises(InputError, match=r"are none of the assessed \['a', 'b', 'c'\]"):
        assess.write_report(tmp_path, replace(sampled, classes=("a", "b", "c")), map=named)
    area = xr.Dataset({"applicable": class_map(np.ones((4, 5), "uint8"))})
    with pytest.raises(GridError, match="applicability is on another grid"):
        assess.write_report(tmp_path, table, map=small, applicability=area)
    with pytest.raises(InputError, match="not an accuracy estimate"):
        assess.write_report(tmp_path, COUNTS)
    with pytest.raises(OutputError):
        assess.write_report(path, table)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
