"""`geoxt sample`, `geoxt assess` and `geoxt polygonize`: results of the functions, and invalid references."""

import json

import numpy as np
import pytest
import shapely

import geoxt
from geoxt import assess
from geoxt.cli import main
from geoxt.models import Card, Network
from geoxt.models.network import save_checkpoint
from geoxt.testing import make_grid, write_cog
from geoxt.writers import polygonize

geopandas = pytest.importorskip("geopandas")
GRID = make_grid((40, 60))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A map of three classes without names, labels that differ in a tenth of the pixels, and a labeled sample."""
    path, rng = tmp_path_factory.mktemp("maps"), np.random.default_rng(0)
    codes = np.kron(rng.integers(1, 4, (4, 6)), np.ones((10, 10))).astype("uint8")
    codes[:4, :4] = 0
    write_cog(path / "map.tif", codes[None], grid=GRID, nodata=0)
    write_cog(path / "labels.tif", np.where(rng.random(codes.shape) < 0.9, codes, 1)[None], grid=GRID, nodata=0)
    write_cog(path / "numbers.tif", rng.random((1, 40, 60)).astype("float32"), grid=GRID)
    assert main(["sample", str(path / "map.tif"), "--n", "60", "--seed", "3", "--out", str(path / "sample.gpkg")]) == 0
    sample = geopandas.read_file(path / "sample.gpkg", layer=0)
    sample["reference"] = sample["map_class"]
    sample.loc[:5, "reference"] = "1"
    sample.to_file(path / "labeled.gpkg")
    return path


@pytest.fixture
def labeled(folder):
    return geopandas.read_file(folder / "labeled.gpkg")


def assess_sample(folder, out, sample, *options):
    """Run `geoxt assess` with a sample, and return the exit code."""
    path = sample if isinstance(sample, str) else str(out / "changed.gpkg")
    if not isinstance(sample, str):
        sample.to_file(path)
    return main(
        ["assess", "--map", str(folder / "map.tif"), "--reference", path, "--out", str(out / "report"), *options]
    )


def values_of(out):
    return json.loads((out / "report" / "report.json").read_text())


def test_sample_equals_that_of_the_function(folder, capsys):
    sample = geopandas.read_file(folder / "sample.gpkg", layer=0)
    expected = assess.sample_design(geoxt.open_cogs(folder / "map.tif"), 60, seed=3)
    assert sample["row"].tolist() == expected["row"].tolist()
    assert sample["reference"].isna().all()
    out = folder / "all.gpkg"
    assert main(["sample", str(folder / "map.tif"), "--n", "9", "--strata", "none", "--out", str(out)]) == 0
    assert "9 of 2,384 pixels" in capsys.readouterr().out
    options = ["--n", "9", "--strata", str(folder / "labels.tif"), "--out", str(out)]  # without names of classes
    assert main(["sample", str(folder / "map.tif"), *options]) == 0
    assert {*geopandas.read_file(out, layer=0)["stratum"]} == {"1", "2", "3"}
    expected = ["--target-se", "0.05", "--expected", "1=0.9", "2=0.8", "3=0.7"]
    assert main(["sample", str(folder / "map.tif"), *expected, "--out", str(out)]) == 0


def test_report_of_a_sample_equals_the_estimate(folder, tmp_path, capsys, labeled):
    metadata = ["--metadata", "Dates=2021-05-03", "Split=<b>=2"]
    assert assess_sample(folder, tmp_path, labeled.to_crs("EPSG:4326"), "--interval", "exact", *metadata) == 0
    table = assess.estimate(labeled, geoxt.open_cogs(folder / "map.tif"), interval="exact")
    values = values_of(tmp_path)
    assert values["accuracy"]["overall"]["value"] == pytest.approx(table.overall.value)
    assert values["accuracy"]["users"]["lower"] == pytest.approx(table.users.lower.tolist())
    assert values["metadata"]["Dates"] == "2021-05-03"
    assert "&lt;b&gt;=2" in (tmp_path / "report" / "report.html").read_text()
    assert repr(table) in capsys.readouterr().out


def test_report_of_labels_equals_the_estimate(folder, tmp_path):
    arguments = ["--map", str(folder / "map.tif"), "--reference", str(folder / "labels.tif")]
    assert main(["assess", *arguments, "--out", str(tmp_path / "report"), "--n-boot", "50"]) == 0
    layers = [geoxt.open_cogs(folder / name, categorical=True) for name in ("map.tif", "labels.tif")]
    legend = geoxt.Legend((1, 2, 3), ("1", "2", "3"))
    table = assess.estimate_from_labels(layers[0], layers[1].assign_attrs(legend.attrs()), block=4, n_boot=50)
    assert values_of(tmp_path)["accuracy"]["overall"]["ci95"] == pytest.approx(table.overall.ci95)
    assert values_of(tmp_path)["metadata"]["Blocks"] == "4 x 4 pixels"
    assert values_of(tmp_path)["accuracy"]["method"] == table.method


def test_classes_that_map_or_labels_lack_are_noted(folder, tmp_path, capsys):
    labels = geoxt.open_cogs(folder / "labels.tif").to_numpy()
    write_cog(tmp_path / "other.tif", np.where(labels == 2, 9, labels), grid=GRID, nodata=0)
    arguments = ["--map", str(folder / "map.tif"), "--reference", str(tmp_path / "other.tif"), "--n-boot", "9"]
    assert main(["assess", *arguments, "--out", str(tmp_path / "report")]) == 0
    printed, notes = capsys.readouterr().out, values_of(tmp_path)["notes"]
    assert "The labels have classes that the map lacks: ['9']." in notes
    assert all(f"note: {note}" in printed for note in notes)


def test_uncertainty_of_a_model(folder, tmp_path, capsys):
    card = Card(
        task="segmentation", model="fcn", options={"width": 2, "layers": 1}, bands=("band_1",), mean=(0,), std=(1,),
        codes=(1, 2, 3), names=("1", "2", "3"), colors=("#ff0000", "#00ff00", "#0000ff"), size=(32, 32),
    )  # fmt: skip
    model = save_checkpoint(Network(card), tmp_path / "model.ckpt")
    options = ["--model", str(model), "--image", str(folder / "numbers.tif"), "--n-boot", "9"]
    labels = str(folder / "labels.tif")
    assert assess_sample(folder, tmp_path, labels, *options, "--block", "10", "--alpha", "0.2") == 0
    values = values_of(tmp_path)
    assert values["conformal"]["alpha"] == 0.2
    assert sum(values["conformal"]["sizes"]) == sum(values["conformal"]["test_pixels"])
    assert values["calibration"]["pixels"] == np.count_nonzero(geoxt.open_cogs(labels).to_numpy())
    assert "Calibration" in (tmp_path / "report" / "report.html").read_text()
    assert assess_sample(folder, tmp_path, labels, *options, "--alpha", "1") == 2
    assert "--alpha" in capsys.readouterr().err
    assert assess_sample(folder, tmp_path, str(folder / "labeled.gpkg"), *options) == 2
    assert "a raster as --reference" in capsys.readouterr().err


def test_area_of_applicability_of_training_points(folder, tmp_path, capsys):
    centers = GRID.affine @ (np.array([[5, 20, 40, 55], [8, 30, 20, 12]]) + 0.5)
    points = geopandas.GeoDataFrame({"fold": [0, 0, 1, 1]}, geometry=geopandas.points_from_xy(*centers), crs=GRID.crs)
    points.to_file(tmp_path / "training.gpkg")
    options = ["--image", str(folder / "numbers.tif"), "--training", str(tmp_path / "training.gpkg"), "--folds", "fold"]
    sample = str(folder / "labeled.gpkg")
    assert assess_sample(folder, tmp_path, sample, *options) == 0
    area = assess.applicability(points, geoxt.open_cogs(folder / "numbers.tif"), folds=points["fold"].to_numpy())
    values = values_of(tmp_path)
    method = "stratified random sample of pixels; Jeffreys intervals, with finite population correction"
    assert values["accuracy"]["method"] == method
    assert values["notes"] == [text for text in values["notes"] if "Calibration and conformal sets are not" in text]
    assert f"note: {values['notes'][0]}" in capsys.readouterr().out
    assert values["applicability"]["fraction"] == (area["applicable"] == 1).to_numpy().mean()
    assert values["applicability"]["threshold"] == area.attrs["threshold"]
    for wrong, text in {
        (*options[:2], "--training", str(folder / "map.tif")): "Pass --training as a vector file",
        (*options[:5], "field"): "Pass --folds, the name of a column",
        (*options[2:4],): "Pass --image",
        (*options[2:4], "--image", str(folder / "none.tif")): "none.tif",
    }.items():
        assert assess_sample(folder, tmp_path, sample, *wrong) == 2
        assert text in capsys.readouterr().err


def outside(frame):
    frame.loc[:1, "geometry"] = frame.geometry[:2].translate(1e6)
    return frame


def on_nodata(frame):
    frame.loc[0, "geometry"] = shapely.Point(GRID.affine @ (1.5, 1.5))
    return frame


def unlabeled(frame):
    return frame.assign(reference=frame["reference"].where(frame.index > 3))


def repeated(frame):
    return frame.assign(id=frame["id"].replace(2, 1))


INVALID = {
    outside: "2 of 60 sampled pixels lie outside the map",
    on_nodata: "1 of 60 sampled pixels lie on nodata",
    unlabeled: "4 of 60 sampled pixels have no reference: 2 of 20 in '1', 1 of 20 in '2', 1 of 20 in '3'. Label them. "
    "Or pass --unlabeled exclude",
    repeated: "the ids [1] are repeated",
    lambda frame: frame[:0]: "a sample without pixels",
    lambda frame: frame.drop(columns="stratum"): "without the columns ['stratum']",
    lambda frame: frame.assign(geometry=frame.buffer(1)): "its geometries are Polygon",
    lambda frame: frame.set_crs(None, allow_override=True): "no CRS",
}


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
@pytest.mark.parametrize("number", range(len(INVALID)))
def test_invalid_samples_raise(folder, tmp_path, capsys, labeled, number):
    change, text = [*INVALID.items()][number]
    assert assess_sample(folder, tmp_path, change(labeled)) == 2
    error = capsys.readouterr().err
    assert text in error
    assert len(error.splitlines()) == 1
    assert not [*tmp_path.glob("report/*.html")]


def test_invalid_options_raise(folder, tmp_path, capsys, labeled):
    labeled["plot"] = [None, *range(1, len(labeled))]
    for options, text in {
        ("--cluster", "field"): "'field' of the sample: it has no such column. Pass --cluster",
        ("--cluster", "plot"): "'plot' of the sample: some pixels have none",
        ("--column", "label"): "Or pass --column for another column",
        ("--metadata", "label"): "Pass --metadata NAME=VALUE",
        ("--model", str(folder / "map.tif")): "Cannot read the checkpoint",
        ("--map", str(folder / "none.tif")): "none.tif",
    }.items():
        assert assess_sample(folder, tmp_path, labeled, *options) == 2
        assert text in capsys.readouterr().err
    labels = str(folder / "labels.tif")
    assert assess_sample(folder, tmp_path, labels, "--block", "0") == 2
    assert "Pass --block" in capsys.readouterr().err
    text = labeled.assign(reference="forest")
    assert assess_sample(folder, tmp_path, text, "--map", str(folder / "numbers.tif")) == 2
    assert "Pass a --map of class codes" in capsys.readouterr().err
    assert not [*tmp_path.glob("report/*.html")]


def single(frame):
    return frame[(frame["stratum"] != "2") | ~frame["stratum"].duplicated()]


EXCLUDED = {
    unlabeled: "4 of 60 sampled pixels have no reference and are excluded: 2 of 20 in '1', 1 of 20 in '2', 1 of 20 in "
    "'3'. The estimates assume that references are missing at random in strata.",
    single: "The strata ['2'] have one sampled pixel each: no variance can be estimated, standard errors are NaN.",
    lambda frame: frame.assign(
        reference=frame["reference"].where(frame.index > 2, "lake")
    ): "The reference has classes that the sampled pixels of the map lack: ['lake'].",
    lambda frame: frame.assign(
        reference=frame["reference"].replace("3", "1")
    ): "The map has classes that no reference has: ['3'].",
}


@pytest.mark.parametrize("number", range(len(EXCLUDED)))
def test_exclusions_and_gaps_are_in_the_report(folder, tmp_path, capsys, labeled, number):
    change, text = [*EXCLUDED.items()][number]
    assert assess_sample(folder, tmp_path, change(labeled), "--unlabeled", "exclude") == 0
    assert f"note: {text}" in capsys.readouterr().out
    assert text in values_of(tmp_path)["notes"]
    for suffix in ("html", "md"):
        page = (tmp_path / "report" / f"report.{suffix}").read_text()
        assert text.replace("'", "&#x27;") in page if suffix == "html" else "Notes" in page


def test_polygons_equal_those_of_the_function(folder, tmp_path, capsys):
    out = tmp_path / "map.gpkg"
    options = ["--min-area", "5", "--probability", str(folder / "numbers.tif"), "--connectivity", "8"]
    assert main(["polygonize", str(folder / "map.tif"), "--out", str(out), *options]) == 0
    probability = geoxt.open_cogs(folder / "numbers.tif")
    layer = geoxt.open_cogs(folder / "map.tif")
    expected = polygonize(layer, min_area=5, connectivity=8, probability=probability)
    written = geopandas.read_file(out)
    assert written["class"].tolist() == expected["class"].tolist()
    assert written["area"].tolist() == pytest.approx(expected["area"].tolist())
    assert written["probability"].tolist() == pytest.approx(expected["probability"].tolist())
    assert main(["polygonize", str(folder / "map.tif"), "--out", str(out), "--min-area", "-1"]) == 2
    assert "Pass --min-area of 0 or more" in capsys.readouterr().err
