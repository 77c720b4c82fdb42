"""The table of task kinds: complete, and consistent with architectures, losses, metrics and datasets."""

from typing import get_args

import pytest

from geoxt import datasets, models, tasks
from geoxt.errors import InputError
from geoxt.inference.output_kinds import OUTPUTS
from geoxt.tasks import TASKS, Output, TaskName
from geoxt.trainers.tasks.registry import SUPERVISION


def test_names_and_outputs_equal_their_literals():
    assert tuple(TASKS) == get_args(TaskName)
    assert tuple(OUTPUTS) == get_args(Output)


@pytest.mark.parametrize("name", TASKS)
def test_default_model_serves_task(name):
    kind = tasks.get(name)
    if name == "self-supervised":  # pretrains the encoder of any classifier
        assert models.get(kind.model).task == "classification"
    else:
        assert name in models.get(kind.model).tasks


@pytest.mark.parametrize("name", tasks.names(supervised=True))
def test_supervised_task_has_target_losses_and_scores(name):
    kind, supervision = tasks.get(name), SUPERVISION[name]
    assert kind.key
    assert kind.monitor in {"val/loss", *(f"val/{score}" for score in kind.scores)}
    if kind.target == "instances":
        assert not kind.losses
        assert kind.output is None
    else:
        assert tuple(supervision.losses) == kind.losses
        assert supervision.target is not None
        assert kind.output in OUTPUTS


def test_architectures_and_datasets_name_known_tasks():
    assert {task for row in models.ARCHITECTURES.values() for task in row.tasks} <= set(TASKS)
    assert {datasets.get(name).task for name in datasets.names()} <= set(TASKS)


def test_unknown_task_raises():
    with pytest.raises(InputError, match="named 'counting'. Pass task=, one of segmentation, change"):
        tasks.get("counting")
