"""The folder of a run: another configuration, a second run at once and missing devices are errors."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import xarray as xr
import yaml

from geoxt.errors import InputError, OutputError
from geoxt.grid import coordinates
from geoxt.splits import by_block
from geoxt.testing import make_grid
from geoxt.trainers import Recipe, Task, TrainingConfig, TrainingOptions, WindowDataModule, evaluate, fit, train
from geoxt.trainers.loop.results import lock_folder

OPTIONS = {"progress": "none", "accelerator": "cpu"}
CONFIG = TrainingConfig(
    model="test_unet",
    recipe=Recipe(schedule="constant"),
    training=TrainingOptions(epochs=2, accelerator="cpu"),
    trainer={"limit_train_batches": 1},
)


def described(**init_args):
    return {"data": {"class_path": "LayerDataModule", "init_args": {"block": 16, "num_workers": 0, **init_args}}}


DATA = described()


def make_data(*, block=16, split_seed=0, codes=(3, 11), **options):
    rng = np.random.default_rng(0)
    image = xr.DataArray(rng.random((2, 48, 48), "float32"), dims=("band", "y", "x"), coords={"band": ["a", "b"]})
    labels = xr.DataArray(rng.choice(codes, (48, 48)).astype("uint8"), dims=("y", "x"))
    ds = xr.Dataset({"image": image, "mask": labels}).assign_coords(coordinates(make_grid((48, 48))))
    split = by_block(ds, size=block, seed=split_seed)
    return WindowDataModule(ds, split, **{"size": 16, "length": 8, "batch_size": 4, **options})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the folder of a finished run."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(CONFIG, make_data(), folder, extra_config={**DATA, "out": "run"})
    return folder


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("config", "other", "message"),
    [
        (replace(CONFIG, recipe=Recipe(schedule="constant", lr=0.1)), DATA, "recipe.lr is 0.002 there and 0.1 here"),
        (
            replace(CONFIG, recipe=Recipe(schedule="constant", loss="dice")),
            DATA,
            "recipe.loss is None there and",
        ),
        (replace(CONFIG, seed=1), DATA, "seed is 0 there and 1 here"),
        (replace(CONFIG, model="test_fcn"), DATA, "model is 'test_unet' there and 'test_fcn' here"),
        (replace(CONFIG, trainer={}), DATA, "trainer.limit_train_batches is 1 there and None here"),
        (
            CONFIG,
            described(block=24),
            "block is 16",
        ),
        (CONFIG, {}, "data.class_path is 'LayerDataModule' there and None here"),
    ],
)
def test_run_of_another_configuration_is_refused(finished, config, other, message):
    before = files(finished)
    with pytest.raises(InputError, match=f"Cannot resume the run in .*{message}.*Pass out=, another folder"):
        train(config, make_data(), finished, extra_config=other)
    assert files(finished) == before


def test_length_hardware_and_workers_may_change(finished):
    training = replace(CONFIG.training, epochs=3, checkpoint_every=7)
    result = train(
        replace(CONFIG, training=training),
        make_data(),
        finished,
        extra_config={**described(num_workers=1), "out": "moved"},
    )
    assert [epoch["epoch"] for epoch in result["history"]] == [1, 2, 3]


def test_checkpoint_of_unknown_configuration_is_refused(finished, tmp_path):
    (tmp_path / "last.ckpt").write_bytes((finished / "last.ckpt").read_bytes())
    with pytest.raises(InputError, match="it holds last.ckpt, and config.yaml cannot be read"):
        train(CONFIG, make_data(), tmp_path, extra_config=DATA)
    (tmp_path / "config.yaml").write_text("a: [")
    with pytest.raises(InputError, match="it holds last.ckpt, and config.yaml cannot be read"):
        train(CONFIG, make_data(), tmp_path, extra_config=DATA)


def test_run_without_results_may_be_reconfigured(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 3\n")
    short = replace(CONFIG, training=replace(CONFIG.training, epochs=1))
    train(short, make_data(), tmp_path, extra_config=DATA)
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["seed"] == 0


def test_second_run_at_once_is_refused(tmp_path):
    with lock_folder(tmp_path), ThreadPoolExecutor(1) as pool:
        with lock_folder(tmp_path):  # the same thread may enter again
            pass
        second = pool.submit(train, CONFIG, make_data(), tmp_path)
        with pytest.raises(OutputError, match="another run is writing there. Wait for its end"):
            second.result()
        data = make_data()
        third = pool.submit(fit, Task(data.card(model="test_unet")), data, epochs=1, resume=tmp_path, **OPTIONS)
        with pytest.raises(OutputError, match="another run is writing there"):
            third.result()
    assert not (tmp_path / "config.yaml").exists()
    with lock_folder(tmp_path):
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": 0}, "Cannot train with accelerator='cpu', devices=0, strategy='auto', num_nodes=1: "),
        ({"devices": [0, 1]}, r"devices=\[0, 1\], .* should be an int > 0"),
        ({"devices": 2, "strategy": "fsdp"}, "strategy='fsdp'"),
        ({"devices": 2, "strategy": "ddpp"}, "strategy='ddpp', num_nodes=1: .*invalid strategy name"),
        ({"strategy": "ddp"}, "Cannot train with strategy='ddp' on one device. Pass devices=2 or more"),
        ({"precision": "16"}, "Cannot train in precision '16' on the CPU"),
        ({"accelerator": "tpu"}, "Cannot train with accelerator='tpu'"),
    ],
)
def test_devices_that_cannot_train_are_errors(options, message):
    data = make_data()
    with pytest.raises(InputError, match=message):
        fit(Task(data.card(model="test_unet")), data, epochs=1, **OPTIONS | options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_missing_gpu_is_an_error():
    data = make_data()
    with pytest.raises(InputError, match="Cannot train with accelerator='gpu'.*: No supported gpu backend found"):
        evaluate(Task(data.card(model="test_unet")), data, accelerator="gpu")


def test_data_that_is_not_divided_among_processes_is_an_error():
    class Foreign(pl.LightningDataModule):
        pass

    data = make_data()
    with pytest.raises(InputError, match="Cannot train in 2 processes on a Foreign: it may not divide its samples"):
        fit(Task(data.card(model="test_unet")), Foreign(), epochs=1, devices=2, **OPTIONS)


def test_fewer_batches_than_processes_is_an_error():
    data = make_data(length=8, batch_size=4)
    data.trainer = pl.Trainer(accelerator="cpu", devices=3, logger=False, enable_checkpointing=False)
    with pytest.raises(InputError, match="Cannot divide 2 batches among 3 processes: each needs one or more"):
        data.train_dataloader()


def test_fit_resumes_no_other_recipe_seed_windows_or_classes(tmp_path):
    options = {"epochs": 2, "resume": tmp_path, **OPTIONS}
    card, recipe = make_data().card(model="test_unet"), Recipe(class_weights=(1.0, 2.0))
    fit(Task(card, recipe), make_data(), **options)
    for name, value in (("lr", 0.1), ("class_weights", None), ("label_smoothing", 0.0), ("augment", False)):
        with pytest.raises(InputError, match=f"it was started with {name} .*, and .* is requested"):
            fit(Task(card, replace(recipe, **{name: value})), make_data(), **options)
    with pytest.raises(InputError, match="it was started with seed 0, and 1 is requested"):
        fit(Task(card, recipe), make_data(), seed=1, **options)
    for other in ({"block": 12, "size": 12}, {"split_seed": 1}, {"size": 8}, {"seed": 5}):
        with pytest.raises(InputError, match="written with other samples or windows, .* another split, size or seed"):
            fit(Task(card, recipe), make_data(**other), **options)
    data = make_data(codes=(3, 12))
    (tmp_path / "files.json").unlink()
    with pytest.raises(InputError, match=r"its codes are \(3, 11\), those of the data \(3, 12\)"):
        fit(Task(data.card(model="test_unet"), recipe), data, **options)
    assert len(fit(Task(card, recipe), make_data(), **options)) == 2
