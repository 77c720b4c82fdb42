"""Image folders: read in order from folders and zip files, split by class, resized over the epochs."""

import shutil

import numpy as np
import pytest
import torch
from support.image_folders import make_image_folder, write_png

from geoxt.errors import InputError, ReadError
from geoxt.trainers import ImageFolderDataModule, read_image_folder, stratified_split
from geoxt.trainers.datamodules.image_folder import resized


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_image_folder(tmp_path_factory.mktemp("images") / "2750")


def test_folder_and_zip_file_are_read_in_order_of_names(folder, tmp_path):
    images, labels, classes = read_image_folder(folder)
    assert (images.shape, classes) == ((60, 3, 16, 16), ("Forest", "Lake", "Roof"))
    assert torch.equal(images.float().mean(dim=(2, 3)).argmax(dim=1), labels)
    archive = shutil.make_archive(str(tmp_path / "all"), "zip", folder.parent)
    from_zip = read_image_folder(archive)
    assert torch.equal(from_zip[0], images)
    assert torch.equal(from_zip[1], labels)


def test_unreadable_image_folders_raise(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no folder in it has any"):
        read_image_folder(tmp_path / "empty")
    lake = tmp_path / "mixed" / "Lake"
    lake.mkdir(parents=True)
    write_png(np.zeros((3, 8, 8), "uint8"), lake / "a.png")
    write_png(np.zeros((3, 9, 8), "uint8"), lake / "b.png")
    with pytest.raises(InputError, match="Resize the images to one size"):
        read_image_folder(tmp_path / "mixed")
    (lake / "b.png").write_bytes(b"no image")
    with pytest.raises(ReadError, match="Cannot decode the image 'mixed/Lake/b.png'"):
        read_image_folder(tmp_path / "mixed")
    with pytest.raises(ReadError, match="Cannot read images from"):
        read_image_folder(tmp_path / "nowhere.zip")


def test_folders_of_one_class_in_several_folders_raise(folder, tmp_path):
    for part in ("train", "test"):
        shutil.copytree(folder, tmp_path / part)
    (tmp_path / "__MACOSX/Lake").mkdir(parents=True)
    for name in ("__MACOSX/Lake/1.png", "train/Lake/._1.png"):
        (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(InputError, match="test/Forest' and '.*/train/Forest' in .* are one class or parts of a split"):
        read_image_folder(tmp_path)
    assert len(read_image_folder(tmp_path / "train")[0]) == 60


def test_stratified_split_has_equal_fractions_of_each_class_and_no_overlap():
    labels = torch.tensor([0] * 100 + [1] * 50 + [2] * 10)
    parts = stratified_split(labels, seed=4)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(160))
    assert [labels[part].bincount().tolist() for part in parts] == [[80, 40, 8], [10, 5, 1], [10, 5, 1]]
    assert torch.equal(parts[2], stratified_split(labels, seed=4)[2])
    assert not torch.equal(parts[2], stratified_split(labels, seed=5)[2])
    with pytest.raises(InputError, match="three fractions that add up to 1"):
        stratified_split(labels, (0.5, 0.2, 0.2))


def test_image_size_grows_over_epochs(folder):
    data = ImageFolderDataModule(str(folder), sizes=(16, 24, 32), epochs=6, batch_size=8)
    loader, sizes = data.train_dataloader(), []
    for epoch in range(6):
        loader.sampler.set_epoch(epoch)
        sizes.append(next(iter(loader))["image"].shape[-1])
    assert sizes == [16, 16, 24, 24, 32, 32]
    assert next(iter(data.val_dataloader()))["image"].shape[-1] == 32
    assert (resized(torch.full((1, 3, 16, 16), 7, dtype=torch.uint8), 32) == 7).all()
