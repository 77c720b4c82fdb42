"""Options of a checkpoint reach timm and segmentation-models-pytorch only where they describe the architecture."""

import inspect

import pytest
import torch

from geoxt import models
from geoxt.errors import InputError
from geoxt.models.libraries import LOADING


def test_options_that_load_weights_are_those_of_timm():
    timm = pytest.importorskip("timm")
    from timm.models._builder import build_model_with_cfg

    parameters = {*inspect.signature(timm.create_model).parameters, *inspect.signature(build_model_with_cfg).parameters}
    assert parameters - LOADING == {"kwargs", "model_cls", "model_name", "variant"}


@pytest.mark.parametrize("model", ["timm/test_resnet", "test_fpn", "test_classifier"])
@pytest.mark.parametrize("name", ["checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"])
def test_options_that_load_files_are_refused(model, name, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(torch.nn.Linear(1, 1), path)  # timm loads it by pickle
    with pytest.raises(InputError, match=rf"with the option {name}='.*weights.pth'"):
        models.create(model, in_chans=3, num_classes=2, **{name: str(path)})


@pytest.mark.parametrize("value", [print, {"file": "weights.pth"}, [torch.nn.ReLU]])
def test_options_of_other_types_are_refused(value):
    with pytest.raises(InputError, match=r"Cannot build a model with the option act_layer="):
        models.create("timm/test_resnet", in_chans=3, num_classes=2, act_layer=value)


@pytest.mark.parametrize("model", ["test_classifier", "test_fpn", "test_unet", "faster_rcnn"])
@pytest.mark.parametrize("encoder", ["hf-hub:someone/model", "local-dir:/tmp", "hf_hub:someone/model"])
def test_encoders_of_hubs_and_folders_are_refused(model, encoder):
    prefix = "tu-" if model in {"test_fpn", "test_unet"} else ""
    with pytest.raises(InputError, match=rf"unknown model '{encoder}'.*Pass encoder="):
        models.create(model, in_chans=3, num_classes=2, encoder=prefix + encoder)


def test_decoder_is_a_model_of_the_library():
    with pytest.raises(InputError, match=r"decoder 'from_pretrained'.*Pass decoder='FPN'"):
        models.create("test_fpn", in_chans=3, num_classes=2, decoder="from_pretrained")
