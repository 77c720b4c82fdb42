"""Probes of frozen encoders: equal to scikit-learn on the same features, resumed, by band, and on changed images."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from support.dataset_trees import make_tree
from support.image_folders import make_image_folder

from geoxt import datasets, probes
from geoxt.cli import FAILED, main
from geoxt.errors import InputError
from geoxt.models import Weights
from geoxt.models import weights as pretrained
from geoxt.probes import encoders, protocols

OPTIONS = probes.ProbeOptions(Cs=(0.01, 1.0), shots=(2, 4), n_repeats=2, shift=2, n_resamples=100)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = make_image_folder(tmp_path_factory.mktemp("images") / "scenes")
    return probes.open_images(str(folder), fractions=(0.5, 0.2, 0.3))


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("probes")
    return out, probes.run_probes(["pixels", "test_rcf"], data, out, options=OPTIONS)


def test_scores_equal_those_of_scikit_learn_on_the_same_features(data, run):
    images = data.batch(range(60))[0]
    fit = np.concatenate([data.parts["train"], data.parts["val"]])
    train, val, test = (data.parts[part] for part in ("train", "val", "test"))
    mean, std = images[train].double().mean((0, 2, 3)), images[train].double().std((0, 2, 3), correction=0)
    scaled = ((images.double() - mean[:, None, None]) / std[:, None, None]).float()
    rows = scaled.flatten(1).numpy()  # images of 16 x 16 pixels: a cell is a pixel
    encoder = encoders.open_encoder("pixels", data)
    assert np.allclose(encoders.features(encoder, data, range(60)), rows, atol=1e-4)

    labels = data.labels
    neighbors = KNeighborsClassifier(5).fit(rows[fit], labels[fit])
    (pixels, _) = run[1]["encoders"]
    assert pixels["scores"]["knn"]["accuracy"] == neighbors.score(rows[test], labels[test])
    assert pixels["scores"]["knn"]["n"] == 18

    def regression(strength, chosen):
        scaler = StandardScaler().fit(rows[chosen])
        fitted = LogisticRegression(C=strength, max_iter=1000).fit(scaler.transform(rows[chosen]), labels[chosen])
        return lambda at: fitted.score(scaler.transform(rows[at]), labels[at])

    best = max(OPTIONS.Cs, key=lambda strength: regression(strength, train)(val))
    assert pixels["scores"]["linear"]["C"] == best
    assert pixels["scores"]["linear"]["accuracy"] == pytest.approx(regression(best, fit)(test))


def test_reports_hold_all_protocols(run):
    out, report = run
    assert json.loads((out / "results.json").read_text()) == report
    for encoder in report["encoders"]:
        low, high = encoder["scores"]["linear"]["interval"]
        assert low <= encoder["scores"]["linear"]["accuracy"] <= high
        assert [point["shots"] for point in encoder["few_shot"]] == [2, 4]
        assert encoder["splits"]["blocked"] == {"not_possible": "the images have no coordinates"}
        assert set(encoder["robustness"]) == {
            "shift by 2 px", "bands reversed", "half resolution", "each image standardized"
        }  # fmt: skip
    pixels = report["encoders"][0]
    assert pixels["scores"]["linear"]["accuracy"] == 1
    assert pixels["robustness"]["bands reversed"]["linear"]["accuracy"] < 0.5  # Forest and Roof are swapped
    text = (out / "results.md").read_text()
    assert "not possible: the images have no coordinates" in text
    assert "| pixels | training images | 768 |" in text


def test_finished_encoders_are_not_computed_again(data, run, monkeypatch):
    out, report = run
    monkeypatch.setattr("geoxt.probes.probe_runs.features", None)
    assert probes.run_probes(["pixels", "test_rcf"], data, out, options=OPTIONS) == report
    monkeypatch.undo()
    for other in (
        {"options": probes.ProbeOptions(Cs=(0.01,), shots=(2, 4), n_repeats=2, shift=2, n_resamples=100)},
        {"data": probes.open_images(data.name, fractions=(0.5, 0.3, 0.2)), "options": OPTIONS},
    ):
        with pytest.raises(InputError, match="another configuration"):
            probes.run_probes(["pixels"], **{"data": data, "out": out, **other})


def test_interval_is_that_of_the_binomial_and_wider_for_groups():
    correct = np.random.default_rng(0).random(2000) < 0.9
    options = probes.ProbeOptions(n_resamples=500)
    low, high = protocols.bootstrap_interval(correct, options)
    width = 2 * 1.96 * np.sqrt(correct.mean() * (1 - correct.mean()) / 2000)
    assert high - low == pytest.approx(width, rel=0.15)
    ordered = np.sort(correct)  # errors in few groups
    assert np.ptp(protocols.bootstrap_interval(ordered, options, groups=np.arange(2000) // 100)) > 2 * (high - low)


def test_changes_of_images():
    image = torch.arange(32.0).reshape(1, 2, 4, 4)
    moved = encoders.translate(1)(image)
    assert torch.equal(moved[..., 1:, 1:], image[..., :-1, :-1])
    assert torch.equal(moved[..., 0, 1:], image[..., 0, :-1])
    assert torch.equal(encoders.reverse_bands(image)[0, 0], image[0, 1])
    blurred = encoders.half_resolution(image)
    assert blurred.shape == image.shape
    assert blurred.mean() == pytest.approx(float(image.mean()))
    assert blurred.std() < image.std()


@pytest.fixture(scope="module")
def eurosat(tmp_path_factory):
    root = tmp_path_factory.mktemp("eurosat")
    make_tree(datasets.get("eurosat"), root)
    return probes.open_images("eurosat", root=root)


def test_pretrained_bands_are_matched_by_name(eurosat, monkeypatch, tmp_path):
    assert eurosat.bands.names[:3] == ("B01", "B02", "B03")
    facts = Weights(
        name="own:test", architecture="test_resnet", timm=True, bands=("R", "G", "B"),
        steps=({"op": "normalize", "mean": [100.0] * 3, "std": [50.0] * 3},), license=None, url=None, file="w.pt",
    )  # fmt: skip
    monkeypatch.setattr(pretrained, "names", lambda: ("own:test",))
    monkeypatch.setattr(pretrained, "get", lambda name: facts)
    monkeypatch.setattr(encoders, "load", lambda *args, **options: None)
    encoder = encoders.open_encoder("own:test", eurosat)
    assert [eurosat.bands.names[at] for at in encoder.positions] == ["B04", "B03", "B02"]
    assert "B08" in encoder.dropped
    assert encoder.network.mean.flatten().tolist() == [100] * 3
    monkeypatch.setattr(pretrained, "get", lambda name: replace(facts, bands=("R", "G", "VV")))
    with pytest.raises(InputError, match="its bands VV are not among the bands B01"):
        encoders.open_encoder("own:test", eurosat)


def test_blocked_splits_share_no_block(eurosat):
    reason = protocols.blocked_parts(eurosat, probes.ProbeOptions(block=10))
    assert reason == "its training part lacks a class, with blocks of 10 m"  # one image of each class
    images = replace(eurosat, labels=np.zeros_like(eurosat.labels))
    parts, blocks = protocols.blocked_parts(images, probes.ProbeOptions(block=10))
    assert all(len(parts[part]) for part in ("train", "test"))
    sides = [set(blocks[parts[part]]) for part in ("train", "val", "test")]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    reason = protocols.blocked_parts(images, probes.ProbeOptions(block=1e8))
    assert reason.endswith("with blocks of 100,000,000 m")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "unet"], "it is a model for segmentation"),
        (["--model", "resnet"], "Did you mean"),
        (["--model", "pixels", "--shots", "1"], "Pass --shots of 2 or more."),
        (["--model", "pixels", "--shots", "15"], "Pass --shots of at most 10."),
        (["--model", "pixels", "--fractions", "0.5", "0.5", "0"], "Pass other --fractions."),
        (["--model", "pixels", "--n-neighbors", "0"], "Pass --n-neighbors 1 or more."),
    ],
)
def test_errors_name_flags(data, tmp_path, capsys, arguments, message):
    common = ["--dataset", data.name, "--out", str(tmp_path / "out"), "--C", "1", "--fractions", "0.5", "0.2", "0.3"]
    assert main(["probe", *common, *arguments]) == FAILED
    captured = capsys.readouterr()
    assert message in captured.err
    assert "probe     " not in captured.out  # no encoder was started


def test_command_prints_the_tables(data, tmp_path, capsys):
    arguments = ["--model", "pixels", "--dataset", data.name, "--out", str(tmp_path / "out"), "--C", "1"]
    assert main(["probe", *arguments, "--shots", "2", "--n-repeats", "1", "--n-resamples", "10"]) == 0
    assert "| pixels | training images |" in capsys.readouterr().out
