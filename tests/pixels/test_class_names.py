"""Class names of GDAL's raster attribute tables and category names, in sidecars and in ERDAS Imagine files."""

import shutil
import struct

import numpy as np
import pytest
import rasterio
import rasterio.shutil

import geoxt
from geoxt.legend import Legend
from geoxt.testing import make_grid, write_cog

CODES = np.array([[1, 5, 7, 1]] * 4, "uint8")
NAMES = {1: "corn field", 5: "rice"}
COLORS = {1: (255, 211, 0), 5: (38, 112, 0)}


def attribute_table(rows, *, usage=5, name="Value", name_usage=2):
    fields = [(name, 0, usage), ("Crop", 2, name_usage), ("R", 0, 6), ("G", 0, 7), ("B", 0, 8)]
    parts = [
        f'<FieldDefn index="{i}"><Name>{title}</Name><Type>{kind}</Type><Usage>{use}</Usage></FieldDefn>'
        for i, (title, kind, use) in enumerate(fields)
    ]
    for i, row in enumerate(rows):
        parts.append(f'<Row index="{i}">' + "".join(f"<F>{cell}</F>" for cell in row) + "</Row>")
    return f'<GDALRasterAttributeTable tableType="thematic">{"".join(parts)}</GDALRasterAttributeTable>'


def write(path, content, *, dtype="uint8", count=1):
    values = np.stack([CODES] * count).astype(dtype)
    write_cog(path, values, grid=make_grid((4, 4)), tiled=False, nodata=0)
    document = f'<PAMDataset><PAMRasterBand band="1">{content}</PAMRasterBand></PAMDataset>'
    path.with_name(f"{path.name}.aux.xml").write_text(document, encoding="utf-8")
    return str(path)


ROWS = [(code, NAMES[code], *COLORS[code]) for code in NAMES]
LEGEND = Legend((1, 5), ("corn field", "rice"), ("#ffd300", "#267000"))


@pytest.mark.parametrize("kwargs", [{}, {"usage": 0}, {"usage": 0, "name": "CODE"}, {"usage": 3}])
def test_attribute_tables_in_sidecars_are_the_legend(tmp_path, kwargs):
    layer = geoxt.open_cogs(write(tmp_path / "crops.tif", attribute_table(ROWS, **kwargs)))
    assert Legend.of(layer) == LEGEND
    assert layer.dims == ("y", "x")


def test_attribute_tables_of_imagine_files_are_the_legend(tmp_path):
    crops = write(tmp_path / "crops.tif", attribute_table(ROWS))
    rasterio.shutil.copy(crops, tmp_path / "crops.img", driver="HFA")
    (tmp_path / "alone").mkdir()
    image = shutil.copy(tmp_path / "crops.img", tmp_path / "alone")  # without its sidecar
    assert Legend.of(geoxt.open_cogs(str(image))) == LEGEND


def test_category_names_are_the_legend(tmp_path):
    names = "".join(f"<Category>{name}</Category>" for name in ("", "corn field", "", "", "", "rice"))
    layer = geoxt.open_cogs(write(tmp_path / "crops.tif", f"<CategoryNames>{names}</CategoryNames>"))
    assert Legend.of(layer).codes == (1, 5)
    assert Legend.of(layer).names == ("corn field", "rice")


@pytest.mark.parametrize(
    ("content", "kwargs"),
    [
        (attribute_table([]), {}),
        (attribute_table(ROWS, name_usage=0), {}),  # no names, such as a histogram
        (attribute_table([("1.5", "a", 0, 0, 0)]), {}),
        (attribute_table([("low", "a", 0, 0, 0)]), {}),
        (attribute_table(ROWS) + "<", {}),
        (attribute_table(ROWS), {"dtype": "float32"}),
        (attribute_table(ROWS), {"count": 2}),
    ],
)
def test_tables_without_names_of_whole_codes_are_no_legend(tmp_path, content, kwargs):
    assert "flag_values" not in geoxt.open_cogs(write(tmp_path / "crops.tif", content, **kwargs)).attrs


def write_dbase(path, fields, rows):
    """Write a dBASE table; fields: title, type, and size."""
    width = 1 + sum(size for _, _, size in fields)
    parts = [struct.pack("<4BIHH20x", 3, 126, 1, 1, len(rows), 33 + 32 * len(fields), width)]
    parts += [struct.pack("<11sc4xB15x", title.encode(), kind.encode(), size) for title, kind, size in fields]
    lines = [" " + "".join(f"{c:<{s}}" for c, (_, _, s) in zip(row, fields, strict=True)) for row in rows]
    path.write_bytes(b"".join(parts) + b"\r" + "".join(lines).encode() + b"\x1a")


NUMBERS = [("VALUE", "N", 9), ("COUNT", "N", 9)]
RGB = [("Red", "N", 6), ("Green", "N", 6), ("Blue", "N", 6)]


@pytest.mark.parametrize("text", [["CLASS_NAME"], ["LandCover"], ["Group", "Class"], ["EVT_NAME", "NAME"]])
def test_esri_attribute_tables_are_the_legend(tmp_path, text):
    path = tmp_path / "crops.tif"
    write_cog(path, CODES[None], grid=make_grid((4, 4)), tiled=False)
    layer = geoxt.open_cogs(str(path))
    assert "flag_values" not in layer.attrs
    fields = [*NUMBERS, *((title, "C", 12) for title in text), *RGB]
    rows = [(code, 3, *["other"] * (len(text) - 1), NAMES[code], *COLORS[code]) for code in NAMES]
    write_dbase(tmp_path / "crops.tif.vat.dbf", fields, rows)
    layer = geoxt.open_cogs(str(path))
    assert Legend.of(layer) == LEGEND
    assert layer.dims == ("y", "x")


def test_fractions_in_an_esri_attribute_table_are_no_colors(tmp_path):
    path = tmp_path / "crops.tif"
    write_cog(path, CODES[None], grid=make_grid((4, 4)), tiled=False)
    rows = [(code, 3, NAMES[code], 0.5, 1, 0) for code in NAMES]
    write_dbase(tmp_path / "crops.tif.vat.dbf", [*NUMBERS, ("NAME", "C", 12), *RGB], rows)
    attrs = geoxt.open_cogs(str(path)).attrs
    assert list(attrs["flag_values"]) == [1, 5]
    assert attrs["flag_colors"] == "#2e76b8 #c2d864"  # the default ones


@pytest.mark.parametrize("case", ["two texts", "no value", "cut", "ranges", "empty"])
def test_esri_tables_without_names_of_codes_are_no_legend(tmp_path, case):
    path, table = tmp_path / "crops.tif", tmp_path / "crops.tif.vat.dbf"
    write_cog(path, CODES[None], grid=make_grid((4, 4)), tiled=False)
    texts = [("A", "C", 9), ("B", "C", 9)] if case == "two texts" else [("NAME", "C", 18)]
    value = [("OID" if case == "no value" else "VALUE", "C" if case == "ranges" else "N", 9)]
    code = "1-3" if case == "ranges" else 1
    write_dbase(table, [*value, *texts], [(code, *(["corn"] * len(texts)))])
    if case in {"cut", "empty"}:
        table.write_bytes(table.read_bytes()[: 40 if case == "cut" else 0])
    assert "flag_values" not in geoxt.open_cogs(str(path)).attrs


def test_names_of_an_attribute_table_win_over_a_color_table_without_names(tmp_path):
    path = tmp_path / "crops.tif"
    write_cog(path, CODES[None], grid=make_grid((4, 4)), tiled=False)
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {0: (0, 0, 0, 0), **COLORS})
    table = attribute_table([(code, name, "", "", "") for code, name in NAMES.items()])
    document = f'<PAMDataset><PAMRasterBand band="1">{table}</PAMRasterBand></PAMDataset>'
    path.with_name("crops.tif.aux.xml").write_text(document, encoding="utf-8")
    assert Legend.of(geoxt.open_cogs(str(path))) == LEGEND
