"""Path templates: filled paths are found and parsed again, invalid templates and fields raise."""

# ruff: noqa: DTZ001 - dates in names are naive

import pickle
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from geoxt.errors import InputError
from geoxt.template import Template

LEVIR = "LEVIR-CD+/{split:train|test}/{time:A|B}/{id}.png"
LANDSAT = r"L{sensor:C|O|T}08_{level:[A-Z0-9]{4}}_{path:3d}{row:3d}_{date:%Y%m%d}_{band:[A-Z0-9_]+}.{_ext:TIF|tif}"
SPACENET = "SN7/{split:train|test}/**/{aoi}/{kind:images|labels}/{time:%Y_%m}_mosaic_{aoi}.tif"
EUROSAT = "2750/{label}/{label}_{n:d}.jpg"

TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\\0", exclude_categories=["C"]), min_size=1, max_size=8
)
DAYS = st.datetimes(datetime(1000, 1, 1), datetime(2200, 1, 1)).map(lambda d: datetime(d.year, d.month, d.day))
FIELDS = {
    LEVIR: {"split": st.sampled_from(["train", "test"]), "time": st.sampled_from("AB"), "id": TEXT},
    LANDSAT: {
        "sensor": st.sampled_from("COT"),
        "level": st.sampled_from(["L1TP", "L2SP"]),
        "path": st.integers(0, 999),
        "row": st.integers(0, 999),
        "date": DAYS,
        "band": st.sampled_from(["SR_B4", "B4", "QA_PIXEL"]),
        "_ext": st.sampled_from(["TIF", "tif"]),
    },
    SPACENET: {
        "split": st.just("train"),
        "aoi": TEXT,
        "kind": st.just("images"),
        "time": DAYS.map(lambda d: d.replace(day=1)),
    },
    EUROSAT: {"label": TEXT, "n": st.integers(0, 10**6)},
    "{a}_{b}/{a}.{c}": {"a": TEXT, "b": TEXT, "c": TEXT},
}


def public_fields(fields):
    return {name: value for name, value in fields.items() if not name.startswith("_")}


@pytest.mark.parametrize("pattern", FIELDS)
@given(data=st.data())
def test_filled_paths_are_matched_found_and_globbed(pattern, data):
    template = Template(pattern)
    fields = data.draw(st.fixed_dictionaries(FIELDS[pattern]))
    try:
        path = template.fill(fields)
    except InputError:
        assume(False)
    assert template.match(path) == public_fields(fields)
    assert template.match(f"https://host/a/{path}", tail=True) == public_fields(fields)
    with tempfile.TemporaryDirectory() as root:
        file = Path(root, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        assert list(template.find(root)) == [(file, public_fields(fields))]
        assert list(Path(root).glob(template.glob())) == [file]
        assert list(Path(root).glob(template.glob(fields))) == [file]


@pytest.mark.parametrize(
    ("pattern", "path", "fields"),
    [
        (LEVIR, "LEVIR-CD+/train/A/train_1.png", {"split": "train", "time": "A", "id": "train_1"}),
        (LEVIR, "LEVIR-CD+/val/A/train_1.png", None),
        (LEVIR, "x/LEVIR-CD+/train/A/train_1.png", None),
        (EUROSAT, "2750/River/River_12.jpg", {"label": "River", "n": 12}),
        (EUROSAT, "2750/River/Forest_12.jpg", None),
        (EUROSAT, "2750/River/River_012.jpg", None),
        ("{n:2d}.tif", "012.tif", None),
        ("{id}.png", "._a.png", None),
        ("{id}.png", "a/b.png", None),
        ("{x:.*}.png", "a/b.png", None),
        ("{x:[a-z]{3}}{n:2d}.tif", "abc07.tif", {"x": "abc", "n": 7}),
        ("{date:%Y%m%d}.tif", "20190231.tif", None),
        ("{date:%Y%m%d}.tif", "20190228.tif", {"date": datetime(2019, 2, 28)}),
        ("{d:%Y%m%dt%H%M%S}_{_pol:vv|vh}.png", "20170314t115609_vv.png", {"d": datetime(2017, 3, 14, 11, 56, 9)}),
        ("**/{id}.tif", "a/b/c.tif", {"id": "c"}),
        ("**/{id}.tif", "c.tif", {"id": "c"}),
        ("{a}_{b}/{a}.tif", "x_y_z/x_y.tif", {"a": "x_y", "b": "z"}),
    ],
)
def test_match_returns_fields_or_none(pattern, path, fields):
    assert Template(pattern).match(path) == fields


@pytest.mark.parametrize(
    ("form", "value", "first", "last"),
    [
        ("%Y", datetime(2020, 1, 1), "2020-01-01T00:00:00", "2020-12-31T23:59:59.999999"),
        ("%Y_%m", datetime(2020, 2, 1), "2020-02-01T00:00:00", "2020-02-29T23:59:59.999999"),
        ("%Y-%m", datetime(2020, 12, 1), "2020-12-01T00:00:00", "2020-12-31T23:59:59.999999"),
        ("%Y%m%d", datetime(2020, 12, 31), "2020-12-31T00:00:00", "2020-12-31T23:59:59.999999"),
        ("%Y%j", datetime(2020, 12, 31), "2020-12-31T00:00:00", "2020-12-31T23:59:59.999999"),
        ("%Y%m%dT%H", datetime(2020, 1, 1, 23), "2020-01-01T23:00:00", "2020-01-01T23:59:59.999999"),
        ("%Y%m%dT%H%M", datetime(2020, 1, 1, 5, 6), "2020-01-01T05:06:00", "2020-01-01T05:06:59.999999"),
        ("%Y%m%dT%H%M%S", datetime(2020, 1, 1, 5, 6, 7), "2020-01-01T05:06:07", "2020-01-01T05:06:07.999999"),
        (
            "%Y%m%d%H%M%S%f",
            datetime(2020, 1, 1, 5, 6, 7, 8),
            "2020-01-01T05:06:07.000008",
            "2020-01-01T05:06:07.000008",
        ),
    ],
)
def test_interval_covers_units_smaller_than_date_form(form, value, first, last):
    template = Template(f"a_{{date:{form}}}_{{made:%Y}}.tif")
    fields = template.match(template.fill({"date": value, "made": datetime(2024, 1, 1)}))
    assert template.interval(fields) == (datetime.fromisoformat(first), datetime.fromisoformat(last))


def test_interval_ends_with_field_named_stop():
    template = Template("{start:%Y}_{stop:%Y}.tif")
    assert template.interval(template.match("2013_2014.tif")) == (
        datetime(2013, 1, 1),
        datetime(2014, 12, 31, 23, 59, 59, 999999),
    )
    assert Template("{id}.tif").interval({"id": "a"}) is None


def test_date_objects_fill_date_fields():
    assert Template("{date:%Y%m%d}.tif").fill({"date": date(2020, 1, 2)}) == "20200102.tif"


def test_names_choices_and_pickle():
    template = Template(LEVIR)
    assert template.names == ("split", "time", "id")
    assert Template(LANDSAT).names == ("sensor", "level", "path", "row", "date", "band")
    assert template.choices("split") == ("train", "test")
    assert template.choices("id") == template.choices("no") == ()
    assert str(template) == LEVIR
    assert pickle.loads(pickle.dumps(template)) == template


def test_glob_escapes_literal_text():
    assert Template("a[1]/{x}.tif").glob() == "a[[]1]/*.tif"
    assert Template("**/{x:a|b}/{n:d}.tif").glob({"x": "a"}) == "**/a/*.tif"


def test_find_sorts_by_name_and_lists_only_levels_with_fields(tmp_path):
    for name in ["fix/b/2.tif", "fix/b/10.tif", "fix/a/1.tif", "fix/a/x.tif", "fix/a.tif", "other/a/1.tif"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    matches = [fields for _, fields in Template("fix/{k}/{n:d}.tif").find(tmp_path)]
    assert matches == [{"k": "a", "n": 1}, {"k": "b", "n": 10}, {"k": "b", "n": 2}]
    assert list(Template("none/{k}.tif").find(tmp_path)) == []
    assert list(Template("fix/a.tif/{k}.tif").find(tmp_path)) == []
    assert [path.name for path, _ in Template("{k}").find(tmp_path)] == ["fix", "other"]
    with pytest.raises(InputError, match="is not a folder"):
        list(Template("{k}.tif").find(tmp_path / "none"))


@pytest.mark.parametrize(
    "pattern",
    [
        *["", "/a.tif", "a//{b}.tif", "../{a}.tif", "{a", "a}", "{1a}.tif", "{}.tif", "{a:%b}.tif", "{a:%H}.tif"],
        *["{a:%Y%Y}", "{a:[}.tif", "{a:(?P<x>.)}", "{a:x|y}_{a:z}", "{a}**/b.tif", "a/**", "{a b}.tif"],
    ],
)
def test_invalid_template_raises(pattern):
    with pytest.raises(InputError, match=r"Cannot (parse|use|compile)"):
        Template(pattern)


@pytest.mark.parametrize(
    ("pattern", "fields", "message"),
    [
        ("{a}_{b}.tif", {"a": "x"}, "no value for b"),
        ("{a}.tif", {"a": "x", "c": "y"}, "no field named c"),
        ("{a}_{b}.tif", {"a": "x_y", "b": "z"}, "would be parsed as other fields"),
        ("{a}.tif", {"a": "x/y"}, "within one folder level"),
        ("{a}.tif", {"a": ""}, "within one folder level"),
        ("{a}.tif", {"a": ".x"}, "would be parsed"),
        ("{a}.tif", {"a": 3}, "within one folder level"),
        ("{n:3d}.tif", {"n": 1000}, "its form is '3d'"),
        ("{n:3d}.tif", {"n": "7"}, "its form is '3d'"),
        ("{n:d}.tif", {"n": -1}, "its form is 'd'"),
        ("{n:d}.tif", {"n": True}, "its form is 'd'"),
        ("{s:a|b}.tif", {"s": "c"}, r"its form is 'a\|b'"),
        ("{d:%Y%m%d}.tif", {"d": datetime(2020, 1, 1, 12)}, "its form is '%Y%m%d'"),
        ("{d:%Y%m%d}.tif", {"d": datetime(2020, 1, 1, tzinfo=UTC)}, "its form is '%Y%m%d'"),
        ("{d:%Y%m%d}.tif", {"d": "20200101"}, "its form is '%Y%m%d'"),
    ],
)
def test_fields_that_do_not_fit_raise(pattern, fields, message):
    with pytest.raises(InputError, match=message):
        Template(pattern).fill(fields)
