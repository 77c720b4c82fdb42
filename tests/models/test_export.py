"""Every family is exported, or scripted, and the result gives the output of the model."""

import io

import pytest
import torch

from geoxt import models

TINY = [name for name in models.names() if name.startswith("test_")]
DETECTORS = [name for name in TINY if models.get(name).export == "script"]
OTHERS = [name for name in TINY if name not in DETECTORS]
BEFORE = {"change": (2,), "time-series": (3,)}
"""Sizes of the dimensions between batch and bands."""
SAVED = {"test_classifier", "test_fc_siam_diff", "test_fpn", "test_ltae", "test_rcf", "test_vit"}
"""Families whose exported program is also saved and loaded: together they have the operators of all."""


def slow_unless(names, fast):
    """Return names as parameters, marked slow if their operators are those of the fast ones."""
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", slow_unless(OTHERS, SAVED))
def test_exported_model_gives_equal_output(name, tmp_path):
    model = models.create(name, in_chans=3, num_classes=2).eval()
    image = torch.randn(2, *BEFORE.get(models.get(name).task, ()), 3, 32, 40)
    program = torch.export.export(model, (image,))
    if name in SAVED:
        torch.export.save(program, tmp_path / "model.pt2")
        program = torch.export.load(tmp_path / "model.pt2")
    with torch.no_grad():
        assert torch.equal(program.module()(image), model(image))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:RCNN always returns:UserWarning")
@pytest.mark.parametrize("name", slow_unless(DETECTORS, {"test_mask_rcnn"}))
def test_scripted_detector_gives_equal_output(name):
    """For images that need no resizing; torchvision's script rounds other sizes differently."""
    torch.manual_seed(0)
    model = models.create(name, in_chans=3, num_classes=2).eval()
    inputs = [torch.randn(3, 64, 64)]
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(model.body), file)
    file.seek(0)
    loaded = torch.jit.load(file)
    with torch.no_grad():
        (output,), (_, (two,)) = model(inputs), loaded(inputs)
    assert len(output["scores"]) > 0
    assert all(torch.equal(output[key], two[key]) for key in output)
