"""The command line: one sentence and exit code 2 for input that cannot do, before any time is spent on it."""

import subprocess
import sys

import numpy as np
import pytest

from geoxt import __version__
from geoxt.cli import main
from geoxt.testing import make_grid, write_cog


@pytest.fixture
def write(tmp_path):
    """Write an image (image.tif) or labels (labels.tif) of 96 x 96 pixels, and return the path as text."""
    rng = np.random.default_rng(0)

    def make(name, values=None, **grid):
        if values is None:
            shape = (3, 96, 96) if name == "image.tif" else (96, 96)
            values = rng.integers(1, 200 if name == "image.tif" else 4, shape).astype("uint8")
        return str(write_cog(tmp_path / name, values, grid=make_grid((96, 96), **grid), nodata=0, blocksize=128))

    return make


def refused(capsys, *argv):
    """Run a command that must fail, and return its one line on stderr."""
    assert main([*map(str, argv)]) == 2
    said = capsys.readouterr()
    lines = said.err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("geoxt: Cannot ")
    assert "train " not in said.out
    return lines[0]


def test_files_that_match_nothing(capsys, tmp_path, write):
    line = refused(capsys, "demo", "--out", tmp_path / "out", "--image", tmp_path / "no*.tif", "--labels", "x.tif")
    assert "no*.tif" in line
    image = write("image.tif")
    line = refused(capsys, "demo", "--out", tmp_path / "out", "--image", image, "--labels", tmp_path / "none.tif")
    assert "none.tif" in line


def test_a_file_that_is_no_raster(capsys, tmp_path, write):
    (tmp_path / "text.tif").write_text("no raster")
    image = write("image.tif")
    line = refused(capsys, "demo", "--out", tmp_path / "out", "--image", image, "--labels", tmp_path / "text.tif")
    assert "text.tif" in line


def test_a_raster_without_a_crs(capsys, tmp_path, write):
    image, labels = write("image.tif", crs=None), write("labels.tif")
    line = refused(capsys, "demo", "--out", tmp_path / "out", "--image", image, "--labels", labels)
    assert "image.tif on Earth: the file has no CRS. Pass --image files" in line
    assert "crs=" not in line


def test_remedies_are_those_of_the_command_line_not_of_python(capsys, tmp_path, write):
    image, labels = write("image.tif"), write("labels.tif")
    finer = str(
        write_cog(tmp_path / "finer.tif", np.ones((3, 96, 96), "uint8"), grid=make_grid((96, 96), resolution=15.0))
    )
    out = tmp_path / "out"
    line = refused(capsys, "demo", "--out", out, "--image", image, finer, "--labels", labels)
    assert "Pass --image files of one grid" in line
    assert "resolution=" not in line
    line = refused(capsys, "demo", "--out", out, "--image", image, "--labels", finer)
    assert "3 bands. Pass --labels one band" in line
    assert "bands=" not in line


def test_metres_under_a_crs_in_degrees(capsys, tmp_path, write):
    image, labels = write("image.tif"), write("labels.tif", crs="EPSG:4326")
    line = refused(capsys, "demo", "--out", tmp_path / "out", "--image", image, "--labels", labels)
    assert "'labels' on Earth: its CRS EPSG:4326 counts degrees" in line
    assert not (tmp_path / "out").exists()


def test_a_file_cut_short_leaves_nothing_behind(capsys, tmp_path, write):
    labels = write("labels.tif")
    noise = np.random.default_rng(0).integers(1, 200, (3, 96, 96)).astype("uint8")
    image = write_cog(tmp_path / "image.tif", noise, grid=make_grid((96, 96)), nodata=0, blocksize=32)
    image.write_bytes(image.read_bytes()[: -(image.stat().st_size // 3)])
    line = refused(capsys, "demo", "--out", tmp_path / "new" / "out", "--image", image, "--labels", labels)
    assert "image.tif" in line
    assert "errors=" not in line
    assert not (tmp_path / "new").exists()


def test_layers_that_do_not_overlap(capsys, tmp_path, write):
    image, labels = write("image.tif"), write("labels.tif", left=900_000.0)
    line = refused(capsys, "demo", "--out", tmp_path / "out", "--image", image, "--labels", labels)
    assert "'image' lies in" in line
    assert "'labels' lies in" in line


def test_labels_with_more_classes_than_expected(capsys, tmp_path, write):
    image, labels = write("image.tif"), write("labels.tif")
    out = tmp_path / "out"
    line = refused(capsys, "demo", "--out", out, "--image", image, "--labels", labels, "--classes", 2)
    assert "more than the 2 classes expected" in line
    ramp = write("ramp.tif", (np.arange(96 * 96) % 5000 + 1).astype("uint16").reshape(96, 96))
    assert "more than the 64" in refused(capsys, "demo", "--out", out, "--image", image, "--labels", ramp)
    height = write("height.tif", np.random.default_rng(0).random((96, 96)).astype("float32"))
    assert "is no whole number" in refused(capsys, "demo", "--out", out, "--image", image, "--labels", height)


def test_an_output_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").touch()
    line = refused(capsys, "demo", "--out", tmp_path / "file" / "out")
    assert "file/out" in line
    (tmp_path / "out" / "map.tif").mkdir(parents=True)
    assert "it is a folder" in refused(capsys, "demo", "--out", tmp_path / "out")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--image", "{image}"], "pass --labels as well"),
        (["--labels", "{labels}"], "pass --image as well"),
        (["--epochs", "0"], "--epochs 0: pass --epochs 1 or more"),
        (["--seed", "-1"], "--seed -1"),
        (["--block", "-5"], "--block -5: pass --block 1 or more"),
        (["--block", "0"], "--block 0"),
        (["--size", "0"], "--size 0"),
        (["--classes", "0"], "--classes 0: pass --classes 2 or more"),
        (["--model", "u-net"], "named 'u-net'"),
        (
            ["--image", "{image}", "--labels", "{labels}", "--block", "16", "--size", "32"],
            "windows of 32 px in blocks of 16",
        ),
        (
            ["--image", "{image}", "--labels", "{labels}", "--block", "96"],
            "Cannot split 96 x 96 px into training, validation and test by blocks of 96 px",
        ),
    ],
)
def test_options_that_contradict_the_data_or_each_other(capsys, tmp_path, write, argv, message):
    paths = {"image": write("image.tif"), "labels": write("labels.tif")}
    assert message in refused(capsys, "demo", "--out", tmp_path / "out", *[one.format(**paths) for one in argv])


def test_files_of_ones_own_from_the_shell(capsys, tmp_path, write):
    labels = np.kron(np.random.default_rng(0).integers(1, 4, (12, 12)), np.ones((8, 8))).astype("uint8")
    write("image.tif", np.stack([labels * 50, labels, 9 - labels]))
    labels[40:] = 0
    argv = [
        "--labels",
        write("labels.tif", labels.astype("float32")),
        "--epochs",
        "2",
        "--model",
        "test_unet",
        "--block",
        "24",
        "--size",
        "24",
    ]
    assert main(["demo", "--out", str(tmp_path / "out"), "--image", str(tmp_path / "im*.tif"), *argv]) == 0
    said = capsys.readouterr()
    assert "epoch 2/2" in said.out
    assert "classes (float32, taken as whole numbers)" in said.out
    assert "held-out blocks that have labels" in said.out
    assert "so few that another --seed may score otherwise" in said.out
    assert said.err == ""


def test_the_version_needs_no_torch():
    code = (
        "import sys; from geoxt.cli import main\ntry: main(['--version'])\nfinally: assert 'torch' not in sys.modules"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == f"geoxt {__version__}\n"


def test_no_command_at_all_is_a_usage_error(capsys):
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "COMMAND" in capsys.readouterr().err


def test_labels_of_one_class(capsys, tmp_path, write):
    image, labels = write("image.tif"), write("labels.tif", np.ones((96, 96), "uint8"))
    line = refused(capsys, "demo", "--out", tmp_path / "out", "--image", image, "--labels", labels)
    assert "two classes or more" in line


def test_labels_among_the_images_files(capsys, tmp_path, write):
    write("image.tif")
    labels = write("labels.tif")
    line = refused(capsys, "demo", "--out", tmp_path / "out", "--image", tmp_path / "*.tif", "--labels", labels)
    assert "leaves it out" in line


def test_an_interrupt_while_training_ends_with_the_shells_code(monkeypatch, capsys, tmp_path, write):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("geoxt.trainers.tasks.module.Task.training_step", stop)
    out = tmp_path / "out"
    out.mkdir()
    older = {out / name for name in ("map.tif", "map.tif.aux.xml", "metrics.json", "samples.png")}
    for path in older:
        path.write_text("older")
    files = ["--image", write("image.tif"), "--labels", write("labels.tif")]
    assert main(["demo", "--out", str(out), *files, "--model", "test_unet", "--epochs", "1"]) == 130
    assert capsys.readouterr().err.endswith("geoxt: interrupted\n")
    assert {path for path in out.iterdir() if path.read_text() == "older"} == older


def test_output_that_is_cut_short_is_no_error():
    """A pipe whose reader is gone, as after `geoxt datasets list | head -1`."""
    call = [sys.executable, "-c", "import sys; from geoxt.cli import main; sys.exit(main(['datasets', 'list']))"]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (141, "")
