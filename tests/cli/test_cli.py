"""The CLI: help texts, exit codes, and one-line errors before any work is done."""

import argparse
import os
import subprocess
import sys

import numpy as np
import pytest

from geoxt import __version__
from geoxt.cli import BROKEN_PIPE, COMMANDS, demo, main, parser
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


def error_of(capsys, *argv):
    """Run a command that must fail, and return its error line."""
    assert main([*map(str, argv)]) == 2
    output = capsys.readouterr()
    lines = output.err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("geoxt: Cannot ")
    assert "train " not in output.out
    return lines[0]


def test_patterns_without_files_raise(capsys, tmp_path, write):
    line = error_of(capsys, "demo", "--out", tmp_path / "out", "--image", tmp_path / "no*.tif", "--labels", "x.tif")
    assert "no*.tif" in line
    image = write("image.tif")
    line = error_of(capsys, "demo", "--out", tmp_path / "out", "--image", image, "--labels", tmp_path / "none.tif")
    assert "none.tif" in line


def test_files_that_are_not_rasters_raise(capsys, tmp_path, write):
    (tmp_path / "text.tif").write_text("no raster")
    image = write("image.tif")
    line = error_of(capsys, "demo", "--out", tmp_path / "out", "--image", image, "--labels", tmp_path / "text.tif")
    assert "text.tif" in line


def test_rasters_without_crs_raise(capsys, tmp_path, write):
    image, labels = write("image.tif", crs=None), write("labels.tif")
    line = error_of(capsys, "demo", "--out", tmp_path / "out", "--image", image, "--labels", labels)
    assert "image.tif: the file has no CRS. Pass --image files with a CRS" in line
    assert "crs=" not in line


def test_remedies_name_flags_not_python_arguments(capsys, tmp_path, write):
    image, labels = write("image.tif"), write("labels.tif")
    finer = str(
        write_cog(tmp_path / "finer.tif", np.ones((3, 96, 96), "uint8"), grid=make_grid((96, 96), resolution=15.0))
    )
    out = tmp_path / "out"
    line = error_of(capsys, "demo", "--out", out, "--image", image, finer, "--labels", labels)
    assert "Pass --image files with a CRS and of one grid" in line
    assert "resolution=" not in line
    line = error_of(capsys, "demo", "--out", out, "--image", image, "--labels", finer)
    assert "Pass --labels of one band" in line
    assert "bands=" not in line


def test_meters_under_a_geographic_crs_raise(capsys, tmp_path, write):
    image, labels = write("image.tif"), write("labels.tif", crs="EPSG:4326")
    line = error_of(capsys, "demo", "--out", tmp_path / "out", "--image", image, "--labels", labels)
    assert "the CRS of 'labels': EPSG:4326 is in degrees" in line
    assert not (tmp_path / "out").exists()


def test_truncated_files_leave_no_output_folder(capsys, tmp_path, write):
    labels = write("labels.tif")
    noise = np.random.default_rng(0).integers(1, 200, (3, 96, 96)).astype("uint8")
    image = write_cog(tmp_path / "image.tif", noise, grid=make_grid((96, 96)), nodata=0, blocksize=32)
    image.write_bytes(image.read_bytes()[: -(image.stat().st_size // 3)])
    line = error_of(capsys, "demo", "--out", tmp_path / "new" / "out", "--image", image, "--labels", labels)
    assert "image.tif" in line
    assert "errors=" not in line
    assert not (tmp_path / "new").exists()


def test_layers_without_overlap_raise(capsys, tmp_path, write):
    image, labels = write("image.tif"), write("labels.tif", left=900_000.0)
    line = error_of(capsys, "demo", "--out", tmp_path / "out", "--image", image, "--labels", labels)
    assert "'image' lies in" in line
    assert "'labels' lies in" in line


def test_too_many_classes_raise(capsys, tmp_path, write):
    image, labels = write("image.tif"), write("labels.tif")
    out = tmp_path / "out"
    line = error_of(capsys, "demo", "--out", out, "--image", image, "--labels", labels, "--classes", 2)
    assert "more than 2 classes" in line
    ramp = write("ramp.tif", (np.arange(96 * 96) % 5000 + 1).astype("uint16").reshape(96, 96))
    assert "more than 64 classes" in error_of(capsys, "demo", "--out", out, "--image", image, "--labels", ramp)
    height = write("height.tif", np.random.default_rng(0).random((96, 96)).astype("float32"))
    assert "its dtype is float32" in error_of(capsys, "demo", "--out", out, "--image", image, "--labels", height)


def test_outputs_that_cannot_be_written_raise(capsys, tmp_path):
    (tmp_path / "file").touch()
    line = error_of(capsys, "demo", "--out", tmp_path / "file" / "out")
    assert "file/out" in line
    (tmp_path / "out" / "map.tif").mkdir(parents=True)
    assert "it is a folder" in error_of(capsys, "demo", "--out", tmp_path / "out")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--image", "{image}"], "Pass --labels as well. Or pass neither"),
        (["--labels", "{labels}"], "Pass --image as well"),
        (["--epochs", "0"], "epochs 0. Pass --epochs of 1 or more."),
        (["--seed", "-1"], "Pass --seed of 0 or more"),
        (["--block", "-5"], "block -5. Pass --block of 1 or more"),
        (["--block", "0"], "Pass --block of 1"),
        (["--size", "0"], "Pass --size of 1"),
        (["--classes", "0"], "classes 0. Pass --classes of 2 or more"),
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
def test_invalid_options_raise(capsys, tmp_path, write, argv, message):
    paths = {"image": write("image.tif"), "labels": write("labels.tif")}
    assert message in error_of(
        capsys, "demo", "--out", tmp_path / "out", *[argument.format(**paths) for argument in argv]
    )


def test_demo_runs_on_user_files(capsys, tmp_path, write, monkeypatch):
    monkeypatch.setattr(demo, "_PIXELS_PER_EPOCH", 5_000)
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
    output = capsys.readouterr()
    assert "epoch 2/2" in output.out
    assert "classes (float32, read as integers)" in output.out
    assert "held-out blocks that have labels" in output.out
    assert "so few that another --seed may score differently" in output.out
    assert output.err == ""


def test_python_m_runs_the_commands_without_torch():
    command = [sys.executable, "-X", "importtime", "-m", "geoxt", "--version"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout == f"geoxt {__version__}\n"
    modules = {line.rpartition("|")[2].strip() for line in run.stderr.splitlines()}
    assert "geoxt.cli" in modules
    assert "torch" not in modules


def subcommands(parser):
    """Yield a parser's commands, and the commands of those."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield name, command
                yield from subcommands(command)


COMMAND_PARSERS = dict(subcommands(parser()))


def test_help_lists_every_command_in_a_group(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    names = [name for group in COMMANDS.values() for name in group]
    assert set(names) <= set(listed)
    top = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    assert sorted(names) == sorted(top.choices)


@pytest.mark.parametrize("name", COMMAND_PARSERS)
def test_every_option_has_a_help_text(name):
    options = [a for a in COMMAND_PARSERS[name]._actions if not isinstance(a, argparse._SubParsersAction)]
    assert [action.dest for action in options if not action.help or len(action.help.split()) < 2] == []


@pytest.mark.parametrize("name", COMMAND_PARSERS)
def test_usage_of_commands_begins_with_the_program(name):
    assert COMMAND_PARSERS[name].format_usage().startswith("usage: geoxt ")
    assert "COMMAND [" not in COMMAND_PARSERS[name].format_usage()


def test_missing_command_is_a_usage_error(capsys):
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "COMMAND" in capsys.readouterr().err


def test_labels_of_one_class_raise(capsys, tmp_path, write):
    image, labels = write("image.tif"), write("labels.tif", np.ones((96, 96), "uint8"))
    line = error_of(capsys, "demo", "--out", tmp_path / "out", "--image", image, "--labels", labels)
    assert "two classes or more" in line


def test_labels_among_the_image_files_raise(capsys, tmp_path, write):
    write("image.tif")
    labels = write("labels.tif")
    line = error_of(capsys, "demo", "--out", tmp_path / "out", "--image", tmp_path / "*.tif", "--labels", labels)
    assert "leaves it out" in line


def test_interrupt_during_training_exits_with_130(monkeypatch, capsys, tmp_path, write):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("geoxt.trainers.tasks.module.Task.training_step", interrupt)
    out = tmp_path / "out"
    out.mkdir()
    older = {out / name for name in ("map.tif", "map.tif.aux.xml", "metrics.json", "samples.png")}
    for path in older:
        path.write_text("older")
    files = ["--image", write("image.tif"), "--labels", write("labels.tif")]
    assert main(["demo", "--out", str(out), *files, "--model", "test_unet", "--epochs", "1"]) == 130
    assert capsys.readouterr().err.endswith("geoxt: interrupted\n")
    assert {path for path in out.iterdir() if path.read_text() == "older"} == older


def test_closed_output_pipe_is_no_error(monkeypatch, capsys):
    """A pipe whose reader is gone, as after `geoxt datasets list | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:  # the end of the block writes what is buffered, as the interpreter does
        monkeypatch.setattr(sys, "stdout", closed)
        assert main(["datasets", "list"]) == BROKEN_PIPE == 141
    assert capsys.readouterr().err == ""
